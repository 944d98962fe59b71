"""A session that a signal's handler has raised out of is never used again, and replaces nothing that was raised."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from taquba_workflow_sync.storage.postgres.sessions import Session, connect
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
