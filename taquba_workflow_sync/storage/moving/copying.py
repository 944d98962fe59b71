"""Rows carried over in pages, each one commit of the target; and both stores compared, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.moving.side import Side
from taquba_workflow_sync.storage.moving.stages import At, reached
from taquba_workflow_sync.storage.moving.tables import META, OWN_META, Row, Table, copied

#: One commit carries so many rows and bytes, or one row; payloads are counted as they are, other columns not at all.
_PAGE_ROWS: Final = 500
_PAGE_BYTES: Final = 4 << 20


def copy(source: Side, target: Side, at: At | None) -> None:
    """Carry over what the target does not have yet: its last row of each table tells how far it was carried.

    Raises:
        Damage: a row cannot be moved.
        StorageError: a store refuses; what was carried over before stays.
    """
    for table in copied():
        after = _last_key(target, table)
        for first, last in _pages(source, table, after):
            rows = _between(source, table, first, last)
            with target.transaction():
                target.insert(table, rows)
                reached(at, f"copy {table.name}")
            reached(at, f"copied {table.name}")
    _copy_meta(source, target)


def compare(source: Side, target: Side) -> None:
    """Check that every row of the one is in the other as it is, and nothing else.

    Raises:
        StorageError: they differ.
    """
    for table in copied():
        counts = [_count(side, table) for side in (source, target)]
        if counts[0] != counts[1]:
            raise StorageError(
                f"the copy is not what was copied: {table.name} has {counts[0]} rows in {source.shown}"
                f" and {counts[1]} in {target.shown}; {_ADVICE}"
            )
        for first, last in _pages(source, table, None):
            theirs, ours = (_between(side, table, first, last) for side in (source, target))
            if theirs != ours:
                which = next((table.key_of(row) for row in theirs if row not in ours), None)
                raise StorageError(
                    f"the copy is not what was copied: the row {which!s:.200} of {table.name} differs; {_ADVICE}"
                )
    for key, value in _meta(source):
        if (key, value) not in _meta(target):
            raise StorageError(f"the copy is not what was copied: the counter {key!r} differs; {_ADVICE}")


_ADVICE: Final = "end the move with --abort, then begin it again"


class _Texts:
    """The statements that read one table, put away or not."""

    def __init__(self, table: Table) -> None:
        key, columns = ", ".join(table.key), ", ".join(table.columns)
        large = [
            column
            for column, kind in zip(table.columns, table.kinds, strict=True)
            if kind == "BLOB" or column in ("headers", "last_error", "definition", "trace", "graph", "error", "detail")
        ]
        size = " + ".join(f"coalesce(length({column}), 0)" for column in large) or "0"
        holders = ", ".join("?" * len(table.key))
        after, until = f"({key}) > ({holders})", f"({key}) <= ({holders})"
        self.first = f"SELECT {key}, {size} FROM {table.hidden} ORDER BY {key} LIMIT {_PAGE_ROWS}"
        self.next = f"SELECT {key}, {size} FROM {table.hidden} WHERE {after} ORDER BY {key} LIMIT {_PAGE_ROWS}"
        self.whole = f"SELECT {columns} FROM {table.hidden} WHERE {until} ORDER BY {key}"
        self.part = f"SELECT {columns} FROM {table.hidden} WHERE {after} AND {until} ORDER BY {key}"
        descending = ", ".join(f"{column} DESC" for column in table.key)
        self.last = f"SELECT {key} FROM {table.hidden} ORDER BY {descending} LIMIT 1"
        self.count = f"SELECT count(*) FROM {table.hidden}"


@cache
def _texts(table: Table) -> _Texts:
    return _Texts(table)


def count_rows(side: Side) -> int:
    """Return how many rows a store has whose tables are put away."""
    return sum(_count(side, table) for table in copied())


def _last_key(side: Side, table: Table) -> Row | None:
    found = side.read(_texts(table).last)
    return found[0] if found else None


def _count(side: Side, table: Table) -> int:
    ((count,),) = side.read(_texts(table).count)
    return int(count)


def _pages(side: Side, table: Table, after: Row | None) -> Iterator[tuple[Row | None, Row]]:
    """Return the pages of a table after a key: each from after a key up to a key."""
    texts = _texts(table)
    while True:
        statement, values = (texts.first, ()) if after is None else (texts.next, after)
        sizes = side.read(statement, values)
        if not sizes:
            return
        last, size = None, 0
        for *key, length in sizes:
            size += length
            if last is not None and size > _PAGE_BYTES:
                break
            last = tuple(key)
        assert last is not None
        yield after, last
        after = last


def _between(side: Side, table: Table, after: Row | None, last: Row) -> list[Row]:
    texts = _texts(table)
    if after is None:
        return side.rows(table, texts.whole, last)
    return side.rows(table, texts.part, (*after, *last))


def _meta(side: Side) -> list[Row]:
    return [row for row in side.read(f"SELECT key, value FROM {META} ORDER BY key") if row[0] not in OWN_META]


def _copy_meta(source: Side, target: Side) -> None:
    with target.transaction():
        for key, value in _meta(source):
            target.connection.execute(f"DELETE FROM {META} WHERE key = ?", (key,))
            target.connection.execute(f"INSERT INTO {META} (key, value) VALUES (?, ?)", (key, value))
