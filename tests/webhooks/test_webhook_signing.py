"""Signatures, with the standardwebhooks package as the oracle."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from taquba_workflow_sync.webhooks import WebhookWorker
from taquba_workflow_sync.webhooks.signing import signature_headers, signing_keys

from .conftest import Claim, Job, post
from .receiver import Receiver, answers

SECRET = "whsec_" + base64.b64encode(b"a key of twenty-four bytes").decode()


@pytest.mark.parametrize(
    "secret",
    [SECRET, SECRET.removeprefix("whsec_"), SECRET.rstrip("="), b"a key of twenty-four bytes", b"\x00\xff"],
)
def test_the_oracle_accepts_a_signed_delivery(receiver: Receiver, secret: str | bytes) -> None:
    post(WebhookWorker(secret=secret), receiver.on("/", answers(204)), b'{"a": "\xc3\xa9"}')
    (got,) = receiver.requests
    Webhook(secret).verify(got.body, got.headers)


def test_the_oracle_refuses_a_body_that_was_changed_and_another_key(receiver: Receiver) -> None:
    post(WebhookWorker(secret=SECRET), receiver.on("/", answers(204)), b'{"amount": 1}')
    (got,) = receiver.requests
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(b'{"amount": 2}', got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(b"another").verify(got.body, got.headers)


def test_during_a_rotation_both_secrets_verify(receiver: Receiver) -> None:
    post(WebhookWorker(secret=[SECRET, b"the old one"]), receiver.on("/", answers(204)), b"{}")
    (got,) = receiver.requests
    Webhook(SECRET).verify(got.body, got.headers)
    Webhook(b"the old one").verify(got.body, got.headers)


def test_every_attempt_has_the_same_id(receiver: Receiver) -> None:
    worker, url = WebhookWorker(secret=SECRET), receiver.on("/", answers(204))
    for _ in range(2):
        worker.process(Job(b"{}", {"webhook.url": url, "webhook.id": "outcome_1"}, id="01A"), Claim())
    worker.process(Job(b"{}", {"webhook.url": url}, id="01B"), Claim())
    assert [got.headers["webhook-id"] for got in receiver.requests] == ["outcome_1", "outcome_1", "01B"]
    for got in receiver.requests:
        Webhook(SECRET).verify(got.body, got.headers)


def test_headers_of_the_job_cannot_forge_the_signature(receiver: Receiver) -> None:
    forged = {"WEBHOOK-ID": "x", "Webhook-Timestamp": "1", "webhook-signature": "v1,eHg=", "X-Mine": "kept"}
    post(WebhookWorker(secret=SECRET), receiver.on("/", answers(204)), b"{}", headers=forged)
    (got,) = receiver.requests
    assert got.headers["x-mine"] == "kept"
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        assert [sent.lower() for sent in got.names].count(name) == 1
    Webhook(SECRET).verify(got.body, got.headers)


def test_another_header_for_the_id_comes_beside_the_signed_one(receiver: Receiver) -> None:
    worker = WebhookWorker(secret=SECRET, delivery_id_header="X-Delivery")
    post(worker, receiver.on("/", answers(204)), b"{}")
    (got,) = receiver.requests
    assert got.headers["x-delivery"] == got.headers["webhook-id"] == "01JOB"


def test_without_a_secret_there_is_an_id_and_no_signature(receiver: Receiver) -> None:
    post(WebhookWorker(), receiver.on("/", answers(204)))
    (got,) = receiver.requests
    assert got.headers["webhook-id"] == "01JOB"
    assert "webhook-signature" not in got.headers


@pytest.mark.parametrize("secret", ["", "whsec_", b"", [], "whsec_not base64!", "abcde", "sécret", ["whsec_", b"x"]])
def test_a_bad_secret_is_refused_and_not_shown(secret: Any) -> None:
    with pytest.raises(ValueError) as refused:
        WebhookWorker(secret=secret)
    assert "not base64" not in str(refused.value) and refused.value.__cause__ is None


@pytest.mark.parametrize("secret", [1, 1.5, [1], object()])
def test_a_secret_of_the_wrong_type_is_a_type_error(secret: Any) -> None:
    with pytest.raises(TypeError):
        WebhookWorker(secret=secret)


@settings(deadline=None)  # a busy machine is no failure
@given(key=st.binary(min_size=1), message_id=st.from_regex(r"[A-Za-z0-9_-]+", fullmatch=True), text=st.text())
def test_the_oracle_verifies_any_key_and_text(key: bytes, message_id: str, text: str) -> None:
    keys = signing_keys("whsec_" + base64.b64encode(key).decode())
    assert keys == (key,)
    headers = signature_headers(keys, message_id, int(time.time()), text.encode())
    Webhook(key).verify(text, headers, json_parse=False)
