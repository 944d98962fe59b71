from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest
import requests

from taquba_workflow_sync import WebhookTarget
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


class Asked(list[WebhookTarget]):
    """An ``allow`` that says yes but to the addresses it is made with, and keeps what it was asked."""

    def __init__(self, *refused: str) -> None:
        super().__init__()
        self.refused = set(refused)

    def __call__(self, target: WebhookTarget) -> bool:
        self.append(target)
        return target.address not in self.refused

    @property
    def addresses(self) -> list[str]:
        return [target.address for target in self]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def post(worker: WebhookWorker, url: str, body: bytes = b"the payload", **fields: object) -> None:
    """Deliver one webhook, as a worker loop would."""
    headers = webhook_headers(WebhookRequest(url, **fields))  # type: ignore[arg-type]  # whatever the test says
    worker.process(Job(body, headers), Claim())
