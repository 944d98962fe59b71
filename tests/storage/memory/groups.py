"""Groups: held members until all are there, counters that move with each end, and who waits for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from taquba_workflow_sync.errors import (
    ClaimLostError,
    GroupMismatchError,
    GroupNotFoundError,
    InputMismatchError,
    InvalidStateError,
    JobNotFoundError,
)
from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.port.group import (
    END_OF_GROUP,
    MEMBERS_A_PIECE,
    GroupRow,
    HeldBy,
    MemberPage,
    NewGroup,
    OnFailure,
    Progress,
    check_same,
)
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.limit import check_room
from taquba_workflow_sync.storage.port.retention import SHORTEST_RETENTION_MS
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.wait import Wait, WaitEnd, WaitKind
from tests.storage.memory import reads
from tests.storage.memory.limiting import enter_early, enter_line, limit_of
from tests.storage.memory.state import GroupRecord, QueueRecord, Row, State
from tests.storage.memory.transaction import Transaction
from tests.storage.memory.waits import begun, fixed, is_open


def members_of(state: State, name: str) -> list[Row]:
    """Return the members of a group in the order of submission."""
    return sorted((row for row in state.rows.values() if row.group == name), key=lambda row: row.position)


def _has_ended(state: State, group: GroupRecord) -> bool:
    rows = members_of(state, group.key)
    return len(rows) >= group.new.total and all(row.finished_ms is not None for row in rows)


def _wakes(state: State, group: GroupRecord) -> bool:
    failed = any(row.verdict is Verdict.FAILED for row in members_of(state, group.key))
    return _has_ended(state, group) or (failed and group.new.on_failure is OnFailure.CANCEL)


def _open(state: State, name: str) -> GroupRecord | None:
    group = _called(state, name)
    return group if group is not None and group.is_open else None


def _called(state: State, name: str) -> GroupRecord | None:
    return next((each for each in state.groups.values() if each.name == name), None)


# Writing


def write(tx: Transaction, new: NewGroup, position: int, jobs: Sequence[NewJob], writer: HeldBy | None) -> Progress:
    """Write some members, held."""
    from tests.storage.memory.jobs import newest_of_run
    from tests.storage.memory.jobs import write as write_job

    parent = None if writer is None else tx.state.rows.get(writer.job_id)
    if writer is not None and (parent is None or parent.held is None or parent.held.token != writer.token):
        raise ClaimLostError(f"the claim of job {writer.job_id} is not held any more")
    parent_id = None if parent is None else parent.id
    group = _called(tx.state, new.name)
    if group is not None:
        check_same(new, group.new.fingerprint)
        if group.is_open:
            return Progress(new.total, True)
        if group.parent != parent_id:
            raise GroupMismatchError(f"group {new.name!r} is written by another")
    written = 0 if group is None else len(members_of(tx.state, group.key))
    if position != written:
        return Progress(written, False)
    for job in jobs:
        assert job.run is not None
        there = newest_of_run(tx, new.queue, job.run.run_id, with_held=True)
        if there is not None and there.is_visible(tx.now_ms):
            if group is not None:
                _discard(tx, group)
            return Progress(0, False, job.run.run_id)
    _check_waiting(tx, new, jobs)
    if group is None:
        group = GroupRecord(f"{new.name}-{tx.next_number()}", new.name, new, parent_id)
    tx.state.groups[group.key] = replace(group, writer=tx.owner)
    tx.state.queues.setdefault(new.queue, QueueRecord())
    for place, job in enumerate(jobs, position):
        row = write_job(tx, job, is_held=True)
        tx.put(
            replace(
                row,
                status=JobStatus.PENDING,
                due_ms=None,
                group=group.key,
                position=place,
                parent=parent_id,
                parent_run=None if parent is None else parent.run_id,
            )
        )
    tx.woken.discard(new.queue)
    return Progress(written + len(jobs), False)


def _check_waiting(tx: Transaction, new: NewGroup, jobs: Sequence[NewJob]) -> None:
    for key, many in Counter(job.limit_key for job in jobs if job.is_bounded).items():
        waiting = tx.state.of_queue(new.queue, JobStatus.PENDING)
        own = tx.state.limits.get((new.queue, ""))
        shown = sum(not row.is_held for row in waiting)
        check_room(new.queue, None, shown + new.total - 1, None if own is None else own.max_waiting)
        limit = None if key is None else limit_of(tx.state, new.queue, key)
        if limit is not None:
            of_key = sum(row.limit_key == key for row in waiting)
            check_room(new.queue, key, of_key + many - 1, limit.max_waiting)


def open_(tx: Transaction, name: str, fingerprint: bytes) -> None:
    """Have a group be there for everyone; its members enter the line at once."""
    group = _called(tx.state, name)
    if group is None or group.new.fingerprint != fingerprint:
        raise GroupMismatchError(f"there is no such group {name!r}")
    if group.is_open:
        return
    rows = members_of(tx.state, group.key)
    if len(rows) != group.new.total:
        raise GroupMismatchError(f"group {name!r} has {len(rows)} of its {group.new.total} members")
    tx.state.groups[group.key] = replace(group, is_open=True)
    for row in rows:
        later = row.run_at_ms is not None and row.run_at_ms > tx.now_ms
        status = JobStatus.SCHEDULED if later else JobStatus.PENDING
        tx.put(replace(row, is_held=False, status=status, due_ms=row.run_at_ms if later else None))
        enter_line(tx, row.id)
    if group.parent is not None and group.parent in tx.state.rows:
        parent = tx.state.rows[group.parent]
        tx.put(replace(parent, children=parent.children + len(rows)))
    if not rows:
        _end(tx, tx.state.groups[group.key])


def check_name(tx: Transaction, row: Row | None) -> None:
    """Refuse a submit whose name a member of a group has that is not open."""
    if row is not None and row.is_held:
        raise InputMismatchError(f"run id {row.run_id!r} is taken by a member of a group that is being written")


# Ends


def ended(tx: Transaction, row: Row) -> None:
    """Note the end of a row that is a member."""
    group = tx.state.groups.get(row.group or "")
    if group is None or not group.is_open:
        return
    if _has_ended(tx.state, group):
        _end(tx, group)
    elif _wakes(tx.state, group) and row.verdict is Verdict.FAILED:
        request_cancel(tx, group)
        _deliver(tx, group)


def _end(tx: Transaction, group: GroupRecord) -> None:
    if group.waiter is None:
        _set_expiry(tx, group)
    _deliver(tx, group)
    if group.name is not None:
        tx.ended.add(END_OF_GROUP + group.name)


def _set_expiry(tx: Transaction, group: GroupRecord) -> None:
    keep = group.new.keep_ms or 0
    expires_ms = tx.now_ms + max(keep, SHORTEST_RETENTION_MS)
    tx.state.groups[group.key] = replace(tx.state.groups[group.key], expires_ms=expires_ms)
    for row in members_of(tx.state, group.key):
        tx.put(replace(row, expires_ms=expires_ms, shown_until_ms=tx.now_ms + keep))


def _clear_expiry(tx: Transaction, group: GroupRecord) -> None:
    tx.state.groups[group.key] = replace(tx.state.groups[group.key], expires_ms=None)
    for row in members_of(tx.state, group.key):
        tx.put(replace(row, expires_ms=None, shown_until_ms=None))


def _deliver(tx: Transaction, group: GroupRecord) -> None:
    waiter = tx.state.rows.get(group.waiter or "")
    if waiter is None or waiter.waiting is None or not is_open(waiter):
        return
    waiter = replace(waiter, waiting=replace(waiter.waiting, has_come=True))
    if waiter.status is JobStatus.SCHEDULED:
        enter_early(tx, replace(waiter, status=JobStatus.PENDING, due_ms=None))
    else:
        tx.put(waiter)


def request_cancel(tx: Transaction, group: GroupRecord) -> None:
    """Have a group cancelled, whole."""
    group = tx.state.groups[group.key]
    if group.cancel_requested or _has_ended(tx.state, group):
        return
    tx.state.groups[group.key] = replace(tx.state.groups[group.key], cancel_requested=True)
    _cancel_members(tx, group)


def _cancel_members(tx: Transaction, group: GroupRecord) -> None:
    from tests.storage.memory.ending import end
    from tests.storage.memory.events import note

    for row in members_of(tx.state, group.key):
        row = tx.state.rows[row.id]
        if row.held is not None:
            if not row.cancel_requested or row.is_late:  # what was asked for its deadline alone was never told
                row = note(row, tx.now_ms, EventKind.CANCEL_REQUESTED)
            tx.put(replace(row, cancel_requested=True, is_late=False))
        elif row.finished_ms is None:
            end(tx, row, JobStatus.CANCELLED)


def cancel(tx: Transaction, name: str) -> bool | None:
    """Cancel a group, whole."""
    group = _open(tx.state, name)
    if group is None:
        return None
    request_cancel(tx, group)
    return False


# Waiting


def awaited(tx: Transaction, row: Row, wait: Wait, opens: Collection[str] = ()) -> GroupRecord:
    """Return the group that a row may wait for."""
    group = _called(tx.state, wait.name)
    if group is None or not (group.is_open or wait.name in opens):
        raise GroupNotFoundError(f"there is no group {wait.name!r}")
    if group.waiter not in (None, row.id):
        raise InvalidStateError(f"group {wait.name!r} is awaited by another run")
    return group


def begin(tx: Transaction, row: Row, wait: Wait, group: GroupRecord) -> Row:
    """Return the row as it waits."""
    _clear_expiry(tx, group)
    tx.state.groups[group.key] = replace(tx.state.groups[group.key], waiter=row.id)
    return begun(tx, tx.state.rows[row.id], wait, has_come=_wakes(tx.state, group))


def waits_again(tx: Transaction, row: Row) -> Row:
    """Return a row that ended while it waited, and waits again; not for a group that is gone, or has ended."""
    assert row.waiting is not None
    wait, has_come = row.waiting.wait, row.waiting.has_come
    group = of_waiter(tx, row)
    is_there = wait.kind is WaitKind.GROUP and (group is None or _wakes(tx.state, group))
    return begun(tx, row, wait, is_there=is_there, has_come=has_come)


def fix(tx: Transaction, row: Row) -> tuple[Row, WaitEnd | None]:
    """Return a row just claimed with its wait ended."""
    waiting = row.waiting
    if waiting is None or waiting.wait.kind is not WaitKind.GROUP:
        return fixed(row)
    if waiting.ordinal is None:
        group = of_waiter(tx, row)
        has_come = waiting.has_come or (group is not None and _wakes(tx.state, group))
        waiting = replace(waiting, ordinal=row.ordinal, has_come=has_come)
    return replace(row, waiting=waiting), WaitEnd(waiting.wait, has_come=waiting.has_come)


def of_waiter(tx: Transaction, row: Row) -> GroupRecord | None:
    """Return the group that a row waits for, or has received."""
    return next((each for each in tx.state.groups.values() if each.waiter == row.id), None)


def leave(tx: Transaction, row: Row) -> None:
    """Have a row wait for no group any more."""
    group = of_waiter(tx, row)
    if group is None:
        return
    tx.state.groups[group.key] = replace(group, waiter=None)
    if group.is_open and _has_ended(tx.state, group):
        _set_expiry(tx, tx.state.groups[group.key])


# Going on, and going


def check_may_go_on(tx: Transaction, row: Row) -> None:
    """Refuse to put a member back in line whose group is being cancelled, or removed."""
    group = tx.state.groups.get(row.group or "")
    if row.group is None:
        return
    if group is None:
        raise JobNotFoundError(f"job {row.id} is a member of a group that is past its retention")
    if group.cancel_requested and not _has_ended(tx.state, group):
        raise InvalidStateError(f"job {row.id} is a member of a group that is being cancelled")


def goes_on(tx: Transaction, row: Row) -> None:
    """Note that a member was put back in line."""
    group = tx.state.groups.get(row.group or "")
    if group is not None:
        tx.state.groups[group.key] = replace(group, cancel_requested=False)
        _clear_expiry(tx, group)


def failed_members(tx: Transaction, name: str, position: int) -> tuple[list[str], int | None] | None:
    """Return some failed members, and where to look on."""
    group = _open(tx.state, name)
    if group is None:
        return None
    if group.cancel_requested and not _has_ended(tx.state, group):
        raise InvalidStateError(f"group {name!r} is being cancelled")
    rows = [row for row in members_of(tx.state, group.key) if row.position >= position]
    failed = [row for row in rows if row.verdict is Verdict.FAILED][:MEMBERS_A_PIECE]
    is_all = len(failed) < MEMBERS_A_PIECE
    return [row.id for row in failed], None if is_all else failed[-1].position + 1


def forget(tx: Transaction, name: str) -> bool:
    """Free a name."""
    group = _open(tx.state, name)
    if group is None:
        return False
    if not _has_ended(tx.state, group):
        raise InvalidStateError(f"group {name!r} has open members")
    tx.state.groups[group.key] = replace(group, name=None)
    return True


def _discard(tx: Transaction, group: GroupRecord) -> None:
    for row in members_of(tx.state, group.key):
        tx.drop(row)
    tx.state.groups.pop(group.key, None)


def sweep(tx: Transaction, alive: Collection[str]) -> int:
    """Remove groups past their retention, and those that nobody will open."""
    gone = 0
    for group in list(tx.state.groups.values()):
        parent = tx.state.rows.get(group.parent or "")
        has_writer = group.writer in alive if group.parent is None else parent and parent.finished_ms is None
        is_over = group.expires_ms is not None and group.expires_ms <= tx.now_ms
        if is_over or not (group.is_open or has_writer):
            gone += 1 + len(members_of(tx.state, group.key))
            _discard(tx, group)
    return gone


# Reading


def get(state: State, name: str) -> GroupRow | None:
    """Return a group."""
    group = _open(state, name)
    if group is None:
        return None
    rows = members_of(state, group.key)
    return GroupRow(
        name=name,
        queue=group.new.queue,
        total=group.new.total,
        succeeded=sum(row.verdict is Verdict.SUCCEEDED for row in rows),
        failed=sum(row.verdict is Verdict.FAILED for row in rows),
        cancelled=sum(row.status is JobStatus.CANCELLED for row in rows),
        is_open=True,
        has_ended=_has_ended(state, group),
        cancel_requested=group.cancel_requested,
    )


def page(state: State, now_ms: int, name: str, limit: int, cursor: str | None) -> MemberPage | None:
    """Return a page of members."""
    begin = 0 if cursor is None else _position(cursor)
    group = _open(state, name)
    if group is None:
        return None
    rows = members_of(state, group.key)[begin : begin + limit]
    after = begin + limit
    return MemberPage(
        [None if row.finished_ms is None else reads.show(row, now_ms) for row in rows],
        str(after) if after < group.new.total else None,
    )


def _position(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
        raise ValueError(f"cursor {cursor[:40]!r} is none of this store's")
    return int(cursor)


def has_ended(state: State, name: str) -> bool:
    """Whether a group has ended, or is not there."""
    group = _open(state, name)
    return group is None or _has_ended(state, group)
