"""The timeout bounds the whole exchange, whatever the receiver does.

Each receiver here would hold a client whose timeout is per wait for minutes, or for ever; the limit is far from both.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from taquba_workflow_sync.errors import PermanentFailure
from taquba_workflow_sync.webhooks import RetryLater, WebhookWorker, deadline, delivery

from .conftest import Claim, Job, post
from .receiver import Behaviour, Receiver, answers, drips, endless, never_answers, never_reads, reads_slowly

LIMIT_S = 10.0
HEAD = b"HTTP/1.1 200 OK\r\n"
LONG = b"X" * 1000  # dripped, a hundred seconds

SLOW: dict[str, Behaviour] = {
    "does not answer": never_answers,
    "drips its status line": drips(b"HTTP/1.1 200 " + LONG),
    "drips one header": drips(LONG, after=HEAD + b"X-Long: "),
    "drips many headers": drips(b"X: y\r\n" * 90, after=HEAD),
    "drips interim answers": drips(b"HTTP/1.1 100 Continue\r\n\r\n" * 40),
    "does not read the request": never_reads,
    "reads the request slowly": reads_slowly,
}

Sessions = Callable[[], requests.Session | None]


class AdapterOfAUser(HTTPAdapter):
    """Stands for adapters with client certificates, source addresses and the like."""


def session_of_a_user() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", AdapterOfAUser(pool_maxsize=3))
    return session


@contextmanager
def within_the_limit() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < LIMIT_S


@pytest.fixture(params=[lambda: None, session_of_a_user], ids=["own session", "session given"])
def worker(request: pytest.FixtureRequest) -> Iterator[WebhookWorker]:
    session = request.param()
    yield WebhookWorker(session=session, default_timeout=0.5)
    if session is not None:
        session.close()


@pytest.mark.parametrize("receiver_that", SLOW)
def test_a_receiver_too_slow_is_a_transient_error_in_time(
    worker: WebhookWorker, receiver: Receiver, receiver_that: str
) -> None:
    url = receiver.on("/s3cret", SLOW[receiver_that])
    body = b"x" * 100_000_000 if "read" in receiver_that else b"x"
    with within_the_limit(), pytest.raises(RetryLater, match=r"no answer from .* within 0\.5 seconds") as failed:
        post(worker, url, body)
    assert failed.value.retry_after is None and "s3cret" not in str(failed.value)


def test_interim_answers_without_end_are_a_transient_error_in_time(worker: WebhookWorker, receiver: Receiver) -> None:
    url = receiver.on("/s3cret", endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"))
    # Newer interpreters give up after some, in words of their own; the older ones read on until the deadline.
    with within_the_limit(), pytest.raises(RetryLater, match=r"no answer from ") as failed:
        post(worker, url)
    assert failed.value.retry_after is None and "s3cret" not in str(failed.value)


def test_a_proxy_too_slow_is_a_transient_error_in_time(receiver: Receiver) -> None:
    receiver.on("http://example.invalid/", SLOW["drips many headers"])
    with session_of_a_user() as session, within_the_limit(), pytest.raises(RetryLater):
        session.proxies = {"http": f"http://127.0.0.1:{receiver.port}"}
        post(WebhookWorker(session=session, default_timeout=0.5), "http://example.invalid/")


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 100000\r\n\r\n",
        b"Connection: close\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffff\r\n",
    ],
)
def test_a_body_that_drips_ends_in_time_and_leaves_the_verdict_to_the_status(
    worker: WebhookWorker, receiver: Receiver, rest: bytes
) -> None:
    with within_the_limit():
        post(worker, receiver.on("/ok", drips(LONG, after=HEAD + rest)))
    with within_the_limit(), pytest.raises(PermanentFailure, match="HTTP 404"):
        post(worker, receiver.on("/no", drips(LONG, after=b"HTTP/1.1 404 No\r\n" + rest)))


@pytest.mark.parametrize("status", [200, 302, 404])
@pytest.mark.parametrize(
    "framing", [b"Connection: close", b"Transfer-Encoding: chunked", b"Content-Length: 99999999999"]
)
def test_a_body_without_end_is_read_to_a_bound_and_the_connection_closed(
    receiver: Receiver, status: int, framing: bytes
) -> None:
    head = b"HTTP/1.1 %d X\r\nLocation: /elsewhere\r\n%s\r\n\r\n" % (status, framing)
    piece = b"1000\r\n" + b"x" * 4096 + b"\r\n" if b"chunked" in framing else b"x" * 4096
    closed = threading.Event()
    flood = endless(head, piece)

    def behaviour(*args: Any) -> bool:
        try:
            return flood(*args)
        finally:
            closed.set()

    # The deadline is far: it is the bound that ends this.
    worker = WebhookWorker(default_timeout=300)
    url = receiver.on("/", behaviour)
    if status == 200:
        post(worker, url)
    else:
        with pytest.raises(PermanentFailure, match=f"HTTP {status} .*: x{{200}}$"):
            post(worker, url)
    assert closed.wait(LIMIT_S), "the receiver noticed that nobody reads"


def test_a_kept_connection_gets_the_deadline_of_its_new_request(worker: WebhookWorker, receiver: Receiver) -> None:
    fast, slow = receiver.on("/fast", answers(200)), receiver.on("/slow", drips(LONG, after=HEAD))
    post(worker, fast, timeout=300)
    with within_the_limit(), pytest.raises(RetryLater):
        post(worker, slow)
    assert receiver.connections == 1
    post(worker, fast, timeout=timedelta(milliseconds=300_000))


def test_a_deadline_that_has_passed_does_not_haunt_the_connection(
    worker: WebhookWorker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = receiver.on("/", answers(200))
    post(worker, url, timeout=300)
    later = types.SimpleNamespace(monotonic=lambda: time.monotonic() + 1000)
    for module in (deadline, delivery):
        monkeypatch.setattr(module, "time", later)
    post(worker, url, timeout=300)
    assert receiver.connections == 1


def test_the_timeout_of_the_job_beats_that_of_the_worker(receiver: Receiver) -> None:
    with within_the_limit(), pytest.raises(RetryLater, match=r"within 0\.25 seconds"):
        post(WebhookWorker(default_timeout=300), receiver.on("/", never_answers), timeout=0.25)


@pytest.mark.parametrize("greeting", [b"", b"\x16\x03\x03\x40\x00"], ids=["silent", "dripping"])
def test_a_tls_handshake_that_never_ends_is_a_transient_error_in_time(greeting: bytes) -> None:
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(greeting)
                while not done.wait(0.1):
                    try:
                        sock.sendall(b"\x00" if greeting else b"")
                    except OSError:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with within_the_limit(), pytest.raises(RetryLater):
                post(WebhookWorker(default_timeout=0.5), f"https://127.0.0.1:{listener.getsockname()[1]}/")
        finally:
            done.set()
            thread.join()


def test_a_host_with_many_dead_addresses_is_a_transient_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with deaf_listener() as address:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)] * 100
        real = socket.getaddrinfo
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *rest, **kw: found if host == "many.invalid" else real(host, *rest, **kw),
        )
        with within_the_limit(), pytest.raises(RetryLater, match=r"within 0\.5 seconds"):
            post(WebhookWorker(default_timeout=0.5), "http://many.invalid/")


def test_a_dead_address_leaves_time_for_the_next(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with deaf_listener() as address:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in (address, ("127.0.0.1", receiver.port))]
        real = socket.getaddrinfo
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, *rest, **kw: found if host == "two.invalid" else real(host, *rest, **kw)
        )
        receiver.on("/", answers(200))
        post(WebhookWorker(default_timeout=4), "http://two.invalid/")
    assert len(receiver.requests) == 1


@contextmanager
def deaf_listener() -> Iterator[tuple[str, int]]:
    """A port whose backlog is full: the kernel drops what asks to connect, as a firewall would."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address: tuple[str, int] = listener.getsockname()
        waiting = []
        for _ in range(8):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(address)
            waiting.append(sock)
        try:
            yield address
        finally:
            for sock in waiting:
                sock.close()


def test_the_deadline_holds_in_a_session_that_was_used_before(receiver: Receiver) -> None:
    fast, slow = receiver.on("/fast", answers(200)), receiver.on("/slow", SLOW["drips many headers"])
    with session_of_a_user() as session:
        assert session.post(fast, data=b"x", timeout=60).status_code == 200
        with within_the_limit(), pytest.raises(RetryLater):
            post(WebhookWorker(session=session, default_timeout=0.5), slow)


def test_another_user_of_the_session_keeps_its_own_timeouts(receiver: Receiver) -> None:
    with session_of_a_user() as session:
        post(WebhookWorker(session=session), receiver.on("/", answers(200)))
        slow = drips(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", interval=0.05)  # 2 s in all, never long at once
        assert session.post(receiver.on("/slow", slow), data=b"x", timeout=60).status_code == 200


def test_an_adapter_that_is_not_built_on_urllib3_gets_plain_seconds() -> None:
    class Recorder(requests.adapters.BaseAdapter):
        timeouts: list[Any] = []  # noqa: RUF012  # of this test only

        def send(self, request: Any, timeout: Any = None, **_: Any) -> requests.Response:  # type: ignore[override]
            self.timeouts.append(timeout)
            raise requests.ConnectTimeout("too slow")

        def close(self) -> None:
            pass

    with session_of_a_user() as session:
        session.mount("http://", Recorder())
        with pytest.raises(RetryLater):
            post(WebhookWorker(session=session), "http://example.invalid/", timeout=7)
    assert Recorder.timeouts == [7.0]


def test_threads_with_different_deadlines_do_not_share_them(receiver: Receiver) -> None:
    with session_of_a_user() as session:
        worker = WebhookWorker(session=session)
        slow, fine = receiver.on("/slow", never_answers), receiver.on("/fine", answers(200))
        verdicts: dict[int, str] = {}

        def deliver(number: int) -> None:
            try:
                post(worker, fine if number % 2 else slow, timeout=300 if number % 2 else 0.5)
                verdicts[number] = "delivered"
            except RetryLater:
                verdicts[number] = "late"

        threads = [threading.Thread(target=deliver, args=(number,)) for number in range(12)]
        with within_the_limit():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LIMIT_S)
    assert verdicts == {number: "delivered" if number % 2 else "late" for number in range(12)}


def test_a_forked_child_does_not_talk_over_its_parents_connection(receiver: Receiver) -> None:
    # No thread of this process may live while it forks (3.12 warns): the receiver is the child, the client is us.
    url = receiver.on("/", answers(200, b"fine"))
    script = f"""
import os, threading, types
from taquba_workflow_sync.webhooks import WebhookWorker
worker, claim = WebhookWorker(), types.SimpleNamespace(cancel_token=threading.Event())
def post(name):
    job = types.SimpleNamespace(id=name, payload=name.encode(), headers={{"webhook.url": {url!r}}})
    worker.process(job, claim)
post("before")
child = os.fork()
for number in range(20):
    post(f"{{'parent' if child else 'child'}}{{number}}")
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert len(receiver.requests) == 41 and receiver.connections == 2


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_a_signal_in_the_middle_does_not_prolong_the_deadline(receiver: Receiver) -> None:
    old = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with within_the_limit(), pytest.raises(RetryLater):
            WebhookWorker(default_timeout=0.5).process(
                Job(b"x", {"webhook.url": receiver.on("/", never_answers)}), Claim()
            )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_descriptors_are_closed_when_the_worker_is_gone(receiver: Receiver) -> None:
    url = receiver.on("/", answers(200))
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        worker = WebhookWorker()
        post(worker, url)
        del worker
    receiver.join_connections()
    assert len(os.listdir("/dev/fd")) <= before
