"""A store of the landed version 1: upgraded alone, whole or not at all, and closed to the program that made it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync.errors import StorageError, StoreInUseError
from taquba_workflow_sync.storage.embedded import migrations, sql
from taquba_workflow_sync.storage.embedded.cache import connect
from taquba_workflow_sync.storage.embedded.check import check
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.embedded.transitions.subscribe import is_subscribed
from taquba_workflow_sync.storage.port.job import JobRow
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.settlement import Ack, Advance
from tests.storage.bench import QUEUE, claim, claims, put_one, settle, stored

from .conftest import OpenEmbedded, open_at
from .raw import Child, raw

FIXTURE = Path(__file__).parent / "store_v1"
SHOWS: dict[str, Any] = json.loads((FIXTURE / "shows.json").read_text())
#: Every statement of the landed program, by its name there.
OLD_STATEMENTS: dict[str, str] = json.loads((FIXTURE / "statements.json").read_text())
#: The instants of an upgrade: before and after each of its statements.
POINTS = 2 * (len(sql.TO_VERSION_2) + 3)

HOLD = """
import sys, filelock
lock = filelock.FileLock(sys.argv[1], thread_local=False)
lock.acquire()
print("held", flush=True)
sys.stdin.readline()
"""

KILL = """
import os, signal, sys
from pathlib import Path
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.store import OpenOptions
left = [int(sys.argv[2])]
def fail(point):
    if point.startswith("migrate-2"):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
EmbeddedStore(Path(sys.argv[1]), OpenOptions(failpoint=fail))
"""


def lay_out(root: Path) -> Path:
    """A copy of the fixture, private as a store is."""
    shutil.copytree(FIXTURE / "store", root)
    for path in (root, *root.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return root


@pytest.fixture
def old(root: Path) -> Path:
    return lay_out(root)


def version_of(root: Path) -> int:
    with raw(root) as connection:
        version: int = connection.execute("SELECT value FROM taquba_meta WHERE key = 'schema'").fetchone()[0]
    return version


def shown(row: JobRow) -> dict[str, Any]:
    fields = row._asdict()
    for name in ("payload", "result"):
        data = fields[name]
        fields[name] = None if data is None else [len(data), sha256(data).hexdigest()]
    return fields


def check_shows_all(store: EmbeddedStore) -> None:
    """Assert that the store shows what the landed program showed of it."""
    assert {name: counts._asdict() for name, counts in store.counts().items()} == SHOWS["counts"]
    for was in SHOWS["rows"]:
        was = {**was, "owner": was["owner"] or None}  # version 1 showed what nobody owns as an empty name
        now = shown(stored(store, was["id"]))
        assert {name: now[name] for name in was if name in now} == {name: was[name] for name in was if name in now}
        assert now["is_visible"] and now["damage"] is None
    assert {job: [each._asdict() for each in store.history(job)] for job in SHOWS["history"]} == SHOWS["history"]
    with store._connections.reading() as connection:
        queue, *limits = SHOWS["subscription"]
        assert is_subscribed(connection, queue, Subscription(*limits))


def test_a_store_of_version_1_shows_all_that_it_showed(old: Path, open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    check_shows_all(store)
    assert version_of(old) == sql.SCHEMA_VERSION
    assert check(store._connections) == []


def test_a_store_of_version_1_goes_on(old: Path, open_embedded: OpenEmbedded) -> None:
    """What waits is claimed in its line, steps on and ends; what a dead owner held is taken over; names are taken."""
    store = open_embedded()
    dead = store.abandoned_claims()
    assert dead
    while held := claims(store, 1, abandoned=dead):
        assert held[0].damage is None
        settle(store, held[0], Advance(b"next" * 1000, headers='{"tenant":"red"}') if held[0].step < 2 else Ack())
    counts = store.counts()[QUEUE]
    assert (counts.pending, counts.claimed, counts.done, counts.cancelled) == (0, 0, 3 + 4, 2 + 1)
    told = claims(store, queue="steps.terminal")
    assert len(told) == 6 + 5 and all(each.damage is None for each in told)
    (keyed,) = claims(store, queue="mails")
    assert keyed.id == "KEYED"
    assert put_one(store, id="NEW") == claim(store).id
    assert check(store._connections) == []


def test_an_input_of_version_1_that_was_changed_is_not_run(old: Path, open_embedded: OpenEmbedded) -> None:
    """It has no checksum, but the SHA-256 of what was submitted."""
    open_embedded().close()
    with raw(old) as connection:
        connection.execute(f"UPDATE {sql.JOB} SET payload = x'00' WHERE run_id = 'waiting-small'")
    store = open_embedded()
    damaged = [held for held in claims(store) if held.damage is not None]
    assert [held.run_id for held in damaged] == ["waiting-small"]
    assert any("SHA-256" in problem for problem in check(store._connections))


def test_an_upgraded_store_is_made_as_a_new_one_is(old: Path, tmp_path: Path, open_embedded: OpenEmbedded) -> None:
    open_embedded()
    with raw(old) as connection:
        upgraded = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE name LIKE '%taquba%'"))
        columns = connection.execute(f"PRAGMA table_info({sql.JOB})").fetchall()
    open_at(tmp_path / "new").close()
    with raw(tmp_path / "new") as connection:
        new = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE name LIKE '%taquba%'"))
        assert connection.execute(f"PRAGMA table_info({sql.JOB})").fetchall() == columns
    assert upgraded.keys() == new.keys()


@pytest.mark.parametrize("point", range(POINTS))
def test_an_upgrade_killed_at_any_instant_is_completed_by_the_next_open(old: Path, point: int) -> None:
    with Child(KILL, old, point) as child:
        assert child.wait() == -9
    assert version_of(old) == (1 if point < POINTS - 1 else 2)
    store = open_at(old)
    try:
        check_shows_all(store)
        assert check(store._connections) == []
    finally:
        store.close()


def test_the_instants_of_an_upgrade_are_all_killed_at(old: Path) -> None:
    seen: list[str] = []
    open_at(old, failpoint=seen.append).close()
    assert len([point for point in seen if point.startswith("migrate-2")]) == POINTS


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = migrations.Step(2, (*sql.TO_VERSION_2, "this is no statement"))
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "STEPS", (broken,))
        with pytest.raises(StorageError):
            open_at(old)
    assert version_of(old) == 1
    store = open_at(old)
    check_shows_all(store)
    store.close()


def test_steps_are_taken_in_order_each_in_a_commit_of_its_own(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    third = migrations.Step(3, ("CREATE TABLE third (a)", "this is no statement"))
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, third))
    connection = connect(old / "db", synchronous=1)
    try:
        with pytest.raises(sqlite3.OperationalError):
            migrations.migrate(connection, 1)
        assert not connection.in_transaction
    finally:
        connection.close()
    assert version_of(old) == 2
    assert [step.version for step in migrations.STEPS] == sorted(step.version for step in migrations.STEPS)


def held_by_the_old_program(root: Path) -> Child:
    """A handle of version 1, as others see it: a process that holds an owner's lock."""
    child = Child(HOLD, root / "owners" / f"{os.getpid()}-0123456789abcdef.lock")
    assert child.read() == "held"
    return child


def test_an_upgrade_is_refused_while_another_handle_is_open_and_writes_nothing(old: Path) -> None:
    with raw(old) as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        with held_by_the_old_program(old), pytest.raises(StoreInUseError, match=f"upgraded.*process {os.getpid()}"):
            open_at(old)
        assert connection.execute("PRAGMA data_version").fetchone() == before
    assert version_of(old) == 1


def test_an_upgrade_waits_for_the_others_to_go_when_it_is_told_to(old: Path) -> None:
    with held_by_the_old_program(old) as child:
        threading.Timer(0.4, child.tell).start()
        store = open_at(old, wait_s=20.0)
        check_shows_all(store)
        store.close()


def test_an_upgrade_does_not_wait_for_longer_than_it_is_told_to(old: Path) -> None:
    with held_by_the_old_program(old), pytest.raises(StoreInUseError):
        open_at(old, wait_s=0.2)


def test_a_store_that_needs_no_upgrade_opens_beside_others(old: Path) -> None:
    open_at(old).close()
    with held_by_the_old_program(old):
        open_at(old).close()


@pytest.mark.parametrize("name", OLD_STATEMENTS)
def test_a_statement_of_the_program_before_fails_and_says_why(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    statement = OLD_STATEMENTS[name]
    why = "the store has schema version 2 .*restart with the new"
    if name == "LEAVE_STEADY_CLOCK":
        why = "no such index"  # runs once a boot before the first write, which says the rest
    with raw(_upgraded(tmp_path_factory)) as connection:
        before = connection.total_changes
        with pytest.raises(sqlite3.OperationalError, match=why):
            connection.execute(statement, [1] * statement.count("?"))
        assert connection.total_changes == before


def _upgraded(factory: pytest.TempPathFactory) -> Path:
    root = factory.getbasetemp() / "upgraded"
    if not root.exists():
        open_at(lay_out(root)).close()
    return root


def test_every_old_statement_was_about_the_tables_that_were_renamed() -> None:
    assert len(OLD_STATEMENTS) > 45
    assert {"CLAIM", "INSERT_JOB", "FENCED", "FINISH", "ADD_COUNTS", "FIND_QUEUE"} <= OLD_STATEMENTS.keys()
