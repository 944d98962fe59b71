"""Each guard of a statement, tried alone: on a row that everything else lets in, and it keeps out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from taquba_workflow_sync.storage.relational import sql
from tests.storage.bench import claim, job, put, run

from .conftest import open_at
from .raw import raw

_FUTURE: Final = 1 << 50


class Guarded(NamedTuple):
    """A statement, what it is given (a name of a column stands for what the row has there), and the row it is for."""

    text: str
    values: tuple[object, ...]
    row: str


class Stranger(NamedTuple):
    """A change that makes the row one that the statement must leave alone."""

    statement: str
    changes: str


STATEMENTS: Final = {
    "RENEW": Guarded(sql.RENEW.format(seqs="?", tokens="?"), (1, 1, "seq", "token"), "claimed"),
    "REQUEST_CANCEL": Guarded(sql.REQUEST_CANCEL, ("a reason", "seq"), "claimed"),
    "CLAIMS_OF_OWNER": Guarded(sql.CLAIMS_OF_OWNER, ("owner", "queue", 9), "claimed"),
    "EXPIRED_BARE": Guarded(sql.EXPIRED_BARE, (_FUTURE, "queue", 9), "bare"),
    "CLAIM_OF_TOKEN": Guarded(sql.CLAIM_OF_TOKEN, ("seq", "token", "queue", "lease_until_ms"), "claimed"),
    "ALL_CLAIMS": Guarded(sql.ALL_CLAIMS, ("queue", 9), "claimed"),
    "CLAIM": Guarded(sql.CLAIM, ("t.", "me", 1, 1, 1, "queue", 9), "waiting"),
    "FIRST_IN_LINE": Guarded(sql.FIRST_IN_LINE, ("queue", 9), "waiting"),
    "CLAIM_SEQ": Guarded(sql.CLAIM_SEQ, ("t.", "me", 1, 1, 1, "seq"), "waiting"),
    "CLAIM_ONE": Guarded(sql.CLAIM_ONE, ("t.", "me", 1, 1, 1, "id"), "waiting"),
    "PROMOTE": Guarded(sql.PROMOTE, ("queue", _FUTURE, "queue", _FUTURE, 9), "later"),
    "PROMOTE_KEYED": Guarded(sql.PROMOTE_KEYED, ("queue", _FUTURE, "queue", _FUTURE, 9), "later"),
    "SET_PARKED": Guarded(sql.SET_PARKED, (1, "seq"), "waiting"),
    "LEAVE_BOOT_CLOCK": Guarded(sql.LEAVE_BOOT_CLOCK, (), "later"),
    "REQUEUE": Guarded(sql.REQUEUE, (1, 1, 0, "seq"), "done"),
    "DELETE_FINISHED": Guarded(sql.DELETE_FINISHED, ("seq",), "done"),
    "EXPIRED": Guarded(sql.EXPIRED, (_FUTURE, 9), "done"),
    "WAITING_IN_LINE": Guarded(sql.WAITING_IN_LINE, ("queue", 9), "waiting"),
    "WAITING_FOR_TIME": Guarded(sql.WAITING_FOR_TIME, ("queue", 9), "later"),
    "FIND_DEDUP": Guarded(sql.FIND_DEDUP, ("queue", "dedup_key"), "later"),
    "FIND_ACTIVE_RUN": Guarded(sql.FIND_ACTIVE_RUN, ("queue", "run_id"), "claimed"),
    "FIND_LAST_RUN": Guarded(sql.FIND_LAST_RUN, ("queue", "run_id"), "done"),
}

_ELSEWHERE: Final = "queue = queue + 1"
STRANGERS: Final = (
    Stranger("RENEW", "token = 'another'"),
    Stranger("RENEW", "seq = seq + 1000"),
    Stranger("RENEW", "status = 'pending'"),
    Stranger("REQUEST_CANCEL", "status = 'pending'"),
    Stranger("REQUEST_CANCEL", "seq = seq + 1000"),
    Stranger("CLAIMS_OF_OWNER", "owner = 'another'"),
    Stranger("CLAIMS_OF_OWNER", "lease_until_ms = NULL"),
    Stranger("CLAIMS_OF_OWNER", _ELSEWHERE),
    Stranger("EXPIRED_BARE", "owner = 'somebody'"),
    Stranger("EXPIRED_BARE", f"lease_until_ms = {_FUTURE + 1}"),
    Stranger("EXPIRED_BARE", _ELSEWHERE),
    Stranger("CLAIM_OF_TOKEN", "seq = seq + 1000"),
    Stranger("CLAIM_OF_TOKEN", "token = 'another'"),
    Stranger("CLAIM_OF_TOKEN", _ELSEWHERE),
    Stranger("CLAIM_OF_TOKEN", "lease_until_ms = lease_until_ms + 1"),
    Stranger("CLAIM_OF_TOKEN", "status = 'pending'"),
    Stranger("ALL_CLAIMS", "lease_until_ms = NULL"),
    Stranger("ALL_CLAIMS", _ELSEWHERE),
    Stranger("CLAIM", "status = 'scheduled'"),
    Stranger("CLAIM", _ELSEWHERE),
    Stranger("FIRST_IN_LINE", "status = 'scheduled'"),
    Stranger("FIRST_IN_LINE", _ELSEWHERE),
    Stranger("CLAIM_SEQ", "status = 'scheduled'"),
    Stranger("CLAIM_SEQ", "seq = seq + 1000"),
    Stranger("CLAIM_ONE", "status = 'scheduled'"),
    Stranger("CLAIM_ONE", "id = 'another'"),
    Stranger("PROMOTE", _ELSEWHERE),
    Stranger("PROMOTE", f"due_ms = {_FUTURE + 1}"),
    Stranger("PROMOTE", f"due_clock = 1 - due_clock, due_ms = {_FUTURE + 1}"),
    Stranger("PROMOTE_KEYED", _ELSEWHERE),
    Stranger("PROMOTE_KEYED", f"due_ms = {_FUTURE + 1}"),
    Stranger("SET_PARKED", "status = 'claimed'"),
    Stranger("SET_PARKED", "finished_ms = 1"),
    Stranger("SET_PARKED", "seq = seq + 1000"),
    Stranger("LEAVE_BOOT_CLOCK", "due_clock = 0"),
    Stranger("LEAVE_BOOT_CLOCK", "due_ms = NULL"),
    Stranger("LEAVE_BOOT_CLOCK", "queue = 99"),
    Stranger("REQUEUE", "finished_ms = NULL"),
    Stranger("REQUEUE", "seq = seq + 1000"),
    Stranger("DELETE_FINISHED", "finished_ms = NULL"),
    Stranger("DELETE_FINISHED", "seq = seq + 1000"),
    Stranger("EXPIRED", "expires_ms = NULL"),
    Stranger("EXPIRED", f"expires_ms = {_FUTURE + 1}"),
    Stranger("WAITING_IN_LINE", _ELSEWHERE),
    Stranger("WAITING_IN_LINE", "run_id = 'r', input_hash = x''"),
    Stranger("WAITING_FOR_TIME", _ELSEWHERE),
    Stranger("WAITING_FOR_TIME", "due_ms = NULL"),
    Stranger("WAITING_FOR_TIME", "run_id = 'r', input_hash = x''"),
    Stranger("FIND_DEDUP", _ELSEWHERE),
    Stranger("FIND_DEDUP", "dedup_key = 'another'"),
    Stranger("FIND_ACTIVE_RUN", _ELSEWHERE),
    Stranger("FIND_ACTIVE_RUN", "run_id = 'another'"),
    Stranger("FIND_ACTIVE_RUN", "finished_ms = 1"),
    Stranger("FIND_LAST_RUN", _ELSEWHERE),
    Stranger("FIND_LAST_RUN", "run_id = 'another'"),
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one row of each kind, which is its id, too, each in a queue of its own."""
    root = tmp_path_factory.mktemp("guards") / "store"
    store = open_at(root)
    for kind in ("claimed", "done"):
        put(store, run(kind, queue=kind))
        claim(store, queue=kind)
    put(store, job("bare", id="bare"), job("waiting", id="waiting"))
    claim(store, queue="bare", is_bare=True)
    put(store, job("later", id="later", run_at_ms=_FUTURE // 2, dedup_key="key"))
    store.close()
    with raw(root) as database:
        database.execute(f"UPDATE {sql.JOB} SET id = run_id WHERE run_id IS NOT NULL")
        database.execute(
            f"""UPDATE {sql.JOB} SET status = 'done', token = NULL, owner = NULL, lease_until_ms = NULL,
            finished_ms = 1, verdict = 'succeeded', expires_ms = 1 WHERE id = 'done'"""
        )
    return root


@pytest.fixture
def database(template: Path, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A copy in memory that keeps no rule of the schema: what is tried is the statement alone."""
    with raw(template) as stored, closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        stored.backup(copy)
        copy.execute("PRAGMA ignore_check_constraints = 1")
        copy.execute("PRAGMA foreign_keys = 0")
        yield copy


def _run(database: sqlite3.Connection, guarded: Guarded, row: dict[str, object]) -> int:
    """Run the statement in a transaction that is undone; returns how many rows it found or changed."""
    values = [row[value] if isinstance(value, str) and value in row else value for value in guarded.values]
    before = database.total_changes
    database.execute("SAVEPOINT tried")
    found = len(database.execute(guarded.text, values).fetchall())
    database.execute("ROLLBACK TO tried")
    return max(found, database.total_changes - before)


def _row(database: sqlite3.Connection, kind: str) -> dict[str, object]:
    cursor = database.execute(f"SELECT * FROM {sql.JOB} WHERE id = ?", (kind,))
    return dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_finds_the_row_it_is_for(database: sqlite3.Connection, name: str) -> None:
    if name == "LEAVE_BOOT_CLOCK":
        database.execute(f"UPDATE {sql.JOB} SET due_clock = 1 WHERE id = 'later'")
    guarded = STATEMENTS[name]
    assert _run(database, guarded, _row(database, guarded.row)) == 1


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda each: f"{each.statement}: {each.changes}")
def test_a_statement_leaves_a_stranger_alone(database: sqlite3.Connection, stranger: Stranger) -> None:
    guarded = STATEMENTS[stranger.statement]
    row = _row(database, guarded.row)
    if stranger.statement == "LEAVE_BOOT_CLOCK":
        database.execute(f"UPDATE {sql.JOB} SET due_clock = 1 WHERE id = 'later'")
    changed = database.execute(f"UPDATE {sql.JOB} SET {stranger.changes} WHERE id = ?", (guarded.row,)).rowcount
    assert changed == 1
    assert _run(database, guarded, row) == 0
