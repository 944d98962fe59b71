"""What a session puts off, to go with the next statement, is written whatever that is, or undone with everything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from taquba_workflow_sync.storage.port.store import OpenOptions
from taquba_workflow_sync.storage.postgres.address import parsed
from taquba_workflow_sync.storage.postgres.sessions import Session, connect
from taquba_workflow_sync.storage.postgres.store import PostgresStore
from taquba_workflow_sync.storage.relational import sql
from tests.postgres import store_url


@pytest.fixture
def url() -> str:
    url = store_url()
    PostgresStore(parsed(url), OpenOptions()).close()
    return url


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    where = parsed(url)
    with closing(connect(where.dsn, where.schema)) as session:
        yield session


def _next_seq(session: Session) -> int:
    ((number,),) = session.execute(sql.READ_META, ("next_seq",)).fetchall()
    return int(number)


def test_what_was_put_off_goes_before_a_text_that_is_run(session: Session) -> None:
    session.run("BEGIN")
    session.execute(sql.WRITE_NEXT_SEQ, (77,))
    assert session.run("SELECT 1") == [(1,)]
    session.commit("SELECT 1")
    assert _next_seq(session) == 77


def test_what_was_put_off_is_undone_with_its_transaction(session: Session) -> None:
    before = _next_seq(session)
    session.run("BEGIN")
    session.execute(sql.WRITE_NEXT_SEQ, (77,))
    session.run("ROLLBACK")
    session.run("BEGIN")
    session.commit("SELECT 1")
    assert _next_seq(session) == before
