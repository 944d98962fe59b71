"""The console in an application: who decides who may see it, and what a browser must bring along."""

from __future__ import annotations

import re
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2")

from flask import Flask, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from taquba_workflow_sync import RunState
from taquba_workflow_sync.console import ACT, READ, Access
from taquba_workflow_sync.console.guard import CSRF_FIELD
from taquba_workflow_sync.console.wsgi import MOST_BODY
from taquba_workflow_sync.contrib.flask import Taquba, console_blueprint
from tests.console.markup import check_headers, parsed
from tests.flask.flows import Flows
from tests.flask.servers import Site, gunicorn

ONE_AT_A_TIME = {"SERVER_SOFTWARE": "gunicorn", "wsgi.multithread": False}


def by_header(request: Any) -> Access | None:
    return {"read": READ, "act": ACT}.get(request.headers.get("X-Who", ""))


@pytest.fixture
def mounted(app: Flask, taquba: Taquba, flows: Flows) -> Flask:
    """An application with the console, for those who say who they are."""
    app.register_blueprint(console_blueprint(taquba, authorize=by_header), url_prefix="/staff/console")
    flows.double.submit(4, run_id="r")
    return app


def client(app: Flask, who: str = "act") -> FlaskClient:
    client = app.test_client()
    client.environ_base["HTTP_X_WHO"] = who
    return client


def own_headers(answer: TestResponse) -> dict[str, str]:
    others = ("Content-Length", "Content-Type", "Set-Cookie", "Vary")
    return {name: value for name, value in answer.headers if name not in others}


def form(client: FlaskClient) -> dict[str, str]:
    page = client.get("/staff/console/confirm?do=cancel&queue=double&id=r")
    assert page.status_code == 200
    return dict(parsed(page.text, "/staff/console").one("form", method="post").fields())


def is_pending(flows: Flows) -> bool:
    run = flows.double.client().status("r")
    return run is not None and run.state is RunState.PENDING


@pytest.mark.embedded
def test_there_is_no_console_without_somebody_who_decides(taquba: Taquba) -> None:
    with pytest.raises(TypeError, match="needs authorize="):
        console_blueprint(taquba)

    async def later(request: object) -> Access:
        return READ

    for wrong in (None, True, READ, "read", later):
        with pytest.raises(TypeError):
            console_blueprint(taquba, authorize=wrong)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match="taquba"):
        console_blueprint("store", authorize=by_header)  # type: ignore[arg-type]  # wrong on purpose


def test_who_may_not_see_it_is_told_nothing(mounted: Flask, flows: Flows) -> None:
    for method in ("GET", "POST", "HEAD"):
        for path in (
            "", "runs", "run?id=r&queue=double", "events?page=runs", "payload?id=r&queue=double&what=payload", "act",
            "console.css", "nothing",
        ):  # fmt: skip
            answer = client(mounted, "").open(f"/staff/console/{path}", method=method)
            assert answer.status_code == 403 and "Set-Cookie" not in answer.headers
            assert answer.text == ("" if method == "HEAD" else "you may not see the console\n")
            check_headers(own_headers(answer), answer.content_type)
    assert is_pending(flows)


@pytest.mark.embedded
@pytest.mark.parametrize(
    "answer", [True, 1, "act", {"user": 1}, object(), [READ]], ids=lambda answer: type(answer).__name__
)
def test_what_is_true_by_mistake_opens_nothing(app: Flask, taquba: Taquba, answer: object) -> None:
    app.register_blueprint(console_blueprint(taquba, authorize=lambda request: answer), url_prefix="/c")  # type: ignore[arg-type,return-value]  # wrong on purpose
    got = app.test_client().get("/c/runs")
    assert got.status_code == 500 and "Runs" not in got.text
    app.testing = True
    with pytest.raises(TypeError, match="authorize returned"):
        app.test_client().get("/c/runs")


@pytest.mark.embedded
def test_an_authorize_that_fails_opens_nothing_and_sees_the_request(app: Flask, taquba: Taquba) -> None:
    seen: list[str] = []

    def authorize(given: Any) -> Access:
        seen.append(given.path)
        assert given.path == request.path
        raise PermissionError("no such user")

    app.register_blueprint(console_blueprint(taquba, authorize=authorize), url_prefix="/c")
    assert app.test_client().get("/c/runs").status_code == 500 and seen == ["/c/runs"]


def test_pages_have_the_headers_and_links_of_where_it_is_mounted(mounted: Flask) -> None:
    reader = client(mounted, "read")
    for path in ("", "runs?queue=double", "run?id=r&queue=double", "dead", "schedules", "limits", "workers", "nothing",
                 "run?id=gone", "confirm?do=cancel"):  # fmt: skip
        answer = reader.get(f"/staff/console/{path}")
        assert answer.status_code in (200, 403, 404)
        page = parsed(answer.text, "/staff/console")
        assert not page.all("form", method="post") and "you may look" in page.one("footer").text
        check_headers(own_headers(answer), answer.content_type)
    saved = reader.get("/staff/console/payload?id=r&queue=double&what=payload")
    assert saved.data == b"4" and saved.headers["Content-Disposition"].startswith("attachment")


def test_a_form_of_its_own_page_acts(mounted: Flask, flows: Flows) -> None:
    browser = client(mounted)
    answer = browser.post("/staff/console/act", data=form(browser), headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200 and "cancelled" in answer.text and not is_pending(flows)


def test_the_cookie_is_for_the_console_alone_and_for_no_script(mounted: Flask) -> None:
    answer = client(mounted, "read").get("/staff/console/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/staff/console/" in cookie
    assert "Secure" not in cookie
    answer = client(mounted, "read").get("/staff/console/runs", base_url="https://localhost/")
    assert "Secure" in answer.headers["Set-Cookie"]
    browser = client(mounted, "read")
    browser.get("/staff/console/")
    assert "Set-Cookie" not in browser.get("/staff/console/runs").headers


def test_a_cookie_that_is_empty_is_made_anew(mounted: Flask, flows: Flows) -> None:
    browser = client(mounted)
    browser.set_cookie("taquba_console", "", path="/staff/console/")
    assert browser.post("/staff/console/act", data=form(browser)).status_code == 200
    assert not is_pending(flows)


def test_forged_forms_are_refused(mounted: Flask, flows: Flows) -> None:
    browser = client(mounted)
    good = form(browser)
    other = form(client(mounted))[CSRF_FIELD]
    wrong: list[tuple[dict[str, str], dict[str, str]]] = [
        ({CSRF_FIELD: ""}, {}), ({CSRF_FIELD: other}, {}), ({CSRF_FIELD: "\u00e9"}, {}),
        ({}, {"Sec-Fetch-Site": "cross-site"}), ({}, {"Sec-Fetch-Site": "same-site"}), ({}, {"Sec-Fetch-Site": "none"}),
        ({}, {"Origin": "http://evil.example"}), ({}, {"Origin": "null"}), ({}, {"Origin": "http://["}),
        ({}, {"Origin": "http://localhost.evil.example"}),
    ]  # fmt: skip
    for fields, headers in wrong:
        answer = browser.post("/staff/console/act", data={**good, **fields}, headers=headers)
        assert answer.status_code == 403, (fields, headers)
    assert client(mounted).post("/staff/console/act", data=good).status_code == 403, "without the cookie"
    another = client(mounted)
    another.set_cookie("taquba_console", "another", path="/staff/console/")
    assert another.post("/staff/console/act", data=good).status_code == 403
    assert browser.get("/staff/console/act", query_string=good).status_code == 405
    assert browser.post("/staff/console/act", query_string=good).status_code in (403, 413)
    assert browser.post("/staff/console/act", json=good).status_code == 403
    assert is_pending(flows)


def test_who_may_look_acts_by_no_form(mounted: Flask, flows: Flows) -> None:
    browser = client(mounted)
    good = form(browser)
    browser.environ_base["HTTP_X_WHO"] = "read"
    assert browser.post("/staff/console/act", data=good).status_code == 403 and is_pending(flows)


@pytest.mark.embedded
def test_a_form_is_no_larger_than_one_of_ours_and_says_how_large_it_is(mounted: Flask) -> None:
    browser = client(mounted)
    kind = {"content_type": "application/x-www-form-urlencoded"}
    assert browser.post("/staff/console/act", data=b"a" * (MOST_BODY + 1), **kind).status_code == 413
    endless = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert browser.post("/staff/console/act", environ_overrides=endless).status_code == 413


@pytest.mark.embedded
def test_paths_and_queries_of_any_kind_are_answered(mounted: Flask) -> None:
    browser = client(mounted)
    for path in (
        "%0d%0aX-Injected:%201", "..%2f..%2fetc/passwd", "%00", "%ff", "runs%0a", "runs/", "//evil.example/",
        "run?id=%ff&queue=%00", "runs?state=%e2%80%ae", "runs?cursor=%ff", "events?page=//[", "?%", "?a=%zz",
    ):  # fmt: skip
        answer = browser.get(f"/staff/console/{path}")
        assert answer.status_code in (200, 308, 400, 404), path
        assert "X-Injected" not in answer.headers
        assert re.match(r"(http://localhost)?/(staff|evil)", answer.headers.get("Location", "/staff"))
        assert "//evil" not in answer.headers.get("Location", "")


@pytest.mark.embedded
def test_a_store_that_cannot_be_opened_is_told_to_those_who_may_see_it(taquba: Taquba, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no store")
    app = Flask("broken")
    app.config["TAQUBA_STORE"] = str(tmp_path / "file")
    taquba.init_app(app)
    app.register_blueprint(console_blueprint(taquba, authorize=by_header), url_prefix="/c")
    answer = client(app, "read").get("/c/runs")
    assert answer.status_code == 503 and "cannot be opened" in answer.text
    check_headers(own_headers(answer), answer.content_type)
    assert client(app, "").get("/c/runs").status_code == 403


@pytest.mark.embedded
def test_a_prefix_may_have_variables(app: Flask, taquba: Taquba, flows: Flows) -> None:
    app.register_blueprint(console_blueprint(taquba, authorize=by_header), url_prefix="/<tenant>/console")
    answer = client(app, "read").get("/acme/console/runs")
    assert answer.status_code == 200 and parsed(answer.text, "/acme/console")
    assert "Path=/acme/console/" in answer.headers["Set-Cookie"]


@pytest.mark.embedded
def test_a_server_with_one_thread_is_not_held_and_one_with_several_streams(mounted: Flask) -> None:
    answer = client(mounted).get("/staff/console/events?page=runs%3Fqueue%3Ddouble", environ_overrides=ONE_AT_A_TIME)
    assert answer.mimetype == "text/event-stream" and answer.text.startswith("retry: 1000\n\nid: ")
    stream = client(mounted).get("/staff/console/events?page=dead", environ_overrides={"wsgi.multithread": True})
    parts = stream.iter_encoded()
    assert next(parts) == b"retry: 1000\n\n"
    stream.close()


@pytest.mark.embedded
def test_sync_workers_of_gunicorn_are_not_held_by_those_who_watch(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    site = Site(tmp_path)
    with gunicorn(site, "--workers", "1") as web:
        watching = [HTTPConnection("127.0.0.1", web.port, timeout=10) for _ in range(5)]
        for connection in watching:
            connection.request("GET", "/console/events?page=runs")
            answer = connection.getresponse()
            assert answer.status == 200 and answer.read().startswith(b"retry: 1000")
            connection.close()
        assert web.ask("GET", "/console/runs", timeout=10)[0] == 200
