"""Attempts that are cut, as the death of their process would: the points, and the runner that is cut there."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import NoReturn

from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.workflow.claim import StepClaim
from taquba_workflow_sync.workflow.memo import Memo
from taquba_workflow_sync.workflow.outcomes import StepOutcome
from taquba_workflow_sync.workflow.runner import Step, StepFunction


class CrashPoint(enum.StrEnum):
    """Where an attempt can be cut.

    ``BEFORE_RUNNER``: the step is claimed, and its code has not begun. ``INSIDE_ONCE``: what ``step.once`` (or
    ``step.memo``, or a durable function's ``do``) calls has returned, and is not noted. ``AFTER_ONCE``: it is noted,
    and the step has not gone on. ``AFTER_RUNNER``: the step has returned, and its end is not stored. ``AFTER_SETTLE``:
    its end is stored, and the next step has not begun.
    """

    BEFORE_RUNNER = "before-runner"
    INSIDE_ONCE = "inside-once"
    AFTER_ONCE = "after-once"
    AFTER_RUNNER = "after-runner"
    AFTER_SETTLE = "after-settle"

    @property
    def is_of_once(self) -> bool:
        """Whether a step may come by it several times, or not at all."""
        return self in (CrashPoint.INSIDE_ONCE, CrashPoint.AFTER_ONCE)


def checked_point(point: object) -> CrashPoint:
    """Return a point.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(point, str):
        raise TypeError(f"point must be a CrashPoint or its name, not {type(point).__name__}")
    try:
        return CrashPoint(point)
    except ValueError:
        raise ValueError(f"point is {point!r:.80}; it must be one of {', '.join(CrashPoint)}") from None


class SimulatedCrash(BaseException):
    """What cuts an attempt. No ``except Exception`` meets it; ``finally`` and ``with`` do, unlike a real death."""


class Crashes:
    """Cuts the first attempt of each step that runs through it, at one point; without a point it only counts.

    ``cut``: the steps that were, by run and name, in order. ``nth``: at which note of the step, for the points at
    ``once``. ``label``: cut the steps of that name alone.
    """

    def __init__(self, point: CrashPoint | None, *, nth: int = 1, label: str | None = None) -> None:
        self.point = point
        self.cut: list[str] = []
        #: The most notes that one first attempt has made.
        self.most_onces: int = 0
        #: How many attempts have returned.
        self.returns: int = 0
        #: Called when the process is to be no more, though its last step has been settled.
        self.die: Callable[[], object] = lambda: None
        self._nth = validation.integer(nth, "nth", least=1)
        self._label = label
        self._lock = threading.Lock()
        self._seen: set[tuple[str, int]] = set()

    def __repr__(self) -> str:
        return f"<{len(self.cut)} steps cut at {self.point}>"

    def wrap(self, run_step: StepFunction) -> StepFunction:
        """Return a runner whose first attempts are cut."""

        def run(step: Step) -> StepOutcome:
            if self._label is not None and step.label != self._label:
                return run_step(step)
            outcome = self._run(step, run_step) if self._is_first(step) else run_step(step)
            with self._lock:
                self.returns += 1
            return outcome

        return run

    @property
    def where(self) -> str:
        """The point, as a message names it."""
        if self.point is None:
            return "no point"
        return f"{self.point} (note {self._nth} of the step)" if self.point.is_of_once else str(self.point)

    def _is_first(self, step: Step) -> bool:
        which = (step.job_id, step.step_number)
        with self._lock:
            if which in self._seen:
                return False
            self._seen.add(which)
            return True

    def _run(self, step: Step, run_step: StepFunction) -> StepOutcome:
        attempt = _Attempt(self, step)
        if self.point is CrashPoint.BEFORE_RUNNER:
            attempt.crash()
        try:
            return run_step(replace(step, _claim=_CutClaim(step._held, attempt)))
        finally:
            self._ended(attempt)

    def _ended(self, attempt: _Attempt) -> None:
        """Act on the end of an attempt, however it came; a crash that the step's own code has caught is one still."""
        with self._lock:
            self.most_onces = max(self.most_onces, attempt.onces)
        if self.point is CrashPoint.AFTER_SETTLE:
            self.note(attempt.step)
            self.die()
        elif self.point is CrashPoint.AFTER_RUNNER or attempt.has_crashed:
            attempt.crash()

    def is_at(self, point: CrashPoint, once: int) -> bool:
        """Whether the attempt is to be cut at this note."""
        return point is self.point and once == self._nth

    def note(self, step: Step) -> None:
        """Note that a step was cut."""
        with self._lock:
            self.cut.append(f"{step.run_id}: {step.label or step.step_number}")


class _Attempt:
    """One attempt that may be cut."""

    def __init__(self, crashes: Crashes, step: Step) -> None:
        self.step = step
        self.onces = 0
        self.has_crashed = False
        self._crashes = crashes
        self._lock = threading.Lock()

    def crash(self) -> NoReturn:
        if not self.has_crashed:
            self.has_crashed = True
            self._crashes.note(self.step)
        raise SimulatedCrash(f"cut at {self._crashes.point}, as if the process had died")

    def put(self, memo: Memo, key: str, value: bytes) -> bytes:
        with self._lock:
            self.onces += 1
            once = self.onces
        if self._crashes.is_at(CrashPoint.INSIDE_ONCE, once):
            self.crash()
        noted = memo.put(key, value)
        if self._crashes.is_at(CrashPoint.AFTER_ONCE, once):
            self.crash()
        return noted


class _CutMemo(Memo):
    """A memo whose notes are points to be cut at."""

    def __init__(self, memo: Memo, attempt: _Attempt) -> None:
        super().__init__(memo._handle, memo._row, memo._scope)
        self._inner = memo
        self._attempt = attempt

    def put(self, key: str, value: bytes) -> bytes:
        """Note a value; see :meth:`Memo.put`."""
        return self._attempt.put(self._inner, key, value)


class _CutClaim(StepClaim):
    """The claim of an attempt that may be cut: the same, but for its memos."""

    def __init__(self, claim: StepClaim, attempt: _Attempt) -> None:
        self.__dict__.update(claim.__dict__)
        self._inner = claim
        self._attempt = attempt

    @cached_property
    def memo(self) -> Memo:
        """What this step has noted."""
        return _CutMemo(self._inner.memo, self._attempt)

    @cached_property
    def run_memo(self) -> Memo:
        """What the run has noted."""
        return _CutMemo(self._inner.run_memo, self._attempt)
