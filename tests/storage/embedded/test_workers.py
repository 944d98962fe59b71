"""Who works on a store in a directory: processes by their locks, and rows that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.testing import ManualClock
from tests.storage.bench import QUEUE, claim, claims, put, run

from .callers import Faults
from .conftest import OpenEmbedded
from .raw import Child, raw

WORKER = """
import sys
from pathlib import Path
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from tests.storage.bench import claim, put_run
store = EmbeddedStore(Path(sys.argv[1]))
put_run(store, "theirs")
print(claim(store).run_id, flush=True)
sys.stdin.readline()
"""


def test_another_process_is_shown_alive_until_it_is_killed(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    child = Child(WORKER, root)
    try:
        assert child.read() == "theirs"
        (row,) = store.workers()
        assert (row.host, row.pid, row.lives) == (os.uname().nodename, child.process.pid, True)
    finally:
        child.process.kill()
        child.process.wait()
    (row,) = store.workers()
    assert (row.pid, row.lives, [each.run_id for each in row.claims]) == (child.process.pid, False, ["theirs"])


def test_of_who_has_lost_its_lock_file_nobody_knows(open_embedded: OpenEmbedded, root: Path) -> None:
    store, other = open_embedded(), open_embedded()
    put(store, run("a"))
    claim(other)
    (root / "owners" / f"{other._lifecycle.owner_id}.lock").unlink()
    (row,) = store.workers()
    assert (row.pid, row.lives) == (os.getpid(), None)


def test_a_file_of_another_name_beside_the_locks_is_nobody(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    store.enrol()
    (root / "owners" / os.fsdecode(b"\xff.lock")).touch()
    (root / "owners" / "1-gone.lock").touch()
    assert [row.pid for row in store.workers()] == [os.getpid()]


@pytest.mark.parametrize(
    "damage",
    [
        "claimed_ms = 'then'",
        "claimed_ms = NULL",
        "owner = x'00ff'",
        "step = -1",
        "run_id = 'no name'",
        "attempts = 1.5",
    ],
)
def test_a_claim_that_cannot_be_read_is_left_out(open_embedded: OpenEmbedded, root: Path, damage: str) -> None:
    store = open_embedded(clock=ManualClock())
    put(store, run("sound"), run("damaged"))
    claims(store)
    with raw(root) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(f"UPDATE {sql.JOB} SET {damage} WHERE run_id = 'damaged'")
    (row,) = store.workers()
    assert [each.run_id for each in row.claims] == ["sound"]


def test_a_process_that_cannot_be_read_is_shown_without_its_host(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    put(store, run("a"))
    claim(store)
    with raw(root) as connection:
        connection.execute(f"UPDATE {sql.OWNER} SET host = x'00', pid = 'who'")
    (row,) = store.workers()
    assert (row.host, row.pid, row.lives) == (None, os.getpid(), True)


def test_usage_with_counters_that_cannot_be_read_is_told_all_the_same(open_embedded: OpenEmbedded, root: Path) -> None:
    from taquba_workflow_sync.storage.port.limit import Limit

    store = open_embedded()
    store.set_limit(QUEUE, Limit("k", concurrency=1))
    put(store, run("a", limit_key="k"), run("b", limit_key="k"))
    with raw(root) as connection:
        connection.execute(f"UPDATE {sql.QUEUE} SET parked = 'many', claimed = 'some'")
    assert store.limit_usage(QUEUE) == [(None, 0, 0), ("k", 0, 1)]


def test_to_enrol_again_commits_nothing(open_embedded: OpenEmbedded, faults: Faults) -> None:
    seen: list[str] = []
    store = open_embedded(failpoint=seen.append)
    store.enrol()
    assert "enrol:after" in "".join(seen) or any(name.startswith("enrol") for name in seen)
    seen.clear()
    store.enrol()
    assert seen == []
