"""Ctrl-C and SIGTERM while a command waits: its exit code, no traceback, and the terminal as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from taquba_workflow_sync import Queue, WorkflowClient
from taquba_workflow_sync.cli import entry
from taquba_workflow_sync.cli.exit_codes import Interrupted, Terminated
from tests.cli.conftest import TARGET, Shell
from tests.cli.processes import COMMAND, Terminal, environment, started
from tests.support import PATIENCE

#: What waits, and what it shows on a terminal while it does; the code of Ctrl-C.
WAITS = [
    (("runs", "wait", "later"), "later: pending", 130),
    (("submit", TARGET, "--run-id", "later", "--input", "later", "--wait"), "later: pending", 130),
    (("runs", "tail", "later"), "submitted", 130),
    (("stats", "--watch", "--interval", "50ms"), "runs pending", 0),
]


@pytest.fixture
def later(client: WorkflowClient, work: Callable[[], None]) -> None:
    client.submit(run_id="later", input=b"later")
    work()


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(("command", "shown", "code"), WAITS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_wait_on_a_terminal_ends_and_leaves_it_as_it_was(
    shell: Shell, command: tuple[str, ...], shown: str, code: int, number: int
) -> None:
    terminal = Terminal(shell.store, *command)
    terminal.wait_for(shown)
    if number == signal.SIGINT:
        terminal.type("\x03")
    else:
        terminal.process.send_signal(number)
        code = 143
    assert terminal.end() == code
    assert "Traceback" not in terminal.shown
    assert terminal.shown.rfind("\x1b[?25h") >= terminal.shown.rfind("\x1b[?25l")  # the cursor shows


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("command", [("runs", "tail", "later"), ("stats", "--watch")])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_wait_in_a_pipe_ends_without_a_word(
    shell: Shell, command: tuple[str, ...], number: signal.Signals, code: int
) -> None:
    with started(shell.store, *command) as process:
        assert process.stdout is not None and process.stdout.readline()
        process.send_signal(number)
        assert process.wait(PATIENCE) == (0 if command[0] == "stats" and code == 130 else code)
        assert process.stderr is not None and process.stderr.read().strip() == ""


def test_what_is_ignored_stays_ignored() -> None:
    code = (
        "import signal; from taquba_workflow_sync.cli import entry;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); entry._end_in_order();"
        "print(signal.getsignal(signal.SIGTERM) == signal.SIG_IGN, signal.getsignal(signal.SIGINT).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout == "True told\n"


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, Interrupted), (signal.SIGTERM, Terminated)])
def test_the_first_signal_unwinds_and_the_second_one_ends_it(number: signal.Signals, raised: type) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        entry._end_in_order()
        with pytest.raises(raised):
            os.kill(os.getpid(), number)
        assert [signal.getsignal(each) for each in before] == [signal.SIG_DFL, signal.SIG_DFL]
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@pytest.mark.embedded
def test_ctrl_c_while_a_target_is_imported_is_none_of_its_errors(shell: Shell) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.{})"
    for name, expected in (("SIGINT", 130), ("SIGTERM", 143)):
        directory = shell.store.parent / name
        directory.mkdir()
        (directory / "slow_app.py").write_text(code.format(name))
        done = subprocess.run(
            [*COMMAND, "submit", "slow_app:app"], cwd=directory, env=environment(shell.store), capture_output=True,
            text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr.strip()) == (expected, "")


def test_a_doctor_of_a_store_that_another_holds_alone_is_75(shell: Shell) -> None:
    with Queue.open(shell.store, exclusive=True):
        said = shell("doctor", code=75)
    assert "only handle" in said.stderr and said.stdout == ""
