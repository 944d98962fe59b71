"""What is wrong with a store: looked for without changing anything, a part at a time, in bounded memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from taquba_workflow_sync.storage.embedded.cache import stray_settings
from taquba_workflow_sync.storage.embedded.connections import Connections
from taquba_workflow_sync.storage.embedded.repair.inspection import inspect_rows
from taquba_workflow_sync.storage.embedded.repair.mending import is_subscription, right_counts
from taquba_workflow_sync.storage.embedded.repair.recount import flags_of
from taquba_workflow_sync.storage.embedded.repair.tolerant import tolerant_snapshot
from taquba_workflow_sync.storage.embedded.sqlite_errors import is_about_data, lacks_a_name
from taquba_workflow_sync.storage.port.tally import COUNTERS
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.columns import LAST_SEQ
from taquba_workflow_sync.storage.relational.overflow import checksum
from taquba_workflow_sync.storage.relational.reading import schedule as read_schedule

#: The most sentences of one kind; the rest is counted.
MOST: Final = 100
_RESTORE: Final = "restore a backup (docs/operations.md)"
_UPGRADE: Final = "no version of this library writes that: another program did; restore a backup"


def check(connections: Connections) -> list[str]:
    """Return what is wrong with the store, a sentence each with what to do; empty when nothing is.

    Others may work meanwhile. It reads every row and every payload: minutes for a large store, during which a fork
    waits at most for the part that is looked at.
    """
    problems: list[str] = []
    for what, look in _PARTS:
        with connections.reading() as connection:
            problems += _look(connection, what, look)
    return problems + inspect_rows(connections, MOST)


def _look(connection: sqlite3.Connection, what: str, look: Callable[[sqlite3.Connection], Iterator[str]]) -> list[str]:
    """Return what one part finds; what cannot be read is a finding."""
    found: list[str] = []
    try:
        with tolerant_snapshot(connection):
            for problem in look(connection):
                found.append(problem)
                if len(found) >= MOST:
                    return [*found, f"{what}: there is more than these {MOST}; {_RESTORE}"]
    except (sqlite3.DatabaseError, MemoryError, ValueError, TypeError) as error:
        if isinstance(error, sqlite3.OperationalError) and not (is_about_data(error) or lacks_a_name(error)):
            raise
        found.append(f"{what} cannot be read: {error}; {_RESTORE}")
    return found


def _pages(connection: sqlite3.Connection) -> Iterator[str]:
    for (line,) in connection.execute(sql.INTEGRITY):
        if line != "ok":
            yield f"the database is damaged: {line!s:.300}; {_RESTORE}"


def _settings(connection: sqlite3.Connection) -> Iterator[str]:
    for key, held, wanted in stray_settings(connection):
        yield f"the setting {key} of the database is {held!r:.80} instead of {wanted!r}; open the store anew to set it"


def _schema(connection: sqlite3.Connection) -> Iterator[str]:
    row = connection.execute(sql.READ_META, ("schema",)).fetchone()
    if row != (sql.SCHEMA_VERSION,):
        yield f"the schema's version is {row!r:.80} instead of {sql.SCHEMA_VERSION}; {_UPGRADE}"
    with closing(sqlite3.connect(":memory:")) as fresh:
        for statement in sql.SCHEMA:
            fresh.execute(statement)
        wanted = _texts(fresh)
    held = _texts(connection)
    for name in sorted(wanted.keys() | held.keys()):
        if name not in held:
            yield f"{name} is missing from the database; {_UPGRADE}"
        elif name not in wanted:
            yield f"{name} in the database is none of this version; {_UPGRADE}"
        elif wanted[name] != held[name]:
            yield f"{name} in the database is defined otherwise: {held[name]!s:.200}; {_UPGRADE}"


def _texts(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the definitions, in the one spelling that a new and an upgraded store have in common."""
    return {
        name: "".join(str(text).replace('"', "").replace("IF NOT EXISTS", "").split())
        for name, text in connection.execute(sql.SCHEMA_TEXTS)
    }


def _counters(connection: sqlite3.Connection) -> Iterator[str]:
    row = connection.execute(sql.READ_META, ("next_seq",)).fetchone()
    (least,) = connection.execute(sql.LEAST_NEXT_SEQ, (LAST_SEQ,)).fetchone()
    if row is None or type(row[0]) is not int or not least <= row[0] <= LAST_SEQ:
        yield f"the counter of rows is {row!r:.80} and must be at least {least}; the next insert puts it right"
    for (queue,) in connection.execute(sql.ALL_QUEUES).fetchall():
        name, subscription, *counts = connection.execute(sql.READ_QUEUE, (queue,)).fetchone()
        right = right_counts(connection.execute(sql.COUNT_ROWS, (queue,)).fetchall(), counts)
        if counts != right:
            held, wanted = (dict(zip(COUNTERS, each, strict=True)) for each in (counts, right))
            yield f"the counters of queue {name!r:.80} are {held} and its rows are {wanted}; {_COUNTED}"
        if subscription is not None and not is_subscription(subscription):
            yield f"the hook registered for queue {name!r:.80} is {subscription!r:.80}; start a runtime that has it"
        has, flags = flags_of(connection, queue)
        if has != flags:
            yield f"queue {name!r:.80} has of pauses and limits {has}, and must have {flags}; {_COUNTED}"
    (strays,) = connection.execute(sql.STRAY_ROWS).fetchone()
    if strays:
        yield f"{strays} jobs are of no queue, and nobody will ever claim them; {_RESTORE}"


_COUNTED: Final = "they are counted anew when a transition meets what is wrong"


def _strays(connection: sqlite3.Connection) -> Iterator[str]:
    for (key,) in connection.execute(sql.STRAY_OVERFLOWS, (MOST,)):
        yield f"a large payload, header or result (key {key}) is of no job; it takes room and does no other harm"
    for (job,) in connection.execute(sql.STRAY_ATTEMPTS, (MOST,)):
        yield f"attempts are recorded of row {job!r:.40}, which is no job; they take room and do no other harm"


def _values(connection: sqlite3.Connection) -> Iterator[str]:
    for key, value, crc in connection.execute(sql.ALL_VALUES):
        if type(key) is not bytes or not _is_text(key):
            yield f"a value stands under {key!r:.80}, which is no key, and is found by none; it does no other harm"
        elif type(value) is not bytes or checksum(value) != crc:
            yield f"the value of key {key.decode()!r:.80} is not what was stored; put or delete it, or {_RESTORE}"


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def _schedules(connection: sqlite3.Connection) -> Iterator[str]:
    for name, damage in read_schedule.damaged(connection):
        yield f"the schedule {name!r:.80} is damaged and does not fire: {damage}; define it anew"


def _groups(connection: sqlite3.Connection) -> Iterator[str]:
    for number, name in connection.execute(sql.MISCOUNTED_GROUPS, (MOST,)):
        yield f"the counters of group {name!r:.140} (number {number}) are not those of its members; {_COUNTED}"
    for number, name, _ in connection.execute(sql.STUCK_GROUPS, (MOST,)):
        yield f"members of group {name!r:.140} (number {number}) are held, and nobody would move them; {_COUNTED}"
    for (job,) in connection.execute(sql.STRAY_MEMBERS, (MOST,)):
        yield f"row {job!r:.40} is a member of a group and no job; it takes room and does no other harm"


_PARTS: Final = (
    ("the database's pages", _pages),
    ("the database's settings", _settings),
    ("the schema", _schema),
    ("the counters", _counters),
    ("what has rows of its own", _strays),
    ("the values by key", _values),
    ("the schedules", _schedules),
    ("the groups", _groups),
)
