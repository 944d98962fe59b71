"""Stores of the landed versions: upgraded alone, whole or not at all, and closed to the programs that made them."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync.errors import StorageError, StoreInUseError
from taquba_workflow_sync.storage.embedded import migrations
from taquba_workflow_sync.storage.embedded.cache import connect
from taquba_workflow_sync.storage.embedded.check import check
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.job import JobRow
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.settlement import Ack, Advance
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.transitions.subscribe import is_subscribed
from tests.storage.bench import QUEUE, claim, claims, put_one, settle, stored

from .conftest import OpenEmbedded, open_at
from .raw import Child, raw


@dataclass(frozen=True)
class Landed:
    """A store as a landed version left it, and what that version showed of it."""

    version: int

    @property
    def place(self) -> Path:
        return Path(__file__).parent / f"store_v{self.version}"

    @property
    def shows(self) -> dict[str, Any]:
        shows: dict[str, Any] = json.loads((self.place / "shows.json").read_text())
        return shows

    @property
    def statements(self) -> dict[str, str]:
        """Every statement of that version, by its name there."""
        statements: dict[str, str] = json.loads((self.place / "statements.json").read_text())
        return statements

    @property
    def steps(self) -> list[migrations.Step]:
        return [step for step in migrations.STEPS if step.version > self.version]


VERSIONS = {version: Landed(version) for version in range(1, sql.SCHEMA_VERSION)}
NEWEST = VERSIONS[sql.SCHEMA_VERSION - 1]
#: The instants of the newest step: before and after each of its statements.
POINTS = 2 * (len(NEWEST.steps[0].statements) + 3)
#: Of which each kill takes half a second: some, the last among them, and all of them in the long form.
SOME = sorted({*range(0, POINTS, 16), *range(POINTS - 4, POINTS)})

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
    if point.startswith("migrate-"):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
EmbeddedStore(Path(sys.argv[1]), OpenOptions(failpoint=fail))
"""


def lay_out(root: Path, landed: Landed) -> Path:
    """A copy of a fixture, private as a store is."""
    shutil.copytree(landed.place / "store", root)
    for path in (root, *root.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return root


@pytest.fixture(params=VERSIONS)
def landed(request: pytest.FixtureRequest) -> Landed:
    return VERSIONS[request.param]


@pytest.fixture
def old(root: Path, landed: Landed) -> Path:
    return lay_out(root, landed)


def version_of(root: Path) -> int:
    with raw(root) as connection:
        version: int = connection.execute("SELECT value FROM taquba_meta WHERE key = 'schema'").fetchone()[0]
    return version


def shown(row: JobRow) -> dict[str, Any]:
    fields = row._asdict()
    for name in ("payload", "result"):
        data = fields[name]
        fields[name] = None if data is None else [len(data), sha256(data).hexdigest()]
    shows: dict[str, Any] = json.loads(json.dumps(fields))
    return shows


def check_shows_all(store: EmbeddedStore, landed: Landed) -> None:
    """Assert that the store shows what the landed program showed of it."""
    shows = landed.shows
    assert {name: counts._asdict() for name, counts in store.counts().items()} == shows["counts"]
    for was in shows["rows"]:
        was = {**was, "owner": was["owner"] or None}  # version 1 showed what nobody owns as an empty name
        now = shown(stored(store, was["id"]))
        assert {name: now[name] for name in was if name in now} == {name: was[name] for name in was if name in now}
        assert now["is_visible"] and now["damage"] is None
    assert {job: [each._asdict() for each in store.history(job)] for job in shows["history"]} == shows["history"]
    with store._connections.reading() as connection:
        queue, *limits = shows["subscription"]
        assert is_subscribed(connection, queue, Subscription(*limits))


def test_an_older_store_shows_all_that_it_showed(old: Path, landed: Landed, open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    check_shows_all(store, landed)
    assert version_of(old) == sql.SCHEMA_VERSION
    assert check(store._connections) == []


def test_an_older_store_goes_on(old: Path, landed: Landed, open_embedded: OpenEmbedded) -> None:
    """What waits is claimed in its line, steps on and ends; what a dead owner held is taken over; names are taken."""
    store = open_embedded()
    dead = store.abandoned_claims()
    assert dead
    while held := claims(store, 1, abandoned=dead):
        assert held[0].damage is None
        settle(store, held[0], Advance(b"next" * 1000, headers='{"tenant":"red"}') if held[0].step < 2 else Ack())
    was, counts = Counts(**landed.shows["counts"][QUEUE]), store.counts()[QUEUE]
    ended = was.pending + was.claimed  # one of them was asked to cancel
    assert (counts.pending, counts.claimed) == (0, 0)
    assert (counts.done, counts.cancelled) == (was.done + ended - 1, was.cancelled + 1)
    told = claims(store, queue="steps.terminal")
    assert len(told) == was.done + was.dead + was.cancelled + ended and all(each.damage is None for each in told)
    # Those whose bare lease is over are in line again; of version 1, one lasts.
    assert {mail.id for mail in claims(store, queue="mails")} == (
        {"KEYED"} if landed.version == 1 else {"KEYED", "BARE"}
    )
    assert put_one(store, id="NEW") == claim(store).id
    assert check(store._connections) == []


def test_an_input_of_version_1_that_was_changed_is_not_run(root: Path, open_embedded: OpenEmbedded) -> None:
    """It has no checksum, but the SHA-256 of what was submitted."""
    old = lay_out(root, VERSIONS[1])
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


@pytest.mark.parametrize(
    "point", [point if point in SOME else pytest.param(point, marks=pytest.mark.soak) for point in range(POINTS)]
)
def test_an_upgrade_killed_at_any_instant_is_completed_by_the_next_open(root: Path, point: int) -> None:
    old = lay_out(root, NEWEST)
    with Child(KILL, old, point) as child:
        assert child.wait() == -9
    assert version_of(old) == (NEWEST.version if point < POINTS - 1 else sql.SCHEMA_VERSION)
    store = open_at(old)
    try:
        check_shows_all(store, NEWEST)
        assert check(store._connections) == []
    finally:
        store.close()


def test_the_instants_of_an_upgrade_are_all_killed_at(root: Path) -> None:
    seen: list[str] = []
    open_at(lay_out(root, NEWEST), failpoint=seen.append).close()
    assert len([point for point in seen if point.startswith("migrate-")]) == POINTS


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(
    old: Path, landed: Landed, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = landed.steps[0]
    broken = migrations.Step(first.version, (*first.statements, "this is no statement"))
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "STEPS", (broken,))
        with pytest.raises(StorageError):
            open_at(old)
    assert version_of(old) == landed.version
    store = open_at(old)
    check_shows_all(store, landed)
    store.close()


def test_steps_are_taken_in_order_each_in_a_commit_of_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = lay_out(root, VERSIONS[1])
    broken = migrations.Step(sql.SCHEMA_VERSION + 1, ("CREATE TABLE another (a)", "this is no statement"))
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, broken))
    connection = connect(old / "db", synchronous=1)
    try:
        with pytest.raises(sqlite3.OperationalError):
            migrations.migrate(connection, 1)
        assert not connection.in_transaction
    finally:
        connection.close()
    assert version_of(old) == sql.SCHEMA_VERSION
    assert [step.version for step in migrations.STEPS] == sorted(step.version for step in migrations.STEPS)


def held_by_the_old_program(root: Path) -> Child:
    """A handle of an older version, as others see it: a process that holds an owner's lock."""
    child = Child(HOLD, root / "owners" / f"{os.getpid()}-0123456789abcdef.lock")
    assert child.read() == "held"
    return child


def test_an_upgrade_is_refused_while_another_handle_is_open_and_writes_nothing(old: Path, landed: Landed) -> None:
    with raw(old) as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        with held_by_the_old_program(old), pytest.raises(StoreInUseError, match=f"upgraded.*process {os.getpid()}"):
            open_at(old)
        assert connection.execute("PRAGMA data_version").fetchone() == before
    assert version_of(old) == landed.version


def test_an_upgrade_waits_for_the_others_to_go_when_it_is_told_to(old: Path, landed: Landed) -> None:
    with held_by_the_old_program(old) as child:
        threading.Timer(0.4, child.tell).start()
        store = open_at(old, wait_s=20.0)
        check_shows_all(store, landed)
        store.close()


def test_an_upgrade_does_not_wait_for_longer_than_it_is_told_to(old: Path) -> None:
    with held_by_the_old_program(old), pytest.raises(StoreInUseError):
        open_at(old, wait_s=0.2)


def test_a_store_that_needs_no_upgrade_opens_beside_others(old: Path) -> None:
    open_at(old).close()
    with held_by_the_old_program(old):
        open_at(old).close()


@pytest.mark.parametrize(
    ("version", "name"), [(version, name) for version, each in VERSIONS.items() for name in each.statements]
)
def test_a_statement_of_a_program_before_fails_and_says_why(
    version: int, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    statement = VERSIONS[version].statements[name]
    why = f"the store has schema version {sql.SCHEMA_VERSION} .*restart with the new"
    if name in ("LEAVE_STEADY_CLOCK", "LEAVE_BOOT_CLOCK", "LEAVE_BOOT_REFILLS", "LEAVE_GROUP"):
        why = "no such index"  # beside others that say why: once a boot, and after what moves a row
    with raw(_upgraded(tmp_path_factory, version)) as connection:
        before = connection.total_changes
        with pytest.raises(sqlite3.OperationalError, match=why):
            connection.execute(statement, [1] * statement.count("?"))
        assert connection.total_changes == before


def _upgraded(factory: pytest.TempPathFactory, version: int) -> Path:
    root = factory.getbasetemp() / f"upgraded-{version}"
    if not root.exists():
        open_at(lay_out(root, VERSIONS[version])).close()
    return root


def test_every_old_statement_was_about_the_tables_that_were_renamed() -> None:
    least = {1: 45, 2: 70, 3: 250}
    assert VERSIONS.keys() == least.keys()
    assert all(len(VERSIONS[version].statements) > many for version, many in least.items())
    for landed in VERSIONS.values():
        assert {"CLAIM", "INSERT_JOB", "FINISH", "ADD_COUNTS", "FIND_QUEUE"} <= landed.statements.keys()
