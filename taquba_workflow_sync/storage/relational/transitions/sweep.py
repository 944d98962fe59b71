"""done, dead, cancelled -> gone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from taquba_workflow_sync.storage.port.job import SWEEP_LIMIT
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.data_errors import Culprit, blaming
from taquba_workflow_sync.storage.relational.rows import FinishedRow
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import timing
from taquba_workflow_sync.storage.relational.transitions.belongings import drop
from taquba_workflow_sync.storage.relational.transitions.garbage import collect, has_garbage
from taquba_workflow_sync.storage.relational.transitions.group import discard
from taquba_workflow_sync.storage.relational.transitions.kv import expire, has_expired
from taquba_workflow_sync.storage.relational.transitions.rate import clear_idle

#: How many groups one sweep closes, of each kind.
GROUP_LIMIT: Final = 20


def sweep(tx: Transaction, dead_writers: Collection[str] = ()) -> int:
    """Remove finished rows past the retention frozen on them, then pieces of what nobody sees any more.

    ``dead_writers``: owners that were writing groups, and live no more.
    """
    rows = [
        FinishedRow._make(row)
        for row in tx.execute(tx.unreadable.pass_over(sql.EXPIRED), (tx.now_ms, SWEEP_LIMIT)).fetchall()
    ]
    for row in rows:
        remove_row(tx, row)
    removed = len(rows) + _close_groups(tx, dead_writers)
    removed += _remove_members(tx, max(SWEEP_LIMIT - removed, 0))
    removed += collect(tx, max(SWEEP_LIMIT - removed, 0))
    removed += expire(tx, max(SWEEP_LIMIT - removed, 0))
    return removed + clear_idle(tx, max(SWEEP_LIMIT - removed, 0))


def remove_row(tx: Transaction, row: FinishedRow) -> None:
    """Delete a finished row with all that belongs to it."""
    tx.transitions.add("sweep")
    with blaming(Culprit(row.seq)):
        tx.execute(sql.DELETE_FINISHED, (row.seq,))
        drop(tx, row.seq, row.belongings)
    if row.status == JobStatus.DEAD:
        tx.count(row.queue, JobStatus.DEAD, -1)
    tx.count_special(row.queue, row.status, row.run_id, row.cancel_requested, row.verdict, -1)


def _close_groups(tx: Transaction, dead_writers: Collection[str]) -> int:
    """Have groups past their retention, and those that nobody will open, be there for nobody; returns how many."""
    found = tx.execute(sql.EXPIRED_GROUPS, (tx.now_ms, GROUP_LIMIT)).fetchall()
    found += tx.execute(sql.ABANDONED_GROUPS, (GROUP_LIMIT,)).fetchall()
    for owner in dead_writers:
        found += tx.execute(sql.GROUPS_OF_WRITER, (owner, GROUP_LIMIT)).fetchall()
    for (number,) in found:
        discard(tx, number)
    return len(found)


def _remove_members(tx: Transaction, most: int) -> int:
    """Remove members of groups that are there for nobody, each group with its last; returns how many rows went."""
    removed = 0
    while removed < most:
        found = tx.execute(sql.GROUP_TO_REMOVE).fetchone()
        if found is None:
            break
        members = tx.execute(sql.MEMBERS_TO_REMOVE, (found[0], most - removed)).fetchall()
        for number, *row in members:
            _remove_member(tx, number, row)
        removed += len(members)
        if removed < most:
            tx.execute(sql.DROP_GROUP, found)
            removed += 1
    return removed


def _remove_member(tx: Transaction, number: int, values: Sequence[Any]) -> None:
    row = FinishedRow._make(values)
    if row.status in (JobStatus.DONE, JobStatus.DEAD, JobStatus.CANCELLED):
        remove_row(tx, row)
    elif row.seq is not None and tx.execute(sql.DELETE_HELD, (row.seq,)).rowcount:
        tx.transitions.add("drop_member")
        if row.belongings & Belonging.TIMING:
            timing.count(tx, row.queue, -1)
        drop(tx, row.seq, row.belongings)
    else:  # gone, or active, which none of a closed group is: a row that was damaged stays, on its own
        tx.execute(sql.DISOWN, (Belonging.MEMBER, number))
    tx.execute(sql.DROP_MEMBER, (number,))


def has_work_for_sweep(connection: Connection, now_ms: int) -> bool:
    """Whether there is anything to remove."""
    looks = ((sql.EXPIRED, (now_ms, 1)), (sql.EXPIRED_GROUPS, (now_ms, 1)), (sql.ABANDONED_GROUPS, (1,)))
    if any(connection.execute(statement, values).fetchone() is not None for statement, values in looks):
        return True
    has_group = connection.execute(sql.GROUP_TO_REMOVE).fetchone() is not None
    has_idle = connection.execute(sql.IDLE_RATES, (now_ms,)).fetchone() is not None
    return has_group or has_idle or has_garbage(connection) or has_expired(connection, now_ms)


def writers(connection: Connection) -> list[str]:
    """Return the owners that write groups, or have died over it."""
    return [owner for (owner,) in connection.execute(sql.WRITERS)]
