"""What a submit says: checked when it is made."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from taquba_workflow_sync.errors import InvalidRunIdError, ReservedHeaderError
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.effects import StagedEffects, checked_effects
from taquba_workflow_sync.storage.port.headers import RESERVED_HEADER_PREFIX
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.workflow.settings import step_settings
from taquba_workflow_sync.workflow.timing import time_limits

#: What a flow's submit says of its version: the one reserved header that a spec may have.
HEADER_FLOW: Final = "workflow.flow"


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
    ``effects``, an :class:`Effects`, are applied in the commit of a new submission, as they are at the submit.

    ``max_attempts_per_step``, ``priority``, ``backoff`` (a pair: the first wait and the longest, for the queue's) and
    ``step_timeout`` hold for every step that its outcome gives nothing else; ``label`` is the first step's.

    ``deadline``, an aware datetime, or a timedelta from the submit or the later ``run_at``: a run that has not ended by
    then ends as failed. ``expires_after``, counted so, too: a run that has not started by then is cancelled.
    ``step_timeout``: a step that takes longer has failed, once it returns, whatever that is.

    ``limit_key``: what the run is limited by, beside its queue (see :meth:`WorkflowClient.set_limit`), such as
    ``"customer-7"``: 1 to 255 bytes without ``*``.

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
    effects: StagedEffects | None = None
    label: str | None = None
    backoff: tuple[Duration, Duration] | None = None
    step_timeout: Duration | None = None
    deadline: datetime | timedelta | None = None
    expires_after: Duration | None = None
    limit_key: str | None = None

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
        step_settings(label_=self.label, backoff_=self.backoff, step_timeout=self.step_timeout)
        time_limits(self.deadline, self.expires_after)
        if self.limit_key is not None:
            validation.limit_key(self.limit_key)
        if not isinstance(self.if_finished, str):
            raise TypeError(f"if_finished must be an IfFinished, not {type(self.if_finished).__name__}")
        if self.if_finished not in tuple(IfFinished):
            raise ValueError(
                f"if_finished is {validation.shown(self.if_finished)}; it must be one of {', '.join(IfFinished)}"
            )
        object.__setattr__(self, "if_finished", IfFinished(self.if_finished))
        if self.effects is not None:
            checked_effects(self.effects)

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
        if name.startswith(RESERVED_HEADER_PREFIX) and name != HEADER_FLOW:
            raise ReservedHeaderError(
                f"header {name!r} starts with {RESERVED_HEADER_PREFIX!r}, which is reserved; rename it"
            )
    return checked


def flow_version(headers: Mapping[str, str]) -> int | None:
    """Return the version of the flow that made a spec of these headers; None: it was no flow that did."""
    first = headers.get(HEADER_FLOW, "").partition(" ")[0]
    return int(first) if first.isascii() and first.isdecimal() else None
