"""The request: validation at construction, and the way through job headers and back."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taquba_workflow_sync.errors import MissingHeaderError, PermanentFailure, TaqubaError
from taquba_workflow_sync.webhooks import (
    RetryLater,
    WebhookRequest,
    enqueue_webhook,
    merge_headers,
    passed_through,
    webhook_headers,
)
from taquba_workflow_sync.webhooks.request import read_request

URL = "https://user:hunter2@example.org:8443/hooks/s3cret?token=t0ken"


@pytest.mark.parametrize(
    "fields",
    [
        {"url": None},
        {"url": b"http://example.org"},
        {"url": URL, "method": None},
        {"url": URL, "method": b"POST"},
        {"url": URL, "headers": None},
        {"url": URL, "headers": [("A", "b")]},
        {"url": URL, "headers": {"A": 1}},
        {"url": URL, "headers": {"A": b"b"}},
        {"url": URL, "headers": {1: "b"}},
        {"url": URL, "timeout": "30"},
        {"url": URL, "timeout": True},
        {"url": URL, "timeout": 3 + 0j},
    ],
)
def test_an_argument_of_the_wrong_type_is_a_type_error(fields: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        WebhookRequest(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"url": ""},
        {"url": "example.org/hook"},
        {"url": "/hook"},
        {"url": "//example.org/hook"},
        {"url": "ftp://example.org/"},
        {"url": "file:///etc/passwd"},
        {"url": "http://"},
        {"url": "http:///path"},
        {"url": "http://:80/"},
        {"url": "http://user@/"},
        {"url": "http://example.org:notaport/"},
        {"url": "http://example.org:65536/"},
        {"url": "http://[::1/"},
        {"url": "http://example.org/a b"},
        {"url": "http://example.org/a\r\nX: y"},
        {"url": " http://example.org/"},
        {"url": "http://example.org/\x00"},
        {"url": "http://example.org/\ud800"},
        {"url": URL, "method": ""},
        {"url": URL, "method": "PO ST"},
        {"url": URL, "method": "POST\r\n"},
        {"url": URL, "method": "PÖST"},
        {"url": URL, "headers": {"": "b"}},
        {"url": URL, "headers": {"A B": "b"}},
        {"url": URL, "headers": {"A:": "b"}},
        {"url": URL, "headers": {"A\n": "b"}},
        {"url": URL, "headers": {"A": "b\r\nC: d"}},
        {"url": URL, "headers": {"A": "b\x00"}},
        {"url": URL, "headers": {"A": "\x7f"}},
        {"url": URL, "headers": {"A": "\x85"}},
        {"url": URL, "headers": {"A": "snow \u2603"}},
        {"url": URL, "headers": {"A": "b", "a": "c"}},
        {"url": URL, "timeout": 0},
        {"url": URL, "timeout": -1.0},
        {"url": URL, "timeout": float("nan")},
        {"url": URL, "timeout": float("inf")},
        {"url": URL, "timeout": 10**400},
        {"url": URL, "timeout": timedelta(0)},
        {"url": URL, "timeout": timedelta(days=2)},
    ],
)
def test_a_senseless_value_is_a_value_error_that_tells_no_secret(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as refused:
        WebhookRequest(**fields)
    assert "hunter2" not in str(refused.value) and "s3cret" not in str(refused.value)


def test_a_request_is_a_value() -> None:
    headers = {"X-One": "1"}
    request = WebhookRequest(URL, headers=headers)
    headers["X-Two"] = "2"
    assert request == WebhookRequest(URL, "POST", {"X-One": "1"}, None)
    assert hash(request) == hash(WebhookRequest(URL, headers={"X-One": "1"}))
    assert pickle.loads(pickle.dumps(request)) == request
    assert not hasattr(request, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.url = "http://example.org"  # type: ignore[misc]  # the point of the test


def test_the_repr_of_a_request_tells_no_secret() -> None:
    shown = repr(WebhookRequest(URL, headers={"Authorization": "Bearer abc"}, timeout=5))
    assert shown == (
        "WebhookRequest(url='https://example.org:8443/...', method='POST', headers=['Authorization'], timeout=5)"
    )


def test_a_request_becomes_job_headers() -> None:
    request = WebhookRequest(URL, "PUT", {"X-One": "1"}, timedelta(seconds=1.5))
    assert webhook_headers(request) == {
        "webhook.url": URL,
        "webhook.method": "PUT",
        "webhook.timeout_ms": "1500",
        "http.X-One": "1",
    }


def test_a_timeout_below_a_millisecond_is_not_rounded_to_none() -> None:
    assert webhook_headers(WebhookRequest(URL, timeout=1e-9))["webhook.timeout_ms"] == "1"


def test_without_a_timeout_there_is_no_header_for_one() -> None:
    assert "webhook.timeout_ms" not in webhook_headers(WebhookRequest(URL))


def test_enqueue_webhook_enqueues_the_body_with_the_headers_of_the_request() -> None:
    class FakeQueue:
        def enqueue(self, queue_name: str, payload: bytes, **options: Any) -> str:
            self.call = (queue_name, payload, options)
            return "01ID"

    queue, request = FakeQueue(), WebhookRequest(URL, headers={"X-One": "1"})
    assert enqueue_webhook(queue, "webhooks", request, b"body", job_id="mine") == "01ID"
    assert queue.call == ("webhooks", b"body", {"job_id": "mine", "headers": webhook_headers(request)})
    with pytest.raises(TypeError):
        enqueue_webhook(queue, "webhooks", URL, b"body")  # type: ignore[arg-type]  # the point of the test


def test_a_job_without_a_url_is_a_missing_header() -> None:
    with pytest.raises(MissingHeaderError, match=r"webhook\.url"):
        read_request({"webhook.method": "POST"})


@pytest.mark.parametrize(
    "header",
    [
        {"webhook.url": "gopher://example.org"},
        {"webhook.method": "A B"},
        {"webhook.timeout_ms": "soon"},
        {"webhook.timeout_ms": ""},
        {"webhook.timeout_ms": "-1"},
        {"webhook.timeout_ms": "+1"},
        {"webhook.timeout_ms": " 1"},
        {"webhook.timeout_ms": "1_0"},
        {"webhook.timeout_ms": "1.5"},
        {"webhook.timeout_ms": "0"},
        {"webhook.timeout_ms": "\u0661"},
        {"webhook.timeout_ms": "9" * 5000},
        {"http.": "no name"},
        {"http.X": "a\r\nb"},
    ],
)
def test_job_headers_that_no_request_could_have_made_are_a_permanent_failure(header: dict[str, str]) -> None:
    with pytest.raises(PermanentFailure):
        read_request({"webhook.url": URL} | header)


def test_headers_that_are_not_for_http_are_not_passed_through() -> None:
    headers = {"http.X-One": "1", "workflow.run_id": "r", "https.X": "2", "HTTP.X": "3", "callback_url": URL}
    assert passed_through(headers) == {"X-One": "1"}


def test_when_headers_collide_in_any_case_ours_win() -> None:
    given_, ours = {"workflow-RUN-id": "forged", "X": "kept"}, {"Workflow-Run-Id": "r"}
    assert merge_headers(given_, ours) == {"X": "kept", "Workflow-Run-Id": "r"}


_anything = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.timedeltas())
_urls = st.one_of(
    _anything,
    st.text().map(lambda rest: "http://" + rest),
    st.text(alphabet="abc.:@/[]?#%\\-_0123456789").map(lambda rest: "https://" + rest),
)


@settings(deadline=None)  # a busy machine is no failure
@given(
    url=_urls,
    method=_anything | st.sampled_from(["GET", "post", "X-1"]),
    headers=_anything | st.dictionaries(st.text(max_size=5), st.text()) | st.dictionaries(_anything, _anything),
    timeout=_anything,
)
@example(url="http://h", method="POST", headers={}, timeout=0.0005)
def test_any_arguments_make_a_request_that_survives_its_headers_or_a_type_or_value_error(
    url: Any, method: Any, headers: Any, timeout: Any
) -> None:
    try:
        request = WebhookRequest(url, method, headers, timeout)
    except (TypeError, ValueError):
        return
    job_headers = webhook_headers(request)
    assert all(isinstance(item, str) for pair in job_headers.items() for item in pair)
    back = read_request(job_headers)
    assert (back.url, back.method, back.headers) == (request.url, request.method, request.headers)
    assert (back.timeout is None) == (request.timeout is None)


@settings(deadline=None)  # a busy machine is no failure
@given(st.dictionaries(st.sampled_from(["webhook.url", "webhook.method", "webhook.timeout_ms", "http.A"]), st.text()))
def test_any_job_headers_make_a_request_or_a_permanent_error(job_headers: dict[str, str]) -> None:
    try:
        assert isinstance(read_request(job_headers), WebhookRequest)
    except TaqubaError as error:
        assert error.is_permanent


def test_retry_later_is_transient_and_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(RetryLater("busy", 1.5)))
    assert (str(error), error.retry_after, error.is_permanent) == ("busy", 1.5, False)
    assert RetryLater("busy").retry_after is None
