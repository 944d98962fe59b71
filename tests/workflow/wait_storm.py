"""A storm: what a signal handler raises while the main thread submits runs and waits for them, beside other threads.

``python -m tests.workflow.wait_storm STORE SECONDS`` prints one line of figures as JSON. A runtime of the same process
runs the steps. A caller that waits for longer than the limit ends the program with status 3.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from typing import Any

from taquba_workflow_sync import Continue, Queue, RunState, Step, StepOutcome, Succeed, WorkflowRuntime
from tests.interruptions import Interruption, Limit, Storm

_STALL_S = 20.0
#: A storm of less proves nothing; on a busy machine it takes longer than it was told.
_LEAST = 60
_LONGEST_S = 80.0
_STEPS = 3


class Callers:
    """Threads that submit and wait, one run after the other, and what they were told."""

    def __init__(self, runtime: WorkflowRuntime) -> None:
        self.runtime = runtime
        self.is_over = False
        self.submitted: list[str] = []
        self.waited_for: list[str] = []
        self.errors: list[str] = []
        self.began: dict[str, float] = {}

    def call(self, name: str, number: int) -> None:
        run_id = f"{name}-{number}"
        self.began[name] = time.monotonic()
        try:
            handle = self.runtime.submit(run_id=run_id)
            self.submitted.append(run_id)
            if handle.wait().result == b"done":
                self.waited_for.append(run_id)
        finally:
            self.began.pop(name, None)

    def work(self, name: str) -> None:
        number = 0
        while not self.is_over:
            number += 1
            try:
                self.call(name, number)
            except BaseException as error:
                self.errors.append(f"{name}: {error!r}")

    def watch(self) -> None:
        while not self.is_over:
            for name, began in list(self.began.items()):
                if time.monotonic() - began > _STALL_S:
                    print(f"{name} was never answered", flush=True)
                    os._exit(3)
            threading.Event().wait(0.2)


def main(place: str, seconds: float) -> dict[str, Any]:
    ran: Counter[tuple[str, int]] = Counter()

    def step(each: Step) -> StepOutcome:
        ran[each.run_id, each.step_number] += 1
        return Continue() if each.step_number < _STEPS - 1 else Succeed(b"done")

    with Queue.open(place) as queue, WorkflowRuntime(queue, step, max_concurrent_steps=4) as runtime:
        callers, storm = Callers(runtime), Storm(1)
        threads = [threading.Thread(target=callers.work, args=(f"t{n}",), daemon=True) for n in range(3)]
        threads.append(threading.Thread(target=callers.watch, daemon=True))
        for thread in threads:
            thread.start()
        began = time.monotonic()
        number = raised = 0
        others: list[str] = []
        while (lasted := time.monotonic() - began) < _LONGEST_S and (
            lasted < seconds or min(raised, len(callers.waited_for)) < _LEAST
        ):
            number += 1
            match storm.strikes(lambda: callers.call("main", number)):  # noqa: B023
                case None:
                    pass
                case Limit() | Interruption():
                    raised += 1
                case error:
                    others.append(repr(error))
        callers.is_over = True
        for thread in threads:
            thread.join(_STALL_S)
        runtime.submit(run_id="last").wait(_STALL_S)
        for run_id in callers.submitted:
            runtime.wait(run_id, _STALL_S)
        lost = [
            run_id
            for run_id in callers.submitted
            if (status := runtime.status(run_id)) is None or status.state is not RunState.SUCCEEDED
        ]
    return {
        "hits": storm.hits,
        "raised": raised,
        "waited for": len(callers.waited_for),
        "lost": lost[:5],
        "doubled": [str(each) for each, times in ran.items() if times != 1][:5],
        "stuck": [thread.name for thread in threads if thread.is_alive()],
        "errors": callers.errors[:5],
        "others in main": others[:5],
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], float(sys.argv[2]))), flush=True)
