"""A runner whose plans use the features, and a hook with effects; both write the log.

Beside the words of ``LabRunner``: ``memo``; ``add``, effects of each kind (both with ``:raise``, which raises then at
the first attempt, or ``:nap``, so that a kill or a cancellation meets it there); ``cas``, a value that all count up;
``wait:NAME:SECONDS``, or ``wait:NAME``, for a signal; ``self``, a signal from this step to the next; ``tell:RUN``, a
signal to another run; ``fan:MANY:ON_FAILURE``, a group that the next step waits for.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from taquba_workflow_sync import (
    ContinueOnGroup,
    ContinueOnSignal,
    Effects,
    RunOutcome,
    RunSpec,
    Step,
    StepOutcome,
)
from tests.faults.journal import Journal
from tests.faults.lab import LabRunner, hook_of

BARE = "bare"
_NAP = 0.15
#: What members of groups do, in turn.
MEMBER_PLANS = ("go", "add", "raise go", "go go")
FAILING_MEMBER = "fail"


def mark_of(step: Step) -> str:
    """Return what a step writes is known by."""
    return f"{step.job_id}:{step.step_number}"


def members_of(group: str, many: int, on_failure: str) -> list[RunSpec]:
    """Return a group's members; they follow from its id, so that every attempt submits the same."""
    specs = []
    for number in range(many):
        fails = on_failure == "cancel" and number == 1
        plan = FAILING_MEMBER if fails else MEMBER_PLANS[number % len(MEMBER_PLANS)]
        key = "k-1" if number % 3 == 2 else None
        specs.append(RunSpec(headers={"plan": plan, "of": group}, limit_key=key, max_attempts_per_step=10))
    return specs


class FeatureRunner(LabRunner):
    """Does what the plan says."""

    def _do(self, step: Step) -> StepOutcome:
        self._note_received(step)
        word, _, argument = step.headers["plan"].split()[step.step_number].partition(":")
        trail = (step.payload.decode() + f" {step.step_number}").strip().encode()
        match word:
            case "memo":
                self._remember(step)
                pause(step, argument)
            case "add":
                stage(step)
                pause(step, argument)
            case "cas":
                held = step.kv.get("cas")
                step.effects.compare_put("cas", held, str(int(held or b"0") + 1).encode())
            case "wait":
                name, _, seconds = argument.partition(":")
                return ContinueOnSignal(trail, name, timeout=float(seconds) if seconds else None)
            case "self":
                step.effects.signal(step.run_id, "self", mark_of(step).encode())
                return ContinueOnSignal(trail, "self")
            case "tell":
                step.effects.signal(argument, "told", mark_of(step).encode())
            case "fan":
                many, _, on_failure = argument.partition(":")
                group = f"g-{step.job_id}-{step.step_number}"
                step.effects.submit_group(group, members_of(group, int(many), on_failure), on_failure=on_failure)
                return ContinueOnGroup(trail, group)
        return super()._do(step)

    def _note_received(self, step: Step) -> None:
        """Note what the step before waited for; the same at every attempt."""
        me = {"run": step.run_id, "job": step.job_id, "step": step.step_number, "attempt": step.attempts}
        if step.signal is not None or (step.wait_timed_out and step.group is None):
            signal = step.signal
            self._journal.note(
                "received",
                **me,
                name=None if signal is None else signal.name,
                id=None if signal is None else signal.id,
                payload=None if signal is None else signal.payload.decode(),
            )
        if step.group is not None:
            status = step.group.status()
            self._journal.note(
                "woken", **me, group=step.group.group_id, total=status.total, open=status.open, failed=status.failed
            )

    def _remember(self, step: Step) -> None:
        """Note what is noted: by a call, which finds what is there, and by a put, which is told."""
        for scope, memo in (("step", step.memo), ("run", step.run_memo)):
            for key, value in (
                ("call", memo.call("call", lambda: secrets.token_hex(8).encode())),
                ("put", memo.put("put", secrets.token_hex(8).encode())),
            ):
                said = {"scope": scope, "key": key, "value": value.decode()}
                self._journal.note("memo", run=step.run_id, job=step.job_id, step=step.step_number, **said)


def pause(step: Step, how: str) -> None:
    """Fail at the first attempt, or take a while."""
    if how == "raise" and step.attempts == 1:
        raise RuntimeError("as planned")
    if how == "nap":
        time.sleep(_NAP)


def stage(step: Step) -> None:
    """Stage an effect of each kind: each is there once if, and only if, the step has ended."""
    mark = mark_of(step)
    step.effects.add("total", 1)
    step.effects.add(f"n-{mark}", 1)
    step.effects.put(f"p-{mark}", b"1")
    step.effects.enqueue(BARE, mark.encode())
    step.effects.submit(RunSpec(headers={"plan": "go", "of": mark}, max_attempts_per_step=10))


def feature_hook(journal: Journal) -> Callable[[RunOutcome, Effects], None]:
    """Return a hook that notes each outcome, and counts it in the store."""
    tell = hook_of(journal)

    def tell_and_count(outcome: RunOutcome, effects: Effects) -> None:
        tell(outcome)
        effects.add(f"t-{outcome.job_id}:{outcome.termination}", 1)

    return tell_and_count
