"""What is counted, read; and how long what waits in line has been ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from taquba_workflow_sync.storage.port.meter import MINUTE_MS, MINUTES, Meter, MinuteRow, Series
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import WAIT
from taquba_workflow_sync.storage.relational.connection import Connection

#: How far a look at a line goes: its first priorities, and what stands first in each.
_RANKS: Final = 64
_ROWS: Final = 20


def meters(connection: Connection) -> dict[Series, int]:
    """Return every series; what is damaged is left out."""
    return {
        series: value
        for *key, value in connection.execute(sql.METERS)
        if (series := _series(*key)) is not None and _is_count(value)
    }


def recent_minutes(connection: Connection, now: Callable[[], int]) -> list[MinuteRow]:
    """Return what was added in each of the last minutes."""
    minute_now = now() // MINUTE_MS
    return [
        MinuteRow(minute, series, value)
        for minute, *key, value in connection.execute(sql.RECENT_MINUTES, (max(minute_now - MINUTES, 0),))
        if type(minute) is int and (series := _series(*key)) is not None and _is_count(value)
    ]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _series(queue: object, label: object, meter: object, name: object) -> Series | None:
    """Return a series as it was stored, or None where that cannot be read."""
    if type(queue) is not bytes or type(label) is not bytes or meter not in tuple(Meter) or type(name) is not str:
        return None
    try:
        return Series(queue.decode(), label.decode(), Meter(str(meter)), name)
    except UnicodeDecodeError:
        return None


def ready_ages_ms(connection: Connection, now: Callable[[], int]) -> dict[str, int]:
    """Return for how long what is longest ready in each queue has been."""
    now_ms = now()
    ages: dict[str, int] = {}
    for queue, name in connection.execute(sql.WAITING_QUEUES).fetchall():
        since = [
            moment
            for (rank,) in connection.execute(sql.RANKS, (queue, queue, _RANKS)).fetchall()
            for row in connection.execute(sql.READY_SINCE, (queue, rank, _ROWS)).fetchall()
            if (moment := _ready_since(*row)) is not None
        ]
        if since and type(name) is str:
            ages[name] = max(now_ms - min(since), 0)
    return ages


def _ready_since(belongings: object, *moments: object) -> int | None:
    """Return since when a row could be claimed; None: nobody knows when what it waited for has come."""
    if type(belongings) is not int or belongings & WAIT:
        return None
    return max((moment for moment in moments if type(moment) is int), default=None)
