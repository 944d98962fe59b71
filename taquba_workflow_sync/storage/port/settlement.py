"""The ends of a claim, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.storage.port.status import Verdict


class UnstorableError(TaqubaError):
    """The store cannot hold what this settlement says, now or at the next try; nothing of it was applied."""


@dataclass(frozen=True, slots=True)
class Ack:
    """The claim ends well, or with the runner's own verdict of failure."""

    verdict: Verdict = Verdict.SUCCEEDED
    result: bytes | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Advance:
    """The same job, one step on. ``headers`` None keeps them; ``delay_ms`` None means at once."""

    payload: bytes
    headers: str | None = None
    delay_ms: int | None = None
    keeps_place: bool = False


@dataclass(frozen=True, slots=True)
class Nack:
    """The attempt failed and others are left: back in line at its place, after ``delay_ms`` (None: at once)."""

    error: str
    delay_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """No attempt is left, or none could help."""

    error: str


@dataclass(frozen=True, slots=True)
class SettleCancelled:
    """End the claim as cancelled, with the runner's own reason if it gave one."""

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """Put back, uncharged, a claim whose work never started."""


Action = Ack | Advance | Nack | DeadLetter | SettleCancelled | Release


class Settlement(NamedTuple):
    """The end of one claim.

    ``yields_to_cancel``: refuse with ``CancelRequestedError`` if a cancellation was requested meanwhile.
    """

    job_id: str
    token: str
    action: Action
    yields_to_cancel: bool = False
