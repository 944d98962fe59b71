"""One change of the state in the making: its time, its owner, and what will be told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from taquba_workflow_sync.clock import LAST_MS
from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.port.claim import TakenBack
from taquba_workflow_sync.storage.port.event import Worker
from taquba_workflow_sync.storage.port.job import AttemptRow
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus
from taquba_workflow_sync.storage.port.texts import storable_error
from taquba_workflow_sync.storage.port.trace import storable_trace
from tests.storage.memory.state import QueueRecord, Row, State

_FIRST_ATTEMPTS: Final = 100
_LAST_ATTEMPTS: Final = 1_000


class Transaction:
    """A copy of the state that a change works on, read at one moment of the store's clock."""

    def __init__(self, state: State, now_ms: int, owner: str) -> None:
        self.state = state.copy()
        self.now_ms = now_ms
        self.owner = owner
        self.woken: set[str] = set()
        self.ended: set[str] = set()
        #: What claims take back, where anybody asks for that.
        self.taken_back: list[TakenBack] | None = None

    def next_number(self) -> int:
        """Return the next number of the one counter: for a new row, and for a place in line."""
        self.state.last_number += 1
        return self.state.last_number

    def put(self, row: Row) -> None:
        """Store a row, and remember whom that concerns."""
        self.state.rows[row.id] = row
        self.state.queues.setdefault(row.queue, QueueRecord())
        if row.is_waiting:
            self.woken.add(row.queue)

    def drop(self, row: Row) -> None:
        """Remove a row."""
        del self.state.rows[row.id]

    def note_taken_back(self, row: Row, status: JobStatus, why: str) -> None:
        """Note what has become of a row, if the claim that met it is to tell."""
        if self.taken_back is not None:
            label = row.given.label
            where = row.id, row.run_id, row.queue, row.step, row.attempts, row.max_attempts
            self.taken_back.append(TakenBack(*where, label, status, why))

    def count_end(self, queue: str, status: JobStatus) -> None:
        """Count what ended as done or cancelled, for ever."""
        record = self.state.queues[queue]
        match status:
            case JobStatus.DONE:
                self.state.queues[queue] = replace(record, done=record.done + 1)
            case JobStatus.CANCELLED:
                self.state.queues[queue] = replace(record, cancelled=record.cancelled + 1)

    def due_after(self, delay_ms: int | None) -> int | None:
        """Return when a delay that begins now is over; None: it waits for nothing."""
        return min(self.now_ms + delay_ms, LAST_MS) if delay_ms is not None and delay_ms > 0 else None

    def with_attempt(self, row: Row, outcome: AttemptOutcome, error: str | None, trace: str | None = None) -> Row:
        """Return the row with its claim in its history, which keeps the first 100 and the last 1,000."""
        if row.claimed_ms is None:
            raise StorageError(f"job {row.id} is {row.status} and was never claimed")
        ended = AttemptRow(
            row.ordinal, row.step, row.attempts, row.claimed_ms, self.now_ms, outcome, storable_error(error)
        )
        history = (*row.history, ended)
        if len(history) > _FIRST_ATTEMPTS + _LAST_ATTEMPTS:
            history = history[:_FIRST_ATTEMPTS] + history[-_LAST_ATTEMPTS:]
        by = {} if row.held is None or row.held.owner is None else {row.ordinal: worker_of(row.held.owner)}
        if trace:
            row = replace(row, traces={**row.traces, row.ordinal: storable_trace(trace)})
        kept = {attempt.ordinal for attempt in history}
        traces = {ordinal: each for ordinal, each in row.traces.items() if ordinal in kept}
        return replace(row, history=history, workers={**row.workers, **by}, traces=traces)


def worker_of(owner: str) -> Worker:
    """Return the process that an owner is a handle of."""
    return Worker("here", int(owner.partition("-")[0]))
