"""What is sent, and what each answer means."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from unittest.mock import patch

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taquba_workflow_sync.errors import MissingHeaderError, PermanentFailure, TaqubaError
from taquba_workflow_sync.webhooks import RetryLater, WebhookWorker

from .conftest import Claim, Job, post
from .receiver import Receiver, answers, answers_and_hangs_up, answers_in_turn, resets, sends


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_2xx_is_a_delivery(receiver: Receiver, status: int) -> None:
    post(WebhookWorker(), receiver.on("/hook", answers(status)), b"\x00\xffbytes", method="PUT")
    (got,) = receiver.requests
    assert (got.method, got.target, got.body) == ("PUT", "/hook", b"\x00\xffbytes")


def test_headers_are_passed_through_and_have_defaults(receiver: Receiver) -> None:
    url = receiver.on("/hook", answers(200))
    post(WebhookWorker(), url + "?a=1&b=%20", headers={"X-One": "1", "X-Latin": "caf\xe9", "X-Space": " x "})
    (got,) = receiver.requests
    assert got.target == "/hook?a=1&b=%20"
    assert (got.headers["x-one"], got.headers["x-latin"], got.headers["x-space"]) == ("1", "caf\xe9", "x")
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["user-agent"] == "taquba-workflow-sync"
    assert "cookie" not in got.headers and "authorization" not in got.headers


def test_the_job_may_name_its_content_type_but_not_its_length(receiver: Receiver) -> None:
    given = {"content-TYPE": "application/json", "content-length": "1", "TRANSFER-encoding": "chunked", "x": "y"}
    worker, url = WebhookWorker(), receiver.on("/", answers(200))
    for body in (b"{}", b""):
        post(worker, url, body, headers=given)
    assert [got.body for got in receiver.requests] == [b"{}", b""]
    for got in receiver.requests:
        assert got.headers["content-type"] == "application/json"
        assert got.headers["content-length"] == str(len(got.body))
        assert "transfer-encoding" not in got.headers


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_a_passing_trouble_is_retried(receiver: Receiver, status: int) -> None:
    with pytest.raises(RetryLater, match=f"HTTP {status} .*: try again") as failed:
        post(WebhookWorker(), receiver.on("/", answers(status, b"try again")))
    assert not failed.value.is_permanent and failed.value.retry_after is None


@pytest.mark.parametrize("status", [408, 429, 503])
def test_retry_after_in_seconds_is_honoured(receiver: Receiver, status: int) -> None:
    with pytest.raises(RetryLater) as failed:
        post(WebhookWorker(), receiver.on("/", answers(status, Retry_After="120")))
    assert failed.value.retry_after == 120.0


def test_retry_after_as_a_date_is_honoured(receiver: Receiver) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=30), usegmt=True)
    with pytest.raises(RetryLater) as failed:
        post(WebhookWorker(), receiver.on("/", answers(429, Retry_After=date)))
    assert failed.value.retry_after is not None
    assert 1200 < failed.value.retry_after <= 1800


@pytest.mark.parametrize(("value", "seconds"), [("99999999", 3600.0), ("gibberish", None)])
def test_retry_after_is_bounded_and_rubbish_is_ignored(receiver: Receiver, value: str, seconds: float | None) -> None:
    with pytest.raises(RetryLater) as failed:
        post(WebhookWorker(), receiver.on("/", answers(429, Retry_After=value)))
    assert failed.value.retry_after == seconds


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422, 304, 600])
def test_any_other_status_is_permanent_and_quotes_200_characters_of_the_body(receiver: Receiver, status: int) -> None:
    # A 304 has no body, and HTTP says so to both sides.
    body = b"" if status == 304 else "é".encode() * 199 + b"!" + b"x" * 100_000
    with pytest.raises(PermanentFailure) as failed:
        post(WebhookWorker(), receiver.on("/private", answers(status, body)))
    excerpt = f": {'é' * 199}!" if body else ""
    assert str(failed.value) == f"HTTP {status} from http://127.0.0.1:{receiver.port}{excerpt}"


def test_a_body_in_no_known_encoding_is_quoted_all_the_same(receiver: Receiver) -> None:
    with pytest.raises(PermanentFailure, match=r"HTTP 400 .*: \ufffd\ufffdno"):
        post(WebhookWorker(), receiver.on("/", answers(400, b"\xff\xfeno")))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_permanent_and_its_target_is_never_hit(receiver: Receiver, status: int) -> None:
    target = receiver.on("/target", answers(200))
    with pytest.raises(PermanentFailure, match=f"HTTP {status} .*: moved"):
        post(WebhookWorker(), receiver.on("/", answers(status, b"moved", Location=target)))
    assert [got.target for got in receiver.requests] == ["/"]


@pytest.mark.parametrize("location", ["http://[", "mailto:x@example.org", "//", "http://exa mple/%zz"])
def test_a_redirect_to_nonsense_is_a_redirect(receiver: Receiver, location: str) -> None:
    with pytest.raises(PermanentFailure, match="HTTP 302"):
        post(WebhookWorker(), receiver.on("/", answers(302, Location=location)))


def test_a_reset_connection_is_retried(receiver: Receiver) -> None:
    with pytest.raises(RetryLater, match="Connection"):
        post(WebhookWorker(), receiver.on("/", resets), b"x" * 100)


def test_a_refused_connection_is_retried_and_tells_no_secret() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://user:hunter2@127.0.0.1:{unused.getsockname()[1]}/s3cret?t0ken"
        with pytest.raises(RetryLater, match="refused") as failed:
            post(WebhookWorker(), url)
    assert not any(secret in str(failed.value) for secret in ("hunter2", "s3cret", "t0ken"))
    assert failed.value.__suppress_context__, "the errors of requests quote the URL: no traceback may show them"


def test_a_host_without_an_address_is_retried() -> None:
    with pytest.raises(RetryLater, match=r"no answer from http://no-such-host\.invalid"):
        post(WebhookWorker(), "http://no-such-host.invalid/")


@pytest.mark.parametrize("data", [b"", b"gibberish\r\n\r\n", b"HTTP/1.1 20", b"HTTP/1.1 abc OK\r\n\r\n"])
def test_what_is_not_an_answer_is_retried(receiver: Receiver, data: bytes) -> None:
    with pytest.raises(RetryLater):
        post(WebhookWorker(), receiver.on("/", sends(data)))


def test_a_body_that_breaks_off_does_not_change_the_verdict(receiver: Receiver) -> None:
    post(WebhookWorker(), receiver.on("/ok", sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")))
    with pytest.raises(PermanentFailure, match="HTTP 400"):
        post(WebhookWorker(), receiver.on("/no", sends(b"HTTP/1.1 400 No\r\nContent-Length: 1000\r\n\r\nsome")))


def test_headers_without_end_are_a_transport_error(receiver: Receiver) -> None:
    with pytest.raises(RetryLater):
        post(WebhookWorker(), receiver.on("/", sends(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n")))


def test_a_connection_is_used_again(receiver: Receiver) -> None:
    worker, url = WebhookWorker(), receiver.on("/", answers(200, b"some body"))
    for _ in range(5):
        post(worker, url)
    assert (len(receiver.requests), receiver.connections) == (5, 1)


def test_a_connection_that_failed_is_not_used_again(receiver: Receiver) -> None:
    behaviour = answers_in_turn(resets, answers(200))
    worker, url = WebhookWorker(), receiver.on("/", behaviour)
    with pytest.raises(RetryLater):
        post(worker, url)
    post(worker, url)
    assert receiver.connections == 2


def test_a_kept_connection_that_the_server_closed_is_opened_anew(receiver: Receiver) -> None:
    worker, url = WebhookWorker(), receiver.on("/", answers_and_hangs_up)
    post(worker, url)
    receiver.join_connections()  # the server has closed its end
    post(worker, url)
    assert (len(receiver.requests), receiver.connections) == (2, 2)


def test_an_answer_that_closes_the_connection_is_read(receiver: Receiver) -> None:
    with pytest.raises(PermanentFailure, match=r"HTTP 400 .*: until the end"):
        post(WebhookWorker(), receiver.on("/", sends(b"HTTP/1.1 400 No\r\nConnection: close\r\n\r\nuntil the end")))


def test_a_chunked_answer_is_read(receiver: Receiver) -> None:
    head = b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n"
    with pytest.raises(PermanentFailure, match=r"HTTP 400 .*: one two"):
        post(WebhookWorker(), receiver.on("/", sends(head + b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n")))


def test_a_cookie_of_a_receiver_is_not_sent_back(receiver: Receiver) -> None:
    worker, url = WebhookWorker(), receiver.on("/", answers(200, Set_Cookie="session=1; Path=/"))
    post(worker, url)
    post(worker, url)
    assert all("cookie" not in got.headers for got in receiver.requests)


def test_the_environment_changes_nothing(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    post(WebhookWorker(), receiver.on("/", answers(200)))
    assert "authorization" not in receiver.requests[0].headers


def test_a_user_and_password_in_the_url_are_sent_as_basic_authentication(receiver: Receiver) -> None:
    url = receiver.on("/", answers(200)).replace("http://", "http://user:hunter2@")
    post(WebhookWorker(), url)
    assert receiver.requests[0].headers["authorization"].startswith("Basic ")


def test_a_claim_that_was_lost_sends_nothing(receiver: Receiver) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(RetryLater):
        WebhookWorker().process(Job(headers={"webhook.url": receiver.on("/", answers(200))}), Claim(cancelled))
    assert receiver.connections == 0


def test_a_job_without_a_url_is_a_missing_header() -> None:
    with pytest.raises(MissingHeaderError) as failed:
        WebhookWorker().process(Job(), Claim())
    assert failed.value.is_permanent


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook.url": "ftp://127.0.0.1/"},
        {"webhook.url": f"http://{'a' * 64}.example/"},
        {"webhook.url": "http://*.example/"},
        {"webhook.url": "http://127.0.0.1:1/", "webhook.method": "two words"},
        {"webhook.url": "http://127.0.0.1:1/", "webhook.timeout_ms": "x"},
        {"webhook.url": "http://127.0.0.1:1/", "webhook.id": "a\nb"},
        {"webhook.url": "http://127.0.0.1:1/", "webhook.id": " "},
        {"webhook.url": "http://127.0.0.1:1/", "http.X": "a\nb"},
    ],
)
def test_a_bad_configuration_is_permanent(headers: dict[str, str]) -> None:
    with pytest.raises(TaqubaError) as failed:
        WebhookWorker().process(Job(headers=headers), Claim())
    assert isinstance(failed.value, PermanentFailure)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"session": "a session"}, TypeError),
        ({"default_timeout": "30"}, TypeError),
        ({"default_timeout": None}, TypeError),
        ({"default_timeout": 0}, ValueError),
        ({"delivery_id_header": None}, TypeError),
        ({"delivery_id_header": "two words"}, ValueError),
    ],
)
def test_a_worker_refuses_bad_arguments(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        WebhookWorker(**options)


@settings(deadline=None)  # a busy machine is no failure
@given(
    rest=st.text() | st.text(alphabet="aé1.:@/[]?#%\\\\-_*"),
    method=st.from_regex(r"[!-~]+", fullmatch=True),
    headers=st.dictionaries(st.text(alphabet="aAbB-_!1", min_size=1), st.text(alphabet="a \t:@\xa0\xe9")),
)
@example(rest="h", method="POST", headers={"Host": "@@@SKIP_HEADER@@@", "X": "@@@SKIP_HEADER@@@"})
@example(rest="h", method="POST", headers={"Connection": "close", "Expect": "100-continue", "Host": "x"})
def test_whatever_a_job_says_the_verdict_is_one_of_ours(rest: str, method: str, headers: dict[str, str]) -> None:
    job = Job(
        headers={"webhook.url": f"http://{rest}", "webhook.method": method} | {f"http.{n}": headers[n] for n in headers}
    )
    with patch("socket.getaddrinfo", side_effect=socket.gaierror("no names here")), pytest.raises(TaqubaError):
        WebhookWorker().process(job, Claim())


def test_one_worker_serves_many_threads(receiver: Receiver) -> None:
    worker = WebhookWorker(secret=b"key")
    ok, busy = receiver.on("/ok", answers(200, b"fine")), receiver.on("/busy", answers(503, b"busy"))

    def deliver(number: int) -> str:
        try:
            worker.process(Job(b"%d" % number, {"webhook.url": busy if number % 3 == 0 else ok}, f"j{number}"), Claim())
        except RetryLater:
            return "busy"
        return "ok"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(deliver, range(200)))
    assert outcomes == ["busy" if number % 3 == 0 else "ok" for number in range(200)]
    assert sorted(int(got.body) for got in receiver.requests) == list(range(200))
    assert all(got.headers["webhook-id"] == f"j{got.body.decode()}" for got in receiver.requests)
    assert receiver.connections <= 8, "each thread keeps its connection"


def test_a_session_given_is_used_with_its_settings(receiver: Receiver) -> None:
    url = receiver.on("/", answers(200))
    with requests.Session() as session:
        session.trust_env = False
        session.headers["X-Team"] = "payments"
        session.auth = ("user", "pass")
        seen: list[int] = []
        session.hooks["response"].append(lambda response, *_, **__: seen.append(response.status_code))
        worker = WebhookWorker(session=session)
        for _ in range(2):
            post(worker, url)
        assert session.get(receiver.on("/get", answers(201)), headers={"content-length": "0"}).status_code == 201
    assert seen == [200, 200, 201]
    assert all(got.headers["x-team"] == "payments" for got in receiver.requests)
    assert all(got.headers["authorization"].startswith("Basic ") for got in receiver.requests)
    assert receiver.connections == 1


def test_a_session_that_raises_for_a_status_changes_no_verdict(receiver: Receiver) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.hooks["response"].append(lambda response, *_, **__: response.raise_for_status())
        worker = WebhookWorker(session=session)
        with pytest.raises(PermanentFailure, match=r"HTTP 404 .*: gone"):
            post(worker, receiver.on("/404", answers(404, b"gone")))
        with pytest.raises(RetryLater, match="HTTP 503"):
            post(worker, receiver.on("/503", answers(503)))


def test_a_session_with_a_proxy_goes_through_it(receiver: Receiver) -> None:
    receiver.on("http://example.invalid/hook", answers(200))
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"http": f"127.0.0.1:{receiver.port}"}
        post(WebhookWorker(session=session), "http://example.invalid/hook")
    assert [got.target for got in receiver.requests] == ["http://example.invalid/hook"]


def test_our_log_tells_neither_payload_nor_path(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "taquba_workflow_sync")
    post(WebhookWorker(secret=b"s3cret"), receiver.on("/p4th", answers(200)), b"p4yload")
    (record,) = [record for record in caplog.records if record.name.startswith("taquba_workflow_sync")]
    shown = f"{record.getMessage()} {record.__dict__}"
    assert not any(secret in shown for secret in ("s3cret", "p4th", "p4yload"))
    assert (record.__dict__["job_id"], record.__dict__["status"]) == ("01JOB", 200)


def test_requests_is_imported_with_the_first_delivery_only() -> None:
    code = (
        "import sys; from taquba_workflow_sync.webhooks import *; w = WebhookWorker(secret=b'k');"
        "webhook_headers(WebhookRequest('http://h')); assert not {'requests', 'urllib3'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
