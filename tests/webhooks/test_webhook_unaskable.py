"""Sessions whose connections ``allow`` can't be asked about: with it, nothing is sent through them."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

from taquba_workflow_sync.errors import PermanentFailure
from taquba_workflow_sync.webhooks import WebhookWorker

from .conftest import Asked, post
from .receiver import Receiver, answers


def test_an_adapter_with_a_timeout_of_its_own_does_not_forget_to_ask(
    receiver: Receiver, session: requests.Session
) -> None:
    class Impatient(HTTPAdapter):
        def send(self, request: Any, **options: Any) -> requests.Response:  # type: ignore[override]
            return super().send(request, **{**options, "timeout": 5})

    session.mount("http://", Impatient())
    url, asked = receiver.on("/", answers(200)), Asked()
    worker = WebhookWorker(session=session, allow=asked)
    post(worker, url)
    post(worker, url)
    asked.refused.add("127.0.0.1")
    with pytest.raises(PermanentFailure, match="not allowed"):
        post(worker, url)
    assert len(receiver.requests) == 2


class NotUrllib3(BaseAdapter):
    def send(self, *_: Any, **__: Any) -> requests.Response:
        raise AssertionError("sent without asking")

    def close(self) -> None:
        pass


class OwnPools(HTTPAdapter):
    """As adapters for Unix sockets do it."""

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return HTTPConnectionPool("127.0.0.1", 9)


class OwnConnections(HTTPAdapter):
    """As SOCKS does it."""

    class Pool(HTTPConnectionPool):
        class ConnectionCls(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                raise AssertionError("connected without asking")

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": self.Pool}


@pytest.mark.parametrize("adapter", [NotUrllib3, OwnPools, OwnConnections])
def test_an_adapter_that_cannot_ask_sends_nothing(session: requests.Session, adapter: type[BaseAdapter]) -> None:
    session.mount("http://", adapter())
    with pytest.raises(PermanentFailure) as failed:
        post(WebhookWorker(session=session, allow=lambda target: True), "http://127.0.0.1:9/s3cret")
    assert str(failed.value) == (
        "the webhook to http://127.0.0.1:9 was not sent, since allow can't be asked: "
        f"the session's {adapter.__name__} connects in its own way"
    )


def test_a_connection_class_that_connects_past_the_question_sends_nothing(session: requests.Session) -> None:
    ours, theirs = socket.socketpair()

    class Pool(HTTPConnectionPool):
        class ConnectionCls(HTTPConnection):
            def connect(self) -> None:
                self.sock = ours

    session.get_adapter("http://").poolmanager.pool_classes_by_scheme = {"http": Pool}  # type: ignore[attr-defined]
    with theirs:
        with pytest.raises(PermanentFailure, match="allow can't be asked by ConnectionCls, so nothing was sent"):
            post(WebhookWorker(session=session, allow=lambda target: True), "http://example.invalid/")
        assert theirs.recv(1) == b"", "closed, and nothing before"


def test_the_adapter_that_is_judged_is_the_one_that_the_session_will_take(
    receiver: Receiver, session: requests.Session
) -> None:
    """requests chooses by the URL that it has tidied up."""
    url = receiver.on("/hook", answers(200))
    session.mount(url, NotUrllib3())
    with pytest.raises(PermanentFailure, match="NotUrllib3"):
        post(WebhookWorker(session=session, allow=lambda target: True), url.replace("/hook", "/tidy/../hook"))
    assert receiver.connections == 0


@pytest.mark.parametrize("from_environment", [False, True])
def test_through_a_proxy_nothing_is_sent(
    receiver: Receiver, session: requests.Session, monkeypatch: pytest.MonkeyPatch, from_environment: bool
) -> None:
    receiver.on("http://example.invalid/s3cret", answers(200))
    proxy = f"http://user:hunter2@127.0.0.1:{receiver.port}"
    if from_environment:
        session.trust_env = True
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "")
    else:
        session.proxies = {"http": proxy}
    with pytest.raises(PermanentFailure) as failed:
        post(WebhookWorker(session=session, allow=lambda target: True), "http://example.invalid/s3cret")
    assert str(failed.value) == (
        "the webhook to http://example.invalid was not sent, since allow can't be asked: it would go through a proxy"
    )
    assert receiver.connections == 0


def test_an_adapter_whose_every_connection_goes_through_a_proxy_sends_nothing(
    receiver: Receiver, session: requests.Session
) -> None:
    session.get_adapter("http://").poolmanager = urllib3.ProxyManager(  # type: ignore[attr-defined]
        f"http://127.0.0.1:{receiver.port}"
    )
    with pytest.raises(PermanentFailure, match="connects in its own way"):
        post(WebhookWorker(session=session, allow=lambda target: True), "http://example.invalid/")
    assert receiver.connections == 0
