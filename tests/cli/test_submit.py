"""``submit``, ``run`` and ``worker --until-idle``, in this process."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from taquba_workflow_sync import Queue, RunHandle, RunOutcome, RunState, StorageError, WorkflowClient
from taquba_workflow_sync.cli import run
from tests.cli import apps
from tests.cli.conftest import TARGET, Shell
from tests.support import PATIENCE

FLOWS = "tests.cli.flows"
ORDER = '{"id": 7, "email": "a@b.c"}'


def test_a_submit_prints_the_id_and_a_repeat_is_the_same_run(shell: Shell) -> None:
    assert shell("submit", TARGET, "--run-id", "one", "--input", "x").stdout == "one\n"
    handle = shell.one("submit", TARGET, "--run-id", "one", "--input", "x")
    assert handle.keys() == {"run_id", "first_job_id", "newly_submitted"} and handle["newly_submitted"] is False
    shell("submit", TARGET, "--run-id", "one", "--input", "y", code=1)
    assert re.fullmatch(r"[0-9A-Z]{26}\n", shell("submit", TARGET).stdout)


def test_a_submit_to_a_queue_needs_no_target_and_makes_the_store(shell: Shell) -> None:
    shell("submit", "--queue", "mails", "--run-id", "m", "--header", "to=a@b", "--priority", "5", "--input", "-",
          input=b"\xff")  # fmt: skip
    with Queue.open(shell.store) as queue:
        status = WorkflowClient(queue, queue_name="mails").status("m")
        assert status is not None and status.headers == {"to": "a@b"}
        job = queue.get_job(status.job_id)
        assert job is not None and (job.payload, job.priority) == (b"\xff", 5)
    shell("submit", code=2)


def test_waiting_prints_the_result_or_says_on_stderr_how_it_failed(shell: Shell) -> None:
    for run_id, word in (("good", "x"), ("bad", "dead"), ("late", "later")):
        shell("submit", TARGET, "--run-id", run_id, "--input", word)
    shell("worker", TARGET, "--until-idle", code=3)

    assert shell("submit", TARGET, "--run-id", "good", "--input", "x", "--wait").stdout == "X\n"
    failed = shell("submit", TARGET, "--run-id", "bad", "--input", "dead", "--wait", code=3)
    assert failed.stdout == "" and "no such account" in failed.stderr
    shell("submit", TARGET, "--run-id", "late", "--input", "later", "--wait", "--timeout", "10ms", code=75)


def test_targets_that_are_wrong_say_what_is_wrong(shell: Shell) -> None:
    assert "MODULE:NAME" in shell("worker", "app", code=2).stderr
    assert "no module 'nowhere'" in shell("worker", "nowhere:app", code=1).stderr
    assert "has no 'nothing'" in shell("worker", "tests.cli.apps:nothing", code=1).stderr
    assert "tests.cli.apps:runtime()" in shell("worker", "tests.cli.apps:runtime", code=1).stderr
    broken = shell("worker", "tests.cli.apps:broken()", code=1).stderr
    assert "Traceback" in broken and "made so" in broken
    shell.environment = {}
    assert "TAQUBA_STORE" in shell("worker", TARGET, code=2).stderr


@pytest.mark.parametrize("text", ["", ":", "app:", ":app", ".:app", "..app:x", "a..b:x", "a\0b:x", "app:x\0"])
def test_what_names_no_target_is_2(shell: Shell, text: str) -> None:
    assert "MODULE:NAME" in shell("submit", text, code=2).stderr


@pytest.mark.parametrize(
    "command",
    ["worker {}", "worker {} --until-idle", "run {}", "submit {}", "submit {} --wait", "runs signal x go --target {}",
     "schedules add x --every 1h --target {}"],
)  # fmt: skip
@pytest.mark.parametrize("raised", ["SystemExit(0)", "SystemExit(3)", "KeyboardInterrupt", "GeneratorExit"])
def test_a_target_that_ends_the_process_when_it_is_imported_cannot_be_imported(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, raised: str
) -> None:
    (tmp_path / "ends_at_once.py").write_text(f"raise {raised}\n")
    monkeypatch.syspath_prepend(tmp_path)
    said = shell(*command.format("ends_at_once:app").split(), code=1)
    assert f"cannot import 'ends_at_once:app': {raised.partition('(')[0]}" in said.stderr
    assert f"raise {raised}" in said.stderr and said.stdout == ""  # where it was raised


@pytest.mark.parametrize("name", ["ends()", "interrupts()", "odd()", "lazy"])
def test_so_it_is_with_a_factory_and_with_an_attribute(shell: Shell, name: str) -> None:
    for command in ("worker", "submit"):
        assert "cannot import" in shell(command, f"tests.cli.apps:{name}", code=1).stderr


def test_a_target_with_a_store_of_its_own_uses_that(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    monkeypatch.setenv("OWN_STORE", str(own))
    shell("submit", "tests.cli.apps:own_store()", "--run-id", "here")
    assert shell.one("runs", "show", "here", "--store", str(own))["state"] == "pending"
    assert not shell.has_store
    other = shell("submit", "tests.cli.apps:own_store()", "--store", str(shell.store), code=2)
    assert "store of its own" in other.stderr
    shell("submit", "tests.cli.apps:own_store()", "--queue", "another", code=2)


def test_until_idle_ends_with_a_line_of_counts(shell: Shell) -> None:
    for word in ("x", "two", "fail", "later"):
        shell("submit", TARGET, "--input", word)

    assert shell("worker", TARGET, "--until-idle").stdout == (
        "succeeded=2 failed=1 cancelled=0 steps=5 scheduled=1 elsewhere=0 dead=0\n"
    )
    assert shell.one("worker", TARGET, "--until-idle")["steps"] == 0


def test_dead_letters_of_this_call_are_3_older_ones_with_strict_only(shell: Shell) -> None:
    shell("submit", TARGET, "--input", "dead")
    shell("worker", TARGET, "--until-idle", code=3)
    shell("worker", TARGET, "--until-idle")
    shell("worker", TARGET, "--until-idle", "--strict", code=3)


def test_a_worker_ends_by_its_time_or_its_runs(shell: Shell) -> None:
    for number in range(3):
        shell("submit", TARGET, "--run-id", f"run-{number}")
    assert shell("worker", TARGET, "--max-runs", "3", "--threads", "1").stdout == ""
    assert len(shell.json("runs", "list", "--state", "succeeded")) == 3
    shell("worker", TARGET, "--max-runtime", "50ms")


def test_run_submits_works_and_exits_by_that_run(shell: Shell) -> None:
    first = shell("run", TARGET, "--run-id", "nightly-{date}", "--input", "two").stdout
    name = f"nightly-{datetime.now():%Y-%m-%d}"
    assert re.fullmatch(rf"{name} succeeded at step 1 \(2 steps in [0-9.]+ s\)\n", first)
    assert shell.one("run", TARGET, "--run-id", name, "--input", "two")["status"] == "succeeded"  # not again
    assert [each["run_id"] for each in shell.json("runs", "list")] == [name]

    assert "no such account" in shell("run", TARGET, "--run-id", "bad", "--input", "dead", code=3).stdout
    assert "no such account" in shell("run", TARGET, "--run-id", "bad", "--input", "dead", code=3).stdout
    assert "{hour}" in shell("run", TARGET, "--run-id", "x-{second}", code=2).stderr


def test_run_exits_by_its_run_also_if_that_shows_no_longer(shell: Shell) -> None:
    target = "tests.cli.apps:forgetful()"
    assert "one succeeded at step 1 (2 steps" in shell("run", target, "--run-id", "one", "--input", "two").stdout
    assert shell("runs", "list").stdout == ""
    assert shell.one("run", target, "--run-id", "two", "--input", "x")["status"] == "succeeded"
    assert "bad failed" in shell("run", target, "--run-id", "bad", "--input", "fail", code=3).stdout


def test_run_remembers_how_its_run_ended_while_there_is_other_work(
    shell: Shell, client: WorkflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.submit(run_id="purges", input=f"purge {shell.store} mine".encode())
    seen, found = threading.Event(), run._outcome

    def outcome(handle: RunHandle) -> RunOutcome | None:
        ended = found(handle)
        if ended is not None:
            seen.set()
        return ended

    monkeypatch.setattr(run, "_LOOK", 0.0)
    monkeypatch.setattr(run, "_outcome", outcome)
    monkeypatch.setattr(apps, "MAY_PURGE", seen)
    assert "mine succeeded" in shell("run", TARGET, "--run-id", "mine").stdout
    assert client.status("mine") is None


def test_a_look_at_the_run_that_fails_ends_no_work(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, failed = run._outcome, threading.Event()

    def outcome(handle: RunHandle) -> RunOutcome | None:
        if not failed.is_set():
            failed.set()
            (tmp_path / "step.go").touch()  # not before does the run end
            raise StorageError("busy for now")
        return found(handle)

    monkeypatch.setattr(run, "_LOOK", 0.0)
    monkeypatch.setattr(run, "_outcome", outcome)
    assert "mine succeeded" in shell("run", TARGET, "--run-id", "mine", "--input", f"file {tmp_path / 'step'}").stdout
    assert failed.is_set()


def test_a_quiet_run_logs_errors_only(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[str] = []
    monkeypatch.setattr(run, "log_to_stderr", lambda level, form, *, default: levels.append(default))
    shell("run", TARGET, "--quiet")
    shell("run", TARGET)
    assert levels == ["error", "warning"]


def test_run_of_a_run_that_has_ended_and_is_gone_unseen_is_4(
    shell: Shell, client: WorkflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.submit(run_id="purges", input=f"purge {shell.store} mine".encode())
    monkeypatch.setattr(run, "_LOOK", PATIENCE * 2)
    may_purge = threading.Event()
    may_purge.set()
    monkeypatch.setattr(apps, "MAY_PURGE", may_purge)
    assert "not stored any more" in shell("run", TARGET, "--run-id", "mine", code=4).stderr


def test_dead_letters_of_this_run_are_3_whatever_became_of_its_own_run(shell: Shell, client: WorkflowClient) -> None:
    client.submit(run_id="other", input=b"dead")
    said = shell("run", TARGET, "--run-id", "mine", "--quiet", code=3).stdout
    assert "mine succeeded" in said and "1 dead letters" in said
    shell("run", TARGET, "--run-id", "mine", "--quiet")


def test_run_is_silent_with_quiet_unless_a_human_is_needed(shell: Shell) -> None:
    good = shell("run", TARGET, "--run-id", "good", "--quiet")
    assert (good.stdout, good.stderr) == ("", "")
    assert "bad failed" in shell("run", TARGET, "--run-id", "bad", "--input", "dead", "--quiet", code=3).stdout
    assert "1 dead letters" in shell("run", TARGET, "--run-id", "good", "--quiet", "--strict", code=3).stdout


def test_run_of_a_run_that_goes_on_later_is_75(shell: Shell) -> None:
    late = shell("run", TARGET, "--run-id", "late", "--input", "later", code=75)
    assert "has not ended: it waits for time" in late.stdout
    cut = shell("run", TARGET, "--run-id", "cut", "--input", "two", "--max-runtime", "0", code=75)
    assert "cut has not ended: it is pending at step" in cut.stdout
    asks = shell.one("run", TARGET, "--run-id", "asks", "--input", "ask", code=75)
    assert (asks["state"], asks["waiting_for"]) == ("pending", "signal:answer")


@pytest.mark.parametrize("text", ["1e999", "NaN", '"\\ud800"'])
def test_a_signal_that_a_flow_cannot_be_sent_is_1_and_names_why(shell: Shell, text: str) -> None:
    pytest.importorskip("msgspec")
    shell("submit", f"{FLOWS}:approvals", "--run-id", "a")
    arguments = ("runs", "signal", "a", "answer", "--target", f"{FLOWS}:approvals", "--payload", text)
    assert "the payload cannot be sent to flow 'approvals': answer: " in shell(*arguments, code=1).stderr
    assert shell.one("runs", "show", "a", "--queue", "approvals")["signals"] == []


def test_input_that_is_too_deep_is_no_json(shell: Shell) -> None:
    pytest.importorskip("msgspec")
    assert "JSON" in shell("submit", f"{FLOWS}:orders", "--input", "[" * 20_000, code=2).stderr


@pytest.mark.parametrize("option", ["--deadline", "--expires-after", "--step-timeout", "--run-at"])
@pytest.mark.parametrize("value", ["9" * 400 + "w", "99999999w", "1e9s", "nan", "inf", "-1s", "", "\u0663s"])
def test_a_time_that_nothing_can_take_is_2(shell: Shell, option: str, value: str) -> None:
    said = shell("submit", TARGET, f"{option}={value}", code=2).stderr
    assert option in said and len(said) < 500
    assert not shell.has_store


def test_a_century_is_the_longest_time(shell: Shell) -> None:
    shell("submit", TARGET, "--expires-after", "36600d")
    assert "of a century at most" in shell("submit", TARGET, "--expires-after", "36601d", code=2).stderr


def test_a_message_quotes_no_more_than_can_be_read_and_moves_no_cursor(shell: Shell, client: WorkflowClient) -> None:
    said = shell("runs", "list", "--store", "\x1b[31m" + "x" * 5000, code=4).stderr
    assert len(said) < 2100 and said.endswith("...\n") and "\x1b" not in said and "\\x1b[31m" in said


def test_a_flow_takes_json_through_its_codec(shell: Shell) -> None:
    pytest.importorskip("msgspec")
    fits = shell("submit", f"{FLOWS}:orders", "--run-id", "o", "--input", ORDER)
    assert fits.stdout == "o\n"
    assert (
        "order.id: expected int"
        in shell("submit", f"{FLOWS}:orders", "--input", '{"id": "7", "email": "a"}', code=1).stderr
    )
    assert "JSON" in shell("submit", f"{FLOWS}:orders", "--input", "text", code=2).stderr
    assert "order" in shell("submit", f"{FLOWS}:orders", code=1).stderr
    assert len(shell.json("runs", "list", "--queue", "orders")) == 1
    shell("run", f"{FLOWS}:orders", "--run-id", "o", "--input", ORDER)
    assert shell("runs", "wait", "o", "--queue", "orders").stdout == '"sent to a@b.c"\n'
    assert shell("runs", "show", "o", "--queue", "orders").stdout.count("1 ship") == 1  # the step by its name


def test_a_list_of_flows_is_served_together_and_asked_for_one_by_its_queue(shell: Shell) -> None:
    pytest.importorskip("msgspec")
    assert "orders, approvals" in shell("submit", f"{FLOWS}:both", code=2).stderr
    shell("submit", f"{FLOWS}:both", "--queue", "approvals", "--run-id", "a")
    shell("submit", f"{FLOWS}:both", "--queue", "orders", "--input", ORDER)
    assert shell.one("worker", f"{FLOWS}:both", "--until-idle", "--queue", "approvals")["steps"] == 1
    shell("worker", f"{FLOWS}:both", "--until-idle", "--queue", "nothing", code=2)
    assert shell.one("worker", f"{FLOWS}:both", "--until-idle")["steps"] == 2
    assert (
        "JSON"
        in shell("runs", "signal", "a", "answer", "--target", f"{FLOWS}:approvals", "--payload", "x", code=2).stderr
    )
    shell("runs", "signal", "a", "answer", "--target", f"{FLOWS}:approvals", "--payload", " 41 ")
    shell("worker", f"{FLOWS}:both", "--until-idle")
    assert shell.one("runs", "wait", "a", "--queue", "approvals")["result"] == "41"


def test_a_schedule_of_a_flow_takes_its_input_through_the_codec(shell: Shell) -> None:
    pytest.importorskip("msgspec")
    add = ("schedules", "add", "often", "--every", "1h", "--target", f"{FLOWS}:orders")
    shell(*add, "--input", "{}", code=1)
    shell(*add, "--input", ORDER)
    shell("schedules", "trigger", "often", "--queue", "orders")
    assert shell.one("worker", f"{FLOWS}:orders", "--until-idle")["succeeded"] == 1


def test_two_at_once_both_work(shell: Shell, client: WorkflowClient, work: Callable[[], None]) -> None:
    client.submit(run_id="there")
    with Queue.open(shell.store) as other:
        other.list_queues()  # another handle is open all the while
        shell("worker", TARGET, "--until-idle")
    status = client.status("there")
    assert status is not None and status.state is RunState.SUCCEEDED


def test_a_store_that_another_holds_alone_is_75(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_STORE", str(shell.store))
    with Queue.open(shell.store, exclusive=True):
        shell("worker", "tests.cli.apps:own_store()", "--until-idle", code=75)
        assert "only handle" in shell("runs", "list", code=75).stderr
        shell("worker", TARGET, "--until-idle", code=75)
