from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest

from taquba_workflow_sync.webhooks import WebhookRequest, WebhookWorker, webhook_headers

from tests.engines import _engine, pytest_generate_tests

from .receiver import Receiver

__all__ = ["_engine", "pytest_generate_tests", "post", "receiver"]


@dataclass(frozen=True)
class Job:
    payload: bytes = b"the payload"
    headers: Mapping[str, str] = field(default_factory=dict)
    id: str = "01JOB"


@dataclass(frozen=True)
class Claim:
    cancel_token: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def post(worker: WebhookWorker, url: str, body: bytes = b"the payload", **fields: object) -> None:
    """Deliver one webhook, as a worker loop would."""
    headers = webhook_headers(WebhookRequest(url, **fields))  # type: ignore[arg-type]  # whatever the test says
    worker.process(Job(body, headers), Claim())
