"""Listing jobs page by page."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from taquba_workflow_sync import JobPage, JobStatus, Queue, QueueConfig
from taquba_workflow_sync.storage.relational.sql.names import JOB, OVERFLOW
from taquba_workflow_sync.testing import ManualClock

from .support import START, claimed, corrupt


def all_ids(queue: Queue, status: JobStatus | None = None, limit: int = 2) -> list[str]:
    ids: list[str] = []
    page = queue.list_jobs("q", status, limit=limit)
    while True:
        assert len(page.jobs) <= limit
        ids += [job.id for job in page.jobs]
        if page.next_cursor is None:
            return ids
        page = queue.list_jobs("q", status, limit=limit, cursor=page.next_cursor)


def test_an_unknown_queue_has_one_empty_page(queue: Queue) -> None:
    assert queue.list_jobs("nowhere") == JobPage([], None)
    assert queue.dead_jobs("nowhere") == JobPage([], None)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
def test_pages_together_hold_every_job_once_in_order(queue: Queue, limit: int) -> None:
    ids = queue.enqueue_batch("q", [b""] * 7)
    queue.enqueue("other", b"")

    assert all_ids(queue, limit=limit) == ids


def test_a_page_that_holds_the_last_job_has_no_cursor(queue: Queue) -> None:
    queue.enqueue_batch("q", [b""] * 4)

    assert queue.list_jobs("q", limit=4).next_cursor is None
    assert queue.list_jobs("q", limit=3).next_cursor is not None


def test_each_status_has_its_jobs_and_no_others(tmp_path: Path, clock: ManualClock) -> None:
    config = QueueConfig(keep_done_jobs=60)
    with Queue.open(tmp_path / "s", durability="relaxed", default_config=config, clock=clock) as queue:
        expected: dict[JobStatus, list[str]] = {}
        expected[JobStatus.DONE] = queue.enqueue_batch("q", [b""] * 3)
        for claim in queue.claim_batch("q", 3):
            queue.ack(claim)
        expected[JobStatus.DEAD] = queue.enqueue_batch("q", [b""] * 3)
        for claim in queue.claim_batch("q", 3):
            queue.dead_letter(claim, "no")
        expected[JobStatus.CLAIMED] = queue.enqueue_batch("q", [b""] * 3)
        queue.claim_batch("q", 3)
        expected[JobStatus.PENDING] = queue.enqueue_batch("q", [b""] * 3)
        expected[JobStatus.SCHEDULED] = [
            queue.enqueue("q", b"", run_at=START + timedelta(hours=9 - n)) for n in range(3)
        ]
        expected[JobStatus.CANCELLED] = queue.enqueue_batch("q", [b""] * 3)
        for job_id in expected[JobStatus.CANCELLED]:
            queue.cancel(job_id)

        for status in JobStatus:
            assert all_ids(queue, status) == expected[status], status
            assert all_ids(queue, status.value) == expected[status]  # type: ignore[arg-type]  # the value will do
        page = queue.dead_jobs("q", limit=2)
        assert [job.id for job in page.jobs] == expected[JobStatus.DEAD][:2]
        assert [job.id for job in queue.dead_jobs("q", cursor=page.next_cursor).jobs] == expected[JobStatus.DEAD][2:]


def test_a_cursor_stays_good_when_its_job_is_gone(queue: Queue) -> None:
    ids = queue.enqueue_batch("q", [b""] * 4)
    page = queue.list_jobs("q", limit=2)
    for job_id in ids[:3]:
        queue.cancel(job_id)

    rest = queue.list_jobs("q", limit=2, cursor=page.next_cursor)

    assert ([job.id for job in rest.jobs], rest.next_cursor) == (ids[3:], None)


def test_a_job_put_in_between_pages_appears_at_the_end(queue: Queue) -> None:
    ids = queue.enqueue_batch("q", [b""] * 3)
    page = queue.list_jobs("q", limit=2)
    late = queue.enqueue("q", b"")

    assert [job.id for job in queue.list_jobs("q", cursor=page.next_cursor).jobs] == [ids[2], late]


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "9" * 30, "\u0661"])
def test_a_cursor_that_is_none_of_ours_is_refused(queue: Queue, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        queue.list_jobs("q", cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 10_001])
def test_a_senseless_limit_is_refused(queue: Queue, limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        queue.list_jobs("q", limit=limit)


def test_an_unknown_status_is_refused(queue: Queue) -> None:
    with pytest.raises(ValueError, match="pending"):
        queue.list_jobs("q", "waiting")  # type: ignore[arg-type]  # on purpose


def test_a_page_carries_payloads_of_every_size(queue: Queue) -> None:
    payloads = [b"x" * size for size in (0, 10, 5000, 100_000)]
    queue.enqueue_batch("q", payloads)

    assert [job.payload for job in queue.list_jobs("q").jobs] == payloads


@pytest.mark.embedded
def test_one_vanished_payload_does_not_spoil_the_page(queue: Queue) -> None:
    ids = queue.enqueue_batch("q", [b"one", b"x" * 5000, b"three"])
    corrupt(queue, f"DELETE FROM {OVERFLOW}")

    assert {ids[0], ids[2]} <= {job.id for job in queue.list_jobs("q").jobs}


@pytest.mark.embedded
def test_one_undecodable_row_does_not_spoil_the_page(queue: Queue) -> None:
    ids = queue.enqueue_batch("q", [b"one", b"two", b"three"])
    corrupt(queue, f"UPDATE {JOB} SET headers = '{{broken' WHERE id = ?", ids[1])

    assert {ids[0], ids[2]} <= {job.id for job in queue.list_jobs("q").jobs}


@pytest.mark.embedded
def test_a_claim_is_not_spoiled_by_one_vanished_payload(queue: Queue) -> None:
    ids = queue.enqueue_batch("q", [b"x" * 5000, b"two"])
    corrupt(queue, f"DELETE FROM {OVERFLOW}")

    taken = [claim.job.id for _ in range(3) for claim in queue.claim_batch("q", 5)]
    assert ids[1] in taken


@pytest.mark.embedded
def test_a_claim_is_not_spoiled_by_one_undecodable_row(queue: Queue) -> None:
    ids = queue.enqueue_batch("q", [b"one", b"two"])
    corrupt(queue, f"UPDATE {JOB} SET headers = '{{broken' WHERE id = ?", ids[0])

    assert ids[1] in [claim.job.id for claim in queue.claim_batch("q", 5)]


def test_a_job_that_was_claimed_shows_its_attempts_on_the_page(queue: Queue) -> None:
    queue.enqueue("q", b"")
    claimed(queue)

    (job,) = queue.list_jobs("q", JobStatus.CLAIMED).jobs
    assert (job.attempts, job.status) == (1, JobStatus.CLAIMED)
