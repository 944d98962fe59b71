"""Telling another service that a run has ended: a signed webhook, delivered at least once.

    python examples/webhook.py

A run names the address to call in its header ``callback_url``. ``WebhookTerminalHook`` turns the end of the run into a
job in the store, so no kill loses it, and the runtime delivers it. The receiver here is a small HTTP server that is
down at first (503) and accepts the second try. It checks the signature as https://www.standardwebhooks.com says, and
sees that both tries carry the same ``Webhook-Id``, which is how a receiver tells a repetition from a new event.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue

from taquba_workflow_sync import (
    Queue,
    QueueConfig,
    RunSpec,
    Step,
    StepOutcome,
    Succeed,
    WebhookTerminalHook,
    WorkflowRuntime,
)

KEY = b"a secret that both sides know"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


@dataclass(frozen=True)
class Delivery:
    answer: int
    headers: dict[str, str]
    body: bytes


class Receiver(ThreadingHTTPServer):
    """The other service: refuses the first delivery, accepts what follows."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ReceiverHandler)
        self.deliveries: SimpleQueue[Delivery] = SimpleQueue()
        self.answers = iter([503])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/run-ended"


class ReceiverHandler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = next(self.server.answers, 200)
        self.send_response(answer)
        self.send_header("Content-Length", "0")
        self.end_headers()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.deliveries.put(Delivery(answer, headers, body))

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: main prints what matters."""


@contextmanager
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def signature_is_right(delivery: Delivery) -> bool:
    """Check the signature by hand; the package ``standardwebhooks`` does the same and looks at the age as well."""
    signed = f"{delivery.headers['webhook-id']}.{delivery.headers['webhook-timestamp']}.".encode() + delivery.body
    expected = "v1," + base64.b64encode(hmac.digest(KEY, signed, "sha256")).decode()
    return any(hmac.compare_digest(expected, given) for given in delivery.headers["webhook-signature"].split())


def greet(step: Step) -> StepOutcome:
    return Succeed(b"Hello, " + step.payload)


def main() -> None:
    parser = argparse.ArgumentParser(description="Deliver the end of a run to an HTTP server.")
    parser.add_argument("--store", type=Path, help="directory to keep the run in (default: a temporary one)")
    args = parser.parse_args()

    with ExitStack() as stack:
        store = args.store or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(receiver())
        quick_retries = {"webhooks": QueueConfig(retry_backoff_base=0.2)}
        queue = stack.enter_context(Queue.open(store, queue_configs=quick_retries))
        hook = WebhookTerminalHook(queue, secret=SECRET)
        runtime = stack.enter_context(WorkflowRuntime(queue, greet, hook))

        handle = runtime.submit(RunSpec(input=b"receiver", headers={"callback_url": server.url}))
        print(f"run {handle.run_id} ended: {handle.wait(timeout=10).status}")
        refused, accepted = server.deliveries.get(timeout=10), server.deliveries.get(timeout=10)

    for delivery in (refused, accepted):
        print(
            f"delivery {delivery.headers['webhook-id']}: {delivery.body!r}, answered {delivery.answer}, "
            f"signature right: {signature_is_right(delivery)}"
        )
        assert delivery.body == b"Hello, receiver"
        assert delivery.headers["workflow-run-id"] == handle.run_id
        assert delivery.headers["workflow-run-status"] == "succeeded"
        assert signature_is_right(delivery)
    assert (refused.answer, accepted.answer) == (503, 200)
    assert refused.headers["webhook-id"] == accepted.headers["webhook-id"]


if __name__ == "__main__":
    main()
