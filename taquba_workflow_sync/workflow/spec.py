"""What a submit says: checked when it is made."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from taquba_workflow_sync.errors import InvalidRunIdError, ReservedHeaderError
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.storage.port.headers import RESERVED_HEADER_PREFIX
from taquba_workflow_sync.storage.port.run import IfFinished


class StepOrder(enum.StrEnum):
    """Whose step is next: runs take turns, or the oldest goes first.

    ``FAIR``: the next step goes to the back of its priority. A run whose steps are short may do several in one turn: it
    goes on while it has held its claim for less than 20 milliseconds, or as long as nobody else of its priority waits.
    ``OLDEST_RUN_FIRST``: the next step keeps the run's place in line.
    """

    FAIR = "fair"
    OLDEST_RUN_FIRST = "oldest_run_first"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """A run to submit.

    ``run_id`` names it: submitting the same name with the same input again is a no-op while it is active, and
    ``if_finished`` decides once it has finished and is kept. Without a name every submit is a new run. ``headers``
    reach every step and the terminal hook. ``run_at``, aware, delays the first step. ``priority``: lower goes first.

    Raises:
        TypeError, ValueError: an argument of the wrong type, or a senseless one.
        InvalidRunIdError: ``run_id`` is not 1 to 128 characters of A-Z, a-z, 0-9, '_' and '-'.
        ReservedHeaderError: a header starts with ``workflow.``.
        PayloadTooLargeError: the headers have more than 64 KiB together.
    """

    input: bytes = b""
    run_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    priority: int | None = None
    max_attempts_per_step: int | None = None
    run_at: datetime | None = None
    if_finished: IfFinished = IfFinished.KEEP

    def __post_init__(self) -> None:
        if not isinstance(self.input, bytes):
            raise TypeError(f"input must be bytes, not {type(self.input).__name__}; encode it first")
        if self.run_id is not None:
            validation.identifier(self.run_id, "run_id", InvalidRunIdError)
        object.__setattr__(self, "headers", check_headers(self.headers))
        if self.priority is not None:
            validation.integer(self.priority, "priority", least=-validation.MAX_INT)
        if self.max_attempts_per_step is not None:
            validation.integer(self.max_attempts_per_step, "max_attempts_per_step", least=1)
        validation.moment_ms(self.run_at, "run_at")
        if not isinstance(self.if_finished, str):
            raise TypeError(f"if_finished must be an IfFinished, not {type(self.if_finished).__name__}")
        if self.if_finished not in tuple(IfFinished):
            raise ValueError(
                f"if_finished is {validation.shown(self.if_finished)}; it must be one of {', '.join(IfFinished)}"
            )
        object.__setattr__(self, "if_finished", IfFinished(self.if_finished))

    def fingerprint(self) -> bytes:
        """Return the SHA-256 of the input, by which a repeated submit is known."""
        return hashlib.sha256(self.input).digest()


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return checked headers of a run.

    Raises:
        TypeError: no mapping of str to str.
        ReservedHeaderError: a name starts with ``workflow.``.
        PayloadTooLargeError: more than 64 KiB together.
    """
    checked = validation.checked_headers(headers)
    for name in checked:
        if name.startswith(RESERVED_HEADER_PREFIX):
            raise ReservedHeaderError(
                f"header {name!r} starts with {RESERVED_HEADER_PREFIX!r}, which is reserved; rename it"
            )
    return checked
