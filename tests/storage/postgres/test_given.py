"""Connections of Django and SQLAlchemy are taken as they are: their own books of transactions stay right."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taquba_workflow_sync import Queue, RunSpec, Step, Succeed, TerminalStatus, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.storage.postgres.address import parsed
from tests.processes.harness import ROOT

Mine = Callable[[], list[str]]


def test_django_keeps_its_books(url: str, connect: Callable[..., Any]) -> None:
    pytest.importorskip("django")
    connect(autocommit=True).execute("ALTER TABLE mine ADD PRIMARY KEY (what)")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "tests.storage.postgres.with_django", url]
    done = subprocess.run(command, env=environment, cwd=ROOT, timeout=90, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def engine(url: str) -> Iterator[Any]:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    import psycopg

    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(parsed(url).dsn))
    yield engine
    engine.dispose()


def test_sqlalchemys_connection_commits_what_was_submitted(client: WorkflowClient, engine: Any, mine: Mine) -> None:
    from sqlalchemy import text

    with engine.connect() as connection:
        client.submit(RunSpec(input=b"in", run_id="order-1"), connection=connection)  # the first that it does
        assert client.status("order-1") is None
        connection.execute(text("INSERT INTO mine VALUES ('row')"))
        connection.commit()
        assert client.status("order-1") is not None
        client.submit(RunSpec(input=b"in", run_id="order-2"), connection=connection)
        connection.rollback()
    with engine.begin() as connection:
        client.submit(RunSpec(input=b"in", run_id="order-3"), connection=connection)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        client.submit(RunSpec(input=b"in", run_id="order-4"), connection=connection)
    assert {run.run_id for run in client.list_runs().runs} == {"order-1", "order-3", "order-4"}
    assert mine() == ["row"]


def test_sqlalchemys_session_commits_what_was_submitted(client: WorkflowClient, engine: Any) -> None:
    from sqlalchemy.orm import Session, scoped_session, sessionmaker

    with Session(engine) as session:
        client.submit(RunSpec(input=b"in", run_id="order-1"), connection=session)
        session.commit()
        client.submit(RunSpec(input=b"in", run_id="order-2"), connection=session)
        session.rollback()
    scoped = scoped_session(sessionmaker(engine))
    client.submit(RunSpec(input=b"in", run_id="order-3"), connection=scoped)
    scoped.commit()
    scoped.remove()
    assert {run.run_id for run in client.list_runs().runs} == {"order-1", "order-3"}


def test_what_is_sqlalchemys_and_no_connection_is_refused(client: WorkflowClient, engine: Any) -> None:
    with pytest.raises(TypeError, match="SQLAlchemy"):
        client.submit(RunSpec(input=b"in"), connection=engine)


@pytest.mark.parametrize("kind", ["connection", "session"])
def test_a_step_ends_in_a_transaction_of_sqlalchemys(
    kind: str, client: WorkflowClient, queue: Queue, engine: Any, mine: Mine
) -> None:
    from sqlalchemy import text
    from sqlalchemy.orm import Session

    def run(step: Step) -> Any:
        given = engine.connect() if kind == "connection" else Session(engine)
        with step.transaction(given) as connection:
            connection.execute(text("INSERT INTO mine VALUES (:what)"), {"what": f"{step.run_id} {step.attempts}"})
        if step.attempts == 1:
            raise LookupError
        return Succeed()

    client.submit(RunSpec(input=b"in", run_id="order-1"))
    WorkflowRuntime(queue, run).run_until_idle()
    outcome = client.outcome("order-1")
    assert outcome is not None
    assert outcome.status is TerminalStatus.SUCCEEDED
    assert mine() == ["order-1 2"]
