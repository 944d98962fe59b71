"""What becomes of a job whose worker raises."""

from __future__ import annotations

import logging

import pytest

from taquba_workflow_sync import (
    AttemptOutcome,
    Claim,
    ClaimLostError,
    JobRecord,
    JobStatus,
    MissingHeaderError,
    PermanentFailure,
    Queue,
    StepError,
    StorageError,
    StoreInUseError,
    TaqubaError,
)
from taquba_workflow_sync.testing import ManualClock
from taquba_workflow_sync.webhooks import RetryLater

from .support import START, counters, stored, wait_until, working


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class OwnPermanent(TaqubaError):
    pass


class OwnTransient(TaqubaError):
    is_permanent = False


class Odd(BaseException):
    pass


TRANSIENT: list[tuple[BaseException, str]] = [
    (ValueError("bad value"), "ValueError: bad value"),
    (KeyError("k"), "KeyError: 'k'"),
    (RuntimeError(), "RuntimeError"),
    (KeyboardInterrupt("ctrl-c"), "KeyboardInterrupt: ctrl-c"),
    (SystemExit(3), "SystemExit: 3"),
    (GeneratorExit(), "GeneratorExit"),
    (Odd("odd"), "Odd: odd"),
    (StopIteration(), "StopIteration"),
    (MemoryError(), "MemoryError"),
    (ExceptionGroup("many", [OSError("one")]), "ExceptionGroup: many (1 sub-exception)"),
    (Unprintable(), "Unprintable: (its message cannot be shown)"),
    (ValueError("a lone \udcff surrogate"), "ValueError: a lone \\udcff surrogate"),
    (StorageError("disk full"), "StorageError: disk full"),
    (StoreInUseError("busy"), "StoreInUseError: busy"),
    (StepError.transient("try again"), "try again"),
    (RetryLater("later"), "RetryLater: later"),
    (OwnTransient("soon"), "OwnTransient: soon"),
]
PERMANENT: list[tuple[BaseException, str]] = [
    (PermanentFailure("never"), "never"),
    (StepError.permanent("never ever"), "never ever"),
    (MissingHeaderError("no header"), "MissingHeaderError: no header"),
    (ClaimLostError("lost"), "ClaimLostError: lost"),
    (OwnPermanent("no"), "OwnPermanent: no"),
]


def name_of(value: object) -> str:
    return type(value).__name__ if isinstance(value, BaseException) else ""


@pytest.mark.parametrize(("error", "text"), TRANSIENT, ids=name_of)
def test_a_transient_error_is_retried_until_the_attempts_are_out(queue: Queue, error: BaseException, text: str) -> None:
    attempts: list[int] = []

    def worker(job: JobRecord, claim: Claim) -> None:
        attempts.append(job.attempts)
        raise error

    job_id = queue.enqueue("q", b"", max_attempts=2)
    with working(queue, "q", worker):
        wait_until(lambda: counters(queue) == {"dead": 1})
        other = queue.enqueue("other", b"")

    assert attempts == [1, 2]
    assert stored(queue, job_id).last_error == text
    assert [each.outcome for each in queue.attempt_history(job_id)] == [AttemptOutcome.RETRIED, AttemptOutcome.DEAD]
    assert stored(queue, other).status is JobStatus.PENDING


@pytest.mark.parametrize(("error", "text"), PERMANENT, ids=name_of)
def test_a_permanent_error_dead_letters_at_once(queue: Queue, error: BaseException, text: str) -> None:
    def worker(job: JobRecord, claim: Claim) -> None:
        raise error

    job_id = queue.enqueue("q", b"", max_attempts=5)
    with working(queue, "q", worker):
        wait_until(lambda: counters(queue) == {"dead": 1})

    assert (stored(queue, job_id).attempts, stored(queue, job_id).last_error) == (1, text)


def test_max_attempts_of_one_means_exactly_one(queue: Queue) -> None:
    attempts: list[int] = []

    def worker(job: JobRecord, claim: Claim) -> None:
        attempts.append(job.attempts)
        raise OSError

    queue.enqueue("q", b"", max_attempts=1)
    with working(queue, "q", worker):
        wait_until(lambda: counters(queue) == {"dead": 1})

    assert attempts == [1]


@pytest.mark.parametrize(("retry_after", "seconds"), [(120.0, 120.0), (0.0, None), (None, 1.0), (-5.0, None)])
def test_retry_after_takes_the_place_of_the_backoff(
    still: Queue, clock: ManualClock, retry_after: float | None, seconds: float | None
) -> None:
    calls: list[int] = []

    def worker(job: JobRecord, claim: Claim) -> None:
        calls.append(job.attempts)
        if job.attempts == 1:
            raise RetryLater("later", retry_after)

    job_id = still.enqueue("q", b"")
    with working(still, "q", worker):
        if seconds is None:
            wait_until(lambda: counters(still) == {"done": 1})
            return
        wait_until(lambda: stored(still, job_id).status is JobStatus.SCHEDULED)
        run_at = stored(still, job_id).run_at
        assert run_at is not None and (run_at - START).total_seconds() == seconds
        clock.advance(seconds)
        wait_until(lambda: counters(still) == {"done": 1})


def test_retry_after_cannot_exceed_the_attempts(queue: Queue) -> None:
    def worker(job: JobRecord, claim: Claim) -> None:
        raise RetryLater("later", 3600.0)

    queue.enqueue("q", b"", max_attempts=1)
    with working(queue, "q", worker):
        wait_until(lambda: counters(queue) == {"dead": 1})


def test_one_failing_job_does_not_end_the_loop(queue: Queue) -> None:
    def worker(job: JobRecord, claim: Claim) -> None:
        if job.payload == b"bad":
            raise SystemExit

    queue.enqueue_batch("q", [b"bad", b"good", b"bad", b"good"])
    with working(queue, "q", worker):
        wait_until(lambda: counters(queue) == {"dead": 2, "done": 2})


def test_a_failure_is_logged_without_its_payload(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    def worker(job: JobRecord, claim: Claim) -> None:
        raise OSError("secret-text")

    with caplog.at_level(logging.DEBUG, "taquba_workflow_sync"):
        job_id = queue.enqueue("q", b"secret-payload", max_attempts=1)
        with working(queue, "q", worker):
            wait_until(lambda: counters(queue) == {"dead": 1})

    records = [record for record in caplog.records if getattr(record, "job_id", None) == job_id]
    assert records and all((record.queue, record.attempt) == ("q", 1) for record in records)  # type: ignore[attr-defined]
    assert "secret-payload" not in caplog.text


def test_a_worker_whose_claim_was_lost_goes_on_with_other_jobs(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    def worker(job: JobRecord, claim: Claim) -> None:
        if job.payload == b"settled by hand":
            queue.dead_letter(claim, "by hand")

    job_id = queue.enqueue("q", b"settled by hand")
    with working(queue, "q", worker):
        queue.enqueue("q", b"other")
        wait_until(lambda: counters(queue) == {"dead": 1, "done": 1})

    assert stored(queue, job_id).last_error == "by hand"


@pytest.mark.parametrize("end", ["nack", "dead_letter"])
def test_an_error_text_with_a_lone_surrogate_is_stored_all_the_same(queue: Queue, end: str) -> None:
    job_id = queue.enqueue("q", b"", max_attempts=1)
    claim = queue.claim("q")
    assert claim is not None

    getattr(queue, end)(claim, "no file \udcff")

    error = stored(queue, job_id).last_error
    assert error is not None and error.startswith("no file ")
