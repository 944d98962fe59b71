"""Who is declared dead: by one observer's clock, after a grace, and never just after the server's start.

Those who only lost a session, who are stopped for a moment, or whom an observer that was itself stopped has not
watched, keep what they hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from taquba_workflow_sync.storage.postgres import observing
from taquba_workflow_sync.storage.postgres.address import parsed
from taquba_workflow_sync.storage.postgres.connections import Connections
from taquba_workflow_sync.storage.postgres.observing import AFTER_START_S, GRACE_S, Observer, Suspects
from taquba_workflow_sync.storage.postgres.sessions import Session, connect
from taquba_workflow_sync.storage.postgres.sql import owners
from taquba_workflow_sync.storage.postgres.store import PostgresStore
from tests.postgres import store_url


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def suspects(clock: _Clock) -> Suspects:
    return Suspects(monotonic=clock)


def test_a_lock_must_be_free_at_every_look_for_the_grace(suspects: Suspects, clock: _Clock) -> None:
    dead = []
    for _ in range(6):
        dead.append(suspects.look({"a": 1}))
        clock.now += GRACE_S / 4
    assert dead == [{}, {}, {}, {}, {"a": 1}, {"a": 1}]


def test_one_look_at_a_held_lock_starts_the_grace_again(suspects: Suspects, clock: _Clock) -> None:
    for free in ({"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}, {}, {"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}):
        assert suspects.look(free) == {}
        clock.now += GRACE_S / 4


def test_another_key_starts_the_grace_again(suspects: Suspects, clock: _Clock) -> None:
    """Its owner was there in between, and lost its session again."""
    for key in (1, 1, 1, 1, 2, 2, 2, 2):
        assert suspects.look({"a": key}) == {}
        clock.now += GRACE_S / 4


def test_an_observer_that_was_stopped_has_not_watched(suspects: Suspects, clock: _Clock) -> None:
    suspects.look({"a": 1})
    for _ in range(3):
        clock.now += 3_600
        assert suspects.look({"a": 1}) == {}, "one gap counts at most a quarter of the grace"
    clock.now += 3_600
    assert suspects.look({"a": 1}) == {"a": 1}


def test_an_observer_that_was_cut_off_begins_anew(suspects: Suspects, clock: _Clock) -> None:
    for _ in range(4):
        suspects.look({"a": 1})
        clock.now += GRACE_S / 4
    suspects.begin_anew()
    assert suspects.look({"a": 1}) == {}


# -- over a server -----------------------------------------------------------------------------------------------------


@pytest.fixture
def url() -> str:
    return store_url()


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(parsed(url))) as store:
        yield store


@pytest.fixture
def session(url: str, store: PostgresStore) -> Iterator[Session]:
    where = parsed(url)
    with closing(connect(where.dsn, where.schema)) as session:
        yield session


@pytest.fixture
def observer(url: str, session: Session, clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Observer]:
    monkeypatch.setattr(observing, "AFTER_START_S", 0.0)
    connections = Connections(parsed(url))
    yield Observer(connections, suspects=Suspects(monotonic=clock))
    connections.close(for_good=True)


def _forget(session: Session, owner: str = "gone", state: str = "live") -> None:
    """Have there be an owner whose session is gone."""
    statement = "INSERT INTO taquba_live (owner, lock_key, host, pid, state) VALUES (?, ?, ?, ?, ?)"
    session.execute(statement, (owner, 12345, "h", 1, state))


def _watch(observer: Observer, clock: _Clock, looks: int) -> None:
    for _ in range(looks):
        observer.look()
        clock.now += GRACE_S / 4


def _state(session: Session, owner: str) -> str:
    ((state,),) = session.execute("SELECT state FROM taquba_live WHERE owner = ?", (owner,)).fetchall()
    return str(state)


def test_an_owner_with_a_session_lives(observer: Observer, store: PostgresStore, clock: _Clock) -> None:
    owner = store._life.owner_id
    _watch(observer, clock, 10)
    assert (observer.is_alive(owner), observer.is_suspect(owner)) == (True, False)


def test_an_owner_nobody_has_heard_of_is_unknown(observer: Observer) -> None:
    assert observer.is_alive("nobody") is None


def test_a_vanished_owner_is_suspected_and_then_declared_dead_in_its_row(
    observer: Observer, session: Session, clock: _Clock
) -> None:
    _forget(session)
    _watch(observer, clock, 4)
    assert (observer.is_alive("gone"), observer.is_suspect("gone"), _state(session, "gone")) == (True, True, "live")
    _watch(observer, clock, 1)
    assert (observer.is_alive("gone"), observer.is_suspect("gone"), _state(session, "gone")) == (False, True, "dead")


def test_who_is_declared_dead_is_dead_to_everybody_at_once(observer: Observer, session: Session) -> None:
    _forget(session, state="dead")
    observer.look()
    assert observer.is_alive("gone") is False


def test_nobody_is_declared_dead_just_after_the_servers_start(
    observer: Observer, session: Session, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash and a promotion empty the unlogged table, and whoever looks first notes when that was."""
    monkeypatch.setattr(observing, "AFTER_START_S", AFTER_START_S)
    _forget(session)
    session.execute("DELETE FROM taquba_incarnation")
    _watch(observer, clock, 10)
    assert (observer.is_alive("gone"), observer.is_suspect("gone")) == (True, True)
    ((seen,),) = session.execute(
        "SELECT count(*) FROM taquba_incarnation WHERE seen > now() - interval '1 minute'"
    ).fetchall()
    assert seen == 1
    session.execute("UPDATE taquba_incarnation SET seen = now() - interval '14 s'")
    _watch(observer, clock, 1)
    assert observer.is_alive("gone") is True


def test_an_owner_that_came_back_under_another_key_is_not_declared(
    observer: Observer, session: Session, clock: _Clock
) -> None:
    """Its row named a key that nobody holds at every look; at the last moment it names another."""
    _forget(session)
    _watch(observer, clock, 4)
    assert session.execute(owners.DECLARE, ("gone", 54321)).rowcount == 0
    assert _state(session, "gone") == "live"


def test_an_owner_whose_lock_is_held_at_the_last_moment_is_not_declared(
    observer: Observer, session: Session, url: str
) -> None:
    _forget(session)
    where = parsed(url)
    with closing(connect(where.dsn, where.schema)) as other:
        other.execute("SELECT pg_advisory_lock(?)", (12345,))
        assert session.execute(owners.DECLARE, ("gone", 12345)).rowcount == 0


def test_a_failed_look_forgets_the_grace(url: str, session: Session, clock: _Clock) -> None:
    connections = Connections(parsed(url))
    observer = Observer(connections, suspects=Suspects(monotonic=clock))
    _forget(session)
    _watch(observer, clock, 4)
    session.run(f'ALTER TABLE "{session.schema}".taquba_live RENAME TO elsewhere')
    observer.look()
    assert observer.is_alive("gone") is None
    session.run(f'ALTER TABLE "{session.schema}".elsewhere RENAME TO taquba_live')
    _watch(observer, clock, 4)
    assert observer.is_alive("gone") is True
    connections.close(for_good=True)


def test_a_store_that_is_closed_leaves_no_row_and_no_wait(url: str, session: Session) -> None:
    other = PostgresStore(parsed(url))
    owner = other._life.owner_id
    other.close()
    assert session.execute("SELECT state FROM taquba_live WHERE owner = ?", (owner,)).fetchall() == []
