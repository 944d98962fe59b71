"""The stream of a run: what it says, where it goes on, when it ends, and how many there are."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from taquba_workflow_sync import RunStatus
from taquba_workflow_sync.contrib.flask import Taquba, status_blueprint
from taquba_workflow_sync.contrib.flask.slots import Slots
from tests.flask.flows import Flows
from tests.support import PATIENCE, in_thread, no_thread_left_behind, wait_until

#: What gunicorn's sync workers say of themselves.
ONE_AT_A_TIME = {"SERVER_SOFTWARE": "gunicorn", "wsgi.multithread": False}


def statuses(answer: TestResponse) -> list[dict[str, Any]]:
    assert answer.mimetype == "text/event-stream"
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def ids(answer: TestResponse) -> list[str]:
    return [line[4:] for line in answer.text.splitlines() if line.startswith("id: ")]


def live(answer: TestResponse) -> Iterator[str]:
    """Yield the events of a stream as they come."""
    for chunk in answer.iter_encoded():
        if b"data: " in chunk:
            yield chunk.decode()


def test_a_stream_tells_each_change_and_ends_with_the_end(app: Flask, flows: Flows, taquba: Taquba) -> None:
    flows.double.submit(4, run_id="a")
    answer = app.test_client().get("/runs/a/events")
    events = live(answer)
    assert '"state": "pending"' in next(events)
    with taquba.runtime():
        for event in events:
            if '"half"' in event:
                break
        assert '"state": "running"' in event
        flows.may_end.set()
        rest = list(events)
    last = json.loads(rest[-1].partition("data: ")[2])
    assert (last["state"], last["result"]) == ("succeeded", {"twice": 8})
    assert last == app.test_client().get("/runs/a").json
    assert answer.headers["Cache-Control"] == "no-store" and answer.headers["X-Accel-Buffering"] == "no"


def test_the_stream_of_a_run_that_has_ended_is_its_end(app: Flask, flows: Flows, taquba: Taquba) -> None:
    flows.fails.submit("x", run_id="f")
    taquba.runtime().run_until_idle()
    answer = app.test_client().get("/runs/f/events")
    assert [each["state"] for each in statuses(answer)] == ["failed"]
    again = app.test_client().get("/runs/f/events", headers={"Last-Event-ID": ids(answer)[0]})
    assert again.status_code == 204, "after anything else an EventSource would ask for ever"


def quick(app: Flask, taquba: Taquba, **options: Any) -> None:
    """Add pages whose streams are short."""
    options = {"can_see": lambda run: True, "stream_seconds": 1, **options}
    app.register_blueprint(status_blueprint(taquba, name="quick", **options), url_prefix="/quick")


def test_a_stream_ends_in_time_and_the_next_goes_on_where_it_was(app: Flask, flows: Flows, taquba: Taquba) -> None:
    quick(app, taquba)
    flows.double.submit(4, run_id="a")
    first = app.test_client().get("/quick/a/events")
    assert [each["state"] for each in statuses(first)] == ["pending"]
    assert "retry: 1000" in first.text
    flows.may_end.set()
    after = {"Last-Event-ID": ids(first)[0]}
    assert statuses(app.test_client().get("/quick/a/events", headers=after)) == []
    taquba.runtime().run_until_idle()
    assert [each["state"] for each in statuses(app.test_client().get("/quick/a/events", headers=after))] == [
        "succeeded"
    ]


def test_more_viewers_than_there_may_be_are_told_to_come_again(app: Flask, flows: Flows, taquba: Taquba) -> None:
    flows.double.submit(4, run_id="a")
    streams = [app.test_client().get("/runs/a/events") for _ in range(2)]
    refused = app.test_client().get("/runs/a/events")
    assert refused.status_code == 503
    assert 1 <= int(refused.headers["Retry-After"]) <= 20
    assert app.test_client().get("/runs/a").status_code == 200
    streams[0].close()
    third = app.test_client().get("/runs/a/events")
    assert third.status_code == 200
    for each in (streams[1], third):
        each.close()


def test_no_stream_is_allowed_where_that_was_said(app: Flask, flows: Flows, taquba: Taquba) -> None:
    quick(app, taquba, max_streams=0)
    flows.double.submit(4, run_id="a")
    answer = app.test_client().get("/quick/a/events")
    assert answer.status_code == 503 and answer.headers["Retry-After"]


def test_a_head_takes_no_slot(app: Flask, flows: Flows) -> None:
    flows.double.submit(4, run_id="a")
    assert [app.test_client().head("/runs/a/events").status_code for _ in range(3)] == [200, 200, 200]


def test_a_slot_that_nobody_gives_back_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("taquba_workflow_sync.contrib.flask.slots.time.monotonic", lambda: now)
    slots = Slots(1, 20)
    give_back = slots.take()
    assert give_back is not None and slots.take() is None
    assert slots.seconds_to_next() == 20
    now = 126.0
    assert slots.take() is not None
    give_back()
    assert slots.take() is None, "a slot that was taken anew is not the late one's to give back"


def test_a_server_of_one_request_at_a_time_is_not_held(app: Flask, flows: Flows, taquba: Taquba) -> None:
    flows.double.submit(4, run_id="a")
    client = app.test_client()
    answers = [client.get("/runs/a/events", environ_overrides=ONE_AT_A_TIME) for _ in range(5)]
    assert [statuses(each)[0]["state"] for each in answers] == ["pending"] * 5
    seen = {"Last-Event-ID": ids(answers[0])[0]}
    assert statuses(client.get("/runs/a/events", headers=seen, environ_overrides=ONE_AT_A_TIME)) == []
    flows.may_end.set()
    taquba.runtime().run_until_idle()
    ended = client.get("/runs/a/events", headers=seen, environ_overrides=ONE_AT_A_TIME)
    assert statuses(ended)[-1]["result"] == {"twice": 8}


def test_who_may_not_see_it_any_more_is_told_nothing_more(app: Flask, flows: Flows, taquba: Taquba) -> None:
    def can_see(run: RunStatus) -> bool:
        return run.current_step == 0

    quick(app, taquba, can_see=can_see, stream_seconds=20)
    flows.may_end.set()
    flows.double.submit(4, run_id="a")
    answer = app.test_client().get("/quick/a/events")
    events = live(answer)
    assert '"pending"' in next(events)
    with taquba.runtime():
        assert not any('"step": 1' in event for event in events)
    assert app.test_client().get("/quick/a/events").status_code == 404


def test_the_end_of_a_run_that_is_not_kept_is_told_to_who_watched(app: Flask, flows: Flows, taquba: Taquba) -> None:
    flows.double.keep_runs = flows.double._keep_runs = None
    flows.double.submit(4, run_id="a")
    answer = app.test_client().get("/runs/a/events")
    events = live(answer)
    next(events)
    flows.may_end.set()
    with taquba.runtime():
        last = list(events)[-1]
    assert json.loads(last.partition("data: ")[2])["result"] == {"twice": 8}
    assert app.test_client().get("/runs/a").status_code == 404


def test_viewers_in_threads_see_the_same(app: Flask, flows: Flows, taquba: Taquba) -> None:
    flows.double.submit(4, run_id="a")
    barrier = threading.Barrier(3)

    def watch() -> list[dict[str, Any]]:
        answer = app.test_client().get("/runs/a/events")
        barrier.wait(30)
        return statuses(answer)

    watching = [in_thread(watch) for _ in range(2)]
    barrier.wait(30)
    flows.may_end.set()
    with taquba.runtime():
        ends = [join()[-1] for join in watching]
    assert ends[0] == ends[1] and ends[0]["state"] == "succeeded"


@pytest.mark.embedded
def test_a_viewer_who_goes_away_leaves_no_thread_and_no_slot(app: Flask, flows: Flows, taquba: Taquba) -> None:
    quick(app, taquba, stream_seconds=600, max_streams=1)
    flows.double.submit(4, run_id="a")
    with no_thread_left_behind():
        server = make_server("127.0.0.1", 0, app, threaded=True)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            connection, answer = ask(server.port, "/quick/a/events")
            assert answer.readline() == b"retry: 1000\n"
            refused, answer_now = ask(server.port, "/quick/a/events")
            assert answer_now.status == 503
            refused.close()
            answer.close()
            connection.close()

            def is_free() -> bool:
                again, answer = ask(server.port, "/quick/a/events")
                answer.close()
                again.close()
                return answer.status == 200

            wait_until(is_free, "the slot of the viewer who has gone")
        finally:
            server.shutdown()
            serving.join(PATIENCE)
            server.server_close()


def ask(port: int, path: str) -> tuple[HTTPConnection, HTTPResponse]:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", path)
    return connection, connection.getresponse()
