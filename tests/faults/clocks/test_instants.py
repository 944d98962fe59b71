"""Instants on the edge: a millisecond before, at, and after what is due, over or past; and the ends of the calendar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taquba_workflow_sync import ClaimLostError, JobStatus, Queue, QueueConfig, WorkflowClient
from taquba_workflow_sync.clock import EPOCH
from taquba_workflow_sync.testing import ManualClock
from tests.queue.support import claimed, counters, stored

MS = timedelta(milliseconds=1)
AROUND = [(-1, False), (0, True), (1, True)]
LAST = datetime.max.replace(tzinfo=UTC)
FIRST = datetime.min.replace(tzinfo=UTC)
CONFIG = QueueConfig(keep_done_jobs=10, dead_retention=20, retry_backoff_base=5, max_attempts=2)

Open = Callable[..., Queue]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    queues: list[Queue] = []

    def make(clock: object) -> Queue:
        queues.append(
            Queue.open(tmp_path / "store", clock=clock, default_config=CONFIG, durability="relaxed")  # type: ignore[arg-type]
        )
        return queues[-1]

    yield make
    for each in queues:
        each.close()


# -- one millisecond ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("off", "is_there"), AROUND)
def test_what_is_due_now_is_due(opened: Open, off: int, is_there: bool) -> None:
    clock = ManualClock()
    queue = opened(clock)
    queue.enqueue("q", b"", run_at=clock.now() + timedelta(seconds=3))
    assert counters(queue) == {"scheduled": 1}
    clock.advance(timedelta(seconds=3) + off * MS)
    assert (queue.claim("q") is not None) is is_there


@pytest.mark.parametrize(("off", "is_there"), AROUND)
def test_what_is_put_in_for_now_waits_for_nothing(opened: Open, off: int, is_there: bool) -> None:
    clock = ManualClock()
    queue = opened(clock)
    job_id = queue.enqueue("q", b"", run_at=clock.now() - off * MS)
    assert (stored(queue, job_id).status is JobStatus.PENDING) is is_there


@pytest.mark.parametrize(("off", "is_there"), AROUND)
def test_a_backoff_is_over_when_it_has_passed(opened: Open, off: int, is_there: bool) -> None:
    clock = ManualClock()
    queue = opened(clock)
    queue.enqueue("q", b"")
    queue.nack(claimed(queue), "boom")
    clock.advance(timedelta(seconds=5) + off * MS)
    assert (queue.claim("q") is not None) is is_there


@pytest.mark.parametrize(("off", "is_over"), AROUND)
def test_a_bare_lease_is_over_at_its_end_and_then_the_old_holder_is_fenced_off(
    opened: Open, off: int, is_over: bool
) -> None:
    clock = ManualClock()
    queue = opened(clock)
    queue.enqueue("q", b"")
    first = claimed(queue, lease=10)
    assert first.job.lease_expires_at == clock.now() + timedelta(seconds=10)
    clock.advance(timedelta(seconds=10) + off * MS)
    second = queue.claim("q")
    assert (second is not None) is is_over
    if second is not None:
        assert second.job.attempts == 2
        with pytest.raises(ClaimLostError):
            queue.ack(first)
        queue.ack(second)
    else:
        queue.ack(first)
    assert counters(queue) == {"done": 1}


@pytest.mark.parametrize(("off", "is_gone"), AROUND)
@pytest.mark.parametrize(("end", "kept"), [("ack", 10), ("dead_letter", 20)])
def test_a_kept_row_leaves_when_its_retention_is_over(
    opened: Open, off: int, is_gone: bool, end: str, kept: int
) -> None:
    clock = ManualClock()
    queue = opened(clock)
    job_id = queue.enqueue("q", b"")
    claim = claimed(queue)
    clock.advance(7)
    queue.ack(claim) if end == "ack" else queue.dead_letter(claim, "broken")
    clock.advance(timedelta(seconds=kept) + off * MS)
    queue.handle.store.sweep()
    assert (queue.get_job(job_id) is None) is is_gone


@pytest.mark.parametrize(("off", "is_gone"), AROUND)
def test_a_run_is_seen_until_its_retention_is_over_and_its_name_is_free_from_then_on(
    opened: Open, off: int, is_gone: bool
) -> None:
    clock = ManualClock()
    queue = opened(clock)
    client = WorkflowClient(queue, keep_runs=100)
    handle = client.submit(run_id="r", input=b"x")
    handle.cancel()
    clock.advance(timedelta(seconds=100) + off * MS)
    assert (client.status("r") is None) is is_gone
    again = client.submit(run_id="r", input=b"x")
    assert again.newly_submitted is is_gone
    assert (again.first_job_id != handle.first_job_id) is is_gone


# -- a clock that goes back between two transactions -----------------------------------------------------------------


def test_a_clock_set_back_while_a_job_is_held_settles_it_all_the_same(opened: Open) -> None:
    clock = ManualClock()
    queue = opened(clock)
    job_id = queue.enqueue("q", b"")
    claim = claimed(queue)
    clock.advance(-timedelta(hours=1))
    queue.nack(claim, "boom")
    assert queue.claim("q") is None
    clock.advance(5)
    again = claimed(queue)
    assert again.job.attempts == 2
    clock.advance(-timedelta(hours=1))
    assert queue.claim("q") is None
    queue.ack(again)
    record = stored(queue, job_id)
    assert (record.status, record.attempts) == (JobStatus.DONE, 2)
    queue.handle.store.sweep()
    assert queue.get_job(job_id) is not None
    clock.advance(10)
    queue.handle.store.sweep()
    assert queue.get_job(job_id) is None
    assert len(queue.attempt_history(job_id)) == 0


def test_a_clock_set_forward_frees_a_bare_claim_and_set_back_keeps_it(opened: Open) -> None:
    """As documented: the lease alone decides, by the store's clock."""
    clock = ManualClock()
    queue = opened(clock)
    queue.enqueue("q", b"")
    first = claimed(queue, lease=60)
    clock.advance(-timedelta(hours=1))
    assert queue.claim("q") is None
    clock.advance(timedelta(hours=2))
    assert claimed(queue).job.attempts == 2
    with pytest.raises(ClaimLostError):
        queue.renew_lease(first, 60)


def test_the_line_does_not_depend_on_the_clock(opened: Open) -> None:
    clock = ManualClock()
    queue = opened(clock)
    ids = []
    for hours in (0, -1, 2, -3, 0):
        clock.advance(timedelta(hours=hours))
        ids.append(queue.enqueue("q", b""))
    assert [claim.job.id for claim in queue.claim_batch("q", 10)] == ids


# -- delays that are no delays, and those that are too long ----------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 0.0, -0.0, timedelta(0), 0.0000001])
def test_a_delay_of_nothing_is_none(opened: Open, delay: float | timedelta) -> None:
    queue = opened(ManualClock())
    queue.enqueue("q", b"")
    queue.advance(claimed(queue), b"", delay=delay)
    assert counters(queue) == {"pending": 1}


@pytest.mark.parametrize("delay", [-1, -0.001, timedelta(microseconds=-1000), float("nan"), float("inf")])
def test_a_delay_that_is_senseless_is_refused_and_the_claim_is_kept(opened: Open, delay: float | timedelta) -> None:
    queue = opened(ManualClock())
    queue.enqueue("q", b"")
    claim = claimed(queue)
    with pytest.raises(ValueError, match="delay"):
        queue.advance(claim, b"", delay=delay)
    queue.ack(claim)


@pytest.mark.parametrize("delay", [10**18, 1e300, timedelta.max])
@pytest.mark.parametrize("at", [datetime(2026, 1, 1, tzinfo=UTC), None])
def test_a_delay_longer_than_a_century_is_a_century_and_can_be_read(
    opened: Open, delay: float | timedelta, at: datetime | None
) -> None:
    """Also by the system's own clock, whose delays are stored otherwise."""
    clock = None if at is None else ManualClock(at)
    queue = opened(clock)
    job_id = queue.enqueue("q", b"")
    queue.advance(claimed(queue), b"", delay=delay)
    record = stored(queue, job_id)
    assert record.run_at is not None and 2120 < record.run_at.year < 2200
    assert queue.claim("q") is None
    assert queue.list_jobs("q").jobs == [record]


def test_a_lease_longer_than_a_century_can_be_read(opened: Open) -> None:
    queue = opened(ManualClock())
    queue.enqueue("q", b"")
    claim = claimed(queue, lease=timedelta.max)
    assert claim.job.lease_expires_at is not None
    queue.renew_lease(claim, timedelta.max)
    queue.ack(claim)


# -- the ends of the calendar ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "at",
    [FIRST, FIRST + timedelta(days=1), EPOCH, EPOCH - MS, EPOCH + MS, datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)],
    ids=lambda each: each.isoformat(),
)
def test_a_life_in_any_year_long_enough_ago(opened: Open, at: datetime) -> None:
    clock = ManualClock(at)
    queue = opened(clock)
    job_id = queue.enqueue("q", b"x")
    queue.nack(claimed(queue), "boom")
    clock.advance(5)
    claim = claimed(queue, lease=30)
    assert claim.job.lease_expires_at == clock.now() + timedelta(seconds=30)
    queue.ack(claim)
    assert stored(queue, job_id).enqueued_at == at
    assert [each.claimed_at for each in queue.attempt_history(job_id)] == [at, clock.now()]
    clock.advance(10)
    queue.handle.store.sweep()
    assert queue.get_job(job_id) is None


@pytest.mark.parametrize("left", [timedelta(0), timedelta(seconds=1), timedelta(days=1)], ids=str)
def test_at_the_end_of_the_calendar_nothing_is_claimed_that_cannot_be_told(opened: Open, left: timedelta) -> None:
    """A lease, a retention or a delay would end after the year 9999: the call works, or fails and changes nothing."""
    clock = ManualClock(LAST - left)
    queue = opened(clock)
    job_id = queue.enqueue("q", b"")
    claim = claimed(queue, lease=timedelta(days=2))
    assert claim.job.lease_expires_at is not None
    queue.renew_lease(claim, timedelta(days=2))
    queue.advance(claim, b"", delay=timedelta(days=2))
    assert stored(queue, job_id).run_at is not None


def test_a_time_given_at_the_end_of_the_calendar_waits_and_is_told(opened: Open) -> None:
    queue = opened(ManualClock())
    job_id = queue.enqueue("q", b"", run_at=LAST)
    assert queue.claim_with_wait("q", 0.01) is None
    told = stored(queue, job_id).run_at
    assert told is not None and LAST - told < MS
