"""A move that cannot be says why, and leaves both stores as they were."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from taquba_workflow_sync import Queue, StorageError, StoreAccessError, WorkflowClient
from taquba_workflow_sync.storage.embedded.cache import DATABASE_NAME
from taquba_workflow_sync.storage.moving import calls
from taquba_workflow_sync.storage.moving import move as moves
from taquba_workflow_sync.storage.moving.embedded import EmbeddedSide
from taquba_workflow_sync.storage.moving.postgres import PostgresSide
from taquba_workflow_sync.storage.postgres.address import parsed
from tests.storage.moving.conftest import Pair, is_open
from tests.storage.moving.furnished import rows_in, told


def _put(address: str, many: int = 3) -> None:
    with Queue.open(address) as queue:
        queue.enqueue_batch("q", [bytes(3000)] * many)


def test_a_target_that_is_not_empty_is_left_alone(empty_pair: Pair) -> None:
    _put(empty_pair.source)
    _put(empty_pair.target, 1)
    with pytest.raises(StorageError, match="is not empty"):
        empty_pair.move()
    with Queue.open(empty_pair.source) as source, Queue.open(empty_pair.target) as target:
        assert source.stats("q").pending == 3
        assert target.stats("q").pending == 1
        assert source.claim("q") is not None


def test_a_source_that_is_not_there_is_not_made(empty_pair: Pair) -> None:
    with pytest.raises(StorageError, match="there is no store"):
        empty_pair.move()
    assert not Queue.is_store(empty_pair.source)
    assert not Queue.is_store(empty_pair.target)
    with pytest.raises(StorageError, match="was begun"):
        empty_pair.abort()


def test_a_store_is_moved_to_the_other_engine_only(empty_pair: Pair) -> None:
    for call in (Queue.move, Queue.abort_move):
        with pytest.raises(ValueError, match="are of one kind"):
            call(empty_pair.source, empty_pair.source)
    with pytest.raises(ValueError, match="wait"):
        Queue.move(empty_pair.source, empty_pair.target, wait=-1)


class _Killed(BaseException):
    pass


def _until(name: str) -> object:
    def at(reached: str) -> None:
        if reached == name:
            raise _Killed

    return at


def test_a_store_that_is_part_of_a_move_is_part_of_no_other(empty_pair: Pair) -> None:
    _put(empty_pair.source)
    with pytest.raises(_Killed):
        empty_pair.move(at=_until("copied"))
    assert not is_open(empty_pair.source)
    assert not is_open(empty_pair.target)
    elsewhere = Pair(empty_pair.source, empty_pair.spare, "")
    for call in (elsewhere.move, elsewhere.abort):
        with pytest.raises(StorageError, match="is being moved to"):
            call()
    backwards = Pair(empty_pair.target, empty_pair.source, "")
    with pytest.raises(StorageError, match="is being filled"):
        backwards.move()
    with pytest.raises(StorageError, match="was begun"):
        backwards.abort()
    empty_pair.abort()
    assert is_open(empty_pair.source)
    assert is_open(empty_pair.target)
    with pytest.raises(StorageError, match="was begun"):
        empty_pair.abort()


def test_what_fails_before_anything_is_copied_leaves_both_stores_open(empty_pair: Pair) -> None:
    places = ("claimed target", "mark source", "marked source", "close source")
    _put(empty_pair.source, len(places))  # a job for each: what is put back waits for its next attempt
    for name in places:
        with pytest.raises(_Killed):
            empty_pair.move(at=_until(name))
        with Queue.open(empty_pair.source) as queue:
            claim = queue.claim("q")
            assert claim is not None, name
            queue.ack(claim) if name == "close source" else queue.nack(claim, "again")
        assert is_open(empty_pair.target), name


@pytest.mark.parametrize("direction", ["to-postgres"], indirect=True)
@pytest.mark.parametrize(
    ("change", "told_of"),
    [
        (
            "UPDATE taquba_job_4 SET enqueued_ms = 'late' WHERE seq = 2",
            "row 2 of taquba_job_4.*enqueued_ms is of type",
        ),
        ("UPDATE taquba_job_4 SET last_error = CAST(x'ff' AS TEXT) WHERE seq = 2", "taquba_job_4"),
        ("UPDATE taquba_job_4 SET headers = x'ff' WHERE seq = 2", "row 2 of taquba_job_4"),
        ("UPDATE taquba_overflow_4 SET data = 1.5", "row .* of taquba_overflow_4"),
    ],
)
def test_a_damaged_row_is_named_and_the_move_can_be_undone(empty_pair: Pair, change: str, told_of: str) -> None:
    _put(empty_pair.source)
    place = Path(empty_pair.source)
    with closing(sqlite3.connect(place / "db" / DATABASE_NAME)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(change)
        connection.commit()
    with pytest.raises(StorageError, match=told_of) as raised:
        empty_pair.move()
    assert raised.value.is_permanent
    assert "--abort" in str(raised.value)
    assert not is_open(empty_pair.source)
    with pytest.raises(StorageError, match=told_of):
        empty_pair.move()
    empty_pair.abort()
    with Queue.open(empty_pair.target) as queue:
        assert queue.list_queues() == []
    with Queue.open(empty_pair.source) as queue:
        assert queue.check().problems != []


@pytest.mark.parametrize("direction", ["to-postgres"], indirect=True)
def test_a_row_that_was_changed_on_its_way_is_found(empty_pair: Pair) -> None:
    _put(empty_pair.source)
    address = parsed(empty_pair.target)

    def change(name: str) -> None:
        if name == "copied":
            with psycopg.connect(address.dsn) as other:
                other.execute(f'UPDATE "{address.schema}".taquba_moved_job_4 SET priority = priority + 1 WHERE seq = 2')

    with pytest.raises(StorageError, match=r"row \(2,\) of taquba_job_4 differs"):
        empty_pair.move(at=change)
    assert not is_open(empty_pair.target)

    def remove(name: str) -> None:
        if name == "copied":
            with psycopg.connect(address.dsn) as other:
                other.execute(f'DELETE FROM "{address.schema}".taquba_moved_overflow_4')

    with pytest.raises(StorageError, match="taquba_job_4 differs"):
        empty_pair.move(at=remove)
    empty_pair.abort()
    with pytest.raises(StorageError, match="taquba_overflow_4 has 3 rows in"):
        empty_pair.move(at=remove)
    empty_pair.abort()
    empty_pair.move()


@pytest.mark.parametrize("direction", ["from-postgres"], indirect=True)
def test_a_target_that_is_full_gets_the_rest_when_it_has_room(empty_pair: Pair) -> None:
    with Queue.open(empty_pair.source) as queue:
        for _ in range(4):
            queue.enqueue_batch("q", [bytes(900_000)] * 5)
        before = told(queue.handle.store)
    Queue.open(empty_pair.target).close()
    with closing(PostgresSide(empty_pair.source)) as source, closing(EmbeddedSide(empty_pair.target)) as target:
        target.connection.execute("PRAGMA max_page_count = 2500").fetchall()
        with pytest.raises(StorageError, match="full"):
            moves.move(source, target, 10)
        held = sum(len(rows) for rows in rows_in(Path(empty_pair.target)).values())
        assert held > 0, "what had room stays"
    assert not is_open(empty_pair.source)
    assert not is_open(empty_pair.target)
    empty_pair.move()
    with Queue.open(empty_pair.target) as queue:
        assert told(queue.handle.store) == before


@pytest.mark.parametrize("direction", ["from-postgres"], indirect=True)
def test_a_role_that_may_not_change_tables_cannot_move_the_store(empty_pair: Pair) -> None:
    _put(empty_pair.source)
    address = parsed(empty_pair.source)
    role = f"worker_{address.schema}"
    with psycopg.connect(address.dsn, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN")
        owner.execute(f'GRANT USAGE ON SCHEMA "{address.schema}" TO {role}')
        owner.execute(f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "{address.schema}" TO {role}')
        owner.execute(f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA "{address.schema}" TO {role}')
    url = empty_pair.source.replace("//taquba@", f"//{role}@")
    with pytest.raises(StoreAccessError):
        calls.move(url, empty_pair.target, 10)
    assert is_open(empty_pair.target)
    with Queue.open(empty_pair.source) as queue:
        assert queue.claim("q") is not None


def test_no_password_is_told(empty_pair: Pair, direction: str) -> None:
    def secret(address: str) -> str:
        return address.replace("//taquba@", "//taquba:s3cret@")

    with Queue.open(empty_pair.source) as queue:
        WorkflowClient(queue).submit(run_id="r")
        calls.move(secret(empty_pair.source), secret(empty_pair.target), 10)
        with pytest.raises(StorageError) as raised:
            queue.enqueue("q", b"")
    assert "s3cret" not in str(raised.value)
    with pytest.raises(StorageError) as raised:
        Queue.open(secret(empty_pair.source))
    assert "s3cret" not in str(raised.value)
    assert ("postgresql://taquba@" in str(raised.value)) == (direction is not None)
