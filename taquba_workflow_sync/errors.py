"""The error tree: every error the library raises on purpose, each knowing whether a retry can help."""

from __future__ import annotations

import enum
from typing import Any, ClassVar

from taquba_workflow_sync.outcome import RunOutcome


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


class SchemaVersionError(TaqubaError):
    """The store was written by a newer version of this library."""


class UnsupportedFilesystemError(TaqubaError):
    """The directory lies on a filesystem whose locks SQLite cannot trust."""


class InvalidNameError(TaqubaError, ValueError):
    """A queue name or a job id outside the allowed alphabet or length."""


class InvalidRunIdError(InvalidNameError):
    """A run id outside the allowed alphabet or length."""


class PayloadTooLargeError(TaqubaError):
    """A payload over ``max_payload_bytes``, or headers of more than 64 KiB together."""


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

    Raises:
        TypeError: ``message`` is no string, or ``kind`` no :class:`StepErrorKind` (its value as a string will do).
    """

    Kind: ClassVar[type[StepErrorKind]] = StepErrorKind

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
        return type(self), (self.message, self.kind)

    @classmethod
    def transient(cls, message: str) -> StepError:
        """Return an error that is retried with backoff while attempts are left."""
        return cls(message, StepErrorKind.TRANSIENT)

    @classmethod
    def permanent(cls, message: str) -> StepError:
        """Return an error that dead-letters at once, whatever attempts are left."""
        return cls(message, StepErrorKind.PERMANENT)
