"""The one decision about a step that has returned or raised; pure, and tested over the whole product of its inputs."""

from __future__ import annotations

from typing import NamedTuple, assert_never

from taquba_workflow_sync.queue.config import QueueConfig
from taquba_workflow_sync.queue.policy import after_exception, after_failure
from taquba_workflow_sync.storage.port.settings import Backoff
from taquba_workflow_sync.storage.port.settlement import Ack, Action, Advance, DeadLetter, Nack, SettleCancelled
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind
from taquba_workflow_sync.workflow.outcomes import (
    Cancel,
    Continue,
    ContinueAfter,
    ContinueOnGroup,
    ContinueOnSignal,
    Fail,
    OutcomeTypeError,
    StepOutcome,
    Succeed,
)

KNOWN = (Continue, ContinueAfter, ContinueOnSignal, ContinueOnGroup, Succeed, Fail, Cancel)


_NAMES = ", ".join(each.__name__ for each in KNOWN[:-1]) + f" or {KNOWN[-1].__name__}"


class Limits(NamedTuple):
    """What the decision needs to know of the claim and its queue."""

    attempts: int
    max_attempts: int
    config: QueueConfig
    max_payload_bytes: int
    keeps_place: bool = False
    backoff: Backoff | None = None


class Returned(NamedTuple):
    """An exception that a runner returned, where it should have raised it."""

    error: BaseException


def conclude(returned: object, *, cancel_requested: bool, limits: Limits) -> Action:
    """Return how to settle a step that returned ``returned``; an exception stands for itself raised.

    The runner's own ``Cancel`` goes before a requested cancellation, which goes before anything else.
    """
    if cancel_requested and not isinstance(returned, Cancel):
        return SettleCancelled(None)
    if type(returned) is Continue:  # what most steps return goes first
        payload = returned.payload
        if len(payload) <= limits.max_payload_bytes:
            return Advance(payload, None, None, limits.keeps_place, None, None, returned.settings)
    if isinstance(returned, BaseException):
        return _after_error(returned, limits)
    if not isinstance(returned, KNOWN):
        return DeadLetter(_no_outcome(returned))
    match returned:
        case Cancel(reason=reason):
            return SettleCancelled(reason)
        case Continue(payload=payload):
            advance = Advance(payload, keeps_place=limits.keeps_place, settings=returned.settings)
            return _too_large(payload, "payload", limits) or advance
        case ContinueAfter(payload=payload):
            advance = Advance(payload, None, returned.delay_ms, limits.keeps_place, settings=returned.settings)
            return _too_large(payload, "payload", limits) or advance
        case ContinueOnSignal(payload=payload, signal=name):
            wait = Wait(WaitKind.SIGNAL, name, returned.timeout_ms)
            advance = Advance(payload, keeps_place=limits.keeps_place, wait=wait, settings=returned.settings)
            return _too_large(payload, "payload", limits) or advance
        case ContinueOnGroup(payload=payload, group_id=group_id):
            wait = Wait(WaitKind.GROUP, group_id, returned.timeout_ms)
            advance = Advance(payload, keeps_place=limits.keeps_place, wait=wait, settings=returned.settings)
            return _too_large(payload, "payload", limits) or advance
        case Succeed(result=result):
            return _too_large(result, "result", limits) or Ack(Verdict.SUCCEEDED, result)
        case Fail(reason=reason):
            return Ack(Verdict.FAILED, error=reason)
        case _:
            assert_never(returned)


def is_outcome(returned: object, action: Action) -> bool:
    """Whether a runner has returned an outcome that counts: only then its effects do."""
    return isinstance(returned, KNOWN) and not isinstance(action, DeadLetter)


def _after_error(error: BaseException, limits: Limits) -> Action:
    if isinstance(error, OutcomeTypeError):  # a retry would make the same outcome
        return DeadLetter(f"TypeError: {error}")
    return after_exception(
        limits.config, error, attempts=limits.attempts, max_attempts=limits.max_attempts, backoff=limits.backoff
    )


def after_timeout(action: Action, timeout_ms: int, limits: Limits) -> Action:
    """Return how to settle a step that ran past its step timeout and came to ``action``: as a transient failure."""
    text = f"StepTimeout: the step ran for longer than its step timeout, {timeout_ms / 1000:g} s"
    if isinstance(action, (Nack, DeadLetter)):
        text += f"; at its end it failed: {action.error}"
    return after_failure(
        limits.config,
        attempts=limits.attempts,
        max_attempts=limits.max_attempts,
        error=text,
        backoff=limits.backoff,
    )


def _no_outcome(returned: object) -> str:
    if isinstance(returned, Returned):
        returned, hint = returned.error, " (an exception is raised, not returned)"
    else:
        hint = " (is a return missing?)" if returned is None else ""
    kind = type(returned).__name__
    if isinstance(returned, StepOutcome):
        hint = " (a bare or derived StepOutcome)"
    return f"run_step returned {kind}{hint}; it must return {_NAMES}"


def _too_large(data: bytes, name: str, limits: Limits) -> DeadLetter | None:
    if len(data) <= limits.max_payload_bytes:
        return None
    return DeadLetter(f"PayloadTooLargeError: {name} has {len(data)} bytes, the limit is {limits.max_payload_bytes}")
