"""Who works, read: the claims that are shown, and the processes that have enrolled."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from taquba_workflow_sync.storage.port.event import Worker
from taquba_workflow_sync.storage.port.worker import MOST_SHOWN, ShownClaim
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.columns import RowCheck
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.rows import ClaimRow

_COLUMNS: Final = len(ClaimRow._fields)
_is_readable: Final = RowCheck(ClaimRow._fields)


def claims(connection: Connection, now: Callable[[], int]) -> list[ShownClaim]:
    """Return the claims that are shown, all of one moment; those that are damaged are left out."""
    found = connection.execute(sql.CLAIMS_IN_TURNS, (MOST_SHOWN, MOST_SHOWN)).fetchall()
    now_ms = now()
    return [claim for row in found if (claim := _shown(row, now_ms)) is not None]


def _shown(row: Sequence[Any], now_ms: int) -> ShownClaim | None:
    claim = ClaimRow._make(row[:_COLUMNS])
    if not _is_readable(claim) or None in (claim.owner, claim.claimed_ms, claim.lease_until_ms):
        return None
    label, timeout_ms = row[_COLUMNS:]
    return ShownClaim(
        owner=claim.owner,
        queue=claim.queue_name,
        job_id=claim.id,
        run_id=claim.run_id,
        step=claim.step,
        label=None if label is None else label.decode(errors="replace"),
        attempt=claim.attempts,
        claimed_ms=claim.claimed_ms,
        lease_until_ms=claim.lease_until_ms,
        is_expired=claim.lease_until_ms <= now_ms,
        is_overdue=timeout_ms is not None and 0 < timeout_ms <= now_ms - claim.claimed_ms,
    )


def enrolled(connection: Connection, owners: Collection[str]) -> dict[str, Worker]:
    """Return the processes of those of some owners who have enrolled; what is damaged is left out."""
    rows = connection.execute(sql.ENROLLED, (json.dumps(sorted(owners)),)).fetchall()
    return {owner: Worker(host, pid) for owner, host, pid in rows if type(host) is str and type(pid) is int}
