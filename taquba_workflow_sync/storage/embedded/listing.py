"""Pages of a queue: which statement lists what a filter asks for, and the cursor."""

from __future__ import annotations

import sqlite3
from typing import Final

from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.reads import Now, counts, in_one_snapshot
from taquba_workflow_sync.storage.port.reads import Counts, Filter, RowPage
from taquba_workflow_sync.storage.port.status import Verdict

# Up to this many rows of one status are sorted; above, walking the queue in order meets them soon enough.
_SORT_LIMIT: Final = 10_000


def page(
    connection: sqlite3.Connection, now: Now, queue: str, which: Filter, limit: int, cursor: str | None
) -> RowPage:
    """Return a page in the order of submission; a cursor is the number of the last row that it showed.

    Raises:
        ValueError: ``cursor`` is none of this store's.
    """
    after = _row_of(cursor)
    found = connection.execute(sql.FIND_QUEUE, (queue,)).fetchone()
    if found is None:
        return RowPage([], None)
    number, *_ = found
    where, values = _conditions(which, now)
    statement = sql.PAGE.format(index=_choose_index(connection, queue, which), where=where)
    seqs: list[int] = []
    rows = in_one_snapshot(connection, now, (statement,), (number, after, *values, limit + 1), seqs=seqs)
    return RowPage(rows[:limit], str(seqs[limit - 1]) if len(rows) > limit else None)


def _row_of(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
        raise ValueError(f"cursor {cursor[:40]!r} is none of ours; pass a page's next_cursor unchanged")
    return int(cursor)


def _conditions(which: Filter, now: Now) -> tuple[str, list[object]]:
    parts: list[str] = []
    values: list[object] = []
    if which.status is not None:
        parts.append(sql.IS_IN_STATUS[which.status])
    if which.verdict is not None:
        parts.append(sql.HAS_VERDICT[which.verdict])
    if which.cancel_requested is not None:
        parts.append(sql.IS_ASKED_TO_STOP[which.cancel_requested])
    if which.is_waiting:
        parts.append(sql.IS_WAITING)
    if which.is_active or _may_be_cancelling(which):
        parts.append(sql.IS_ACTIVE)
    if which.runs_only:
        parts.append(sql.IS_RUN)
    if which.visible_only:
        parts.append(sql.IS_VISIBLE)
        values.append(now())
    return " ".join(parts), values


def _may_be_cancelling(which: Filter) -> bool:
    """Whether only rows are wanted that were asked to stop and have not ended."""
    is_active = which.is_active or which.is_waiting or (which.status is not None and not which.status.is_finished)
    return which.cancel_requested is True and is_active


def _choose_index(connection: sqlite3.Connection, queue: str, which: Filter) -> str:
    if which.verdict is Verdict.FAILED:
        return sql.BY_FAILURE
    if which.status is not None and which.status.is_finished:
        return sql.BY_END
    if _may_be_cancelling(which):
        return sql.BY_CANCELLATION
    here = counts(connection).get(queue, Counts())
    active = here.pending + here.scheduled + here.claimed
    if (which.is_waiting or which.is_active) and which.runs_only and active <= _SORT_LIMIT:
        return sql.BY_ACTIVE_RUN
    if which.status is not None and getattr(here, which.status.value) <= _SORT_LIMIT:
        return sql.BY_STATUS[which.status]
    return sql.BY_SUBMISSION
