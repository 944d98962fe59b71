"""One open write transaction: its time, its place counter, its counters, and what it will tell after the COMMIT."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple

from taquba_workflow_sync.clock import LAST_MS
from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.embedded.boot_clock import BootClock
from taquba_workflow_sync.storage.embedded.overflow import Overflow
from taquba_workflow_sync.storage.embedded.rows import Attempt, Held
from taquba_workflow_sync.storage.embedded.sqlite_errors import Culprit, blaming
from taquba_workflow_sync.storage.embedded.unreadable import Unreadable
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus
from taquba_workflow_sync.storage.port.texts import storable_error

FIRST_ATTEMPTS: Final = 100
_LAST_ATTEMPTS: Final = 1000
#: Where a status has its counter.
_COUNTER: Final[dict[str, int]] = {status: place for place, status in enumerate(Counts._fields)}


class DueClock(IntEnum):
    """The scale of a due time: see the index of what is due."""

    WALL = 0
    BOOT = 1


class Due(NamedTuple):
    """When a delayed job is due, as its row has it; ``run_at_ms`` is that moment by the wall clock as it stands."""

    clock: DueClock
    due_ms: int | None
    run_at_ms: int | None


_AT_ONCE: Final = Due(DueClock.WALL, None, None)


class Transaction:
    """The state of one write transaction. Leads to nothing unless :meth:`finish` ran and the COMMIT returned."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        now_ms: int,
        owner: str,
        boot_clock: BootClock,
        *,
        delays_by_boot_clock: bool,
        unreadable: Unreadable,
    ) -> None:
        self.connection = connection
        self.execute: Callable[..., sqlite3.Cursor] = connection.execute
        self.now_ms = now_ms
        self.owner = owner
        self.boot_ms: int = boot_clock.now_ms()
        self._delays_by_boot_clock = delays_by_boot_clock
        self.unreadable = unreadable
        self.transitions: set[str] = set()
        self.woken: set[str] = set()
        self.ended: set[str] = set()
        self.promoted: set[int] = set()
        #: The tokens of claims that may go on in this transaction.
        self.go_on: set[str] = set()
        self._queues: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._scheduled: dict[int, int] = {}
        self._subscriptions: dict[int, Subscription | None] = {}
        self._counts: dict[int, list[int]] = {}
        self._next_seq = 0
        self._first_seq = 0

    def due_after(self, delay_ms: int | None) -> Due:
        """Return when a delay that begins now is over: on the boot clock, so that no step of the wall moves it."""
        if delay_ms is None or delay_ms <= 0:
            return _AT_ONCE
        run_at_ms = min(self.now_ms + delay_ms, LAST_MS)  # what a datetime can show
        if self._delays_by_boot_clock:
            return Due(DueClock.BOOT, self.boot_ms + delay_ms, run_at_ms)
        return Due(DueClock.WALL, run_at_ms, run_at_ms)

    def find_queue(self, name: str) -> int | None:
        """Return a queue's number, or None if nothing was ever put there."""
        number = self._queues.get(name)
        if number is None:
            row = self.execute(sql.FIND_QUEUE, (name,)).fetchone()
            if row is None:
                return None
            number, *about = row
            self._learn(number, name, *about)
        return number

    def make_queue(self, name: str) -> int:
        """Return a queue's number, new if need be."""
        number = self.find_queue(name)
        if number is None:
            rowid = self.execute(sql.ADD_QUEUE, (name,)).lastrowid
            assert rowid is not None
            number = self._learn(rowid, name, None, 0)
        return number

    def queue_name(self, number: int) -> str:
        """Return the name of a queue."""
        if number not in self._names:
            name, *about = self.execute(sql.QUEUE_NAME, (number,)).fetchone()
            self._learn(number, name, *about)
        return self._names[number]

    def has_scheduled(self, number: int) -> bool:
        """Whether anything waited for its time in a queue when it was first asked for, by its counter."""
        self.queue_name(number)
        return self._scheduled[number] > 0

    def subscription(self, number: int) -> Subscription | None:
        """Return who is told of a queue's terminated runs."""
        self.queue_name(number)
        return self._subscriptions[number]

    def forget_queues(self) -> None:
        """Read every queue again when it is next asked for."""
        self._queues.clear()
        self._names.clear()
        self._subscriptions.clear()

    def forget_subscription(self, number: int) -> None:
        """Read again who is told, when that is next asked for."""
        self._names.pop(number, None)

    def _learn(self, number: int, name: str, subscription: str | None, scheduled: int) -> int:
        self._queues[name] = number
        self._names[number] = name
        self._scheduled[number] = scheduled
        self._subscriptions[number] = None if subscription is None else Subscription(**json.loads(subscription))
        return number

    def count(self, queue: int, status: str, change: int) -> None:
        """Move a queue's counter, in memory until :meth:`finish`."""
        counts = self._counts.get(queue)
        if counts is None:
            counts = self._counts[queue] = [0] * len(_COUNTER)
        counts[_COUNTER[status]] += change

    def move(self, queue: int, source: str, target: str, many: int = 1) -> None:
        """Count ``many`` jobs out of one status into another; what ends as done or cancelled is counted for ever."""
        self.count(queue, source, -many)
        self.count(queue, target, many)
        if target == JobStatus.PENDING or target == JobStatus.SCHEDULED:
            self.woken.add(self.queue_name(queue))

    def next_seq(self) -> int:
        """Take the next number of the store's one counter: a new row's own, and its place in line."""
        seq = self.peek_seq()
        self._next_seq += 1
        return seq

    def peek_seq(self) -> int:
        """Return what :meth:`next_seq` would, and take nothing: a refusal must not have the counter written."""
        if not self._next_seq:
            self._first_seq = self._next_seq = max(1, self.execute(sql.READ_META, ("next_seq",)).fetchone()[0])
        return self._next_seq

    def store_overflow(self, seq: int, kind: Overflow, data: bytes | str | None, before: int, after: int) -> None:
        """Have the row of its own that a row's ``overflow`` says (``before``, ``after``), or none."""
        bit = 1 << kind
        if after & bit:
            self.execute(sql.PUT_OVERFLOW, (seq * 4 + kind, data))
        elif before & bit:
            self.execute(sql.DROP_OVERFLOW, (seq * 4 + kind,))

    def get_overflow(self, seq: int, kind: Overflow) -> bytes | str | None:
        """Return what has a row of its own, or None if that row is gone or known to lie on a damaged page.

        One that is found to lie there fails the transaction: SQLite writes nothing more in it.
        """
        if self.unreadable.has_lost_overflow(seq):
            return None
        with blaming(Culprit(seq, is_overflow=True)):
            row = self.execute(sql.GET_OVERFLOW, (seq * 4 + kind,)).fetchone()
        return None if row is None else row[0]

    def drop_belongings(self, seq: int, overflow: int) -> None:
        """Delete what a deleted job has left: its history, and what has rows of its own."""
        self.execute(sql.DROP_ATTEMPTS, (seq,))
        if overflow:
            self.execute(sql.DROP_OVERFLOWS, (seq * 4, seq * 4 + 3))

    def record_attempt(self, held: Held, outcome: AttemptOutcome, error: str | None) -> None:
        """Add an ended claim to a job's history, which keeps the first 100 and the last 1,000."""
        self.execute(
            sql.ADD_ATTEMPT,
            Attempt(
                job=held.seq,
                ordinal=held.ordinal,
                step=held.step,
                attempt=held.attempts,
                claimed_ms=held.claimed_ms,
                ended_ms=self.now_ms,
                outcome=outcome,
                error=storable_error(error),
            ),
        )
        self.bound_history(held.seq, held.ordinal)

    def bound_history(self, seq: int, ordinal: int) -> None:
        """Drop the attempt that the newest one pushes out."""
        if ordinal > FIRST_ATTEMPTS + _LAST_ATTEMPTS:
            self.execute(sql.DROP_ATTEMPT, (seq, ordinal - _LAST_ATTEMPTS))

    def finish(self) -> None:
        """Write the counters; the caller commits next."""
        self.flush()

    def flush(self) -> None:
        """Write the counters so far, and begin new ones."""
        if self._next_seq != self._first_seq:
            self.execute(sql.WRITE_NEXT_SEQ, (self._next_seq,))
        self._next_seq = self._first_seq = 0
        for queue, counts in self._counts.items():
            if any(counts):
                self.execute(sql.ADD_COUNTS, (*counts, queue))
        self._counts.clear()
