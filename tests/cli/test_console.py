"""The console as a command: it says where it is, lets in who has the address, and ends when it is told to."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("jinja2")

from taquba_workflow_sync import Queue, RunState, WorkflowClient
from tests.cli.conftest import Shell
from tests.cli.processes import COMMAND, ROOT, environment, started
from tests.console.markup import parsed
from tests.support import PATIENCE


@contextmanager
def console(shell: Shell, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A console that has said where it is."""
    with Queue.open(shell.store) as queue:
        WorkflowClient(queue).submit(run_id="r")
    with started(shell.store, "console", "--port", "0", *arguments) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield process, json.loads(line)["url"] if "--json" in arguments else line.strip()


class Visitor:
    """A browser that has opened the address."""

    def __init__(self, url: str) -> None:
        self.where = urlsplit(url)
        self.base = ""
        answer = self.ask(f"/?{self.where.query}")
        assert answer[0] == 303
        self.base = answer[1]["Location"].rstrip("/")
        self.cookie = answer[1]["Set-Cookie"].partition(";")[0]

    def ask(self, path: str, method: str = "GET", body: str | None = None, **headers: str) -> tuple[int, Any, str]:
        connection = HTTPConnection(self.where.hostname or "", self.where.port, timeout=PATIENCE)
        try:
            if hasattr(self, "cookie"):
                headers["Cookie"] = self.cookie
            connection.request(method, self.base + path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()


def test_it_says_where_it_is_and_serves_whoever_has_the_address(shell: Shell) -> None:
    with console(shell) as (process, url):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", url)
        assert process.stdout is not None and "Ctrl-C" in process.stdout.readline()
        visitor = Visitor(url)
        page = parsed(visitor.ask("/runs")[2], visitor.base)
        assert [row[1] for row in page.rows()] == ["r"]
        stranger = HTTPConnection("127.0.0.1", urlsplit(url).port or 0, timeout=PATIENCE)
        stranger.request("GET", "/")
        assert stranger.getresponse().status == 403
        stranger.close()


@pytest.mark.embedded
def test_for_programs_it_says_so_as_json_and_nothing_else(shell: Shell) -> None:
    with console(shell, "--json") as (process, url):
        Visitor(url)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
    assert (out, err) == ("", "")


@pytest.mark.embedded
def test_a_form_of_its_page_acts_and_with_read_only_none_does(shell: Shell) -> None:
    for options, state in (((), RunState.CANCELLED), (("--read-only",), RunState.PENDING)):
        with console(shell, *options) as (_, url):
            visitor = Visitor(url)
            with Queue.open(shell.store) as queue:
                WorkflowClient(queue).submit(run_id=f"s{len(options)}")
            page = visitor.ask(f"/confirm?do=cancel&queue=workflow-steps&id=s{len(options)}")
            fields = (
                dict(parsed(page[2], visitor.base).one("form", method="post").fields())
                if page[0] == 200
                else {"do": "cancel"}
            )
            body = "&".join(f"{name}={value}" for name, value in fields.items())
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            assert visitor.ask("/act", "POST", body, **kind)[0] == (403 if options else 200)
            with Queue.open(shell.store) as queue:
                run = WorkflowClient(queue).status(f"s{len(options)}")
                assert run is not None and run.state is state


@pytest.mark.embedded
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_it_ends_within_a_second_also_while_somebody_watches(shell: Shell, number: signal.Signals) -> None:
    # The quickest of three: a machine that does much else may be slow once.
    took = PATIENCE
    for _ in range(3):
        took = min(took, seconds_to_end(shell, number))
        if took < 1.0:
            break
    assert took < 1.0


def seconds_to_end(shell: Shell, number: signal.Signals) -> float:
    with console(shell) as (process, url):
        visitor = Visitor(url)
        viewers = []
        for _ in range(5):
            viewer = socket.create_connection(("127.0.0.1", visitor.where.port), timeout=PATIENCE)
            asked = f"GET {visitor.base}/events?page=runs HTTP/1.1\r\nHost: localhost\r\nCookie: {visitor.cookie}"
            viewer.sendall(f"{asked}\r\n\r\n".encode())
            assert b"200 OK" in viewer.recv(65_536)
            viewers.append(viewer)
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        took = time.monotonic() - began
        assert process.stderr is not None and process.stderr.read() == ""
        for viewer in viewers:
            viewer.close()
    return took


@pytest.mark.embedded
def test_a_signal_that_comes_as_soon_as_the_address_is_out_is_heard(shell: Shell) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with console(shell) as (process, _):
            process.send_signal(number)
            assert process.wait(PATIENCE) == 0


@pytest.mark.embedded
def test_a_port_that_is_taken_is_an_error_with_a_way_out(shell: Shell) -> None:
    with Queue.open(shell.store), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = shell("console", "--port", port, code=1).stderr
    assert said.count("\n") == 1 and f"port {port}" in said and "--port" in said


@pytest.mark.embedded
def test_an_address_that_is_none_of_this_machine_is_an_error(shell: Shell) -> None:
    with Queue.open(shell.store):
        for host in ("192.0.2.1", "no-such-host.invalid", "a b"):
            said = shell("console", "--port", "0", "--host", host, code=1).stderr
            assert said.startswith(f"Error: cannot listen at {host}, port 0: ") and said.count("\n") == 1
        shell("console", "--port", "65536", code=2)


@pytest.mark.embedded
def test_looking_makes_no_store(shell: Shell) -> None:
    said = shell("console", code=4).stderr
    assert "there is no store" in said and not shell.has_store


@pytest.mark.embedded
def test_without_the_extra_it_says_in_a_sentence_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from taquba_workflow_sync import Queue; Queue.open(sys.argv[1]).close()\n"
        "from taquba_workflow_sync.cli.main import cli; cli(['console', '--store', sys.argv[1]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s")], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and done.stdout == ""
    said = "Error: taquba_workflow_sync.console needs Jinja2: pip install 'taquba-workflow-sync[console]'\n"
    assert done.stderr == said


@pytest.mark.embedded
def test_other_commands_load_neither_templates_nor_the_console(tmp_path: Path) -> None:
    Queue.open(tmp_path / "s").close()
    for arguments in (["runs", "list"], ["stats"], ["--help"], ["workers"]):
        code = (
            "import sys; from taquba_workflow_sync.cli.main import cli\n"
            f"try: cli({arguments!r})\n"
            "except SystemExit: pass\n"
            "print(*[name for name in sys.modules if name.endswith('.console') or 'jinja2' in name], 'end')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment(tmp_path / "s"), capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "end", done.stdout + done.stderr


@pytest.mark.embedded
def test_its_help_says_who_may_use_it(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "console", "--help"], env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0 and "another one at each start" in " ".join(done.stdout.split())
