"""``conclude``, the one decision about a step, over the whole product of its inputs."""

from __future__ import annotations

from itertools import product

import pytest

from taquba_workflow_sync import (
    Cancel,
    Continue,
    ContinueAfter,
    ContinueOnGroup,
    ContinueOnSignal,
    Fail,
    QueueConfig,
    StepError,
    StepOutcome,
    Succeed,
    TaqubaError,
)
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, DeadLetter, Nack, SettleCancelled
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind
from taquba_workflow_sync.workflow.conclude import Limits, conclude
from taquba_workflow_sync.workflow.outcomes import OutcomeTypeError

LIMIT = 8
SMALL, EXACT, LARGE = b"small", b"x" * LIMIT, b"x" * (LIMIT + 1)


class Transient(TaqubaError):
    is_permanent = False


class Derived(StepOutcome):
    pass


CASES: dict[str, object] = {
    "continue": Continue(SMALL),
    "continue exact": Continue(EXACT),
    "continue large": Continue(LARGE),
    "after": ContinueAfter(SMALL, 2.5),
    "after nothing": ContinueAfter(SMALL, 0),
    "after large": ContinueAfter(LARGE, 1),
    "on signal": ContinueOnSignal(SMALL, "go"),
    "on signal for a while": ContinueOnSignal(SMALL, "go", 2.5),
    "on signal large": ContinueOnSignal(LARGE, "go"),
    "on group": ContinueOnGroup(SMALL, "g"),
    "on group for a while": ContinueOnGroup(SMALL, "g", 2.5),
    "on group large": ContinueOnGroup(LARGE, "g"),
    "succeed": Succeed(SMALL),
    "succeed exact": Succeed(EXACT),
    "succeed large": Succeed(LARGE),
    "fail": Fail("reason"),
    "cancel": Cancel("reason"),
    "cancel empty": Cancel(""),
    "none": None,
    "bytes": SMALL,
    "base outcome": StepOutcome(),
    "derived outcome": Derived(),
    "transient": StepError.transient("t"),
    "permanent": StepError.permanent("p"),
    "own transient": Transient("x"),
    "own permanent": TaqubaError("x"),
    "exception": OSError("x"),
    "base exception": KeyboardInterrupt(),
    "outcome type": OutcomeTypeError("payload must be bytes"),
    "type error": TypeError("the runner's"),
}
TRANSIENT = {"transient": "t", "own transient": "Transient: x", "exception": "OSError: x",
             "base exception": "KeyboardInterrupt", "type error": "TypeError: the runner's"}  # fmt: skip
PERMANENT = {"permanent": "p", "own permanent": "TaqubaError: x", "outcome type": "TypeError: payload must be bytes"}
LARGE_ONES = {
    "continue large": "payload",
    "after large": "payload",
    "on signal large": "payload",
    "on group large": "payload",
    "succeed large": "result",
}
NO_OUTCOME = {"none": "NoneType", "bytes": "bytes", "base outcome": "StepOutcome", "derived outcome": "Derived"}


def expected(name: str, requested: bool, attempts: int, max_attempts: int, keeps_place: bool) -> object:
    """Say it anew, as a table, in another way than the code does."""
    if name == "cancel":
        return SettleCancelled("reason")
    if name == "cancel empty":
        return SettleCancelled("")
    if requested:
        return SettleCancelled(None)
    if name in TRANSIENT:
        text = TRANSIENT[name]
        return DeadLetter(text) if attempts >= max_attempts else Nack(text, 1000 * 2 ** (attempts - 1))
    if name in PERMANENT:
        return DeadLetter(PERMANENT[name])
    return {
        "continue": Advance(SMALL, None, None, keeps_place),
        "continue exact": Advance(EXACT, None, None, keeps_place),
        "after": Advance(SMALL, None, 2500, keeps_place),
        "after nothing": Advance(SMALL, None, 0, keeps_place),
        "on signal": Advance(SMALL, None, None, keeps_place, wait=Wait(WaitKind.SIGNAL, "go", None)),
        "on signal for a while": Advance(SMALL, None, None, keeps_place, wait=Wait(WaitKind.SIGNAL, "go", 2500)),
        "on group": Advance(SMALL, None, None, keeps_place, wait=Wait(WaitKind.GROUP, "g", None)),
        "on group for a while": Advance(SMALL, None, None, keeps_place, wait=Wait(WaitKind.GROUP, "g", 2500)),
        "succeed": Ack(Verdict.SUCCEEDED, SMALL),
        "succeed exact": Ack(Verdict.SUCCEEDED, EXACT),
        "fail": Ack(Verdict.FAILED, error="reason"),
    }[name]


@pytest.mark.parametrize(
    ("name", "requested", "attempts", "max_attempts", "keeps_place"),
    [case for case in product(CASES, [False, True], [1, 2, 3], [1, 2, 3], [False, True]) if case[2] <= case[3]],
)
def test_every_combination_is_settled_as_the_table_says(
    name: str, requested: bool, attempts: int, max_attempts: int, keeps_place: bool
) -> None:
    limits = Limits(attempts, max_attempts, QueueConfig(), LIMIT, keeps_place)

    action = conclude(CASES[name], cancel_requested=requested, limits=limits)

    if not requested and name in LARGE_ONES:
        assert isinstance(action, DeadLetter)
        assert action.error.startswith(f"PayloadTooLargeError: {LARGE_ONES[name]} has {LIMIT + 1} bytes")
    elif not requested and name in NO_OUTCOME:
        assert isinstance(action, DeadLetter)
        assert f"returned {NO_OUTCOME[name]}" in action.error
        outcomes = "Continue, ContinueAfter, ContinueOnSignal, ContinueOnGroup, Succeed, Fail or Cancel"
        assert f"must return {outcomes}" in action.error
    else:
        assert action == expected(name, requested, attempts, max_attempts, keeps_place)
