"""claimed -> done: runs that succeeded and that nobody is told of, in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from taquba_workflow_sync.storage.port.retention import SHORTEST_RETENTION_MS
from taquba_workflow_sync.storage.port.settlement import Ack, Settlement
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.overflow import INLINE_BYTES, checksum
from taquba_workflow_sync.storage.relational.transaction import FIRST_ATTEMPTS, Transaction
from taquba_workflow_sync.storage.relational.transitions.bulk import LIMIT, size_for, sized
from taquba_workflow_sync.storage.relational.transitions.fence import row_number


def is_plain_end(settlement: Settlement) -> bool:
    """Whether :func:`finish_many` may try this one."""
    action = settlement.action
    return (
        type(action) is Ack
        and settlement.yields_to_cancel
        and action.verdict is Verdict.SUCCEEDED
        and action.error is None
        and len(action.result or b"") <= INLINE_BYTES
    )


def finish_many(tx: Transaction, settlements: Sequence[Settlement]) -> set[str]:
    """Finish all that need nothing special, in few statements of the door; returns the tokens finished."""
    done: set[str] = set()
    for start in range(0, len(settlements), LIMIT):
        done |= _finish_chunk(tx, settlements[start : start + LIMIT])
    return done


def _finish_chunk(tx: Transaction, settlements: Sequence[Settlement]) -> set[str]:
    values: list[object] = []
    by_row: dict[int, Settlement] = {}
    for settlement in settlements:
        action = settlement.action
        assert isinstance(action, Ack)
        seq = row_number(settlement.token)
        if seq in by_row:
            continue  # a second settlement of one row cannot hold; the single way refuses it
        by_row[seq] = settlement
        values += (seq, settlement.token, action.result, checksum(action.result))
    size = size_for(len(by_row))
    values += (0, "", None, None) * (size - len(by_row))
    tx.execute(_HISTORY[size], (*values, tx.now_ms, *tx.holder))
    finished = tx.execute(_FINISH[size], (*values, tx.now_ms, tx.now_ms, SHORTEST_RETENTION_MS)).fetchall()
    moved: dict[int, int] = {}
    for seq, queue, ordinal in finished:
        tx.ended.add(by_row[seq].job_id)
        moved[queue] = moved.get(queue, 0) + 1
        if ordinal > FIRST_ATTEMPTS:
            tx.bound_history(seq, ordinal)
    if finished:
        tx.transitions.add("ack")
    for queue, many in moved.items():
        tx.move(queue, JobStatus.CLAIMED, JobStatus.DONE, many)
        tx.count(queue, "runs_succeeded", many)
    return {by_row[seq].token for seq, _, _ in finished}


_HISTORY: Final = sized(sql.FINISH_HISTORY, sql.FINISH_MANY_VALUES)
_FINISH: Final = sized(sql.FINISH_MANY, sql.FINISH_MANY_VALUES)
