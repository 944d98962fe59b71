"""A check finds what was damaged and says where, finds nothing in a sound store, and changes nothing."""

from __future__ import annotations

import re
import sqlite3
import tracemalloc
from pathlib import Path

import pytest

from taquba_workflow_sync.storage.embedded.check import MOST
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.relational import sql
from tests.storage.bench import ACTIONS, LANE, QUEUE, claim, claims, job, put, put_one, run, settle

from .conftest import OpenEmbedded, open_at
from .raw import raw

PAGE = 4096


def fill(store: EmbeddedStore) -> dict[str, str]:
    """A row of everything; the ids of some."""
    store.subscribe(QUEUE, Subscription(LANE, 3, None))
    for number, action in enumerate(ACTIONS.values()):
        put(store, run(f"run-{number}", b"x" * (5000 if number % 2 else 1), max_attempts=50))
        settle(store, claim(store), action)
        put_one(store, headers='{"a":"b"}', max_attempts=50)
        settle(store, claim(store), action)
    claims(store, queue=LANE)
    put(store, run("later", run_at_ms=10**14))
    ids = put(store, run("large", b"x" * 5000), run("small", b"small"), run("other", b"other"))
    ended = put(store, run("ended", priority=1))
    settle(store, claim(store), ACTIONS["ack"])
    return dict(zip(("large", "small", "other", "ended"), ids + ended, strict=True))


def test_nothing_is_wrong_with_a_sound_store_and_nothing_is_written(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    assert store.check() == []
    fill(store)
    with raw(store._connections.root) as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        assert store.check() == []
        assert connection.execute("PRAGMA data_version").fetchone() == before


#: What is done to a store, and what the check must say of it.
DAMAGES: dict[str, tuple[str, str]] = {
    "a counter": (f"UPDATE {sql.QUEUE} SET pending = pending + 7", "the counters of queue 'steps' are .*counted anew"),
    "a counter that is text": (f"UPDATE {sql.QUEUE} SET dead = 'many'", "the counters of queue 'steps' are"),
    "the counter of rows": ("UPDATE taquba_meta SET value = 2 WHERE key = 'next_seq'", "the counter of rows is .*2"),
    "the version": (
        "UPDATE taquba_meta SET value = 9 WHERE key = 'schema'",
        f"version is .*9.* instead of {sql.SCHEMA_VERSION}",
    ),
    "a subscription": (f"UPDATE {sql.QUEUE} SET subscription = '?' WHERE name = 'steps'", "hook registered for queue"),
    "a payload": (f"UPDATE {sql.JOB} SET payload = x'00' WHERE id = :other", "payload of job :other .*checksum"),
    "an input and its checksum": (
        f"UPDATE {sql.JOB} SET payload = x'00', payload_crc = 3523407757 WHERE id = :other",
        "input of job :other .*SHA-256 differs",
    ),
    "headers": (f"""UPDATE {sql.JOB} SET headers = '?' WHERE id = :other""", "headers of job :other .*checksum"),
    "a result": (f"UPDATE {sql.JOB} SET result = x'00' WHERE id = :ended", "result of job :ended .*checksum"),
    "a lost payload": (f"UPDATE {sql.JOB} SET payload = NULL WHERE id = :other", "payload of job :other .*miss"),
    "a large payload": (
        f"UPDATE {sql.OVERFLOW} SET data = x'00' WHERE key / 4 IN (SELECT seq FROM {sql.JOB} WHERE id = :large)",
        "payload of job :large .*checksum",
    ),
    "a lost large payload": (
        f"DELETE FROM {sql.OVERFLOW} WHERE key / 4 IN (SELECT seq FROM {sql.JOB} WHERE id = :large)",
        "payload of job :large .*missing",
    ),
    "a step": (f"UPDATE {sql.JOB} SET step = 'first' WHERE id = :small", "job :small .*step is 'first'.*dead letter"),
    "a text that is none": (
        f"UPDATE {sql.JOB} SET last_error = CAST(x'ff' AS TEXT) WHERE id = :small", "job :small .*last_error is"
    ),
    "attempts": (f"UPDATE {sql.JOB} SET attempts = max_attempts WHERE id = :small", "job :small .*after 3 of 3"),
    "a queue": (f"UPDATE {sql.JOB} SET queue = 99 WHERE id = :small", "1 jobs are of no queue"),
    "an overflow of nobody": (f"INSERT INTO {sql.OVERFLOW} VALUES (4000001, x'00')", "key 4000001.* of no job"),
    "an overflow that no row says it has": (
        f"INSERT INTO {sql.OVERFLOW} SELECT seq * 4 + 2, x'00' FROM {sql.JOB} WHERE id = :small", "of no job"
    ),
    "an attempt of nobody": (
        f"INSERT INTO {sql.ATTEMPT} VALUES (1000000, 1, 0, 1, 1, 1, 'dead', NULL, 1)", "row 1000000"
    ),
    "an index": ("DROP INDEX taquba_job_due", "taquba_job_due is missing"),
    "another index": (f"CREATE INDEX taquba_mine ON {sql.JOB} (id)", "taquba_mine in the database is none"),
    "a refusal": ("DROP VIEW taquba_job", "taquba_job is missing"),
    "a setting": ("UPDATE Settings SET value = 7 WHERE key = 'cull_limit'", "the setting cull_limit .* 7 instead of 0"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_what_is_damaged_is_said_with_where_it_is(open_embedded: OpenEmbedded, what: str) -> None:
    statement, said = DAMAGES[what]
    store = open_embedded()
    ids = fill(store)
    with raw(store._connections.root) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        changes = connection.total_changes
        connection.execute(statement, {name: id_ for name, id_ in ids.items() if f":{name}" in statement})
        assert connection.total_changes != changes or statement.startswith(("DROP", "CREATE"))
    for name, job_id in ids.items():
        said = said.replace(f":{name}", f"'{job_id}'")
    problems = store.check()
    assert any(re.search(said, problem, re.DOTALL) for problem in problems), problems
    assert all("; " in problem for problem in problems), "each says what to do"


def damage_page(root: Path, page: int) -> None:
    database = root / "db" / "cache.db"
    data = bytearray(database.read_bytes())
    data[(page - 1) * PAGE : page * PAGE] = b"\xff" * PAGE
    database.write_bytes(data)


def test_rows_behind_a_damaged_page_are_looked_at_too(root: Path) -> None:
    store = open_at(root)
    put(store, *(job(payload=b"p" * 1500) for _ in range(300)))
    last = put_one(store, payload=b"last")
    store.close()
    with raw(root) as connection:
        connection.execute(f"UPDATE {sql.JOB} SET payload = x'00' WHERE id = ?", (last,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # A leaf of the table in the middle.
        leaves = (
            [
                page
                for page, path in connection.execute(
                    "SELECT pageno, path FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", (sql.JOB,)
                )
            ]
            if _has_dbstat(connection)
            else []
        )
    if not leaves:
        pytest.skip("this SQLite is built without dbstat")
    damage_page(root, leaves[len(leaves) // 2])
    store = open_at(root)
    problems = store.check()
    assert any("the database is damaged" in problem or "pages cannot be read" in problem for problem in problems)
    assert [problem for problem in problems if "cannot be read: database disk image is malformed" in problem]
    assert any(f"payload of job '{last}'" in problem for problem in problems), problems
    store.close()


def _has_dbstat(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT 1 FROM dbstat LIMIT 1")
    except sqlite3.OperationalError:
        return False
    return True


def test_a_check_says_no_more_than_can_be_read_and_counts_the_rest(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    put(store, *(job() for _ in range(MOST + 350)))
    with raw(store._connections.root) as connection:
        connection.execute(f"UPDATE {sql.JOB} SET payload = x'00'")
    problems = store.check()
    assert len(problems) == MOST + 1
    assert problems[-1] == "350 more jobs are damaged; restore a backup (docs/operations.md)"


def test_a_check_needs_no_more_memory_for_more_rows(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()

    def peak() -> int:
        tracemalloc.start()
        try:
            assert store.check() == []
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    put(store, *(job(payload=b"p" * 1500) for _ in range(500)))
    small = peak()
    for _ in range(9):
        put(store, *(job(payload=b"p" * 1500) for _ in range(500)))
    assert peak() < small + 500_000


def test_others_work_during_a_check(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    fill(store)
    other = open_embedded()
    with other._connections.reading() as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT 1 FROM taquba_meta").fetchone()
        assert store.check() == []
        put_one(store)
        connection.execute("COMMIT")
    assert other.check() == []
