"""What operators have removed: dead jobs by their id, and what ended long enough ago."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.errors import InvalidStateError, JobNotFoundError
from taquba_workflow_sync.storage.port.operators import MOST_ROWS
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.settlement import Ack, DeadLetter, SettleCancelled
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.tally import Tally
from taquba_workflow_sync.testing import ManualClock

from .bench import QUEUE, claim, claims, put, put_one, put_run, run, settle
from .test_group import submit as submit_group

DEAD = Filter(status=JobStatus.DEAD)


def test_a_dead_job_is_gone_with_all_it_had(store: Store) -> None:
    job_id = put_run(store, "r", payload=b"p" * 5000)
    settle(store, claim(store), DeadLetter("no"), yields_to_cancel=True)
    store.remove(job_id)
    assert store.get(job_id) is None and store.history(job_id) == [] and store.check() == []
    assert store.counts()[QUEUE].dead == 0 and store.tally(QUEUE) == Tally()
    with pytest.raises(JobNotFoundError):
        store.remove(job_id)


def test_what_is_not_dead_is_not_removed(store: Store) -> None:
    waiting = put_one(store)
    with pytest.raises(InvalidStateError):
        store.remove(waiting)
    held = claim(store)
    with pytest.raises(InvalidStateError):
        store.remove(held.id)
    assert store.get(waiting) is not None


def test_what_ended_long_enough_ago_is_removed_by_its_filter(store: Store, clock: ManualClock) -> None:
    put(store, *(run(name) for name in ("done", "dead", "cancelled", "young", "waits")))
    done, dead, cancelled, young, _ = claims(store)
    settle(store, done, Ack(result=b"x"), yields_to_cancel=True)
    settle(store, dead, DeadLetter("no"), yields_to_cancel=True)
    settle(store, cancelled, SettleCancelled())
    clock.advance(10)
    settle(store, young, Ack(), yields_to_cancel=True)

    removed = [
        store.remove_some(QUEUE, Filter(status=status, ended_for_ms=10_000), None).changed for status in JobStatus
    ]
    assert sum(removed) == 3
    assert {row.run_id for row in store.page(QUEUE, Filter(), 10, None).rows} == {"young", "waits"}
    assert store.check() == []


def test_at_most_so_many_go_in_one_commit(store: Store) -> None:
    put(store, *(run(f"r{number}") for number in range(MOST_ROWS + 1)))
    while claimed := claims(store, 100):
        for row in claimed:
            settle(store, row, DeadLetter("no"), yields_to_cancel=True)
    first = store.remove_some(QUEUE, DEAD, None)
    assert first.changed == MOST_ROWS and first.next_cursor is not None
    last = store.remove_some(QUEUE, DEAD, first.next_cursor)
    assert (last.changed, last.next_cursor) == (1, None)


def test_members_of_groups_go_with_their_group(store: Store) -> None:
    submit_group(store, 1)
    held = claim(store)
    settle(store, held, DeadLetter("no"), yields_to_cancel=True)
    with pytest.raises(InvalidStateError):
        store.remove(held.id)
    assert store.remove_some(QUEUE, DEAD, None).changed == 0
    assert store.get(held.id) is not None
