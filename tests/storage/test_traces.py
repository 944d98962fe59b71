"""Tracebacks of attempts: the last 8 KiB, stored with the end of the attempt, gone with its row."""

from __future__ import annotations

from typing import Any

import pytest

from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.port.settlement import Ack, Action, Advance, DeadLetter, Nack, Settlement
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.texts import readable_error
from taquba_workflow_sync.storage.port.trace import MOST_BYTES, storable_trace
from taquba_workflow_sync.testing import ManualClock

from .bench import claim, put_one, put_run, settle, status

TRACE = 'Traceback (most recent call last):\n  File "steps.py", line 7, in ship\n    book()\nOSError: away\n'


def end(store: Store, held: ClaimedRow, action: Action, trace: str | None = TRACE) -> Any:
    return store.settle_and_claim([Settlement(held.id, held.token, action, trace=trace)], [])[0][0]


def test_a_failed_attempt_keeps_its_traceback_and_others_have_none(store: Store) -> None:
    job_id = put_run(store)
    assert end(store, claim(store), Nack("away")) is None
    settle(store, claim(store), Advance(b"next"))
    assert end(store, claim(store), DeadLetter("away"), "another\n") is None
    assert store.traces(job_id) == {1: TRACE, 3: "another\n"}
    ended = [event for event in store.events(job_id) if event.kind is EventKind.ENDED]
    assert [event.trace for event in ended] == [TRACE, None, "another\n"]
    assert [event.error for event in ended] == ["away", None, "away"]


def test_a_bare_job_has_tracebacks_too(store: Store) -> None:
    job_id = put_one(store)
    end(store, claim(store), DeadLetter("away"))
    assert store.traces(job_id) == {1: TRACE}
    assert store.traces("another") == {}


def test_a_settlement_that_is_refused_leaves_none(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    end(store, held, Nack("away"), None)
    assert end(store, held, Nack("away")) is not None
    assert store.traces(job_id) == {}


def test_they_stay_through_a_retry_and_later_steps(store: Store) -> None:
    job_id = put_run(store)
    end(store, claim(store), DeadLetter("away"))
    store.requeue(job_id, failed_run=True)
    settle(store, claim(store), Advance(b"next"))
    settle(store, claim(store), Ack())
    assert store.traces(job_id) == {1: TRACE}


def test_they_go_with_their_row(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store, keep_done_ms=60_000)
    end(store, claim(store), DeadLetter("away"))
    clock.advance(120)
    while store.sweep():
        pass
    assert status(store, job_id) is None
    assert store.traces(job_id) == {}


def test_a_row_that_is_not_kept_leaves_none(store: Store) -> None:
    job_id = put_one(store, keep_dead_ms=0)
    end(store, claim(store), Nack("away"))
    end(store, claim(store), DeadLetter("away"))
    assert status(store, job_id) in (None, JobStatus.DEAD)
    if status(store, job_id) is None:
        assert store.traces(job_id) == {}


def test_as_many_are_kept_as_the_history_has(store: Store) -> None:
    job_id = put_one(store, max_attempts=2_000)
    for number in range(1, 1_104):
        end(store, claim(store), Nack("away"), f"{number}\n")
    ordinals = {attempt.ordinal for attempt in store.history(job_id)}
    traces = store.traces(job_id)
    assert traces.keys() == ordinals and len(traces) == 1_100
    assert all(trace == f"{ordinal}\n" for ordinal, trace in traces.items())


@pytest.mark.parametrize(
    "trace",
    ["x" * MOST_BYTES, "short\n", "line\n" * 5_000 + "Error: é\n", "é" * 9_000, "\0" * 9_000, "a\ud800b\n" * 3_000],
    ids=["as much as is kept", "short", "lines", "no lines", "escaped", "surrogates"],
)
def test_of_a_long_one_the_end_is_kept(store: Store, trace: str) -> None:
    job_id = put_run(store)
    end(store, claim(store), Nack("away"), trace)
    stored = store.traces(job_id)[1]
    assert stored == storable_trace(trace)
    assert len(stored.encode()) <= MOST_BYTES
    shown = readable_error(stored) or ""
    told = trace.encode("utf-8", "backslashreplace").decode()
    assert told.endswith(shown.removeprefix("...\n"))
    assert len(shown) > len(told) or len(stored) > MOST_BYTES // 3 or shown == told
