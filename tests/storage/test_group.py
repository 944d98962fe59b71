"""Groups at the port: held until all members are there, opened in one commit, counted with each end, waited for."""

from __future__ import annotations

from typing import Any

import pytest

from taquba_workflow_sync.errors import (
    CancelRequestedError,
    ClaimLostError,
    GroupMismatchError,
    GroupNotFoundError,
    InputMismatchError,
    InvalidStateError,
    QueueFullError,
    TaqubaError,
)
from taquba_workflow_sync.storage.port.effects import Insert, OpenGroup, Put
from taquba_workflow_sync.storage.port.group import GroupRow, HeldBy, NewGroup, OnFailure, Progress
from taquba_workflow_sync.storage.port.job import JobRow, NewJob
from taquba_workflow_sync.storage.port.limit import Limit
from taquba_workflow_sync.storage.port.reads import Counts, Filter, Ready
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Nack,
    Ongoing,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.timing import TimeLimits
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    KEEP_MS,
    QUEUE,
    claim,
    claims,
    job,
    put,
    put_run,
    refusal,
    rows_of,
    run,
    settle,
    status,
    stored,
    writes_nothing,
)
from .conftest import MakeStore
from .deaths import Deaths

PENDING, DONE, DEAD, CANCELLED = JobStatus.PENDING, JobStatus.DONE, JobStatus.DEAD, JobStatus.CANCELLED
FAILED = Ack(Verdict.FAILED, None, "no")
WAITS = "waits"


def group_of(total: int = 3, name: str = "g", **fields: Any) -> NewGroup:
    given: dict[str, Any] = {
        "name": name, "queue": QUEUE, "total": total, "fingerprint": b"f", "on_failure": OnFailure.COLLECT,
        "keep_ms": KEEP_MS,
    }  # fmt: skip
    return NewGroup(**given | fields)


def members(total: int, name: str = "g", start: int = 0, **fields: Any) -> list[NewJob]:
    return [run(f"{name}-{index}", b"%d" % index, **fields) for index in range(start, total)]


def submit(store: Store, total: int = 3, name: str = "g", **fields: Any) -> list[str]:
    """A group that is open; returns the ids of its members."""
    group = group_of(total, name, **fields)
    jobs = members(total, name, queue=group.queue)
    assert store.group_write(group, 0, jobs) == Progress(total, False)
    store.group_open(name, group.fingerprint)
    return [job.id for job in jobs]


def shown(store: Store, name: str = "g") -> GroupRow:
    found = store.group_get(name)
    assert found is not None
    return found


def counted(store: Store, name: str = "g") -> tuple[int, int, int, int]:
    """Succeeded, failed, cancelled, open."""
    row = shown(store, name)
    left = row.total - row.succeeded - row.failed - row.cancelled
    assert row.has_ended is (left == 0)
    return row.succeeded, row.failed, row.cancelled, left


def end(store: Store, job_id: str, action: Action) -> None:
    """Claim what is in line until it is this job's turn, and end it; the others go back."""
    held = {row.id: row for row in claims(store)}
    mine = held.pop(job_id)
    for row in held.values():
        settle(store, row, Release())
    settle(store, mine, action)


def wait_for(store: Store, name: str = "g", timeout_ms: int | None = None, run_id: str = "parent") -> str:
    """A run that waits for a group."""
    put_run(store, run_id, queue=WAITS)
    held = claim(store, queue=WAITS)
    settle(store, held, Advance(b"next", wait=Wait(WaitKind.GROUP, name, timeout_ms)))
    return held.id


def cancel_all(store: Store, name: str = "g") -> None:
    while store.group_cancel(name):
        pass


# Written


def test_members_are_seen_by_nobody_until_the_group_is_open(store: Store) -> None:
    assert store.group_write(group_of(), 0, members(2)) == Progress(2, False)
    assert rows_of(store, QUEUE) == [] and claims(store) == []
    assert store.find_run(QUEUE, "g-0") is None
    assert store.next_work(QUEUE) is None
    assert store.counts()[QUEUE] == Counts()
    assert store.group_get("g") is None and store.group_members("g", 10, None) is None
    assert store.group_cancel("g") is None and store.group_retry("g", 0) is None and not store.group_forget("g")


def test_a_group_is_there_wholly_from_the_commit_that_opens_it(make_store: MakeStore) -> None:
    mine, other = make_store(), make_store()
    mine.group_write(group_of(), 0, members(3))
    mine.group_open("g", b"f")
    assert shown(other) == GroupRow("g", QUEUE, 3, 0, 0, 0, True, False, False)
    assert [row.run_id for row in rows_of(other, QUEUE)] == ["g-0", "g-1", "g-2"]
    assert [row.run_id for row in rows_of(other, QUEUE, Filter(status=PENDING))] == ["g-0", "g-1", "g-2"]
    assert other.counts()[QUEUE].pending == 3
    assert other.next_work(QUEUE) == Ready()
    assert [row.run_id for row in claims(other)] == ["g-0", "g-1", "g-2"]


def test_a_repeated_write_goes_on_where_the_one_before_stopped(store: Store) -> None:
    group, jobs = group_of(), members(3)
    assert store.group_write(group, 0, jobs[:2]) == Progress(2, False)
    with writes_nothing(store):
        assert store.group_write(group, 0, members(3)) == Progress(2, False)
    assert store.group_write(group, 2, jobs[2:]) == Progress(3, False)
    store.group_open("g", b"f")
    assert [row.id for row in claims(store)] == [job.id for job in jobs]


def test_the_same_group_again_changes_nothing(store: Store) -> None:
    submit(store)
    with writes_nothing(store):
        assert store.group_write(group_of(), 0, members(3)) == Progress(3, True)
        store.group_open("g", b"f")


@pytest.mark.parametrize("is_open", [False, True], ids=["being written", "open"])
def test_another_group_of_that_name_is_refused(store: Store, is_open: bool) -> None:
    store.group_write(group_of(1), 0, members(1))
    if is_open:
        store.group_open("g", b"f")
    with writes_nothing(store):
        with pytest.raises(GroupMismatchError, match="'g'"):
            store.group_write(group_of(fingerprint=b"other"), 0, members(3))
        with pytest.raises(GroupMismatchError):
            store.group_open("g", b"other")


def test_a_group_that_lacks_members_cannot_be_opened(store: Store) -> None:
    store.group_write(group_of(3), 0, members(2))
    with writes_nothing(store):
        with pytest.raises(GroupMismatchError, match="2 of its 3"):
            store.group_open("g", b"f")
        with pytest.raises(GroupMismatchError):
            store.group_open("unknown", b"f")


@pytest.mark.parametrize("is_active", [True, False], ids=["active", "kept"])
def test_a_members_name_that_another_run_has_is_told_and_nothing_is_left(store: Store, is_active: bool) -> None:
    put_run(store, "g-2")
    if not is_active:
        settle(store, claim(store), Ack())
    assert store.group_write(group_of(), 0, members(2)) == Progress(2, False)
    assert store.group_write(group_of(), 2, members(3, start=2)) == Progress(0, False, "g-2")
    while store.sweep():
        pass
    assert [row.run_id for row in rows_of(store, QUEUE)] == ["g-2"]
    put_run(store, "g-0")
    assert store.group_write(group_of(1, fingerprint=b"new"), 0, [run("other")]) == Progress(1, False)


def test_the_name_of_a_run_that_is_shown_no_more_is_free_for_a_member(store: Store, clock: ManualClock) -> None:
    put_run(store, "g-0", keep_done_ms=1_000)
    settle(store, claim(store), Ack())
    clock.advance(2)
    submit(store, 1)


def test_a_run_cannot_have_the_name_of_a_member_of_a_group_that_is_being_written(store: Store) -> None:
    store.group_write(group_of(), 0, members(2))
    with writes_nothing(store), pytest.raises(InputMismatchError, match="being written"):
        put(store, run("g-0", b"0"))


def test_a_member_is_a_run_like_any_other_once_the_group_is_open(store: Store) -> None:
    (first, *_) = submit(store)
    assert put(store, run("g-0", b"0")) == [first]
    with pytest.raises(InputMismatchError):
        put(store, run("g-0", b"else"))


def test_a_member_with_a_time_of_its_own_waits_for_it(store: Store, clock: ManualClock) -> None:
    at = int(clock.now().timestamp() * 1000) + 5_000
    jobs = [run("g-0"), run("g-1", run_at_ms=at)]
    store.group_write(group_of(2), 0, jobs)
    store.group_open("g", b"f")
    assert [row.run_id for row in claims(store)] == ["g-0"]
    assert status(store, jobs[1].id) is JobStatus.SCHEDULED
    clock.advance(5)
    assert [row.run_id for row in claims(store)] == ["g-1"]


def test_an_empty_group_has_ended(store: Store) -> None:
    submit(store, 0)
    assert counted(store) == (0, 0, 0, 0)
    assert store.group_members("g", 10, None) == ([], None)


def test_more_members_than_a_piece_enter_the_line_claim_by_claim(store: Store) -> None:
    submit(store, 1_001)
    seen: set[str] = set()
    while store.next_work(QUEUE) == Ready():
        held = claims(store, 1_000)
        seen |= {row.id for row in held}
    assert len(seen) == 1_001
    assert counted(store) == (0, 0, 0, 1_001)


# Written by a step


def writer_of(store: Store) -> tuple[str, HeldBy]:
    put_run(store, "parent", queue=WAITS)
    held = claim(store, queue=WAITS)
    return held.id, HeldBy(held.id, held.token)


def test_the_members_of_a_step_are_the_runs_children(store: Store) -> None:
    parent, writer = writer_of(store)
    store.group_write(group_of(), 0, members(3), writer)
    assert stored(store, parent).children == 0
    store.group_open("g", b"f")
    row = stored(store, parent)
    assert (row.children, row.parent) == (3, None)
    listed = rows_of(store, QUEUE, Filter(parent="parent"))
    assert [each.run_id for each in listed] == ["g-0", "g-1", "g-2"]
    assert {each.parent for each in listed} == {"parent"}
    assert rows_of(store, QUEUE, Filter(parent=parent)) == listed
    assert rows_of(store, QUEUE, Filter(parent="g-0")) == []


def test_a_zombie_writes_no_group(deaths: Deaths, store: Store) -> None:
    put_run(store, "parent")
    held = deaths.take("owner")
    claims(store, abandoned=deaths.let_die("owner", held))
    with writes_nothing(store), pytest.raises(ClaimLostError):
        store.group_write(group_of(), 0, members(3), HeldBy(held.id, held.token))


def test_a_group_that_another_run_writes_is_refused(store: Store) -> None:
    _, writer = writer_of(store)
    store.group_write(group_of(), 0, members(1), writer)
    with writes_nothing(store), pytest.raises(GroupMismatchError):
        store.group_write(group_of(), 1, members(3, start=1))


def test_the_repeated_step_goes_on_with_its_group(store: Store) -> None:
    parent, writer = writer_of(store)
    store.group_write(group_of(), 0, members(1), writer)
    settle(store, claim_again(store, parent, writer), Nack("once"))
    held = claim(store, queue=WAITS)
    assert store.group_write(group_of(), 1, members(3, start=1), HeldBy(held.id, held.token)) == Progress(3, False)


def claim_again(store: Store, job_id: str, writer: HeldBy) -> Any:
    """The claim of a writer, as far as its settlement needs it."""

    class Held:
        id, token = job_id, writer.token

    return Held


@pytest.mark.parametrize("action", [Ack(), FAILED, DeadLetter("broken"), SettleCancelled()], ids=str)
def test_a_group_that_was_never_opened_is_swept_once_its_run_has_ended(store: Store, action: Action) -> None:
    parent, writer = writer_of(store)
    store.group_write(group_of(), 0, members(2), writer)
    assert store.sweep() == 0
    settle(store, claim_again(store, parent, writer), action)
    while store.sweep():
        pass
    with pytest.raises(GroupMismatchError):
        store.group_open("g", b"f")
    submit(store)
    assert counted(store) == (0, 0, 0, 3)


def test_a_group_that_was_never_opened_is_swept_once_its_writer_is_gone(make_store: MakeStore, store: Store) -> None:
    writer = make_store()
    writer.group_write(group_of(), 0, members(2))
    assert store.sweep() == 0
    writer.close()
    while store.sweep():
        pass
    assert put_run(store, "g-0") != ""
    assert store.group_write(group_of(fingerprint=b"other"), 0, [run("x")]).written == 1


# Counted


ENDS: dict[str, tuple[Action, tuple[int, int, int, int]]] = {
    "success": (Ack(result=b"r"), (1, 0, 0, 2)),
    "failure": (FAILED, (0, 1, 0, 2)),
    "dead letter": (DeadLetter("broken"), (0, 1, 0, 2)),
    "cancellation": (SettleCancelled(), (0, 0, 1, 2)),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_end_of_a_member_is_counted_in_its_commit(store: Store, how: str) -> None:
    first, *_ = submit(store)
    action, expected = ENDS[how]
    end(store, first, action)
    assert counted(store) == expected
    page = store.group_members("g", 10, None)
    assert page is not None and page.next_cursor is None
    assert [None if row is None else row.id for row in page.rows] == [first, None, None]
    assert page.rows[0] == stored(store, first)


@pytest.mark.parametrize("action", [Advance(b"n"), Advance(b"n", delay_ms=5), Nack("x"), Release()], ids=str)
def test_what_ends_no_member_is_not_counted(store: Store, action: Action) -> None:
    submit(store)
    settle(store, claim(store), action)
    assert counted(store) == (0, 0, 0, 3)


def test_a_waiting_member_that_is_cancelled_is_counted(store: Store) -> None:
    first, second, _ = submit(store)
    store.cancel(first)
    claims(store)
    assert counted(store) == (0, 0, 1, 2)
    store.cancel(second)
    assert counted(store) == (0, 0, 1, 2)


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_member_that_is_reaped_is_counted_when_it_dies(deaths: Deaths, store: Store, attempts: int) -> None:
    store.group_write(group_of(1), 0, members(1, max_attempts=attempts))
    store.group_open("g", b"f")
    held = deaths.take("owner")
    claims(store, 0, abandoned=deaths.let_die("owner", held))
    assert counted(store) == ((0, 1, 0, 0) if attempts == 1 else (0, 0, 0, 1))


def test_results_come_in_pages_in_the_order_of_submission(store: Store) -> None:
    ids = submit(store, 5)
    for held in reversed(claims(store)):
        settle(store, held, Ack(result=held.payload * 2_000))
    seen: list[JobRow | None] = []
    cursor = None
    while True:
        page = store.group_members("g", 2, cursor)
        assert page is not None
        seen += page.rows
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [row and row.id for row in seen] == ids
    assert [row and row.result for row in seen] == [b"%d" % index * 2_000 for index in range(5)]
    with pytest.raises(ValueError, match="none of"):
        store.group_members("g", 2, "nonsense")


# Waited for


def test_the_last_member_wakes_who_waits_in_its_commit(store: Store) -> None:
    ids = submit(store, 2)
    parent = wait_for(store)
    assert status(store, parent) is JobStatus.SCHEDULED
    assert stored(store, parent).wait == ("group", "g")
    end(store, ids[0], Ack())
    assert status(store, parent) is JobStatus.SCHEDULED
    end(store, ids[1], FAILED)
    assert status(store, parent) is PENDING
    held = claim(store, queue=WAITS)
    assert held.wait is not None and not held.wait.timed_out and held.wait.wait.name == "g"
    assert (held.step, held.payload, held.attempts) == (1, b"next", 1)


def test_who_waits_without_a_timeout_is_never_due(store: Store, clock: ManualClock) -> None:
    submit(store)
    parent = wait_for(store)
    clock.advance(1_000_000)
    assert claims(store, queue=WAITS) == []
    assert status(store, parent) is JobStatus.SCHEDULED
    assert store.next_work(WAITS) != Ready()


def test_the_timeout_wakes_who_waits(store: Store, clock: ManualClock) -> None:
    submit(store)
    wait_for(store, timeout_ms=5_000)
    assert claims(store, queue=WAITS) == []
    clock.advance(5)
    held = claim(store, queue=WAITS)
    assert held.wait is not None and held.wait.timed_out


def test_a_timeout_of_nothing_asks_and_goes_on(store: Store) -> None:
    submit(store)
    wait_for(store, timeout_ms=0)
    held = claim(store, queue=WAITS)
    assert held.wait is not None and held.wait.timed_out


def test_until_the_step_is_claimed_the_group_beats_a_passed_timeout(store: Store, clock: ManualClock) -> None:
    (only,) = submit(store, 1)
    wait_for(store, timeout_ms=5_000)
    clock.advance(5)
    claims(store, 0, queue=WAITS)
    end(store, only, Ack())
    held = claim(store, queue=WAITS)
    assert held.wait is not None and not held.wait.timed_out


@pytest.mark.parametrize("action", [Nack("x"), DeadLetter("x"), FAILED], ids=str)
def test_the_first_claim_fixes_how_a_wait_ended_for_every_later_attempt(store: Store, action: Action) -> None:
    (only,) = submit(store, 1)
    parent = wait_for(store, timeout_ms=0)
    held = claim(store, queue=WAITS)
    end(store, only, Ack())
    settle(store, held, action)
    if not isinstance(action, Nack):
        store.requeue(parent, failed_run=True)
    again = claim(store, queue=WAITS)
    assert again.wait is not None and again.wait.timed_out


def test_a_release_opens_the_wait_again(store: Store) -> None:
    (only,) = submit(store, 1)
    wait_for(store, timeout_ms=0)
    held = claim(store, queue=WAITS)
    assert held.wait is not None and held.wait.timed_out
    end(store, only, Ack())
    settle(store, held, Release())
    again = claim(store, queue=WAITS)
    assert again.wait is not None and not again.wait.timed_out


def test_a_group_that_was_delivered_stays_so_over_a_release(store: Store) -> None:
    (only,) = submit(store, 1)
    wait_for(store)
    end(store, only, FAILED)
    settle(store, claim(store, queue=WAITS), Release())
    store.requeue(only, failed_run=True)
    held = claim(store, queue=WAITS)
    assert held.wait is not None and not held.wait.timed_out


def test_who_waits_for_an_ended_group_is_not_held(store: Store) -> None:
    submit(store, 0)
    parent = wait_for(store)
    assert status(store, parent) is PENDING
    held = claim(store, queue=WAITS)
    assert held.wait is not None and not held.wait.timed_out


@pytest.mark.parametrize("timeout_ms", [None, 0, 5])
def test_waiting_for_an_unknown_group_is_refused(store: Store, timeout_ms: int | None) -> None:
    put_run(store)
    held = claim(store)
    with writes_nothing(store):
        error = refusal(store, held, Advance(b"", wait=Wait(WaitKind.GROUP, "g", timeout_ms)))
    assert isinstance(error, GroupNotFoundError) and error.is_permanent


def test_a_zombie_that_would_wait_for_an_unknown_group_is_told_that_it_is_one(store: Store) -> None:
    put_run(store, "parent", queue=WAITS)
    held = claim(store, queue=WAITS)
    settle(store, held, Advance(b"next"))
    with writes_nothing(store):
        waiting = Advance(b"next", wait=Wait(WaitKind.GROUP, "nobody's", None))
        assert isinstance(refusal(store, held, waiting), ClaimLostError)


def test_waiting_for_a_group_that_is_not_open_is_refused(store: Store) -> None:
    store.group_write(group_of(1), 0, members(1))
    put_run(store)
    held = claim(store)
    assert isinstance(refusal(store, held, Advance(b"", wait=Wait(WaitKind.GROUP, "g"))), GroupNotFoundError)


def test_a_second_run_that_waits_is_refused(store: Store) -> None:
    submit(store)
    wait_for(store)
    put_run(store, "second", queue=WAITS)
    held = claim(store, queue=WAITS)
    with writes_nothing(store):
        error = refusal(store, held, Advance(b"", wait=Wait(WaitKind.GROUP, "g")))
    assert isinstance(error, InvalidStateError) and error.is_permanent


def test_another_run_may_wait_once_the_first_has_gone_on(store: Store) -> None:
    submit(store)
    wait_for(store, timeout_ms=0)
    settle(store, claim(store, queue=WAITS), Ack())
    assert status(store, wait_for(store, run_id="second")) is JobStatus.SCHEDULED


def test_a_run_may_wait_for_the_same_group_again(store: Store) -> None:
    submit(store)
    parent = wait_for(store, timeout_ms=0)
    settle(store, claim(store, queue=WAITS), Advance(b"", wait=Wait(WaitKind.GROUP, "g")))
    assert status(store, parent) is JobStatus.SCHEDULED


def test_the_step_after_waits_for_nothing(store: Store) -> None:
    submit(store, 0)
    wait_for(store)
    settle(store, claim(store, queue=WAITS), Advance(b""))
    assert claim(store, queue=WAITS).wait is None


# Retried


def test_retrying_a_member_reopens_the_counters_and_no_wait_that_was_delivered(store: Store) -> None:
    first, second = submit(store, 2)
    parent = wait_for(store)
    end(store, first, FAILED)
    end(store, second, Ack())
    assert counted(store) == (1, 1, 0, 0)
    store.requeue(first, failed_run=True)
    assert counted(store) == (1, 0, 0, 1)
    assert status(store, parent) is PENDING
    end(store, first, Ack())
    assert counted(store) == (2, 0, 0, 0)
    held = claim(store, queue=WAITS)
    assert held.wait is not None and not held.wait.timed_out


def test_the_failed_members_are_retried_together(store: Store) -> None:
    ids = submit(store, 3)
    end(store, ids[0], FAILED)
    end(store, ids[1], DeadLetter("x"))
    end(store, ids[2], SettleCancelled())
    assert store.group_retry("g", 0) == (2, None)
    assert [status(store, each) for each in ids] == [PENDING, PENDING, CANCELLED]
    assert counted(store) == (0, 0, 1, 2)
    with writes_nothing(store):
        assert store.group_retry("g", 0) == (0, None)


def test_a_failed_member_whose_name_is_active_again_is_passed_over(store: Store) -> None:
    first, second = submit(store, 2)
    end(store, first, FAILED)
    end(store, second, FAILED)
    put(store, run("g-0", b"0", if_finished="rerun"))  # type: ignore[arg-type]  # as a StrEnum's value
    assert store.group_retry("g", 0) == (1, None)
    assert (status(store, first), status(store, second)) == (DONE, PENDING)


# Cancelled


def test_cancelling_ends_every_member_that_waits_and_flags_the_others(store: Store) -> None:
    submit(store, 3)
    held = claim(store)
    cancel_all(store)
    assert counted(store) == (0, 0, 2, 1)
    assert shown(store).cancel_requested
    assert stored(store, held.id).cancel_requested
    assert refusal(store, held, Ack(), yields_to_cancel=True) is not None
    settle(store, held, SettleCancelled())
    assert counted(store) == (0, 0, 3, 0)
    with writes_nothing(store):
        assert store.group_cancel("g") is False


def test_a_group_of_many_is_cancelled_in_pieces(store: Store) -> None:
    submit(store, 1_200)
    cancel_all(store)
    assert counted(store) == (0, 0, 1_200, 0)


def test_a_member_that_is_claimed_after_its_group_was_cancelled_is_asked_to_stop(store: Store) -> None:
    submit(store, 1_100, on_failure=OnFailure.CANCEL)
    for _ in range(3):
        claims(store, 0)  # all of them are in line
    first = claim(store)
    settle(store, first, FAILED)
    left = claims(store, 2_000)
    assert all(row.cancel_requested for row in left)
    for row in left:
        settle(store, row, SettleCancelled())
    while store.next_work(QUEUE) == Ready():
        for row in claims(store, 2_000):
            assert row.cancel_requested
            settle(store, row, SettleCancelled())
    assert counted(store) == (0, 1, 1_099, 0)


def test_the_first_failure_wakes_who_waits_and_cancels_the_rest(store: Store) -> None:
    first, *_ = submit(store, 3, on_failure=OnFailure.CANCEL)
    parent = wait_for(store)
    end(store, first, FAILED)
    assert status(store, parent) is PENDING
    assert shown(store).cancel_requested
    held = claim(store, queue=WAITS)
    assert held.wait is not None and not held.wait.timed_out
    cancel_all(store)
    assert counted(store) == (0, 1, 2, 0)


def test_a_cancelled_member_neither_wakes_nor_cancels(store: Store) -> None:
    first, *_ = submit(store, 3, on_failure=OnFailure.CANCEL)
    parent = wait_for(store)
    store.cancel(first)
    assert status(store, parent) is JobStatus.SCHEDULED
    assert not shown(store).cancel_requested


def test_who_comes_after_a_cancelled_member_is_held(store: Store) -> None:
    first, *_ = submit(store, 3, on_failure=OnFailure.CANCEL)
    store.cancel(first)
    assert status(store, wait_for(store)) is JobStatus.SCHEDULED


def test_who_comes_after_the_failure_that_wakes_is_not_held(store: Store) -> None:
    first, *_ = submit(store, 3, on_failure=OnFailure.CANCEL)
    held = {row.id: row for row in claims(store)}
    settle(store, held[first], FAILED)
    assert counted(store)[3] == 2
    assert status(store, wait_for(store)) is PENDING


def test_with_collect_a_failure_wakes_nobody(store: Store) -> None:
    first, *_ = submit(store, 3)
    parent = wait_for(store)
    end(store, first, FAILED)
    assert status(store, parent) is JobStatus.SCHEDULED
    assert not shown(store).cancel_requested


def test_a_waiting_parent_that_is_cancelled_cancels_its_group(store: Store) -> None:
    submit(store, 3)
    parent = wait_for(store)
    store.cancel(parent)
    assert shown(store).cancel_requested
    claims(store, 0)
    cancel_all(store)
    assert counted(store) == (0, 0, 3, 0)


@pytest.mark.parametrize("action", [Ack(), FAILED, DeadLetter("x"), SettleCancelled(), Advance(b"")], ids=str)
def test_other_ends_of_a_parent_leave_its_group_running(store: Store, action: Action) -> None:
    submit(store, 3)
    wait_for(store, timeout_ms=0)
    settle(store, claim(store, queue=WAITS), action)
    assert not shown(store).cancel_requested
    assert counted(store) == (0, 0, 0, 3)


def test_a_group_that_waits_for_another_is_cancelled_with_it(store: Store) -> None:
    submit(store, 2, "inner")
    store.group_write(group_of(1, "outer", queue=WAITS), 0, members(1, "outer", queue=WAITS))
    store.group_open("outer", b"f")
    held = claim(store, queue=WAITS)
    settle(store, held, Advance(b"", wait=Wait(WaitKind.GROUP, "inner")))
    cancel_all(store, "outer")
    assert counted(store, "outer") == (0, 0, 1, 0)
    assert shown(store, "inner").cancel_requested


def test_a_member_of_a_group_that_is_being_cancelled_cannot_be_retried(store: Store) -> None:
    first, *_ = submit(store, 3, on_failure=OnFailure.CANCEL)
    held = {row.id: row for row in claims(store)}
    settle(store, held[first], FAILED)
    with writes_nothing(store):
        for retry in (lambda: store.requeue(first, failed_run=True), lambda: store.group_retry("g", 0)):
            with pytest.raises(InvalidStateError, match="cancelled"):
                retry()


def test_once_a_cancelled_group_has_ended_its_failed_members_can_be_retried(store: Store) -> None:
    first, *_ = submit(store, 3, on_failure=OnFailure.CANCEL)
    end(store, first, FAILED)
    cancel_all(store)
    assert store.group_retry("g", 0) == (1, None)
    held = claim(store)
    assert (held.id, held.cancel_requested) == (first, False)
    settle(store, held, Ack())
    assert counted(store) == (1, 0, 2, 0)


# Kept


def test_the_retention_of_members_counts_from_the_end_of_their_group(store: Store, clock: ManualClock) -> None:
    first, second = submit(store, 2)
    end(store, first, Ack())
    clock.advance(2 * KEEP_MS / 1000)
    assert store.sweep() == 0
    assert stored(store, first).is_visible
    assert [row.id for row in rows_of(store, QUEUE, Filter(visible_only=True))] == [first, second]
    end(store, second, Ack())
    clock.advance(KEEP_MS / 1000 - 1)
    assert store.sweep() == 0 and stored(store, first).is_visible
    clock.advance(1)
    assert not stored(store, first).is_visible
    assert rows_of(store, QUEUE, Filter(visible_only=True)) == []
    while store.sweep():
        pass
    assert store.get(first) is None and store.get(second) is None and store.group_get("g") is None
    submit(store, 1, fingerprint=b"new")


def test_it_counts_from_the_end_of_the_step_that_received_the_group(store: Store, clock: ManualClock) -> None:
    (only,) = submit(store, 1)
    wait_for(store)
    end(store, only, Ack())
    clock.advance(2 * KEEP_MS / 1000)
    held = claim(store, queue=WAITS)
    assert store.sweep() == 0 and stored(store, only).is_visible
    settle(store, held, Advance(b""))
    clock.advance(KEEP_MS / 1000 - 1)
    assert store.sweep() == 0 and stored(store, only).is_visible
    clock.advance(1)
    while store.sweep():
        pass
    assert store.get(only) is None and store.group_get("g") is None


def test_a_parent_that_failed_keeps_its_group_for_a_retry(store: Store, clock: ManualClock) -> None:
    (only,) = submit(store, 1)
    parent = wait_for(store)
    end(store, only, Ack())
    settle(store, claim(store, queue=WAITS), FAILED)
    clock.advance(KEEP_MS / 1000 - 1)
    assert store.sweep() == 0
    store.requeue(parent, failed_run=True)
    held = claim(store, queue=WAITS)
    assert held.wait is not None and stored(store, only).is_visible
    settle(store, held, FAILED)
    clock.advance(KEEP_MS / 1000)
    while store.sweep():
        pass
    assert store.get(parent) is None and stored(store, only).is_visible
    clock.advance(KEEP_MS / 1000)
    while store.sweep():
        pass
    assert store.get(only) is None


def test_a_retried_member_keeps_its_group(store: Store, clock: ManualClock) -> None:
    first, second = submit(store, 2)
    end(store, first, FAILED)
    end(store, second, Ack())
    store.requeue(first, failed_run=True)
    clock.advance(2 * KEEP_MS / 1000)
    assert store.sweep() == 0
    end(store, first, Ack())
    assert counted(store) == (2, 0, 0, 0)


def test_an_empty_group_is_swept_too(store: Store, clock: ManualClock) -> None:
    submit(store, 0)
    clock.advance(KEEP_MS / 1000)
    while store.sweep():
        pass
    assert store.group_get("g") is None


def test_a_forgotten_group_frees_its_name_and_keeps_its_members(store: Store, clock: ManualClock) -> None:
    (only,) = submit(store, 1)
    with writes_nothing(store), pytest.raises(InvalidStateError, match="open members"):
        store.group_forget("g")
    end(store, only, Ack())
    assert store.group_forget("g")
    assert not store.group_forget("g")
    assert store.group_get("g") is None and stored(store, only).is_visible
    store.group_write(group_of(1, fingerprint=b"new"), 0, [run("other")])
    clock.advance(KEEP_MS / 1000)
    while store.sweep():
        pass
    assert store.get(only) is None


def test_parents_are_named_after_they_are_gone(store: Store, clock: ManualClock) -> None:
    parent, writer = writer_of(store)
    store.group_write(group_of(2, keep_ms=10 * KEEP_MS), 0, members(2), writer)
    store.group_open("g", b"f")
    settle(store, claim_again(store, parent, writer), Ack())
    clock.advance(2 * KEEP_MS / 1000)
    while store.sweep():
        pass
    assert store.get(parent) is None
    assert [row.parent for row in rows_of(store, QUEUE, Filter(parent="parent"))] == ["parent", "parent"]


def test_who_hears_of_ends_hears_of_a_groups(store: Store) -> None:
    (only,) = submit(store, 1)
    heard: set[str] = set()
    assert store.ended(["group:g", "group:unknown", only]) == {"group:unknown"}
    with store.on_commit(lambda woken, ended: heard.update(ended)):
        end(store, only, Ack())
    assert heard == {only, "group:g"}
    assert store.ended(["group:g", only]) == {"group:g", only}


def test_a_refused_settlement_of_a_member_counts_nothing(store: Store) -> None:
    submit(store, 1)
    held = claim(store)
    settle(store, held, Release())
    error = refusal(store, held, Ack())
    assert isinstance(error, TaqubaError)
    assert counted(store) == (0, 0, 0, 1)


# With limits


def limit_of_key(store: Store, queue: str = QUEUE) -> None:
    store.set_limit(queue, Limit("k", concurrency=1))
    while store.settle_limits(queue):
        pass


def submit_keyed(store: Store, total: int, **fields: Any) -> None:
    store.group_write(group_of(total), 0, members(total, limit_key="k", **fields))
    store.group_open("g", b"f")


def test_members_of_a_key_are_parked_above_its_limit_once_the_group_is_open(store: Store) -> None:
    limit_of_key(store)
    submit_keyed(store, 3)
    (held,) = claims(store)
    assert held.run_id == "g-0"
    assert [row.is_parked for row in rows_of(store, QUEUE)] == [False, True, True]
    settle(store, held, Ack())
    (held,) = claims(store)
    assert held.run_id == "g-1"
    cancel_all(store)
    settle(store, held, SettleCancelled())
    assert claims(store) == [] and counted(store) == (1, 0, 2, 0)


def test_members_of_a_group_that_is_not_open_take_no_slot(store: Store) -> None:
    limit_of_key(store)
    store.group_write(group_of(), 0, members(2, limit_key="k"))
    put_run(store, "other", limit_key="k")
    put_run(store, "next", limit_key="k")
    held = claim(store)
    assert held.run_id == "other"
    settle(store, held, Ack())
    assert claim(store).run_id == "next"


def test_who_waits_for_a_group_enters_the_line_of_its_key_when_that_ends(store: Store) -> None:
    limit_of_key(store, WAITS)
    (member,) = submit(store, 1)
    for name in ("parent", "other"):
        put_run(store, name, queue=WAITS, limit_key="k")
    parent = claim(store, queue=WAITS)
    settle(store, parent, Advance(b"next", wait=Wait(WaitKind.GROUP, "g")))
    other = claim(store, queue=WAITS)
    end(store, member, Ack())
    assert stored(store, parent.id).status is PENDING and stored(store, parent.id).is_parked
    assert claims(store, queue=WAITS) == []
    settle(store, other, Ack())
    assert claim(store, queue=WAITS).id == parent.id


# With the end of a step


def spawning(
    store: Store, total: int, action: Action, *, run_id: str = "parent", **fields: Any
) -> tuple[str, TaqubaError | Ongoing | None, list[NewJob]]:
    """A run whose step writes a group, and opens it with its end; returns it, the answer, and the members."""
    parent = put_run(store, run_id, queue=WAITS)
    held = claim(store, queue=WAITS)
    group, jobs = group_of(total, **fields), members(total)
    assert store.group_write(group, 0, jobs, HeldBy(held.id, held.token)) == Progress(total, False)
    opening = OpenGroup(group.name, group.fingerprint)
    (answer,), _ = store.settle_and_claim([Settlement(held.id, held.token, action, True, effects=(opening,))], [])
    return parent, answer, jobs


WAITING = Advance(b"next", wait=Wait(WaitKind.GROUP, "g"))


def test_a_step_opens_its_group_and_waits_for_it_in_one_commit(store: Store) -> None:
    parent, answer, jobs = spawning(store, 2, WAITING)
    assert answer is None
    assert stored(store, parent).wait == ("group", "g") and stored(store, parent).children == 2
    for each in jobs:
        assert stored(store, each.id).parent == "parent"
        end(store, each.id, Ack())
    held = claim(store, queue=WAITS)
    assert held.wait is not None and not held.wait.timed_out and held.wait.wait.name == "g"


def test_a_step_that_opens_an_empty_group_goes_on_at_once(store: Store) -> None:
    parent, answer, _ = spawning(store, 0, WAITING)
    assert answer is None and status(store, parent) is PENDING
    held = claim(store, queue=WAITS)
    assert held.wait is not None and not held.wait.timed_out
    settle(store, held, Ack())
    store.group_forget("g")


@pytest.mark.parametrize("action", [Ack(), FAILED, Nack("x"), Advance(b"next")], ids=str)
def test_a_step_may_open_a_group_and_not_wait_for_it(store: Store, action: Action) -> None:
    _, answer, jobs = spawning(store, 2, action)
    assert answer is None
    assert counted(store) == (0, 0, 0, 2)
    assert {row.id for row in claims(store)} == {each.id for each in jobs}


def test_a_step_cannot_open_a_group_that_is_not_wholly_written(store: Store) -> None:
    put_run(store, "parent", queue=WAITS)
    held = claim(store, queue=WAITS)
    store.group_write(group_of(3), 0, members(2), HeldBy(held.id, held.token))
    with writes_nothing(store):
        settlement = Settlement(
            held.id, held.token, WAITING, True, effects=(OpenGroup("g", b"f"), Put("key", b"value"))
        )
        (answer,), _ = store.settle_and_claim([settlement], [])
    assert isinstance(answer, GroupMismatchError) and answer.is_permanent


def test_a_step_that_does_not_open_its_group_cannot_wait_for_it(store: Store) -> None:
    put_run(store, "parent", queue=WAITS)
    held = claim(store, queue=WAITS)
    store.group_write(group_of(2), 0, members(2), HeldBy(held.id, held.token))
    store.group_write(group_of(1, "other"), 0, members(1, "other"), HeldBy(held.id, held.token))
    with writes_nothing(store):
        settlement = Settlement(held.id, held.token, WAITING, True, effects=(OpenGroup("other", b"f"),))
        (answer,), _ = store.settle_and_claim([settlement], [])
    assert isinstance(answer, GroupNotFoundError)


def test_what_a_step_submits_with_its_end_is_its_child(store: Store) -> None:
    parent = put_run(store, "parent", queue=WAITS)
    held = claim(store, queue=WAITS)
    inner = Insert(run("inner", queue=QUEUE))
    effects = (Insert(run("outer", queue=QUEUE), (inner,)), Insert(job(QUEUE)))
    store.settle_and_claim([Settlement(held.id, held.token, Ack(), True, effects=effects)], [])
    assert stored(store, parent).children == 2
    assert {row.run_id: row.parent for row in rows_of(store, QUEUE)} == {
        "outer": "parent", "inner": "parent", None: None,
    }  # fmt: skip
    assert store.page(QUEUE, Filter(parent="parent"), 10, None).rows[0].run_id in ("outer", "inner")


def test_what_a_program_submits_is_nobodys_child(store: Store) -> None:
    store.commit_effects([Insert(run("r"))])
    (row,) = rows_of(store, QUEUE)
    assert row.parent is None


# With time limits


def test_a_waiting_parent_that_passes_its_deadline_cancels_its_group(store: Store, clock: ManualClock) -> None:
    submit(store, 3)
    put_run(store, "parent", queue=WAITS, limits=TimeLimits(deadline_after_ms=5_000))
    held = claim(store, queue=WAITS)
    settle(store, held, WAITING)
    clock.advance(5)
    claims(store, 0, queue=WAITS)
    assert status(store, held.id) is DEAD
    assert shown(store).cancel_requested
    cancel_all(store)
    assert counted(store) == (0, 0, 3, 0)


def test_a_parent_that_passed_its_deadline_while_it_waited_waits_again_once_it_is_retried(
    store: Store, clock: ManualClock
) -> None:
    ids = submit(store, 2)
    held_members = claims(store)
    put_run(store, "parent", queue=WAITS, limits=TimeLimits(deadline_after_ms=5_000))
    held = claim(store, queue=WAITS)
    settle(store, held, WAITING)
    clock.advance(5)
    claims(store, 0, queue=WAITS)
    store.requeue(held.id, failed_run=True)
    assert stored(store, held.id).wait == ("group", "g")
    for row in held_members:
        settle(store, row, SettleCancelled())
    assert [status(store, each) for each in ids] == [CANCELLED, CANCELLED]
    again = claim(store, queue=WAITS)
    assert again.wait is not None and not again.wait.timed_out


def test_a_parent_whose_group_has_ended_meanwhile_goes_on_at_once(store: Store, clock: ManualClock) -> None:
    submit(store, 2)
    put_run(store, "parent", queue=WAITS, limits=TimeLimits(deadline_after_ms=5_000))
    held = claim(store, queue=WAITS)
    settle(store, held, WAITING)
    clock.advance(5)
    claims(store, 0, queue=WAITS)
    cancel_all(store)
    store.requeue(held.id, failed_run=True)
    again = claim(store, queue=WAITS)
    assert again.wait is not None and not again.wait.timed_out


def test_a_held_member_has_no_deadline_before_its_group_is_open(store: Store, clock: ManualClock) -> None:
    late, early = TimeLimits(deadline_after_ms=5_000), TimeLimits(deadline_after_ms=9_000)
    jobs = [run("g-0", limits=late), run("g-1", limits=early), run("g-2")]
    store.group_write(group_of(3), 0, jobs)
    clock.advance(6)
    assert claims(store) == []
    store.group_open("g", b"f")
    claims(store, 0)
    claims(store, 0)
    assert [status(store, each.id) for each in jobs] == [DEAD, PENDING, PENDING]
    assert counted(store) == (0, 1, 0, 2)
    clock.advance(4)
    claims(store, 0)
    assert counted(store) == (0, 2, 0, 1)
    assert store.check() == []


def test_a_cancelled_group_goes_before_the_deadline_of_a_claimed_member(store: Store, clock: ManualClock) -> None:
    store.group_write(group_of(1), 0, [run("g-0", limits=TimeLimits(deadline_after_ms=5_000))])
    store.group_open("g", b"f")
    held = claim(store)
    clock.advance(5)
    claims(store, 0)
    assert [each.is_late for each in store.running()] == [True]
    cancel_all(store)
    assert [(each.cancel_requested, each.is_late) for each in store.running()] == [(True, False)]
    assert isinstance(refusal(store, held, Ack(), yields_to_cancel=True), CancelRequestedError)


def test_a_group_is_refused_where_a_queue_has_no_room_for_all_of_it(store: Store) -> None:
    store.set_limit(QUEUE, Limit(None, max_waiting=3))
    put_run(store, "waits")
    with writes_nothing(store), pytest.raises(QueueFullError):
        store.group_write(group_of(3), 0, members(3, is_bounded=True))
    store.group_write(group_of(2), 0, members(2, is_bounded=True))
    store.group_open("g", b"f")
    assert len(claims(store)) == 3


def test_a_group_is_refused_where_a_key_has_no_room_for_its_members(store: Store) -> None:
    store.set_limit(QUEUE, Limit("k", concurrency=5, max_waiting=2))
    put_run(store, "waits", limit_key="k")
    with writes_nothing(store), pytest.raises(QueueFullError):
        store.group_write(group_of(2), 0, members(2, limit_key="k", is_bounded=True))
    store.group_write(group_of(2), 0, [*members(1, limit_key="k", is_bounded=True), run("g-1", is_bounded=True)])


def test_a_steps_group_is_never_refused_for_room(store: Store) -> None:
    store.set_limit(QUEUE, Limit(None, max_waiting=1))
    put_run(store, "waits")
    store.group_write(group_of(3), 0, members(3))
    store.group_open("g", b"f")


def test_an_open_group_in_a_paused_queue_is_no_work_before_that_goes_on(store: Store) -> None:
    jobs = members(2)
    store.pause(QUEUE, is_paused=True)
    store.group_write(group_of(2), 0, jobs)
    store.group_open("g", b"f")
    assert store.next_work(QUEUE) is None
    store.pause(QUEUE, is_paused=False)
    assert store.next_work(QUEUE) == Ready()
    assert [row.id for row in claims(store)] == [each.id for each in jobs]
