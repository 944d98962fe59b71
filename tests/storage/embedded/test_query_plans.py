"""No hot statement scans the job table, and the claim stays on its partial index whatever the table holds."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from taquba_workflow_sync.storage.embedded import listing, sql
from taquba_workflow_sync.storage.embedded.cache import connect
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict

from .conftest import open_at

FINISHED = 100_000

_FILL = f"""WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {FINISHED})
    INSERT INTO {sql.JOB} (seq, id, queue, status, priority, place, max_attempts, enqueued_ms, finished_ms,
        expires_ms, verdict, run_id, input_hash)
    SELECT i, 'F' || i, 1 + i % 2, CASE i % 3 WHEN 0 THEN 'done' WHEN 1 THEN 'dead' ELSE 'cancelled' END, 1000, i, 3, 0,
        i, i + 60000, CASE i % 3 WHEN 1 THEN 'failed' END, 'r' || i, x'00' FROM n"""


@pytest.fixture(scope="module", params=[False, True], ids=["no statistics", "analyzed"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A store with 100,000 finished rows and few others; with and without what ANALYZE leaves behind."""
    root: Path = tmp_path_factory.mktemp("plans") / "store"
    open_at(root).close()
    with closing(connect(root / "db", synchronous=1)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"INSERT INTO {sql.QUEUE} (name) VALUES ('q'), ('other')")
        connection.execute(_FILL)
        for status, columns, values in (
            ("pending", "", ""),
            ("scheduled", ", due_ms", ", 5"),
            ("scheduled", ", due_ms, due_clock", ", 5, 1"),
            ("claimed", ", token, owner, lease_until_ms, claimed_ms", ", 't.1.1', 'o', 5, 5"),
            ("claimed", ", token, owner, lease_until_ms, claimed_ms", ", 't.1.2', '', 5, 5"),
        ):
            for _ in range(20):
                connection.execute(
                    f"INSERT INTO {sql.JOB} (id, queue, status, priority, place, max_attempts, enqueued_ms{columns})"
                    f" VALUES (hex(randomblob(8)), 1, '{status}', 1000, abs(random()), 3, 0{values})"
                )
        connection.execute(f"UPDATE {sql.QUEUE} SET pending = 20, scheduled = 40, claimed = 40 WHERE id = 1")
        connection.execute("COMMIT")
        if request.param:
            connection.execute("ANALYZE")
        yield connection


def plan(connection: sqlite3.Connection, statement: str) -> list[str]:
    """What SQLite says it will do; placeholders are given values nobody has."""
    values = [1] * statement.count("?")
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


def lines_about_jobs(steps: list[str]) -> list[str]:
    return [step for step in steps if re.search(rf"\b({sql.JOB}|{sql.ATTEMPT}|{sql.OVERFLOW}|j|a)\b", step)]


_VALUES = ",".join(["(?,?,?,?,?)"] * 16)
_MARKS = ",".join("?" * 16)

#: What each statement that runs while steps run must use. "": only that nothing is scanned.
HOT: dict[str, tuple[str, str]] = {
    "claim": (sql.CLAIM, "taquba_job_pending"),
    "claim one": (sql.CLAIM_ONE, "sqlite_autoindex_taquba_job_2_1"),
    "first in line": (sql.FIRST_IN_LINE, "taquba_job_pending"),
    "claim a row": (sql.CLAIM_SEQ, "INTEGER PRIMARY KEY"),
    "promote": (sql.PROMOTE, "taquba_job_due"),
    "leave the boot clock": (sql.LEAVE_BOOT_CLOCK, "taquba_job_due"),
    "advance in bulk": (sql.ADVANCE_MANY.format(values=_VALUES), "INTEGER PRIMARY KEY"),
    "ack in bulk": (sql.FINISH_MANY.format(values=",".join(["(?,?,?,?)"] * 16)), "INTEGER PRIMARY KEY"),
    "history of an ack in bulk": (
        sql.FINISH_HISTORY.format(values=",".join(["(?,?,?,?)"] * 16)), "INTEGER PRIMARY KEY",
    ),
    "hold in bulk": (sql.HOLD.format(values=_VALUES), "INTEGER PRIMARY KEY"),
    "hold": (sql.HOLD_ONE, "INTEGER PRIMARY KEY"),
    "history of what is held on": (sql.HOLD_HISTORY.format(values=_VALUES), "INTEGER PRIMARY KEY"),
    "waits past the room": (sql.PAST_ROOM, "taquba_job_pending"),
    "waits ahead": (sql.WAITING, "taquba_job_pending"),
    "read what is held": (sql.READ_HELD, "INTEGER PRIMARY KEY"),
    "find what is held": (sql.FIND_HELD, "sqlite_autoindex_taquba_job_2_1"),
    "advance": (sql.ADVANCE, "INTEGER PRIMARY KEY"),
    "nack": (sql.RETRY, "INTEGER PRIMARY KEY"),
    "release": (sql.RELEASE, "INTEGER PRIMARY KEY"),
    "finish": (sql.FINISH, "INTEGER PRIMARY KEY"),
    "request cancel": (sql.REQUEST_CANCEL, "INTEGER PRIMARY KEY"),
    "renew": (sql.RENEW.format(seqs=_MARKS, tokens=_MARKS), "INTEGER PRIMARY KEY"),
    "reap an owner": (sql.CLAIMS_OF_OWNER, "taquba_job_claimed"),
    "reap bare": (sql.EXPIRED_BARE, "taquba_job_claimed"),
    "reap a token": (sql.CLAIM_OF_TOKEN, "INTEGER PRIMARY KEY"),
    "put back": (sql.REAP, "INTEGER PRIMARY KEY"),
    "find finished": (sql.FIND_FINISHED, "sqlite_autoindex_taquba_job_2_1"),
    "requeue": (sql.REQUEUE, "INTEGER PRIMARY KEY"),
    "expiry": (sql.EXPIRED, "taquba_job_expiry"),
    "delete": (sql.DELETE, "INTEGER PRIMARY KEY"),
    "finish what waits": (sql.FINISH_WAITING, "INTEGER PRIMARY KEY"),
    "delete what waits": (sql.DELETE_WAITING, "INTEGER PRIMARY KEY"),
    "delete what is finished": (sql.DELETE_FINISHED, "INTEGER PRIMARY KEY"),
    "notifications in line": (sql.WAITING_IN_LINE, "taquba_job_pending"),
    "notifications to be retried": (sql.WAITING_FOR_TIME, "taquba_job_due"),
    "id": (sql.FIND_ID, "sqlite_autoindex_taquba_job_2_1"),
    "dedup key": (sql.FIND_DEDUP, "taquba_job_dedup"),
    "active run": (sql.FIND_ACTIVE_RUN, "taquba_job_active_run"),
    "last run": (sql.FIND_LAST_RUN, "taquba_job_run"),
    "read": (sql.GET, "sqlite_autoindex_taquba_job_2_1"),
    "which go on": (sql.GOING_ON.format(ids=_MARKS), "sqlite_autoindex_taquba_job_2_1"),
    "read active run": (sql.FIND_RUN[0], "taquba_job_active_run"),
    "read last run": (sql.FIND_RUN[1], "taquba_job_run"),
    "is pending": (sql.IS_PENDING, "taquba_job_pending"),
    "next due": (sql.NEXT_DUE, "taquba_job_due"),
    "next retry": (sql.NEXT_RETRY, "taquba_job_due"),
    "next bare expiry": (sql.NEXT_BARE_EXPIRY, "taquba_job_claimed"),
    "running here": (sql.RUNNING_HERE, "taquba_job_claimed"),
    "running elsewhere": (sql.RUNNING_ELSEWHERE, "taquba_job_claimed"),
    "history": (sql.HISTORY, "sqlite_autoindex_taquba_job_2_1"),
    "drop attempts": (sql.DROP_ATTEMPTS, "PRIMARY KEY"),
    "drop attempt": (sql.DROP_ATTEMPT, "PRIMARY KEY"),
    "overflow": (sql.GET_OVERFLOW, "INTEGER PRIMARY KEY"),
    "drop overflow": (sql.DROP_OVERFLOW, "INTEGER PRIMARY KEY"),
    "drop overflows": (sql.DROP_OVERFLOWS, "INTEGER PRIMARY KEY"),
    "whole row": (sql.WHOLE_ROW, "INTEGER PRIMARY KEY"),
    "whole history": (sql.WHOLE_HISTORY, "PRIMARY KEY"),
    "whole overflow": (sql.WHOLE_OVERFLOW, "INTEGER PRIMARY KEY"),
}


@pytest.mark.parametrize("name", HOT)
def test_a_hot_statement_searches_its_index_and_scans_nothing(database: sqlite3.Connection, name: str) -> None:
    statement, index = HOT[name]
    steps = lines_about_jobs(plan(database, statement))
    assert steps, "the statement does not touch the tables it is about"
    assert not [step for step in steps if step.startswith("SCAN")], steps
    assert any(index in step for step in steps), steps


@pytest.mark.parametrize("name", ["claim", "last run", "read last run"])
def test_an_ordered_statement_sorts_nothing(database: sqlite3.Connection, name: str) -> None:
    assert not [step for step in plan(database, HOT[name][0]) if "TEMP B-TREE" in step]


def test_a_promotion_looks_for_what_is_due_on_both_clocks_by_their_bounds(database: sqlite3.Connection) -> None:
    steps = [step for step in plan(database, sql.PROMOTE) if "taquba_job_due" in step]
    assert len(steps) == 2
    assert all("COVERING INDEX" in step and "queue=? AND due_clock=? AND due_ms<?" in step for step in steps), steps


#: Those that look at everything on purpose: a repair, a check, the first open of a backup.
THOROUGH = {
    "COUNT_ROWS", "LEAST_NEXT_SEQ", "DROP_STRANGE_ATTEMPTS", "LAST_ORDINAL", "SET_ORDINAL", "DELETE_EXPIRED",
    "STRAY_ROWS", "ALL_CLAIMS", "ROWS_AFTER", "NUMBERS_AFTER", "STRAY_OVERFLOWS", "STRAY_ATTEMPTS",
    "ID_OF",
}  # fmt: skip


def test_every_statement_of_the_engine_is_looked_at() -> None:
    in_pieces = {
        sql.RENEW, sql.ADVANCE_MANY, sql.HOLD, sql.HOLD_HISTORY, sql.GOING_ON, sql.FINISH_MANY, sql.FINISH_HISTORY,
    }  # fmt: skip
    looked_at = {statement for statement, _ in HOT.values()} | in_pieces
    table = re.compile(rf"\b(FROM|UPDATE) ({sql.JOB}|{sql.ATTEMPT}|{sql.OVERFLOW})\b")
    statements = {name: value for name, value in vars(sql).items() if name.isupper() and isinstance(value, str)}
    about_jobs = {name for name, value in statements.items() if table.search(value) and value not in looked_at}
    # A page is planned with each of its indexes below.
    assert about_jobs == THOROUGH | {"PAGE"}


FILTERS = [
    Filter(),
    *(Filter(status) for status in JobStatus),
    Filter(verdict=Verdict.FAILED),
    Filter(verdict=Verdict.SUCCEEDED, visible_only=True),
    Filter(JobStatus.DONE, Verdict.SUCCEEDED, runs_only=True, visible_only=True),
    Filter(JobStatus.CLAIMED, cancel_requested=True),
    Filter(is_waiting=True, runs_only=True),
    Filter(is_waiting=True),
    Filter(JobStatus.PENDING, cancel_requested=True),
    Filter(cancel_requested=True, is_active=True, runs_only=True),
    Filter(is_active=True, runs_only=True),
    Filter(runs_only=True, visible_only=True),
]


@pytest.mark.parametrize("which", FILTERS, ids=str)
@pytest.mark.parametrize("many", [False, True], ids=["few of the status", "many of the status"])
def test_a_listing_never_scans_the_job_table(
    database: sqlite3.Connection, which: Filter, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:
        monkeypatch.setattr(listing, "_SORT_LIMIT", 0)
    seen: list[str] = []
    database.set_trace_callback(seen.append)
    try:
        rows = listing.page(database, lambda: 0, "q", which, 5, None).rows
    finally:
        database.set_trace_callback(None)
    assert len(rows) <= 5
    (statement,) = [each for each in seen if f"FROM {sql.JOB}" in each]
    steps = lines_about_jobs(plan(database, statement))
    # The index of claims holds claims only, by owner: read whole where they are known to be few.
    bounded = () if many else ("SCAN j USING INDEX taquba_job_claimed",)
    assert steps and not [step for step in steps if step.startswith("SCAN") and step not in bounded], steps


def _virtual_machine_steps(connection: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> int:
    """How many thousands of SQLite's instructions a statement took, by its progress handler."""
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    connection.set_progress_handler(count, 100)
    try:
        connection.execute(statement, values).fetchall()
    finally:
        connection.set_progress_handler(None, 0)
    return counted[0]


def test_a_claim_beside_a_hundred_thousand_finished_rows_does_little(database: sqlite3.Connection) -> None:
    database.execute("BEGIN IMMEDIATE")
    try:
        steps = _virtual_machine_steps(database, sql.CLAIM, ("t.", "o", 1, 2, 1, 1, 1))
    finally:
        database.execute("ROLLBACK")
    assert steps <= 10, f"{steps} hundred instructions for one claim"


@pytest.mark.parametrize("name", ["promote", "reap bare", "reap an owner", "is pending", "next due", "running here"])
def test_what_every_turn_asks_is_cheap_beside_a_hundred_thousand_finished_rows(
    database: sqlite3.Connection, name: str
) -> None:
    statement = HOT[name][0]
    database.execute("BEGIN IMMEDIATE")
    try:
        steps = _virtual_machine_steps(database, statement, tuple(["1"] * statement.count("?")))
    finally:
        database.execute("ROLLBACK")
    assert steps <= 20


def test_cancelling_runs_are_found_among_very_many_claimed_ones(database: sqlite3.Connection) -> None:
    """147 ms at 300,000 rows, when every claimed row was looked at."""
    which = Filter(JobStatus.CLAIMED, cancel_requested=True, runs_only=True)
    where, values = listing._conditions(which, lambda: 0)
    statement = sql.PAGE.format(index=listing._choose_index(database, "q", which), where=where)
    assert any("taquba_job_cancelling (queue=? AND rowid>?)" in step for step in plan(database, statement)) or any(
        "taquba_job_cancelling (queue=? AND seq>?)" in step for step in plan(database, statement)
    )
    assert _virtual_machine_steps(database, statement, (1, 0, *values, 100)) <= 5
