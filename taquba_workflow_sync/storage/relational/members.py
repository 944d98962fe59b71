"""Pages of a group: its members in the order of their submission."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.group import MemberPage
from taquba_workflow_sync.storage.port.job import JobRow
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.reading.cursors import number_in
from taquba_workflow_sync.storage.relational.reading.member import find
from taquba_workflow_sync.storage.relational.reads import Now, in_one_snapshot


def page(connection: Connection, now: Now, name: str, limit: int, cursor: str | None) -> MemberPage | None:
    """Return a page of a group's members; a cursor is the position of the next one.

    Raises:
        ValueError: ``cursor`` is none of this store's.
    """
    begin = number_in(cursor)
    group = find(connection, name)
    if group is None:
        return None
    end = min(begin + limit, group.last)
    places: dict[int, object] = dict(connection.execute(sql.MEMBER_POSITIONS, (group.id, begin, end)).fetchall())
    seqs: list[int] = []
    found = in_one_snapshot(connection, now, (sql.MEMBERS_SHOWN,), (group.id, begin, end), seqs=seqs)
    rows: list[JobRow | None] = [None] * max(end - begin, 0)
    for seq, row in zip(seqs, found, strict=True):
        position = places.get(seq)
        if type(position) is int and row.finished_ms is not None:  # what is damaged is nobody's place
            rows[position - begin] = row
    return MemberPage(rows, str(end) if end < group.last else None)
