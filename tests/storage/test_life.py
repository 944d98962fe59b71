"""Opening again, closing, being the only one, and many threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from taquba_workflow_sync.errors import ClaimLostError, StoreClosedError, TaqubaError
from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, DeadLetter, Nack, Settlement
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock
from taquba_workflow_sync.wakeup import WakeUp

from .bench import (
    LANE,
    LEASE_MS,
    QUEUE,
    claim,
    claims,
    dump,
    ending,
    job,
    now_ms,
    put,
    put_one,
    put_run,
    refusal,
    settle,
    stored,
    subscribe,
)
from .conftest import MakeStore

CALLS: dict[str, Callable[[Store], object]] = {
    "insert": lambda store: store.insert([job()]),
    "settle_and_claim": lambda store: store.settle_and_claim([Settlement("a", "b", Ack())], []),
    "claim": lambda store: store.settle_and_claim([], [ClaimRequest((LaneClaim(QUEUE, 1),), 1)]),
    "empty settle_and_claim": lambda store: store.settle_and_claim([], []),
    "renew": lambda store: store.renew(["a"], 1),
    "cancel": lambda store: store.cancel("a"),
    "requeue": lambda store: store.requeue("a"),
    "sweep": lambda store: store.sweep(),
    "subscribe": lambda store: store.subscribe(QUEUE, Subscription(LANE, 1, None)),
    "get": lambda store: store.get("a"),
    "find_run": lambda store: store.find_run(QUEUE, "a"),
    "page": lambda store: store.page(QUEUE, Filter(), 1, None),
    "counts": lambda store: store.counts(),
    "history": lambda store: store.history("a"),
    "next_work": lambda store: store.next_work(QUEUE),
    "running": lambda store: store.running(),
    "abandoned_claims": lambda store: store.abandoned_claims(),
    "unsubscribe": lambda store: store.unsubscribe(QUEUE),
    "wait_for_changes": lambda store: store.wait_for_changes(None, 0.0, WakeUp()),
    "on_commit": lambda store: store.on_commit(lambda woken, ended: None).__enter__(),
    "lead": lambda store: store.lead(lambda: None).__enter__(),
    "backup": lambda store: store.backup("never made"),
    "check": lambda store: store.check(),
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
    held_by = before.pop("held here")
    assert len(held_by) == 2
    first.close()
    second = make_store()
    after = dump(second)
    assert after.pop("held here") == [], "the claims are still the owner's that made them"
    assert after == before
    for job_id, token, *_ in held_by:
        assert second.settle_and_claim([Settlement(job_id, token, Ack())], [])[0] == [None]


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


# Many threads


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
    answers: list[tuple[int, TaqubaError | None]] = []

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
    winners = [number for number, error in answers if error is None]
    assert len(winners) == 1
    assert stored(store, held.id).payload == str(winners[0]).encode()
