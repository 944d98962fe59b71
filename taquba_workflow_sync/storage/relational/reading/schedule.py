"""The schedules of queues, read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from taquba_workflow_sync.storage.port.schedule import (
    FAR_AHEAD_MS,
    DueSchedule,
    NextFiring,
    ScheduleKind,
    ScheduleRow,
    ScheduleView,
    Seen,
)
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.overflow import is_changed

Now = Callable[[], int]
#: Before every schedule.
_FIRST: Final = (-(2**63), -1)


def find(connection: Connection, now: Now, queue: str, name: str | None, after: str, limit: int) -> ScheduleView:
    """Return the schedule of a name, or a piece of the list by name."""
    if name is not None:
        found = connection.execute(sql.SHOW_SCHEDULE, (queue, name)).fetchall()
    else:
        found = connection.execute(sql.SHOW_SCHEDULES, (queue, after, limit)).fetchall()
    rows = (_shown(*row) for row in found)
    return ScheduleView([row for row in rows if type(row.name) is str], now())


def damaged(connection: Connection) -> Iterator[tuple[Any, str]]:
    """Return the names of the schedules that are not what was stored, and what of them is not."""
    for name, *rest in connection.execute(sql.ALL_SCHEDULES):
        damage = _shown(name, *rest).damage
        if type(name) is not str:
            damage = "its name is no text"
        if damage is not None:
            yield name, damage


def _shown(
    name: str,
    kind: Any,
    revision: Any,
    watermark_ms: Any,
    next_ms: Any,
    defined_ms: Any,
    paused: Any,
    last_run_id: Any,
    definition: Any,
    payload: Any,
    definition_crc: Any,
    payload_crc: Any,
) -> ScheduleRow:
    wrong = [
        f"its {what} is {value!r:.80}"
        for what, value in (("revision", revision), ("watermark", watermark_ms), ("time of definition", defined_ms))
        if type(value) is not int
    ]
    if kind not in tuple(ScheduleKind):
        wrong.append(f"its kind is {kind!r:.80}")
    if next_ms is not None and type(next_ms) is not int:
        wrong.append(f"its next time is {next_ms!r:.80}")
    if type(definition) is not str or is_changed(definition, definition_crc):
        wrong.append("its definition is not what was stored")
    if type(payload) is not bytes or is_changed(payload, payload_crc):
        wrong.append("the input of its runs is not what was stored")
    return ScheduleRow(
        name=name,
        kind=ScheduleKind.CRON if kind == ScheduleKind.CRON else ScheduleKind.EVERY,
        seen=Seen(revision, watermark_ms),
        next_ms=next_ms if type(next_ms) is int else None,
        defined_ms=defined_ms if type(defined_ms) is int else 0,
        is_paused=paused != 0,
        last_run_id=last_run_id if type(last_run_id) is str else None,
        definition="" if wrong else definition,
        payload=b"" if wrong else payload,
        damage="; ".join(wrong) or None,
    )


def next_firing(connection: Connection, now: Now, queue: str, kind: ScheduleKind) -> NextFiring | None:
    """Return whether any schedule of a kind is to be looked at, and in how long the next is due."""
    first, later, ahead = sql.NEXT_FIRING
    found = connection.execute(first, (queue, kind)).fetchone()
    if found is None:
        return None
    now_ms = now()
    (next_ms,) = found
    in_ms = None
    if type(next_ms) is int and next_ms <= now_ms:
        following = connection.execute(later, (queue, kind, now_ms)).fetchone()
        (later_ms,) = following or (None,)
        if type(later_ms) is int:
            in_ms = later_ms - now_ms
        return NextFiring(True, in_ms)
    if type(next_ms) is int:
        in_ms = next_ms - now_ms
    (watermark_ms,) = connection.execute(ahead, (queue, kind)).fetchone() or (None,)
    return NextFiring(type(watermark_ms) is int and watermark_ms > now_ms + FAR_AHEAD_MS, in_ms)


def due(
    connection: Connection, now: Now, queue: str, kind: ScheduleKind, after: DueSchedule | None, limit: int
) -> list[DueSchedule]:
    """Return what is due, and last what is far ahead of the clock."""
    now_ms = now()
    place = _FIRST if after is None else (after.next_ms, after.number)
    found = connection.execute(sql.DUE_SCHEDULES, (queue, kind, now_ms, *place, limit)).fetchall()
    if len(found) < limit:
        ahead = (queue, kind, now_ms + FAR_AHEAD_MS, limit - len(found))
        found += connection.execute(sql.SCHEDULES_AHEAD, ahead).fetchall()
    return [each for each in map(DueSchedule._make, found) if type(each.name) is str]
