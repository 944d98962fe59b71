"""Who may see a run, decided by what the application's own ``before_request`` found out: in pages and in streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, abort, g, session
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from taquba_workflow_sync import RunStatus
from taquba_workflow_sync.contrib.flask import Taquba, status_blueprint
from tests.flask.flows import Flows
from tests.flask.test_events import ONE_AT_A_TIME, live, statuses


class Connection:
    """What an application takes in ``before_request`` and gives back in a teardown."""

    def __init__(self) -> None:
        self.is_open = True

    def user_of(self, name: str | None) -> str | None:
        assert self.is_open, "a connection that was given back is asked"
        return name


class Site:
    """An application that knows its users as applications do, with no context around its clients."""

    def __init__(self, store: Path, flows: Flows) -> None:
        self.app = Flask("site")
        self.app.secret_key = "a secret of the tests"
        self.app.config["TAQUBA_STORE"] = str(store)
        self.taquba = Taquba(self.app, flows=flows.all)
        self.connections: list[Connection] = []
        self.shut_out: Response | int | None = None
        self.app.before_request(self._look_up)
        self.app.teardown_appcontext(self._give_back)
        self.app.register_blueprint(status_blueprint(self.taquba, can_see=self.can_see), url_prefix="/runs")
        self.app.post("/login/<name>", endpoint="login")(self.login)
        with self.app.app_context():
            flows.double.submit(4, run_id="a", headers={"user": "anna"})

    def _look_up(self) -> Response | None:
        g.connection = Connection()
        self.connections.append(g.connection)
        g.user = g.connection.user_of(session.get("user"))
        if isinstance(self.shut_out, int):
            abort(self.shut_out)
        return self.shut_out

    def _give_back(self, error: BaseException | None) -> None:
        if "connection" in g:
            g.connection.is_open = False

    def can_see(self, run: RunStatus) -> bool:
        return bool(run.headers["user"] == g.user == g.connection.user_of(session.get("user")))

    def login(self, name: str) -> str:
        session["user"] = name
        return "welcome"

    def client(self, name: str) -> FlaskClient:
        client = self.app.test_client()
        assert client.post(f"/login/{name}").status_code == 200
        return client

    def runtime(self) -> Any:
        with self.app.app_context():
            return self.taquba.runtime()

    def work(self) -> None:
        self.runtime().run_until_idle()


@pytest.fixture
def site(tmp_path: Path, flows: Flows) -> Iterator[Site]:
    site = Site(tmp_path / "store", flows)
    yield site
    site.taquba.close(site.app)


def last_of(answer: TestResponse) -> Any:
    return statuses(answer)[-1]["state"]


def test_it_reads_what_a_before_request_found_in_every_endpoint(site: Site, flows: Flows) -> None:
    anna, otto = site.client("anna"), site.client("otto")
    assert anna.get("/runs/a").json["state"] == "pending"
    assert anna.head("/runs/a/events").status_code == 200
    assert last_of(anna.get("/runs/a/events", environ_overrides=ONE_AT_A_TIME)) == "pending"
    stream = anna.get("/runs/a/events")
    events = live(stream)
    assert '"pending"' in next(events)
    flows.may_end.set()
    with site.runtime():
        assert '"succeeded"' in list(events)[-1]
    assert last_of(anna.get("/runs/a/events")) == "succeeded"
    for path in ("/runs/a", "/runs/a/events"):
        assert otto.get(path).status_code == 404


def test_each_question_of_a_stream_has_a_context_of_its_own_that_is_torn_down(site: Site, flows: Flows) -> None:
    events = live(site.client("anna").get("/runs/a/events"))
    next(events)
    before = len(site.connections)
    flows.may_end.set()
    # Read inside an app context, as a test client's stream may be: what stands in its ``g`` is another's.
    with site.app.app_context(), site.taquba.runtime():
        g.user = "otto"
        told = list(events)
        assert g.user == "otto"
    assert '"succeeded"' in told[-1]
    assert len(site.connections) == before + len(told), "each status that is told is asked for once"
    assert not any(each.is_open for each in site.connections)


@pytest.mark.parametrize("answer", [401, Response("log in", 302)])
def test_who_is_shut_out_by_a_before_request_is_told_nothing_more(
    site: Site, flows: Flows, answer: Response | int
) -> None:
    anna = site.client("anna")
    events = live(anna.get("/runs/a/events"))
    next(events)
    site.shut_out = answer
    flows.may_end.set()
    site.work()
    assert list(events) == []
    assert anna.get("/runs/a/events").status_code in (401, 302)
