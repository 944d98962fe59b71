"""Opening and closing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from taquba_workflow_sync import (
    Claim,
    Effects,
    Queue,
    RunSpec,
    StoreClosedError,
    Succeed,
    WebhookRequest,
    WorkflowClient,
    WorkflowRuntime,
    enqueue_webhook,
    run_worker,
)

from .support import claimed, in_thread, stored


def _an_effect() -> Effects:
    effects = Effects()
    effects.put("key", b"value")
    return effects


METHODS: dict[str, Callable[[Queue, Claim], object]] = {
    "enqueue": lambda queue, claim: queue.enqueue("q", b""),
    "enqueue_batch": lambda queue, claim: queue.enqueue_batch("q", [b""]),
    "enqueue_batch of nothing": lambda queue, claim: queue.enqueue_batch("q", []),
    "claim": lambda queue, claim: queue.claim("q"),
    "claim_batch": lambda queue, claim: queue.claim_batch("q", 2),
    "claim_with_wait": lambda queue, claim: queue.claim_with_wait("q", 0),
    "ack": lambda queue, claim: queue.ack(claim),
    "nack": lambda queue, claim: queue.nack(claim, "no"),
    "dead_letter": lambda queue, claim: queue.dead_letter(claim, "no"),
    "advance": lambda queue, claim: queue.advance(claim, b""),
    "renew_lease": lambda queue, claim: queue.renew_lease(claim, 10),
    "cancel": lambda queue, claim: queue.cancel("a"),
    "get_job": lambda queue, claim: queue.get_job("a"),
    "list_jobs": lambda queue, claim: queue.list_jobs("q"),
    "dead_jobs": lambda queue, claim: queue.dead_jobs("q"),
    "requeue_dead_job": lambda queue, claim: queue.requeue_dead_job("a"),
    "stats": lambda queue, claim: queue.stats("q"),
    "metrics": lambda queue, claim: queue.metrics(),
    "recent_activity": lambda queue, claim: queue.recent_activity("q"),
    "list_queues": lambda queue, claim: queue.list_queues(),
    "attempt_history": lambda queue, claim: queue.attempt_history("a"),
    "backup": lambda queue, claim: queue.backup(queue.path.parent / "copy"),
    "check": lambda queue, claim: queue.check(),
    "commit": lambda queue, claim: queue.commit(_an_effect()),
    "unregister_hook": lambda queue, claim: WorkflowClient(queue).unregister_hook(),
    "__enter__": lambda queue, claim: queue.__enter__(),
    "run_worker": lambda queue, claim: run_worker(queue, "q", lambda job, claim: None, shutdown=threading.Event()),
    "submit": lambda queue, claim: WorkflowClient(queue).submit(),
    "submit_many": lambda queue, claim: WorkflowClient(queue).submit_many([RunSpec()]),
    "status": lambda queue, claim: WorkflowClient(queue).status("r"),
    "outcome": lambda queue, claim: WorkflowClient(queue).outcome("r"),
    "wait": lambda queue, claim: WorkflowClient(queue).wait("r", 0),
    "cancel a run": lambda queue, claim: WorkflowClient(queue).cancel("r"),
    "retry": lambda queue, claim: WorkflowClient(queue).retry("r"),
    "submit_group": lambda queue, claim: WorkflowClient(queue).submit_group("g", []),
    "group": lambda queue, claim: WorkflowClient(queue).group("g"),
    "list_runs": lambda queue, claim: WorkflowClient(queue).list_runs(),
    "start": lambda queue, claim: WorkflowRuntime(queue, lambda step: Succeed()).start(),
    "run": lambda queue, claim: WorkflowRuntime(queue, lambda step: Succeed()).run(threading.Event()),
    "run_until_idle": lambda queue, claim: WorkflowRuntime(queue, lambda step: Succeed()).run_until_idle(),
    "commit of nothing": lambda queue, claim: queue.commit(Effects()),
    "kv": lambda queue, claim: queue.kv.get("key"),
    "enqueue_webhook": lambda queue, claim: enqueue_webhook(queue, "w", WebhookRequest("http://127.0.0.1/"), b""),
}


@pytest.mark.parametrize("name", METHODS)
def test_after_close_every_method_says_so(queue: Queue, name: str) -> None:
    queue.enqueue("q", b"")
    claim = claimed(queue)
    queue.close()

    with pytest.raises(StoreClosedError, match="open it again"):
        METHODS[name](queue, claim)


def test_every_public_method_is_in_the_table_above() -> None:
    public = {name for name, value in vars(Queue).items() if callable(value) and not name.startswith("_")}

    assert public - {"open", "temporary", "close"} <= set(METHODS)


def test_closing_is_idempotent_from_many_threads(queue: Queue) -> None:
    joins = [in_thread(queue.close) for _ in range(8)]
    for join in joins:
        join()
    queue.close()


def test_leaving_the_with_block_closes_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Queue.open(tmp_path / "s") as queue:
        raise KeyError("a user's error")
    with pytest.raises(StoreClosedError):
        queue.list_queues()


def test_what_was_put_in_is_there_after_a_reopen(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s") as queue:
        job_id = queue.enqueue("q", b"payload", headers={"h": "1"})
        before = stored(queue, job_id)
    with Queue.open(str(tmp_path / "s")) as queue:
        assert stored(queue, job_id) == before


def test_a_claim_outlives_the_handle_that_made_it(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s") as queue:
        queue.enqueue("q", b"")
        claim = claimed(queue)
    with Queue.open(tmp_path / "s") as queue:
        assert queue.claim("q") is None, "a bare claim ends by its lease alone"
        queue.ack(claim)


@pytest.mark.embedded
def test_a_temporary_queue_is_private_and_gone_on_close() -> None:
    queue = Queue.temporary()
    directory = queue.path
    with queue:
        assert directory.is_dir()
        assert directory.stat().st_mode & 0o777 == 0o700
        queue.enqueue("q", b"")
    assert not directory.exists()
    assert not directory.parent.name.startswith("taquba-") or not directory.parent.exists()


def test_temporary_queues_share_nothing_and_take_all_options() -> None:
    with Queue.temporary(max_payload_bytes=10, durability="relaxed") as one, Queue.temporary() as two:
        one.enqueue("q", b"")

        assert two.list_queues() == []
        assert one.handle.max_payload_bytes == 10


def test_a_temporary_queue_that_cannot_open_leaves_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="durability"):
        Queue.temporary(durability="none")

    assert list(tmp_path.iterdir()) == []


def test_opening_a_queue_starts_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with Queue.open(tmp_path / "s") as queue:
        queue.enqueue("q", b"")
        queue.ack(claimed(queue))
        assert threading.active_count() == before


def test_closing_stops_a_worker_that_still_runs(queue: Queue) -> None:
    started = threading.Event()

    def worker(job: object, claim: object) -> None:
        started.set()

    join = in_thread(lambda: run_worker(queue, "q", worker))
    queue.enqueue("q", b"")
    assert started.wait(30)

    queue.close()
    join()


def test_a_queue_shows_its_path_and_state(tmp_path: Path) -> None:
    queue = Queue.open(tmp_path / "s")
    assert str(tmp_path / "s") in repr(queue) and "closed" not in repr(queue)
    queue.close()
    assert "closed" in repr(queue)
