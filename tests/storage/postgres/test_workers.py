"""Who works on a store on a server: suspects, the declared dead, and how what is shown is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Final

import pytest

from taquba_workflow_sync.storage.port.limit import Limit
from taquba_workflow_sync.storage.postgres import dialect
from taquba_workflow_sync.storage.postgres.address import parsed
from taquba_workflow_sync.storage.postgres.sessions import Session, connect
from taquba_workflow_sync.storage.postgres.store import PostgresStore
from taquba_workflow_sync.storage.relational import sql
from tests.postgres import store_url
from tests.storage.bench import QUEUE, claim, put, run
from tests.support import wait_until

_MANY: Final = 20_000


@pytest.fixture
def url() -> str:
    return store_url()


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(parsed(url))) as store:
        yield store


@pytest.fixture
def other(url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(parsed(url))) as store:
        yield store


@pytest.fixture
def session(url: str, store: PostgresStore) -> Iterator[Session]:
    where = parsed(url)
    with closing(connect(where.dsn, where.schema)) as session:
        yield session


def _states(session: Session) -> list[str]:
    return [state for (state,) in session.run(f'SELECT state FROM "{session.schema}".taquba_live ORDER BY owner')]


def test_whose_lock_is_free_is_not_known_to_be_dead_and_a_look_declares_nobody(
    store: PostgresStore, other: PostgresStore, session: Session
) -> None:
    put(store, run("a"))
    claim(other)
    assert [row.lives for row in store.workers()] == [True]
    other._life._liveness.be_quiet(5)  # or it would open another session
    session.run(
        "SELECT pg_terminate_backend(l.pid) FROM pg_locks AS l JOIN"
        f' "{session.schema}".taquba_live AS o ON l.objid = (o.lock_key & 4294967295)::oid'
        f" WHERE l.locktype = 'advisory' AND o.owner = '{other._life.owner_id}'"
    )
    wait_until(lambda: [row.lives for row in store.workers()] == [None], "a free lock")
    for _ in range(3):
        assert [row.lives for row in store.workers()] == [None]
    assert _states(session) == ["live", "live"]


def test_the_declared_dead_are_shown_dead_while_they_have_claims(
    store: PostgresStore, other: PostgresStore, session: Session
) -> None:
    put(store, run("a"))
    claim(other)
    session.execute("UPDATE taquba_live SET state = 'dead' WHERE owner = ?", (other._life.owner_id,))
    assert [row.lives for row in store.workers()] == [False]


def test_who_was_declared_dead_is_shown_again_under_its_other_name(
    store: PostgresStore, other: PostgresStore, session: Session
) -> None:
    other.enrol()
    first = other._life.owner_id
    session.execute("UPDATE taquba_live SET state = 'dead' WHERE owner = ?", (first,))
    assert store.workers() == []
    other.beat(5.0)
    wait_until(lambda: other._life.owner_id != first, "another name")
    other.enrol()
    assert [row.lives for row in store.workers()] == [True]


def _plan(session: Session, statement: str) -> str:
    text = dialect.translated(statement, session.schema)
    for number in range(statement.count("?"), 0, -1):
        text = text.replace(f"${number}", "1")
    return "\n".join(line for (line,) in session.run(f"EXPLAIN {text}"))


@pytest.mark.parametrize("has_statistics", [False, True], ids=["no statistics", "analyzed"])
def test_no_look_reads_the_table_of_jobs_from_end_to_end(
    store: PostgresStore, session: Session, has_statistics: bool
) -> None:
    store.set_limit(QUEUE, Limit("k*", concurrency=1))
    put(store, *(run(f"{number}", limit_key=f"k{number % 7}") for number in range(50)))
    claim(store)
    session.run(
        f"""INSERT INTO "{session.schema}".{sql.JOB}
            (seq, id, queue, status, priority, place, max_attempts, enqueued_ms, rank)
        SELECT 1000 + i, 'W' || i, 1, 'pending', 1000, i, 3, 0, 1000 FROM generate_series(1, {_MANY}) AS n (i)"""
    )
    if has_statistics:
        session.run(f'ANALYZE "{session.schema}".{sql.JOB}')
    for statement, index in (
        (sql.CLAIMS_IN_TURNS, "taquba_job_claimed"),
        (sql.USAGE_OF_KEYS, "taquba_job_keyed"),
    ):
        plan = _plan(session, statement)
        assert index in plan and f"Seq Scan on {sql.JOB}" not in plan, plan
