"""What keeps transitions from being stored, put right in one transaction.

A hand, a disk or another program can put anything into the file. One such row must never keep others from being
claimed, settled, listed or swept, and must never be run with guessed data. On the path of a sound row is only the look
at what it holds; repair happens when a transition has failed.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final, cast

from taquba_workflow_sync.storage.embedded.repair.quarantine import quarantine
from taquba_workflow_sync.storage.embedded.repair.recount import recount_flags, recount_groups
from taquba_workflow_sync.storage.embedded.repair.tolerant import tolerant
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.checking.counts import is_subscription, right_counts
from taquba_workflow_sync.storage.relational.checking.invalid import why_stuck
from taquba_workflow_sync.storage.relational.columns import ACTIVE, COLUMNS, LAST_SEQ
from taquba_workflow_sync.storage.relational.rows import FinishedRow
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions.belongings import drop

_ROWS_AT_ONCE: Final = 1000
_SOME_QUEUE: Final = 1


def repair(tx: Transaction) -> list[str]:
    """Put right what keeps transitions from being stored; returns sentences to be logged once that is committed.

    Counters of queues and groups are counted anew, a subscription that cannot be read is forgotten (the next runtime
    with the hook registers it again), and each damaged row that a claim, a settlement or a sweep could meet becomes a
    dead letter that says so.
    """
    tx.flush()
    connection = cast(sqlite3.Connection, tx.connection)
    factory = connection.text_factory
    connection.text_factory = tolerant
    try:
        repaired = _repair_meta(tx)
        queues = [queue for (queue,) in tx.execute(sql.ALL_QUEUES).fetchall()]
        for queue in queues:
            repaired += _repair_queue(tx, queue)
        tx.forget_queues()
        for queue in queues:
            repaired += recount_flags(tx, queue)
        for queue in queues:
            repaired += _quarantine_invalid(tx, queue)
        return repaired + _clear_expired(tx) + recount_groups(tx)
    finally:
        connection.text_factory = factory


def _repair_meta(tx: Transaction) -> list[str]:
    row = tx.execute(sql.READ_META, ("next_seq",)).fetchone()
    (least,) = tx.execute(sql.LEAST_NEXT_SEQ, (LAST_SEQ,)).fetchone()
    if row is not None and type(row[0]) is int and least <= row[0] <= LAST_SEQ:
        return []
    tx.execute(sql.WRITE_META, ("next_seq", least))
    return [f"the store's counter of rows was {row!r:.80}, which is below its rows or no number; it is {least} now"]


def _repair_queue(tx: Transaction, queue: int) -> list[str]:
    """Count a queue's rows anew, and forget a subscription that cannot be read."""
    name, subscription, *counts = tx.execute(sql.READ_QUEUE, (queue,)).fetchone()
    right = right_counts(tx.execute(sql.COUNT_ROWS, (queue,)).fetchall(), counts)
    repaired: list[str] = []
    if right != counts:
        tx.execute(sql.SET_COUNTS, (*right, queue))
        repaired.append(
            f"the counters of queue {name!r:.80} did not fit its rows: {counts!r:.200}, counted anew as {right}"
        )
    if subscription is not None and not is_subscription(subscription):
        tx.execute(sql.FORGET_SUBSCRIPTION, (queue,))
        repaired.append(
            f"queue {name!r:.80} lost its registered hook, which was {subscription!r:.80}; start a runtime that has it"
        )
    return repaired


def _quarantine_invalid(tx: Transaction, queue: int) -> list[str]:
    repaired: list[str] = []
    for statement in sql.IN_REACH:
        for values in tx.execute(statement, (queue, _ROWS_AT_ONCE)).fetchall():
            row = dict(zip(COLUMNS, values, strict=True))
            row["queue"] = _SOME_QUEUE  # found by it, so it is there
            why = why_stuck(tx, row)
            if why is not None:
                job_id = quarantine(tx, queue, row, f"the stored row is damaged: {why}")
                repaired.append(f"job {job_id} (row {row['seq']}) was made a dead letter: {why}")
            elif _repair_history(tx, row):
                repaired.append(f"job {row['id']}: the history of its attempts was damaged and was put right")
    return repaired


def _repair_history(tx: Transaction, row: dict[str, Any]) -> bool:
    """Have the next attempt of a sound row come after those in its history; whether it would not have."""
    seq, is_claimed = row["seq"], row["status"] == JobStatus.CLAIMED
    strange = tx.execute(sql.DROP_STRANGE_ATTEMPTS, (seq, COLUMNS["ordinal"].most)).rowcount
    (found,) = tx.execute(sql.LAST_ORDINAL, (seq,)).fetchone()
    last: int = found or 0
    is_behind = last > row["ordinal"] - is_claimed
    if is_behind:
        tx.execute(sql.SET_ORDINAL, (last + is_claimed, seq))
    return bool(strange) or is_behind


def _clear_expired(tx: Transaction) -> list[str]:
    """Remove rows past their retention whose status or belongings would keep a sweep from it."""
    cleared: list[str] = []
    for row in map(FinishedRow._make, tx.execute(sql.EXPIRED, (tx.now_ms, _ROWS_AT_ONCE)).fetchall()):
        if COLUMNS["belongings"].holds(row.belongings) and row.status in (
            JobStatus.DONE,
            JobStatus.DEAD,
            JobStatus.CANCELLED,
        ):
            continue
        tx.transitions.add("sweep")
        tx.execute(sql.DELETE_EXPIRED, (row.seq,))
        drop(tx, row.seq, COLUMNS["belongings"].most)
        if row.status in (*ACTIVE, JobStatus.DEAD):
            tx.count(row.queue, row.status, -1)
        tx.count_special(row.queue, row.status, row.run_id, row.cancel_requested, row.verdict, -1)
        cleared.append(f"row {row.seq}, past its retention, was removed: its status was {row.status!r:.80}")
    return cleared
