"""Who works on a store, whether they live, and what each holds."""

from __future__ import annotations

import os
import time

import pytest

from taquba_workflow_sync.storage.port.event import Worker
from taquba_workflow_sync.storage.port.settings import StepSettings
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, Nack
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.worker import (
    EXCLUSIVE,
    ShownClaim,
    WorkerRow,
    in_turns,
    owner_name,
    pid_of,
    since_of,
    worker_rows,
)
from taquba_workflow_sync.testing import ManualClock

from .bench import QUEUE, claim, claims, now_ms, owner_of, put, put_one, put_run, refusal, run, settle, writes_nothing
from .conftest import MakeStore
from .deaths import Deaths

LEASE_MS = 30_000


def names(rows: list[WorkerRow]) -> list[list[str | None]]:
    """The runs that each worker holds."""
    return [[each.run_id for each in row.claims] for row in rows]


def test_nobody_works_on_a_new_store(store: Store) -> None:
    assert store.workers() == []


def test_whoever_has_a_claim_is_shown_with_what_it_holds(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, "r", settings=StepSettings(label="ship"))
    claim(store, lease_ms=LEASE_MS)
    (row,) = store.workers()
    assert (row.pid, row.lives) == (os.getpid(), True)
    assert row.host is not None
    at_ms = now_ms(clock)
    assert row.claims == (
        ShownClaim(
            owner=owner_of(store),
            queue=QUEUE,
            job_id=job_id,
            run_id="r",
            step=0,
            label="ship",
            attempt=1,
            claimed_ms=at_ms,
            lease_until_ms=at_ms + LEASE_MS,
            is_expired=False,
            is_overdue=False,
        ),
    )


def test_the_step_and_the_attempt_are_those_of_the_claim(store: Store) -> None:
    put_run(store, "r", max_attempts=5)
    settle(store, claim(store), Advance(b"next"))
    settle(store, claim(store), Nack("again"))
    claim(store)
    ((held,),) = (row.claims for row in store.workers())
    assert (held.step, held.attempt, held.label) == (1, 2, None)


def test_a_label_is_that_of_the_step_that_runs(store: Store) -> None:
    put_run(store, "r", settings=StepSettings(label="first"))
    settle(store, claim(store), Advance(b"next"))
    claim(store)
    ((held,),) = (row.claims for row in store.workers())
    assert held.label is None


def test_every_handle_sees_the_same(make_store: MakeStore) -> None:
    one, two, onlooker = make_store(), make_store(), make_store()
    put(one, run("a"), run("b"), run("c"))
    claim(one)
    claims(two)
    assert onlooker.workers() == one.workers() == two.workers()
    assert sorted(names(onlooker.workers())) == [["a"], ["b", "c"]]


def test_a_handle_that_only_submits_is_none(make_store: MakeStore) -> None:
    worker_, client = make_store(), make_store()
    put_one(client)
    claim(worker_)
    assert len(client.workers()) == 1


def test_who_has_enrolled_is_shown_with_nothing(make_store: MakeStore) -> None:
    idle, onlooker = make_store(), make_store()
    idle.enrol()
    (row,) = onlooker.workers()
    assert (row.pid, row.lives, row.claims) == (os.getpid(), True, ())


def test_to_enrol_again_or_once_it_has_claimed_changes_nothing(store: Store) -> None:
    store.enrol()
    put_one(store)
    claim(store)
    before = store.workers()
    store.enrol()
    assert store.workers() == before and len(before) == 1


def test_who_has_nothing_left_is_shown_while_it_lives(make_store: MakeStore) -> None:
    worker_, onlooker = make_store(), make_store()
    put_one(onlooker)
    settle(worker_, claim(worker_), Ack())
    assert names(onlooker.workers()) == [[]]
    worker_.close()
    assert onlooker.workers() == []


def test_the_dead_are_shown_for_as_long_as_they_have_claims(deaths: Deaths, store: Store) -> None:
    put_run(store, "r")
    evidence = deaths.let_die("owner", deaths.take("owner"))
    (row,) = store.workers()
    assert (row.pid, row.lives, names([row])) == (os.getpid(), False, [["r"]])
    claims(store, abandoned=evidence)
    (row,) = store.workers()
    assert (row.lives, names([row])) == (True, [["r"]])


def test_nobody_knows_whose_a_bare_claim_is(store: Store) -> None:
    put(store, run("bare"), run("held"))
    claim(store, is_bare=True)
    claim(store)
    held, bare = store.workers()
    assert names([held, bare]) == [["held"], ["bare"]]
    assert bare[:4] == (None, None, None, None)


def test_a_claim_is_expired_once_its_lease_is_over(store: Store, clock: ManualClock) -> None:
    put_run(store)
    held = claim(store, lease_ms=1_000)
    clock.advance(0.999)
    assert [each.is_expired for row in store.workers() for each in row.claims] == [False]
    clock.advance(0.001)
    assert [each.is_expired for row in store.workers() for each in row.claims] == [True]
    store.renew([held.token], 1_000)
    assert [each.is_expired for row in store.workers() for each in row.claims] == [False]


def test_a_claim_is_overdue_once_its_step_has_run_for_its_timeout(store: Store, clock: ManualClock) -> None:
    put_run(store, settings=StepSettings(step_timeout_ms=1_000))
    claim(store)
    clock.advance(0.999)
    assert [each.is_overdue for row in store.workers() for each in row.claims] == [False]
    clock.advance(0.001)
    assert [each.is_overdue for row in store.workers() for each in row.claims] == [True]


def test_it_is_told_since_when_a_handle_is_open(make_store: MakeStore) -> None:
    before = time.time_ns() // 1_000_000
    store = make_store()
    after = time.time_ns() // 1_000_000
    store.enrol()
    (row,) = store.workers()
    assert row.since_ms is not None and before <= row.since_ms <= after


def test_a_look_changes_nothing(store: Store) -> None:
    put(store, run("a"), run("b"))
    held = claim(store)
    with writes_nothing(store):
        store.workers()
    assert refusal(store, held, Ack()) is None


@pytest.fixture
def _most_shown_is_five(monkeypatch: pytest.MonkeyPatch) -> None:
    from taquba_workflow_sync.storage.relational.reading import worker as reading
    from tests.storage.memory import workers

    for module in (reading, workers):
        monkeypatch.setattr(module, "MOST_SHOWN", 5)


@pytest.mark.usefixtures("_most_shown_is_five")
def test_of_too_many_claims_each_owner_s_first_are_shown_in_turns(make_store: MakeStore) -> None:
    """Or who has some would look idle beside one who has very many."""
    one, two = make_store(), make_store()
    put(one, *(run(f"{number}") for number in range(10)))
    for number in range(4):
        claim(one, lease_ms=10_000 - number)
    claim(two, lease_ms=20_000)
    for number in range(5):
        claim(two, is_bare=True, lease_ms=30_000 - number)
    shown = one.workers()
    assert sorted(names(shown)[:-1]) == [["2", "3"], ["4"]]
    assert names(shown)[-1] == ["8", "9"]


# -- the rules


def test_a_name_tells_its_process_and_its_time() -> None:
    before = time.time_ns() // 1_000_000
    names_ = [owner_name(4711), owner_name(4711, is_exclusive=True)]
    after = time.time_ns() // 1_000_000
    assert [pid_of(name) for name in names_] == ["4711", "4711"]
    assert all(before <= (since_of(name) or 0) <= after for name in names_)
    assert [name.endswith(EXCLUSIVE) for name in names_] == [False, True]


@pytest.mark.parametrize("name", ["", "4711", "4711-9f86d081884c7d65", "4711-9f86d081884c7d65-x", "4711-ä" + "0" * 25])
def test_names_of_other_versions_tell_no_time(name: str) -> None:
    assert since_of(name) is None


def shown(owner: str, lease_until_ms: int) -> ShownClaim:
    return ShownClaim(owner, QUEUE, f"{owner}{lease_until_ms}", None, 0, None, 1, 0, lease_until_ms, False, False)


def test_claims_are_shown_in_turns_by_their_leases() -> None:
    first, second, third, other = shown("a", 1), shown("a", 2), shown("a", 3), shown("b", 9)
    assert in_turns([third, other, first, second], 3) == [first, other, second]
    assert in_turns([third, other, first, second], 9) == [first, other, second, third]


def test_who_lives_no_more_and_has_no_claim_is_no_worker() -> None:
    here = {name: Worker("h", number) for number, name in enumerate(["1-dead", "2-gone", "3-suspect", "4-live"])}
    lives = {"1-dead": False, "3-suspect": None, "4-live": True, "5-client": True}
    rows = worker_rows([], here, lives)
    assert [(row.pid, row.lives) for row in rows] == [(3, None), (4, True)]
    rows = worker_rows([shown("2-gone", 1), shown("1-dead", 1), shown("6-x", 1), shown("", 1)], here, lives)
    assert [(row.pid, row.lives) for row in rows] == [
        (6, None),
        (1, False),
        (2, None),
        (3, None),
        (4, True),
        (None, None),
    ]
