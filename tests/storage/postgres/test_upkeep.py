"""What an operator is told of a store on a server, and how many sessions it takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import Queue, RunSpec, Succeed, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.storage.relational import sql
from tests.postgres import server_url, store_url
from tests.support import wait_until

_TABLE = re.compile(r"\{(\w+)\}")


class Place:
    """A store, and what a hand may do to its tables."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.schema = url.rpartition("schema=")[2]

    def sql(self, text: str) -> list[Any]:
        import psycopg

        with psycopg.connect(server_url(), autocommit=True) as connection:
            connection.execute(f'SET search_path = "{self.schema}"'.encode())
            found = connection.execute(_TABLE.sub(lambda name: getattr(sql, name[1]), text).encode())
            return found.fetchall() if found.description else []


@pytest.fixture
def place() -> Place:
    return Place(store_url())


@pytest.fixture
def queue(place: Place) -> Iterator[Queue]:
    """A store with a bit of everything, all of which has ended."""
    with Queue.open(place.url) as queue:
        client = WorkflowClient(queue)
        for number in range(5):
            client.submit(RunSpec(run_id=f"run-{number}", input=b"x" * 10))
        client.submit(RunSpec(run_id="large", input=b"x" * 300_000, headers={"a": "b" * 9000}))
        WorkflowRuntime(queue, lambda step: Succeed(step.payload)).run_until_idle()
        for number in range(45):
            queue.kv.put(f"key-{number}", b"value")
        client.submit(RunSpec(run_id="waits", input=b"y"))
        yield queue


def test_nothing_is_found_in_a_sound_store(queue: Queue) -> None:
    assert queue.check().problems == []


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE {QUEUE} SET pending = pending + 3", "the counters of queue 'workflow-steps' are"),
        ("UPDATE {QUEUE} SET limited = 1", "has of pauses and limits"),
        ("UPDATE {QUEUE} SET subscription = 'nobody'", "the hook registered for queue"),
        ("UPDATE taquba_meta SET value = 1 WHERE key = 'next_seq'", "the counter of rows is (1,)"),
        ("UPDATE {JOB} SET payload = 'z' WHERE run_id = 'waits'", "the payload of job"),
        ("UPDATE {JOB} SET input_hash = 'z' WHERE run_id = 'waits'", "the input of job"),
        ("UPDATE {JOB} SET queue = 77 WHERE run_id = 'waits'", "1 jobs are of no queue"),
        ("DELETE FROM {JOB} WHERE run_id = 'run-1'", "attempts are recorded of row"),
        ("DELETE FROM {JOB} WHERE run_id = 'large'", "a large payload, header or result"),
        ("UPDATE {KV} SET value = 'z' WHERE key = 'key-44'", "the value of key 'key-44'"),
        ("ALTER TABLE {JOB} DROP COLUMN verdict CASCADE", "the column verdict of table taquba_job_4 is missing"),
        ("DROP TABLE {KV} CASCADE", "the table taquba_kv_4 is missing"),
    ],
)
def test_what_a_hand_has_changed_is_found(queue: Queue, place: Place, damage: str, found: str) -> None:
    place.sql(damage)
    assert [problem for problem in queue.check().problems if found in problem]


def test_of_much_damage_a_part_is_told_and_the_rest_is_counted(queue: Queue, place: Place) -> None:
    WorkflowClient(queue).submit_many([RunSpec(input=b"x") for _ in range(250)])
    place.sql("UPDATE {JOB} SET payload = 'z' WHERE status = 'pending'")
    problems = queue.check().problems
    assert len(problems) == 101
    assert problems[-1].startswith("151 more jobs are damaged")


def told(queue: Queue) -> dict[str, Any]:
    return {each.what: each for each in queue.examine()}


def test_a_doctor_tells_of_the_server_and_of_settings_that_lose_data(queue: Queue, place: Place) -> None:
    found = told(queue)
    assert "as role 'taquba'" in found["PostgreSQL"].says
    assert f"'{place.schema}', version 1" in found["schema"].says
    assert "fsync off" in found["settings"].says
    assert "set fsync to on" in found["settings"].todo  # as the tests' server has it
    assert "set synchronous_commit to on" in found["settings"].todo
    assert found["open elsewhere"].says == "0 handles"
    assert found["dead owners"].todo is None
    assert " of this library's, " in found["sessions"].says
    assert queue.handle.store.log_bytes() == 0  # type: ignore[attr-defined]


def test_a_doctor_names_a_transaction_that_is_open_for_long(
    queue: Queue, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    assert told(queue)["transactions"].todo is None
    monkeypatch.setattr("taquba_workflow_sync.storage.postgres.examination._LONG_S", 0.05)
    with psycopg.connect(server_url(), application_name="a report") as connection:
        connection.execute("SELECT 1")
        pid = connection.info.backend_pid
        named = f"in server process {pid} (a report, idle in transaction)"
        # Once those of the server's own are over that were open before.
        wait_until(lambda: named in told(queue)["transactions"].says, "the oldest transaction")
        assert f"pg_terminate_backend({pid})" in told(queue)["transactions"].todo
    wait_until(lambda: told(queue)["transactions"].todo is None, "its end")


HOLDER = """import sys, time
from taquba_workflow_sync import Queue, WorkflowRuntime
def step(step):
    print("begun", flush=True)
    time.sleep(600)
WorkflowRuntime(Queue.open(sys.argv[1]), step).run_until_idle()
"""


def test_a_doctor_names_who_has_it_open_and_who_died_with_claims(queue: Queue, place: Place) -> None:
    root = str(Path(__file__).parents[3])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, place.url], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"begun\n"
        who = f"process {holder.pid} on {os.uname().nodename}"
        assert told(queue)["open elsewhere"].says == f"1 handles ({who})"
    finally:
        holder.kill()
        holder.communicate()
    wait_until(lambda: told(queue)["open elsewhere"].says == "0 handles")
    finding = told(queue)["dead owners"]
    assert finding.says == f"1 have left claims: {who}"
    assert "start a worker" in finding.todo


def test_a_doctor_tells_of_notifications_that_nobody_takes(queue: Queue) -> None:
    queue.enqueue("workflow-steps.terminal", b"nobody hears it")
    assert "1 notifications of workflow-steps wait" in told(queue)["hooks"].says
    assert "unregister_hook" in told(queue)["hooks"].todo


def test_dead_rows_are_cleared_away_however_large_a_table_is(queue: Queue, place: Place) -> None:
    found = place.sql(
        "SELECT relname, reloptions FROM pg_class WHERE relkind = 'r'"
        f" AND relnamespace = '{place.schema}'::regnamespace"
    )
    assert len(found) > 20
    for name, options in found:
        assert {"autovacuum_vacuum_scale_factor=0", "autovacuum_vacuum_threshold=2000"} <= set(options or ()), name


def test_a_handle_takes_no_more_sessions_than_the_docs_say() -> None:
    """Liveness, listener, writer, notifier and two readers, whatever many threads do at once."""
    import psycopg

    place = Place(store_url())
    base = server_url()
    with psycopg.connect(base, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {place.schema}".encode())
    url = base.replace("/postgres?", f"/{place.schema}?")
    most: set[str] = set()
    many = []

    def look() -> list[str]:
        found = place.sql(
            "SELECT application_name FROM pg_stat_activity WHERE backend_type = 'client backend'"
            f" AND datname = '{place.schema}'"
        )
        return [name for (name,) in found]

    with Queue.open(url) as queue:
        client = WorkflowClient(queue)
        with WorkflowRuntime(queue, lambda step: Succeed(b"x"), max_concurrent_steps=16):
            threads = [
                threading.Thread(target=lambda: [client.submit(RunSpec()).result(timeout=60) for _ in range(20)])
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                names = look()
                many.append(len(names))
                most |= set(names)
            for thread in threads:
                thread.join()
    assert most <= {f"taquba {what}" for what in ("liveness", "listener", "writer", "notifier", "reader")}
    assert 4 <= max(many) <= 6
    wait_until(lambda: look() == [])
