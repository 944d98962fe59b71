"""The end of a subscription: later ends are told to nobody; what waits is delivered, or dropped in bounded pieces."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.settlement import Ack, DeadLetter, Nack
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    LANE,
    QUEUE,
    claim,
    claims,
    counts_of,
    ending,
    job,
    now_ms,
    put,
    put_one,
    put_run,
    rows_of,
    run,
    settle,
    status,
    stored,
    subscribe,
    version_of,
    writes_nothing,
)
from .conftest import MakeStore


def end_runs(store: Store, many: int) -> None:
    put(store, *(run(f"r{number}") for number in range(many)))
    assert not any(store.settle_and_claim([ending(row, Ack()) for row in claims(store)], [])[0])


@pytest.mark.parametrize("drop_from", [None, LANE])
def test_later_ends_are_told_to_nobody(make_store: MakeStore, drop_from: str | None) -> None:
    store, other = make_store(), make_store()
    subscribe(store)
    assert store.unsubscribe(QUEUE, drop_from=drop_from) == 0
    job_id = put_run(other)
    settle(other, claim(other), Ack())
    assert stored(other, job_id).status == "done"
    assert rows_of(other, LANE) == []


def test_what_waits_is_still_delivered_where_it_is_not_dropped(store: Store) -> None:
    subscribe(store)
    end_runs(store, 3)
    assert store.unsubscribe(QUEUE) == 0
    assert counts_of(store, LANE) == Counts(pending=3)
    held = claims(store, queue=LANE)
    assert len(held) == 3
    settle(store, held[0], Nack("again"))
    settle(store, claim(store, queue=LANE), Ack())


def test_what_waits_can_be_dropped(store: Store, clock: ManualClock) -> None:
    subscribe(store)
    end_runs(store, 4)
    running, later, *waiting = claims(store, queue=LANE)
    settle(store, later, Nack("again", 60_000))
    for row in waiting:
        settle(store, row, Nack("again"))
    assert store.unsubscribe(QUEUE, drop_from=LANE) == 3
    assert [row.id for row in rows_of(store, LANE)] == [running.id], "what is claimed is its claimer's"
    assert counts_of(store, LANE) == Counts(claimed=1), "a drop is no cancellation"
    assert all(store.get(row.id) is None and store.history(row.id) == [] for row in (later, *waiting))
    settle(store, running, Ack())


def test_a_drop_takes_only_what_waits_in_that_lane(store: Store) -> None:
    subscribe(store)
    end_runs(store, 1)
    dead = put_one(store, LANE)
    settle(store, claims(store, 2, queue=LANE)[1], DeadLetter("x"))
    elsewhere, here = put(store, job("elsewhere"), job(QUEUE))
    store.unsubscribe(QUEUE, drop_from=LANE)
    assert (status(store, dead), status(store, elsewhere), status(store, here)) == ("dead", "pending", "pending")


def test_a_drop_takes_at_most_five_hundred(store: Store, clock: ManualClock) -> None:
    put(store, *(job(LANE, run_at_ms=now_ms(clock) + 1_000 * (number % 2)) for number in range(1_150)))
    assert [store.unsubscribe(QUEUE, drop_from=LANE) for _ in range(4)] == [500, 500, 150, 0]
    assert counts_of(store, LANE) == Counts()
    assert rows_of(store, LANE) == []


def test_the_large_parts_of_what_is_dropped_go_too(store: Store) -> None:
    subscribe(store)
    put_run(store, headers='{"big":"%s"}' % ("h" * 9_000))
    settle(store, claim(store), Ack(result=b"r" * 9_000))
    assert store.unsubscribe(QUEUE, drop_from=LANE) == 1
    put_one(store, LANE, payload=b"small")
    held = claim(store, queue=LANE)
    assert (held.payload, held.headers) == (b"small", "")


@pytest.mark.parametrize("drop_from", [None, LANE])
def test_to_unsubscribe_nobody_writes_nothing(store: Store, drop_from: str | None) -> None:
    put_one(store)
    before = version_of(store)
    with writes_nothing(store):
        assert store.unsubscribe(QUEUE, drop_from=drop_from) == 0
        assert store.unsubscribe("never heard of", drop_from=drop_from) == 0
    assert version_of(store) == before


def test_whoever_subscribes_again_is_told_again(store: Store) -> None:
    subscribe(store)
    end_runs(store, 1)
    store.unsubscribe(QUEUE, drop_from=LANE)
    subscribe(store)
    put_run(store, "again")
    settle(store, claim(store), Ack())
    assert len(rows_of(store, LANE)) == 1
