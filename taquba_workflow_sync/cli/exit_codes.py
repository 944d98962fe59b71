"""What a command exits with, and which error is which."""

from __future__ import annotations

from typing import Final

import click

from taquba_workflow_sync.errors import (
    GroupNotFoundError,
    InvalidNameError,
    JobNotFoundError,
    ReservedHeaderError,
    RunNotFoundError,
    ScheduleNotFoundError,
    StoreInUseError,
)

DONE: Final = 0
ERROR: Final = 1
USAGE: Final = 2
NEEDS_HUMAN: Final = 3
NOT_FOUND: Final = 4
#: EX_TEMPFAIL of sysexits.h: another holder is in the way, or what was waited for has not ended; later it may.
BUSY: Final = 75
INTERRUPTED: Final = 130
#: What a shell reports of a process that SIGTERM has ended.
TERMINATED: Final = 143

_NOT_FOUND: Final = (RunNotFoundError, JobNotFoundError, GroupNotFoundError, ScheduleNotFoundError)
_USAGE: Final = (InvalidNameError, ReservedHeaderError)


class Failure(click.ClickException):
    """An end that is told in a sentence on stderr, with its exit code."""

    def __init__(self, message: str, code: int = ERROR) -> None:
        super().__init__(message)
        self.code = code


class Terminated(BaseException):
    """SIGTERM came; raised in the main thread, so that what is open is closed, and a terminal left as it was."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came; what is a KeyboardInterrupt only, the user's code has raised itself."""


def code_of(error: Exception) -> int:
    """Return what an error of the library exits with."""
    if isinstance(error, _NOT_FOUND):
        return NOT_FOUND
    if isinstance(error, _USAGE):
        return USAGE
    return BUSY if isinstance(error, StoreInUseError) else ERROR
