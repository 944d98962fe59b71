"""Putting jobs in: ids, names, defaults, schedules, limits."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from taquba_workflow_sync import (
    PRIORITY_HIGH,
    PRIORITY_LOW,
    PRIORITY_NORMAL,
    DuplicateJobIdError,
    InvalidNameError,
    JobStatus,
    PayloadTooLargeError,
    Queue,
    QueueConfig,
)

from .support import START, claimed, counters, stored

ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")


def test_a_new_job_reads_as_it_was_put_in(still: Queue) -> None:
    job_id = still.enqueue("q", b"payload", headers={"a": "1", "ü": "✓"}, priority=7, max_attempts=5, dedup_key="k")

    job = stored(still, job_id)
    assert (job.id, job.queue, job.payload, job.headers) == (job_id, "q", b"payload", {"a": "1", "ü": "✓"})
    assert (job.status, job.attempts, job.max_attempts, job.priority, job.step) == (JobStatus.PENDING, 0, 5, 7, 0)
    assert (job.enqueued_at, job.dedup_key, job.cancel_requested) == (START, "k", False)
    assert (job.claimed_at, job.lease_expires_at, job.run_at, job.completed_at, job.failed_at) == (None,) * 5
    assert job.last_error is None


def test_a_generated_id_is_a_ulid_and_ids_ascend(queue: Queue) -> None:
    ids = [queue.enqueue("q", b"") for _ in range(200)]

    assert all(ULID.match(job_id) for job_id in ids)
    assert ids == sorted(set(ids))


def test_a_job_id_of_an_existing_job_is_refused_and_its_job_is_left_alone(queue: Queue) -> None:
    queue.enqueue("q", b"first", job_id="one")

    with pytest.raises(DuplicateJobIdError, match="'one'"):
        queue.enqueue("other", b"second", job_id="one")

    assert stored(queue, "one").payload == b"first"
    assert counters(queue, "other") == {}


def test_a_job_id_of_a_finished_and_kept_job_is_refused(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s", default_config=QueueConfig(keep_done_jobs=60)) as queue:
        queue.enqueue("q", b"", job_id="one")
        queue.ack(claimed(queue))

        with pytest.raises(DuplicateJobIdError):
            queue.enqueue("q", b"", job_id="one")


def test_a_job_id_is_free_again_once_its_row_is_gone(queue: Queue) -> None:
    queue.enqueue("q", b"", job_id="one")
    queue.ack(claimed(queue))

    assert queue.enqueue("q", b"again", job_id="one") == "one"


def test_a_dedup_hit_returns_the_waiting_job_and_writes_nothing(queue: Queue) -> None:
    first = queue.enqueue("q", b"first", dedup_key="k")

    assert queue.enqueue("q", b"second", dedup_key="k") == first
    assert stored(queue, first).payload == b"first"
    assert counters(queue) == {"pending": 1}


def test_a_dedup_key_holds_for_scheduled_jobs_too(still: Queue) -> None:
    first = still.enqueue("q", b"", dedup_key="k", run_at=START + timedelta(hours=1))

    assert still.enqueue("q", b"", dedup_key="k") == first


def test_a_dedup_key_belongs_to_its_queue(queue: Queue) -> None:
    assert queue.enqueue("a", b"", dedup_key="k") != queue.enqueue("b", b"", dedup_key="k")


def test_a_claim_frees_the_dedup_key(queue: Queue) -> None:
    first = queue.enqueue("q", b"", dedup_key="k")
    claim = claimed(queue)

    second = queue.enqueue("q", b"", dedup_key="k")

    assert second != first
    queue.nack(claim, "again")
    assert stored(queue, first).dedup_key is None, "the retried job must not take the key back"
    assert queue.enqueue("q", b"", dedup_key="k") == second


def test_a_cancel_frees_the_dedup_key(queue: Queue) -> None:
    first = queue.enqueue("q", b"", dedup_key="k")
    queue.cancel(first)

    assert queue.enqueue("q", b"", dedup_key="k") != first


def test_lower_priorities_go_first_and_equal_ones_in_order(queue: Queue) -> None:
    for payload, priority in [
        (b"low", PRIORITY_LOW), (b"n1", None), (b"high", PRIORITY_HIGH), (b"n2", PRIORITY_NORMAL), (b"minus", -5),
    ]:  # fmt: skip
        queue.enqueue("q", payload, priority=priority)

    order = [claim.job.payload for claim in queue.claim_batch("q", 10)]

    assert order == [b"minus", b"high", b"n1", b"n2", b"low"]
    assert (PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_LOW) == (100, 1000, 10000)


def test_jobs_of_one_millisecond_keep_their_order(still: Queue) -> None:
    ids = [still.enqueue("q", str(n).encode()) for n in range(50)]

    assert [claim.job.id for claim in still.claim_batch("q", 50)] == ids


def test_run_at_in_the_future_schedules_and_in_the_past_does_not(still: Queue) -> None:
    later = still.enqueue("q", b"", run_at=START + timedelta(milliseconds=1))
    past = still.enqueue("q", b"", run_at=START - timedelta(days=1))
    now = still.enqueue("q", b"", run_at=START)

    assert stored(still, later).status is JobStatus.SCHEDULED
    assert stored(still, later).run_at == START + timedelta(milliseconds=1)
    assert [stored(still, each).status for each in (past, now)] == [JobStatus.PENDING] * 2


def test_a_batch_comes_back_in_order_and_is_claimed_in_order(queue: Queue) -> None:
    payloads = [str(n).encode() for n in range(20)]

    ids = queue.enqueue_batch("q", payloads)

    assert [stored(queue, job_id).payload for job_id in ids] == payloads
    assert [claim.job.id for claim in queue.claim_batch("q", 20)] == ids


def test_a_batch_with_one_bad_payload_writes_nothing(queue: Queue) -> None:
    with pytest.raises(TypeError):
        queue.enqueue_batch("q", [b"good", "bad"])  # type: ignore[list-item]

    assert queue.list_queues() == []


def test_an_empty_batch_is_nothing(queue: Queue) -> None:
    assert queue.enqueue_batch("q", []) == []
    assert queue.list_queues() == []


def test_a_batch_is_one_commit(tmp_path: Path) -> None:
    """A reader on another handle sees all of a batch or nothing of it."""
    path = tmp_path / "s"
    with Queue.open(path, durability="relaxed") as writer, Queue.open(path, durability="relaxed") as reader:
        seen: set[int] = set()
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                seen.add(reader.stats("q").pending)

        thread = threading.Thread(target=look)
        thread.start()
        for _ in range(20):
            writer.enqueue_batch("q", [b"x"] * 100)
        done.set()
        thread.join(30)

        assert {count % 100 for count in seen} <= {0}


def test_defaults_come_from_the_queues_own_configuration(tmp_path: Path) -> None:
    with Queue.open(
        tmp_path / "s",
        default_config=QueueConfig(max_attempts=2, default_priority=5),
        queue_configs={"special": QueueConfig(max_attempts=9, default_priority=1)},
    ) as queue:
        plain, special = (stored(queue, queue.enqueue(name, b"")) for name in ("plain", "special"))

    assert (plain.max_attempts, plain.priority) == (2, 5)
    assert (special.max_attempts, special.priority) == (9, 1)


def test_the_payload_limit_is_exact(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s", max_payload_bytes=10) as queue:
        queue.enqueue("q", b"x" * 10)
        with pytest.raises(PayloadTooLargeError, match="11 bytes"):
            queue.enqueue("q", b"x" * 11)
        with pytest.raises(PayloadTooLargeError):
            queue.enqueue_batch("q", [b"", b"x" * 11])
        assert counters(queue) == {"pending": 1}


def test_the_header_limit_counts_bytes_of_names_and_values_together(queue: Queue) -> None:
    queue.enqueue("q", b"", headers={"k": "x" * (64 * 1024 - 1)})
    with pytest.raises(PayloadTooLargeError):
        queue.enqueue("q", b"", headers={"k": "x" * (64 * 1024)})
    with pytest.raises(PayloadTooLargeError):
        queue.enqueue("q", b"", headers={"k": "ü" * (32 * 1024)})
    assert counters(queue) == {"pending": 1}


@pytest.mark.parametrize("size", [0, 1, 2047, 2048, 2049, 100_000, 2**20])
def test_payloads_of_every_size_come_back_whole(queue: Queue, size: int) -> None:
    payload = bytes(n % 251 for n in range(size))
    job_id = queue.enqueue("q", payload, headers={"size": str(size), "long": "h" * (size % 5000)})

    claim = claimed(queue)

    assert claim.job.payload == payload
    assert claim.job.headers == stored(queue, job_id).headers == {"size": str(size), "long": "h" * (size % 5000)}


@pytest.mark.parametrize("name", ["a", "ä" * 127, "x" * 255, "with space", "a/b:c"])
def test_queue_names_of_up_to_255_bytes_are_taken(queue: Queue, name: str) -> None:
    queue.enqueue(name, b"")
    assert queue.list_queues() == [name]


@pytest.mark.parametrize("name", ["", "x" * 256, "ä" * 128])
def test_other_queue_names_are_refused(queue: Queue, name: str) -> None:
    with pytest.raises(InvalidNameError):
        queue.enqueue(name, b"")
    assert queue.list_queues() == []


@pytest.mark.parametrize("job_id", ["a", "A-z_9", "x" * 128])
def test_job_ids_of_the_alphabet_are_taken(queue: Queue, job_id: str) -> None:
    assert queue.enqueue("q", b"", job_id=job_id) == job_id


@pytest.mark.parametrize("job_id", ["", "x" * 129, "a b", "a.b", "ä", "a\n", "a/b"])
def test_other_job_ids_are_refused(queue: Queue, job_id: str) -> None:
    with pytest.raises(InvalidNameError):
        queue.enqueue("q", b"", job_id=job_id)
    assert queue.list_queues() == []
