"""One open write transaction: its time, its place counter, its counters, and what it will tell after the COMMIT."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol

from taquba_workflow_sync.clock import LAST_MS
from taquba_workflow_sync.storage.port.claim import TakenBack
from taquba_workflow_sync.storage.port.limit import Limit
from taquba_workflow_sync.storage.port.meter import Series
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus
from taquba_workflow_sync.storage.port.tally import COUNTERS, has_succeeded, special_count_of
from taquba_workflow_sync.storage.port.texts import storable_error
from taquba_workflow_sync.storage.port.timing import Moment
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.connection import Connection, Cursor
from taquba_workflow_sync.storage.relational.data_errors import Culprit, blaming
from taquba_workflow_sync.storage.relational.outsiders import TakeName
from taquba_workflow_sync.storage.relational.overflow import Overflow
from taquba_workflow_sync.storage.relational.rows import Attempt, Held, QueueRow
from taquba_workflow_sync.storage.relational.unreadable import Unreadable

FIRST_ATTEMPTS: Final = 100
LAST_ATTEMPTS: Final = 1000
#: Where a counter stands; that of a status is called as the status.
_COUNTER: Final[dict[str, int]] = {name: place for place, name in enumerate(COUNTERS)}


class DueClock(IntEnum):
    """The scale of a due time: see the index of what is due."""

    WALL = 0
    BOOT = 1


class Due(NamedTuple):
    """When a delayed job is due, as its row has it; ``run_at_ms`` is that moment by the wall clock as it stands."""

    clock: DueClock
    due_ms: int | None
    run_at_ms: int | None


def _whole(value: object) -> int:
    """Return a counter, whatever stands there: what is damaged is counted anew by a repair."""
    return value if type(value) is int else 0


_NO_COUNTS: Final = [0] * len(_COUNTER)
_AT_ONCE: Final = Due(DueClock.WALL, None, None)


class Boots(Protocol):
    """The clock of this boot of the machine; ``boot`` 0: there is none that delays could go by."""

    @property
    def boot(self) -> int:
        """What tells this start of the machine from all others."""
        ...

    def now_ms(self) -> int:
        """Return the milliseconds since it."""
        ...


class Transaction:
    """The state of one write transaction. Leads to nothing unless :meth:`finish` ran and the COMMIT returned."""

    def __init__(
        self,
        connection: Connection,
        now_ms: int,
        owner: str,
        boot_clock: Boots,
        *,
        delays_by_boot_clock: bool,
        unreadable: Unreadable,
        owner_number: int | None = None,
    ) -> None:
        self.connection = connection
        self.execute: Callable[..., Cursor] = connection.execute
        self.now_ms = now_ms
        self.owner = owner
        #: Under which the history has it; None until it has claimed.
        self.owner_number: int | None = owner_number
        self.boot_ms: int = boot_clock.now_ms()
        #: Which start of the machine ``boot_ms`` counts from; 0: the wall clock is the only one.
        self.boot: int = boot_clock.boot if delays_by_boot_clock else 0
        self._delays_by_boot_clock = delays_by_boot_clock
        self.unreadable = unreadable
        #: Asked for each name of a new run, where programs may take names in transactions of their own.
        self.take_name: TakeName | None = None
        self.transitions: set[str] = set()
        self.woken: set[str] = set()
        self.ended: set[str] = set()
        self.promoted: set[int] = set()
        self.looked_for_late: set[int] = set()
        #: The tokens of claims that may go on in this transaction.
        self.go_on: set[str] = set()
        #: How full the memos are that this transaction has written to, by claim and memo.
        self.memos: dict[tuple[str, str], Any] = {}
        #: What is to be written before the counters are, by whoever has noted it.
        self.before_flush: list[Callable[[], None]] = []
        #: What claims take back, where anybody asks for that.
        self.taken_back: list[TakenBack] | None = None
        #: What is counted of it for those who watch.
        self.metered: dict[Series, int] = {}
        #: The limits that were looked up, of keys and ('') of queues; and those whose refills are to be looked at.
        self.limits: dict[tuple[int, str], Limit | None] = {}
        self.rates: set[tuple[int, str]] = set()
        self._line_clock: int | None = None
        self._parked: dict[int, int] = {}
        self._freed: set[int] = set()
        self._queues: dict[str, int] = {}
        self._about: dict[int, QueueRow] = {}
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

    def moment_after(self, delay_ms: int | None) -> Moment | None:
        """Return when a span that begins now is over, by the clock that delays go by."""
        if delay_ms is None:
            return None
        if self._delays_by_boot_clock:
            return Moment(DueClock.BOOT, self.boot_ms + delay_ms)
        return Moment(DueClock.WALL, self.now_ms + delay_ms)

    @staticmethod
    def wall_moment(ms: int | None) -> Moment | None:
        """Return a stored time as a moment."""
        return None if ms is None else Moment(DueClock.WALL, ms)

    def find_queue(self, name: str) -> int | None:
        """Return a queue's number, or None if nothing was ever put there."""
        number = self._queues.get(name)
        if number is None:
            row = self.execute(sql.FIND_QUEUE, (name,)).fetchone()
            if row is None:
                return None
            number = self.learn(QueueRow._make(row))
        return number

    def make_queue(self, name: str) -> int:
        """Return a queue's number, new if need be."""
        number = self.find_queue(name)
        if number is None:
            rowid = self.execute(sql.ADD_QUEUE, (name,)).lastrowid
            assert rowid is not None
            number = self.learn(QueueRow(rowid, name, None, 0, 0, 0, 0, 0, 0, 0, 0))
        return number

    def queue(self, number: int) -> QueueRow:
        """Return a queue as it was when this transaction first asked for it."""
        about = self._about.get(number)
        if about is None:
            about = QueueRow._make(self.execute(sql.QUEUE_OF, (number,)).fetchone())
            self.learn(about)
        return about

    @property
    def queue_names(self) -> Collection[str]:
        """The queues that this transaction knows."""
        return self._queues.keys()

    def queue_name(self, number: int) -> str:
        """Return the name of a queue."""
        return self.queue(number).name

    def has_scheduled(self, number: int) -> bool:
        """Whether anything waited for its time in a queue when it was first asked for, by its counter."""
        return self.queue(number).scheduled > 0

    def subscription(self, number: int) -> Subscription | None:
        """Return who is told of a queue's terminated runs."""
        self.queue(number)
        return self._subscriptions[number]

    def pending_now(self, number: int) -> int:
        """Return how many rows of a queue are pending, by its counter and what this transaction has moved."""
        return _whole(self.queue(number).pending) + self._counts.get(number, _NO_COUNTS)[_COUNTER[JobStatus.PENDING]]

    def claimed_now(self, number: int) -> int:
        """Return how many rows of a queue are claimed."""
        return _whole(self.queue(number).claimed) + self._counts.get(number, _NO_COUNTS)[_COUNTER[JobStatus.CLAIMED]]

    def count_parked(self, number: int, change: int) -> None:
        """Move the counter of a queue's pending rows that stand in no line."""
        self._parked[number] = self._parked.get(number, 0) + change

    def line_clock(self) -> int:
        """Return the time by which priorities age: the wall clock's, but it never goes back."""
        if self._line_clock is None:
            row = self.execute(sql.LINE_CLOCK).fetchone()
            stored = row[0] if row is not None and type(row[0]) is int and row[0] <= LAST_MS else 0
            self._line_clock = max(self.now_ms, stored)
            if self._line_clock != stored:
                self.execute(sql.WRITE_META, ("line_clock", self._line_clock))
        return self._line_clock

    def forget_queues(self) -> None:
        """Read every queue again when it is next asked for."""
        self._queues.clear()
        self._about.clear()
        self._subscriptions.clear()

    def forget_queue(self, number: int) -> None:
        """Read a queue again when it is next asked for: what is registered of it has changed."""
        self._about.pop(number, None)

    def learn(self, about: QueueRow) -> int:
        """Take a queue as it was read; returns its number."""
        number, subscription = about.id, about.subscription
        self._queues[about.name] = number
        self._about[number] = about
        self._subscriptions[number] = None if subscription is None else Subscription(**json.loads(subscription))
        return number

    def count(self, queue: int, status: str, change: int) -> None:
        """Move a queue's counter, in memory until :meth:`finish`."""
        counts = self._counts.get(queue)
        if counts is None:
            counts = self._counts[queue] = [0] * len(_COUNTER)
        counts[_COUNTER[status]] += change
        if change < 0 and status == JobStatus.CLAIMED:
            self._freed.add(queue)

    def move(self, queue: int, source: str, target: str, many: int = 1) -> None:
        """Count ``many`` jobs out of one status into another; what ends as done or cancelled is counted for ever."""
        self.count(queue, source, -many)
        self.count(queue, target, many)
        if target == JobStatus.PENDING or target == JobStatus.SCHEDULED:
            self.woken.add(self.queue_name(queue))

    def move_row(self, held: Held, target: str, *, verdict: str | None = None) -> None:
        """Count a row out of its status into another, a run by what it shows, too."""
        self.move(held.queue, held.status, target)
        self.count_special(held.queue, held.status, held.run_id, held.cancel_requested, None, -1)
        self.count_special(held.queue, target, held.run_id, held.cancel_requested, verdict, 1)

    def count_special(
        self, queue: int, status: str, run_id: object, cancel_requested: object, verdict: object, change: int
    ) -> None:
        """Count what a row is beside its status, if it is anything: see :func:`special_count_of`."""
        name = special_count_of(
            status,
            is_run=run_id is not None,
            is_cancelling=cancel_requested != 0,
            has_succeeded=has_succeeded(verdict),
        )
        if name is not None:
            self.count(queue, name, change)

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
        """Have the row of its own that a row's ``belongings`` says (``before``, ``after``), or none."""
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

    def drop_belongings(self, seq: int, belongings: int) -> None:
        """Delete what a deleted job has left: its history, and what has rows of its own."""
        self.execute(sql.DROP_ATTEMPTS, (seq,))
        if belongings:
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
                owner=self._number_of(held.owner),
            ),
        )
        self.bound_history(held.seq, held.ordinal)

    @property
    def holder(self) -> tuple[str | None, int | None]:
        """What the histories written in bulk take: this handle's name and number, or neither."""
        return (None, None) if self.owner_number is None else (self.owner, self.owner_number)

    def _number_of(self, owner: str | None) -> int | None:
        if not owner:
            return None  # a bare claim is nobody's
        if owner == self.owner and self.owner_number is not None:
            return self.owner_number
        row = self.execute(sql.OWNER_NUMBER, (owner,)).fetchone()
        return None if row is None else row[0]

    def bound_history(self, seq: int, ordinal: int) -> None:
        """Drop the attempt that the newest one pushes out."""
        if ordinal > FIRST_ATTEMPTS + LAST_ATTEMPTS:
            self.execute(sql.DROP_ATTEMPT, (seq, ordinal - LAST_ATTEMPTS))

    def finish(self) -> None:
        """Write the counters; the caller commits next."""
        for queue in self._freed:
            about = self._about.get(queue) or self.queue(queue)
            if about.limited:
                self.woken.add(about.name)  # a claim less may be room for another
        self.flush()

    def flush(self) -> None:
        """Write the counters so far, and begin new ones."""
        if self.before_flush:
            for write in self.before_flush:
                write()
            self.before_flush.clear()
        if self._parked:
            for queue, change in self._parked.items():
                if change:
                    self.execute(sql.ADD_PARKED, (change, queue))
            self._parked.clear()
        if self._next_seq != self._first_seq:
            self.execute(sql.WRITE_NEXT_SEQ, (self._next_seq,))
        self._next_seq = self._first_seq = 0
        for queue, counts in self._counts.items():
            if any(counts):
                self.execute(sql.ADD_COUNTS, (*counts, queue))
        self._counts.clear()
