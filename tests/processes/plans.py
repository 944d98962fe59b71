"""The runner and the hook of these tests' workers: a run says in its header ``plan`` what each of its steps does."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from taquba_workflow_sync import Cancel, Continue, ContinueAfter, RunOutcome, RunSpec, Step, StepOutcome, Succeed
from tests.processes.harness import Witness
from tests.support import PATIENCE


def planned(run_id: str | None, plan: str, **more: int) -> RunSpec:
    """Return a run whose step n does word n of ``plan`` (see :class:`PlannedRunner`)."""
    return RunSpec(run_id=run_id, headers={"plan": plan}, max_attempts_per_step=more.get("max_attempts"))


class PlannedRunner:
    """Notes the beginning and the end of each execution; the result lists the steps visited, and the last one's pid.

    ``go``: nothing; ``nap:S``: sleep; ``later:S``: the next step comes S seconds later; ``hold``: until the test lets
    go, or the token is set; ``hold-once``: so at the first attempt only; ``die``: kill -9 of its own process;
    ``hog:S``: hold the GIL; ``cancelled``: wait for the token and note when it was seen; ``zombie``: so at the first
    attempt only, and then go on as if nothing were.
    """

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._directory = witness.path.parent

    def run_step(self, step: Step) -> StepOutcome:
        me = (step.run_id, step.step_number, step.attempts, os.getpid())
        self._witness.note("begin", *me)
        outcome = self._do(step)
        self._witness.note("end", *me)
        return outcome

    def _do(self, step: Step) -> StepOutcome:
        plan = step.headers["plan"].split()
        word, _, number = plan[step.step_number].partition(":")
        match word:
            case "nap":
                time.sleep(float(number))
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hog":
                self._witness.note("hogged", hold_the_gil(float(number)))
            case "hold":
                self._hold(step)
            case "hold-once" if step.attempts == 1:
                self._hold(step)
            case "cancelled" | "zombie" if step.attempts == 1:
                assert step.cancel_token.wait(PATIENCE), "the token was never set"
                self._witness.note("token", step.run_id, os.getpid(), time.monotonic())
                if word == "cancelled":
                    return Cancel("as asked")
        payload = step.payload + f" {step.step_number}".encode()
        if step.step_number + 1 == len(plan):
            return Succeed(payload + f" by {os.getpid()}".encode())
        return ContinueAfter(payload, float(number)) if word == "later" else Continue(payload)

    def _hold(self, step: Step) -> None:
        go = self._directory / f"go-{step.run_id}"
        deadline = time.monotonic() + 2 * PATIENCE
        while not go.exists() and not step.cancel_token.wait(0.01):
            assert time.monotonic() < deadline, "nobody let go"
        if step.cancel_token.is_set():
            self._witness.note("token", step.run_id, os.getpid(), time.monotonic())


def hold_the_gil(seconds: float) -> float:
    """Let no other thread of this process run for ``seconds``; return how long that was in fact.

    A regular expression backtracks in one call; between such calls the GIL is kept, too, so that the time is exact.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            re.match("(a+)+$", "a" * 20 + "b")
        return time.monotonic() - began
    finally:
        sys.setswitchinterval(interval)


def hook_of(kind: str, witness: Witness) -> Callable[[RunOutcome], None] | None:
    """Return a hook that notes each outcome; ``die`` and ``hang`` never return from the first."""

    def note(word: str, outcome: RunOutcome) -> None:
        witness.note(word, outcome.run_id, outcome.status, outcome.termination, os.getpid())

    def tell(outcome: RunOutcome) -> None:
        note("hook", outcome)

    def die(outcome: RunOutcome) -> None:
        note("hook-began", outcome)
        os.kill(os.getpid(), signal.SIGKILL)

    def hang(outcome: RunOutcome) -> None:
        note("hook-began", outcome)
        time.sleep(4 * PATIENCE)

    return {"none": None, "tell": tell, "die": die, "hang": hang}[kind]


def options_of(store: str, log: str) -> tuple[Path, Witness]:
    return Path(store), Witness(Path(log))
