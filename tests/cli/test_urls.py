"""A store on a server, named by its URL: what is shown of it, and what other users of the machine see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue
from tests.cli.conftest import TARGET, Shell
from tests.cli.processes import NotifySocket, started
from tests.postgres import store_url

AWAY = "postgresql://worker:s3cr3t@127.0.0.1:1/postgres"


@pytest.fixture
def url() -> str:
    """The URL of a store that is not there yet, with a password that the server does not ask for."""
    return store_url().replace("postgresql://taquba@", "postgresql://taquba:s3cr3t@")


def call(url: str, *arguments: str, code: int = 0) -> str:
    result = Shell(url)(*arguments, code=code)
    said = result.stdout + result.stderr
    assert "s3cr3t" not in said
    assert "Traceback" not in said
    return said


def test_no_command_shows_a_password(url: str) -> None:
    schema = url.rpartition("=")[2]
    for command in (("runs", "list"), ("doctor",), ("check",), ("stats",)):
        assert "there is no store at postgresql://taquba@" in call(url, *command, code=4)
    assert schema in call(url, "migrate")
    assert Queue.is_store(url)
    call(url, "migrate", "--json")
    call(url, "check")
    assert "own backups" in call(url, "backup", "file", code=1)
    assert "own backups" in call(url, "restore", "/dev/null", url, code=1)
    call(url, "submit", TARGET, "--run-id", "one")
    call(url, "worker", TARGET, "--until-idle")
    assert "succeeded" in call(url, "runs", "show", "one")


def test_a_server_that_is_away_or_a_url_that_is_none_is_told_in_a_sentence() -> None:
    assert "port 1 " in call(AWAY, "runs", "list", code=1)
    assert "port 1 " in call(AWAY, "worker", TARGET, code=1)
    assert "schema" in call(f"{AWAY}?schema=no-name", "runs", "list", code=2)
    assert "mysql" in call("mysql://u:s3cr3t@h/db", "runs", "list", code=2)
    call("mysql://u:s3cr3t@h/db", "worker", TARGET, "--processes", "2", code=2)


def test_another_store_than_a_targets_own_is_refused_without_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN_STORE", url)
    call(url, "submit", "tests.cli.apps:own_store()", "--run-id", "here", "--store", url)
    assert "store of its own" in call(url, "submit", "tests.cli.apps:own_store()", "--store", f"{url}_other", code=2)


def test_several_processes_are_not_told_of_a_url_in_their_arguments(url: str, tmp_path: Path) -> None:
    listener = NotifySocket(tmp_path)
    call(url, "migrate")
    arguments = ("worker", TARGET, "--processes", "2", "--store", url)
    with started(tmp_path / "another", *arguments, NOTIFY_SOCKET=listener.path) as supervisor:
        assert listener.hear() == "READY=1"
        children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()
        told = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
        call(url, "submit", TARGET, "--run-id", "one")
        call(url, "runs", "wait", "one", "--timeout", "30s")
    listener.close()
    assert len(told) == 2
    assert all(b"worker" in each and b"s3cr3t" not in each for each in told)


def test_without_psycopg_it_says_which_extra_is_missing(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None; from taquba_workflow_sync.cli.main import cli;"
        f"cli(['runs', 'list', '--store', {AWAY!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "taquba-workflow-sync[postgres]" in done.stderr
    assert "Traceback" not in done.stderr
