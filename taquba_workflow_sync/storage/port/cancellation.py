"""What a cancel found, and what it did."""

from __future__ import annotations

import enum
from typing import NamedTuple

from taquba_workflow_sync.storage.port.claim import ClaimedRow


class CancelOutcome(enum.StrEnum):
    """What a cancel found: the job gone from its queue, a running claim told to stop, or nothing to cancel."""

    REMOVED = "removed"
    REQUESTED = "requested"
    NOT_FOUND = "not_found"


class Cancellation(NamedTuple):
    """What a cancel did: ``token`` is the claim that was asked to stop.

    ``notification`` is there when its delivery was asked for, claimed by the caller.
    """

    outcome: CancelOutcome
    token: str | None = None
    notification: ClaimedRow | None = None
