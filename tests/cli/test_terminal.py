"""On a real terminal: colours, questions, live progress, Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from taquba_workflow_sync import RunState, WorkflowClient
from tests.cli.conftest import TARGET, Shell
from tests.cli.processes import Terminal
from tests.support import PATIENCE, wait_until

pytestmark = pytest.mark.embedded


@pytest.fixture
def failed(client: WorkflowClient, work: Callable[[], None]) -> WorkflowClient:
    client.submit(run_id="good", input=b"x")
    client.submit(run_id="bad", input=b"dead")
    work()
    return client


def test_a_terminal_gets_a_table_in_colour(shell: Shell, failed: WorkflowClient) -> None:
    terminal = Terminal(shell.store, "runs", "list")
    assert terminal.end() == 0
    assert "\x1b[32msucceeded" in terminal.shown and "\x1b[31mfailed" in terminal.shown


def test_no_color_is_respected(shell: Shell, failed: WorkflowClient) -> None:
    terminal = Terminal(shell.store, "runs", "list", NO_COLOR="1")
    assert terminal.end() == 0
    assert "succeeded" in terminal.shown and "\x1b" not in terminal.shown


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 0), ("n", 1, 1)])
def test_a_bulk_change_asks_and_does_what_is_answered(
    shell: Shell, failed: WorkflowClient, answer: str, code: int, left: int
) -> None:
    terminal = Terminal(shell.store, "dead", "drop", "--all")
    terminal.wait_for(r"Drop 1 dead letter of queue workflow-steps\?")
    terminal.type(f"{answer}\n")
    assert terminal.end() == code
    assert failed.count_runs()[RunState.FAILED] == left


def test_ctrl_c_lets_the_step_end_and_the_run_is_seen_meanwhile(
    shell: Shell, client: WorkflowClient, tmp_path: Path
) -> None:
    given = f"file {tmp_path / 'step'}"
    terminal = Terminal(shell.store, "run", TARGET, "--run-id", "long", "--input", given)
    terminal.wait_for("long: running, step 0")
    terminal.type("\x03")
    (tmp_path / "step.go").touch()
    assert terminal.end() == 0
    assert client.wait("long", timeout=PATIENCE).result == b"released"


def test_ctrl_c_twice_ends_at_once(shell: Shell, client: WorkflowClient, tmp_path: Path) -> None:
    client.submit(run_id="long", input=f"file {tmp_path / 'step'}".encode())
    terminal = Terminal(shell.store, "worker", TARGET)
    wait_until((tmp_path / "step").exists)
    terminal.type("\x03")
    terminal.wait_for("stopping")
    terminal.type("\x03")
    assert terminal.end() == 130


def test_a_watch_goes_on_until_ctrl_c(shell: Shell, failed: WorkflowClient) -> None:
    terminal = Terminal(shell.store, "stats", "--watch", "--interval", "50ms")
    terminal.wait_for(r"(?s)runs failed.*runs failed")
    terminal.type("\x03")
    assert terminal.end() == 0
