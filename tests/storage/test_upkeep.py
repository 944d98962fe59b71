"""Being the only one, saving a copy, and saying what is wrong."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from taquba_workflow_sync.errors import ClaimLostError, StoreInUseError, TaqubaError
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, DeadLetter, Nack
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    LANE,
    QUEUE,
    check_counters,
    claim,
    claims,
    counts_of,
    dump,
    job,
    now_ms,
    put,
    put_one,
    put_run,
    refusal,
    rows_of,
    run,
    settle,
    stored,
    subscribe,
    version_of,
    writes_nothing,
)
from .conftest import MakeStore

# Only one


def test_an_exclusive_open_is_refused_while_another_handle_is_open(make_store: MakeStore) -> None:
    other = make_store()
    with pytest.raises(StoreInUseError):
        make_store(is_exclusive=True)
    put_one(other)
    other.close()
    assert len(claims(make_store(is_exclusive=True))) == 1


def test_any_open_is_refused_while_an_exclusive_handle_is_open(make_store: MakeStore) -> None:
    only = make_store(is_exclusive=True)
    for is_exclusive in (False, True):
        with pytest.raises(StoreInUseError):
            make_store(is_exclusive=is_exclusive)
    put_one(only)
    only.close()
    assert len(claims(make_store())) == 1


def test_an_exclusive_handle_of_one_store_is_nothing_to_another(make_store: MakeStore) -> None:
    make_store(is_exclusive=True)
    make_store("beside", is_exclusive=True)


def test_an_exclusive_open_may_wait_for_the_others_to_leave(make_store: MakeStore) -> None:
    other = make_store()
    put_one(other)
    leaving = threading.Timer(0.05, other.close)
    leaving.start()
    assert len(claims(make_store(is_exclusive=True, wait_s=30.0))) == 1
    leaving.join()


def test_an_exclusive_open_waits_no_longer_than_it_may(make_store: MakeStore) -> None:
    make_store()
    with pytest.raises(StoreInUseError):
        make_store(is_exclusive=True, wait_s=0.02)


# A copy


def fill(store: Store, clock: ManualClock) -> None:
    """One of everything: waiting, scheduled, finished in each way, with large parts, a history, a subscription."""
    subscribe(store)
    put(store, run("done", b"p" * 9_000), run("dead"), run("retried"), run("later"))
    done, dead, retried, later = claims(store)
    settle(store, done, Ack(result=b"r" * 9_000))
    settle(store, dead, DeadLetter("broken"))
    settle(store, retried, Nack("boom"))
    settle(store, later, Advance(b"next", delay_ms=60_000))
    put(store, job("elsewhere", dedup_key="k"), job("elsewhere", run_at_ms=now_ms(clock) + 1_000))


@pytest.mark.usefixtures("_backs_up")
def test_a_backup_holds_all_that_was_there(make_store: MakeStore, clock: ManualClock, tmp_path: Path) -> None:
    store = make_store()
    fill(store, clock)
    before, version = dump(store), version_of(store)
    store.backup(str(tmp_path / "copy"))
    assert version_of(store) == version, "a backup only reads"
    copy = make_store("copy")
    assert dump(copy) == before
    check_counters(copy)
    assert copy.check() == []


@pytest.mark.usefixtures("_backs_up")
def test_a_backup_and_its_store_go_their_own_ways(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    subscribe(store)
    put_run(store)
    store.backup(str(tmp_path / "copy"))
    copy = make_store("copy")
    settle(copy, claim(copy), Ack())
    assert len(rows_of(copy, LANE)) == 1, "who is told of ends was copied too"
    assert (counts_of(store).pending, counts_of(store).done) == (1, 0)
    late = put_one(store)
    assert copy.get(late) is None


@pytest.mark.usefixtures("_backs_up")
def test_the_first_open_of_a_backup_puts_back_what_was_claimed(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    ids = put(store, run("a"), run("b"), run("last", max_attempts=1), job(), job())
    held = [*claims(store, 3), *claims(store, 1, is_bare=True)]
    store.cancel(ids[1])
    store.backup(str(tmp_path / "copy"))
    assert [stored(store, row.id).status for row in held] == ["claimed"] * 4, "the store itself is left alone"
    copy = make_store("copy")
    assert [stored(copy, job_id).status for job_id in ids] == ["pending", "cancelled", "dead", "pending", "pending"]
    for row in held:
        assert (stored(copy, row.id).attempts, stored(copy, row.id).owner) == (1, None), "as from the dead"
        assert [each.outcome for each in copy.history(row.id)] == ["reaped"]
        assert isinstance(refusal(copy, row, Ack()), ClaimLostError)
        assert refusal(store, row, Ack()) is None
    assert [row.id for row in claims(copy)] == [ids[0], *ids[3:]], "each at its place in line"
    check_counters(copy)
    copy.close()
    again = make_store("copy")
    assert [stored(again, each).status for each in (ids[0], *ids[3:])] == ["claimed"] * 3, "only the first open does"


@pytest.mark.usefixtures("_backs_up")
def test_a_backup_never_overwrites(make_store: MakeStore, tmp_path: Path) -> None:
    store, other = make_store(), make_store("other")
    put_one(store)
    there = put_one(other)
    store.backup(str(tmp_path / "copy"))
    for name in ("other", "copy", "store"):
        with writes_nothing(store), pytest.raises(TaqubaError):
            store.backup(str(tmp_path / name))
    assert [row.id for row in rows_of(other, QUEUE)] == [there]


@pytest.mark.usefixtures("_backs_up")
def test_a_backup_is_of_one_moment_while_others_work(make_store: MakeStore, tmp_path: Path) -> None:
    store, busy = make_store(), make_store()
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            put(busy, job(), job())
            for row in claims(busy, 2):
                settle(busy, row, Ack())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for number in range(5):
            store.backup(str(tmp_path / f"copy{number}"))
    finally:
        over.set()
        thread.join()
    for number in range(5):
        copy = make_store(f"copy{number}")
        check_counters(copy)
        assert copy.check() == []
        counts = counts_of(copy)
        assert (counts.pending + counts.done) % 2 == 0, "two are put in at once"


# What is wrong


def test_nothing_is_wrong_with_a_sound_store_and_looking_writes_nothing(store: Store, clock: ManualClock) -> None:
    fill(store, clock)
    claim(store)
    before = version_of(store)
    with writes_nothing(store):
        assert store.check() == []
    assert version_of(store) == before


def test_nothing_is_wrong_with_an_empty_store(store: Store) -> None:
    assert store.check() == []
