"""Pages of a queue: which statement lists what a filter asks for, and the cursor."""

from __future__ import annotations

from typing import Final

from taquba_workflow_sync.storage.port.job import JobRow
from taquba_workflow_sync.storage.port.reads import Counts, Filter, RowPage
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.conditions import bounds_of, conditions, may_be_cancelling
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.reading.child import parent_called
from taquba_workflow_sync.storage.relational.reading.cursors import number_in
from taquba_workflow_sync.storage.relational.reads import Now, counts, in_one_snapshot
from taquba_workflow_sync.storage.relational.rows import QueueRow

# Up to this many rows of one status are sorted; above, walking the queue in order meets them soon enough.
_SORT_LIMIT: Final = 10_000
#: The indexes that a page walks in order, however many rows they have, each with the rows that it has.
_WALKED: Final = {
    sql.BY_SUBMISSION: "",
    sql.BY_FAILURE: sql.HAS_VERDICT[Verdict.FAILED],
    sql.BY_END: "AND j.finished_ms IS NOT NULL",
    sql.BY_CANCELLATION: f"{sql.IS_ASKED_TO_STOP[True]} {sql.IS_ACTIVE}",
}
_BEYOND_ALL: Final = 2**62


def page(
    connection: Connection,
    now: Now,
    queue: str,
    which: Filter,
    limit: int,
    cursor: str | None,
    *,
    with_payload: bool = True,
) -> RowPage:
    """Return a page in the order of submission; a cursor is the number of the last row that it showed or looked at.

    Raises:
        ValueError: ``cursor`` is none of this store's.
    """
    seqs: list[int] = []
    rows, next_cursor = _page(connection, now, queue, which, limit, cursor, seqs, with_payload=with_payload)
    return RowPage(rows, next_cursor)


def find(
    connection: Connection, now: Now, queue: str, which: Filter, limit: int, cursor: str | None
) -> tuple[list[tuple[int, str]], str | None]:
    """Return the numbers and ids of a page's rows, and where the next one begins."""
    seqs: list[int] = []
    rows, next_cursor = _page(connection, now, queue, which, limit, cursor, seqs, with_payload=False)
    return [(seq, row.id) for seq, row in zip(seqs, rows, strict=False)], next_cursor


def _page(
    connection: Connection,
    now: Now,
    queue: str,
    which: Filter,
    limit: int,
    cursor: str | None,
    seqs: list[int],
    *,
    with_payload: bool,
) -> tuple[list[JobRow], str | None]:
    after = _BEYOND_ALL if cursor is None and which.newest_first else number_in(cursor)
    found = connection.execute(sql.FIND_QUEUE, (queue,)).fetchone()
    if found is None:
        return [], None
    this = QueueRow._make(found)
    where, values = conditions(which, now())
    index = _choose_index(connection, this, which)
    if index == sql.BY_LINE:
        where = f"{sql.IS_IN_LINE} {where}"
    end = None
    if which.most_examined is not None and index in _WALKED:
        end = _end_of_examined(connection, this, which, index, after)
    if which.parent is not None:
        parent = parent_called(connection, which.parent)
        end = _end_of_children(connection, which, parent, after)
        where = f"{where} {sql.IS_CHILD}"
        values += (parent, after, _last(which) if end is None else end)
    elif end is not None:
        where, values = f"{sql.UP_TO} {where}", [end, *values]
    statement = _in_order(sql.PAGE.format(index=index, where=where), which)
    rows = in_one_snapshot(
        connection, now, (statement,), (this.id, after, *values, limit + 1), with_payload=with_payload, seqs=seqs
    )
    if len(rows) > limit:
        return rows[:limit], str(seqs[limit - 1])
    return rows, None if end is None else str(end)


def _in_order(statement: str, which: Filter) -> str:
    return sql.backwards(statement) if which.newest_first else statement


def _end_of_examined(connection: Connection, queue: QueueRow, which: Filter, index: str, after: int) -> int | None:
    """Return the last row that a page may look at; None: there is none after it."""
    where = _WALKED[index]
    if index == sql.BY_END and which.status is not None:
        where = sql.IS_IN_STATUS[which.status]
    statement = _in_order(sql.END_OF_EXAMINED.format(index=index, where=where), which)
    assert which.most_examined is not None
    rows = connection.execute(statement, (queue.id, after, which.most_examined - 1)).fetchall()
    return rows[0][0] if len(rows) == 2 else None


def _end_of_children(connection: Connection, which: Filter, parent: int, after: int) -> int | None:
    if which.most_examined is None:
        return None
    statement = _in_order(sql.END_OF_EXAMINED_CHILDREN, which)
    rows = connection.execute(statement, (parent, after, which.most_examined - 1)).fetchall()
    return rows[0][0] if len(rows) == 2 else None


def _last(which: Filter) -> int:
    return 0 if which.newest_first else _BEYOND_ALL


def _choose_index(connection: Connection, queue: QueueRow, which: Filter) -> str:
    if which.parent is not None:
        return sql.BY_NUMBER
    if which.prefix is not None:
        bounds = bounds_of(which.prefix)
        (many,) = connection.execute(sql.COUNT_PREFIX, (queue.id, *bounds, _SORT_LIMIT + 1)).fetchone()
        if many <= _SORT_LIMIT:
            return sql.BY_PREFIX
    if which.verdict is Verdict.FAILED or which.failed_with is not None:
        return sql.BY_FAILURE
    if which.status is not None and which.status.is_finished:
        return sql.BY_END
    if may_be_cancelling(which):
        return sql.BY_CANCELLATION
    here = counts(connection).get(queue.name, Counts())
    active = here.pending + here.scheduled + here.claimed
    if (which.is_waiting or which.is_active) and which.runs_only and active <= _SORT_LIMIT:
        return sql.BY_ACTIVE_RUN
    if which.status is not None and getattr(here, which.status.value) <= _SORT_LIMIT:
        if which.status is JobStatus.PENDING:
            return (
                sql.BY_SUBMISSION if queue.parked or queue.groups else sql.BY_LINE
            )  # what is parked stands in no line
        return sql.BY_STATUS[which.status]
    return sql.BY_SUBMISSION
