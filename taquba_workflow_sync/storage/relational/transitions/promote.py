"""scheduled, due -> pending."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.limiting import text_of
from taquba_workflow_sync.storage.relational.transaction import DueClock, Transaction
from taquba_workflow_sync.storage.relational.transitions import line
from taquba_workflow_sync.storage.relational.transitions.group import work
from taquba_workflow_sync.storage.relational.transitions.limit import settle_some

# Bounds of one transaction: 500,000 due rows promoted at once held the write lock for 1.9 s.
PROMOTE_LIMIT: Final = 500
_REFILLS: Final = 100


def promote(tx: Transaction, queue: int) -> int:
    """scheduled, due -> pending, each at its place in line; once in a transaction, whose time stands still.

    Members of groups that are to enter the line, or to be cancelled, come first: a piece of them.
    """
    if queue in tx.promoted:
        return 0
    tx.promoted.add(queue)
    if tx.queue(queue).groups:
        work(tx, queue)
    values = (queue, tx.now_ms, queue, tx.boot_ms, PROMOTE_LIMIT)
    keyed: list[tuple[int, str | None]] = []
    if tx.queue(queue).limited:
        keyed = tx.execute(tx.unreadable.pass_over(sql.PROMOTE_KEYED), values).fetchall()
        promoted = len(keyed)
    else:
        promoted = tx.execute(tx.unreadable.pass_over(sql.PROMOTE), values).rowcount
    if promoted:
        tx.transitions.add("promote")
        tx.move(queue, JobStatus.SCHEDULED, JobStatus.PENDING, promoted)
    if tx.queue(queue).limited:
        line.promoted(tx, queue, keyed)
        _refill(tx, queue)
        settle_some(tx, queue)
    return promoted


def _refill(tx: Transaction, queue: int) -> None:
    """Let in what rates have kept out and have room for now, of some keys."""
    left = line.MOST_ROWS
    for clock, now_ms in ((DueClock.WALL, tx.now_ms), (DueClock.BOOT, tx.boot_ms)):
        for _, key in tx.execute(sql.DUE_REFILLS, (queue, clock, now_ms, _REFILLS)).fetchall():
            if left <= 0:
                return
            tx.transitions.add("refill")
            left -= max(line.let_in(tx, queue, text_of(key), left), 1)
