"""Each engine does what the rules' tables say, however it says the rules itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product

import pytest

from taquba_workflow_sync.errors import InputMismatchError
from taquba_workflow_sync.storage.port.headers import HEADER_STATUS
from taquba_workflow_sync.storage.port.job import Inserted, NewJob
from taquba_workflow_sync.storage.port.settlement import Ack, Action, DeadLetter, SettleCancelled
from taquba_workflow_sync.storage.port.status import AttemptOutcome, JobStatus
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from . import truth
from .bench import (
    KEEP_MS,
    LANE,
    claim,
    claims,
    job,
    put,
    put_run,
    rows_of,
    run,
    settle,
    stored,
    subscribe,
    writes_nothing,
)
from .deaths import HOWS, TOLD, Deaths, How
from .truth import BAD, CANCELLED, DEAD, GOOD, NEW, PENDING, REFUSED

ENDS: dict[str, Action] = {
    "succeeded": Ack(GOOD),
    "failed": Ack(BAD, None, "no"),
    "dead": DeadLetter("broken"),
    "cancelled": SettleCancelled(),
}
VERDICTS = (None, GOOD, BAD)
#: The column of a table by what an action says itself.
COLUMN = {"succeeded": 1, "failed": 2, "dead": 0, "cancelled": 0}
STATUS = {"succeeded": JobStatus.DONE, "failed": JobStatus.DONE, "dead": DEAD, "cancelled": CANCELLED}


@pytest.mark.parametrize(
    ("inputs", "answers"),
    # An active run is visible in every store.
    [each for each in truth.IS_NEW_RUN.items() if each[0][:2] != ("active", False)],
    ids=str,
)
def test_whether_a_submit_starts_a_run(
    store: Store, clock: ManualClock, inputs: tuple[str, bool, bool], answers: tuple[str, ...]
) -> None:
    kind, is_visible, is_same = inputs
    for if_finished, answer in zip(truth.IF_FINISHED, answers, strict=True):
        name = f"r-{if_finished}"
        there = None if kind == "nobody" else put_run(store, name, payload=b"one" if is_same else b"other")
        if kind in ENDS:
            settle(store, claim(store), ENDS[kind])
            clock.advance(0 if is_visible else KEEP_MS / 1000)
        new = run(name, b"one", if_finished=if_finished)
        if answer == NEW:
            assert store.insert([new]) == [Inserted(new.id, True)]
            store.cancel(new.id)
        elif answer == REFUSED:
            with writes_nothing(store), pytest.raises(InputMismatchError):
                store.insert([new])
        else:
            with writes_nothing(store):
                assert store.insert([new]) == [Inserted(str(there), False)]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("is_run", [False, True], ids=["bare", "run"])
def test_verdict_and_notification_of_what_has_ended(store: Store, end: str, is_run: bool) -> None:
    subscribe(store)
    new = run("r") if is_run else job(keep_done_ms=KEEP_MS)
    put(store, new)
    settle(store, claim(store), ENDS[end])
    row = stored(store, new.id)
    assert row.status is STATUS[end]
    assert row.verdict is truth.FINAL_VERDICT[row.status, is_run][COLUMN[end]]
    told = [json.loads(note.headers)[HEADER_STATUS] for note in rows_of(store, LANE)]
    expected = truth.TERMINAL_STATUS[row.status][VERDICTS.index(row.verdict)]
    assert told == ([expected] if is_run else [])


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("is_run", [False, True], ids=["bare", "run"])
@pytest.mark.parametrize("is_subscribed", [False, True], ids=["", "told"])
@pytest.mark.parametrize("cancel_requested", [False, True], ids=["", "cancelling"])
def test_where_an_abandoned_claim_goes(
    store: Store, deaths: Deaths, how: How, is_run: bool, is_subscribed: bool, cancel_requested: bool
) -> None:
    if is_subscribed:
        subscribe(store)
    for number, (max_attempts, attempts) in enumerate(product((1, 2, 3), (1, 2, 3))):
        if attempts > max_attempts:
            continue  # no claim gets there
        queue, lane = f"q{number}", f"lane{number}"
        if is_subscribed:
            subscribe(store, queue, lane)
        fields: dict[str, int] = {"max_attempts": max_attempts, "keep_done_ms": KEEP_MS}
        new: NewJob = run(f"r{number}", queue=queue, **fields) if is_run else job(queue, **fields)  # type: ignore[arg-type]
        put(store, new)
        for _ in range(attempts - 1):
            held = claim(store, queue=queue)
            claims(store, 0, queue=queue, abandoned=store.abandoned_claims(own={held.token}))
        held = deaths.take(how, queue=queue)
        assert held.attempts == attempts
        if cancel_requested:
            store.cancel(new.id)
        assert claims(store, 0, queue=queue, abandoned=deaths.let_die(how, held)) == []
        row = stored(store, new.id)
        expected = truth.AFTER_ABANDONMENT[cancel_requested, attempts][max_attempts - 1]
        assert (row.status, row.attempts) == (expected, attempts)
        assert [each.outcome for each in store.history(new.id)] == [AttemptOutcome.REAPED] * attempts
        has_ended = expected is not PENDING
        assert row.termination == (is_run and has_ended)
        assert row.verdict is (truth.FINAL_VERDICT[expected, is_run][0] if has_ended else None)
        assert len(rows_of(store, lane)) == (is_run and has_ended and is_subscribed)
        if has_ended and is_run and is_subscribed:
            (note,) = rows_of(store, lane)
            assert json.loads(note.headers)[HEADER_STATUS] == ("cancelled" if cancel_requested else "failed")


@pytest.mark.parametrize("how", TOLD)
@pytest.mark.parametrize("max_attempts", [1, 3])
def test_an_abandoned_claim_that_is_cancelled_is_cancelled_whatever_its_attempts(
    store: Store, deaths: Deaths, how: How, max_attempts: int
) -> None:
    job_id = put_run(store, max_attempts=max_attempts)
    held = deaths.take(how)
    store.cancel(job_id, abandoned=deaths.let_die(how, held))
    assert stored(store, job_id).status is truth.AFTER_ABANDONMENT[True, 1][max_attempts - 1]


def ended_by(end: str) -> Callable[[Store, Deaths], None]:
    """Ways to end; those beside the settlements are what only an engine can do."""

    def act(store: Store, deaths: Deaths) -> None:
        if end in ENDS:
            settle(store, claim(store), ENDS[end])
            return
        held = deaths.take("own")
        if end == "reaped as cancelled":
            store.cancel(held.id)
        claims(store, 0, abandoned=deaths.let_die("own", held))

    return act


@pytest.mark.parametrize("end", [*ENDS, "reaped as dead", "reaped as cancelled"])
@pytest.mark.parametrize("is_run", [False, True], ids=["bare", "run"])
@pytest.mark.parametrize("keep_done", [key[2] for key in truth.RETENTION if key[:2] == (True, True)])
def test_how_long_a_finished_row_stays(
    store: Store, clock: ManualClock, deaths: Deaths, end: str, is_run: bool, keep_done: int | None
) -> None:
    answers = truth.RETENTION[is_run, end in ("dead", "reaped as dead"), keep_done]
    for number, (keep_dead, answer) in enumerate(zip(truth.KEEP_DEAD, answers, strict=True)):
        fields: dict[str, int | None] = {"keep_done_ms": keep_done, "keep_dead_ms": keep_dead, "max_attempts": 1}
        new: NewJob = run(f"r{number}", **fields) if is_run else job(**fields)  # type: ignore[arg-type]
        put(store, new)
        ended_by(end)(store, deaths)
        if answer == 0:
            assert store.get(new.id) is None
            continue
        if answer is None:
            clock.advance(10**9)
            assert store.sweep() == 0
            assert store.get(new.id) is not None
            continue
        clock.advance(answer / 1000 - 0.001)
        assert store.sweep() == 0
        assert store.get(new.id) is not None
        clock.advance(0.001)
        assert store.sweep() >= 1  # what was noted of it goes, too
        assert store.get(new.id) is None
        while store.sweep():
            pass
