"""What a session puts off, to go with the next statement, is written whatever that is, or undone with everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from taquba_workflow_sync.storage.port.settlement import Ongoing
from taquba_workflow_sync.storage.port.store import OpenOptions
from taquba_workflow_sync.storage.postgres import sessions
from taquba_workflow_sync.storage.postgres.address import parsed
from taquba_workflow_sync.storage.postgres.sessions import Session, connect
from taquba_workflow_sync.storage.postgres.store import PostgresStore
from taquba_workflow_sync.storage.relational import sql
from tests.postgres import store_url
from tests.storage.bench import claims, holding, put_one


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


@pytest.mark.parametrize("many", [1, 4])
def test_a_turn_of_steps_that_go_on_takes_four_round_trips(
    url: str, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begin with the lock, the clock and the queue; what waits in line; the history with the steps; the commit."""
    monkeypatch.setattr(sessions, "_is_main", lambda: True)  # every statement then takes one of the two ways
    sent: list[tuple[Session, str]] = []
    for name in ("_send", "run"):
        whole = getattr(Session, name)

        def counted(self: Session, what: object, name: str = name, whole: Callable[..., object] = whole) -> object:
            sent.append((self, name))
            return whole(self, what)

        monkeypatch.setattr(Session, name, counted)
    with closing(PostgresStore(parsed(url), OpenOptions())) as store:
        for _ in range(many):
            put_one(store)
        held = claims(store)
        for _ in range(2):  # at first statements are prepared, and the queue is not known yet
            sent.clear()
            endings = [holding(store, each) for each in held]
            answers, _ = store.settle_and_claim(endings, [])
            assert answers == [Ongoing.HELD] * many
            held = [each._replace(token=ending.leave.token) for each, ending in zip(held, endings, strict=True)]
        writer = store._connections.open_writer  # others tell of the commit, and that this handle lives
        assert [name for session, name in sent if session is writer] == ["run", "_send", "_send", "_send"]


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
