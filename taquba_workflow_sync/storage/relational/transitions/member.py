"""What the end of a member, and of who waits, does to a group: in the commit in which it comes."""

from __future__ import annotations

from taquba_workflow_sync.errors import InvalidStateError, JobNotFoundError
from taquba_workflow_sync.outcome import TerminalStatus
from taquba_workflow_sync.storage.port.group import END_OF_GROUP
from taquba_workflow_sync.storage.port.retention import SHORTEST_RETENTION_MS
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import MEMBER
from taquba_workflow_sync.storage.relational.rows import GroupState, Held, StoredGroup
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import timing
from taquba_workflow_sync.storage.relational.transitions.wait import deliver_group


def find(tx: Transaction, name: str) -> StoredGroup | None:
    """Return a group by its name."""
    return _made(tx.execute(sql.FIND_GROUP, (name,)).fetchone())


def group_of(tx: Transaction, seq: int) -> StoredGroup | None:
    """Return the group that a row is a member of."""
    return _made(tx.execute(sql.GROUP_OF_MEMBER, (seq,)).fetchone())


def by_number(tx: Transaction, number: int) -> StoredGroup:
    """Return a group that is there."""
    group = _made(tx.execute(sql.GROUP_BY_NUMBER, (number,)).fetchone())
    assert group is not None
    return group


def _made(found: tuple[object, ...] | None) -> StoredGroup | None:
    return None if found is None else StoredGroup._make(found)


def is_asked_to_stop(tx: Transaction, held: Held) -> bool:
    """Whether the cancellation of a row, or of its group, was requested: not for its deadline alone."""
    if held.cancel_requested and not timing.is_asked_for_deadline(tx, held):
        return True
    return is_group_cancelled(tx, held.seq, held.belongings)


def is_group_cancelled(tx: Transaction, seq: int, belongings: int) -> bool:
    """Whether a row is a member of a group that is being cancelled: some of its members may not know yet."""
    if not belongings & MEMBER:
        return False
    group = group_of(tx, seq)
    return group is not None and group.state == GroupState.OPEN and bool(group.cancel_requested)


def ended(tx: Transaction, seq: int, status: TerminalStatus) -> None:
    """Count the end of a member; the last one, or a failure that is enough, wakes who waits.

    Of a group that is not open yet, none ends but by quarantine: that is counted, and looked at when it is opened.
    """
    group = group_of(tx, seq)
    if group is None or group.state == GroupState.GONE:
        return
    tx.execute(sql.COUNT_MEMBER[status], (group.id,))
    group = by_number(tx, group.id)
    if group.ended > group.total:  # the counters were damaged
        group = recount(tx, group.id)
    if group.state != GroupState.OPEN:
        return
    if group.has_ended:
        end_group(tx, group)
    elif group.wakes and status is TerminalStatus.FAILED:
        request_cancel(tx, group)
        if group.waiter is not None:
            deliver_group(tx, group.waiter, group.id)


def recount(tx: Transaction, number: int) -> StoredGroup:
    """Count a group's members anew; returns it as it is then. One that has not ended is not noted as ended."""
    tx.execute(sql.RECOUNT_GROUP, (number,))
    group = by_number(tx, number)
    if group.state == GroupState.OPEN and not group.has_ended and group.ended_ms is not None:
        tx.execute(sql.UNEND_GROUP, (number,))
        group = group._replace(ended_ms=None)
    return group


def end_group(tx: Transaction, group: StoredGroup) -> None:
    """Note the end of a group whose last member has ended, and wake who waits."""
    expires_ms = None
    if group.waiter is None:
        expires_ms = tx.now_ms + max(group.keep_ms, SHORTEST_RETENTION_MS)
    tx.execute(sql.END_GROUP, (tx.now_ms, expires_ms, group.id))
    set_work(tx, group, False)
    if group.waiter is not None:
        deliver_group(tx, group.waiter, group.id)
    if group.name is not None:
        tx.ended.add(END_OF_GROUP + group.name.decode(errors="replace"))


def request_cancel(tx: Transaction, group: StoredGroup) -> None:
    """Have a group's members end as cancelled: in pieces, and at their next claim."""
    if group.cancel_requested or group.has_ended or group.state != GroupState.OPEN:
        return
    tx.transitions.add("cancel_group")
    tx.execute(sql.REQUEST_GROUP_CANCEL, (group.id,))
    set_work(tx, group, True)


def cancel_awaited(tx: Transaction, seq: int) -> None:
    """Cancel the group that a row waits for which ends while it waits."""
    group = _made(tx.execute(sql.GROUP_OF_WAITER, (seq,)).fetchone())
    if group is not None:
        request_cancel(tx, group)


def set_work(tx: Transaction, group: StoredGroup, is_wanted: bool) -> None:
    """Have claims of the queue move members of the group, or have them not."""
    if tx.execute(sql.BEGIN_WORK if is_wanted else sql.END_WORK, (group.id,)).rowcount != 1:
        return
    tx.execute(sql.COUNT_WORK, (1 if is_wanted else -1, group.queue))
    tx.forget_queue(group.queue)
    if is_wanted:
        tx.woken.add(tx.queue_name(group.queue))


def check_may_go_on(tx: Transaction, seq: int, job_id: str) -> StoredGroup | None:
    """Return the group of a failed member that is to be put back in line; writes nothing.

    Raises:
        InvalidStateError: the group is being cancelled.
        JobNotFoundError: it is being removed.
    """
    group = group_of(tx, seq)
    if group is None:
        return None
    if group.state != GroupState.OPEN:
        raise JobNotFoundError(f"job {job_id} is a member of a group that is not open, or past its retention")
    if group.cancel_requested and not group.has_ended:
        raise InvalidStateError(f"job {job_id} is a member of a group that is being cancelled; wait for its end first")
    return group


def goes_on(tx: Transaction, group: StoredGroup) -> None:
    """Note that a failed member was put back in line; a wait that was delivered stays so."""
    tx.execute(sql.REOPEN_GROUP, (group.id,))
    if not group.failed:  # the counters were damaged
        recount(tx, group.id)


def is_kept(tx: Transaction, seq: int) -> bool:
    """Whether a finished member is still shown: its retention counts from the end of its group."""
    return tx.execute(sql.MEMBER_IS_KEPT, (seq, SHORTEST_RETENTION_MS, tx.now_ms)).fetchone() is not None


def is_hidden(tx: Transaction, seq: int) -> bool:
    """Whether a row is a member of a group that is not open."""
    return tx.execute(sql.IS_HIDDEN, (seq, seq)).fetchone() is not None
