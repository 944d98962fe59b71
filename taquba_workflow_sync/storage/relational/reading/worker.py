"""Who works, read: the claims that are shown, and the processes that have enrolled."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, Final

from taquba_workflow_sync.storage.port.event import Worker
from taquba_workflow_sync.storage.port.worker import MOST_SHOWN, ShownClaim
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.columns import COLUMNS, columns_of
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.reads import Now
from taquba_workflow_sync.storage.relational.rows import ClaimRow

_COLUMNS: Final = columns_of(ClaimRow._fields)


def claims(connection: Connection, now: Now) -> list[ShownClaim]:
    """Return the claims that are shown, all of one moment; those that are damaged are left out."""
    found = connection.execute(sql.CLAIMS_IN_TURNS, (MOST_SHOWN, MOST_SHOWN)).fetchall()
    now_ms = now()
    return [_shown(row, now_ms) for row in found if _is_sound(row)]


def _is_sound(row: Sequence[Any]) -> bool:
    fields = row[: len(_COLUMNS)]
    is_claimed = None not in (fields[0], *fields[-2:])  # columns that are empty where nothing is claimed
    return is_claimed and all(column.holds(value) for column, value in zip(_COLUMNS, fields, strict=True))


def _shown(row: Sequence[Any], now_ms: int) -> ShownClaim:
    claim = ClaimRow._make(row[: len(_COLUMNS)])
    label, timeout_ms = row[len(_COLUMNS) :]
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
    names = sorted(filter(COLUMNS["owner"].holds, owners))
    rows = connection.execute(sql.ENROLLED, (json.dumps(names),)).fetchall()
    return {owner: Worker(host, pid) for owner, host, pid in rows if type(host) is str and type(pid) is int}
