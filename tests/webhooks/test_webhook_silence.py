"""Paths and queries of webhooks hold tokens, and reach no log: neither ours nor urllib3's."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.webhooks import WebhookWorker

from .conftest import post
from .receiver import Behaviour, Receiver, answers, answers_in_turn, never_answers, resets, sends

SECRETS = ("p4th", "t0ken", "hunter2")
BEHAVIOURS: dict[str, Behaviour] = {
    "takes it": answers(200),
    "refuses it": answers(404),
    "is busy": answers(503, Retry_After="0"),
    "redirects it": answers(302, Location="/p4th/elsewhere?t0ken"),
    "resets the connection": resets,
    "does not answer": never_answers,
    "sends header lines that are none": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nno header\r\nX: y\r\n\r\n"),
    "sends gibberish": sends(b"gibberish\r\n\r\n"),
    "resets it once": answers_in_turn(resets, answers(200)),
}


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged so far, by anyone, at any level: the text, tracebacks included, and the raw records."""
    caplog.set_level(logging.DEBUG)
    return lambda: [caplog.text, *(repr(vars(record)) for record in caplog.records)]


def patient_session() -> requests.Session:
    """A session that retries by itself, which urllib3 logs too."""
    session = requests.Session()
    session.trust_env = False
    retry = Retry(2, allowed_methods=None, status_forcelist=[503], backoff_factor=0)
    session.mount("http://", HTTPAdapter(max_retries=retry))
    return session


@pytest.fixture(params=[lambda: None, patient_session], ids=["own session", "session that retries"])
def worker(request: pytest.FixtureRequest) -> Iterator[WebhookWorker]:
    session = request.param()
    yield WebhookWorker(session=session, default_timeout=1)
    if session is not None:
        session.close()


@pytest.mark.parametrize("receiver_that", BEHAVIOURS)
def test_urllib3_logs_neither_path_nor_query(
    worker: WebhookWorker, receiver: Receiver, logged: Callable[[], list[str]], receiver_that: str
) -> None:
    url = receiver.on("/p4th", BEHAVIOURS[receiver_that]).replace("//", "//user:hunter2@") + "?token=t0ken"
    try:
        post(worker, url)
    except TaqubaError as error:
        assert not any(secret in f"{error} {error!r}" for secret in SECRETS)
    assert {got.target for got in receiver.requests} == {"/p4th?token=t0ken"}, "the receiver is told"
    text = "\n".join(logged())
    assert "urllib3.connectionpool" in text, "it does log"
    assert not any(secret in text for secret in SECRETS), text


def test_the_path_of_a_webhook_that_cannot_connect_is_not_logged(logged: Callable[[], list[str]]) -> None:
    with socket.socket() as unused, patient_session() as session:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(TaqubaError):
            post(WebhookWorker(session=session), f"http://127.0.0.1:{unused.getsockname()[1]}/p4th?t0ken")
    text = "\n".join(logged())
    assert "Retrying" in text and not any(secret in text for secret in SECRETS)


def test_the_path_of_a_webhook_through_a_proxy_is_not_logged(
    receiver: Receiver, logged: Callable[[], list[str]]
) -> None:
    url = "http://example.invalid/p4th"
    receiver.on(url, answers(200))
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"http": f"http://127.0.0.1:{receiver.port}"}
        post(WebhookWorker(session=session), f"{url}?t0ken#fragment")
    assert [got.target for got in receiver.requests] == [f"{url}?t0ken"]
    text = "\n".join(logged())
    assert "http://example.invalid/..." in text and not any(secret in text for secret in SECRETS)


def test_the_path_is_not_logged_if_an_adapter_has_a_timeout_of_its_own(
    receiver: Receiver, logged: Callable[[], list[str]]
) -> None:
    class Impatient(HTTPAdapter):
        def send(self, request: object, **options: object) -> requests.Response:  # type: ignore[override]
            return super().send(request, **{**options, "timeout": 5})  # type: ignore[arg-type]  # as it came

    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", Impatient())
        post(WebhookWorker(session=session), receiver.on("/p4th", answers(200)))
    assert len(receiver.requests) == 1 and not any(secret in "\n".join(logged()) for secret in SECRETS)


def test_other_users_of_urllib3_and_of_the_session_log_as_before(
    receiver: Receiver, logged: Callable[[], list[str]]
) -> None:
    url = receiver.on("/theirs", answers(200))
    with patient_session() as session:
        post(WebhookWorker(session=session), receiver.on("/p4th", answers(200)))
        assert session.post(url, data=b"x").status_code == 200
    text = "\n".join(logged())
    assert '"POST /theirs HTTP/1.1" 200' in text and "p4th" not in text
    assert all(not logging.getLogger(name).filters for name in ("urllib3", "urllib3.connectionpool"))


@pytest.mark.parametrize(
    "target", ["//double//slash", "/a%20b?q=%2F&r[]=1", "/?", "/~tilde%7e/../x", "/caf\u00e9?\u2713", "/a%zz"]
)
def test_the_target_on_the_wire_is_the_one_that_urllib3_would_send(receiver: Receiver, target: str) -> None:
    url = f"http://127.0.0.1:{receiver.port}{target}"
    prepared = requests.Request("POST", url).prepare().path_url
    receiver.on(prepared.partition("?")[0], answers(200))
    with requests.Session() as session:
        session.trust_env = False
        session.post(url, data=b"x")
    post(WebhookWorker(), url)
    theirs, ours = receiver.requests
    assert theirs.target == ours.target
