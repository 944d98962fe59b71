"""Signals of a row, in their order; what it waits for; and rows woken before their time."""

from __future__ import annotations

from dataclasses import replace

from taquba_workflow_sync.errors import InvalidStateError, RunNotFoundError
from taquba_workflow_sync.storage.port import signals as rules
from taquba_workflow_sync.storage.port.memo import size_of_entry
from taquba_workflow_sync.storage.port.signals import Cleared, NewSignal, SignalOutcome, StoredSignal, check_room
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.wait import WaitKind
from tests.storage.memory.jobs import newest_of_run
from tests.storage.memory.limiting import enter_early
from tests.storage.memory.state import Row, State
from tests.storage.memory.transaction import Transaction
from tests.storage.memory.waits import in_line, is_open, received


def used_bytes(row: Row) -> int:
    """Return how many bytes the memos and signals of a row have."""
    pairs = [*row.step_memo, *row.run_memo, *((signal.name, signal.payload) for _, signal in row.signals)]
    return sum(size_of_entry(name.encode(), data) for name, data in pairs)


def send(tx: Transaction, queue: str, run_id: str, signal: NewSignal) -> SignalOutcome:
    """Hand a signal to the newest run of a name."""
    row = newest_of_run(tx, queue, run_id)
    if row is not None and signal.id in row.signal_ids:
        return SignalOutcome.DUPLICATE
    if row is None or not row.is_visible(tx.now_ms):
        raise RunNotFoundError(f"queue {queue!r} has no run {run_id!r}")
    if row.finished_ms is not None:
        raise InvalidStateError(f"run {run_id!r} has ended")
    waits_for = None if row.waiting is None or row.waiting.ordinal is not None else row.waiting.wait
    taken = received(row)
    is_delivered = waits_for is not None and waits_for[:2] == (WaitKind.SIGNAL, signal.name) and taken is None
    if not is_delivered:
        size = size_of_entry(signal.name.encode(), signal.payload)
        check_room(len(row.signals) - (taken is not None), used_bytes(row), size)
    stored = StoredSignal(signal.name, bytes(signal.payload), tx.now_ms, signal.id)
    row = replace(row, signals=(*row.signals, (tx.next_number(), stored)))
    if signal.id is not None:
        row = replace(row, signal_ids=(*row.signal_ids, signal.id)[-rules.MOST_IDS :])
    if is_delivered:
        enter_early(tx, in_line(row))
        return SignalOutcome.DELIVERED
    tx.state.rows[row.id] = row
    return SignalOutcome.BUFFERED


def signals(state: State, job_id: str) -> list[StoredSignal]:
    """Return what a row has not used up."""
    row = state.rows.get(job_id)
    return [] if row is None else [signal for _, signal in row.signals]


def clear(tx: Transaction, job_id: str, name: str) -> Cleared:
    """Remove the signals of a name, but for the received one."""
    row = tx.state.rows.get(job_id)
    if row is None:
        return Cleared(0, None)
    spared = received(row)
    left = tuple((number, signal) for number, signal in row.signals if signal.name != name or number == spared)
    if len(left) < len(row.signals):
        tx.state.rows[row.id] = replace(row, signals=left)
    return Cleared(len(row.signals) - len(left), None)


def wake(tx: Transaction, job_id: str) -> bool:
    """Have what waits for a time be due now."""
    row = tx.state.rows.get(job_id)
    if row is None or row.status is not JobStatus.SCHEDULED or is_open(row):
        return False
    enter_early(tx, in_line(row))
    return True
