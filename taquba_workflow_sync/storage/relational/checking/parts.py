"""What a check looks at a part at a time, each part a moment of the store and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from taquba_workflow_sync.storage.port.tally import COUNTERS
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.checking.counts import flags_of, is_subscription, right_counts
from taquba_workflow_sync.storage.relational.checking.jobs import RESTORE
from taquba_workflow_sync.storage.relational.columns import LAST_SEQ
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.overflow import checksum
from taquba_workflow_sync.storage.relational.reading import schedule as read_schedule

#: The most sentences of one kind; the rest is counted.
MOST: Final = 100
#: Each may be as large as a payload.
_VALUES_AT_ONCE: Final = 20


def _counters(connection: Connection) -> Iterator[str]:
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
        yield f"{strays} jobs are of no queue, and nobody will ever claim them; {RESTORE}"


_COUNTED: Final = "they are counted anew when a transition meets what is wrong"


def _strays(connection: Connection) -> Iterator[str]:
    for (key,) in connection.execute(sql.STRAY_OVERFLOWS, (MOST,)):
        yield f"a large payload, header or result (key {key}) is of no job; it takes room and does no other harm"
    for (job,) in connection.execute(sql.STRAY_ATTEMPTS, (MOST,)):
        yield f"attempts are recorded of row {job!r:.40}, which is no job; they take room and do no other harm"


def _values(connection: Connection) -> Iterator[str]:
    after = 0
    while rows := connection.execute(sql.VALUES_AFTER, (after, _VALUES_AT_ONCE)).fetchall():
        for _, key, value, crc in rows:
            if type(key) is not bytes or not _is_text(key):
                yield f"a value stands under {key!r:.80}, which is no key, and is found by none; it does no other harm"
            elif type(value) is not bytes or checksum(value) != crc:
                yield f"the value of key {key.decode()!r:.80} is not what was stored; put or delete it, or {RESTORE}"
        number = rows[-1][0]
        if number <= after:
            yield f"the values after number {after} are out of order, those behind are not looked at; {RESTORE}"
            return
        after = number


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def _schedules(connection: Connection) -> Iterator[str]:
    for name, damage in read_schedule.damaged(connection):
        yield f"the schedule {name!r:.80} is damaged and does not fire: {damage}; define it anew"


def _groups(connection: Connection) -> Iterator[str]:
    for number, name in connection.execute(sql.MISCOUNTED_GROUPS, (MOST,)):
        yield f"the counters of group {name!r:.140} (number {number}) are not those of its members; {_COUNTED}"
    for number, name, _ in connection.execute(sql.STUCK_GROUPS, (MOST,)):
        yield f"members of group {name!r:.140} (number {number}) are held, and nobody would move them; {_COUNTED}"
    for (job,) in connection.execute(sql.STRAY_MEMBERS, (MOST,)):
        yield f"row {job!r:.40} is a member of a group and no job; it takes room and does no other harm"


#: What is looked at, and what finds what is wrong with it.
PARTS: Final[tuple[tuple[str, Callable[[Connection], Iterator[str]]], ...]] = (
    ("the counters", _counters),
    ("what has rows of its own", _strays),
    ("the values by key", _values),
    ("the schedules", _schedules),
    ("the groups", _groups),
)
