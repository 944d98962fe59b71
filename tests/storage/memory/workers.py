"""Who works, by the port's rules."""

from __future__ import annotations

from collections.abc import Collection

from taquba_workflow_sync.storage.port.worker import MOST_SHOWN, ShownClaim, WorkerRow, in_turns, worker_rows
from tests.storage.memory.reads import show
from tests.storage.memory.state import Row, State
from tests.storage.memory.transaction import worker_of


def workers(state: State, now_ms: int, open_owners: Collection[str]) -> list[WorkerRow]:
    """Return who works; whoever has the store open lives."""
    claims = [claim for row in state.rows.values() if (claim := _shown(row, now_ms)) is not None]
    owners = {owner for claim in claims if (owner := claim.owner)}
    lives: dict[str, bool | None] = {owner: owner in open_owners for owner in {*owners, *open_owners}}
    processes = {owner: worker_of(owner) for owner in state.enrolled}
    return worker_rows(in_turns(claims, MOST_SHOWN), processes, lives)


def _shown(row: Row, now_ms: int) -> ShownClaim | None:
    if row.held is None or row.claimed_ms is None:
        return None
    return ShownClaim(
        owner=row.held.owner or "",
        queue=row.queue,
        job_id=row.id,
        run_id=row.run_id,
        step=row.step,
        label=row.given.label,
        attempt=row.attempts,
        claimed_ms=row.claimed_ms,
        lease_until_ms=row.held.lease_until_ms,
        is_expired=row.held.lease_until_ms <= now_ms,
        is_overdue=show(row, now_ms).is_overdue,
    )
