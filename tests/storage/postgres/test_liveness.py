"""A handle's own proof that it lives: noticed as lost, opened again by itself, under the same name or another."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from taquba_workflow_sync.errors import StorageError, StoreInUseError
from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.store import OpenOptions
from taquba_workflow_sync.storage.postgres.address import parsed
from taquba_workflow_sync.storage.postgres.sessions import Session, connect
from taquba_workflow_sync.storage.postgres.store import PostgresStore
from tests.postgres import store_url
from tests.storage.bench import QUEUE, claim, job
from tests.support import no_thread_left_behind, wait_until


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


def _key(session: Session, owner: str) -> int | None:
    found = session.execute("SELECT lock_key FROM taquba_live WHERE owner = ?", (owner,)).fetchone()
    return None if found is None else int(found[0])


def _end_sessions(session: Session, what: str) -> int:
    ((ended,),) = session.run(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        f" WHERE application_name LIKE 'taquba {what}' AND pid <> pg_backend_pid()"
    )
    return int(ended)


def _is_held(session: Session, key: int | None) -> bool:
    ((is_free,),) = session.execute("SELECT pg_try_advisory_xact_lock_shared(?)", (key,)).fetchall()
    return not is_free


def test_a_lost_session_is_opened_again_by_the_next_use_under_the_same_name(
    store: PostgresStore, session: Session
) -> None:
    owner = store._life.owner_id
    first = _key(session, owner)
    assert _end_sessions(session, "liveness") == 1

    def is_back() -> bool:
        store.counts()
        return _key(session, owner) != first

    wait_until(is_back, "another key")
    assert _is_held(session, _key(session, owner)) and not _is_held(session, first)
    assert store._life.owner_id == owner


def test_a_beat_opens_a_lost_session_again(store: PostgresStore, session: Session) -> None:
    owner = store._life.owner_id
    first = _key(session, owner)
    assert store.beat(5.0)
    _end_sessions(session, "liveness")
    assert not store.beat(5.0)
    wait_until(lambda: store.beat(5.0), "an answer")
    assert store._life.owner_id == owner
    assert _key(session, owner) not in (None, first)


def test_who_was_declared_dead_takes_another_name(
    store: PostgresStore, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    owner = store._life.owner_id
    session.execute("UPDATE taquba_live SET state = 'dead' WHERE owner = ?", (owner,))
    with caplog.at_level(logging.WARNING):
        store.beat(5.0)
        wait_until(lambda: store._life.owner_id != owner, "another name")
    assert any("was declared dead" in record.getMessage() for record in caplog.records)
    assert _is_held(session, _key(session, store._life.owner_id))


def test_who_was_declared_dead_claims_nothing_under_its_old_name(store: PostgresStore, session: Session) -> None:
    """Others take what they find under it at once: the step would run here and there."""
    store.insert([job()])
    session.execute("UPDATE taquba_live SET state = 'dead' WHERE owner = ?", (store._life.owner_id,))
    with pytest.raises(StorageError, match="declared dead"):
        store.settle_and_claim((), [ClaimRequest((LaneClaim(QUEUE, 30_000),), 1)])
    assert store.counts()[QUEUE].claimed == 0


def test_every_session_opens_again_by_itself_and_no_call_fails_for_one_that_was_idle(
    store: PostgresStore, session: Session
) -> None:
    store.insert([job()])
    store.counts()
    assert _end_sessions(session, "%") >= 3
    time.sleep(0.1)  # their farewells arrive
    store.counts()
    store.insert([job()])
    assert sum(each.pending for each in store.counts().values()) == 2


def test_nothing_waits_for_the_grace_of_who_has_closed(url: str, store: PostgresStore, session: Session) -> None:
    other = PostgresStore(parsed(url))
    other.insert([job()])
    held = claim(other)
    owner = other._life.owner_id
    other.close()
    assert session.execute("SELECT state FROM taquba_live WHERE owner = ?", (owner,)).fetchall() == [("dead",)]
    assert store.abandoned_claims()
    assert held.token


def test_no_thread_stays_once_the_session_is_open_again(url: str, session: Session) -> None:
    with no_thread_left_behind(), closing(PostgresStore(parsed(url))) as store:
        _end_sessions(session, "liveness")
        time.sleep(0.2)
        store.counts()
        wait_until(lambda: store.beat(5.0), "an answer")


def test_a_closed_handle_opens_no_session_again(url: str, session: Session) -> None:
    store = PostgresStore(parsed(url))
    owner = store._life.owner_id
    _end_sessions(session, "liveness")
    store.close()
    assert store._life._liveness.has_session is False
    assert _key(session, owner) is not None, "it could not say that it went, so its grace is waited for"


def test_who_was_stopped_inside_a_transaction_does_not_stop_everybody(url: str, store: PostgresStore) -> None:
    """The server ends the session that has the store's lock and says nothing; its owner writes on another one."""
    store.insert([job()])
    transactor = store._commits._transactor
    writer = store._connections.writer()
    writer.run(transactor._begin)  # type: ignore[attr-defined]
    began = time.monotonic()
    with closing(PostgresStore(parsed(url))) as other:
        other.insert([job()])
    assert 3 < time.monotonic() - began < 15
    store.insert([job()])
    assert store.counts()[QUEUE].pending == 3


def test_every_session_has_both_ends_look_after_the_link(store: PostgresStore) -> None:
    with store._connections.reading() as session:
        settings = dict(
            session.run(
                "SELECT name, setting FROM pg_settings WHERE name LIKE 'tcp_%' OR name LIKE '%session_timeout'"
                " OR name = 'client_connection_check_interval'"
            )
        )
    assert settings["client_connection_check_interval"] == "1000"
    assert settings["idle_session_timeout"] == "0"
    assert settings["idle_in_transaction_session_timeout"] == "5000"


def test_the_store_is_refused_to_a_second_only_handle(url: str) -> None:
    with closing(PostgresStore(parsed(url), OpenOptions(is_exclusive=True))) as store:
        with pytest.raises(StoreInUseError):
            PostgresStore(parsed(url))
        assert store.beat(5.0)


def test_an_only_handle_that_lost_its_session_to_another_refuses_to_work(url: str) -> None:
    where = parsed(url)
    with closing(PostgresStore(where, OpenOptions(is_exclusive=True))) as store:
        with closing(connect(where.dsn, where.schema)) as other:
            _end_sessions(other, "liveness")
            other.execute("SELECT pg_advisory_lock(?)", (where.key("open"),))

            def is_refused() -> bool:
                try:
                    store.counts()
                except StoreInUseError:
                    return True
                return False

            wait_until(is_refused, "a refusal")
        wait_until(lambda: not is_refused(), "being the only one again")


def test_a_fork_leaves_the_parents_proof_to_the_parent(store: PostgresStore, session: Session) -> None:
    """The child says nothing to the server when it drops what it has inherited, and keeps nothing of it open."""
    liveness = store._life._liveness
    key = _key(session, store._life.owner_id)
    inherited = liveness._session
    assert inherited is not None
    fd = inherited.raw.fileno()
    pid = os.fork()
    if pid == 0:
        is_let_go = os.path.realpath(f"/proc/self/fd/{fd}") == os.devnull
        os._exit(0 if is_let_go else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert _is_held(session, key) and liveness._session is inherited and store.beat(5.0)
