"""Limits read: those of a queue, the one that a key is under, and whether a queue lets anything be claimed."""

from __future__ import annotations

from taquba_workflow_sync.storage.port.limit import Limit
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.limiting import CLOSED, OWN, PAUSED, limit_at, limit_in, window_at
from taquba_workflow_sync.storage.relational.rows import QueueRow
from taquba_workflow_sync.storage.relational.transaction import DueClock


def limits(connection: Connection, queue: str) -> list[Limit]:
    """Return a queue's limits: its own, then by pattern."""
    found = connection.execute(sql.FIND_QUEUE, (queue,)).fetchone()
    if found is None:
        return []
    return [limit_in(row) for row in connection.execute(sql.LIMITS, (QueueRow._make(found).id,)).fetchall()]


def is_paused(connection: Connection, queue: str) -> bool:
    """Whether a queue is paused."""
    found = connection.execute(sql.FIND_QUEUE, (queue,)).fetchone()
    return found is not None and QueueRow._make(found).paused in PAUSED


def closed_for(connection: Connection, queue: QueueRow, boot: int, now_ms: int, boot_ms: int) -> int | None:
    """Return for how many milliseconds nothing can be claimed from a queue; 0: it can; None: no time tells."""
    if queue.paused in CLOSED:
        return None
    limit = limit_at(connection, queue.id, OWN) if queue.limited else None
    if limit is None:
        return 0
    if limit.concurrency is not None and type(queue.claimed) is int and queue.claimed >= limit.concurrency:
        (claims,) = connection.execute(sql.COUNT_CLAIMED, (queue.id, limit.concurrency)).fetchone()
        if claims >= limit.concurrency:
            return None
    if limit.rate is None:
        return 0
    found = connection.execute(sql.FIND_RATE, (queue.id, OWN)).fetchone()
    if found is None:
        return 0
    window = window_at(boot, now_ms, boot_ms, limit.rate)
    (claims,) = connection.execute(sql.COUNT_IN_WINDOW, (found[0], *window)).fetchone()
    if claims < limit.rate.most:
        return 0
    oldest = connection.execute(sql.IN_WINDOW, (found[0], *window, claims - limit.rate.most)).fetchone()
    if oldest is None:
        return 0
    of_boot, at_ms, wall_ms = oldest
    _, since, _, since_by_wall, _ = window
    left = at_ms - since if of_boot == boot else wall_ms - since_by_wall
    return max(int(left), 0)


def refill_waits(connection: Connection, queue: QueueRow, now_ms: int, boot_ms: int) -> list[int]:
    """Return in how many milliseconds rates of keys have room again, or limits are to be seen to."""
    if not queue.limited:
        return []
    (by_wall,) = connection.execute(sql.NEXT_REFILL, (queue.id, DueClock.WALL)).fetchone()
    (by_boot,) = connection.execute(sql.NEXT_REFILL, (queue.id, DueClock.BOOT)).fetchone()
    waits = [at - now_ms for at in (by_wall,) if type(at) is int]
    waits += [at - boot_ms for at in (by_boot,) if type(at) is int]
    if connection.execute(sql.FIRST_UNSETTLED, (queue.id,)).fetchone() is not None:
        waits.append(0)
    return waits
