"""A run's page: what it shows, to whom, and how a submit points at it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request

from taquba_workflow_sync import RunStatus, Step, Succeed, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.contrib.flask import Taquba, status_blueprint
from taquba_workflow_sync.flow import Flow
from tests.flask.flows import Flows
from tests.support import wait_until

FIELDS = {"run_id", "state", "step", "label", "progress", "result"}


def test_a_submit_is_answered_with_where_to_look(app: Flask, flows: Flows, taquba: Taquba) -> None:
    @app.post("/double/<int:number>")
    def double(number: int) -> Any:
        return taquba.accepted(flows.double.submit(number, run_id=f"double-{number}"))

    answer = app.test_client().post("/double/4")
    assert answer.status_code == 202
    assert answer.headers["Retry-After"] == "1"
    assert answer.location == "/runs/double-4?queue=double"
    assert answer.json == {
        "run_id": "double-4",
        "status": answer.location,
        "events": "/runs/double-4/events?queue=double",
    }
    assert app.test_client().get(answer.location).json == {
        "run_id": "double-4", "state": "pending", "step": 0, "label": "read", "progress": None, "result": None,
    }  # fmt: skip


def test_with_one_flow_the_location_is_the_plain_page(tmp_path: Path, flows: Flows) -> None:
    app = Flask("app")
    app.config["TAQUBA_STORE"] = str(tmp_path / "store")
    taquba = Taquba(app, flows=[flows.double])
    with app.test_request_context():
        with pytest.raises(RuntimeError, match=r"register_blueprint\(status_blueprint"):
            taquba.accepted(flows.double.submit(1, run_id="a"))
        app.register_blueprint(status_blueprint(taquba, can_see=lambda run: True, name="here"), url_prefix="/here")
        assert taquba.accepted(flows.double.submit(1, run_id="a")).location == "/here/a"
        with pytest.raises(TypeError, match="accepted takes the handle"):
            taquba.accepted("a")  # type: ignore[arg-type]  # on purpose
        taquba.close()


def test_a_page_tells_progress_and_then_the_result(app: Flask, flows: Flows, taquba: Taquba) -> None:
    client = app.test_client()
    flows.double.submit(4, run_id="a")
    with taquba.runtime():
        assert flows.has_said.wait(30)
        wait_until(lambda: client.get("/runs/a").json["progress"], "the progress")
        answer = client.get("/runs/a")
        assert answer.headers["Retry-After"] == "1" and answer.headers["Cache-Control"] == "no-store"
        assert answer.json.keys() == FIELDS
        assert (answer.json["state"], answer.json["step"], answer.json["label"]) == ("running", 1, "multiply")
        progress = answer.json["progress"]
        assert progress.pop("at")
        assert progress == {"done": 1, "total": 2, "note": "half"}
        flows.may_end.set()
        flows.double.handle("a").wait(30)
    answer = client.get("/runs/a")
    assert (answer.json["state"], answer.json["result"]) == ("succeeded", {"twice": 8})
    assert "Retry-After" not in answer.headers


def test_input_headers_and_errors_are_never_shown(app: Flask, flows: Flows, taquba: Taquba) -> None:
    flows.fails.submit("s3cret", run_id="f", headers={"token": "s3cret"})
    before = app.test_client().get("/runs/f")
    taquba.runtime().run_until_idle()
    after = app.test_client().get("/runs/f")
    stream = app.test_client().get("/runs/f/events")
    assert after.json.keys() == FIELDS and after.json["state"] == "failed" and after.json["result"] is None
    assert b"s3cret" not in before.data + after.data + stream.data


@pytest.mark.parametrize(
    "url",
    [
        "/runs/nobody",
        "/runs/n%20o",
        "/runs/" + "x" * 5000,
        "/runs/a?queue=other",
        "/runs/a?queue=../../etc",
        "/runs/a?queue=%00",
        "/runs/%2e%2e",
        "/runs/a%00",
        "/runs/%ff",
        "/runs/a%0d%0aX-Y:%20z",
        "/runs/%F0%9F%92%A9",
    ],
)
def test_what_is_not_there_is_a_404_that_nobody_keeps(app: Flask, flows: Flows, url: str) -> None:
    flows.double.submit(1, run_id="a")
    page, _, query = url.partition("?")
    for each in (url, f"{page}/events?{query}"):
        answer = app.test_client().get(each)
        assert (answer.status_code, answer.headers.get("Cache-Control")) == (404, "no-store")
        assert "X-Y" not in answer.headers


def test_a_slash_in_a_name_leads_nowhere(app: Flask, flows: Flows) -> None:
    flows.double.submit(1, run_id="a")
    for url in ("/runs/..%2fa", "/runs/%2e%2e%2f%2e%2e%2fa", "/runs/../runs/..%2fa/events", "/runs/a%2f..%2fa"):
        assert app.test_client().get(url).status_code == 404


@pytest.mark.parametrize("path", ["/runs/a", "/runs/a/events"])
def test_a_page_is_only_read(app: Flask, flows: Flows, path: str) -> None:
    flows.double.submit(1, run_id="a")
    client = app.test_client()
    head = client.head(path)
    assert (head.status_code, head.data, head.headers["Cache-Control"]) == (200, b"", "no-store")
    options = client.options(path)
    assert options.status_code == 200 and set(options.allow) == {"GET", "HEAD", "OPTIONS"}
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert client.open(path, method=method, data=b"x" * 100_000).status_code == 405


def test_to_whom_may_not_see_a_run_it_is_not_there(app: Flask, flows: Flows, taquba: Taquba) -> None:
    def can_see(run: RunStatus) -> bool:
        return request.headers.get("X-User") == run.headers["user"]

    app.register_blueprint(status_blueprint(taquba, can_see=can_see, name="mine"), url_prefix="/mine")
    flows.double.submit(1, run_id="a", headers={"user": "anna"})
    for page in ("/mine/a", "/mine/a/events"):
        unknown = app.test_client().get(page.replace("a", "b", 1).replace("/mibe", "/mine"))
        refused = app.test_client().get(page, headers={"X-User": "otto"})
        assert refused.status_code == 404
        assert refused.data == app.test_client().get("/mine/nobody").data
        assert unknown.status_code == 404
    assert app.test_client().get("/mine/a", headers={"X-User": "anna"}).status_code == 200


def test_nobody_is_let_in_by_forgetting_to_say_who_may(taquba: Taquba) -> None:
    async def later(run: RunStatus) -> bool:
        return True

    with pytest.raises(TypeError, match="needs can_see="):
        status_blueprint(taquba)
    with pytest.raises(TypeError, match="plain function"):
        status_blueprint(taquba, can_see=True)
    with pytest.raises(TypeError, match="plain function"):
        status_blueprint(taquba, can_see=later)
    with pytest.raises(TypeError, match="taquba"):
        status_blueprint("taquba", can_see=lambda run: True)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="max_streams"):
        status_blueprint(taquba, can_see=lambda run: True, max_streams=-1)


@pytest.mark.parametrize("answer", [None, 1, "no"])
def test_an_answer_that_is_no_bool_opens_nothing(app: Flask, flows: Flows, taquba: Taquba, answer: object) -> None:
    app.register_blueprint(status_blueprint(taquba, can_see=lambda run: answer, name="odd"), url_prefix="/odd")
    flows.double.submit(1, run_id="a")
    assert app.test_client().get("/odd/a").status_code == 500


def test_a_name_in_two_flows_is_the_newer_run_or_the_one_asked_for(tmp_path: Path) -> None:
    old, new = Flow[str, str]("old"), Flow[str, str]("new")
    for flow in (old, new):

        @flow.start
        def echo(text: str) -> str:
            return text

    app = Flask("app")
    app.config["TAQUBA_STORE"] = str(tmp_path / "store")
    taquba = Taquba(app, flows=[new, old])
    app.register_blueprint(status_blueprint(taquba, can_see=lambda run: True))
    with app.app_context():
        old.submit("o", run_id="a")
        taquba.runtime().run_until_idle()
        new.submit("n", run_id="a")
        taquba.runtime().run_until_idle()
        client = app.test_client()
        assert client.get("/a").json["result"] == "n"
        assert client.get("/a?queue=old").json["result"] == "o"
        taquba.close()


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (b'{"a": [1]}', {"a": [1]}),
        (b"plain", "plain"),
        (b"\xff\x00", "/wA="),
        (b"", None),
        (b"NaN", "NaN"),
        (b'{"a": [-Infinity]}', '{"a": [-Infinity]}'),
        (b"[1e999]", "[1e999]"),
        (b"9" * 5000, "9" * 5000),
        (b"[" * 100_000 + b"]" * 100_000, "[" * 100_000 + "]" * 100_000),
    ],
    ids=["json", "text", "bytes", "nothing", "nan", "infinity", "too large", "too long", "too deep"],
)
def test_results_of_plain_runners_are_shown_as_json_text_or_base64(
    app: Flask, taquba: Taquba, result: bytes, shown: object
) -> None:
    def run_step(step: Step) -> Succeed:
        return Succeed(result)

    WorkflowClient(taquba.queue).submit(run_id="plain")
    WorkflowRuntime(taquba.queue, run_step).run_until_idle()
    answer = app.test_client().get("/runs/plain")
    assert json.loads(answer.text, parse_constant=pytest.fail)["result"] == shown


def test_further_queues_are_found_that_were_named(app: Flask, taquba: Taquba) -> None:
    app.register_blueprint(status_blueprint(taquba, can_see=lambda run: True, name="b", queues=["mails"]))
    WorkflowClient(taquba.queue, queue_name="mails").submit(run_id="mail")
    assert app.test_client().get("/mail").status_code == 200
    assert app.test_client().get("/runs/mail").status_code == 404
