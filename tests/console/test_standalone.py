"""The console by itself: who gets in, and what keeps everybody else out."""

from __future__ import annotations

import io
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from threading import Thread
from typing import Any
from urllib.parse import urlencode
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from taquba_workflow_sync import Queue, RunState, WorkflowClient
from taquba_workflow_sync.console import ACT, READ, Access
from taquba_workflow_sync.console.access import checked_access
from taquba_workflow_sync.console.guard import CSRF_FIELD, csrf_of, derived, is_same, new_secret, why_forged
from taquba_workflow_sync.console.messages import Fields
from taquba_workflow_sync.console.standalone import Server, Standalone, names_of
from taquba_workflow_sync.console.wsgi import MOST_BODY
from tests.console.markup import check_headers
from tests.support import wait_until
from tests.workflow.support import state

pytestmark = pytest.mark.embedded  # which engine it is, is nothing to what stands before it
TOKEN = "the-token-that-was-printed"
HOST = "127.0.0.1:8399"
BASE = f"/{derived(TOKEN, 'path')[:16]}"
FORM = "application/x-www-form-urlencoded"


@dataclass
class Got:
    status: int
    headers: dict[str, str]
    body: bytes


class Browser:
    """Asks a WSGI application, and keeps its cookies as a browser does."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.base = ""
        self.cookies: dict[str, str] = {}

    def ask(self, path: str = "/", query: str = "", method: str = "GET", body: bytes = b"", **headers: str) -> Got:
        environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": self.base + path, "QUERY_STRING": query}
        setup_testing_defaults(environ)
        environ |= {"HTTP_HOST": HOST, "wsgi.input": io.BytesIO(body)}
        if body:
            environ |= {"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": FORM}
        if self.cookies:
            environ["HTTP_COOKIE"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        environ |= {"SCRIPT_NAME": "", **headers}
        answer: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
            answer[:] = [int(status[:3]), dict(headers)]
            assert len(headers) == len(dict(headers))
            return lambda data: None

        result = self.app(environ, start_response)
        got = b"".join(result)
        if hasattr(result, "close"):
            result.close()
        status, given = answer
        check_headers({k: v for k, v in given.items() if k != "Content-Length"}, given["Content-Type"],
                      keeps="immutable" in given["Cache-Control"])  # fmt: skip
        if "Set-Cookie" in given:
            name, _, value = given["Set-Cookie"].partition(";")[0].partition("=")
            self.cookies[name] = value
            self.base = given["Location"].rstrip("/")
        return Got(status, given, got)

    def post(self, path: str = "/act", *, fields: dict[str, str], **headers: str) -> Got:
        return self.ask(path, method="POST", body=urlencode(fields).encode(), **headers)


@pytest.fixture
def app(queue: Queue) -> Standalone:
    WorkflowClient(queue).submit(run_id="r", input=b"secret payload")
    return Standalone(queue, TOKEN, hosts=names_of("127.0.0.1", 8399))


@pytest.fixture
def visitor(app: Standalone) -> Browser:
    """Somebody who knows the address and nothing else."""
    return Browser(app)


@pytest.fixture
def reader(app: Standalone) -> Browser:
    """Somebody who has opened the address that was printed."""
    browser = Browser(app)
    assert browser.ask(query=f"token={TOKEN}").status == 303
    return browser


def csrf() -> str:
    return csrf_of(derived(TOKEN, "session")).token


def cancel(**more: str) -> dict[str, str]:
    return {"do": "cancel", "queue": "workflow-steps", "id": "r", CSRF_FIELD: csrf(), **more}


def test_nothing_is_told_without_the_token(visitor: Browser, queue: Queue) -> None:
    for path in (
        "/",
        "/runs",
        "/run",
        "/act",
        "/events",
        "/payload",
        "/console.css",
        "/console.js",
        "/nothing",
        "//",
        "",
    ):
        for method in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "TRACE"):
            got = visitor.ask(path, "id=r&what=payload&page=runs", method)
            assert got.status == 403 and b"secret" not in got.body and queue.address.encode() not in got.body
    assert visitor.post(fields=cancel()).status == 403
    assert state(WorkflowClient(queue), "r") is RunState.PENDING


def test_no_other_token_opens_it(visitor: Browser) -> None:
    for query in (
        "token=", "token=wrong", f"token={TOKEN}x", f"token={TOKEN[:-1]}", f"token={TOKEN.upper()}", f"Token={TOKEN}",
        "token=%ff%00", f"token=wrong&token={TOKEN}", "token=\u00e9", f"tokens={TOKEN}", f"?token={TOKEN}",
    ):  # fmt: skip
        got = visitor.ask(query=query.encode().decode("latin-1"))
        assert got.status == 403 and "Set-Cookie" not in got.headers, query


def test_no_other_cookie_opens_it(visitor: Browser) -> None:
    name = f"taquba_console_{derived(TOKEN, 'name')[:8]}"
    for cookie in ("", "a=b", TOKEN, f"taquba_console={TOKEN}", "\x00", "=;;=", 'a="', "c=y; " * 1000, "\u00e9=\u00ff"):
        for given in (cookie, f"{name}={TOKEN}", f"{name}=", f"{name}={derived(TOKEN, 'csrf')}", f"{name}={cookie}"):
            assert visitor.ask(HTTP_COOKIE=given.encode().decode("latin-1")).status == 403, given


def test_the_token_opens_it_once_and_a_cookie_stands_for_it_from_then_on(visitor: Browser) -> None:
    got = visitor.ask(query=f"token={TOKEN}")
    assert got.status == 303 and got.headers["Location"] == f"{BASE}/" and got.body == b""
    cookie = got.headers["Set-Cookie"]
    assert cookie.endswith(f"; Path={BASE}/; HttpOnly; SameSite=Strict") and TOKEN not in cookie
    assert visitor.ask("/runs").status == 200
    assert visitor.ask("/console.css").headers["Cache-Control"] == "private, max-age=31536000, immutable"


def test_cookies_of_other_programs_of_this_host_are_not_in_its_way(reader: Browser) -> None:
    ((name, value),) = reader.cookies.items()
    for others in ('a={"b": "c,d"}', "x y=z", "=", ";;", 'q="open', "a=b=c", "\x00", "\u00ff"):
        assert reader.ask(HTTP_COOKIE=f"{others}; {name}={value}").status == 200, others
        assert reader.ask(HTTP_COOKIE=f"{name}={value}; {others}").status == 200, others


def test_its_cookie_is_sent_to_no_other_server_of_this_host(visitor: Browser) -> None:
    # Browsers send a cookie to every port of a host, by its path alone; that one nobody can guess.
    path = visitor.ask(query=f"token={TOKEN}").headers["Set-Cookie"].partition("Path=")[2].partition(";")[0]
    assert len(path) == 18 and path != Standalone({}, "another", hosts=[])._base + "/"  # type: ignore[arg-type]  # unused
    visitor.base = ""
    for elsewhere in ("/", "/runs", "/console.css", path[:-1], path[:-2] + "/", f"/x{path}runs"):
        assert visitor.ask(elsewhere).status == 403, elsewhere
    assert visitor.ask(path).status == 200


def test_the_token_is_in_no_answer_no_referrer_and_no_target(reader: Browser, monkeypatch: Any) -> None:
    monkeypatch.setattr("taquba_workflow_sync.console.app._STREAM_SECONDS", 0.1)
    for path in ("/", "/runs", "/run", "/confirm", "/act", "/events", "/nothing", "/payload"):
        got = reader.ask(path, "id=r&page=runs&do=cancel&queue=workflow-steps")
        assert TOKEN.encode() not in got.body and TOKEN not in str(got.headers)
        assert derived(TOKEN, "session") not in got.body.decode()
    got = Browser(reader.app).ask(query=f"token={TOKEN}")
    assert got.headers["Referrer-Policy"] == "no-referrer" and got.headers["Cache-Control"] == "no-store"
    assert TOKEN not in got.headers["Location"]


def test_the_one_redirect_leads_nowhere_else(visitor: Browser) -> None:
    for path in ("//evil.example/", "/\\evil.example", "/http://evil.example", "/%2f%2fevil.example"):
        visitor.base = ""
        got = visitor.ask(path, f"token={TOKEN}&next=//evil.example&url=http://evil.example")
        assert got.status == 303 and got.headers["Location"] == f"{BASE}/"


def test_it_speaks_wsgi_as_the_standard_says(reader: Browser, app: Standalone) -> None:
    strict = Browser(validator(app))
    strict.cookies, strict.base = reader.cookies, reader.base
    for path in ("/", "/runs", "/console.js", "/nothing"):
        assert strict.ask(path).status in (200, 404)
    assert strict.ask("/payload", "id=r&what=payload").body == b"secret payload"


def test_two_consoles_of_one_machine_do_not_take_each_others_cookies(queue: Queue) -> None:
    one, two = Standalone(queue, "1", hosts=[HOST]), Standalone(queue, "2", hosts=[HOST])
    browser = Browser(one)
    browser.ask(query="token=1")
    base = browser.base
    browser.app = two
    assert browser.ask().status == 403
    browser.ask(query="token=2")
    assert browser.ask().status == 200 and len(browser.cookies) == 2
    browser.app = one
    assert browser.ask().status == 403
    browser.base = base
    assert browser.ask().status == 200


OTHERS = (
    "evil.example", "evil.example:8399", "127.0.0.1.evil.example:8399", "localhost.evil.example", "", "127.0.0.1.",
    "evil.example:8399@127.0.0.1:8399", "127.0.0.1:8399 evil.example", "localhost:8399,evil.example", "[::1",
    "127.0.0.1:8399:8399", "\u2488", "127.1", "0x7f.1", "2130706433", "[127.0.0.1", "localhost:", "user@localhost",
)  # fmt: skip
OWN = (
    "127.0.0.1:8399", "localhost:8399", "LOCALHOST:8399", "[::1]:8399", "localhost", "localhost:9000", "192.0.2.7:1",
    "[2001:db8::1]",
)  # fmt: skip


def test_a_name_that_was_made_to_lead_here_is_refused(reader: Browser) -> None:
    for host in OTHERS:
        for query in ("", f"token={TOKEN}"):
            got = reader.ask(query=query, HTTP_HOST=host.encode().decode("latin-1"))
            assert got.status == 421 and "Set-Cookie" not in got.headers, host
    assert reader.post(fields=cancel(), HTTP_HOST="evil.example").status == 421


def test_its_own_names_are_good_at_whatever_port_a_tunnel_begins(reader: Browser) -> None:
    assert {host: reader.ask(HTTP_HOST=host).status for host in OWN} == dict.fromkeys(OWN, 200)


def test_a_server_has_the_names_of_where_it_listens() -> None:
    assert names_of("127.0.0.1", 1)[0] == "127.0.0.1:1" and "localhost:1" in names_of("127.0.0.1", 1)
    assert names_of("::1", 1)[0] == "[::1]:1" and names_of("example.org", 1) == ["example.org:1"]
    assert names_of("0.0.0.0", 1)[0] == "127.0.0.1:1" and names_of("::", 1)[0] == "[::1]:1"


def test_a_form_of_our_own_page_is_taken(reader: Browser, queue: Queue) -> None:
    assert csrf().encode() in reader.ask("/confirm", "do=cancel&queue=workflow-steps&id=r").body
    got = reader.post(fields=cancel(), HTTP_ORIGIN=f"http://{HOST}", HTTP_SEC_FETCH_SITE="same-origin")
    assert got.status == 200 and state(WorkflowClient(queue), "r") is RunState.CANCELLED


def test_a_browser_that_says_nothing_of_where_a_form_comes_from_needs_the_token_of_forms(
    reader: Browser, queue: Queue
) -> None:
    assert reader.post(fields=cancel(**{CSRF_FIELD: ""})).status == 403
    assert reader.post(fields=cancel()).status == 200


FORGED: list[tuple[dict[str, str], dict[str, str]]] = [
    ({CSRF_FIELD: ""}, {}), ({CSRF_FIELD: "x"}, {}), ({CSRF_FIELD: TOKEN}, {}), ({CSRF_FIELD: "\u00e9\ud800"}, {}),
    ({CSRF_FIELD: csrf_of("another session").token}, {}),
    ({}, {"HTTP_SEC_FETCH_SITE": "cross-site"}), ({}, {"HTTP_SEC_FETCH_SITE": "same-site"}),
    ({}, {"HTTP_SEC_FETCH_SITE": "none"}), ({}, {"HTTP_SEC_FETCH_SITE": ""}),
    ({}, {"HTTP_SEC_FETCH_SITE": "Same-Origin"}),
    ({}, {"HTTP_ORIGIN": "http://evil.example"}), ({}, {"HTTP_ORIGIN": "null"}), ({}, {"HTTP_ORIGIN": ""}),
    ({}, {"HTTP_ORIGIN": "http://127.0.0.1:9999"}), ({}, {"HTTP_ORIGIN": "http://127.0.0.1:8399.evil.example"}),
    ({}, {"HTTP_ORIGIN": "http://["}), ({}, {"HTTP_ORIGIN": "http://evil.example/127.0.0.1:8399"}),
    ({}, {"HTTP_ORIGIN": f"http://{HOST}", "HTTP_SEC_FETCH_SITE": "cross-site"}),
    ({}, {"CONTENT_TYPE": "text/plain"}), ({}, {"CONTENT_TYPE": "multipart/form-data; boundary=x"}),
    ({}, {"CONTENT_TYPE": "application/json"}), ({}, {"CONTENT_TYPE": ""}), ({}, {"CONTENT_LENGTH": ""}),
    ({}, {"CONTENT_LENGTH": "x"}), ({}, {"HTTP_COOKIE": "a=b"}),
]  # fmt: skip


def test_a_form_of_another_page_is_refused(reader: Browser, queue: Queue) -> None:
    for fields, headers in FORGED:
        body = urlencode(cancel(**fields), errors="replace").encode()
        assert reader.ask("/act", method="POST", body=body, **headers).status == 403, (fields, headers)
    assert state(WorkflowClient(queue), "r") is RunState.PENDING


def test_nothing_is_done_by_a_link(reader: Browser, queue: Queue) -> None:
    for method in ("GET", "HEAD"):
        assert reader.ask("/act", urlencode(cancel()), method).status == 405
    assert reader.ask("/act", urlencode(cancel()), "POST").status == 403
    assert state(WorkflowClient(queue), "r") is RunState.PENDING


def test_a_form_is_no_larger_than_one_of_ours(reader: Browser) -> None:
    many = "&".join(["id=r"] * 20_000)
    assert reader.ask("/act", method="POST", body=f"do=cancel&{many}".encode()).status == 413
    assert reader.ask("/act", method="POST", body=b"a" * (MOST_BODY + 1)).status == 413
    for length in (str(MOST_BODY + 1), "-1", "9" * 50):
        assert reader.ask("/act", method="POST", body=b"do=cancel", CONTENT_LENGTH=length).status == 413
    assert reader.ask("/act", method="POST", body=b"\xff\xfe%zz%&&=;=" * 10).status == 403


def test_a_form_that_does_not_come_is_given_up(reader: Browser) -> None:
    class Silent(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise TimeoutError("timed out")

    got = reader.ask("/act", method="POST", body=b"x", **{"wsgi.input": Silent()})  # type: ignore[arg-type]  # of environ
    assert got.status == 408


def test_who_was_let_in_to_look_does_not_act(queue: Queue) -> None:
    WorkflowClient(queue).submit(run_id="r")
    browser = Browser(Standalone(queue, TOKEN, hosts=[HOST], access=READ))
    browser.ask(query=f"token={TOKEN}")
    assert browser.post(fields=cancel()).status == 403
    assert browser.ask("/confirm", "do=cancel&queue=workflow-steps&id=r").status == 403
    assert browser.ask("/runs").status == 200 and state(WorkflowClient(queue), "r") is RunState.PENDING


def test_no_path_leads_to_a_file(reader: Browser) -> None:
    for path in (
        "/../../etc/passwd", "/static/console.css", "/templates/base.html", "/console.css/..", "/console.css%00",
        "/..%2fapp.py", "/runs/../act", "/\x00", "/runs\n", "/\u00ff", "/console.js\r\nX-Injected: 1", "/access.py",
        "/.git/config",
    ):  # fmt: skip
        got = reader.ask(path.encode().decode("latin-1"))
        assert got.status == 404 and "X-Injected" not in got.headers, path


def test_a_query_of_any_bytes_is_a_query(reader: Browser) -> None:
    for query in (
        "%",
        "%zz",
        "%ff=%fe",
        "a=%00",
        "a;b",
        "&&&",
        "=",
        "\u00ff",
        "q=%0d%0aX-Injected:%201",
        "store=%c3%28",
    ):
        got = reader.ask("/runs", query)
        assert got.status in (200, 404) and "X-Injected" not in got.headers


def test_an_answer_to_head_has_the_headers_and_no_body(reader: Browser) -> None:
    for path in ("/", "/runs", "/console.css", "/events", "/payload"):
        got = reader.ask(path, "page=runs&id=r&what=payload", "HEAD")
        assert got.status == 200 and got.body == b""
        if path != "/events":
            assert int(got.headers["Content-Length"]) > 0


def test_a_payload_comes_as_a_file(reader: Browser) -> None:
    got = reader.ask("/payload", "id=r&what=payload")
    assert got.body == b"secret payload" and got.headers["Content-Type"] == "application/octet-stream"
    assert got.headers["Content-Disposition"] == 'attachment; filename="payload.bin"'


def test_secrets_are_compared_whole_and_nobody_can_guess_them() -> None:
    assert is_same("a", "a") and not is_same("a", "b") and not is_same(None, "a") and not is_same("\ud800", "a")
    assert len({new_secret() for _ in range(100)}) == 100 and all(len(new_secret()) >= 43 for _ in range(10))
    assert derived("a", "csrf") != derived("a", "session") != derived("b", "session")
    assert why_forged({}, "h", Fields({CSRF_FIELD: ["x"]}), csrf_of("s")) is not None


@pytest.mark.parametrize("answer", [True, 1, "act", "READ", object(), [ACT], {}, lambda: ACT])
def test_what_is_no_access_opens_nothing(answer: object) -> None:
    with pytest.raises(TypeError, match="it must return READ, ACT or None"):
        checked_access(answer)
    assert checked_access(None) is None and checked_access(READ) is Access.READ and checked_access(ACT) is ACT


@pytest.fixture
def served(queue: Queue) -> Iterator[Server]:
    with Server("127.0.0.1", 0) as server:
        server.set_app(Standalone(queue, TOKEN, hosts=names_of("127.0.0.1", server.server_port)))
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_token_is_in_no_log(served: Server, caplog: Any, capfd: Any) -> None:
    with caplog.at_level(logging.DEBUG):
        for path in (f"/?token={TOKEN}", f"/runs?token={TOKEN}x", "/runs?header=secret"):
            connection = HTTPConnection("127.0.0.1", served.server_port)
            connection.request("GET", path)
            connection.getresponse().read()
            connection.close()
        wait_until(lambda: caplog.text.count("GET /") >= 3, "the log")
    assert TOKEN not in caplog.text and "secret" not in caplog.text
    assert "".join(capfd.readouterr()) == ""


def test_what_is_no_http_is_no_harm(served: Server, capfd: Any) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 10, b"", b"G" * 70_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"POST /act HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
    ):  # fmt: skip
        with socket.create_connection(("127.0.0.1", served.server_port), timeout=10) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            try:
                answer = connection.recv(65_536)
            except ConnectionResetError:
                continue  # it has not read all of it
            assert b" 200 " not in answer and b"Traceback" not in answer
    assert "Traceback" not in capfd.readouterr().err
