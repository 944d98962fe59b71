"""What is put in by a program's own transaction is there exactly if that commits, and keeps nobody else waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from taquba_workflow_sync import (
    Effects,
    EventKind,
    Fail,
    IfFinished,
    InputMismatchError,
    InvalidStateError,
    Queue,
    RunNotFoundError,
    RunSpec,
    RunState,
    SignalOutcome,
    Step,
    StorageError,
    StoreMismatchError,
    Succeed,
    TerminalStatus,
    WorkflowClient,
    WorkflowRuntime,
)
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.run import RunName
from taquba_workflow_sync.storage.port.settings import Backoff, StepSettings
from taquba_workflow_sync.storage.port.signals import NewSignal
from taquba_workflow_sync.storage.port.timing import TimeLimits
from taquba_workflow_sync.storage.postgres import arrivals
from taquba_workflow_sync.storage.postgres.address import parsed
from taquba_workflow_sync.wakeup import WakeUp
from tests.postgres import store_url
from tests.support import await_event, in_thread

Connect = Callable[..., Any]


def test_a_run_is_there_once_the_transaction_has_committed(client: WorkflowClient, connection: Any) -> None:
    handle = client.submit(RunSpec(input=b"in", run_id="order-1", headers={"a": "b"}), connection=connection)
    assert handle.newly_submitted
    assert client.status("order-1") is None
    connection.commit()
    status = client.status("order-1")
    assert status is not None
    assert (status.job_id, status.state, status.headers) == (handle.first_job_id, RunState.PENDING, {"a": "b"})


def test_a_run_is_not_there_once_it_was_rolled_back(client: WorkflowClient, connection: Any) -> None:
    client.submit(RunSpec(input=b"in", run_id="order-1"), connection=connection)
    client.submit(RunSpec(input=b"in"), connection=connection)
    connection.rollback()
    assert list(client.list_runs().runs) == []
    assert client.submit(RunSpec(input=b"other", run_id="order-1")).newly_submitted


def test_a_savepoint_that_is_undone_takes_the_run_along(client: WorkflowClient, connection: Any) -> None:
    with pytest.raises(LookupError), connection.transaction():
        client.submit(RunSpec(input=b"in", run_id="order-1"), connection=connection)
        raise LookupError
    client.submit(RunSpec(input=b"in", run_id="order-2"), connection=connection)
    connection.commit()
    assert [run.run_id for run in client.list_runs().runs] == ["order-2"]


def test_what_is_read_was_committed_before_whoever_reads(url: str, client: WorkflowClient, connection: Any) -> None:
    client.submit(RunSpec(input=b"in", run_id="order-1"), connection=connection)
    connection.commit()
    with Queue.open(url) as other:
        assert other.stats("workflow-steps").pending == 1


def test_an_autocommit_connection_gets_a_transaction_of_its_own(client: WorkflowClient, connect: Connect) -> None:
    connection = connect(autocommit=True)
    client.submit(RunSpec(input=b"in", run_id="order-1"), connection=connection)
    assert client.status("order-1") is not None
    with connection.transaction(force_rollback=True):
        client.submit(RunSpec(input=b"in", run_id="order-2"), connection=connection)
    assert client.status("order-2") is None


def test_the_connection_is_left_as_it_was(client: WorkflowClient, connect: Connect) -> None:
    from psycopg.rows import dict_row
    from psycopg.types.string import TextLoader

    class Loud(TextLoader):
        def load(self, data: Any) -> Any:
            return super().load(data).upper()

    connection = connect(row_factory=dict_row)
    for kind in ("text", "int8", "bytea", "bool"):
        connection.adapters.register_loader(kind, Loud)
    before = connection.execute("SELECT name, setting FROM pg_settings ORDER BY name").fetchall()
    for _ in range(9):  # psycopg prepares what it has sent five times
        client.submit(RunSpec(input=b"in", run_id="order-1"), connection=connection)
    client.signal("order-1", "paid", b"p", connection=connection)
    assert connection.execute("SELECT name, setting FROM pg_settings ORDER BY name").fetchall() == before
    assert connection.execute("SELECT count(*) AS many FROM pg_prepared_statements").fetchone() == {"many": "0"}
    connection.commit()
    assert client.status("order-1") is not None


def test_a_name_is_answered_with_the_run_that_has_it(client: WorkflowClient, connection: Any) -> None:
    there = client.submit(RunSpec(input=b"in", run_id="there"))
    found = client.submit(RunSpec(input=b"in", run_id="there"), connection=connection)
    assert (found.first_job_id, found.newly_submitted) == (there.first_job_id, False)
    with pytest.raises(InputMismatchError):
        client.submit(RunSpec(input=b"other", run_id="there"), connection=connection)
    first = client.submit(RunSpec(input=b"in", run_id="own"), connection=connection)
    again = client.submit(RunSpec(input=b"in", run_id="own"), connection=connection)
    assert (again.first_job_id, again.newly_submitted) == (first.first_job_id, False)
    with pytest.raises(InputMismatchError):
        client.submit(RunSpec(input=b"other", run_id="own"), connection=connection)
    connection.commit()
    assert len(client.list_runs().runs) == 2


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_snapshot_of_long_ago_hides_no_name(
    level: str, client: WorkflowClient, connect: Connect, connection: Any
) -> None:
    connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
    connection.execute("SELECT 1")
    there = client.submit(RunSpec(input=b"in", run_id="there"))
    found = client.submit(RunSpec(input=b"in", run_id="there"), connection=connection)
    assert (found.first_job_id, found.newly_submitted) == (there.first_job_id, False)
    with connect() as other:
        arrived = client.submit(RunSpec(input=b"in", run_id="arrived"), connection=other)
    found = client.submit(RunSpec(input=b"in", run_id="arrived"), connection=connection)
    assert (found.first_job_id, found.newly_submitted) == (arrived.first_job_id, False)


@pytest.mark.parametrize("commits", [True, False])
def test_two_open_transactions_wait_for_each_other_over_a_name(
    commits: bool, client: WorkflowClient, connect: Connect
) -> None:
    first, second = connect(), connect()
    winner = client.submit(RunSpec(input=b"in", run_id="order-1"), connection=first)
    answer = in_thread(lambda: client.submit(RunSpec(input=b"in", run_id="order-1"), connection=second))
    _await_waiter(first)
    first.commit() if commits else first.rollback()
    found = answer()
    second.commit()
    assert found.newly_submitted is not commits
    status = client.status("order-1")
    assert status is not None
    assert status.job_id == (winner if commits else found).first_job_id
    assert len(client.list_runs().runs) == 1


def test_the_users_own_timeout_ends_the_wait_for_a_name(client: WorkflowClient, connect: Connect) -> None:
    first, second = connect(), connect()
    client.submit(RunSpec(input=b"in", run_id="order-1"), connection=first)
    second.execute("SET LOCAL lock_timeout = '50ms'")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        client.submit(RunSpec(input=b"in", run_id="order-1"), connection=second)


def test_a_deadlock_over_names_reaches_one_of_the_two(client: WorkflowClient, connect: Connect) -> None:
    first, second = connect(), connect()
    for each in (first, second):
        each.execute("SET LOCAL deadlock_timeout = '50ms'")
    client.submit(RunSpec(input=b"in", run_id="a"), connection=first)
    client.submit(RunSpec(input=b"in", run_id="b"), connection=second)
    answer = in_thread(lambda: client.submit(RunSpec(input=b"in", run_id="b"), connection=first))
    _await_waiter(second)
    errors = 0
    try:
        client.submit(RunSpec(input=b"in", run_id="a"), connection=second)
        second.commit()
    except psycopg.errors.DeadlockDetected:
        errors += 1
        second.rollback()
    try:
        answer()
        first.commit()
    except psycopg.errors.DeadlockDetected:
        errors += 1
        first.rollback()
    assert errors == 1
    assert {run.run_id for run in client.list_runs().runs} == {"a", "b"}


def test_a_submit_answers_soon_where_an_open_transaction_has_the_name(client: WorkflowClient, connection: Any) -> None:
    client.submit(RunSpec(input=b"in", run_id="order-1"), connection=connection)
    began = time.monotonic()
    with pytest.raises(StorageError, match="order-1") as refused:
        client.submit(RunSpec(input=b"in", run_id="order-1"))
    assert not refused.value.is_permanent
    assert 1.5 < time.monotonic() - began < 6
    assert client.submit(RunSpec(input=b"in", run_id="order-2")).newly_submitted
    connection.commit()
    assert not client.submit(RunSpec(input=b"in", run_id="order-1")).newly_submitted


def test_a_submit_waits_for_a_name_while_the_store_goes_on(client: WorkflowClient, connection: Any) -> None:
    client.submit(RunSpec(input=b"in", run_id="order-1"), connection=connection)
    answer = in_thread(lambda: client.submit(RunSpec(input=b"in", run_id="order-1")))
    for number in range(5):
        client.submit(RunSpec(input=b"in", run_id=f"other-{number}"))
    connection.commit()
    assert not answer().newly_submitted


def test_a_name_is_not_given_twice_however_its_transaction_ends_between(
    client: WorkflowClient, connect: Connect, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The submit looks what has arrived, the program commits, the submit takes the name."""
    from taquba_workflow_sync.storage.postgres.names import Names

    take, passed = Names.take, 0
    for other in (None, connect()):  # of which one that is open has another name
        connection = connect()
        if other is not None:
            client.submit(RunSpec(input=b"in", run_id="another"), connection=other)

        def late(names: Names, queue: str, run_id: str, connection: Any = connection) -> None:
            nonlocal passed
            passed += 1
            connection.commit()
            take(names, queue, run_id)

        name = f"order-{other is None}"
        there = client.submit(RunSpec(input=b"in", run_id=name), connection=connection)
        with monkeypatch.context() as patch:
            patch.setattr(Names, "take", late)
            found = client.submit(RunSpec(input=b"in", run_id=name))
        assert (found.first_job_id, found.newly_submitted) == (there.first_job_id, False)
    assert passed == 2


def test_a_step_whose_run_has_a_name_that_is_not_free_is_put_back(
    client: WorkflowClient, queue: Queue, connection: Any
) -> None:
    client.submit(RunSpec(input=b"in", run_id="child"), connection=connection)

    def run(step: Step) -> Succeed:
        if step.run_id == "parent":
            step.effects.submit(RunSpec(input=b"in", run_id="child"))
        return Succeed()

    with WorkflowRuntime(queue, run) as runtime:
        handle = runtime.submit(RunSpec(input=b"in", run_id="parent", max_attempts_per_step=1))
        with pytest.raises(TimeoutError):
            handle.wait(timeout=3)
        connection.commit()
        assert handle.wait(timeout=30).status is TerminalStatus.SUCCEEDED
        assert client.wait("child", timeout=30).status is TerminalStatus.SUCCEEDED
    puts_back = [event for event in client.history("parent") if event.outcome == "put_back"]
    assert 1 <= len(puts_back) < 30
    assert len(client.list_runs().runs) == 2


def test_nothing_else_takes_a_name_that_an_open_transaction_has(client: WorkflowClient, connection: Any) -> None:
    client.submit(RunSpec(input=b"in", run_id="failed"))
    WorkflowRuntime(client.queue, lambda step: Fail("no")).run_until_idle()
    again = RunSpec(input=b"in", run_id="failed", if_finished=IfFinished.RERUN_FAILED)
    assert client.submit(again, connection=connection).newly_submitted
    client.submit(RunSpec(input=b"in", run_id="member"), connection=connection)
    with pytest.raises(InvalidStateError):
        client.retry("failed")
    with pytest.raises(StorageError, match="member"):
        client.submit_group("group", [RunSpec(input=b"in", run_id="member")])
    connection.rollback()
    client.retry("failed")
    client.submit_group("group", [RunSpec(input=b"in", run_id="member")])


def test_many_named_runs_go_in_beside_an_open_transaction(client: WorkflowClient, connection: Any) -> None:
    client.submit(RunSpec(input=b"in", run_id="order-1"), connection=connection)
    specs = [RunSpec(input=b"in", run_id=f"run-{number}") for number in range(2500)]
    with pytest.raises(StorageError, match="fewer at a time"):
        client.submit_many(specs)
    client.submit_many(specs[:1500])
    connection.commit()
    client.submit_many(specs)
    assert client.queue.stats("workflow-steps").pending == 2501


def test_an_open_transaction_keeps_nobody_from_working(client: WorkflowClient, queue: Queue, connection: Any) -> None:
    client.submit(RunSpec(input=b"in", run_id="order-1"), connection=connection)
    client.signal("order-1", "paid", connection=connection)
    queue.kv.put("k", b"mine", connection=connection)
    with WorkflowRuntime(queue, lambda step: Succeed(step.payload)):
        handles = [client.submit(RunSpec(input=b"in", run_id=f"run-{number}")) for number in range(50)]
        assert all(handle.wait(timeout=30).status is TerminalStatus.SUCCEEDED for handle in handles)
        queue.kv.put("k", b"theirs")
        assert queue.kv.get("k") == b"theirs"
    connection.commit()
    assert queue.kv.get("k") == b"mine"


def test_an_idle_runtime_finds_what_has_come(client: WorkflowClient, queue: Queue, connection: Any) -> None:
    ran = threading.Event()

    def run(step: object) -> Succeed:
        ran.set()
        return Succeed()

    with WorkflowRuntime(queue, run, poll_interval=60):
        time.sleep(1.5)  # it sleeps by then
        client.submit(RunSpec(input=b"in"), connection=connection)
        began = time.monotonic()
        connection.commit()
        await_event(ran)
    assert time.monotonic() - began < 5


def test_who_waits_is_told_by_a_commit_that_notifies(
    client: WorkflowClient, queue: Queue, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taquba_workflow_sync.storage.postgres.changes._LOOK_EVERY", 20.0)  # nor finds out by looking
    store = queue.handle.store
    seen = store.wait_for_changes(None, 0.0, WakeUp()).version
    changes = in_thread(lambda: store.wait_for_changes(seen, 15.0, WakeUp()))
    time.sleep(0.5)
    began = time.monotonic()
    client.submit(RunSpec(input=b"in"), connection=connection, notify=True)
    connection.commit()
    assert changes().are_new
    assert time.monotonic() - began < 8


def test_a_signal_is_sent_with_the_commit(client: WorkflowClient, connection: Any) -> None:
    client.submit(RunSpec(input=b"in", run_id="order-1"))
    assert client.signal("order-1", "paid", b"1", signal_id="s", connection=connection) is SignalOutcome.BUFFERED
    assert client.signals("order-1") == []
    connection.commit()
    assert [each.payload for each in client.signals("order-1")] == [b"1"]
    duplicate = client.signal("order-1", "paid", b"1", signal_id="s", connection=connection)
    assert duplicate is SignalOutcome.DUPLICATE


def test_a_signal_finds_the_run_that_the_transaction_has_submitted(client: WorkflowClient, connection: Any) -> None:
    client.submit(RunSpec(input=b"in", run_id="order-1"), connection=connection)
    client.signal("order-1", "paid", connection=connection)
    client.signal("order-2", "paid", submit=RunSpec(input=b"in"), connection=connection)
    client.signal("order-2", "sent", submit=RunSpec(input=b"in"), connection=connection)
    with pytest.raises(RunNotFoundError):
        client.signal("order-3", "paid", connection=connection)
    connection.commit()
    assert len(client.signals("order-1")) == 1
    assert [each.name for each in client.signals("order-2")] == ["paid", "sent"]


def test_a_flow_is_submitted_and_told_with_the_commit(queue: Queue, connection: Any) -> None:
    pytest.importorskip("msgspec")
    from taquba_workflow_sync.flow import Flow

    flow = Flow[int, int]("orders")

    @flow.start
    def begin(number: int) -> int:
        return number

    handle = flow.submit(7, run_id="order-7", queue=queue, connection=connection)
    flow.signal("order-7", "paid", 1, queue=queue, connection=connection)
    assert flow.client(queue).status("order-7") is None
    connection.commit()
    assert len(flow.client(queue).signals("order-7")) == 1
    WorkflowRuntime(queue, flow).run_until_idle()
    assert handle.result(timeout=10) == 7


def test_a_signal_that_comes_too_late_is_told_in_the_history(client: WorkflowClient, connection: Any) -> None:
    client.submit(RunSpec(input=b"in", run_id="order-1"))
    client.signal("order-1", "paid", connection=connection)
    client.cancel("order-1")
    connection.commit()
    (dropped,) = [event for event in client.history("order-1") if event.kind is EventKind.SIGNAL_DROPPED]
    assert "paid" in str(dropped)
    with pytest.raises(InvalidStateError):
        client.signal("order-1", "paid", connection=connection)


def test_a_run_is_cancelled_with_the_commit(client: WorkflowClient, connection: Any) -> None:
    client.submit(RunSpec(input=b"in", run_id="order-1"))
    assert client.cancel("order-1", reason="no money", connection=connection)
    assert client.outcome("order-1") is None
    connection.commit()
    outcome = client.outcome("order-1")
    assert outcome is not None
    assert (outcome.status, outcome.error) == (TerminalStatus.CANCELLED, "no money")
    assert not client.cancel("order-1", connection=connection)
    assert not client.cancel("nobody", connection=connection)


def test_a_run_may_be_submitted_and_cancelled_by_one_transaction(client: WorkflowClient, connection: Any) -> None:
    client.submit(RunSpec(input=b"in", run_id="order-1"), connection=connection)
    assert client.cancel("order-1", connection=connection)
    connection.commit()
    outcome = client.outcome("order-1")
    assert outcome is not None
    assert outcome.status is TerminalStatus.CANCELLED


def test_a_finished_run_is_started_afresh(client: WorkflowClient, connection: Any) -> None:
    first = client.submit(RunSpec(input=b"in", run_id="order-1"))
    client.cancel("order-1")
    kept = client.submit(RunSpec(input=b"in", run_id="order-1"), connection=connection)
    assert kept.first_job_id == first.first_job_id
    again = RunSpec(input=b"in", run_id="order-1", if_finished=IfFinished.RERUN)
    second = client.submit(again, connection=connection)
    assert second.newly_submitted
    connection.commit()
    status = client.status("order-1")
    assert status is not None
    assert status.job_id == second.first_job_id


def test_a_connection_to_another_database_is_refused_and_spoils_nothing(
    client: WorkflowClient, connection: Any, url: str
) -> None:
    with Queue.open(store_url()) as other:
        elsewhere = WorkflowClient(other)
        elsewhere.submit(RunSpec(input=b"in"), connection=connection)  # in one database are two stores
        connection.execute("INSERT INTO mine VALUES ('row')")
    name = f"other{time.monotonic_ns()}"
    with psycopg.connect(parsed(url).dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    with psycopg.connect(parsed(url).dsn, dbname=name) as stranger:
        stranger.execute("CREATE TABLE mine (what TEXT)")
        with pytest.raises(StoreMismatchError, match=name) as refused:
            client.submit(RunSpec(input=b"in"), connection=stranger)
        assert refused.value.is_permanent
        stranger.execute("INSERT INTO mine VALUES ('row')")
        stranger.commit()
        # The same schema in another database is another store.
        stranger.execute(f'CREATE SCHEMA "{parsed(url).schema}"')
        stranger.execute(f'CREATE TABLE "{parsed(url).schema}".store (id TEXT)')
        stranger.execute(f"INSERT INTO \"{parsed(url).schema}\".store VALUES ('other')")
        with pytest.raises(StoreMismatchError):
            client.submit(RunSpec(input=b"in"), connection=stranger)
        stranger.execute("INSERT INTO mine VALUES ('row')")
        stranger.commit()


def test_what_is_no_connection_is_refused(client: WorkflowClient, connection: Any) -> None:
    for wrong in ("postgresql://", object(), 1):
        with pytest.raises(TypeError, match="connection"):
            client.submit(RunSpec(input=b"in"), connection=wrong)
    with pytest.raises(ValueError, match="notify"):
        client.submit(RunSpec(input=b"in"), notify=True)
    effects = Effects()
    effects.put("k", b"v")
    with pytest.raises(ValueError, match="effects"):
        client.submit(RunSpec(input=b"in", effects=effects), connection=connection)


def test_a_store_in_a_directory_has_no_transactions_of_programs(tmp_path: Path, connection: Any) -> None:
    with Queue.open(tmp_path / "store", durability="relaxed") as queue:
        client = WorkflowClient(queue)
        with pytest.raises(ValueError, match="PostgreSQL"):
            client.submit(RunSpec(input=b"in"), connection=connection)
        with pytest.raises(ValueError, match="PostgreSQL"):
            queue.kv.put("k", b"v", connection=connection)


def test_everything_that_a_submit_says_arrives() -> None:
    job = NewJob(
        "id", "queue", b"\n\0pay\xff", '{"a": "b"}', 3, 4, 5, "dedup", 6, 7,
        RunName("run", b"\x00hash\n", IfFinished.RERUN), True, TimeLimits(1, 2, 3),
        StepSettings("label", 1, Backoff(1, 2), 3, 4), "key", 8, True,
    )  # fmt: skip
    for each in (job, NewSignal("n", b"\n", "i"), arrivals.Cancelled("j", None), arrivals.Put("k", b"", 1)):
        assert arrivals.decoded(arrivals.encoded(each)) == each


def test_more_than_one_transaction_takes_over_is_there_all_the_same(client: WorkflowClient, connection: Any) -> None:
    for number in range(arrivals.MOST + 5):
        client.submit(RunSpec(input=b"in", run_id=f"run-{number}"), connection=connection)
    connection.commit()
    last = client.submit(RunSpec(input=b"in", run_id=f"run-{arrivals.MOST + 4}"))
    assert not last.newly_submitted
    assert client.queue.stats("workflow-steps").pending == arrivals.MOST + 5


def test_what_cannot_be_read_is_set_aside_and_the_rest_goes_on(
    client: WorkflowClient, connection: Any, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    schema = parsed(url).schema
    client.submit(RunSpec(input=b"in", run_id="before"), connection=connection)
    statement = f"INSERT INTO \"{schema}\".taquba_arrival (kind, queue, run_id, body) VALUES ('submit', 'q', 'r', %s)"
    connection.execute(statement, (b"what a newer version says",))
    client.submit(RunSpec(input=b"in", run_id="behind"), connection=connection)
    connection.commit()
    assert {run.run_id for run in client.list_runs().runs} == {"before", "behind"}
    assert "taquba_arrival_refused" in caplog.text
    assert connection.execute(f'SELECT run_id FROM "{schema}".taquba_arrival_refused').fetchall() == [("r",)]


def test_times_of_a_run_hold_from_when_it_is_there(client: WorkflowClient, connection: Any) -> None:
    spec = RunSpec(input=b"in", run_id="order-1", expires_after=timedelta(seconds=0.2))
    client.submit(spec, connection=connection)
    time.sleep(0.4)
    connection.commit()
    assert client.status("order-1") is not None
    assert client.outcome("order-1") is None


def _await_waiter(connection: Any) -> None:
    until = time.monotonic() + 30
    text = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    while connection.execute(text).fetchone() == (0,):
        assert time.monotonic() < until
        time.sleep(0.01)
