"""The memos of runs, read."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.memo import MemoPage, MemoScope
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.overflow import sound
from taquba_workflow_sync.storage.relational.reading.cursors import number_in
from taquba_workflow_sync.storage.relational.transitions.memo import KIND_OF


def get(connection: Connection, job_id: str, scope: MemoScope, step: int, key: str) -> bytes | None:
    """Return an entry, or None."""
    number = _scope_at(connection, job_id, scope, step)
    if number is None:
        return None
    found = connection.execute(sql.GET_MEMO, (number, key.encode())).fetchone()
    return None if found is None else sound(f"memo entry {key!r} of job {job_id}", *found)


def keys(connection: Connection, job_id: str, scope: MemoScope, step: int) -> list[str]:
    """Return the keys of a memo in the order they were written."""
    number = _scope_at(connection, job_id, scope, step)
    return [] if number is None else [key.decode() for (key,) in connection.execute(sql.MEMO_KEYS, (number, number))]


def page(connection: Connection, job_id: str, scope: MemoScope, limit: int, cursor: str | None) -> MemoPage:
    """Return a page of the run's memo, or of its current step's.

    Raises:
        ValueError: ``cursor`` is none of this store's.
    """
    after = number_in(cursor)
    number = _scope_at(connection, job_id, scope, None)
    if number is None:
        return MemoPage([], None)
    rows = connection.execute(sql.MEMO_PAGE, (number, number, after, limit + 1)).fetchall()
    items = [(key.decode(), sound(f"memo entry {key!r} of job {job_id}", value, crc)) for _, key, value, crc in rows]
    return MemoPage(items[:limit], str(rows[limit - 1][0]) if len(rows) > limit else None)


def _scope_at(connection: Connection, job_id: str, scope: MemoScope, step: int | None) -> int | None:
    """Return the number of a memo; None: there is none, or its step is over."""
    found = connection.execute(sql.FIND_SCOPE_OF, (job_id, KIND_OF[scope])).fetchone()
    if found is None:
        return None
    number, of_step = found
    return int(number) if scope is MemoScope.RUN or step is None or step == of_step else None
