"""What queues and groups count beside their rows by status: a check tells what is wrong, a repair counts anew."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.effects import OpenGroup
from taquba_workflow_sync.storage.port.group import HeldBy, OnFailure, Progress
from taquba_workflow_sync.storage.port.limit import Limit
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, Release, Settlement
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.timing import TimeLimits
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.testing import ManualClock
from tests.storage.bench import KEEP_MS, LANE, QUEUE, claim, claims, put, put_run, run, settle, stored
from tests.storage.test_group import FAILED, counted, group_of, members, shown, submit, wait_for

from .conftest import OpenEmbedded
from .raw import raw

WHERE = f"FROM {sql.MEMBER} WHERE position ="


def damage(store: EmbeddedStore, statement: str, *values: object) -> None:
    with raw(store._connections.root) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        assert connection.execute(statement, values).rowcount > 0


def damage_member(store: EmbeddedStore, position: int) -> None:
    damage(
        store, f"UPDATE {sql.JOB} SET attempts = max_attempts, parked = 0 WHERE seq = (SELECT job {WHERE} {position})"
    )


def everything(store: EmbeddedStore) -> None:
    """Rows with an end, parked ones, and a group at work."""
    store.set_limit(QUEUE, Limit("k", 1))
    put(store, *(run(f"keyed-{number}", limit_key="k") for number in range(3)))
    put(store, run("timed", limits=TimeLimits(deadline_ms=10**14)))
    submit(store, 3)


@pytest.mark.parametrize(
    "flag, wrong",
    [
        ("limited", 0), ("limited", "x"), ("timed", 0), ("timed", 7), ("parked", 0), ("parked", 9), ("parked", -1),
        ("groups", 0), ("groups", 2), ("groups", "many"), ("paused", "x"), ("paused", -1),
    ],
)  # fmt: skip
def test_what_a_queue_counts_of_its_rows_is_looked_at_and_counted_anew(
    open_embedded: OpenEmbedded, flag: str, wrong: object
) -> None:
    store = open_embedded()
    everything(store)
    assert store.check() == []
    damage(store, f"UPDATE {sql.QUEUE} SET {flag} = ? WHERE name = ?", wrong, QUEUE)
    (problem,) = store.check()
    assert problem.startswith(f"queue '{QUEUE}' has of pauses and limits ") and f"'{flag}': " in problem
    assert store._access.repair()
    assert store.check() == []
    with raw(store._connections.root) as connection:
        assert connection.execute(
            f"SELECT paused, limited, timed, parked, groups FROM {sql.QUEUE} WHERE name = ?", (QUEUE,)
        ).fetchone() == (0, 1, 1, 2, 1)


@pytest.mark.parametrize(
    "wrong", ["succeeded = 0", "failed = 2", "cancelled = 'x'", "total = 9", "total = 1", "written = 0", "failed = -1"]
)
def test_a_groups_counters_are_looked_at_and_counted_anew(open_embedded: OpenEmbedded, wrong: str) -> None:
    store = open_embedded()
    submit(store, 4)
    held = claims(store)
    for row, action in zip(held, (Ack(), FAILED), strict=False):
        settle(store, row, action)
    damage(store, f"UPDATE {sql.GROUP} SET {wrong}")
    problems = store.check()
    if "written" not in wrong:  # of an open group, that is a second account of its size
        assert ["the counters of group 'g'" in each for each in problems] == [True]
        assert store._access.repair()
    assert store.check() == []
    assert counted(store) == (1, 1, 0, 2)


def test_a_group_whose_counters_were_too_low_ends_by_their_repair_and_wakes_who_waits(
    open_embedded: OpenEmbedded,
) -> None:
    store = open_embedded()
    submit(store, 2)
    parent = wait_for(store)
    settle(store, claim(store), Ack())
    damage(store, f"UPDATE {sql.GROUP} SET succeeded = 0")
    settle(store, claim(store), Ack())
    assert stored(store, parent).status is JobStatus.SCHEDULED
    assert store._access.repair()
    assert (shown(store).has_ended, stored(store, parent).status) == (True, JobStatus.PENDING)
    assert store.check() == []


def test_counters_that_are_too_high_are_counted_anew_by_the_next_end_of_a_member(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    submit(store, 3)
    parent = wait_for(store)
    damage(store, f"UPDATE {sql.GROUP} SET cancelled = 3, ended_ms = 5, expires_ms = 6")
    settle(store, claim(store), Ack())
    assert counted(store) == (1, 0, 0, 2) and stored(store, parent).status is JobStatus.SCHEDULED
    assert store.check() == []
    store.sweep()
    for _ in range(2):
        settle(store, claim(store), Ack())
    assert counted(store) == (3, 0, 0, 0) and stored(store, parent).status is JobStatus.PENDING


def test_a_retry_that_finds_no_failure_counted_has_its_group_counted_anew(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    ids = submit(store, 2)
    held = {row.id: row for row in claims(store)}
    for each in ids:
        settle(store, held[each], FAILED)
    damage(store, f"UPDATE {sql.GROUP} SET failed = 0, succeeded = 2")
    store.requeue(ids[0], failed_run=True)
    assert counted(store) == (0, 1, 0, 1)
    assert store.check() == []


@pytest.mark.parametrize("wrong", ["work = 0", "released = 500, work = 0", "released = 3"])
def test_held_members_that_nobody_would_move_are_told_and_moved(open_embedded: OpenEmbedded, wrong: str) -> None:
    store = open_embedded()
    submit(store, 3)
    damage(store, f"UPDATE {sql.GROUP} SET {wrong}")
    assert any("are held, and nobody would move them" in problem for problem in store.check())
    assert store._access.repair()
    assert store.check() == []
    assert [row.run_id for row in claims(store)] == ["g-0", "g-1", "g-2"]


def test_a_member_whose_row_is_lost_has_failed_once_the_group_was_counted_anew(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    submit(store, 2)
    damage(store, f"DELETE FROM {sql.JOB} WHERE seq = (SELECT job {WHERE} 1)")
    store._access.repair()
    settle(store, claim(store), Ack())
    assert counted(store) == (1, 1, 0, 0)


# A member that was quarantined


def test_a_quarantined_member_has_failed(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    ids = submit(store, 2)
    for row in claims(store):
        settle(store, row, Release())
    damage_member(store, 0)
    other = claim(store)
    assert (other.id, stored(store, ids[0]).status) == (ids[1], JobStatus.DEAD)
    settle(store, other, Ack())
    assert counted(store) == (1, 1, 0, 0)
    assert store.check() == []


def test_a_quarantined_member_is_kept_as_long_as_its_group(open_embedded: OpenEmbedded) -> None:
    clock = ManualClock()
    store = open_embedded(clock=clock)
    ids = submit(store, 2)
    for row in claims(store):
        settle(store, row, Release())
    damage_member(store, 0)
    other = claim(store)
    clock.advance(2 * KEEP_MS / 1000)
    while store.sweep():
        pass
    assert stored(store, ids[0]).status is JobStatus.DEAD, "it was swept before its group had ended"
    settle(store, other, Ack())
    clock.advance(2 * KEEP_MS / 1000)
    while store.sweep():
        pass
    assert store.get(ids[0]) is None and store.group_get("g") is None
    assert store.check() == []


@pytest.mark.parametrize("on_failure", OnFailure)
def test_a_held_member_that_was_quarantined_has_failed_once_its_group_is_open(
    open_embedded: OpenEmbedded, on_failure: OnFailure
) -> None:
    store = open_embedded()
    store.subscribe(QUEUE, Subscription(LANE, 3, None))
    put_run(store, "writer", queue="writers")
    held = claim(store, queue="writers")
    jobs = members(3)
    group = group_of(on_failure=on_failure)
    assert store.group_write(group, 0, jobs, HeldBy(held.id, held.token)) == Progress(3, False)
    damage_member(store, 1)
    assert claims(store) == []
    assert stored(store, jobs[1].id).status is JobStatus.DEAD
    waiting = Advance(b"", wait=Wait(WaitKind.GROUP, "g"))
    ending = Settlement(held.id, held.token, waiting, True, effects=(OpenGroup("g", b"f"),))
    assert store.settle_and_claim([ending], []) == ([None], [])
    wakes = on_failure is OnFailure.CANCEL
    assert stored(store, held.id).status is (JobStatus.PENDING if wakes else JobStatus.SCHEDULED)
    assert counted(store) == (0, 1, 0, 2)
    assert store.check() == []
    for row in claims(store):
        settle(store, row, Ack())
    assert counted(store) == ((0, 1, 2, 0) if wakes else (2, 1, 0, 0))
    assert stored(store, held.id).status is JobStatus.PENDING
    assert store.check() == []


def test_a_group_all_of_whose_held_members_were_quarantined_has_ended_when_it_is_opened(
    open_embedded: OpenEmbedded,
) -> None:
    store = open_embedded()
    store.group_write(group_of(1), 0, members(1))
    damage_member(store, 0)
    assert claims(store) == []
    store.group_open("g", b"f")
    assert counted(store) == (0, 1, 0, 0) and shown(store).has_ended
    assert store.check() == []


def test_a_quarantined_run_is_not_counted_among_those_with_an_end(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    (bad,) = put(store, run("timed", limits=TimeLimits(deadline_ms=10**14)))
    damage(store, f"UPDATE {sql.JOB} SET attempts = max_attempts")
    assert claims(store) == [] and stored(store, bad).status is JobStatus.DEAD
    assert store.check() == []
