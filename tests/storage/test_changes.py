"""Hearing of commits: waiting for those of anybody, being told of one's own, and committing for everyone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from taquba_workflow_sync.storage.port.changes import Changes
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, DeadLetter, Nack
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock
from taquba_workflow_sync.wakeup import WakeUp
from tests.support import PATIENCE, in_thread

from .bench import (
    LANE,
    QUEUE,
    claim,
    dump,
    job,
    put,
    put_one,
    put_run,
    refusal,
    settle,
    status,
    stored,
    subscribe,
    version_of,
)
from .conftest import MakeStore


def waiting(store: Store, since: object, wakeup: WakeUp) -> Callable[[], Changes]:
    """Wait on a thread of its own; the function returned gives what the wait saw."""
    return in_thread(lambda: store.wait_for_changes(since, 10 * PATIENCE, wakeup))


# Waiting


def test_the_version_changes_with_every_commit_of_any_handle_and_not_otherwise(make_store: MakeStore) -> None:
    first, second = make_store(), make_store()
    for writer in (first, second):
        before = version_of(first), version_of(second)
        put_one(writer)
        after = version_of(first), version_of(second)
        assert before[0] != after[0] and before[1] != after[1]
        assert (version_of(first), version_of(second)) == after
    before = version_of(first), version_of(second)
    dump(first)
    assert (version_of(first), version_of(second)) == before


def test_a_wait_since_never_returns_at_once(store: Store) -> None:
    begun = time.monotonic()
    store.wait_for_changes(None, 10 * PATIENCE, WakeUp())
    assert time.monotonic() - begun < PATIENCE


@pytest.mark.parametrize("is_foreign", [False, True])
@pytest.mark.parametrize("is_before", [False, True])
def test_a_wait_ends_with_a_commit_of_any_handle(make_store: MakeStore, is_foreign: bool, is_before: bool) -> None:
    mine, theirs = make_store(), make_store()
    since = version_of(mine)
    writer = theirs if is_foreign else mine
    if is_before:
        put_one(writer)
    join = waiting(mine, since, WakeUp())
    if not is_before:
        put_one(writer)
    changes = join()
    assert changes.are_new
    assert changes.version != since
    assert changes.version == version_of(mine), "it is what to wait from next time"


def test_a_wait_ends_when_the_stores_clock_is_set(store: Store, clock: ManualClock) -> None:
    join = waiting(store, version_of(store), WakeUp())
    # Whoever moves the clock in the instant before the wait begins must be noticed as well.
    clock.advance(1)
    join()


def test_a_wait_ends_when_its_wakeup_rings(store: Store) -> None:
    wakeup = WakeUp()
    join = waiting(store, version_of(store), wakeup)
    wakeup.notify()
    join()


def test_a_wakeup_that_rang_before_is_not_missed(store: Store) -> None:
    wakeup = WakeUp()
    wakeup.notify()
    begun = time.monotonic()
    store.wait_for_changes(version_of(store), 10 * PATIENCE, wakeup)
    assert time.monotonic() - begun < PATIENCE


@pytest.mark.parametrize("timeout", [0.0, 0.05])
def test_a_wait_ends_after_its_timeout(store: Store, timeout: float) -> None:
    since, begun = version_of(store), time.monotonic()
    changes = store.wait_for_changes(since, timeout, WakeUp())
    assert timeout <= time.monotonic() - begun < PATIENCE
    assert changes.version == since


def test_many_waiters_all_hear_of_one_commit(make_store: MakeStore) -> None:
    mine, theirs = make_store(), make_store()
    since = version_of(mine)
    joins = [waiting(mine, since, WakeUp()) for _ in range(5)]
    put_one(theirs)
    assert all(join().are_new for join in joins)


# Listeners


def test_a_listener_is_told_which_queues_got_work_and_whose_runs_ended(store: Store, clock: ManualClock) -> None:
    heard: list[tuple[set[str], set[str]]] = []

    def told() -> list[tuple[set[str], set[str]]]:
        copy = heard[:]
        heard.clear()
        return copy

    with store.on_commit(lambda woken, ended: heard.append((set(woken), set(ended)))):
        put(store, job("a"), job("b"))
        assert told() == [({"a", "b"}, set())]
        job_id = put_run(store)
        assert told() == [({QUEUE}, set())]
        held = claim(store)
        assert told() == []
        settle(store, held, Nack("x", 1_000))
        assert told() == [({QUEUE}, set())], "a waiter must learn of the new due time"
        clock.advance(1)
        settle(store, claim(store), Advance(b"x"))
        assert told()[-1] == ({QUEUE}, set())
        settle(store, claim(store), DeadLetter("x"))
        assert told() == [(set(), {job_id})]
        store.requeue(job_id)
        assert told() == [({QUEUE}, set())]
        subscribe(store)
        told()
        settle(store, claim(store), Ack())
        assert told() == [({LANE}, {job_id})], "a notification is work too"
    put_one(store)
    assert told() == [], "a listener that left hears nothing"


def test_a_refused_write_is_told_to_nobody(store: Store) -> None:
    put_run(store)
    held = claim(store)
    settle(store, held, Ack())
    heard: list[object] = []
    with store.on_commit(lambda woken, ended: heard.append(woken)):
        refusal(store, held, Ack())
        store.cancel("nobody")
    assert heard == []


def test_listeners_hear_only_after_the_commit_could_be_read(store: Store) -> None:
    seen: list[str | None] = []
    new = job()
    with store.on_commit(lambda woken, ended: seen.append(status(store, new.id))):
        put(store, new)
    assert seen == ["pending"]


def test_a_listener_may_call_the_store_and_every_one_hears(store: Store) -> None:
    heard: list[frozenset[str]] = []

    def hear(woken: frozenset[str], ended: bool) -> None:
        heard.append(woken)
        store.counts()
        version_of(store)

    with store.on_commit(hear), store.on_commit(hear):
        put_one(store)
    assert heard == [frozenset({QUEUE})] * 2


# Leading


def test_one_thread_leads_and_a_second_is_told_that_another_does(store: Store) -> None:
    with store.lead(lambda: None) as first, store.lead(lambda: None) as second:
        assert first is not None
        assert second is None
        with store.lead(lambda: None) as third:
            assert third is None
        first.flush()
    with store.lead(lambda: None) as again:
        assert again is not None, "whoever has left leads no more"


def test_each_handle_has_a_leader_of_its_own(make_store: MakeStore) -> None:
    first, second = make_store(), make_store()
    with first.lead(lambda: None) as mine, second.lead(lambda: None) as theirs:
        assert mine is not None and theirs is not None


def test_a_leader_commits_for_other_threads(store: Store) -> None:
    woken = threading.Event()
    done: list[str] = []
    with store.lead(woken.set) as leader:
        assert leader is not None
        thread = threading.Thread(target=lambda: done.append(put_one(store)))
        thread.start()
        until = time.monotonic() + PATIENCE
        # An engine whose calls commit by themselves wakes nobody.
        while thread.is_alive() and time.monotonic() < until:
            if woken.wait(0.005):
                woken.clear()
                leader.flush()
        assert not thread.is_alive()
    assert stored(store, done[0]).status == "pending"


def test_a_flush_with_nothing_to_do_is_no_error_and_writes_nothing(store: Store) -> None:
    before = version_of(store)
    with store.lead(lambda: None) as leader:
        assert leader is not None
        leader.flush()
        leader.flush()
    assert version_of(store) == before


def test_callers_are_served_though_the_leader_sleeps(store: Store) -> None:
    with store.lead(lambda: None):
        threads = [threading.Thread(target=put_one, args=(store,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert store.counts()[QUEUE].pending == 4


def test_a_leader_may_call_the_store_itself(store: Store) -> None:
    heard: list[object] = []
    with store.lead(lambda: None), store.on_commit(lambda woken, ended: heard.append(woken)):
        put_one(store)
    assert heard == [frozenset({QUEUE})]
    put_one(store)


def test_who_was_told_that_another_leads_may_be_a_listener(store: Store) -> None:
    heard: list[object] = []
    with (
        store.lead(lambda: None),
        store.lead(lambda: None) as second,
        store.on_commit(lambda woken, ended: heard.append(woken)),
    ):
        assert second is None
        put_one(store)
    assert heard == [frozenset({QUEUE})]
    put_one(store)
