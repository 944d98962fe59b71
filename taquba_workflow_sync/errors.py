"""The error tree: every error the library raises on purpose, each knowing whether a retry can help."""

from __future__ import annotations

import enum
import math
from datetime import timedelta
from typing import Any, ClassVar, Final

from taquba_workflow_sync.outcome import RunOutcome

# A century: no wait is longer, and no integer too large for a float.
_LONGEST_S: Final = 100 * 366 * 24 * 3600


class TaqubaError(Exception):
    """Base of all errors of this library.

    ``is_permanent`` says whether the same call can succeed later without a change by its caller. An escaping
    ``TaqubaError`` ends a step by it: permanent dead-letters, transient retries.
    """

    is_permanent: bool = True


class StoreClosedError(TaqubaError):
    """The queue (or its store) was closed; open it again."""


class StoreInUseError(TaqubaError):
    """An exclusive open met another open handle, or an open met an exclusive one."""

    is_permanent = False


class StorageError(TaqubaError):
    """The store could not do its work: disk full, I/O error, locked for too long.

    From a call that writes, it means *unknown* when it came from the COMMIT: the write may have happened, wholly, or
    not at all. Repeat by id (or by run id), never blindly.
    """

    is_permanent = False


class StoreMovedError(StorageError):
    """The store was moved to another address, ``address`` (without its password): open it there.

    What a handle does that was open meanwhile meets it, too; nothing was written.
    """

    is_permanent = True
    address: str = ""


class SchemaVersionError(TaqubaError):
    """The store was written by a newer version of this library."""


class StoreAccessError(TaqubaError):
    """The database refuses this program: rights, a read-only replica, a pooler in between, an encoding."""


class StoreMismatchError(TaqubaError):
    """The connection given leads to another database than the store's. Nothing was written through it."""


class UnsupportedFilesystemError(TaqubaError):
    """The directory lies on a filesystem whose locks SQLite cannot trust."""


class InvalidNameError(TaqubaError, ValueError):
    """A queue name or a job id outside the allowed alphabet or length."""


class InvalidRunIdError(InvalidNameError):
    """A run id outside the allowed alphabet or length."""


class PayloadTooLargeError(TaqubaError):
    """A payload over ``max_payload_bytes``, headers of more than 64 KiB together, or a value that is too large."""


class MemoFullError(TaqubaError):
    """A memo has as many entries, or a run's memos and buffered signals as many bytes, as they may have."""


class GroupNotFoundError(TaqubaError):
    """No group of that id is stored."""


class GroupMismatchError(TaqubaError):
    """The group id is taken by another group, or a member's name by a run that is none of the group's."""


class SignalBufferFullError(TaqubaError):
    """A run has as many buffered signals, or its memos and signals as many bytes, as it may have; later it may not."""

    is_permanent = False


class QueueFullError(TaqubaError):
    """As many jobs wait as a limit's ``max_waiting`` allows. Nothing was written; submit again later."""

    is_permanent = False


class DuplicateJobIdError(TaqubaError):
    """The job id given is the id of a job that exists."""


class JobNotFoundError(TaqubaError):
    """No job of that id is stored."""


class InvalidStateError(TaqubaError):
    """The operation does not apply to the state the job, run or runtime is in."""


class ClaimLostError(TaqubaError):
    """The claim is no longer this caller's: settled before, or taken over. Nothing was applied."""


class CancelRequestedError(TaqubaError):
    """The job may not advance: its cancellation has been requested. Nothing was changed."""


class EffectConflictError(TaqubaError):
    """An expectation of some effects does not hold, or an ``add`` has met what is no integer. Nothing was applied.

    From a step's own effects: a refused expectation has the step go back in line; what it has read is read anew then.
    An ``add`` to another kind of value is permanent. ``refusals``: how often the step was refused before, in a row.
    """

    is_permanent: bool = False
    refusals: int = 0

    def __init__(self, message: str, is_permanent: bool = False) -> None:
        super().__init__(message)
        self.is_permanent = is_permanent

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.is_permanent)


class EffectsSealedError(TaqubaError):
    """Effects were staged after their step, or hook, had returned: nobody would ever commit them."""


class ReservedHeaderError(TaqubaError, ValueError):
    """A header given by the caller starts with the reserved prefix ``workflow.``."""


class InputMismatchError(TaqubaError):
    """The run id is taken by a run with another input."""


class RunNotFoundError(TaqubaError):
    """No run of that id is stored."""


class _RunEndedError(TaqubaError):
    outcome: RunOutcome

    def __init__(self, message: str, outcome: RunOutcome) -> None:
        super().__init__(message)
        self.outcome = outcome

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.outcome)


class RunFailedError(_RunEndedError):
    """``RunHandle.result`` of a run that failed; ``.outcome`` tells how."""


class RunCancelledError(_RunEndedError):
    """``RunHandle.result`` of a run that was cancelled; ``.outcome`` tells how."""


class ScheduleNotFoundError(TaqubaError):
    """The queue has no schedule of that name."""


class MissingHeaderError(TaqubaError):
    """A job lacks a header that its worker needs."""


class InvalidStepHeaderError(TaqubaError):
    """A job's ``workflow.step`` header is not a step number of the run it claims to be."""


class PermanentFailure(TaqubaError):
    """Raised by a bare worker: dead-letter this job at once, a retry cannot help."""


class StepErrorKind(enum.StrEnum):
    """Whether a retry of the step can help."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"


class StepError(TaqubaError):
    """Raised by a runner (or a terminal hook) to say whether the error is worth a retry.

    ``retry_after``: in how many seconds it is to be retried, in place of its backoff. ``delay``: for how many seconds
    it is put back, which is no failure. Both are None unless :meth:`transient` or :meth:`put_back` was told.

    Raises:
        TypeError: ``message`` is no string, or ``kind`` no :class:`StepErrorKind` (its value as a string will do).
    """

    Kind: ClassVar[type[StepErrorKind]] = StepErrorKind
    retry_after: float | None = None
    delay: float | None = None

    def __init__(self, message: str, kind: StepErrorKind = StepErrorKind.TRANSIENT) -> None:
        if not isinstance(message, str):
            raise TypeError(f"message must be a str, not {type(message).__name__}")
        if not isinstance(kind, StepErrorKind):
            if kind not in tuple(StepErrorKind):
                raise TypeError(f"kind must be a StepErrorKind or its value, not a {type(kind).__name__} of another")
            kind = StepErrorKind(kind)
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.is_permanent: bool = kind is StepErrorKind.PERMANENT

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.kind), {"retry_after": self.retry_after, "delay": self.delay}

    @classmethod
    def transient(cls, message: str, retry_after: float | timedelta | None = None) -> StepError:
        """Return an error that is retried while attempts are left: after its backoff, or after ``retry_after``.

        ``retry_after``: what the other side asked for, as an HTTP 429 does, in seconds or as a timedelta.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        error = cls(message, StepErrorKind.TRANSIENT)
        if retry_after is not None:
            error.retry_after = _seconds(retry_after, "retry_after")
        return error

    @classmethod
    def permanent(cls, message: str) -> StepError:
        """Return an error that dead-letters at once, whatever attempts are left."""
        return cls(message, StepErrorKind.PERMANENT)

    @classmethod
    def put_back(cls, delay: float | timedelta, message: str = "") -> StepError:
        """Return what puts a step back for ``delay`` (seconds or a timedelta): nothing went wrong, it is not yet time.

        No attempt is charged, and the run keeps its place, its memo and what it was sent; what the step staged is
        dropped. The history has it, with ``message``. ``run_until_idle`` waits for it as for any delay, not as for a
        retry.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        error = cls(message, StepErrorKind.TRANSIENT)
        error.delay = _seconds(delay, "delay")
        return error


def _seconds(value: object, name: str) -> float:
    """Return a duration in seconds; this module imports nobody, so it looks for itself."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    elif not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be seconds (int or float) or a timedelta, not {type(value).__name__}")
    if not 0 <= value < math.inf:
        shown = f"{value:g}" if isinstance(value, float) or abs(value) < 2**53 else "out of range"
        raise ValueError(f"{name} is {shown}; it must be a finite number of seconds, 0 or more")
    return float(min(value, _LONGEST_S))
