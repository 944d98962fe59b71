"""The history of a job's ended claims."""

from __future__ import annotations

from datetime import timedelta

from taquba_workflow_sync import AttemptOutcome, JobAttempt, Queue
from taquba_workflow_sync.testing import ManualClock

from .support import START, claimed


def test_a_job_never_claimed_or_unknown_has_none(queue: Queue) -> None:
    assert queue.attempt_history(queue.enqueue("q", b"")) == []
    assert queue.attempt_history("unknown") == []


def test_a_claim_that_is_still_held_is_not_in_it(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"")
    claimed(queue)

    assert queue.attempt_history(job_id) == []


def test_every_end_is_written_with_its_times_and_error(still: Queue, clock: ManualClock) -> None:
    job_id = still.enqueue("q", b"", max_attempts=3)
    claim = claimed(still)
    clock.advance(2)
    still.nack(claim, "a stumble")
    clock.advance(1)
    still.advance(claimed(still), b"")
    claimed(still)
    clock.advance(30)
    still.dead_letter(claimed(still), "the end")

    def at(seconds: float) -> object:
        return START + timedelta(seconds=seconds)

    history = still.attempt_history(job_id)
    assert history[0] == JobAttempt(0, 1, at(0), at(2), AttemptOutcome.RETRIED, "a stumble")  # type: ignore[arg-type]
    assert history[1] == JobAttempt(0, 2, at(3), at(3), AttemptOutcome.CONTINUED, None)  # type: ignore[arg-type]
    assert (history[2].step, history[2].attempt, history[2].outcome) == (1, 1, AttemptOutcome.REAPED)
    assert (history[2].claimed_at, history[2].ended_at) == (at(3), at(33))
    assert history[3] == JobAttempt(1, 2, at(33), at(33), AttemptOutcome.DEAD, "the end")  # type: ignore[arg-type]
    assert len(history) == 4


def test_the_history_outlives_a_requeue_and_goes_on(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"", max_attempts=1)
    queue.nack(claimed(queue), "first life")
    queue.requeue_dead_job(job_id)
    queue.nack(claimed(queue), "second life")

    history = queue.attempt_history(job_id)
    assert [(each.attempt, each.outcome, each.error) for each in history] == [
        (1, AttemptOutcome.DEAD, "first life"),
        (1, AttemptOutcome.DEAD, "second life"),
    ]


def test_the_first_hundred_and_the_last_thousand_are_kept(queue: Queue) -> None:
    job_id = queue.enqueue("q", b"", max_attempts=2000)
    for number in range(1, 1151):
        queue.nack(claimed(queue), str(number))

    numbers = [each.attempt for each in queue.attempt_history(job_id)]

    assert numbers == [*range(1, 101), *range(151, 1151)]
    assert [each.error for each in queue.attempt_history(job_id)] == [str(number) for number in numbers]
