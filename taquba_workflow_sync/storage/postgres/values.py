"""Values on their way to the server and back: SQLite keeps what is given in any column, here each has its type."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.overflow import Overflow

TEXT: Final = 0
BINARY: Final = 1
#: What a value of the server's is, by the number of its type: all come as text.
LOADERS: Final[dict[int, Callable[[bytes], Any]]] = {
    16: lambda data: data == b"t",
    17: lambda data: bytes.fromhex(data[2:].decode()),
    20: int,
    21: int,
    23: int,
    26: int,
    700: float,
    701: float,
    1700: lambda data: float(data) if b"." in data else int(data),
}


def decoded(data: bytes) -> str:
    """Return a text of the server's."""
    return data.decode()


def _element(value: Any) -> bytes:
    """Return a number or a text as an element of an array."""
    if isinstance(value, int):
        return b"%d" % value
    return b'"' + str(value).encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def dumped(value: Any) -> bytes | None:
    """Return a value as it is sent: the server knows by the statement of which type it is."""
    kind = type(value)
    if value is None or kind is bytes:
        return cast("bytes | None", value)
    if kind is str:
        return str(value).encode()
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, str):
        return str(value).encode()
    if kind is float:
        return repr(value).encode()
    if kind is list:
        return b"{" + b",".join(map(_element, value)) + b"}"
    raise TypeError(f"a value of type {kind.__name__} has no place in a statement")


class _Special(NamedTuple):
    """What is done to the values of a statement, and to its rows: SQLite keeps what is given in any column."""

    before: Callable[[Any], Any]
    after: Callable[[Any, tuple[Any, ...]], tuple[Any, ...]]


def _as_they_are(_: Any, row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row


def _with_bytes(values: Sequence[Any]) -> Sequence[Any]:
    key, data = values
    return key, data.encode() if isinstance(data, str) else data


def _with_headers(values: Sequence[Any], row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (row[0].decode(),) if values[0] & 3 == Overflow.HEADERS else row


def _with_texts(values: Sequence[Any]) -> Sequence[Any]:
    job, token, done, total, note, at_ms = values
    return job, token, json.dumps(done), None if total is None else json.dumps(total), note, at_ms


def _with_numbers(_: Any, row: tuple[Any, ...]) -> tuple[Any, ...]:
    done, total, *rest = row
    return json.loads(done), None if total is None else json.loads(total), *rest


SPECIAL: Final = {
    sql.PUT_OVERFLOW: _Special(_with_bytes, _as_they_are),
    sql.GET_OVERFLOW: _Special(tuple, _with_headers),
    sql.PUT_PROGRESS: _Special(_with_texts, _as_they_are),
    sql.GET_PROGRESS: _Special(tuple, _with_numbers),
}


class Cursor:
    """What a statement has returned; all of it is here."""

    __slots__ = ("_rows", "rowcount", "tag")

    def __init__(self, rows: list[tuple[Any, ...]], rowcount: int, tag: bytes = b"") -> None:
        self._rows = rows
        #: What the server says that it has done.
        self.tag: bytes = tag
        self.rowcount: int = rowcount

    @property
    def lastrowid(self) -> Any:
        """The number of the row that was inserted, by a statement that returns it."""
        return self._rows[0][0] if self._rows else None

    def change(self, change: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> None:
        """Have each row be another."""
        self._rows = [change(row) for row in self._rows]

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row."""
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows that are left."""
        rows, self._rows = self._rows, []
        return rows

    def close(self) -> None:
        """Let go of the rows that are left."""
        self._rows = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())
