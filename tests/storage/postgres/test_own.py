"""A step's end and what it writes in ``step.transaction`` are one commit, whatever dies when."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from taquba_workflow_sync import (
    Cancel,
    Continue,
    Fail,
    InvalidStateError,
    Queue,
    QueueConfig,
    RunOutcome,
    RunSpec,
    Step,
    StepError,
    StoreMismatchError,
    Succeed,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.storage.postgres.address import parsed
from taquba_workflow_sync.storage.relational import sql
from tests.processes.harness import ROOT
from tests.storage.postgres.own_worker import open_queue, pay
from tests.support import await_event, in_thread, wait_until

Connect = Callable[..., Any]
Mine = Callable[[], list[str]]


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    config = QueueConfig(retry_backoff_base=0)
    with Queue.open(url, durability="relaxed", default_config=config, max_payload_bytes=1 << 20) as queue:
        yield queue


def ended(queue: Queue, runner: Callable[[Step], Any], **fields: Any) -> RunOutcome:
    """Run one run to its end."""
    with WorkflowRuntime(queue, runner) as runtime:
        return runtime.submit(RunSpec(**{"input": b"in", "run_id": "order-1"} | fields)).wait(timeout=60)


def write(connection: Any, what: str) -> None:
    connection.execute("INSERT INTO mine VALUES (%s)", (what,))


def test_each_step_ends_with_what_it_wrote(queue: Queue, mine: Mine) -> None:
    outcome = ended(queue, pay)
    assert outcome.status is TerminalStatus.SUCCEEDED
    assert mine() == ["order-1 0", "order-1 1"]


@pytest.mark.parametrize("outcome", [Fail("no"), Cancel("no")])
def test_any_outcome_that_is_returned_commits(outcome: Any, queue: Queue, mine: Mine) -> None:
    def run(step: Step) -> Any:
        pay(step)
        return outcome

    assert ended(queue, run).error == "no"
    assert mine() == ["order-1 0"]


def test_what_raises_undoes_the_transaction(queue: Queue, mine: Mine) -> None:
    def inside(step: Step) -> Any:
        with step.transaction() as connection:
            write(connection, "row")
            raise StepError.permanent("no")

    def behind(step: Step) -> Any:
        pay(step)
        raise StepError.permanent("no")

    def no_outcome(step: Step) -> Any:
        pay(step)

    def too_large(step: Step) -> Any:
        pay(step)
        return Succeed(b"x" * ((1 << 20) + 1))

    for number, runner in enumerate((inside, behind, no_outcome, too_large)):
        assert ended(queue, runner, run_id=f"run-{number}").status is TerminalStatus.FAILED
    assert mine() == []


def test_a_step_that_is_tried_again_has_written_once(queue: Queue, mine: Mine) -> None:
    def run(step: Step) -> Any:
        pay(step)
        if step.attempts == 1:
            raise LookupError
        return Succeed()

    assert ended(queue, run).status is TerminalStatus.SUCCEEDED
    assert mine() == ["order-1 0"]


def test_a_requested_cancellation_undoes_the_transaction(queue: Queue, client: WorkflowClient, mine: Mine) -> None:
    def run(step: Step) -> Any:
        pay(step)
        client.cancel(step.run_id, reason="stop")
        return Succeed()

    outcome = ended(queue, run)
    assert (outcome.status, outcome.error) == (TerminalStatus.CANCELLED, "stop")
    assert mine() == []


def test_nothing_of_the_stores_is_locked_inside_the_block(queue: Queue, client: WorkflowClient, mine: Mine) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def run(step: Step) -> Any:
        if step.run_id != "order-1":
            return Succeed()
        with step.transaction() as connection:
            write(connection, "row")
            inside.set()
            await_event(go_on)
        return Succeed()

    with WorkflowRuntime(queue, run) as runtime:
        handle = runtime.submit(RunSpec(input=b"in", run_id="order-1"))
        await_event(inside)
        assert runtime.submit(RunSpec(input=b"in", run_id="other")).wait(timeout=30).status == "succeeded"
        client.signal("order-1", "s")
        queue.kv.put("k", b"v")
        go_on.set()
        assert handle.wait(timeout=30).status is TerminalStatus.SUCCEEDED
    assert mine() == ["row"]


def test_a_second_block_is_refused(queue: Queue, mine: Mine) -> None:
    def nested(step: Step) -> Any:
        with step.transaction(), step.transaction():
            pass

    def second(step: Step) -> Any:
        pay(step)
        pay(step)

    for number, runner in enumerate((nested, second)):
        outcome = ended(queue, runner, run_id=f"run-{number}", max_attempts_per_step=1)
        assert "RuntimeError" in str(outcome.error)
    assert mine() == []


def _commit(connection: Any) -> None:
    connection.commit()


def _roll_back(connection: Any) -> None:
    connection.rollback()


def _roll_back_and_go_on(connection: Any) -> None:
    connection.rollback()
    write(connection, "other row")


def _close(connection: Any) -> None:
    connection.close()


@pytest.mark.parametrize("end", [_commit, _roll_back, _roll_back_and_go_on, _close])
def test_a_transaction_that_the_program_has_ended_settles_nothing(
    end: Callable[[Any], None], queue: Queue, client: WorkflowClient, mine: Mine
) -> None:
    def run(step: Step) -> Any:
        with step.transaction() as connection:
            write(connection, "row")
            end(connection)
        return Succeed()

    outcome = ended(queue, run)
    assert outcome.status is TerminalStatus.FAILED
    assert "was committed, rolled back or closed" in str(outcome.error)
    assert mine() == (["row"] if end is _commit else [])
    assert len([each for each in client.history("order-1") if each.kind == "started"]) == 1


def test_a_lost_connection_is_tried_again(queue: Queue, connect: Connect, mine: Mine) -> None:
    admin = connect(autocommit=True)

    def run(step: Step) -> Any:
        with step.transaction() as connection:
            write(connection, f"row {step.attempts}")
            if step.attempts == 1:
                admin.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        return Succeed()

    assert ended(queue, run).status is TerminalStatus.SUCCEEDED
    assert mine() == ["row 2"]


def test_an_error_that_the_block_keeps_to_itself_is_not_committed(queue: Queue, mine: Mine) -> None:
    def run(step: Step) -> Any:
        with step.transaction() as connection:
            write(connection, f"row {step.attempts}")
            if step.attempts == 1:
                with pytest.raises(psycopg.Error):
                    connection.execute("SELECT 1 / 0")
        return Succeed()

    assert ended(queue, run).status is TerminalStatus.SUCCEEDED
    assert mine() == ["row 2"]


def test_a_constraint_that_is_checked_at_the_end_is_an_error_of_the_step(
    queue: Queue, connect: Connect, mine: Mine
) -> None:
    connect(autocommit=True).execute("ALTER TABLE mine ADD CONSTRAINT once UNIQUE (what) DEFERRABLE INITIALLY DEFERRED")

    def run(step: Step) -> Any:
        with step.transaction() as connection:
            write(connection, "row")
            if step.attempts == 1:
                write(connection, "row")
        return Succeed()

    assert ended(queue, run).status is TerminalStatus.SUCCEEDED
    assert mine() == ["row"]


def test_a_constraint_that_waits_for_others_keeps_nobody_else_waiting(
    queue: Queue, client: WorkflowClient, connect: Connect, mine: Mine
) -> None:
    admin, other = connect(autocommit=True), connect()
    admin.execute("ALTER TABLE mine ADD CONSTRAINT once UNIQUE (what) DEFERRABLE INITIALLY DEFERRED")
    write(other, "order-1")
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'taquba step' AND wait_event_type = 'Lock'"
    )
    with WorkflowRuntime(queue, pay_once) as runtime:
        handle = runtime.submit(RunSpec(input=b"in", run_id="order-1"))
        wait_until(lambda: admin.execute(waiting).fetchone() == (1,))
        answer = in_thread(lambda: client.submit(RunSpec(input=b"in", run_id="other")))
        wait_until(lambda: client.status("other") is not None, "a submit beside it", limit=10)
        answer()
        other.rollback()
        assert handle.wait(timeout=30).status is TerminalStatus.SUCCEEDED
    assert "order-1" in mine()


def test_what_has_arrived_is_there_for_the_steps_effects(
    queue: Queue, client: WorkflowClient, connect: Connect, mine: Mine
) -> None:
    def run(step: Step) -> Any:
        if step.run_id == "order-1":
            pay(step)
            step.effects.submit(RunSpec(input=b"in", run_id="child"))
            with connect() as other:
                client.submit(RunSpec(input=b"in", run_id="child"), connection=other)
        return Succeed()

    assert ended(queue, run).status is TerminalStatus.SUCCEEDED
    assert [each.outcome for each in client.history("order-1") if each.kind == "ended"] == ["succeeded"]
    assert mine() == ["order-1 0"]


def test_a_claim_that_ends_by_the_transaction_is_not_told_to_be_lost(
    url: str, mine: Mine, caplog: pytest.LogCaptureFixture
) -> None:
    def slow(point: str) -> None:
        if point == "own:after-commit":
            time.sleep(0.5)  # its heartbeat looks meanwhile

    with open_queue(url, slow) as queue:
        assert ended(queue, pay_once).status is TerminalStatus.SUCCEEDED
    assert "was lost" not in caplog.text
    assert mine() == ["order-1"]


def test_a_deadlock_between_two_steps_is_tried_again(queue: Queue, connect: Connect, mine: Mine) -> None:
    connect(autocommit=True).execute("CREATE TABLE IF NOT EXISTS counters (id INT PRIMARY KEY, n INT)")
    connect(autocommit=True).execute("TRUNCATE counters; INSERT INTO counters VALUES (1, 0), (2, 0)")
    both = threading.Barrier(2)

    def run(step: Step) -> Any:
        first, second = (1, 2) if step.run_id == "a" else (2, 1)
        with step.transaction() as connection:
            connection.execute("SET LOCAL deadlock_timeout = '50ms'")
            connection.execute("UPDATE counters SET n = n + 1 WHERE id = %s", (first,))
            if step.attempts == 1:
                both.wait(30)
            connection.execute("UPDATE counters SET n = n + 1 WHERE id = %s", (second,))
        return Succeed()

    with WorkflowRuntime(queue, run) as runtime:
        handles = [runtime.submit(RunSpec(input=b"in", run_id=each)) for each in "ab"]
        assert all(each.wait(timeout=60).status is TerminalStatus.SUCCEEDED for each in handles)
    assert connect().execute("SELECT n FROM counters").fetchall() == [(2,), (2,)]


def test_effects_are_applied_with_the_transaction_or_refused_with_it(queue: Queue, mine: Mine) -> None:
    queue.kv.put("stock", b"1")
    seen: list[bytes | None] = []

    def run(step: Step) -> Any:
        value = step.kv.get("stock")
        seen.append(value)
        if len(seen) == 1:
            queue.kv.put("stock", b"2")
        pay(step)
        step.effects.compare_put("stock", value, b"done")
        return Succeed()

    assert ended(queue, run).status is TerminalStatus.SUCCEEDED
    assert seen == [b"1", b"2"]
    assert queue.kv.get("stock") == b"done"
    assert mine() == ["order-1 0"]


def test_a_run_may_be_submitted_in_the_steps_transaction(queue: Queue, client: WorkflowClient, mine: Mine) -> None:
    def run(step: Step) -> Any:
        if step.run_id == "child":
            return Succeed()
        with step.transaction() as connection:
            write(connection, "row")
            client.submit(RunSpec(input=b"in", run_id="child"), connection=connection)
        if step.attempts == 1:
            raise LookupError
        return Succeed()

    assert ended(queue, run).status is TerminalStatus.SUCCEEDED
    WorkflowRuntime(queue, run).run_until_idle()
    assert client.wait("child", timeout=5).status is TerminalStatus.SUCCEEDED
    assert mine() == ["row"]


def test_a_connection_of_the_programs_own_is_used_and_given_back(queue: Queue, connect: Connect, mine: Mine) -> None:
    for autocommit in (True, False):
        given = connect(autocommit=autocommit)

        def run(step: Step, given: Any = given) -> Any:
            with step.transaction(given) as connection:
                assert connection is given
                write(connection, step.run_id)
            return Succeed()

        assert ended(queue, run, run_id=f"run-{autocommit}").status is TerminalStatus.SUCCEEDED
        assert given.execute("SELECT 1").fetchone() == (1,)
        assert given.autocommit is autocommit
    assert mine() == ["run-False", "run-True"]


def test_a_connection_that_cannot_be_used_is_refused(queue: Queue, connect: Connect, mine: Mine, url: str) -> None:
    busy, strict, elsewhere = connect(), connect(), psycopg.connect(parsed(url).dsn, dbname="template1")
    busy.execute("SELECT 1")
    strict.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    wanted = {"busy": busy, "strict": strict, "elsewhere": elsewhere, "none": object()}
    kinds = {"busy": ValueError, "strict": ValueError, "elsewhere": StoreMismatchError, "none": TypeError}

    def run(step: Step) -> Any:
        with pytest.raises(kinds[step.run_id]), step.transaction(wanted[step.run_id]):
            pass
        return Succeed()

    for name in wanted:
        assert ended(queue, run, run_id=name).status is TerminalStatus.SUCCEEDED
    elsewhere.close()


def test_a_store_in_a_directory_has_none(tmp_path: Path) -> None:
    def run(step: Step) -> Any:
        with pytest.raises(InvalidStateError, match="PostgreSQL"), step.transaction():
            pass
        return Succeed()

    with Queue.open(tmp_path / "store", durability="relaxed") as queue:
        assert ended(queue, run).status is TerminalStatus.SUCCEEDED


@pytest.mark.parametrize("has_committed", [True, False])
def test_a_commit_whose_answer_is_lost_is_asked_about(
    has_committed: bool, url: str, connect: Connect, mine: Mine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend is killed before the COMMIT, or the answer is lost behind it: the server says which."""
    from taquba_workflow_sync.storage.postgres import given

    admin, attempts = connect(autocommit=True), 0
    commit = given._Own.commit

    def lost(connection: Any) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1 and has_committed:
            commit(connection)
            raise psycopg.OperationalError("the answer was lost")
        if attempts == 1:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.raw.info.backend_pid,))
        commit(connection)

    monkeypatch.setattr(given._Own, "commit", lost)
    with open_queue(url) as queue:
        assert ended(queue, pay_once).status is TerminalStatus.SUCCEEDED
    assert mine() == ["order-1"]
    assert attempts == (1 if has_committed else 2)


def pay_once(step: Step) -> Any:
    with step.transaction() as connection:
        write(connection, step.run_id)
    return Succeed()


def test_a_claim_that_was_taken_over_undoes_the_transaction(
    queue: Queue, connect: Connect, mine: Mine, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    taking = f"UPDATE \"{parsed(url).schema}\".{sql.JOB} SET token = 'other.' || seq WHERE status = 'claimed'"

    def run(step: Step) -> Any:
        pay(step)
        connect(autocommit=True).execute(taking)
        return Succeed()

    with WorkflowRuntime(queue, run) as runtime:
        runtime.submit(RunSpec(input=b"in", run_id="order-1"))
        wait_until(lambda: "was not settled" in caplog.text)
    assert mine() == []


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("point", ["returned", "own:before-lock", "own:before-commit", "own:after-commit"])
def test_a_kill_leaves_both_or_neither(point: str, nth: int, url: str, connect: Connect, mine: Mine) -> None:
    with open_queue(url) as queue:
        WorkflowClient(queue).submit(RunSpec(input=b"in", run_id="order-1"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.storage.postgres.own_worker", url, point, str(nth)]
    assert subprocess.run(command, env=environment, timeout=60, cwd=ROOT).returncode == -9
    has_committed = nth - (point != "own:after-commit")
    wait_until(lambda: not _is_open(connect), "the end of the killed process's sessions")  # its claims are free then
    assert mine() == ["order-1 0", "order-1 1"][:has_committed]
    with open_queue(url) as queue:
        client = WorkflowClient(queue)
        status = client.status("order-1")
        assert status is not None
        assert (status.current_step, status.finished_at is not None) == (min(has_committed, 1), has_committed == 2)
        WorkflowRuntime(queue, pay).run_until_idle()
        outcome = client.outcome("order-1")
        assert outcome is not None
        assert outcome.status is TerminalStatus.SUCCEEDED
    assert mine() == ["order-1 0", "order-1 1"]


def _is_open(connect: Connect) -> bool:
    text = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'taquba%%'"
    found = connect(autocommit=True).execute(text).fetchone()
    return bool(found and found[0])


def test_an_idle_transaction_is_ended_by_the_server(queue: Queue, mine: Mine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taquba_workflow_sync.storage.postgres.own.IDLE_TIMEOUT_S", 1)

    def run(step: Step) -> Any:
        with step.transaction() as connection:
            write(connection, f"row {step.attempts}")
            if step.attempts == 1:
                time.sleep(2)
        return Succeed()

    assert ended(queue, run).status is TerminalStatus.SUCCEEDED
    assert mine() == ["row 2"]


def test_a_step_that_waits_to_know_what_became_of_it_ends_with_the_process(
    url: str, connect: Connect, mine: Mine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server cannot be asked: a stopping runtime leaves the claim to whoever finds it, and does not settle."""
    from taquba_workflow_sync.storage.postgres import given
    from taquba_workflow_sync.storage.postgres.own import PostgresOwnTransaction

    asked = threading.Event()

    def lost(connection: Any) -> None:
        connection.raw.close()
        raise psycopg.OperationalError("the answer was lost")

    def never(own: Any, gives_up: Callable[[], bool]) -> bool:
        asked.set()
        while not gives_up():
            time.sleep(0.01)
        raise given_up

    from taquba_workflow_sync.storage.port.own import OutcomeUnknownError

    given_up = OutcomeUnknownError("nobody can be asked")
    monkeypatch.setattr("taquba_workflow_sync.workflow.steps._LAST_TRIES", 0.2)
    with open_queue(url) as queue:
        client = WorkflowClient(queue)
        with monkeypatch.context() as patch:
            patch.setattr(given._Own, "commit", lost)
            patch.setattr(PostgresOwnTransaction, "_was_committed", never)
            runtime = WorkflowRuntime(queue, pay_once)
            runtime.start()
            client.submit(RunSpec(input=b"in", run_id="order-1"))
            await_event(asked)
            assert in_thread(runtime.stop)() is not False
        assert client.status("order-1") is not None
    with open_queue(url) as queue:
        WorkflowRuntime(queue, pay_once).run_until_idle()
        outcome = WorkflowClient(queue).outcome("order-1")
        assert outcome is not None
        assert outcome.status is TerminalStatus.SUCCEEDED
    assert mine() == ["order-1"]


def test_what_a_step_has_counted_is_counted_here_too(queue: Queue) -> None:
    with WorkflowRuntime(queue, pay) as runtime:
        runtime.submit(RunSpec(input=b"in")).wait(timeout=30)
        wait_until(lambda: runtime.ended_runs == 1)


def test_continues_are_claimed_anew(queue: Queue, mine: Mine) -> None:
    def run(step: Step) -> Any:
        pay(step)
        return Continue(b"") if step.step_number < 5 else Succeed()

    assert ended(queue, run).final_step == 5
    assert len(mine()) == 6
