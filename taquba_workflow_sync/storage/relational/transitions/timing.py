"""The limits of a run as its row moves: what is noted of them, and what has passed."""

from __future__ import annotations

from typing import Final, NamedTuple

from taquba_workflow_sync.storage.port.timing import Ends, Late, TimeLimits, after_retry, ends_of, late_at
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import TIMING
from taquba_workflow_sync.storage.relational.rows import Held
from taquba_workflow_sync.storage.relational.transaction import Transaction


class StoredTiming(NamedTuple):
    """A run's limits, as they are stored."""

    deadline_ms: int | None
    expires_ms: int | None
    deadline_after_ms: int | None
    is_late: int | None

    @property
    def ends(self) -> Ends:
        """When it ends."""
        return Ends(self.deadline_ms, self.expires_ms)


_NONE: Final = StoredTiming(None, None, None, None)


def add(
    tx: Transaction, seq: int, queue: int, limits: TimeLimits, run_at_ms: int | None, *, is_held: bool = False
) -> None:
    """Write the limits of a run that is put in; nobody looks after one that is held, until its group is open."""
    ends = ends_of(limits, tx.now_ms, run_at_ms)
    first_ms = None if is_held else ends.first_ms
    tx.execute(sql.ADD_TIMING, (seq, queue, ends.deadline_ms, limits.deadline_after_ms, ends.expires_ms, first_ms))
    count(tx, queue, 1)


def count(tx: Transaction, queue: int, change: int) -> None:
    """Count the active runs of a queue that have an end."""
    tx.execute(sql.COUNT_TIMED, (change, queue))
    tx.forget_queue(queue)


def find(tx: Transaction, seq: int, belongings: int) -> StoredTiming:
    """Return a row's limits."""
    if not belongings & TIMING:
        return _NONE
    found = tx.execute(sql.FIND_TIMING, (seq,)).fetchone()
    return _NONE if found is None else StoredTiming._make(found)


def late(tx: Transaction, held: Held) -> Late | None:
    """Return the deadline that a claimed run has passed; a requested cancellation goes before it."""
    if not held.belongings & TIMING:
        return None
    stored = find(tx, held.seq, held.belongings)
    if held.cancel_requested and not stored.is_late:
        return None
    return late_at(tx.now_ms, stored.ends._replace(expires_ms=None))


def is_asked_for_deadline(tx: Transaction, held: Held) -> bool:
    """Whether a claim that was asked to stop was so for its deadline alone."""
    return bool(held.cancel_requested and find(tx, held.seq, held.belongings).is_late)


def stop(tx: Transaction, seq: int, *, is_late: bool) -> None:
    """Note that nothing is to be done any more until the claim ends; ``is_late``: it was asked to for its deadline."""
    tx.execute(sql.STOP_TIMING, (is_late, seq))


def begin_claim(tx: Transaction, seq: int, belongings: int) -> Ends:
    """Note that a row is claimed; returns its limits, of which the second counts only where it has not started."""
    ends = find(tx, seq, belongings).ends
    if ends.expires_ms is not None:
        tx.execute(sql.HOLD_TIMING, (seq,))
    return ends


def wait(tx: Transaction, held: Held, *, has_started: bool = True) -> None:
    """Note that a claim has ended, or its step has, and its run goes on."""
    if held.belongings & TIMING:
        tx.execute(sql.WAIT_TIMING if has_started else sql.RELEASE_TIMING, (held.seq,))


def end(tx: Transaction, held: Held) -> None:
    """Note that a run has ended; what a retry needs stays."""
    if held.belongings & TIMING:
        stop(tx, held.seq, is_late=False)
        count(tx, held.queue, -1)


def retry(tx: Transaction, seq: int, queue: int, belongings: int) -> None:
    """Begin a span anew, and drop a date."""
    if belongings & TIMING:
        stored = find(tx, seq, belongings)
        ends = after_retry(tx.now_ms, stored.ends, stored.deadline_after_ms)
        tx.execute(sql.RENEW_TIMING, (ends.deadline_ms, ends.first_ms, seq))
        count(tx, queue, 1)


def drop(tx: Transaction, seq: int) -> None:
    """Delete the limits of a row that is deleted."""
    tx.execute(sql.DROP_TIMING, (seq,))
