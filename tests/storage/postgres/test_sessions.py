"""A session that a signal's handler has raised out of is never used again, and replaces nothing that was raised."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from taquba_workflow_sync.storage.postgres import sessions
from taquba_workflow_sync.storage.postgres.sessions import NotCommittedError, Session, connect, wait_for
from taquba_workflow_sync.storage.relational import sql
from tests.postgres import server_url


class Stopped(BaseException):
    """What a signal's handler raises."""


@pytest.fixture
def session() -> Iterator[Session]:
    pytest.importorskip("psycopg")
    session = connect(server_url(), "taquba")
    yield session
    session.close()


@contextmanager
def alarm() -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise Stopped

    before = signal.signal(signal.SIGUSR1, stop)
    thread = threading.Thread(target=_ring, args=(threading.get_ident(),))
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def _ring(thread: int) -> None:
    time.sleep(0.3)
    signal.pthread_kill(thread, signal.SIGUSR1)


@pytest.mark.parametrize("how", ["execute", "run"])
def test_what_was_raised_inside_a_statement_comes_out_of_its_transaction(session: Session, how: str) -> None:
    with alarm(), pytest.raises(Stopped):
        session.execute("BEGIN")
        try:
            getattr(session, how)("SELECT pg_sleep(20)")
        finally:
            session.execute(sql.COMMIT)
    assert session.raw.closed
    assert not session.in_transaction


def test_a_commit_that_the_server_has_made_a_rollback_of_is_none(session: Session) -> None:
    """After a failed statement the server answers a COMMIT with ROLLBACK, and with no error."""
    import psycopg

    session.run("BEGIN")
    with pytest.raises(psycopg.Error):
        session.execute("SELECT 1 / 0")
    with pytest.raises((NotCommittedError, psycopg.Error)):
        session.commit("SELECT 1")
    session.run("ROLLBACK")
    session.run("BEGIN")
    assert session.commit("SELECT 7").fetchall() == [(7,)]
    assert not session.in_transaction


def test_a_rollback_in_place_of_a_commit_is_told(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has ended the transaction before: what comes back for the COMMIT is looked at."""
    session.run("BEGIN")
    made = session._call_of

    def rolls_back(statement: str, values: Any) -> Any:
        return made("ROLLBACK" if statement == "COMMIT" else statement, values)

    monkeypatch.setattr(session, "_call_of", rolls_back)
    with pytest.raises(NotCommittedError, match="rolled it back"):
        session.commit("SELECT 1")


def test_what_was_prepared_is_forgotten_in_time_and_no_name_is_used_twice(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_MOST_PREPARED", 3)
    for number in range(10):
        assert session.execute(f"SELECT {number}").fetchall() == [(number,)]
    assert len(session._prepared) <= 3
    ((there,),) = session.execute("SELECT count(*) FROM pg_prepared_statements").fetchall()
    assert there <= 3
    session.run("BEGIN")
    for number in range(10, 20):
        assert session.execute(f"SELECT {number}").fetchall() == [(number,)]
    names = list(session._prepared.values())
    assert len(names) == len(set(names)) > 3, "nothing is forgotten inside a transaction"
    session.run("COMMIT")
    assert session.execute("SELECT 1").fetchall() == [(1,)]
    assert len(session._prepared) == 1


def test_a_session_of_a_process_with_very_many_descriptors_is_waited_for() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1_200:
        pytest.skip(f"this machine allows {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1_200), hard))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
    try:
        session = connect(server_url(), "taquba")
        try:
            assert session.raw.fileno() > 1_024
            assert session.execute("SELECT 1").fetchall() == [(1,)]
            assert session.run("SELECT 2") == [(2,)]
            wait_for(session.raw.fileno(), timeout=0)
        finally:
            session.close()
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
