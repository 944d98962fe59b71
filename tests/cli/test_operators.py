"""Dead letters, queues, limits, schedules, health, doctor, backups: what operators ask and do."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from taquba_workflow_sync import JobRecord, JobStatus, Limit, Queue, QueueStats, RunState, Schedule, WorkflowClient
from taquba_workflow_sync.storage.relational.sql.names import JOB
from tests.cli.conftest import Shell

Work = Callable[[], None]


@pytest.fixture
def dead(client: WorkflowClient, work: Work) -> None:
    for run_id, word in (("bad-1", b"dead"), ("bad-2", b"dead of cold"), ("failed", b"fail"), ("good", b"x")):
        client.submit(run_id=run_id, input=word)
    work()


def names(of: type) -> set[str]:
    return {field.name for field in dataclasses.fields(of)}


@pytest.mark.usefixtures("dead")
def test_dead_letters_are_listed_as_jobs_and_narrowed(shell: Shell) -> None:
    letters = shell.json("dead", "list")
    assert [letter["headers"]["workflow.run_id"] for letter in letters] == ["bad-1", "bad-2"]
    assert letters[0].keys() == names(JobRecord)
    assert [each["id"] for each in shell.json("dead", "list", "--failed-with", "cold")] == [letters[1]["id"]]
    assert "bad-1" in shell("dead", "list", "--prefix", "bad-1").stdout
    assert shell.json("dead", "list", "--limit", "1") == letters[:1]


@pytest.mark.usefixtures("dead")
def test_a_dead_letter_is_named_by_its_run_or_its_job(shell: Shell, client: WorkflowClient) -> None:
    by_name = shell.one("dead", "show", "bad-1")
    assert shell.one("dead", "show", by_name["id"]) == by_name
    assert "no such account" in shell("dead", "show", "bad-1").stdout
    assert "runs retry" in shell("dead", "show", "failed", code=1).stderr
    shell("dead", "show", "nobody", code=4)
    shell("dead", "requeue", by_name["id"])
    status = client.status("bad-1")
    assert status is not None and status.state is RunState.PENDING


@pytest.mark.usefixtures("dead")
def test_bulk_requeue_and_drop_ask(shell: Shell, client: WorkflowClient, work: Work) -> None:
    assert "Requeue 2 dead letters" in shell("dead", "requeue", "--all", code=2).stderr
    assert shell.one("dead", "requeue", "--prefix", "bad-", "--yes") == {"requeued": 2}
    work()
    assert "Drop 2 dead letters" in shell("dead", "drop", "--all", code=2).stderr
    shell("dead", "drop", "bad-1")
    assert client.status("bad-1") is None
    assert shell.one("dead", "drop", "--all", "-y") == {"dropped": 1}
    assert shell.json("dead", "list") == [] and client.queue.check().ok
    assert client.count_runs()[RunState.FAILED] == 1  # by its own verdict, so no dead letter


def test_the_dead_letters_of_bare_queues_are_there_too(shell: Shell, client: WorkflowClient) -> None:
    queue = client.queue
    queue.enqueue("mails", b"x")
    claim = queue.claim("mails")
    assert claim is not None
    queue.dead_letter(claim, "bounced")
    (letter,) = shell.json("dead", "list", "--queue", "mails")
    assert letter["last_error"] == "bounced"
    shell("dead", "requeue", letter["id"], "--queue", "mails")
    job = queue.get_job(letter["id"])
    assert job is not None and job.status is JobStatus.PENDING


@pytest.mark.usefixtures("dead")
def test_queues_and_stats_have_the_fields_of_the_record(shell: Shell) -> None:
    (queue,) = shell.json("queues")
    assert queue.keys() == names(QueueStats) and (queue["queue"], queue["dead"]) == ("workflow-steps", 2)
    stats = shell.one("stats")
    assert stats.keys() == names(QueueStats) | {"runs"} and stats["runs"]["failed"] == 3
    assert "runs failed      3" in shell("stats").stdout
    assert shell.one("stats", "--queue", "nobody")["pending"] == 0


def test_a_queue_is_paused_and_goes_on(shell: Shell, client: WorkflowClient) -> None:
    client.submit(run_id="waits")
    shell("pause")
    assert shell.one("stats")["paused"] is True
    assert "taquba-workflow resume" in shell("runs", "show", "waits").stdout
    assert shell.one("resume") == {"queue": "workflow-steps", "paused": False}


@pytest.mark.usefixtures("dead")
def test_health_is_3_for_dead_letters_and_for_what_waits_too_long(shell: Shell, client: WorkflowClient) -> None:
    answer = shell.one("health", code=3)
    assert (answer["healthy"], answer["dead"], answer["oldest_ready_age"]) == (False, 2, None)
    assert shell("health", "--max-dead", "2").stdout.startswith("healthy")
    client.submit(run_id="waits")
    shell("health", "--max-dead", "2", "--max-ready-age", "1h")
    late = shell("health", "--max-dead", "2", "--max-ready-age", "0", code=3)
    assert "oldest ready step" in late.stdout


@pytest.mark.usefixtures("dead")
def test_health_is_of_all_queues_or_of_the_one_that_is_named(shell: Shell) -> None:
    with Queue.open(shell.store) as queue:
        WorkflowClient(queue, queue_name="mails").submit(run_id="waits")
    assert shell.one("health", code=3)["oldest_ready_age"] is not None
    assert shell.one("health", "--queue", "workflow-steps", code=3)["oldest_ready_age"] is None
    mails = shell.one("health", "--queue", "mails")
    assert (mails["healthy"], mails["dead"]) == (True, 0) and mails["oldest_ready_age"] is not None


def test_limits_are_set_listed_and_cleared(shell: Shell, client: WorkflowClient) -> None:
    shell("limits", "set", "--concurrency", "8")
    limit = shell.one("limits", "set", "--key", "customer-*", "--rate", "100/60s", "--hold", "run")
    assert limit == {
        "key": "customer-*", "concurrency": None, "rate": [100, 60.0], "hold": "run", "max_waiting": None
    }  # fmt: skip
    assert limit.keys() == names(Limit)
    assert [each["key"] for each in shell.json("limits", "list")] == [None, "customer-*"]
    assert "100 in 60 s" in shell("limits", "list").stdout
    shell("limits", "clear", "--key", "customer-*")
    shell("limits", "set", code=2)
    shell("limits", "set", "--rate", "fast", code=2)
    assert [each.key for each in client.limits()] == [None]


def test_schedules_are_added_moved_triggered_and_removed(shell: Shell, client: WorkflowClient) -> None:
    pytest.importorskip("cronsim")
    added = shell.one(
        "schedules", "add", "nightly", "--cron", "15 3 * * *", "--timezone", "Europe/Berlin", "--input", "x"
    )
    assert added.keys() == names(Schedule) and added["spec"]["input"] == "x"
    shell("schedules", "add", "pulse", "--every", "5m", "--overlap", "skip")
    assert [(each["name"], each["every"]) for each in shell.json("schedules", "list")] == [
        ("nightly", None), ("pulse", 300.0),
    ]  # fmt: skip
    run_id = shell("schedules", "trigger", "nightly").stdout.strip()
    assert client.status(run_id) is not None
    shell("schedules", "pause", "pulse")
    assert "paused" in shell("schedules", "list").stdout
    shell("schedules", "resume", "pulse")
    shell("schedules", "remove", "pulse")
    shell("schedules", "remove", "pulse", code=4)
    assert "minute" in shell("schedules", "add", "bad", "--cron", "61 * * * *", code=2).stderr
    shell("schedules", "add", "bad", code=2)


def test_a_doctor_finds_nothing_to_do_in_a_sound_store(shell: Shell, client: WorkflowClient) -> None:
    is_on_server = isinstance(shell.store, str)  # which the tests have with fsync off
    findings = shell.json("doctor", code=3 if is_on_server else 0)
    of_engine = {"SQLite", "filesystem", "permissions", "clock", "disk"}
    if is_on_server:
        of_engine = {"PostgreSQL", "sessions", "transactions", "dead rows"}
    wanted = {"settings", "descriptors", "hooks", "open elsewhere", "dead owners", "forks"} | of_engine
    assert wanted <= {each["what"] for each in findings}
    assert [each for each in findings if each["todo"] is not None and each["what"] != "settings"] == []


@pytest.mark.embedded
def test_a_doctor_says_what_to_do(shell: Shell, client: WorkflowClient) -> None:
    client.submit(run_id="held")
    client.queue.enqueue("workflow-steps.terminal", b"nobody hears it")
    shell.store.joinpath("db").chmod(0o755)
    connection = sqlite3.connect(shell.store / "db" / "cache.db")
    connection.execute(f"UPDATE {JOB} SET enqueued_ms = enqueued_ms + 7200000")
    connection.commit()
    connection.close()

    found = {each["what"]: each["todo"] for each in shell.json("doctor", code=3)}
    assert f"chmod 0700 {shell.store / 'db'}" in found["permissions"]
    assert "clock" in found["clock"]
    assert "unregister_hook" in found["hooks"]
    assert "to do: " in shell("doctor", code=3).stdout


@pytest.mark.embedded
def test_a_doctor_tells_why_a_store_cannot_be_opened(shell: Shell) -> None:
    Queue.open(shell.store).close()
    shell.store.chmod(0o777)
    assert "chmod 0700" in shell("doctor", code=3).stdout


@pytest.mark.embedded
def test_a_check_is_1_on_damage(shell: Shell, client: WorkflowClient) -> None:
    client.submit(run_id="hurt", input=b"precious")
    assert shell.one("check") == {"ok": True, "problems": []}
    connection = sqlite3.connect(shell.store / "db" / "cache.db")
    connection.execute(f"UPDATE {JOB} SET payload = x'00'")
    connection.commit()
    connection.close()
    assert "payload" in shell("check", code=1).stdout
    assert shell.one("check", code=1)["ok"] is False


@pytest.mark.embedded
def test_a_restored_backup_passes_the_check_and_goes_on_with_what_was_claimed(
    shell: Shell, client: WorkflowClient, tmp_path: Path
) -> None:
    client.submit(run_id="held", input=b"x")
    claim = client.queue.claim("workflow-steps", lease=3600)
    assert claim is not None
    file, copy = tmp_path / "backup", tmp_path / "copy"
    assert shell.one("backup", str(file))["bytes"] == file.stat().st_size
    assert file.is_file() and file.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["backup", "store"]
    shell("backup", str(file), code=1)  # there is one already

    assert shell.one("restore", str(file), str(copy))["ok"] is True
    shell("restore", str(file), str(copy), code=1)
    shell("restore", str(tmp_path / "nothing"), str(tmp_path / "x"), code=4)
    with Queue.open(copy) as queue:
        restored = WorkflowClient(queue)
        status = restored.status("held")
        assert status is not None and (status.state, status.attempts) == (RunState.PENDING, 1)  # charged
        assert [event.outcome for event in restored.history("held") if event.kind == "ended"] == ["reaped"]
        again = queue.claim("workflow-steps")
        assert again is not None and again.job.attempts == 2
    original = client.status("held")
    assert original is not None and original.state is RunState.RUNNING


@pytest.mark.embedded
def test_what_is_no_backup_is_refused_and_leaves_nothing(shell: Shell, client: WorkflowClient, tmp_path: Path) -> None:
    file = tmp_path / "letter"
    file.write_text("Dear Sir or Madam")
    shell("restore", str(file), str(tmp_path / "copy"), code=1)
    assert not (tmp_path / "copy").exists()
    client.submit()  # a log beside the database: a copy of the file alone would lose what is in it
    assert "in use" in shell("restore", str(shell.store), str(tmp_path / "copy"), code=1).stderr


@pytest.mark.embedded
def test_a_copy_made_with_sqlites_own_tools_is_taken_over_too(
    shell: Shell, client: WorkflowClient, tmp_path: Path
) -> None:
    client.submit(run_id="held")
    assert client.queue.claim("workflow-steps", lease=3600) is not None
    file = tmp_path / "plain"
    source, target = sqlite3.connect(shell.store / "db" / "cache.db"), sqlite3.connect(file)
    source.backup(target)
    target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    source.close()
    target.close()
    shell("restore", str(file), str(tmp_path / "copy"))
    assert shell.one("runs", "show", "held", "--store", str(tmp_path / "copy"))["state"] == "pending"


@pytest.mark.usefixtures("dead")
def test_a_purge_removes_what_ended_long_enough_ago(shell: Shell, client: WorkflowClient) -> None:
    client.submit(run_id="waits")
    assert shell.one("purge", "--older-than", "1h")["purged"] == 0
    assert shell.one("purge", "--older-than", "0")["purged"] == 4
    assert [run["run_id"] for run in shell.json("runs", "list")] == ["waits"]
    assert client.queue.check().ok
    shell("purge", code=2)
