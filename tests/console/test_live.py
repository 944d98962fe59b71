"""Pages that follow the store: one read a second for all who look, each page in its turn, each stream with an end."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from taquba_workflow_sync import Queue, StorageError, WorkflowClient
from taquba_workflow_sync.console import ACT, READ, app, live
from taquba_workflow_sync.console.live import Live, event
from taquba_workflow_sync.console.messages import Fields
from taquba_workflow_sync.console.pages import overview
from taquba_workflow_sync.console.standalone import Server, Standalone, names_of
from tests.console.markup import check, check_headers, parsed
from tests.console.site import BASE, Site
from tests.support import PATIENCE, wait_until


class Time:
    """A monotonic clock that is set by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr(live.time, "monotonic", lambda: self.now)


class Read:
    """Makes a page, and counts how often."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    def __call__(self) -> bytes:
        self.log.append(self.name)
        return f"{self.name} {len(self.log)}".encode()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def test_the_store_is_read_once_a_second_however_many_look(time: Time) -> None:
    pages, log = Live(), []
    read = Read("a", log)
    for _ in range(40):  # ten seconds of a hundred viewers, four looks a second each
        seen = {pages.latest(("a",), read) for _ in range(100)}
        assert len(seen) == 1
        time.now += 0.25
    assert len(log) == 10


def test_several_pages_share_the_reads_and_each_has_its_turn(time: Time) -> None:
    pages, log = Live(), []
    reads = {name: Read(name, log) for name in "abcde"}
    for _ in range(20 * 4):
        for name, read in reads.items():
            for _ in range(50 if name == "a" else 1):
                pages.latest((name,), read)
        time.now += 0.25
    assert len(log) == 20
    assert {name: log.count(name) for name in reads} == dict.fromkeys(reads, 4), "also the one with fifty viewers"


def test_a_page_that_nobody_looks_at_any_more_takes_no_turn(time: Time) -> None:
    pages, log = Live(), []
    a, b = Read("a", log), Read("b", log)
    pages.latest(("a",), a)
    time.now += 1
    pages.latest(("b",), b)
    for _ in range(40):
        time.now += 0.25
        pages.latest(("b",), b)
    assert log.count("a") == 1 and log.count("b") >= 8
    assert set(pages._pages) == {("b",)}


def test_what_is_on_a_page_is_shared_by_those_who_may_see_the_same_and_by_nobody_else(queue: Queue) -> None:
    site = Site({"default": queue})
    events = site.get("events", page="?")
    assert b"may look, and change nothing" not in events.body
    site.access = READ
    asked = replace(site.request("events", "page=runs"), access=READ)
    other = replace(asked, access=ACT)
    site.ask(asked), site.ask(other)
    keys = set(site.console._live._pages)
    assert len({key for key in keys if "runs" in key}) == 2, "who may act sees other buttons"
    elsewhere = replace(asked, base="/elsewhere")
    site.ask(elsewhere)
    assert len(set(site.console._live._pages)) == len(keys) + 1


def test_while_a_page_is_read_others_have_what_was_on_it_before(time: Time) -> None:
    pages = Live()
    pages.latest(("a",), lambda: b"before")
    time.now += 1
    is_reading, may_end = threading.Event(), threading.Event()

    def slowly() -> bytes:
        is_reading.set()
        assert may_end.wait(PATIENCE)
        return b"after"

    thread = threading.Thread(target=pages.latest, args=(("a",), slowly))
    thread.start()
    assert is_reading.wait(PATIENCE)
    assert pages.latest(("a",), slowly)[1] == b"before"
    may_end.set()
    thread.join()
    assert pages.latest(("a",), slowly)[1] == b"after"


def test_a_read_that_fails_takes_its_turn_and_the_next_one_is_not_kept_from_it(time: Time) -> None:
    pages = Live()

    def fails() -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pages.latest(("a",), fails)
    time.now += 1
    assert pages.latest(("a",), lambda: b"text")[1] == b"text"


def test_a_stream_tells_each_change_once_says_that_it_lives_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_READ_EVERY", 0.02), ("_TICK", 0.01), ("_QUIET", 0.05)):
        monkeypatch.setattr(live, name, value)
    texts = itertools.chain([b"one", b"one", b"two"], itertools.repeat(b"two"))
    got = list(Live().stream(("a",), lambda: next(texts), None, 0.5))
    assert got[0] == live.RETRY
    assert [each for each in got if b"data:" in each] == [
        event(each.split()[1].decode(), text) for each, text in zip(
            [each for each in got if b"data:" in each], (b"one", b"two"), strict=True)
    ]  # fmt: skip
    assert b":\n\n" in got[2:]


def test_a_viewer_who_comes_back_is_told_only_what_is_another(queue: Queue) -> None:
    site = Site({"default": queue})
    request = site.request("events", "page=schedules")
    first = site.ask(request).body
    name = first.partition(b"id: ")[2].partition(b"\n")[0].decode()
    assert first.count(b"data: ") > 1 and len(name) == 16
    assert site.ask(replace(request, last_event_id=name)).body == live.RETRY
    assert site.ask(replace(request, last_event_id="another")).body == first


def test_an_event_is_one_whatever_the_text() -> None:
    text = b"a\nb\r\nc\rdata: d\n\nid: 9"
    lines = event("1", text).split(b"\n")
    assert lines[0] == b"id: 1" and lines[-2:] == [b"", b""]
    assert all(each.startswith(b"data: ") for each in lines[1:-2]) and b"\r" not in event("1", text)


def data_of(body: bytes) -> str:
    return "\n".join(line[6:] for line in body.decode().split("\n") if line.startswith("data: "))


@pytest.mark.parametrize(
    "page",
    [
        "", "?", "runs", "runs?state=failed&queue=workflow-steps", "run?id=r", "dead", "limits", "workers?",
        "queue?queue=workflow-steps", "schedules",
    ],
)  # fmt: skip
def test_a_stream_brings_what_stands_between_the_head_and_the_foot_of_its_page(queue: Queue, page: str) -> None:
    WorkflowClient(queue).submit(run_id="r", headers={"h": "<x-evil>"})
    site = Site({"default": queue})
    answer = site.get("events", page=page)
    assert answer.content_type == "text/event-stream" and answer.headers["X-Accel-Buffering"] == "no"
    part = parsed(data_of(answer.body), BASE)
    for each in part.every():
        check(each, BASE)
    assert part.one("h1").text == site.get(page.rstrip("?")).main.one("h1").text
    assert not part.all("html") and not part.all("script") and not part.all("form", method="post")


def test_a_page_says_itself_where_its_changes_come_from(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_READ_EVERY", 0.0)
    WorkflowClient(queue).submit(run_id="r")
    site = Site({"default": queue})
    for page in (
        "",
        "runs?failed_with=r%26x%2B",
        "run?id=r&queue=workflow-steps",
        "dead",
        "schedules",
        "limits",
        "workers",
    ):
        address = site.get(page).page.one("body").get("data-events")
        assert b"<h1>" in site.get(address).body
    for page in ("confirm?do=cancel&id=r&queue=workflow-steps", "nothing"):
        assert "data-events" not in site.ask(site.request(*page.partition("?")[::2])).page.one("body").attributes


def test_what_is_no_page_is_not_told_of(queue: Queue) -> None:
    site = Site({"default": queue})
    for page in ("confirm?do=cancel", "act", "events", "payload?id=r", "//host/runs", "http://host/runs", "http://[",
                 "console.css", "/runs", "../runs", "runs#x", "\u202e"):  # fmt: skip
        assert site.get("events", page=page, status=404).content_type.startswith("text/plain"), page


def test_an_error_is_shown_in_the_place_of_the_page_and_the_stream_goes_on(monkeypatch: Any, queue: Queue) -> None:
    monkeypatch.setattr(live, "_READ_EVERY", 0.0)
    site = Site({"default": queue})

    def fails(view: Any) -> Any:
        raise StorageError("the disk <is> full")

    before = overview.page
    monkeypatch.setattr(app, "PAGES", {**app.PAGES, "": fails})
    part = parsed(data_of(site.get("events", page="").body), BASE)
    assert part.one("p", role="alert").text == "StorageError: the disk <is> full"
    monkeypatch.setattr(app, "PAGES", {**app.PAGES, "": before})
    assert "Queues" in data_of(site.get("events", page="").body)
    missing = parsed(data_of(site.get("events", page="run?id=gone").body), BASE)
    assert "has no run 'gone'" in missing.one("p", role="alert").text


def test_a_server_that_has_no_thread_to_spare_is_not_held(queue: Queue) -> None:
    site = Site({"default": queue})
    response = site.console.answer(site.request("events", "page=runs"))
    assert isinstance(response.body, bytes) and response.body.startswith(live.RETRY)
    response = site.console.answer(replace(site.request("events", "page=runs"), may_hold=True))
    assert not isinstance(response.body, bytes)
    check_headers(response.headers, response.content_type)


def test_no_more_threads_are_held_than_a_server_can_spare_and_who_comes_then_asks_again(queue: Queue) -> None:
    site = Site({"default": queue})
    site.console = app.Console(most_streams=2)

    def stream() -> Iterator[bytes]:
        response = site.console.answer(replace(site.request("events", "page=schedules"), may_hold=True))
        assert not isinstance(response.body, bytes)
        return iter(response.body)

    unread = stream()
    held = [stream(), stream()]
    assert [next(each) for each in held] == [live.RETRY, live.RETRY]
    assert len(list(stream())) == 1, "it ends at once"
    held[0].close()  # type: ignore[attr-defined]  # a generator
    unread.close()  # type: ignore[attr-defined]  # which has held nothing
    again = stream()
    assert next(again) == live.RETRY and b"data: " in next(again)
    assert len(list(stream())) == 1
    again.close(), held[1].close()  # type: ignore[attr-defined]  # generators


@pytest.fixture
def served(queue: Queue) -> Iterator[tuple[Server, str, str]]:
    """A console that serves; where, and the cookie that opens it."""
    with Server("127.0.0.1", 0) as server:
        app = Standalone(queue, "token", hosts=names_of("127.0.0.1", server.server_port))
        server.set_app(app)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server, app._base, f"{app._cookie}={app._session}"
        server.shutdown()
        thread.join()


def streams() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if "process_request_thread" in each.name]


@pytest.mark.embedded
def test_a_viewer_who_goes_frees_his_thread(served: tuple[Server, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_QUIET", 0.05)
    server, base, cookie = served
    asked = f"GET {base}/events?page=schedules HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode()
    viewers = [socket.create_connection(("127.0.0.1", server.server_port), timeout=PATIENCE) for _ in range(20)]
    for viewer in viewers:
        viewer.sendall(asked)
        assert b"200 OK" in viewer.recv(65_536)
    assert len(streams()) == 20
    for viewer in viewers:
        viewer.close()
    wait_until(lambda: not streams(), "the end of the streams", 10)


@pytest.mark.embedded
def test_two_hundred_viewers_cost_one_read_a_second(
    served: tuple[Server, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[object] = []
    metrics = Queue.metrics
    monkeypatch.setattr(Queue, "metrics", lambda queue: (reads.append(queue), metrics(queue))[1])
    monkeypatch.setattr("taquba_workflow_sync.console.app._STREAM_SECONDS", 2.5)
    server, base, cookie = served
    asked = f"GET {base}/events?page= HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode()
    viewers = [socket.create_connection(("127.0.0.1", server.server_port), timeout=PATIENCE) for _ in range(200)]
    for viewer in viewers:
        viewer.sendall(asked)
    for viewer in viewers:
        body = b""
        while part := viewer.recv(65_536):
            body += part
        assert body.count(b"data: <h1>") + body.count(b"<h1>Queues") >= 1
        viewer.close()
    assert len(reads) <= 5
    wait_until(lambda: not streams(), "the end of the streams")


def test_a_request_of_a_stream_is_a_request_of_who_may_see_it(queue: Queue) -> None:
    site = Site({"default": queue}, READ)
    request = replace(site.request("events"), query=Fields({"page": ["runs?queue=x"]}))
    assert b"Cancel" not in site.ask(request).body
