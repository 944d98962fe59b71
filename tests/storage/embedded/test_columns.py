"""One table of columns: it says what the database says, and every row that is read or written is made of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync.storage.embedded.cache import connect
from taquba_workflow_sync.storage.port.job import AttemptRow
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.tally import COUNTERS
from taquba_workflow_sync.storage.relational import rows, sql
from taquba_workflow_sync.storage.relational.checking.invalid import why_invalid
from taquba_workflow_sync.storage.relational.columns import COLUMNS, QUEUE_NAME, RowCheck, columns_of
from taquba_workflow_sync.storage.relational.transitions.claim import is_sound as is_sound_claim
from tests.storage.bench import ACTIONS, claim, put, put_one, run, settle

from .conftest import open_at

TYPES = {int: "INTEGER", str: "TEXT", bytes: "BLOB"}
#: Rows made of columns of the job table, and of nothing else but the queue's name.
JOB_ROWS = (
    rows.Held, rows.TakenRow, rows.AdvancedRow, rows.NewRow, rows.NamedRow, rows.FinishedRow, rows.WaitingRow,
    rows.ShownRow, rows.OwnedClaim,
)  # fmt: skip


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    root: Path = tmp_path_factory.mktemp("columns") / "store"
    store = open_at(root)
    for number, action in enumerate(ACTIONS.values()):
        put(store, run(f"run-{number}", b"x" * (5000 if number % 2 else 1), max_attempts=50))
        settle(store, claim(store), action)
        put_one(store, headers='{"a":"b"}', dedup_key=f"key-{number}", max_attempts=50, keep_done_ms=10**9)
        settle(store, claim(store), action)
    put(store, run("later", run_at_ms=10**14), run("held"), run("waits"))
    claim(store)
    store.close()
    with closing(connect(root / "db", synchronous=1)) as opened:
        yield opened


def test_the_table_of_columns_is_that_of_the_database(connection: sqlite3.Connection) -> None:
    found = connection.execute(f"PRAGMA table_info({sql.JOB})").fetchall()
    declared = [(name, kind, bool(not_null or key)) for _, name, kind, not_null, _, key in found]
    nullable = {"headers", "payload"}  # where a row of its own holds them
    assert declared == [
        (column.name, TYPES[column.kind], not column.is_optional and column.name not in nullable)
        for column in COLUMNS.values()
    ]


@pytest.mark.parametrize("row", JOB_ROWS)
def test_a_row_is_made_of_columns_of_their_types(row: Any) -> None:
    assert set(row._fields) <= set(COLUMNS) | {QUEUE_NAME.name}
    optional = {column.name for column in columns_of(row._fields) if column.is_optional}
    said = {name for name, hint in row.__annotations__.items() if "None" in str(hint)}
    # What a reader has made sure of may be said to be there.
    assert said <= optional
    for name, hint in row.__annotations__.items():
        kind = columns_of([name])[0].kind.__name__
        assert kind in str(hint), f"{row.__name__}.{name} is {hint}"


def test_what_an_insert_leaves_out_has_a_default(connection: sqlite3.Connection) -> None:
    found = connection.execute(f"PRAGMA table_info({sql.JOB})").fetchall()
    needed = {name for _, name, _, not_null, default, _ in found if not_null and default is None}
    assert needed <= set(rows.NewRow._fields)


def test_the_other_tables_have_the_columns_that_are_read_and_written(connection: sqlite3.Connection) -> None:
    def of(table: str) -> list[str]:
        return [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]

    assert of(sql.ATTEMPT) == list(rows.Attempt._fields)
    assert set(AttemptRow._fields) < set(rows.Attempt._fields)
    assert set(of(sql.QUEUE)) >= {*rows.QueueRow._fields, *COUNTERS}
    assert COUNTERS[: len(Counts._fields)] == Counts._fields
    assert Counts._fields == tuple(JobStatus)


def test_what_the_engine_stores_is_what_the_columns_may_hold(connection: sqlite3.Connection) -> None:
    stored = [
        dict(zip(COLUMNS, row, strict=True))
        for row in connection.execute(f"SELECT {', '.join(COLUMNS)} FROM {sql.JOB}").fetchall()
    ]
    assert {row["status"] for row in stored} == set(JobStatus)
    assert [why for row in stored if (why := why_invalid(row)) is not None] == []


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_holds_its_placeholder_and_no_value_of_another_type(name: str) -> None:
    column = COLUMNS[name]
    if name not in ("seq", "id", "queue"):  # a row without these shows as none: nothing could be its number
        assert column.holds(column.placeholder)
    others = {int: ["1", b"1", 1.0, True], str: [1, b"a", 1.0], bytes: [1, "a", 1.0]}[column.kind]
    for value in others:
        assert not column.holds(value), value
        assert str(column.why_not(value)).startswith(f"{name} is ")
    assert column.holds(None) == column.is_optional
    if column.kind is int:
        assert column.holds(column.least) and column.holds(column.most)
        assert not column.holds(column.least - 1) and not column.holds(column.most + 1)


def test_the_choices_of_a_column_are_those_that_the_database_admits(connection: sqlite3.Connection) -> None:
    (text,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (sql.JOB,)).fetchone()
    assert f"CHECK (status IN ({', '.join(repr(str(status)) for status in JobStatus)}))" in text
    assert COLUMNS["status"].choices == frozenset(JobStatus)


def taken(**fields: Any) -> rows.TakenRow:
    sound = rows.TakenRow(
        seq=1, id="J1", place=1, priority=1000, rank=1000, token="t.1.1", step=0, attempts=1, max_attempts=3,
        cancel_requested=0, enqueued_ms=1, run_at_ms=None, run_id=None, last_error=None, input_hash=None, belongings=0,
        headers="", payload=b"", payload_crc=0, headers_crc=0,
        limit_key=None,
    )  # fmt: skip
    return sound._replace(**fields)


def test_a_sound_claim_is_told_from_one_that_cannot_be_worked_on() -> None:
    assert is_sound_claim(taken())
    assert is_sound_claim(
        taken(run_id="r", input_hash=b"h", run_at_ms=5, last_error="boom", payload=None, belongings=1, limit_key="k")
    )
    assert not is_sound_claim(taken(attempts=0))
    assert not is_sound_claim(taken(attempts=4))
    for name in rows.TakenRow._fields:
        wrong: object = b"" if COLUMNS[name].kind is not bytes else "text"
        assert not is_sound_claim(taken(**{name: wrong})), name


@pytest.mark.parametrize("name", rows.TakenRow._fields)
def test_the_quick_check_of_a_row_says_what_each_column_says(name: str) -> None:
    column = COLUMNS[name]
    check = RowCheck(rows.TakenRow._fields)
    values = [
        None,
        0,
        1,
        -1,
        2**63 - 1,
        True,
        1.5,
        "",
        "x",
        "no id",
        b"",
        b"x",
        column.least,
        column.most,
        column.most + 1,
    ]
    for value in values:
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            continue  # SQLite has none
        assert check(taken(**{name: value})) == column.holds(value), value


def test_no_room_of_the_engine_reads_a_row_by_a_number() -> None:
    """A SELECT list grows in the middle: what counts its columns reads another one from then on, unnoticed."""
    package = Path(sql.__file__).parents[1]
    strays = [
        f"{path.name}:{number}: {line.strip()}"
        for path in package.rglob("*.py")
        if path.name != "filesystem.py"  # whose rows are the kernel's
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if any(f"{row}[{place}]" in line for row in ("row", "fields", "values", "shown") for place in range(1, 40))
    ]
    assert strays == []
