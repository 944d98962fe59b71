"""What a row waits for: begun with the step before, ended by the claim that follows, which fixes how."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from taquba_workflow_sync.errors import GroupNotFoundError, InvalidStateError, StorageError
from taquba_workflow_sync.storage.port.retention import SHORTEST_RETENTION_MS
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.wait import NEVER_MS, Wait, WaitEnd, WaitKind
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.data_errors import Culprit, blaming
from taquba_workflow_sync.storage.relational.rows import AddressedRow, GroupState, StoredGroup
from taquba_workflow_sync.storage.relational.signals import StoredWait, stored_signal, stored_wait
from taquba_workflow_sync.storage.relational.transaction import Due, DueClock, Transaction
from taquba_workflow_sync.storage.relational.transitions import line

_NEVER: Final = Due(DueClock.WALL, NEVER_MS, None)


def find(tx: Transaction, seq: int, belongings: int) -> StoredWait | None:
    """Return what a row waits for, or waited for before its current step."""
    if not belongings & Belonging.WAIT:
        return None
    row = tx.execute(sql.FIND_WAIT, (seq,)).fetchone()
    return None if row is None else stored_wait(row)


def is_sound(tx: Transaction, seq: int) -> bool:
    """Whether a row waits for something, or has, and that is what was stored."""
    stored = find(tx, seq, Belonging.WAIT)
    return stored is not None and stored.to_wait(seq) is not None


def _write(tx: Transaction, seq: int, wait: StoredWait) -> None:
    tx.execute(sql.PUT_WAIT, (seq, *wait[:-1], wait.right_crc(seq)))


def look(tx: Transaction, seq: int, belongings: int, wait: Wait, opens: Collection[str] = ()) -> tuple[Due, StoredWait]:
    """Return when a row that is to wait is due: at once where what it waits for is there; and what to note of that.

    Nothing is written. ``opens``: groups that the settlement opens.

    Raises:
        GroupNotFoundError: it would wait for a group that there is none of.
        InvalidStateError: another run waits for that group.
    """
    number = None
    if wait.kind is WaitKind.GROUP:
        group = _awaited(tx, seq, wait.name, opens)
        number = group.id if group.wakes else None
    elif belongings & Belonging.SIGNALS:
        before = find(tx, seq, belongings)
        # What the step before received goes with it; it is the first of its name.
        is_same = before is not None and (before.kind, before.name) == (wait.kind, wait.name)
        after = (before.signal or 0) if before is not None and is_same else 0
        row = tx.execute(sql.FIRST_SIGNAL, (seq, wait.name, after)).fetchone()
        number = None if row is None else int(row[0])
    return _due(tx, wait.timeout_ms, is_there=number is not None), StoredWait(*wait, None, number, None)


def _awaited(tx: Transaction, seq: int, name: str, opens: Collection[str]) -> StoredGroup:
    found = tx.execute(sql.FIND_GROUP, (name,)).fetchone()
    group = None if found is None else StoredGroup._make(found)
    if group is None or (group.state != GroupState.OPEN and name not in opens):
        raise GroupNotFoundError(f"there is no group {name!r} to wait for; submit it first")
    if group.waiter not in (None, seq):
        raise InvalidStateError(f"group {name!r} is awaited by another run; only one can wait for a group")
    return group


def _due(tx: Transaction, timeout_ms: int | None, *, is_there: bool) -> Due:
    if is_there:
        return tx.due_after(None)
    return _NEVER if timeout_ms is None else tx.due_after(timeout_ms)


def due_again(tx: Transaction, seq: int, belongings: int) -> Due | None:
    """Return when a row that ended while it waited is due once it is put back, its timeout begun anew.

    None: it did not wait, or a claim had fixed how that ended.
    """
    stored = find(tx, seq, belongings)
    if stored is None or not stored.is_open or stored.to_wait(seq) is None:
        return None
    is_there = stored.signal is not None
    if stored.kind == WaitKind.GROUP and not is_there:
        group = _group_of(tx, seq)
        is_there = group is None or group.wakes  # none will wake it any more
    return _due(tx, stored.timeout_ms, is_there=is_there)


def _group_of(tx: Transaction, seq: int) -> StoredGroup | None:
    """Return the group that a row waits for, or has received."""
    found = tx.execute(sql.GROUP_OF_WAITER, (seq,)).fetchone()
    return None if found is None else StoredGroup._make(found)


def begin(tx: Transaction, seq: int, wait: StoredWait) -> None:
    """Note what a row waits for; what it waited for before is over."""
    _write(tx, seq, wait)
    if wait.kind == WaitKind.GROUP:
        tx.execute(sql.SET_WAITER, (seq, wait.name))


def deliver(tx: Transaction, seq: int, wait: StoredWait, number: int) -> None:
    """Note which signal the next claim will find, or that its group has ended."""
    _write(tx, seq, wait._replace(signal=number))


def deliver_group(tx: Transaction, seq: int, group: int) -> None:
    """scheduled -> pending: the group that a row waits for is there; nothing if its wait has ended before."""
    stored = find(tx, seq, Belonging.WAIT)
    if stored is None or not stored.is_open:
        return
    if stored.to_wait(seq) is not None:  # what is damaged is told by the claim that meets it
        if stored.kind != WaitKind.GROUP or stored.signal is not None:
            return
        deliver(tx, seq, stored, group)
    for row in map(AddressedRow._make, tx.execute(sql.WAKE_WAITER, (seq,)).fetchall()):
        tx.transitions.add("deliver_group")
        tx.move(row.queue, JobStatus.SCHEDULED, JobStatus.PENDING)
        line.enter_early(tx, row)


def end(tx: Transaction, seq: int, job_id: str) -> WaitEnd:
    """Return how the wait before a step has ended, which the first claim of the step fixes.

    Raises:
        StorageError: what is stored of it is damaged.
    """
    if tx.unreadable.has_lost_overflow(seq):
        raise StorageError("what its step waited for lies on a damaged page of the database")
    with blaming(Culprit(seq, is_overflow=True)):
        return _end(tx, seq, job_id)


def _end(tx: Transaction, seq: int, job_id: str) -> WaitEnd:
    stored = find(tx, seq, Belonging.WAIT)
    wait = None if stored is None else stored.to_wait(seq)
    if stored is None or wait is None:
        raise StorageError(f"what the step of job {job_id} waited for is not what was stored; restore a backup")
    signal, has_come = None, False
    if wait.kind is WaitKind.GROUP:
        if stored.is_open and stored.signal is None:
            group = _group_of(tx, seq)
            stored = stored._replace(signal=group.id if group is not None and group.wakes else None)
        is_found = has_come = stored.signal is not None
    else:
        if stored.signal is not None:
            found = tx.execute(sql.GET_SIGNAL, (stored.signal, seq)).fetchone()
            signal = None if found is None else stored_signal(job_id, seq, found)
        is_found = signal is not None
    if not is_found and (stored.signal is not None or wait.timeout_ms is None):
        raise StorageError(f"the {wait.kind} {wait.name!r:.80} that woke job {job_id} is not stored any more")
    if stored.is_open:
        (ordinal,) = tx.execute(sql.ORDINAL_OF, (seq,)).fetchone()
        _write(tx, seq, stored._replace(ordinal=ordinal))
    return WaitEnd(wait, signal, has_come=has_come)


def reopen(tx: Transaction, seq: int, belongings: int, ordinal: int) -> None:
    """Have a wait be open again, if it was the claim of that ordinal that fixed how it ended."""
    stored = find(tx, seq, belongings)
    if stored is not None and stored.ordinal == ordinal and stored.to_wait(seq) is not None:
        _write(tx, seq, stored._replace(ordinal=None))


def leave_group(tx: Transaction, seq: int) -> None:
    """Note that a row waits for no group any more: the retention of one that has ended begins with that."""
    tx.execute(sql.LEAVE_GROUP, (tx.now_ms, SHORTEST_RETENTION_MS, seq))
