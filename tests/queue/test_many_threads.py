"""One queue used by many threads at once."""

from __future__ import annotations

import threading
from collections import Counter

from taquba_workflow_sync import Queue

from .support import counters, in_thread

THREADS, JOBS = 8, 40


def test_every_job_put_in_by_many_threads_is_claimed_once_by_many_others(queue: Queue) -> None:
    put_in: list[str] = []
    taken: Counter[str] = Counter()
    lock = threading.Lock()
    finished = threading.Event()

    def produce() -> None:
        for _ in range(JOBS):
            job_id = queue.enqueue("q", b"")
            with lock:
                put_in.append(job_id)

    def consume() -> None:
        while not finished.is_set():
            claim = queue.claim_with_wait("q", 0.05)
            if claim is not None:
                queue.ack(claim)
                with lock:
                    taken[claim.job.id] += 1
                    if sum(taken.values()) == THREADS * JOBS:
                        finished.set()

    joins = [in_thread(produce) for _ in range(THREADS)] + [in_thread(consume) for _ in range(THREADS)]
    for join in joins:
        join()

    assert taken == Counter(put_in)
    assert counters(queue) == {"done": THREADS * JOBS}


def test_of_many_threads_that_settle_one_claim_exactly_one_succeeds(queue: Queue) -> None:
    queue.enqueue("q", b"")
    claim = queue.claim("q")
    assert claim is not None
    gate = threading.Barrier(THREADS)

    def settle() -> str:
        gate.wait(30)
        try:
            queue.ack(claim)
        except Exception as error:
            return type(error).__name__
        return "acked"

    results = Counter(join() for join in [in_thread(settle) for _ in range(THREADS)])

    assert results == {"acked": 1, "ClaimLostError": THREADS - 1}
    assert counters(queue) == {"done": 1}


def test_of_many_threads_that_use_one_dedup_key_exactly_one_puts_a_job_in(queue: Queue) -> None:
    gate = threading.Barrier(THREADS)

    def put_in() -> str:
        gate.wait(30)
        return queue.enqueue("q", b"", dedup_key="k")

    ids = {join() for join in [in_thread(put_in) for _ in range(THREADS)]}

    assert len(ids) == 1
    assert counters(queue) == {"pending": 1}


def test_one_callers_refusal_is_nobody_elses(queue: Queue) -> None:
    """Concurrent calls share a transaction; a duplicate id among them harms none."""
    queue.enqueue("q", b"", job_id="taken")
    gate = threading.Barrier(THREADS)

    def put_in(number: int) -> str:
        gate.wait(30)
        try:
            return queue.enqueue("q", b"", job_id="taken" if number % 2 else None)
        except Exception as error:
            return type(error).__name__

    for _ in range(5):
        results = [join() for join in [in_thread(lambda n=n: put_in(n)) for n in range(THREADS)]]  # type: ignore[misc]
        assert [result == "DuplicateJobIdError" for result in results] == [bool(n % 2) for n in range(THREADS)]

    assert counters(queue) == {"pending": 1 + 5 * THREADS // 2}


def test_generated_ids_of_many_threads_never_repeat(queue: Queue) -> None:
    joins = [in_thread(lambda: queue.enqueue_batch("q", [b""] * 200)) for _ in range(THREADS)]
    ids = [job_id for join in joins for job_id in join()]

    assert len(set(ids)) == THREADS * 200
