"""What keeps transitions from being stored, put right in one transaction.

A hand, a disk or another program can put anything into the file. One such row must never keep others from being
claimed, settled, listed or swept, and must never be run with guessed data. On the path of a sound row is only the look
at what it holds; repair happens when a transition has failed.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, Final

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.columns import _ACTIVE, _COLUMNS, _LAST_SEQ, _MANY, invalid
from taquba_workflow_sync.storage.embedded.repair.invalid import _why_damaged
from taquba_workflow_sync.storage.embedded.repair.quarantine import quarantine
from taquba_workflow_sync.storage.embedded.repair.showing import tolerant
from taquba_workflow_sync.storage.embedded.transaction import Transaction
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.status import JobStatus

_ROWS_AT_ONCE: Final = 1000


_ROW: Final = f"SELECT {', '.join(_COLUMNS)} FROM taquba_job"


def repair(tx: Transaction) -> list[str]:
    """Put right what keeps transitions from being stored; returns sentences to be logged once that is committed.

    Counters are counted anew, an observer that cannot be read is forgotten (the next runtime with the hook registers it
    again), and each damaged row that a claim, a settlement or a sweep could meet becomes a dead letter that says so.
    """
    tx.flush()
    factory = tx.connection.text_factory
    tx.connection.text_factory = tolerant
    try:
        repaired = _repair_meta(tx)
        queues = [row[0] for row in tx.execute("SELECT id FROM taquba_queue").fetchall()]
        for queue in queues:
            repaired += _repair_queue(tx, queue)
        tx.forget_queues()
        for queue in queues:
            repaired += _quarantine_invalid(tx, queue)
        return repaired + _clear_expired(tx)
    finally:
        tx.connection.text_factory = factory


def _repair_meta(tx: Transaction) -> list[str]:
    row = tx.execute(sql.READ_META, ("next_seq",)).fetchone()
    least = tx.execute("SELECT ifnull(max(seq), 0) + 1 FROM taquba_job WHERE seq <= ?", (_LAST_SEQ,)).fetchone()[0]
    if row is not None and type(row[0]) is int and least <= row[0] <= _LAST_SEQ:
        return []
    tx.execute(sql.WRITE_META, ("next_seq", least))
    return [f"the store's counter of rows was {row!r:.80}, which is below its rows or no number; it is {least} now"]


def _repair_queue(tx: Transaction, queue: int) -> list[str]:
    """Count a queue's rows anew, and forget an observer that cannot be read."""
    name, subscription, *counts = tx.execute(
        "SELECT name, observer, pending, scheduled, claimed, dead, done, cancelled FROM taquba_queue WHERE id = ?",
        (queue,),
    ).fetchone()
    found = dict(
        tx.execute("SELECT status, count(*) FROM taquba_job NOT INDEXED WHERE queue = ? GROUP BY status", (queue,))
    )
    right = [found.get(status, 0) for status in (*_ACTIVE, JobStatus.DEAD)]
    for status, count in zip((JobStatus.DONE, JobStatus.CANCELLED), counts[4:], strict=True):
        least = found.get(status, 0)
        right.append(max(count, least) if type(count) is int and count < 2**62 else least)
    repaired: list[str] = []
    if right != counts:
        tx.execute(
            """UPDATE taquba_queue SET pending = ?, scheduled = ?, claimed = ?, dead = ?, done = ?, cancelled = ?
                WHERE id = ?""",
            (*right, queue),
        )
        repaired.append(
            f"the counters of queue {name!r:.80} did not fit its rows: {counts!r:.200}, counted anew as {right}"
        )
    if subscription is not None and not _is_subscription(subscription):
        tx.execute("UPDATE taquba_queue SET observer = NULL WHERE id = ?", (queue,))
        repaired.append(
            f"queue {name!r:.80} lost its registered hook, which was {subscription!r:.80}; start a runtime that has it"
        )
    return repaired


def _is_subscription(text: object) -> bool:
    try:
        subscription = json.loads(text)  # type: ignore[arg-type]  # whatever it is, it fails or it fits
    except (TypeError, ValueError, RecursionError):
        return False
    return (
        isinstance(subscription, dict)
        and subscription.keys() == {each.name for each in fields(Subscription)}
        and type(subscription["lane"]) is str
        and invalid("max_attempts", subscription["max_attempts"]) is None
        and invalid("keep_dead_ms", subscription["keep_dead_ms"]) is None
    )


_IN_REACH: Final = (
    f"""{_ROW} INDEXED BY taquba_job_pending WHERE queue = ? AND status = 'pending' ORDER BY priority, place
        LIMIT {_ROWS_AT_ONCE}""",
    f"""{_ROW} INDEXED BY taquba_job_pending WHERE queue = ? AND status = 'pending' AND priority >= ''
        LIMIT {_ROWS_AT_ONCE}""",
    f"""{_ROW} INDEXED BY taquba_job_due WHERE queue = ? AND due_ms IS NOT NULL AND due_clock <= 0
        ORDER BY due_clock, due_ms LIMIT {_ROWS_AT_ONCE}""",
    f"""{_ROW} INDEXED BY taquba_job_due WHERE queue = ? AND due_ms IS NOT NULL AND due_clock = 1
        ORDER BY due_ms LIMIT {_ROWS_AT_ONCE}""",
    f"{_ROW} INDEXED BY taquba_job_claimed WHERE lease_until_ms IS NOT NULL AND queue = ? LIMIT {_ROWS_AT_ONCE}",
)


def _quarantine_invalid(tx: Transaction, queue: int) -> list[str]:
    repaired: list[str] = []
    for statement in _IN_REACH:
        for values in tx.execute(statement, (queue,)).fetchall():
            row = dict(zip(_COLUMNS, values, strict=True))
            row["queue"] = "a queue"  # found by it, so it is there
            why = _why_damaged(tx, row)
            if why is not None:
                job_id = quarantine(tx, queue, row, f"the stored row is damaged: {why}")
                repaired.append(f"job {job_id} (row {row['seq']}) was made a dead letter: {why}")
            elif _repair_history(tx, row):
                repaired.append(f"job {row['id']}: the history of its attempts was damaged and was put right")
    return repaired


def _repair_history(tx: Transaction, row: dict[str, Any]) -> bool:
    """Have the next attempt of a sound row come after those in its history; whether it would not have."""
    seq, is_claimed = row["seq"], row["status"] == JobStatus.CLAIMED
    strange = tx.execute(
        "DELETE FROM taquba_attempt WHERE job = ? AND (typeof(ordinal) <> 'integer' OR ordinal > ?)", (seq, _MANY)
    ).rowcount
    last = tx.execute("SELECT ifnull(max(ordinal), 0) FROM taquba_attempt WHERE job = ?", (seq,)).fetchone()[0]
    is_behind: bool = last > row["ordinal"] - is_claimed
    if is_behind:
        tx.execute("UPDATE taquba_job SET ordinal = ? WHERE seq = ?", (last + is_claimed, seq))
    return bool(strange) or is_behind


def _clear_expired(tx: Transaction) -> list[str]:
    """Remove rows past their retention whose status or width would keep a sweep from it."""
    cleared: list[str] = []
    for seq, queue, status, wide in tx.execute(sql.EXPIRED, (tx.now_ms, _ROWS_AT_ONCE)).fetchall():
        if invalid("wide", wide) is None and status in (JobStatus.DONE, JobStatus.DEAD, JobStatus.CANCELLED):
            continue
        tx.transitions.add("sweep")
        tx.drop_row(seq, 7)
        if status in (*_ACTIVE, JobStatus.DEAD):
            tx.count(queue, status, -1)
        cleared.append(f"row {seq}, past its retention, was removed: its status was {status!r:.80}")
    return cleared
