"""``runs``: looked at, waited for, changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taquba_workflow_sync import RunEvent, RunSpec, RunState, RunStatus, WorkflowClient
from taquba_workflow_sync.cli import queues
from tests.cli.conftest import Shell

Work = Callable[[], None]


def names(of: type) -> set[str]:
    return {field.name for field in dataclasses.fields(of)}


def test_a_list_has_an_object_a_line_with_the_fields_of_the_record(
    shell: Shell, client: WorkflowClient, work: Work
) -> None:
    client.submit(run_id="good", input=b"x", headers={"tenant": "north"})
    client.submit(run_id="bad", input=b"dead")
    work()

    good, bad = shell.json("runs", "list")
    assert names(RunStatus) == good.keys() == bad.keys()
    assert (good["run_id"], good["state"], good["headers"]) == ("good", "succeeded", {"tenant": "north"})
    assert datetime.fromisoformat(good["finished_at"]).tzinfo is not None
    assert bad["error"] == "no such account"


def test_filters_are_those_of_list_runs(shell: Shell, client: WorkflowClient, work: Work) -> None:
    for run_id in ("load-a", "load-b", "send-a"):
        client.submit(run_id=run_id, input=b"dead of cold" if run_id == "load-b" else b"", headers={"of": run_id[-1]})
    work()

    def found(*arguments: str) -> list[str]:
        return [each["run_id"] for each in shell.json("runs", "list", *arguments)]

    assert found("--prefix", "load-") == ["load-a", "load-b"]
    assert found("--header", "of=a") == ["load-a", "send-a"]
    assert found("--state", "failed") == found("--failed-with", "of cold") == ["load-b"]
    assert found("--newest-first", "--limit", "2") == ["send-a", "load-b"]
    assert found("--since", "1h") == ["load-a", "load-b", "send-a"] and found("--until", "1h") == []
    assert found("--since", "2099-01-01") == []
    assert found("--prefix", "load-", "--state", "succeeded") == ["load-a"]


def test_a_list_that_is_cut_says_so(shell: Shell, client: WorkflowClient) -> None:
    client.submit_many([RunSpec(run_id=f"run-{number}") for number in range(102)])
    cut = shell("runs", "list", "--json")
    assert len(cut.stdout.splitlines()) == 100 and "--all" in cut.stderr
    whole = shell("runs", "list", "--json", "--all")
    assert len(whole.stdout.splitlines()) == 102 and whole.stderr == ""


def test_a_filter_that_none_can_have_is_2(shell: Shell, client: WorkflowClient) -> None:
    shell("runs", "list", "--prefix", "not a name", code=2)
    shell("runs", "list", "--failed-with", "", code=2)


def test_a_list_into_a_pipe_is_aligned_and_has_no_colour(shell: Shell, client: WorkflowClient) -> None:
    client.submit(run_id="plain")

    head, line = shell("runs", "list").stdout.splitlines()
    assert head.split()[:2] == ["RUN", "STATE"] and line.split()[:2] == ["plain", "pending"]
    assert head.index("STATE") == line.index("pending") and "\x1b" not in head + line


def test_an_empty_list_answers_nothing_and_says_so_beside(shell: Shell, client: WorkflowClient) -> None:
    result = shell("runs", "list")
    assert (result.stdout, result.stderr) == ("", "no runs\n")
    assert shell.json("runs", "list") == []


@pytest.mark.parametrize(
    "command", ["runs list", "runs show x", "stats", "queues", "health", "doctor", "check", "dead list", "limits list"]
)
def test_what_looks_makes_no_store(shell: Shell, command: str) -> None:
    result = shell(*command.split(), code=4)
    assert "there is no store at" in result.stderr and result.stdout == ""
    assert not shell.has_store


def test_a_store_is_named_before_or_after_the_command_or_not_at_all(shell: Shell, client: WorkflowClient) -> None:
    other = f"{shell.store}_2"
    assert other.rpartition("/")[2] in shell("--store", other, "runs", "list", code=4).stderr
    assert other.rpartition("/")[2] in shell("runs", "list", "--store", other, code=4).stderr
    shell.environment = {}
    assert "TAQUBA_STORE" in shell("runs", "list", code=2).stderr


def test_a_run_that_is_not_there_is_4_and_a_name_that_none_can_have_2(shell: Shell, client: WorkflowClient) -> None:
    for command in ("show", "wait", "tail", "cancel", "retry", "wake"):
        shell("runs", command, "nobody", code=4)
    shell("runs", "signal", "nobody", "go", code=4)
    shell("runs", "show", "no such name", code=2)


def test_the_page_of_a_failed_run_says_all_that_is_known(shell: Shell, client: WorkflowClient, work: Work) -> None:
    client.submit(run_id="bad", input=b"dead \x1b[31mred", headers={"tenant": "north"})
    work()

    page = shell("runs", "show", "bad").stdout
    assert page.startswith("bad  failed")
    for text in ("attempts     1 of 3", "tenant: north", "attempt 1 ended dead", "runs retry bad"):
        assert text in page
    assert "\x1b" not in page and "\\x1b[31mred" in page  # what is stored does not reach the terminal as an order


def test_the_page_as_json_has_the_record_and_what_belongs_to_it(
    shell: Shell, client: WorkflowClient, work: Work
) -> None:
    client.submit(run_id="good", input=b"\xff\x00")
    page = shell.one("runs", "show", "good")
    assert page.keys() >= names(RunStatus) | {"payload", "history", "next", "worker", "queue", "signals", "result"}
    assert page["payload"] == {"base64": "/wA="}
    work()
    page = shell.one("runs", "show", "good")
    assert page["history"][0].keys() == names(RunEvent)
    assert [event["kind"] for event in page["history"]] == ["submitted", "started", "ended", "terminated"]


@pytest.mark.parametrize(
    ("payload", "shown"),
    [(b'{"a":[1]}', '"a": ['), (b"plain words", "  plain words"), (b"\x00\xfe", "00 fe"), (b"", "(empty)")],
)
def test_a_payload_shows_as_json_text_or_bytes(
    shell: Shell, client: WorkflowClient, payload: bytes, shown: str
) -> None:
    client.submit(run_id="one", input=payload)
    assert shown in shell("runs", "show", "one").stdout


def test_a_long_payload_is_cut_unless_it_is_wanted_in_full(shell: Shell, client: WorkflowClient) -> None:
    client.submit(run_id="long", input=b"x" * 5000 + b"fin")
    assert "xfin" not in shell("runs", "show", "long").stdout
    assert "xfin" in shell("runs", "show", "long", "--full").stdout


def test_a_waiting_run_says_for_what_and_how_it_goes_on(shell: Shell, client: WorkflowClient, work: Work) -> None:
    client.submit(run_id="asks", input=b"ask")
    client.submit(run_id="sleeps", input=b"later")
    work()

    page = shell("runs", "show", "asks").stdout
    assert "signal:answer" in page and "runs signal asks answer" in page
    assert "runs wake sleeps" in shell("runs", "show", "sleeps").stdout
    assert shell("runs", "signal", "asks", "answer", "--payload", "yes").stdout == "delivered\n"
    shell("runs", "wake", "sleeps")
    shell("runs", "wake", "asks", code=1)
    work()
    assert shell("runs", "wait", "asks").stdout == "yes\n"
    assert client.status("sleeps").state is RunState.SUCCEEDED  # type: ignore[union-attr]  # it is there


def test_a_signal_is_read_from_stdin_or_a_file_and_known_by_its_id(
    shell: Shell, client: WorkflowClient, work: Work, tmp_path: Path
) -> None:
    client.submit(run_id="asks", input=b"ask")
    file = tmp_path / "payload"
    file.write_bytes(b"from a file")
    assert shell("runs", "signal", "asks", "answer", "--payload", f"@{file}", "--signal-id", "1").stdout == "buffered\n"
    repeat = shell("runs", "signal", "asks", "answer", "--payload", "-", "--signal-id", "1", input=b"stdin")
    assert repeat.stdout == "duplicate\n"
    shell("runs", "signal", "asks", "answer", "--payload", "@/nowhere", code=1)
    work()
    assert shell.one("runs", "wait", "asks")["result"] == "from a file"


def test_waiting_exits_by_the_run(shell: Shell, client: WorkflowClient, work: Work) -> None:
    client.submit(run_id="good", input=b"x")
    client.submit(run_id="bad", input=b"fail out of stock")
    client.submit(run_id="gone", input=b"x")
    client.cancel("gone", reason="not wanted")
    assert "not ended" in shell("runs", "wait", "good", "--timeout", "10ms", code=75).stderr
    work()

    assert shell("runs", "wait", "good").stdout == "X\n"
    failed = shell("runs", "wait", "bad", code=3)
    assert failed.stdout == "" and "out of stock" in failed.stderr
    assert "not wanted" in shell("runs", "wait", "gone", code=3).stderr
    assert shell.one("runs", "wait", "bad", code=3)["status"] == "failed"


def test_a_tail_tells_the_events_of_a_run_and_ends_with_it(shell: Shell, client: WorkflowClient, work: Work) -> None:
    client.submit(run_id="good", input=b"two")
    work()

    events = shell.json("runs", "tail", "good")
    assert [event["kind"] for event in events].count("started") == 2 and events[-1]["kind"] == "terminated"
    assert "terminated succeeded" in shell("runs", "tail", "good").stdout.splitlines()[-1]


@pytest.mark.parametrize(("word", "code"), [("x", 0), ("fail", 3)])
def test_the_end_of_a_run_that_shows_no_longer_is_learnt_all_the_same(
    shell: Shell, client: WorkflowClient, work: Work, word: str, code: int
) -> None:
    WorkflowClient(client.queue, keep_runs=None).submit(run_id="brief", input=word.encode())
    work()
    shell("runs", "show", "brief", code=4)
    assert shell("runs", "tail", "brief", code=code).stdout == ""
    assert shell("runs", "wait", "brief", code=code).stdout == ("X\n" if code == 0 else "")


def test_code_that_ends_the_process_says_nothing_of_the_command(
    shell: Shell, client: WorkflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(value: object) -> object:
        raise SystemExit(0)

    monkeypatch.setattr(queues, "plain", ends)
    assert "SystemExit: 0" in shell("stats", code=1).stderr


def test_runs_that_are_named_are_cancelled_without_a_question(shell: Shell, client: WorkflowClient, work: Work) -> None:
    for run_id in ("one", "two", "ended"):
        client.submit(run_id=run_id)
    client.cancel("ended")

    shell("runs", "cancel", "one", "nobody", code=4)
    assert client.status("one").state is RunState.PENDING  # type: ignore[union-attr]  # nothing was changed
    shell("runs", "cancel", "one", "ended", "--reason", "by hand", code=1)
    assert client.status("one").error == "by hand"  # type: ignore[union-attr]
    shell("runs", "cancel", code=2)
    shell("runs", "cancel", "two", "--all", code=2)


def test_bulk_changes_want_a_yes_where_nobody_can_be_asked(shell: Shell, client: WorkflowClient, work: Work) -> None:
    for number in range(3):
        client.submit(run_id=f"bad-{number}", input=b"dead")
    client.submit(run_id="other")
    asked = shell("runs", "cancel", "--prefix", "bad-", code=2)
    assert "Cancel 3 runs" in asked.stderr and "--yes" in asked.stderr
    assert client.count_runs()[RunState.PENDING] == 4

    assert shell.one("runs", "cancel", "--prefix", "other", "--yes") == {"cancelled": 1}
    work()
    shell("runs", "retry", "--all", code=2)
    assert shell("runs", "retry", "--state", "failed", "--yes").stdout == "retried 3\n"
    assert client.count_runs()[RunState.PENDING] == 3


def test_a_retry_may_give_another_payload(shell: Shell, client: WorkflowClient, work: Work) -> None:
    client.submit(run_id="bad", input=b"dead")
    work()
    shell("runs", "retry", "bad", "--payload", "mended", "--memo", "clear")
    work()
    assert shell("runs", "wait", "bad").stdout == "MENDED\n"
    shell("runs", "retry", "bad", code=1)  # it has not failed


def test_a_duration_needs_a_unit_and_a_header_a_value(shell: Shell, client: WorkflowClient) -> None:
    assert "50s, 10m, 2h or 7d" in shell("runs", "wait", "x", "--timeout", "50", code=2).stderr
    assert "NAME=VALUE" in shell("runs", "list", "--header", "x", code=2).stderr
    assert "2026-11-26" in shell("runs", "list", "--since", "yesterday", code=2).stderr


def test_a_run_of_another_queue_is_found_by_its_queue(shell: Shell, client: WorkflowClient) -> None:
    WorkflowClient(client.queue, queue_name="mails").submit(
        run_id="there", run_at=datetime.now(UTC) + timedelta(hours=1)
    )
    shell("runs", "show", "there", code=4)
    assert "runs wake there --queue mails" in shell("runs", "show", "there", "--queue", "mails").stdout
