"""A run id names one active row; a submit is idempotent on (run id, input), and IfFinished decides afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from taquba_workflow_sync.errors import InputMismatchError
from taquba_workflow_sync.storage.port.job import Inserted
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, DeadLetter, Nack, SettleCancelled
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import KEEP_MS, claim, job, put_run, rows_of, run, settle, stored, writes_nothing

KEEP, RERUN_FAILED, RERUN = IfFinished.KEEP, IfFinished.RERUN_FAILED, IfFinished.RERUN


def wait(store: Store, job_id: str) -> None:
    pass


def hold(store: Store, job_id: str) -> None:
    assert claim(store).id == job_id


def go_on(store: Store, job_id: str) -> None:
    settle(store, claim(store), Advance(b"other"))


def back_off(store: Store, job_id: str) -> None:
    settle(store, claim(store), Nack("boom", 60_000))


def be_cancelling(store: Store, job_id: str) -> None:
    claim(store)
    store.cancel(job_id)


ACTIVE: list[Callable[[Store, str], None]] = [wait, hold, go_on, back_off, be_cancelling]


@pytest.mark.parametrize("make_active", ACTIVE)
@pytest.mark.parametrize("if_finished", list(IfFinished))
def test_an_active_run_with_the_same_input_answers(
    store: Store, make_active: Callable[[Store, str], None], if_finished: IfFinished
) -> None:
    there = put_run(store, "r", payload=b"one")
    make_active(store, there)
    with writes_nothing(store):
        assert store.insert([run("r", b"one", if_finished=if_finished)]) == [Inserted(there, False)]


@pytest.mark.parametrize("make_active", ACTIVE)
@pytest.mark.parametrize("if_finished", list(IfFinished))
def test_an_active_run_with_other_input_refuses(
    store: Store, make_active: Callable[[Store, str], None], if_finished: IfFinished
) -> None:
    make_active(store, put_run(store, "r", payload=b"one"))
    with writes_nothing(store), pytest.raises(InputMismatchError, match="'r'"):
        store.insert([run("r", b"two", if_finished=if_finished)])


def succeed(store: Store) -> None:
    settle(store, claim(store), Ack(result=b"x"))


def fail(store: Store) -> None:
    settle(store, claim(store), Ack(Verdict.FAILED, None, "no"))


def die(store: Store) -> None:
    settle(store, claim(store), DeadLetter("broken"))


def be_cancelled(store: Store) -> None:
    settle(store, claim(store), SettleCancelled())


@pytest.mark.parametrize(
    ("finish", "if_finished", "starts"),
    [
        (succeed, KEEP, False), (succeed, RERUN_FAILED, False), (succeed, RERUN, True),
        (fail, KEEP, False), (fail, RERUN_FAILED, True), (fail, RERUN, True),
        (die, KEEP, False), (die, RERUN_FAILED, True), (die, RERUN, True),
        (be_cancelled, KEEP, False), (be_cancelled, RERUN_FAILED, False), (be_cancelled, RERUN, True),
    ],
)  # fmt: skip
def test_a_finished_run_that_is_kept_starts_afresh_only_if_asked_to(
    store: Store, finish: Callable[[Store], None], if_finished: IfFinished, starts: bool
) -> None:
    old = put_run(store, "r")
    finish(store)
    new = run("r", if_finished=if_finished)
    (answer,) = store.insert([new])
    assert answer == Inserted(new.id if starts else old, starts)
    assert len(rows_of(store, new.queue)) == 1 + starts


@pytest.mark.parametrize("finish", [succeed, fail, die, be_cancelled])
@pytest.mark.parametrize("if_finished", [KEEP, RERUN_FAILED])
def test_a_finished_run_that_is_kept_refuses_other_input(
    store: Store, finish: Callable[[Store], None], if_finished: IfFinished
) -> None:
    put_run(store, "r", payload=b"one")
    finish(store)
    with writes_nothing(store), pytest.raises(InputMismatchError):
        store.insert([run("r", b"two", if_finished=if_finished)])


def test_rerun_takes_other_input(store: Store) -> None:
    put_run(store, "r", payload=b"one")
    succeed(store)
    new = run("r", b"two", if_finished=RERUN)
    assert store.insert([new]) == [Inserted(new.id, True)]


@pytest.mark.parametrize("swept", [False, True])
def test_a_run_that_is_not_kept_any_more_leaves_its_name_free(store: Store, clock: ManualClock, swept: bool) -> None:
    put_run(store, "r", payload=b"one")
    succeed(store)
    clock.advance(KEEP_MS / 1000 - 0.001)
    with pytest.raises(InputMismatchError):
        store.insert([run("r", b"two")])
    clock.advance(0.001)
    if swept:
        assert store.sweep() == 1
    new = run("r", b"two")
    assert store.insert([new]) == [Inserted(new.id, True)]


def test_with_nothing_kept_the_name_is_free_at_once(store: Store) -> None:
    old = put_run(store, "r", keep_done_ms=None)
    succeed(store)
    new = run("r", b"other")
    assert store.insert([new]) == [Inserted(new.id, True)]
    assert stored(store, old).status == "done"


def test_the_newest_life_decides(store: Store) -> None:
    put_run(store, "r")
    fail(store)
    newer = put_run(store, "r", if_finished=RERUN)
    succeed(store)
    assert store.insert([run("r", if_finished=RERUN_FAILED)]) == [Inserted(newer, False)]


def test_a_run_id_belongs_to_its_queue(store: Store) -> None:
    here = put_run(store, "r", payload=b"one")
    there = run("r", b"two", queue="elsewhere")
    assert store.insert([there]) == [Inserted(there.id, True)]
    found = store.find_run("elsewhere", "r")
    assert found is not None and found.id == there.id != here


def test_one_run_id_twice_in_a_batch_is_one_run(store: Store) -> None:
    first, second = run("r"), run("r")
    assert store.insert([first, run("s"), second])[::2] == [Inserted(first.id, True), Inserted(first.id, False)]


@pytest.mark.parametrize("if_finished", list(IfFinished))
def test_one_run_id_with_two_inputs_in_a_batch_refuses_all_of_it(store: Store, if_finished: IfFinished) -> None:
    with writes_nothing(store), pytest.raises(InputMismatchError):
        store.insert([run("s"), run("r", b"one"), run("r", b"two", if_finished=if_finished)])


def test_a_mismatch_in_a_batch_writes_none_of_it(store: Store) -> None:
    put_run(store, "r", payload=b"one")
    with writes_nothing(store), pytest.raises(InputMismatchError):
        store.insert([job(), run("s"), run("r", b"two"), job()])


def test_find_run_prefers_the_active_life_then_the_newest(store: Store) -> None:
    assert store.find_run("steps", "r") is None
    first = put_run(store, "r")
    fail(store)
    second = put_run(store, "r", if_finished=RERUN)
    found = store.find_run("steps", "r")
    assert found is not None and found.id == second
    succeed(store)
    found = store.find_run("steps", "r")
    assert found is not None and found.id == second
    # A retried older life is the active one again, and answers although a newer row exists.
    store.requeue(first, failed_run=True)
    found = store.find_run("steps", "r")
    assert found is not None and found.id == first
