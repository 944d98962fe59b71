"""What is to be done for the limits of runs, read."""

from __future__ import annotations

from collections.abc import Callable

from taquba_workflow_sync.storage.port.timing import Moment
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection
from taquba_workflow_sync.storage.relational.transaction import DueClock


def has_late(connection: Connection, now: Callable[[], int], queue: str) -> bool:
    """Whether a claim from the queue would find something to be done."""
    (end,) = connection.execute(sql.NEXT_END, (queue,)).fetchone()
    return type(end) is int and end <= now()


def remaining_ms(now: Callable[[], int], boot_now: Callable[[], int], moment: Moment) -> int:
    """Return how far away a moment is, by its own clock."""
    return moment.ms - (boot_now() if moment.clock == DueClock.BOOT else now())


def is_stopped_for_deadline(connection: Connection, seq: int) -> bool:
    """Whether a claim that was asked to stop was so for its deadline alone."""
    return connection.execute(sql.IS_STOPPED_FOR_DEADLINE, (seq,)).fetchone() is not None
