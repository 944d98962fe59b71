"""Groups: written in pieces, opened in one commit, moved in pieces.

Who writes may die anywhere: the members written so far are held, which nobody sees, and the same call goes on behind
them. Who opens writes one row, whatever the group's size. What follows (held members into the line, those of a
cancelled group to their end) is noted in the group's row, and any claim of its queue does the next piece.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from taquba_workflow_sync.errors import ClaimLostError, GroupMismatchError, InvalidStateError
from taquba_workflow_sync.storage.port.group import (
    MEMBERS_A_PIECE,
    HeldBy,
    NewGroup,
    OnFailure,
    Progress,
    check_same,
)
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.storage.relational.rows import GroupState, Held, StoredGroup
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import child, line, member, timing
from taquba_workflow_sync.storage.relational.transitions.child import Parent
from taquba_workflow_sync.storage.relational.transitions.end import end
from taquba_workflow_sync.storage.relational.transitions.enqueue import write
from taquba_workflow_sync.storage.relational.transitions.fence import row_number
from taquba_workflow_sync.storage.relational.transitions.limit import check_waiting
from taquba_workflow_sync.storage.relational.transitions.stop import request_cancel

#: How many positions a piece of a retry looks at.
_LOOKS: int = 5_000


def write_members(
    tx: Transaction, new: NewGroup, position: int, members: Sequence[NewJob], writer: HeldBy | None
) -> Progress:
    """Write members from ``position`` on, where the group is written so far; returns how far it is.

    Raises:
        ClaimLostError: the writer's claim is not held any more.
        GroupMismatchError: the name is taken.
        QueueFullError: a program submits it, and the queue, or a key of these members, has no room for them.
    """
    parent = None if writer is None else _parent(tx, writer)
    group = member.find(tx, new.name)
    if group is not None:
        check_same(new, group.fingerprint)
        if group.state == GroupState.OPEN:
            return Progress(group.total, True)
        if group.parent != (None if parent is None else parent.seq):
            raise GroupMismatchError(f"group id {new.name!r} is taken by a group that another run or program writes")
    written = 0 if group is None else group.written
    if position != written:
        return Progress(written, False)
    queue = tx.find_queue(new.queue)
    taken = None if queue is None else _taken(tx, queue, members)
    if taken is not None:
        if group is not None:
            discard(tx, group.id)
        return Progress(0, False, taken)
    if queue is not None and tx.queue(queue).limited:
        _check_waiting(tx, queue, new, members)
    if tx.take_name is not None:
        for job in members:
            if job.run is not None and job.run.run_id != job.id:
                tx.take_name(new.queue, job.run.run_id)
    tx.transitions.add("write_group")
    number = _add(tx, new, parent) if group is None else group.id
    owned = Belonging.MEMBER if parent is None else Belonging.MEMBER | Belonging.CHILD
    for place, job in enumerate(members, position):
        seq = write(tx, job, is_held=True, owned=owned)
        tx.execute(sql.ADD_MEMBER, (seq, number, place))
        if parent is not None:
            child.adopt(tx, parent, seq)
    tx.execute(sql.GROW_GROUP, (written + len(members), tx.owner, number))
    return Progress(written + len(members), False)


def _check_waiting(tx: Transaction, queue: int, new: NewGroup, members: Sequence[NewJob]) -> None:
    for key, many in Counter(job.limit_key for job in members if job.is_bounded).items():
        check_waiting(tx, queue, new.queue, key, new.total - 1, many - 1)


def _parent(tx: Transaction, writer: HeldBy) -> Parent:
    seq = row_number(writer.token)
    found = tx.execute(sql.FENCED_GROUP, (seq, writer.job_id, writer.token)).fetchone()
    if found is None:
        raise ClaimLostError(f"the claim of job {writer.job_id} is not held any more; no group was written")
    return Parent(seq, *found)


def _add(tx: Transaction, new: NewGroup, parent: Parent | None) -> int:
    number, queue = tx.next_seq(), tx.make_queue(new.queue)
    cancels = new.on_failure is OnFailure.CANCEL
    of_parent = None if parent is None else parent.seq
    values = (number, new.name, queue, new.total, cancels, new.fingerprint, of_parent, new.keep_ms or 0)
    tx.execute(sql.ADD_GROUP, values)
    if parent is not None:
        child.count(tx, parent, 0)
    return number


def _taken(tx: Transaction, queue: int, members: Sequence[NewJob]) -> str | None:
    """Return the name of a member that an active or kept run has."""
    names = json.dumps([job.run.run_id for job in members if job.run is not None])
    for seq, run_id, finished_ms, keep_ms, belongings in tx.execute(sql.NAMES_THERE, (names, queue)).fetchall():
        is_member = belongings & Belonging.MEMBER
        if finished_ms is None or tx.now_ms < finished_ms + (keep_ms or 0) or (is_member and member.is_kept(tx, seq)):
            return str(run_id)
    return None


def check_opening(tx: Transaction, name: str, fingerprint: bytes) -> StoredGroup:
    """Return a group that can be opened, or is open already; writes nothing.

    Raises:
        GroupMismatchError: there is no such group, or it lacks members.
    """
    group = member.find(tx, name)
    if group is None or group.fingerprint != fingerprint:
        raise GroupMismatchError(f"group {name!r} is not there as it was written; submit it again")
    if group.state == GroupState.WRITING and group.written != group.total:
        raise GroupMismatchError(f"group {name!r} has {group.written} of its {group.total} members; submit it again")
    return group


def open_group(tx: Transaction, group: StoredGroup) -> None:
    """Have a group, which :func:`check_opening` has let through, be there for everyone; nothing if it is."""
    if group.state == GroupState.OPEN:
        return
    tx.transitions.add("open_group")
    tx.execute(sql.OPEN_GROUP, (group.id,))
    if group.parent is not None:
        tx.execute(sql.COUNT_CHILDREN, (group.total, group.parent))
    # A member whose row was damaged has failed before the group is there for anyone.
    if group.has_ended:
        member.end_group(tx, group)
        return
    tx.count(group.queue, JobStatus.PENDING, group.total - group.ended)
    member.set_work(tx, group, True)
    if group.wakes:
        member.request_cancel(tx, group._replace(state=GroupState.OPEN))


def work(tx: Transaction, queue: int) -> None:
    """Move some members of the first group of a queue that has any to be moved."""
    found = tx.execute(sql.GROUP_TO_WORK_ON, (queue,)).fetchone()
    if found is None:  # the counter was damaged
        tx.execute(sql.FORGET_WORK, (queue,))
        tx.forget_queue(queue)
    else:
        _move_some(tx, StoredGroup._make(found))


def _move_some(tx: Transaction, group: StoredGroup) -> bool:
    """Move a piece; whether more is left."""
    if group.cancel_requested:
        begin, column = group.stopped, sql.SET_STOPPED
        _cancel_some(tx, group)
    else:
        begin, column = group.released, sql.SET_RELEASED
        _release_some(tx, group)
    after = begin + MEMBERS_A_PIECE
    tx.execute(column, (after, group.id))
    if after < group.last:
        return True
    member.set_work(tx, group, False)
    return False


def _release_some(tx: Transaction, group: StoredGroup) -> None:
    """Have held members enter the line, each at its place, or wait for their own time."""
    tx.transitions.add("release_members")
    begin = group.released
    found = tx.execute(sql.RELEASE_MEMBERS, (tx.now_ms, tx.now_ms, group.id, begin, begin + MEMBERS_A_PIECE)).fetchall()
    later = sum(status == JobStatus.SCHEDULED for _, status, _ in found)
    if later:
        tx.move(group.queue, JobStatus.PENDING, JobStatus.SCHEDULED, later)
    if tx.queue(group.queue).limited:
        line.entered(tx, group.queue, [(seq, key) for seq, status, key in found if status == JobStatus.PENDING])
    if tx.queue(group.queue).timed:
        tx.execute(sql.TIME_MEMBERS, (group.id, begin, begin + MEMBERS_A_PIECE))


def _cancel_some(tx: Transaction, group: StoredGroup) -> None:
    begin = group.stopped
    for held in map(Held._make, tx.execute(sql.MEMBERS_HELD, (group.id, begin, begin + MEMBERS_A_PIECE)).fetchall()):
        if held.status == JobStatus.CLAIMED:
            if not held.cancel_requested or timing.is_asked_for_deadline(tx, held):
                request_cancel(tx, held)
        elif held.status in (JobStatus.PENDING, JobStatus.SCHEDULED):
            end(tx, held, JobStatus.CANCELLED, None)


def cancel_group(tx: Transaction, name: str) -> bool | None:
    """Have a group cancelled, and some of its members end; whether more are left."""
    group = _open(tx, name)
    if group is None:
        return None
    member.request_cancel(tx, group)
    group = _open(tx, name)
    assert group is not None
    return bool(group.work) and _move_some(tx, group)


def failed_members(tx: Transaction, name: str, position: int) -> tuple[StoredGroup, list[str], int | None] | None:
    """Return some members that have failed, and the position of the next piece; writes nothing.

    Raises:
        InvalidStateError: the group is being cancelled.
    """
    group = _open(tx, name)
    if group is None:
        return None
    if group.cancel_requested and not group.has_ended:
        raise InvalidStateError(f"group {name!r} is being cancelled; wait for its end first")
    if not group.failed:
        return group, [], None
    end = position + _LOOKS
    found = tx.execute(sql.MEMBERS_FAILED, (group.id, position, end, MEMBERS_A_PIECE)).fetchall()
    after = int(found[-1][1]) + 1 if len(found) == MEMBERS_A_PIECE else end
    return group, [job_id for job_id, _ in found], after if after < group.last else None


def forget(tx: Transaction, name: str) -> bool:
    """Free the name of a group that has ended.

    Raises:
        InvalidStateError: it has not ended.
    """
    group = _open(tx, name)
    if group is None:
        return False
    if not group.has_ended:
        raise InvalidStateError(
            f"group {name!r} has open members; wait for its end, or cancel it, before it is forgotten"
        )
    tx.transitions.add("forget_group")
    tx.execute(sql.FORGET_GROUP, (group.id,))
    return True


def discard(tx: Transaction, number: int) -> None:
    """Have a group be there for nobody; its members go in pieces, by the sweep."""
    tx.transitions.add("discard_group")
    tx.execute(sql.DISCARD_GROUP, (number,))


def _open(tx: Transaction, name: str) -> StoredGroup | None:
    group = member.find(tx, name)
    return group if group is not None and group.state == GroupState.OPEN else None
