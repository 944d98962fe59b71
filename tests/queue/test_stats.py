"""Counters: what is there now, and what was done and cancelled ever."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taquba_workflow_sync import JobStatus, Queue, QueueConfig, QueueStats
from taquba_workflow_sync.testing import ManualClock

from .support import START, claimed, counters


def test_a_queue_never_used_has_no_counts_and_is_not_listed(queue: Queue) -> None:
    assert queue.stats("nowhere") == QueueStats("nowhere", 0, 0, 0, 0, 0, 0)
    assert queue.list_queues() == []


def test_every_queue_ever_used_is_listed_sorted(queue: Queue) -> None:
    for name in ("b", "a", "c"):
        queue.enqueue(name, b"")
    queue.ack(claimed(queue, "b"))

    assert queue.list_queues() == ["a", "b", "c"]


def test_each_transition_moves_the_counters(still: Queue, clock: ManualClock) -> None:
    still.enqueue_batch("q", [b""] * 4)
    assert counters(still) == {"pending": 4}
    still.enqueue("q", b"", run_at=START + timedelta(seconds=60))
    assert counters(still) == {"pending": 4, "scheduled": 1}
    acked, nacked, dead, advanced = still.claim_batch("q", 4)
    assert counters(still) == {"claimed": 4, "scheduled": 1}
    still.ack(acked)
    assert counters(still) == {"claimed": 3, "scheduled": 1, "done": 1}
    still.nack(nacked, "again")
    assert counters(still) == {"claimed": 2, "scheduled": 2, "done": 1}
    still.dead_letter(dead, "no")
    assert counters(still) == {"claimed": 1, "scheduled": 2, "done": 1, "dead": 1}
    still.advance(advanced, b"")
    assert counters(still) == {"pending": 1, "scheduled": 2, "done": 1, "dead": 1}
    still.cancel(nacked.job.id)
    assert counters(still) == {"pending": 1, "scheduled": 1, "done": 1, "dead": 1, "cancelled": 1}
    still.requeue_dead_job(dead.job.id)
    assert counters(still) == {"pending": 2, "scheduled": 1, "done": 1, "cancelled": 1}
    clock.advance(60)
    assert len(still.claim_batch("q", 10)) == 3
    assert counters(still) == {"claimed": 3, "done": 1, "cancelled": 1}
    clock.advance(30)
    assert len(still.claim_batch("q", 1)) == 1
    assert counters(still) == {"claimed": 1, "pending": 2, "done": 1, "cancelled": 1}


def test_done_and_cancelled_count_all_ever_also_after_the_sweep(tmp_path: Path, clock: ManualClock) -> None:
    config = QueueConfig(keep_done_jobs=10, dead_retention=10)
    with Queue.open(tmp_path / "s", default_config=config, clock=clock) as queue:
        ids = queue.enqueue_batch("q", [b""] * 3)
        queue.ack(claimed(queue))
        queue.dead_letter(claimed(queue), "no")
        queue.cancel(ids[2])
        clock.advance(10)
        assert queue.handle.store.sweep() == 3

        assert counters(queue) == {"done": 1, "cancelled": 1}
        assert queue.list_jobs("q").jobs == []


def test_a_dead_letter_that_is_not_kept_at_all_is_not_counted(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s", default_config=QueueConfig(dead_retention=0)) as queue:
        queue.enqueue("q", b"")
        queue.dead_letter(claimed(queue), "no")

        assert counters(queue) == {}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            ["enqueue", "later", "claim", "ack", "nack", "dead", "advance", "cancel", "requeue", "tick", "sweep"]
        ),
        max_size=40,
    )
)
@pytest.mark.parametrize("kept", [None, 5.0])
def test_the_counters_always_agree_with_the_rows(kept: float | None, actions: list[str]) -> None:
    clock = ManualClock()
    config = QueueConfig(max_attempts=2, lease_duration=3, keep_done_jobs=kept, dead_retention=20)
    with Queue.temporary(durability="relaxed", default_config=config, clock=clock) as queue:
        known: list[str] = []
        held = []
        for number, action in enumerate(actions):
            if action == "enqueue":
                known.append(queue.enqueue("q", b""))
            elif action == "later":
                known.append(queue.enqueue("q", b"", run_at=clock.now() + timedelta(seconds=2)))
            elif action == "claim":
                held += queue.claim_batch("q", 2)
            elif action == "tick":
                clock.advance(2)
            elif action == "sweep":
                queue.handle.store.sweep()
            elif action == "cancel" and known:
                queue.cancel(known[number % len(known)])
            elif action == "requeue":
                for job in queue.dead_jobs("q", limit=1).jobs:
                    queue.requeue_dead_job(job.id)
            elif held:
                claim = held.pop(0)
                end = {
                    "ack": queue.ack,
                    "nack": lambda claim: queue.nack(claim, "no"),
                    "dead": lambda claim: queue.dead_letter(claim, "no"),
                    "advance": lambda claim: queue.advance(claim, b"x"),
                }.get(action)
                if end is not None:
                    try:
                        end(claim)
                    except Exception as error:
                        assert type(error).__name__ in ("ClaimLostError", "CancelRequestedError"), error

            stats = queue.stats("q")
            for status in (JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.CLAIMED, JobStatus.DEAD):
                assert getattr(stats, status.value) == len(queue.list_jobs("q", status).jobs), (status, action)
