"""A storm: what a signal handler raises while the main thread submits runs and waits for them, beside other threads.

``python -m tests.workflow.wait_storm STORE SECONDS`` prints one line of figures as JSON. A runtime of the same process
runs the steps.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

from taquba_workflow_sync import Continue, Queue, Step, StepOutcome, Succeed, WorkflowRuntime
from tests.interruptions import Callers

_STEPS = 3
_LIMIT = 20.0


def main(place: str, seconds: float) -> dict[str, Any]:
    ran: Counter[tuple[str, int]] = Counter()
    submitted: list[str] = []

    def step(each: Step) -> StepOutcome:
        ran[each.run_id, each.step_number] += 1
        return Continue() if each.step_number < _STEPS - 1 else Succeed(b"done")

    with Queue.open(place) as queue, WorkflowRuntime(queue, step, max_concurrent_steps=4) as runtime:

        def call(name: str, number: int) -> str:
            run_id = f"{name}-{number}"
            handle = runtime.submit(run_id=run_id)
            submitted.append(run_id)
            assert handle.wait().result == b"done"
            return run_id

        figures = Callers(call).weather(seconds)
        # Those whose caller was interrupted in its wait, too.
        lost = [run_id for run_id in submitted if runtime.wait(run_id, _LIMIT).result != b"done"]
    return figures | {"lost": lost[:5], "doubled": [str(each) for each, times in ran.items() if times != 1][:5]}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], float(sys.argv[2]))), flush=True)
