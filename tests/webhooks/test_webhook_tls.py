"""Delivery over TLS, with a certificate made for the occasion."""

from __future__ import annotations

import shlex
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from taquba_workflow_sync import WebhookTarget
from taquba_workflow_sync.errors import PermanentFailure
from taquba_workflow_sync.webhooks import RetryLater, WebhookWorker

from .conftest import post
from .receiver import Receiver, answers, drips, reads_slowly, resets

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")

MAKE_CERTIFICATE = """
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test
    -addext subjectAltName=IP:127.0.0.1 -addext keyUsage=digitalSignature,keyCertSign
    -keyout key.pem -out certificate.pem
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of one PEM file with a key and its self-signed certificate for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(shlex.split(MAKE_CERTIFICATE), cwd=folder, check=True, capture_output=True, timeout=60)
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "certificate.pem").read_bytes())
    return both


@pytest.fixture
def receiver(certificate: Path) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    receiver = Receiver(tls=context)
    yield receiver
    receiver.close()


@pytest.fixture
def session(certificate: Path) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(certificate)
        yield session


def test_a_webhook_is_delivered_over_a_kept_connection(receiver: Receiver, session: requests.Session) -> None:
    worker, url = WebhookWorker(session=session), receiver.on("/", answers(200, b"fine"))
    for body in (b"", b"small", b"x" * 5_000_000):
        post(worker, url, body)
    assert [len(got.body) for got in receiver.requests] == [0, 5, 5_000_000]
    assert receiver.connections == 1


def test_allow_is_asked_once_for_a_new_connection_and_once_for_a_kept_one(
    receiver: Receiver, session: requests.Session
) -> None:
    asked: list[WebhookTarget] = []

    def allow(target: WebhookTarget) -> bool:
        asked.append(target)
        return len(asked) < 3

    worker, url = WebhookWorker(session=session, allow=allow), receiver.on("/", answers(200))
    post(worker, url)
    assert asked == [WebhookTarget("127.0.0.1", receiver.port, "127.0.0.1", "https")]
    post(worker, url)
    assert len(asked) == 2
    with pytest.raises(PermanentFailure, match="not allowed"):
        post(worker, url)
    assert (len(asked), receiver.connections, len(receiver.requests)) == (4, 1, 2), "the kept one, and the new one"


def test_an_address_that_is_not_allowed_gets_no_handshake(receiver: Receiver, session: requests.Session) -> None:
    with pytest.raises(PermanentFailure, match="not allowed"):
        post(WebhookWorker(session=session, allow=lambda target: False), receiver.on("/", answers(200)))
    assert receiver.connections == 0


def test_a_certificate_that_does_not_verify_is_retried_and_nothing_is_sent(receiver: Receiver) -> None:
    with pytest.raises(RetryLater, match="CERTIFICATE_VERIFY_FAILED"):
        post(WebhookWorker(), receiver.on("/", answers(200)))
    assert receiver.requests == []


def test_an_answer_is_read(receiver: Receiver, session: requests.Session) -> None:
    with pytest.raises(PermanentFailure, match=r"HTTP 403 .*: never"):
        post(WebhookWorker(session=session), receiver.on("/", answers(403, b"never", Connection="close")))


def test_a_reset_connection_is_retried(receiver: Receiver, session: requests.Session) -> None:
    with pytest.raises(RetryLater):
        post(WebhookWorker(session=session), receiver.on("/", resets))


def test_an_answer_that_drips_and_a_request_read_slowly_end_in_time(
    receiver: Receiver, session: requests.Session
) -> None:
    worker = WebhookWorker(session=session, default_timeout=0.5)
    with pytest.raises(RetryLater, match="within"):
        post(worker, receiver.on("/drip", drips(b"X: y\r\n" * 90, after=b"HTTP/1.1 200 OK\r\n")))
    with pytest.raises(RetryLater, match="within"):
        post(worker, receiver.on("/slow", reads_slowly), b"x" * 100_000_000)
