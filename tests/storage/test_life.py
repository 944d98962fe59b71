"""Opening again, closing, hearing of commits, and being heard of by other handles."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from taquba_workflow_sync.errors import ClaimLostError, StoreClosedError
from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.presence import NOTHING_ABANDONED
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, DeadLetter, Nack, Settlement
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    LANE,
    LEASE_MS,
    QUEUE,
    claim,
    claims,
    dump,
    ending,
    job,
    put,
    put_one,
    put_run,
    refusal,
    settle,
    status,
    stored,
    subscribe,
)
from .conftest import MakeStore
from .test_enqueue import now_ms

CALLS: dict[str, Callable[[Store], object]] = {
    "insert": lambda store: store.insert([job()]),
    "settle_and_claim": lambda store: store.settle_and_claim([Settlement("a", "b", Ack())], []),
    "claim": lambda store: store.settle_and_claim([], [ClaimRequest((LaneClaim(QUEUE, 1),), 1)]),
    "empty settle_and_claim": lambda store: store.settle_and_claim([], []),
    "renew": lambda store: store.renew(["a"], 1),
    "cancel": lambda store: store.cancel("a", NOTHING_ABANDONED, None),
    "requeue": lambda store: store.requeue("a"),
    "sweep": lambda store: store.sweep(),
    "subscribe": lambda store: store.subscribe(QUEUE, Subscription(LANE, 1, None)),
    "get": lambda store: store.get("a"),
    "find_run": lambda store: store.find_run(QUEUE, "a"),
    "page": lambda store: store.page(QUEUE, Filter(), 1, 0),
    "counts": lambda store: store.counts(),
    "history": lambda store: store.history("a"),
    "readiness": lambda store: store.readiness(QUEUE),
    "running": lambda store: store.running(foreign=True),
    "abandoned_claims": lambda store: store.abandoned_claims(),
    "version": lambda store: store.version(),
    "listen": lambda store: store.listen(lambda woken, ended: None).__enter__(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_closed_store_says_so(make_store: MakeStore, call: Callable[[Store], object]) -> None:
    store = make_store()
    put_one(store)
    store.close()
    with pytest.raises(StoreClosedError):
        call(store)


def test_closing_again_is_no_error(make_store: MakeStore) -> None:
    store = make_store()
    store.close()
    store.close()


def test_closing_one_handle_leaves_the_others_open(make_store: MakeStore) -> None:
    first, second = make_store(), make_store()
    put_one(first)
    first.close()
    assert len(claims(second)) == 1


def test_everything_is_there_after_a_restart(make_store: MakeStore, clock: ManualClock) -> None:
    first = make_store()
    subscribe(first)
    put(first, job(payload=b"x" * 9_000), job(run_at_ms=now_ms(clock) + 1_000), job(), job())
    put_run(first, "r")
    held = claims(first, 2)
    settle(first, held[0], Nack("boom", 500))
    settle(first, claims(first, 2)[1], DeadLetter("broken"))
    before = dump(first)
    first.close()
    second = make_store()
    after = dump(second)
    assert after == before


def test_a_claim_can_be_settled_after_a_restart(make_store: MakeStore) -> None:
    first = make_store()
    put_run(first)
    held = claim(first)
    first.close()
    second = make_store()
    assert refusal(second, held, Ack()) is None
    assert isinstance(refusal(second, held, Ack()), ClaimLostError)


def test_the_line_goes_on_where_it_was_after_a_restart(make_store: MakeStore) -> None:
    first = make_store()
    early = put_one(first)
    first.close()
    second = make_store()
    late = put_one(second)
    assert [row.id for row in claims(second)] == [early, late]


# -- version ----------------------------------------------------------------------------------------------------------


def test_the_version_changes_with_every_commit_of_any_handle_and_not_otherwise(make_store: MakeStore) -> None:
    first, second = make_store(), make_store()
    for writer in (first, second):
        before = first.version(), second.version()
        put_one(writer)
        after = first.version(), second.version()
        assert before[0] != after[0] and before[1] != after[1]
        assert (first.version(), second.version()) == after
    before = first.version(), second.version()
    dump(first)
    assert (first.version(), second.version()) == before


# -- listeners --------------------------------------------------------------------------------------------------------


def test_a_listener_is_told_which_queues_got_work_and_whether_a_run_ended(store: Store, clock: ManualClock) -> None:
    heard: list[tuple[set[str], bool]] = []

    def told() -> list[tuple[set[str], bool]]:
        copy = heard[:]
        heard.clear()
        return copy

    with store.listen(lambda woken, ended: heard.append((set(woken), ended))):
        put(store, job("a"), job("b"))
        assert told() == [({"a", "b"}, False)]
        job_id = put_run(store)
        assert told() == [({QUEUE}, False)]
        held = claim(store)
        assert told() == []
        settle(store, held, Nack("x", 1_000))
        assert told() == [({QUEUE}, False)], "a waiter must learn of the new due time"
        clock.advance(1)
        settle(store, claim(store), Advance(b"x"))
        assert told()[-1] == ({QUEUE}, False)
        settle(store, claim(store), DeadLetter("x"))
        assert told() == [(set(), True)]
        store.requeue(job_id)
        assert told() == [({QUEUE}, False)]
        subscribe(store)
        told()
        settle(store, claim(store), Ack())
        assert told() == [({LANE}, True)], "a notification is work too"
    put_one(store)
    assert told() == [], "a listener that left hears nothing"


def test_a_refused_write_is_told_to_nobody(store: Store) -> None:
    put_run(store)
    held = claim(store)
    settle(store, held, Ack())
    heard: list[object] = []
    with store.listen(lambda woken, ended: heard.append(woken)):
        refusal(store, held, Ack())
        store.cancel("nobody", NOTHING_ABANDONED, None)
    assert heard == []


def test_listeners_hear_only_after_the_commit_could_be_read(store: Store) -> None:
    seen: list[str | None] = []
    new = job()
    with store.listen(lambda woken, ended: seen.append(status(store, new.id))):
        put(store, new)
    assert seen == ["pending"]


def test_an_attendant_commits_for_other_threads(store: Store) -> None:
    rung = threading.Event()
    done: list[str] = []
    with store.listen(lambda woken, ended: rung.set(), attend=True):
        thread = threading.Thread(target=lambda: done.append(put_one(store)))
        thread.start()
        assert rung.wait(30)
        store.settle_and_claim([], [])
        thread.join(30)
        assert not thread.is_alive()
    assert stored(store, done[0]).status == "pending"


def test_callers_are_served_though_the_attendant_sleeps(store: Store) -> None:
    with store.listen(lambda woken, ended: None, attend=True):
        threads = [threading.Thread(target=put_one, args=(store,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    assert store.counts()[QUEUE].pending == 4


def test_a_second_attendant_is_only_a_listener(store: Store) -> None:
    heard: list[object] = []
    with (
        store.listen(lambda woken, ended: None, attend=True),
        store.listen(lambda woken, ended: heard.append(woken), attend=True),
    ):
        put_one(store)
    assert heard == [frozenset({QUEUE})]
    put_one(store)


# -- many threads -----------------------------------------------------------------------------------------------------


def test_concurrent_callers_lose_and_double_nothing(make_store: MakeStore) -> None:
    handles = [make_store(), make_store()]
    claimed: list[str] = []
    errors: list[BaseException] = []
    barrier = threading.Barrier(6)

    def work(number: int) -> None:
        store = handles[number % 2]
        try:
            barrier.wait(30)
            for _ in range(15):
                put(store, job(), job())
                for row in claims(store, 2):
                    claimed.append(row.id)
                    assert refusal(store, row, Ack()) is None
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert errors == []
    claimed += [row.id for row in claims(handles[0])]
    assert len(claimed) == len(set(claimed)) == 6 * 15 * 2


def test_of_many_threads_that_settle_one_claim_one_succeeds(store: Store) -> None:
    put_run(store)
    held = claim(store, lease_ms=LEASE_MS)
    barrier = threading.Barrier(8)
    answers: list[object] = []

    def race(number: int) -> None:
        barrier.wait(30)
        settlements = [ending(held, Advance(str(number).encode()), yields_to_cancel=True)]
        answers.append((number, store.settle_and_claim(settlements, [])[0][0]))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    winners = [number for number, error in answers if error is None]  # type: ignore[misc]  # pairs
    assert len(winners) == 1
    assert stored(store, held.id).payload == str(winners[0]).encode()
