"""The tables that are copied, and their rows in the one form in which both engines' are compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple

from taquba_workflow_sync.storage.postgres import dialect
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.data_errors import InvalidDataError
from taquba_workflow_sync.storage.relational.limiting import CLOSED, Pause
from taquba_workflow_sync.storage.relational.sql.limit import RATE

Row = tuple[Any, ...]

_SMALL: Final = 500


class Table(NamedTuple):
    """One table: its columns with their kinds (``INTEGER``, ``TEXT``, ``BLOB``, or "": a number), and its key."""

    name: str
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    key: tuple[str, ...]
    generates_key: bool = False

    @property
    def hidden(self) -> str:
        """What it is called while nobody may work on it."""
        return hidden(self.name)

    def key_of(self, row: Row) -> Row:
        """Return the key of a row."""
        return tuple(row[self.columns.index(name)] for name in self.key)

    def place(self, column: str) -> int:
        """Return where in a row a column stands."""
        return self.columns.index(column)


def hidden(name: str) -> str:
    """Return what a table is called while nobody may work on it; begins as all do, so that a store looks like one."""
    return f"taquba_moved_{name.removeprefix('taquba_')}"


META: Final = hidden(sql.META)
#: What of the counters of a store is its own: its version, the boot of its machine, how many commits it has seen.
OWN_META: Final = ("schema", "boot", "commits", "restored")


@cache
def copied() -> tuple[Table, ...]:
    """Return the tables that are copied row by row; ``meta`` is not among them."""
    found = [
        Table(
            name,
            tuple(table.columns),
            tuple(table.columns.values()),
            ("id",) if table.generates_key else table.key,
            table.generates_key,
        )
        for name, table in dialect.tables().items()
        if name != sql.META
    ]
    return (*found, Table(sql.GRAPH, ("queue", "graph"), ("TEXT", "TEXT"), ("queue",)))


def names() -> tuple[str, ...]:
    """Return the names of all tables that a move puts away."""
    return (sql.META, *(table.name for table in copied()))


class Damage(InvalidDataError):
    """A row that is not what its table may hold: it cannot be moved."""

    is_permanent = True


def damaged(table: Table, key: Row | None, why: object) -> Damage:
    """Return the refusal to move a row, which ``key`` says."""
    which = "a row" if key is None else f"the row {', '.join(map(repr, key))!s:.200}"
    return Damage(
        f"{which} of {table.name} cannot be moved: {why!s:.300}; end the move with --abort, then see what `check` says"
    )


def checked(table: Table, row: Row) -> Row:
    """Return a row as it is copied: of the kinds that its columns are, its times by the wall clock.

    Raises:
        Damage: a value is of another kind.
    """
    for column, kind, value in zip(table.columns, table.kinds, row, strict=True):
        if value is not None and type(value) is not _TYPES[kind]:
            why = f"its {column} is of type {type(value).__name__} instead of {_TYPES[kind].__name__}"
            raise damaged(table, table.key_of(row), why)
    change = _CHANGES.get(table.name)
    return row if change is None else change(table, row)


_TYPES: Final = {"INTEGER": int, "TEXT": str, "BLOB": bytes, "": str}


def _with(table: Table, row: Row, **values: Any) -> Row:
    return tuple(values.get(column, value) for column, value in zip(table.columns, row, strict=True))


def _queue(table: Table, row: Row) -> Row:
    """A queue without the pause that the move itself has made."""
    paused = row[table.place("paused")]
    return _with(table, row, paused=paused & Pause.BY_CALL if paused in CLOSED else paused)


def _job(table: Table, row: Row) -> Row:
    """A job whose delay goes by the wall clock: the clock of a boot is one machine's."""
    if row[table.place("due_clock")] == 0:
        return row
    due_ms, run_at_ms = row[table.place("due_ms")], row[table.place("run_at_ms")]
    return _with(table, row, due_clock=0, due_ms=None if due_ms is None else run_at_ms or 0)


def _rate(table: Table, row: Row) -> Row:
    """A rate that is looked at once more at once, where it waited for a time of a boot's clock."""
    refill_ms = row[table.place("refill_ms")]
    if row[table.place("refill_clock")] == 0 or refill_ms is None:
        return _with(table, row, refill_clock=0)
    return _with(table, row, refill_clock=0, refill_ms=0)


_CHANGES: Final[dict[str, Callable[[Table, Row], Row]]] = {sql.QUEUE: _queue, sql.JOB: _job, RATE: _rate}
