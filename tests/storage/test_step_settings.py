"""What steps are given, at the port: the current one's own, else the run's, and nothing carries over by itself."""

from __future__ import annotations

from typing import Any

import pytest

from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.settings import (
    Backoff,
    CurrentSettings,
    NextStep,
    RunDefaults,
    StepSettings,
    next_step,
)
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, DeadLetter, Nack, PutBack, Release
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import claim, claims, put, put_run, rows_of, run, settle, stored
from .conftest import MakeStore

ALL = StepSettings("charge", 7, Backoff(1, 2), 500, 9_000)
DEFAULTS = RunDefaults(3, 1000, Backoff(10, 20), 60_000)


def shown(held: ClaimedRow) -> tuple[Any, ...]:
    return (held.max_attempts, held.priority, held.settings)


def at_next(store: Store, held: ClaimedRow, settings: StepSettings | None, **fields: Any) -> ClaimedRow:
    settle(store, held, Advance(b"next", settings=settings, **fields), yields_to_cancel=True)
    return claim(store)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, NextStep(3, 1000, CurrentSettings(None, Backoff(10, 20), 60_000))),
        (ALL, NextStep(7, 500, CurrentSettings("charge", Backoff(1, 2), 9_000))),
        (StepSettings(label="x"), NextStep(3, 1000, CurrentSettings("x", Backoff(10, 20), 60_000))),
    ],
)
def test_a_step_has_what_it_was_given_and_the_runs_for_the_rest(given: StepSettings | None, expected: NextStep) -> None:
    assert next_step(DEFAULTS, given) == expected


def test_a_step_is_plain_where_the_row_says_all_of_it() -> None:
    plain = RunDefaults(3, 1000)
    assert next_step(plain, None).is_plain(plain)
    assert next_step(plain, StepSettings(max_attempts=3, priority=1000)).is_plain(plain)
    for given in (StepSettings(label="x"), StepSettings(max_attempts=4), StepSettings(priority=1)):
        assert not next_step(plain, given).is_plain(plain)
    assert not next_step(DEFAULTS, None).is_plain(DEFAULTS)


def test_the_first_step_has_the_runs_settings_and_its_label(store: Store) -> None:
    put_run(store, max_attempts=4, priority=9, settings=StepSettings("first", None, Backoff(1, 2), None, 5_000))
    assert shown(claim(store)) == (4, 9, CurrentSettings("first", Backoff(1, 2), 5_000))


def test_a_plain_run_has_none(store: Store) -> None:
    put_run(store)
    held = claim(store)
    assert held.settings is None
    assert at_next(store, held, None).settings is None


def test_what_a_step_is_given_is_gone_with_it(store: Store) -> None:
    put_run(store)
    before = claim(store)
    during = at_next(store, before, ALL)
    assert shown(during) == (7, 500, CurrentSettings("charge", Backoff(1, 2), 9_000))
    assert shown(at_next(store, during, None)) == shown(before)


def test_a_label_never_carries_over_though_the_rest_is_the_runs(store: Store) -> None:
    put_run(store, settings=StepSettings("first", None, Backoff(1, 2), None, 5_000))
    held = at_next(store, claim(store), None)
    assert held.settings == CurrentSettings(None, Backoff(1, 2), 5_000)
    held = at_next(store, held, StepSettings("third", 9, None, 3, 7))
    assert shown(held) == (9, 3, CurrentSettings("third", Backoff(1, 2), 7))
    assert shown(at_next(store, held, StepSettings(label="fourth"))) == (
        3, 1000, CurrentSettings("fourth", Backoff(1, 2), 5_000),
    )  # fmt: skip


@pytest.mark.parametrize("action", [Nack("boom"), Release(), PutBack(0)])
def test_a_step_that_is_tried_again_keeps_what_it_was_given(store: Store, action: Any) -> None:
    put_run(store)
    held = at_next(store, claim(store), ALL)
    settle(store, held, action)
    assert shown(claim(store)) == shown(held)


def test_a_retry_finds_the_step_as_it_was(store: Store) -> None:
    put_run(store)
    held = at_next(store, claim(store), ALL)
    settle(store, held, DeadLetter("broken"))
    assert stored(store, held.id).label == "charge"
    store.requeue(held.id, failed_run=True)
    assert shown(claim(store)) == shown(held)


def test_the_priority_of_a_step_decides_its_place_in_line(store: Store) -> None:
    put_run(store, "first")
    put_run(store, "second")
    held = claim(store)
    settle(store, held, Advance(b"next", settings=StepSettings(priority=1)))
    assert claims(store)[0].id == held.id


def test_and_where_it_goes_on_after_it(store: Store) -> None:
    first = put(store, run("first"))[0]
    held = at_next(store, claim(store), StepSettings(priority=1))
    other = put(store, run("other", priority=5))[0]
    settle(store, held, Advance(b"next"))
    assert [row.id for row in claims(store)] == [other, first]


@pytest.mark.parametrize("delay_ms", [None, 5_000])
def test_a_delayed_step_has_its_settings_as_well(store: Store, clock: ManualClock, delay_ms: int | None) -> None:
    put_run(store)
    settle(store, claim(store), Advance(b"next", delay_ms=delay_ms, settings=ALL))
    clock.advance(5)
    held = claim(store)
    assert held.settings == CurrentSettings("charge", Backoff(1, 2), 9_000)


def test_every_handle_shows_the_label(make_store: MakeStore) -> None:
    mine, other = make_store(), make_store()
    job_id = put_run(mine, settings=StepSettings("first"))
    assert stored(other, job_id).label == "first"
    assert [row.label for row in rows_of(other, "steps")] == ["first"]
    settle(mine, claim(mine), Advance(b"next"))
    assert stored(other, job_id).label is None


def test_labels_of_any_language_come_back(store: Store) -> None:
    job_id = put_run(store, settings=StepSettings("Zahlung prüfen \U0001f600"))
    assert stored(store, job_id).label == "Zahlung prüfen \U0001f600"


def test_many_attempts_of_one_step_and_few_of_the_next_fit_one_row(store: Store) -> None:
    put_run(store, max_attempts=1)
    held = at_next(store, claim(store), StepSettings(max_attempts=9))
    for _ in range(8):
        settle(store, held, Nack("boom"))
        held = claim(store)
    assert held.attempts == 9
    held = at_next(store, held, None)
    assert (held.attempts, held.max_attempts) == (1, 1)


def test_a_settled_run_with_settings_is_swept_whole(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, settings=ALL)
    settle(store, claim(store), Ack())
    clock.advance(10_000)
    while store.sweep():
        pass
    assert store.get(job_id) is None
