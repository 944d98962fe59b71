"""Signals sent to runs, taken by their steps, cleared; and runs woken before their time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from taquba_workflow_sync.errors import InvalidStateError, RunNotFoundError
from taquba_workflow_sync.storage.port import signals as rules
from taquba_workflow_sync.storage.port.memo import size_of_entry
from taquba_workflow_sync.storage.port.signals import Cleared, NewSignal, SignalOutcome, check_room
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.wait import WaitKind
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import MEMBER, Belonging
from taquba_workflow_sync.storage.relational.rows import AddressedRow
from taquba_workflow_sync.storage.relational.signals import StoredWait, crc_of_signal
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import line, member, memo, wait
from taquba_workflow_sync.storage.relational.transitions.garbage import MOST_BYTES, MOST_ROWS, Kind, discard


class Mailbox(NamedTuple):
    """How many signals a row has, of how many bytes, and how many ids it remembers."""

    signals: int = 0
    bytes: int = 0
    ids: int = 0


_EMPTY = Mailbox()


def send(tx: Transaction, queue: str, run_id: str, signal: NewSignal) -> SignalOutcome:
    """Hand a signal to the newest run of a name.

    Raises:
        RunNotFoundError: there is no such run; nothing was written.
        InvalidStateError: it has ended; nothing was written.
        SignalBufferFullError: it has no room; nothing was written.
    """
    row = _address(tx, queue, run_id)
    if row is not None and _is_known(tx, row, signal):
        return SignalOutcome.DUPLICATE
    return _accept(tx, queue, _listening(tx, queue, run_id, row, ()), signal)


def is_duplicate(tx: Transaction, queue: str, run_id: str, signal: NewSignal) -> bool:
    """Whether the newest run of a name remembers a signal."""
    row = _address(tx, queue, run_id)
    return row is not None and _is_known(tx, row, signal)


def check(
    tx: Transaction,
    queue: str,
    run_id: str,
    signal: NewSignal,
    before: Sequence[NewSignal],
    ending: str | None,
    opens: Collection[str],
) -> None:
    """Look, without writing, whether a run takes a signal after those before; the job ``ending`` has ended by then, and
    the groups ``opens`` are open.

    Raises:
        RunNotFoundError, InvalidStateError, SignalBufferFullError: as for :func:`send`.
    """
    row = _listening(tx, queue, run_id, _address(tx, queue, run_id), opens)
    if row.id == ending:
        raise InvalidStateError(f"run {run_id!r} (job {row.id}) ends itself; nobody will ask for its signals")
    _check_room(tx, row, signal, before)


def _listening(
    tx: Transaction, queue: str, run_id: str, row: AddressedRow | None, opens: Collection[str]
) -> AddressedRow:
    if row is None or not _is_visible(tx, row) or _is_hidden(tx, row, opens):
        raise RunNotFoundError(f"queue {queue!r} has no run {run_id!r}")
    if row.finished_ms is not None:
        raise InvalidStateError(f"run {run_id!r} (job {row.id}) has ended; nobody will ask for its signals")
    return row


def _address(tx: Transaction, queue_name: str, run_id: str) -> AddressedRow | None:
    queue = tx.find_queue(queue_name)
    for statement in (sql.ADDRESS_ACTIVE, sql.ADDRESS_LAST) if queue is not None else ():
        found = tx.execute(statement, (queue, run_id)).fetchone()
        if found is not None:
            return AddressedRow._make(found)
    return None


def newest(tx: Transaction, queue: str, run_id: str) -> int | None:
    """Return the number of the newest row of a run's name."""
    row = _address(tx, queue, run_id)
    return None if row is None else row.seq


def _is_known(tx: Transaction, row: AddressedRow, signal: NewSignal) -> bool:
    if signal.id is None or not row.belongings & Belonging.SIGNALS:
        return False
    return tx.execute(sql.IS_ID_KNOWN, (row.seq, signal.id)).fetchone() is not None


def _is_visible(tx: Transaction, row: AddressedRow) -> bool:
    return row.finished_ms is None or tx.now_ms < row.finished_ms + (row.keep_done_ms or 0)


def _is_hidden(tx: Transaction, row: AddressedRow, opens: Collection[str]) -> bool:
    """Whether it is a member of a group that is not open, nor one of those that are being opened."""
    if not row.belongings & MEMBER or not member.is_hidden(tx, row.seq):
        return False
    group = member.group_of(tx, row.seq)
    return group is None or group.name is None or group.name.decode() not in opens


def _accept(tx: Transaction, queue: str, row: AddressedRow, signal: NewSignal) -> SignalOutcome:
    """Store a signal of a row that has not ended, and put the row in line if it waits for that.

    Raises:
        SignalBufferFullError: there is no room for it; nothing was written.
    """
    waits = _check_room(tx, row, signal, ())
    is_delivered = _is_waited_for(waits, signal)
    box = mailbox(tx, row.seq, row.belongings)
    size = _size_of(signal)
    tx.transitions.add("signal")
    values = (row.seq, signal.name, signal.id, signal.payload, crc_of_signal(row.seq, signal), tx.now_ms)
    number = tx.next_seq()
    tx.execute(sql.ADD_SIGNAL, (number, *values))
    ids = box.ids
    if signal.id is not None:
        tx.execute(sql.ADD_SIGNAL_ID, (row.seq, signal.id))
        ids += 1
        if ids > rules.MOST_IDS:
            tx.execute(sql.DROP_OLDEST_ID, (row.seq,))
            ids = rules.MOST_IDS
    tx.execute(sql.PUT_MAILBOX, (row.seq, box.signals + 1, box.bytes + size, ids))
    if not row.belongings & Belonging.SIGNALS:
        tx.execute(sql.OWN_BELONGINGS, (Belonging.SIGNALS, row.seq))
    is_damaged = waits is not None and waits.to_wait(row.seq) is None  # told by the claim that meets it
    if row.status == JobStatus.SCHEDULED and (is_delivered or is_damaged):
        _put_in_line(tx, row)
    if not is_delivered or is_damaged or waits is None:
        return SignalOutcome.BUFFERED
    wait.deliver(tx, row.seq, waits, number)
    return SignalOutcome.DELIVERED


def _check_room(
    tx: Transaction, row: AddressedRow, signal: NewSignal, before: Sequence[NewSignal]
) -> StoredWait | None:
    """Refuse a signal that is not waited for where there is no room after those before; returns what is waited for."""
    waits = wait.find(tx, row.seq, row.belongings)
    was_delivered = any(_is_waited_for(waits, each) for each in before)
    if was_delivered or not _is_waited_for(waits, signal):
        box = mailbox(tx, row.seq, row.belongings)
        is_of_signal = waits is not None and waits.kind == WaitKind.SIGNAL
        has_received = was_delivered or (waits is not None and is_of_signal and waits.signal is not None)
        used = box.bytes + memo.used_bytes(tx, row.seq, row.belongings) + sum(_size_of(each) for each in before)
        check_room(box.signals + len(before) - has_received, used, _size_of(signal))
    return waits


def _is_waited_for(waits: StoredWait | None, signal: NewSignal) -> bool:
    is_named = waits is not None and (waits.kind, waits.name) == (WaitKind.SIGNAL, signal.name)
    return waits is not None and is_named and waits.is_open and waits.signal is None


def _size_of(signal: NewSignal) -> int:
    return size_of_entry(signal.name.encode(), signal.payload)


def _put_in_line(tx: Transaction, row: AddressedRow) -> None:
    tx.execute(sql.WAKE, (row.seq,))
    tx.move(row.queue, JobStatus.SCHEDULED, JobStatus.PENDING)
    line.enter_early(tx, row)


def wake(tx: Transaction, job_id: str) -> bool:
    """Have what waits for a time be due now; whether it did, and not for anything else."""
    found = tx.execute(sql.ADDRESS_JOB, (job_id,)).fetchone()
    row = None if found is None else AddressedRow._make(found)
    if row is None or row.status != JobStatus.SCHEDULED:
        return False
    waits = wait.find(tx, row.seq, row.belongings)
    if waits is not None and waits.is_open:
        return False
    tx.transitions.add("wake")
    _put_in_line(tx, row)
    return True


def clear(tx: Transaction, job_id: str, name: str, go_on: int | None) -> Cleared:
    """Remove a piece of a row's signals of a name, of those at the first call, but for the received one."""
    found = tx.execute(sql.ADDRESS_JOB, (job_id,)).fetchone()
    row = None if found is None else AddressedRow._make(found)
    if row is None or not row.belongings & Belonging.SIGNALS:
        return Cleared(0, None)
    if go_on is None:
        (go_on,) = tx.execute(sql.LAST_SIGNAL, (row.seq, name)).fetchone()
    if go_on is None:
        return Cleared(0, None)
    waits = wait.find(tx, row.seq, row.belongings)
    spared = None if waits is None else waits.signal
    some = tx.execute(sql.SIGNALS_OF_NAME, (row.seq, name, go_on, spared or 0, MOST_ROWS)).fetchall()
    removed = size = 0
    for number, bytes_of_it in some:
        if size >= MOST_BYTES:
            break
        tx.execute(sql.DROP_SIGNAL, (number,))
        removed, size = removed + 1, size + bytes_of_it
    if removed:
        tx.transitions.add("clear_signals")
        _shrink(tx, row.seq, removed, size)
    return Cleared(removed, go_on if removed and (removed < len(some) or len(some) == MOST_ROWS) else None)


def mailbox(tx: Transaction, seq: int, belongings: int) -> Mailbox:
    """Return how much a row has."""
    found = tx.execute(sql.FIND_MAILBOX, (seq,)).fetchone() if belongings & Belonging.SIGNALS else None
    return _EMPTY if found is None else Mailbox._make(found)


def _shrink(tx: Transaction, seq: int, signals: int, size: int) -> None:
    """Note that signals are gone; a row that has none left and remembers no id is a plain one again."""
    box = mailbox(tx, seq, Belonging.SIGNALS)
    left = Mailbox(max(box.signals - signals, 0), max(box.bytes - size, 0), box.ids)
    # The counts may be wrong, of a damaged store: a signal that is there must be found.
    if left.signals or left.ids or _has_any(tx, seq):
        tx.execute(sql.PUT_MAILBOX, (seq, *left))
        return
    tx.execute(sql.DROP_MAILBOX, (seq,))
    tx.execute(sql.DISOWN_BELONGINGS, (Belonging.SIGNALS, seq))


def _has_any(tx: Transaction, seq: int) -> bool:
    return any(tx.execute(each, (seq,)).fetchone() is not None for each in (sql.ANY_SIGNAL, sql.ANY_SIGNAL_ID))


def end_wait(tx: Transaction, seq: int) -> None:
    """Forget what a step waited for, which has ended well, and use up the signal that it received.

    What was delivered and no claim has found is nobody's yet: it stays.
    """
    waited = wait.find(tx, seq, Belonging.WAIT)
    tx.execute(sql.DROP_WAIT, (seq,))
    if waited is None or waited.kind == WaitKind.GROUP or waited.signal is None or waited.is_open:
        return
    found = tx.execute(sql.SIZE_OF_SIGNAL, (waited.signal, seq)).fetchone()
    if found is not None:
        tx.execute(sql.DROP_SIGNAL, (waited.signal,))
        _shrink(tx, seq, 1, found[0])


def discard_all(tx: Transaction, seq: int) -> None:
    """Have the signals of a deleted row, and the ids that it remembered, go in pieces."""
    tx.execute(sql.DROP_MAILBOX, (seq,))
    discard(tx, Kind.SIGNAL, seq)
    discard(tx, Kind.SIGNAL_ID, seq)
