"""Health over HTTP: 200 or 503, JSON that says why, valid WSGI."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from taquba_workflow_sync import Queue, WorkflowClient
from taquba_workflow_sync.contrib.health import health, health_app
from taquba_workflow_sync.testing import ManualClock
from tests.contrib.support import work


def ask(application: Any, method: str = "GET") -> tuple[str, dict[str, str], bytes]:
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    answered: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        answered.append((status, headers))
        return lambda data: None

    parts = validator(application)(environ, start_response)
    try:
        body = b"".join(parts)
    finally:
        parts.close()
    ((status, headers),) = answered
    return status, dict(headers), body


def test_a_store_that_is_well_is_200(queue: Queue) -> None:
    work(queue, "a")
    status, headers, body = ask(health_app(queue, max_ready_age=60))
    assert status == "200 OK"
    assert headers["Content-Type"] == "application/json" and headers["Content-Length"] == str(len(body))
    assert headers["Cache-Control"] == "no-store"
    told = json.loads(body)
    assert (told["status"], told["problems"]) == ("ok", [])
    assert told["queues"]["orders"] == {
        "pending": 0, "scheduled": 0, "claimed": 0, "dead": 0, "paused": False, "oldest_ready_age": None,
    }  # fmt: skip


def test_dead_letters_are_503_unless_as_many_are_allowed(queue: Queue) -> None:
    work(queue, "dead-1", "dead-2")
    status, _, body = ask(health_app(queue))
    assert status == "503 Service Unavailable"
    assert json.loads(body)["problems"] == ["2 dead letters (2 in 'orders'); 0 are allowed; retry or remove them"]
    assert ask(health_app(queue, max_dead=1))[0].startswith("503")
    assert ask(health_app(queue, max_dead=2))[0].startswith("200")
    assert ask(health_app(queue, max_dead=None))[0].startswith("200")


def test_what_waits_too_long_is_503_unless_its_queue_is_paused(still: Queue, clock: ManualClock) -> None:
    client = WorkflowClient(still, queue_name="orders")
    client.submit(run_id="r")
    application = health_app(still, max_ready_age=60)
    clock.advance(60)
    assert ask(application)[0] == "200 OK"
    clock.advance(1)
    status, _, body = ask(application)
    assert status.startswith("503")
    (problem,) = json.loads(body)["problems"]
    assert "'orders'" in problem and "61.0 s" in problem and "is a worker running?" in problem
    assert ask(health_app(still))[0] == "200 OK"
    client.pause()
    assert ask(application)[0] == "200 OK"


def test_a_store_that_cannot_be_read_is_503(queue: Queue) -> None:
    application = health_app(queue)
    queue.close()
    status, _, body = ask(application)
    assert status.startswith("503")
    assert json.loads(body)["problems"] == ["the store cannot be read: StoreClosedError"]
    assert not health(queue).ok


def test_head_has_no_body_and_others_are_refused(queue: Queue) -> None:
    status, headers, body = ask(health_app(queue), "HEAD")
    assert (status, body) == ("200 OK", b"") and int(headers["Content-Length"]) > 0
    for method in ("POST", "OPTIONS", "DELETE"):
        status, headers, body = ask(health_app(queue), method)
        assert status == "405 Method Not Allowed" and json.loads(body) == {"error": "only GET and HEAD"}
        assert headers["Allow"] == "GET, HEAD"


def test_the_function_says_what_the_application_says(still: Queue, clock: ManualClock) -> None:
    work(still, "dead-1")
    WorkflowClient(still, queue_name="mails").submit()
    clock.advance(61)
    found = health(still, max_ready_age=60)
    aged, dead = found.problems
    assert not found.ok and aged.startswith("queue 'mails': ") and dead.startswith("1 dead letters (1 in 'orders')")
    assert found.queues.keys() == {"orders", "mails"}
    told = json.loads(ask(health_app(still, max_ready_age=60))[2])
    assert told == found.as_json() and told["status"] == "unhealthy"
    assert health(still).problems == found.problems[1:]
    assert health(still, max_ready_age=timedelta(seconds=62), max_dead=1).ok


def test_each_queue_is_told_as_it_stands(still: Queue, clock: ManualClock) -> None:
    work(still, "dead-1")
    mails = WorkflowClient(still, queue_name="mails")
    mails.submit(priority=1)
    mails.submit(run_at=clock.now() + timedelta(hours=1))
    mails.submit()
    mails.submit()
    assert still.claim("mails") is not None
    mails.pause()
    clock.advance(5)
    assert health(still).queues == {
        "orders": {"pending": 0, "scheduled": 0, "claimed": 0, "dead": 1, "paused": False, "oldest_ready_age": None},
        "mails": {"pending": 2, "scheduled": 1, "claimed": 1, "dead": 0, "paused": True, "oldest_ready_age": 5.0},
    }


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"max_ready_age": "1m"}, TypeError),
        ({"max_ready_age": -1}, ValueError),
        ({"max_dead": -1}, ValueError),
        ({"max_dead": 1.5}, TypeError),
    ],
)
def test_senseless_limits_are_refused_at_once(queue: Queue, fields: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{next(iter(fields))} "):
        health_app(queue, **fields)


def test_what_is_no_queue_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^queue "):
        health_app("var/jobs")  # type: ignore[arg-type]
