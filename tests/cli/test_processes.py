"""What needs a process: signals, readiness, several processes, pipes, what an import brings."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, RunSpec, RunState, WorkflowClient
from taquba_workflow_sync.cli import entry
from tests.cli.conftest import TARGET, Shell
from tests.cli.processes import COMMAND, NotifySocket, environment, started
from tests.support import PATIENCE, wait_until


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[NotifySocket]:
    listener = NotifySocket(tmp_path)
    yield listener
    listener.close()


def children_of(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return sorted(found)


def test_a_signal_lets_the_step_that_runs_end(
    shell: Shell, client: WorkflowClient, tmp_path: Path, listener: NotifySocket
) -> None:
    client.submit(run_id="long", input=f"file {tmp_path / 'step'}".encode())
    client.submit(run_id="next", run_at=None, priority=5000)
    with started(shell.store, "worker", TARGET, "--threads", "1", NOTIFY_SOCKET=listener.path) as worker:
        assert listener.hear() == "READY=1"
        wait_until((tmp_path / "step").exists)
        worker.send_signal(signal.SIGTERM)
        assert listener.hear() == "STOPPING=1"
        (tmp_path / "step.go").touch()
        assert worker.wait(PATIENCE) == 0
        assert worker.communicate()[0] == ""
    assert client.wait("long", timeout=PATIENCE).result == b"released"
    status = client.status("next")
    assert status is not None and status.state is RunState.PENDING


@pytest.mark.parametrize(
    ("word", "others", "code", "said"),
    [
        ("hold", b"", 0, "mine has not ended: it is pending at step 1"),
        ("file", b"", 0, "mine succeeded at step 0"),
        ("hold", b"dead", 3, "mine has not ended: it is pending at step 1"),
    ],
)
def test_a_run_that_was_told_to_stop_exits_by_what_could_end(
    shell: Shell, client: WorkflowClient, tmp_path: Path, listener: NotifySocket, word: str, others: bytes, code: int,
    said: str,
) -> None:  # fmt: skip
    if others:
        client.submit(run_id="other", input=others, priority=0)
    arguments = ("run", TARGET, "--threads", "1", "--run-id", "mine", "--input", f"{word} {tmp_path / 'step'}")
    with started(shell.store, *arguments, NOTIFY_SOCKET=listener.path) as process:
        assert listener.hear() == "READY=1"
        wait_until((tmp_path / "step").exists)
        process.send_signal(signal.SIGTERM)
        assert listener.hear() == "STOPPING=1"
        (tmp_path / "step.go").touch()
        assert process.wait(PATIENCE) == code
        assert process.stdout is not None and said in process.stdout.read()


def test_a_run_that_another_process_works_on_is_75_and_says_so(
    shell: Shell, client: WorkflowClient, tmp_path: Path
) -> None:
    given = f"file {tmp_path / 'step'}"
    client.submit(run_id="mine", input=given.encode())
    with started(shell.store, "worker", TARGET):
        wait_until((tmp_path / "step").exists)
        said = shell("run", TARGET, "--run-id", "mine", "--input", given, code=75).stdout
        (tmp_path / "step.go").touch()
    assert "mine has not ended: another process runs it" in said


def test_a_second_signal_at_several_processes_ends_them_all_at_once(
    shell: Shell, client: WorkflowClient, tmp_path: Path, listener: NotifySocket
) -> None:
    client.submit(run_id="stuck", input=f"file {tmp_path / 'step'}".encode())
    with started(shell.store, "worker", TARGET, "--processes", "2", NOTIFY_SOCKET=listener.path) as supervisor:
        assert listener.hear() == "READY=1"
        children = children_of(supervisor.pid)
        wait_until((tmp_path / "step").exists)
        supervisor.send_signal(signal.SIGTERM)
        assert listener.hear() == "STOPPING=1"
        supervisor.send_signal(signal.SIGINT)
        assert supervisor.wait(PATIENCE) == 130
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def test_a_second_signal_ends_at_once_and_the_step_runs_again(
    shell: Shell, client: WorkflowClient, tmp_path: Path
) -> None:
    client.submit(run_id="long", input=f"file {tmp_path / 'step'}".encode())
    with started(shell.store, "worker", TARGET, "--until-idle") as worker:
        wait_until((tmp_path / "step").exists)
        worker.send_signal(signal.SIGINT)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 130
    found = {each["what"]: each for each in shell.json("doctor", code=3)}
    assert "1 have left claims" in found["dead owners"]["says"] and "worker" in found["dead owners"]["todo"]
    (tmp_path / "step.go").touch()
    shell("worker", TARGET, "--until-idle")
    assert client.wait("long", timeout=PATIENCE).result == b"released"


def test_what_still_runs_when_the_grace_is_over_is_cut_off(
    shell: Shell, client: WorkflowClient, tmp_path: Path
) -> None:
    client.submit(run_id="stuck", input=f"file {tmp_path / 'step'}".encode())
    with started(shell.store, "worker", TARGET, "--grace", "50ms") as worker:
        wait_until((tmp_path / "step").exists)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 0
        assert "grace is over" in worker.communicate()[1]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "tgkill"), reason="the C library cannot signal one thread")
def test_a_second_signal_ends_at_once_whichever_thread_the_kernel_gives_it_to(
    shell: Shell, client: WorkflowClient, tmp_path: Path, listener: NotifySocket
) -> None:
    """Its handler runs in the main thread, which must not be in a wait that only the step's end ends."""
    client.submit(run_id="stuck", input=f"file {tmp_path / 'step'}".encode())
    with started(shell.store, "worker", TARGET, NOTIFY_SOCKET=listener.path) as worker:
        assert listener.hear() == "READY=1"
        wait_until((tmp_path / "step").exists)
        worker.send_signal(signal.SIGTERM)
        assert listener.hear() == "STOPPING=1"
        others = [int(each.name) for each in Path(f"/proc/{worker.pid}/task").iterdir() if int(each.name) != worker.pid]
        # Not before the main thread sleeps.
        wait_until(lambda: Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S")
        assert ctypes.CDLL(None).tgkill(worker.pid, others[0], signal.SIGTERM) == 0
        assert worker.wait(PATIENCE) == 130


def test_several_processes_are_begun_again_and_end_together(
    shell: Shell, client: WorkflowClient, listener: NotifySocket
) -> None:
    with started(shell.store, "worker", TARGET, "--processes", "2", NOTIFY_SOCKET=listener.path) as supervisor:
        assert listener.hear() == "READY=1"
        first = children_of(supervisor.pid)
        assert len(first) == 2
        # A step kills one of them with itself; the other one, or its successor, goes on with the run.
        client.submit(run_id="kills", input=b"kill")
        assert client.wait("kills", timeout=PATIENCE).result == b"alive"
        wait_until(
            lambda: (
                len(set(children_of(supervisor.pid)) - set(first))
                == 1
                == len(set(first) & set(children_of(supervisor.pid)))
            )
        )
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(PATIENCE) == 0
        assert "was killed by SIGKILL" in supervisor.communicate()[1]
    assert not any(Path(f"/proc/{pid}").exists() for pid in first)


@pytest.mark.parametrize("code", [0, 3])
def test_a_step_that_ends_its_process_ends_no_worker(shell: Shell, client: WorkflowClient, code: int) -> None:
    client.submit(run_id="ends", input=f"exit {code}".encode())
    with started(shell.store, "worker", TARGET, "--until-idle", "--processes", "2", "--json") as supervisor:
        said, noted = supervisor.communicate(timeout=PATIENCE)
    assert supervisor.returncode == 0 and f"has died with exit code {code}; another one begins" in noted
    assert client.wait("ends", timeout=PATIENCE).result == b"alive"
    assert json.loads(said)["succeeded"] == 1


@pytest.mark.parametrize("more", [("--processes", "2"), ("--reload",)])
def test_bounds_hold_for_all_processes_together(
    shell: Shell, client: WorkflowClient, tmp_path: Path, more: tuple[str, ...]
) -> None:
    client.submit_many([RunSpec() for _ in range(8)])
    with started(shell.store, "worker", TARGET, "--max-runs", "8", *more, cwd=tmp_path) as supervisor:
        assert supervisor.wait(PATIENCE) == 0
    assert client.count_runs()[RunState.SUCCEEDED] == 8
    with started(shell.store, "worker", TARGET, "--max-runtime", "1ms", *more, cwd=tmp_path) as supervisor:
        assert supervisor.wait(PATIENCE) == 0


def test_processes_that_cannot_begin_end_all_with_their_code(shell: Shell) -> None:
    result = subprocess.run(
        [*COMMAND, "worker", "tests.cli.apps:broken()", "--processes", "2"],
        env=environment(shell.store), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert result.returncode == 1 and "made so" in result.stderr


@pytest.mark.soak
def test_the_counts_of_several_processes_are_added_up(shell: Shell, client: WorkflowClient) -> None:
    for _ in range(20):
        client.submit(input=b"two")
    client.submit(input=b"print")
    with started(shell.store, "worker", TARGET, "--until-idle", "--processes", "2", "--json") as supervisor:
        said, _ = supervisor.communicate(timeout=PATIENCE)
    *printed, answer = said.splitlines()
    counts = json.loads(answer)
    assert printed == ["a step says this"]
    assert (counts["succeeded"], counts["steps"], supervisor.returncode) == (21, 41, 0)


@pytest.mark.soak
def test_a_process_ends_with_its_supervisor(shell: Shell, client: WorkflowClient, listener: NotifySocket) -> None:
    with started(shell.store, "worker", TARGET, "--processes", "2", NOTIFY_SOCKET=listener.path) as supervisor:
        assert listener.hear() == "READY=1"
        children = children_of(supervisor.pid)
        supervisor.kill()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


@pytest.mark.soak
def test_a_changed_file_has_the_worker_begin_anew(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from taquba_workflow_sync import Succeed, WorkflowRuntime\n"
        "def make(queue): return WorkflowRuntime(queue, lambda step: Succeed(b'old'))\n"
    )
    store = tmp_path / "store"
    Queue.open(store).close()
    worker = subprocess.Popen(
        [*COMMAND, "worker", "app:make()", "--reload"], cwd=tmp_path, env=environment(store), stderr=subprocess.DEVNULL
    )
    try:
        with Queue.open(store) as queue:
            client = WorkflowClient(queue)
            assert client.submit().result(timeout=PATIENCE) == b"old"
            (tmp_path / "app.py").write_text((tmp_path / "app.py").read_text().replace("old", "newer"))
            wait_until(lambda: client.submit().result(timeout=PATIENCE) == b"newer")
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 0


@pytest.mark.parametrize("many", [0, 500])
def test_a_reader_that_goes_away_is_no_error(shell: Shell, client: WorkflowClient, many: int) -> None:
    client.submit_many([RunSpec() for _ in range(many)])
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [*COMMAND, "runs", "list", "--all", "--json"],
        env=environment(shell.store), stdout=write, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    os.close(write)
    assert (result.returncode, result.stderr) == (0, "")


def test_looking_imports_no_rich_no_codec_and_no_http(shell: Shell, client: WorkflowClient) -> None:
    client.submit()
    code = (
        "import sys; from taquba_workflow_sync.cli.main import cli;"
        "cli.main(['runs', 'list', '--json'], standalone_mode=False);"
        "print('\\n'.join(name.partition('.')[0] for name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(shell.store), capture_output=True, text=True, check=True,
        timeout=PATIENCE,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == 1
    assert not {"rich", "msgspec", "requests", "cronsim"} & set(done.stderr.split())
    if importlib.util.find_spec("django") is None:  # which diskcache imports where it is installed
        assert "asyncio" not in done.stderr.split()


def test_the_package_knows_nothing_of_the_command_line() -> None:
    code = "import sys, taquba_workflow_sync; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert not {"click", "taquba_workflow_sync.cli", "taquba_workflow_sync.flow"} & set(done.stdout.split())


def test_without_click_it_says_which_extra_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 1
    assert "taquba-workflow-sync[cli]" in capsys.readouterr().err


def test_the_shell_completes_commands(shell: Shell) -> None:
    done = subprocess.run(
        COMMAND,
        env=environment(
            shell.store, _TAQUBA_WORKFLOW_COMPLETE="bash_complete", COMP_WORDS="taquba-workflow runs l", COMP_CWORD="2"
        ),
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.stdout == "plain,list\n", done


@pytest.mark.soak
def test_two_workers_at_once_share_the_steps(shell: Shell, client: WorkflowClient) -> None:
    client.submit_many([RunSpec(input=b"two") for _ in range(200)])
    arguments = ("worker", TARGET, "--until-idle", "--threads", "1", "--json")
    with started(shell.store, *arguments) as one, started(shell.store, *arguments) as other:
        said = [json.loads(each.communicate(timeout=PATIENCE)[0]) for each in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0]
    assert sum(each["succeeded"] for each in said) == 200 and sum(each["steps"] for each in said) == 400
