"""WebhookTerminalHook end to end, against a real HTTP server on 127.0.0.1 (DESIGN 5.2, 5.3)."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from taquba_workflow_sync import (
    Cancel,
    Fail,
    Queue,
    QueueConfig,
    StepError,
    Succeed,
    WebhookTarget,
    WebhookTerminalHook,
    WebhookWorker,
    WorkflowClient,
    WorkflowRuntime,
    run_worker,
)
from taquba_workflow_sync.testing import ScriptedRunner
from tests.queue.support import PATIENCE, await_event, counters, in_thread
from tests.stable_ids import stable_id

from .support import NOTICES, STEPS, Gate, echo, settled, wait_until

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Keeps what it gets; ``answer`` says with which status (it may block)."""

    answer: Callable[[int], int] = lambda number: 200
    received: list[Received] = field(default_factory=list)

    def __post_init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.received.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status = outer.answer(len(outer.received))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = False
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join(PATIENCE)
        self.server.server_close()


@pytest.fixture
def receiver(_no_thread_left: None) -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def deliver(queue: Queue, receiver: Receiver, item: Any, **options: Any) -> Received:
    """Run one run to its end, hook and webhook included, and return what came."""
    hook = WebhookTerminalHook(queue, **options)
    runtime = WorkflowRuntime(queue, ScriptedRunner([item]), hook)
    runtime.submit(run_id="r", headers={options.get("url_header", "callback_url"): receiver.url, "other": "x"})
    runtime.run_until_idle(PATIENCE)
    assert len(receiver.received) == 1
    return receiver.received[0]


@pytest.mark.parametrize(
    ("item", "status", "body"),
    [
        (Succeed(b"\0 the result \xff"), "succeeded", b"\0 the result \xff"),
        (Succeed(), "succeeded", b""),
        (Fail("why ✓"), "failed", "why ✓".encode()),
        (Cancel("why"), "cancelled", b"why"),
        (StepError.permanent("why"), "failed", b"why"),
    ],
    ids=stable_id,
)
def test_the_body_is_the_result_or_the_error_and_the_headers_name_the_run(
    queue: Queue, receiver: Receiver, item: object, status: str, body: bytes
) -> None:
    got = deliver(queue, receiver, item)

    assert (got.path, got.body) == ("/hook", body)
    assert (got.headers["workflow-run-id"], got.headers["workflow-run-status"]) == ("r", status)
    assert got.headers["webhook-id"]
    assert "webhook-signature" not in got.headers
    assert "other" not in got.headers, "the run's own headers are not sent"
    assert counters(queue, "webhooks") == {"done": 1}


def test_a_run_cancelled_from_outside_has_an_empty_body(queue: Queue, receiver: Receiver) -> None:
    runtime = WorkflowRuntime(queue, echo, WebhookTerminalHook(queue))
    runtime.submit(headers={"callback_url": receiver.url}).cancel()
    runtime.run_until_idle(PATIENCE)

    assert [(each.headers["workflow-run-status"], each.body) for each in receiver.received] == [("cancelled", b"")]


def test_with_a_secret_a_standard_webhooks_library_verifies_it(queue: Queue, receiver: Receiver) -> None:
    got = deliver(queue, receiver, Succeed(b'{"answer": 42}'), secret=SECRET)

    assert Webhook(SECRET).verify(got.body, got.headers) == {"answer": 42}
    with pytest.raises(Exception, match="signature"):
        Webhook(SECRET).verify(got.body + b" ", got.headers)
    other = "whsec_" + base64.b64encode(b"x" * 32).decode()
    with pytest.raises(Exception, match="signature"):
        Webhook(other).verify(got.body, got.headers)


def test_the_url_header_and_the_target_queue_are_the_users_choice(queue: Queue, receiver: Receiver) -> None:
    deliver(queue, receiver, Succeed(), url_header="X-Notify", target_queue="outbox")

    assert counters(queue, "outbox") == {"done": 1}


def test_a_run_without_the_header_is_not_observed(queue: Queue, receiver: Receiver) -> None:
    runtime = WorkflowRuntime(queue, echo, WebhookTerminalHook(queue))
    runtime.submit()
    runtime.run_until_idle(PATIENCE)

    assert receiver.received == []
    assert (counters(queue, NOTICES), counters(queue, "webhooks")) == ({"done": 1}, {})


def test_a_redelivery_carries_the_same_webhook_id(queue: Queue, receiver: Receiver) -> None:
    receiver.answer = lambda number: 503 if number < 3 else 204
    runtime = WorkflowRuntime(queue, echo, WebhookTerminalHook(queue, secret=SECRET))
    runtime.submit(headers={"callback_url": receiver.url}, input=b"{}")
    runtime.run_until_idle(PATIENCE)

    assert len(receiver.received) == 3
    assert len({each.headers["webhook-id"] for each in receiver.received}) == 1
    for each in receiver.received:
        Webhook(SECRET).verify(each.body, each.headers)


def test_a_second_notification_of_the_same_outcome_makes_no_second_webhook(queue: Queue, receiver: Receiver) -> None:
    """The hook runs at least once; its job id is made from (job, termination)."""
    hook = WebhookTerminalHook(queue)
    client = WorkflowClient(queue)
    runtime = WorkflowRuntime(queue, echo, hook)
    handle = runtime.submit(headers={"callback_url": receiver.url})
    handle.cancel()
    outcome = client.outcome(handle.run_id)
    assert outcome is not None
    hook.on_termination(outcome)
    hook.on_termination(outcome)

    assert counters(queue, "webhooks") == {"pending": 1}


def test_each_termination_has_an_id_of_its_own(queue: Queue, receiver: Receiver) -> None:
    runtime = WorkflowRuntime(queue, ScriptedRunner([Fail("1"), Succeed()]), WebhookTerminalHook(queue))
    handle = runtime.submit(headers={"callback_url": receiver.url})
    runtime.run_until_idle(PATIENCE)
    runtime.retry(handle.run_id)
    runtime.run_until_idle(PATIENCE)

    assert [each.headers["workflow-run-status"] for each in receiver.received] == ["failed", "succeeded"]
    assert len({each.headers["webhook-id"] for each in receiver.received}) == 2


@pytest.mark.parametrize("url", ["not a url", "ftp://127.0.0.1/", "", "http://"])
def test_a_url_that_is_none_dead_letters_the_notification_not_the_run(queue: Queue, url: str) -> None:
    runtime = WorkflowRuntime(queue, echo, WebhookTerminalHook(queue))
    handle = runtime.submit(headers={"callback_url": url})
    runtime.run_until_idle(PATIENCE)

    assert handle.result(0) == b""
    (letter,) = queue.dead_jobs(NOTICES).jobs
    assert letter.last_error is not None and "callback_url" in letter.last_error
    assert (letter.attempts, counters(queue, "webhooks")) == (1, {})


@pytest.mark.parametrize("status", [400, 404, 410, 301])
def test_a_refusal_dead_letters_the_webhook_with_its_status(queue: Queue, receiver: Receiver, status: int) -> None:
    receiver.answer = lambda number: status
    deliver(queue, receiver, Succeed())

    (letter,) = queue.dead_jobs("webhooks").jobs
    assert letter.last_error is not None and str(status) in letter.last_error


def test_an_address_that_allow_refuses_dead_letters_the_webhook_and_is_not_connected_to(
    queue: Queue, receiver: Receiver
) -> None:
    asked: list[WebhookTarget] = []

    def allow(target: WebhookTarget) -> bool:
        asked.append(target)
        return False

    runtime = WorkflowRuntime(queue, echo, WebhookTerminalHook(queue, allow=allow))
    handle = runtime.submit(headers={"callback_url": f"{receiver.url}?t0ken"})
    runtime.run_until_idle(PATIENCE)

    assert asked == [WebhookTarget("127.0.0.1", receiver.server.server_port, "127.0.0.1", "http")]
    (letter,) = queue.dead_jobs("webhooks").jobs
    assert letter.last_error is not None and f"127.0.0.1:{asked[0].port} is not allowed" in letter.last_error
    assert "t0ken" not in letter.last_error and (handle.result(0), receiver.received) == (b"", [])


def test_an_allow_that_is_none_is_refused_at_once(queue: Queue) -> None:
    with pytest.raises(TypeError, match="allow must be callable"):
        WebhookTerminalHook(queue, allow="example.org")  # type: ignore[arg-type]  # the point of the test


def test_a_url_with_a_backslash_dead_letters_the_notification(queue: Queue, receiver: Receiver) -> None:
    runtime = WorkflowRuntime(queue, echo, WebhookTerminalHook(queue))
    runtime.submit(headers={"callback_url": f"{receiver.url.removesuffix('/hook')}\\@allowed.example/"})
    runtime.run_until_idle(PATIENCE)

    (letter,) = queue.dead_jobs(NOTICES).jobs
    assert letter.last_error is not None and "backslash" in letter.last_error
    assert (counters(queue, "webhooks"), receiver.received) == ({}, [])


def test_a_slow_receiver_takes_no_step_slot(queue: Queue, receiver: Receiver) -> None:
    arrived, go = threading.Event(), threading.Event()

    def answer(number: int) -> int:
        arrived.set()
        await_event(go)
        return 200

    receiver.answer = answer
    with WorkflowRuntime(queue, echo, WebhookTerminalHook(queue), max_concurrent_steps=1) as runtime:
        runtime.submit(headers={"callback_url": receiver.url})
        await_event(arrived, "the webhook")
        for _ in range(5):
            assert runtime.submit(input=b"x").result(PATIENCE) == b"x"
        assert counters(queue, "webhooks") == {"claimed": 1}
        go.set()
        settled(queue, "webhooks")


def test_stop_waits_for_a_webhook_in_flight(queue: Queue, receiver: Receiver) -> None:
    arrived, go = threading.Event(), threading.Event()

    def answer(number: int) -> int:
        arrived.set()
        await_event(go)
        return 200

    receiver.answer = answer
    runtime = WorkflowRuntime(queue, echo, WebhookTerminalHook(queue))
    runtime.start()
    runtime.submit(headers={"callback_url": receiver.url})
    await_event(arrived)
    assert runtime.stop(0) is False
    go.set()
    assert runtime.stop(PATIENCE) is True
    assert counters(queue, "webhooks") == {"done": 1}


def test_a_worker_of_ones_own_delivers_too(queue: Queue, receiver: Receiver) -> None:
    """A client without the hook's pool: the webhook is a plain job for any WebhookWorker."""
    hook = WebhookTerminalHook(queue, target_queue="outbox")
    runtime = WorkflowRuntime(queue, echo, hook)
    runtime.submit(headers={"callback_url": receiver.url}, run_id="r").cancel()
    shutdown = threading.Event()
    join = in_thread(lambda: run_worker(queue, "outbox", WebhookWorker(secret=SECRET), shutdown=shutdown))
    wait_until(lambda: counters(queue, "outbox") == {"done": 1})
    shutdown.set()
    join()

    assert receiver.received[0].headers["workflow-run-id"] == "r"
    assert "webhook-signature" in receiver.received[0].headers


def test_the_timeout_of_the_hook_reaches_the_job(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "s", default_config=QueueConfig(retry_backoff_base=0)) as queue:
        runtime = WorkflowRuntime(queue, echo, WebhookTerminalHook(queue, timeout=1.5))
        runtime.submit(headers={"callback_url": "http://127.0.0.1:9/"}).cancel()

        (job,) = queue.list_jobs("webhooks").jobs
        assert job.headers["webhook.timeout_ms"] == "1500"
        assert job.headers["webhook.url"] == "http://127.0.0.1:9/"
        assert job.headers["webhook.method"] == "POST"
        assert job.headers["http.Workflow-Run-Status"] == "cancelled"


def test_the_hook_and_the_runtime_must_share_their_queue(queue: Queue) -> None:
    with Queue.temporary() as other, pytest.raises(ValueError, match="same Queue"):
        WorkflowRuntime(queue, Gate(), WebhookTerminalHook(other))


def test_the_step_queues_stats_count_neither_notifications_nor_webhooks(queue: Queue, receiver: Receiver) -> None:
    deliver(queue, receiver, Succeed())

    assert (counters(queue, STEPS), counters(queue, NOTICES)) == ({"done": 1}, {"done": 1})
