"""One open write transaction: its time, its place counter, its counters, and what it will tell after the COMMIT."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple

from taquba_workflow_sync.clock import LAST_MS, SteadyClock
from taquba_workflow_sync.storage.decisions import clip_error
from taquba_workflow_sync.storage.embedded import sql
from taquba_workflow_sync.storage.records import AttemptOutcome, JobStatus, Observer

WIDE_BYTES: Final = 2048
FIRST_ATTEMPTS: Final = 100
_LAST_ATTEMPTS: Final = 1000
_COLUMN: Final = {
    JobStatus.PENDING: 0,
    JobStatus.SCHEDULED: 1,
    JobStatus.CLAIMED: 2,
    JobStatus.DONE: 3,
    JobStatus.DEAD: 4,
    JobStatus.CANCELLED: 5,
}


class Part(IntEnum):
    """The columns that move to a row of their own when they are large; the value is the low bits of its key."""

    PAYLOAD = 0
    HEADERS = 1
    RESULT = 2


class DueClock(IntEnum):
    """The scale of a due time: see the index of what is due."""

    WALL = 0
    STEADY = 1


class Due(NamedTuple):
    """When a delayed job is due, as its row has it; ``run_at_ms`` is that moment by the wall clock as it stands."""

    clock: DueClock
    due_ms: int | None
    run_at_ms: int | None


_AT_ONCE: Final = Due(DueClock.WALL, None, None)


def _size(data: bytes | str) -> int:
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())


class Transaction:
    """The state of one write transaction. Leads to nothing unless :meth:`finish` ran and the COMMIT returned."""

    def __init__(
        self, connection: sqlite3.Connection, now_ms: int, owner: str, steady: SteadyClock, *, delays_are_steady: bool
    ) -> None:
        self.connection = connection
        self.execute: Callable[..., sqlite3.Cursor] = connection.execute
        self.now_ms = now_ms
        self.owner = owner
        self.steady_ms: int = steady.now_ms()
        self._delays_are_steady = delays_are_steady
        self.transitions: set[str] = set()
        self.woken: set[str] = set()
        self.ended_run = False
        self._queues: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._observers: dict[int, Observer | None] = {}
        self._counts: dict[int, list[int]] = {}
        self._next_seq = 0
        self._first_seq = 0

    # -- time --------------------------------------------------------------------------------------------------

    def due_after(self, delay_ms: int | None) -> Due:
        """Return when a delay that begins now is over: on the steady clock, so that no step of the wall moves it."""
        if delay_ms is None or delay_ms <= 0:
            return _AT_ONCE
        run_at_ms = min(self.now_ms + delay_ms, LAST_MS)  # what a datetime can show
        if self._delays_are_steady:
            return Due(DueClock.STEADY, self.steady_ms + delay_ms, run_at_ms)
        return Due(DueClock.WALL, run_at_ms, run_at_ms)

    # -- queues and counters -----------------------------------------------------------------------------------

    def find_queue(self, name: str) -> int | None:
        """Return a queue's number, or None if nothing was ever put there."""
        number = self._queues.get(name)
        if number is None:
            row = self.execute(sql.FIND_QUEUE, (name,)).fetchone()
            if row is None:
                return None
            number = self._learn(row[0], name, row[1])
        return number

    def make_queue(self, name: str) -> int:
        """Return a queue's number, new if need be."""
        number = self.find_queue(name)
        if number is None:
            rowid = self.execute(sql.ADD_QUEUE, (name,)).lastrowid
            assert rowid is not None
            number = self._learn(rowid, name, None)
        return number

    def queue_name(self, number: int) -> str:
        """Return the name of a queue."""
        if number not in self._names:
            name, observer = self.execute(sql.QUEUE_NAME, (number,)).fetchone()
            self._learn(number, name, observer)
        return self._names[number]

    def observer(self, number: int) -> Observer | None:
        """Return who is told of a queue's terminated runs."""
        self.queue_name(number)
        return self._observers[number]

    def forget_queues(self) -> None:
        """Read every queue again when it is next asked for."""
        self._queues.clear()
        self._names.clear()
        self._observers.clear()

    def forget_observer(self, number: int) -> None:
        """Read the observer again when it is next asked for."""
        self._names.pop(number, None)

    def _learn(self, number: int, name: str, observer: str | None) -> int:
        self._queues[name] = number
        self._names[number] = name
        self._observers[number] = None if observer is None else Observer(**json.loads(observer))
        return number

    def count(self, queue: int, status: str, change: int) -> None:
        """Move a queue's counter, in memory until :meth:`finish`."""
        counts = self._counts.get(queue)
        if counts is None:
            counts = self._counts[queue] = [0, 0, 0, 0, 0, 0]
        counts[_COLUMN[status]] += change  # type: ignore[index]  # a StrEnum's values are keys like its members

    def move(self, queue: int, source: str, target: str, many: int = 1) -> None:
        """Count ``many`` jobs out of one status into another; what ends as done or cancelled is counted for ever."""
        self.count(queue, source, -many)
        self.count(queue, target, many)
        if target == JobStatus.PENDING or target == JobStatus.SCHEDULED:
            self.woken.add(self.queue_name(queue))

    # -- the place in line -------------------------------------------------------------------------------------

    def next_seq(self) -> int:
        """Return the next number of the store's one counter: a new row's own, and its place in line."""
        if not self._next_seq:
            self._first_seq = self._next_seq = max(1, self.execute(sql.READ_META, ("next_seq",)).fetchone()[0])
        self._next_seq += 1
        return self._next_seq - 1

    # -- parts and history -------------------------------------------------------------------------------------

    def put_part(self, seq: int, kind: Part, data: bytes | str | None, wide: int) -> tuple[bytes | str | None, int]:
        """Return what goes into the column (None if the part went into a row of its own), and the new ``wide``."""
        bit = 1 << kind
        if data is not None and _size(data) > WIDE_BYTES:
            self.execute(sql.PUT_PART, (seq * 4 + kind, data))
            return None, wide | bit
        if wide & bit:
            self.execute(sql.DROP_PART, (seq * 4 + kind,))
        return data, wide & ~bit

    def get_part(self, seq: int, kind: Part) -> bytes | str | None:
        """Return a part that has a row of its own, or None if that row is gone."""
        row = self.execute(sql.GET_PART, (seq * 4 + kind,)).fetchone()
        return None if row is None else row[0]

    def drop_row(self, seq: int, wide: int) -> None:
        """Delete a job with its parts and its history."""
        self.execute(sql.DROP_ATTEMPTS, (seq,))
        if wide:
            self.execute(sql.DROP_PARTS, (seq * 4, seq * 4 + 3))
        self.execute(sql.DELETE_JOB, (seq,))

    def record_attempt(
        self,
        seq: int,
        ordinal: int,
        step: int,
        attempt: int,
        claimed_ms: int,
        outcome: AttemptOutcome,
        error: str | None,
    ) -> None:
        """Add an ended claim to a job's history, which keeps the first 100 and the last 1,000."""
        self.execute(
            sql.ADD_ATTEMPT, (seq, ordinal, step, attempt, claimed_ms, self.now_ms, outcome, clip_error(error))
        )
        self.bound_history(seq, ordinal)

    def bound_history(self, seq: int, ordinal: int) -> None:
        """Drop the attempt that the newest one pushes out."""
        if ordinal > FIRST_ATTEMPTS + _LAST_ATTEMPTS:
            self.execute(sql.DROP_ATTEMPT, (seq, ordinal - _LAST_ATTEMPTS))

    # -- the end -----------------------------------------------------------------------------------------------

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
