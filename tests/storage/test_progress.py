"""Progress at the port: kept under the claim's token, shown while that holds, never an obstacle."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.progress import Progress, ProgressReport
from taquba_workflow_sync.storage.port.settlement import Ack, Action, Advance, Nack, Release
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import KEEP_MS, claim, claims, holding, now_ms, put, put_run, run, settle, stored, writes_nothing
from .conftest import MakeStore


def said(held: ClaimedRow, done: float = 1, total: float | None = 4, note: str = "a quarter") -> ProgressReport:
    return ProgressReport(held.id, held.token, done, total, note)


def test_what_a_step_says_is_seen_by_every_handle(make_store: MakeStore, clock: ManualClock) -> None:
    mine, other = make_store(), make_store()
    job_id = put_run(mine)
    held = claim(mine)
    clock.advance(3)
    mine.report_progress([said(held)])
    assert stored(other, job_id).progress == Progress(1, 4, "a quarter", now_ms(clock))


@pytest.mark.parametrize(("done", "total"), [(0, None), (2**53, 2**53), (0.25, 1.0), (5, 3)])
def test_numbers_come_back_as_they_were(store: Store, done: float, total: float | None) -> None:
    job_id = put_run(store)
    store.report_progress([said(claim(store), done, total, "")])
    shown = stored(store, job_id).progress
    assert shown is not None
    assert (shown.done, shown.total, type(shown.done)) == (done, total, type(done))


def test_the_last_word_is_what_is_shown(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.report_progress([said(held, 1), said(held, 2)])
    store.report_progress([said(held, 3)])
    shown = stored(store, job_id).progress
    assert shown is not None and shown.done == 3


def test_reports_of_many_claims_are_stored_together(store: Store) -> None:
    put(store, *(run(f"r{number}") for number in range(5)))
    held = claims(store)
    store.report_progress([said(row, number) for number, row in enumerate(held)])
    shown = [stored(store, row.id).progress for row in held]
    assert [each and each.done for each in shown] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("action", [Advance(b"x"), Nack("boom"), Release()], ids=["advance", "nack", "release"])
def test_the_end_of_the_claim_ends_it_also_for_the_next_claim(store: Store, action: Action) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.report_progress([said(held)])
    settle(store, held, action)
    assert stored(store, job_id).progress is None
    again = claim(store)
    assert stored(store, job_id).progress is None
    store.report_progress([said(again, 2)])
    shown = stored(store, job_id).progress
    assert shown is not None and shown.done == 2


def test_a_hold_is_another_claim_of_it(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.report_progress([said(held)])
    store.settle_and_claim([holding(store, held)], [])
    assert stored(store, job_id).progress is None


def test_a_claim_that_was_lost_says_nothing_and_is_no_error(store: Store) -> None:
    put_run(store)
    held = claim(store)
    settle(store, held, Nack("boom"))
    again = claim(store)
    with writes_nothing(store):
        store.report_progress([said(held)])
        store.report_progress([said(again._replace(id="nobody"))])


def test_a_requested_cancel_is_no_obstacle(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.cancel(job_id)
    store.report_progress([said(held)])
    assert stored(store, job_id).progress is not None


def test_an_ended_run_shows_none_and_is_swept_whole(store: Store, clock: ManualClock) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.report_progress([said(held)])
    settle(store, held, Ack(result=b"x"), yields_to_cancel=True)
    assert stored(store, job_id).progress is None
    clock.advance(KEEP_MS / 1000 + 1)
    assert store.sweep() == 1
    assert store.get(job_id) is None
