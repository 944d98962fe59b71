"""What a claim could do next: now, or in how long."""

from __future__ import annotations

from collections.abc import Callable

from taquba_workflow_sync.storage.port.reads import DueIn, NextWork, Ready
from taquba_workflow_sync.storage.port.wait import NEVER_MS
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.limiting import CLOSED
from taquba_workflow_sync.storage.relational.reading.limit import closed_for, refill_waits
from taquba_workflow_sync.storage.relational.rows import QueueRow
from taquba_workflow_sync.storage.relational.transaction import DueClock
from taquba_workflow_sync.storage.relational.unreadable import Unreadable


def next_work(
    connection: Connection,
    now: Callable[[], int],
    boot_now: Callable[[], int],
    unreadable: Unreadable,
    queue: str,
    *,
    boot: int = 0,
    retries_only: bool = False,
) -> NextWork:
    """Return whether a claim could succeed now, or in how long; ``boot`` as for :func:`closed_for`."""
    found = connection.execute(sql.FIND_QUEUE, (queue,)).fetchone()
    if found is None:
        return None
    this = QueueRow._make(found)
    is_pending = not retries_only and (
        bool(this.groups)  # members are to be put in line, by whoever claims
        or connection.execute(unreadable.pass_over(sql.IS_PENDING), (queue,)).fetchone() is not None
    )
    closed_ms: int | None = 0
    if this.paused in CLOSED or this.limited:
        closed_ms = closed_for(connection, this, boot, now(), boot_now())
    if is_pending and closed_ms == 0:
        return Ready()
    next_due = unreadable.pass_over(sql.NEXT_RETRY if retries_only else sql.NEXT_DUE)
    (by_wall,) = connection.execute(next_due, (queue, DueClock.WALL)).fetchone()
    (by_boot,) = connection.execute(next_due, (queue, DueClock.BOOT)).fetchone()
    (end,) = (None,) if retries_only else connection.execute(sql.NEXT_END, (queue,)).fetchone()
    (bare,) = (
        (None,) if retries_only else connection.execute(unreadable.pass_over(sql.NEXT_BARE_EXPIRY), (queue,)).fetchone()
    )
    now_ms, boot_ms = now(), boot_now()
    waits = [at - now_ms for at in (by_wall, bare) if type(at) is int and at < NEVER_MS]
    waits += [at - boot_ms for at in (by_boot,) if type(at) is int]
    if not retries_only:
        waits += refill_waits(connection, this, now_ms, boot_ms)
    if is_pending and closed_ms is not None:
        waits.append(closed_ms)
    if waits and closed_ms != 0:
        # What is due enters its line then, for whoever may claim it later.
        waits = [max(min(waits), closed_ms or 0)]
    if type(end) is int:
        waits.append(end - now_ms)  # a run whose time is over ends whatever may be claimed
    if not waits:
        return None
    if closed_ms != 0:
        return DueIn(max(min(waits), 0))
    return DueIn(min(waits)) if min(waits) > 0 else Ready()
