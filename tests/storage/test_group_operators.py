"""What operators ask of groups: members counted, listed by their parent, cancelled and retried like any run."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.errors import SignalBufferFullError
from taquba_workflow_sync.storage.port import signals as rules
from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.port.group import HeldBy, OnFailure
from taquba_workflow_sync.storage.port.operators import Piece
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, DeadLetter, Release, SettleCancelled
from taquba_workflow_sync.storage.port.signals import NewSignal
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.tally import Tally
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind
from taquba_workflow_sync.testing import ManualClock

from .bench import KEEP_MS, QUEUE, claim, claims, put_run, settle, status, stored, tally_by_looking, writes_nothing
from .test_group import FAILED, WAITS, cancel_all, counted, end, group_of, members, submit, wait_for
from .test_operators import names


def spawn(store: Store, total: int, name: str = "g") -> list[str]:
    """The members of an open group of the run ``parent``, which goes on."""
    put_run(store, "parent", queue=WAITS)
    held = claim(store, queue=WAITS)
    jobs = members(total, name)
    store.group_write(group_of(total, name), 0, jobs, HeldBy(held.id, held.token))
    store.group_open(name, b"f")
    return [job.id for job in jobs]


def kinds(store: Store, job_id: str) -> list[str]:
    return [each.kind for each in store.events(job_id)]


def test_members_are_counted_from_the_commit_that_opens_their_group(store: Store, clock: ManualClock) -> None:
    store.group_write(group_of(), 0, members(3))
    assert store.tally(QUEUE) == Tally()
    store.group_open("g", b"f")
    assert store.tally(QUEUE) == tally_by_looking(store, QUEUE) == Tally(pending=3)
    first, second, third = claims(store)
    cancel_all(store)
    assert store.tally(QUEUE) == tally_by_looking(store, QUEUE) == Tally(cancelling=3)
    settle(store, first, SettleCancelled())
    settle(store, second, DeadLetter("x"))
    settle(store, third, Ack())
    assert store.tally(QUEUE) == tally_by_looking(store, QUEUE) == Tally(succeeded=1, failed=1, cancelled=1)
    clock.advance(KEEP_MS / 1000 + 86_400)
    while store.sweep():
        pass
    assert store.tally(QUEUE) == tally_by_looking(store, QUEUE) == Tally()


def test_members_that_were_never_in_line_are_removed_and_counted_nowhere(store: Store) -> None:
    put_run(store, "parent", queue=WAITS)
    held = claim(store, queue=WAITS)
    store.group_write(group_of(), 0, members(3), HeldBy(held.id, held.token))
    settle(store, held, Ack())
    while store.sweep():
        pass
    assert store.tally(QUEUE) == Tally()


@pytest.mark.parametrize("most_examined", [None, 2, 5])
@pytest.mark.parametrize("limit", [1, 2, 10])
def test_children_are_listed_in_either_order(store: Store, limit: int, most_examined: int | None) -> None:
    put_run(store, "before")
    spawn(store, 5)
    put_run(store, "g-after")
    which = Filter(runs_only=True, visible_only=True, parent="parent", most_examined=most_examined)
    listed = [f"g-{index}" for index in range(5)]
    assert names(store, which, limit) == listed
    back = Filter(runs_only=True, parent="parent", most_examined=most_examined, newest_first=True)
    assert names(store, back, limit) == listed[::-1]
    narrow = Filter(runs_only=True, parent="parent", most_examined=most_examined, prefix="g-3")
    assert names(store, narrow, limit) == ["g-3"]


def test_the_children_of_a_run_are_cancelled_together(store: Store) -> None:
    put_run(store, "other")
    ids = spawn(store, 3)
    piece = store.cancel_some(QUEUE, Filter(is_active=True, newest_first=True, parent="parent"), None)
    assert piece == Piece(3, [], None)
    assert {status(store, each) for each in ids} == {JobStatus.CANCELLED}
    assert counted(store) == (0, 0, 3, 0)
    assert names(store, Filter(runs_only=True, is_active=True)) == ["other"]


def test_the_failed_children_of_a_run_are_retried_together(store: Store) -> None:
    first, second, third = spawn(store, 3)
    end(store, first, FAILED)
    end(store, second, DeadLetter("x"))
    end(store, third, Ack())
    which = Filter(runs_only=True, visible_only=True, verdict=Verdict.FAILED, parent="parent")
    assert store.retry_some(QUEUE, which, None) == Piece(2, [], None)
    assert counted(store) == (1, 0, 0, 2)
    assert store.tally(QUEUE) == tally_by_looking(store, QUEUE) == Tally(pending=2, succeeded=1)
    assert kinds(store, first)[-1] == EventKind.RETRIED


def test_members_of_a_group_that_is_being_cancelled_are_passed_over_by_a_retry_of_many(store: Store) -> None:
    put_run(store, "g-failed")
    settle(store, claim(store), FAILED)
    first, *_ = submit(store, 3, on_failure=OnFailure.CANCEL)
    held = {row.id: row for row in claims(store)}
    settle(store, held[first], FAILED)
    which = Filter(runs_only=True, visible_only=True, verdict=Verdict.FAILED)
    assert store.retry_some(QUEUE, which, None) == Piece(1, [], None)
    assert (status(store, first), counted(store)) == (JobStatus.DONE, (0, 1, 0, 2))
    with writes_nothing(store):
        assert store.retry_some(QUEUE, which, None) == Piece(0, [], None)


def test_nobody_finds_members_that_are_held(store: Store) -> None:
    store.group_write(group_of(), 0, members(3))
    with writes_nothing(store):
        assert names(store, Filter(runs_only=True, prefix="g")) == []
        assert store.cancel_some(QUEUE, Filter(is_active=True, newest_first=True), None) == Piece(0, [], None)


def test_the_cancellation_of_a_group_is_told_of_the_members_that_run(store: Store) -> None:
    submit(store, 2)
    held = claim(store)
    cancel_all(store)
    cancel_all(store)
    assert kinds(store, held.id).count(EventKind.CANCEL_REQUESTED) == 1


def test_the_retry_of_a_groups_members_is_told(store: Store) -> None:
    (first,) = submit(store, 1)
    end(store, first, FAILED)
    store.group_retry("g", 0)
    assert kinds(store, first).count(EventKind.RETRIED) == 1
    assert stored(store, first).status is JobStatus.PENDING


def test_a_group_that_has_come_takes_no_signals_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_BUFFERED", 2)
    (member,) = submit(store, 1)
    parent = wait_for(store)
    assert stored(store, parent).wait == (WaitKind.GROUP, "g")
    for _ in range(2):
        store.send_signal(WAITS, "parent", NewSignal("s", b"", None), None)
    end(store, member, Ack())
    for settles in (False, True):
        with writes_nothing(store), pytest.raises(SignalBufferFullError):
            store.send_signal(WAITS, "parent", NewSignal("s", b"", None), None)
        if not settles:
            settle(store, claim(store, queue=WAITS), Advance(b"next", wait=Wait(WaitKind.GROUP, "g")))


def test_a_member_that_was_asked_to_stop_keeps_the_reason_where_its_group_is_cancelled(store: Store) -> None:
    (member,) = submit(store, 1)
    held = claim(store)
    store.cancel(member, reason="enough")
    settle(store, held, Release())
    cancel_all(store)
    row = stored(store, member)
    assert (row.status, row.last_error) == (JobStatus.CANCELLED, "enough")
    assert store.tally(QUEUE) == tally_by_looking(store, QUEUE) == Tally(cancelled=1)


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_page_of_children_looks_at_a_bounded_number(store: Store, newest_first: bool) -> None:
    spawn(store, 5)
    which = Filter(runs_only=True, parent="parent", prefix="g-2", most_examined=2, newest_first=newest_first)
    short = store.page(QUEUE, which, 10, None)
    assert short.rows == [] and short.next_cursor is not None
    following = store.page(QUEUE, which, 10, short.next_cursor)
    assert [row.run_id for row in following.rows] == ["g-2"]
