"""The smallest run: one step, bytes in and bytes out.

    python examples/single_step.py
    python examples/single_step.py "some text of your own"

The runner is a plain function here. It counts the words of its input and ends the run with ``Succeed``. By the time
``submit`` returns the run is on disk; ``result`` waits until it has ended.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from taquba_workflow_sync import Queue, RunSpec, Step, StepOutcome, Succeed, WorkflowRuntime

TEXT = "the same step may run twice but the same run ends once"


def count_words(step: Step) -> StepOutcome:
    words = Counter(step.payload.decode().split())
    print(f"step {step.step_number} of run {step.run_id}: {words.total()} words")
    return Succeed(json.dumps(words, sort_keys=True).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the words of a text in a run of one step.")
    parser.add_argument("text", nargs="?", default=TEXT)
    parser.add_argument("--store", type=Path, help="directory to keep the run in (default: a temporary one)")
    args = parser.parse_args()

    with ExitStack() as stack:
        store = args.store or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        queue = stack.enter_context(Queue.open(store))
        runtime = stack.enter_context(WorkflowRuntime(queue, count_words))
        handle = runtime.submit(RunSpec(input=args.text.encode()))
        words = json.loads(handle.result(timeout=10))

    print(f"result: {words}")
    assert sum(words.values()) == len(args.text.split())


if __name__ == "__main__":
    main()
