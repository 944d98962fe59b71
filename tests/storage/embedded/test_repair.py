"""Repair: what is sound is never touched, whatever state it is in; a quarantined row is told of like any other end."""

from __future__ import annotations

import logging
import sqlite3

import pytest

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.embedded import access
from taquba_workflow_sync.storage.embedded.repair.mending import repair
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.settlement import Ack
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.transaction import Transaction
from tests.storage.bench import ACTIONS, LANE, QUEUE, claim, claims, put, put_one, run, settle, stored

from .conftest import OpenEmbedded
from .raw import raw


def in_every_state(store: EmbeddedStore) -> None:
    """Leave a job in each state that transitions can bring about."""
    store.subscribe(QUEUE, Subscription(LANE, 3, None))
    for number, action in enumerate(ACTIONS.values()):
        put(store, run(f"run-{number}", b"x" * (5000 if number % 2 else 1), max_attempts=50))
        settle(store, claim(store), action)
        put_one(store, headers='{"a":"b"}', max_attempts=50)
        settle(store, claim(store), action)
    put(store, run("later", run_at_ms=10**14))
    put(store, run("held"), run("waits"))
    claim(store)


def test_nothing_of_a_sound_store_is_repaired(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    in_every_state(store)
    with raw(store._connections.root) as connection:
        before = list(connection.iterdump())
        assert not store._access.repair()
        assert list(connection.iterdump()) == before


def test_a_quarantined_run_ends_as_failed_and_its_hook_is_told(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    store.subscribe(QUEUE, Subscription(LANE, 3, None))
    bad, good = put(store, run("bad"), run("good"))
    with raw(store._connections.root) as connection:
        connection.execute(f"UPDATE {sql.JOB} SET attempts = max_attempts WHERE id = ?", (bad,))
    assert claim(store).id == good
    row = stored(store, bad)
    assert (row.status, row.verdict, row.termination) == ("dead", "failed", 1)
    assert "attempts" in str(row.last_error)
    assert claim(store, queue=LANE).id == f"{bad}-1"


def test_counters_that_do_not_fit_are_counted_anew(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    put(store, run("one"), run("two"))
    with raw(store._connections.root) as connection:
        connection.execute(f"UPDATE {sql.QUEUE} SET pending = 0")
    claim(store)
    assert (store.counts()[QUEUE].pending, store.counts()[QUEUE].claimed) == (1, 1)


def test_a_claim_that_nobody_can_hold_is_quarantined_and_looked_for_only_now_and_then(
    open_embedded: OpenEmbedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = open_embedded(), open_embedded()
    bad, worse = put(store, run("bad"), run("worse"))
    claim(store)
    claim(store)
    with raw(store._connections.root) as connection:
        connection.execute(f"UPDATE {sql.JOB} SET owner = '../x' WHERE id = ?", (bad,))
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(f"UPDATE {sql.JOB} SET owner = '../x', queue = 77 WHERE id = ?", (worse,))
    found: list[list[str]] = []

    def repairing(tx: Transaction) -> list[str]:
        found.append(repair(tx))
        return found[-1]

    monkeypatch.setattr(access, "repair", repairing)
    assert not other.abandoned_claims()
    assert stored(other, bad).status == "dead"
    for _ in range(3):
        assert not other.abandoned_claims()  # the other one is of no queue, and cannot be helped
    assert [len(each) for each in found] == [2, 0]


def test_what_repair_cannot_help_is_not_tried_at_each_try(
    open_embedded: OpenEmbedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_embedded()
    tried: list[int] = []

    def cannot_be_stored(tx: Transaction) -> None:
        tried.append(1)
        tx.execute("UPDATE taquba_meta SET value = NULL")

    repaired: list[list[str]] = []

    def repairing(tx: Transaction) -> list[str]:
        repaired.append(repair(tx))
        return repaired[-1]

    monkeypatch.setattr(access, "repair", repairing)
    for _ in range(3):
        with pytest.raises(StorageError, match="nothing was written"):
            store._access.write(cannot_be_stored)
    assert len(tried) >= 3
    assert len(repaired) == 1


def test_a_cancel_that_met_a_damaged_row_is_counted_once(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    bad = put_one(store, run("bad").queue)
    (job_id,) = put(store, run("run"))
    with raw(store._connections.root) as connection:
        connection.execute(f"UPDATE {sql.JOB} SET keep_done_ms = 'x' WHERE id = ?", (job_id,))
    store.cancel(job_id)
    counts = store.counts()[QUEUE]
    assert (counts.pending, counts.dead, counts.cancelled) == (1, 1, 0)
    assert stored(store, bad).status == "pending"


def test_a_run_ends_though_a_job_has_the_name_of_its_notification(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    store.subscribe(QUEUE, Subscription(LANE, 3, None))
    (job_id,) = put(store, run("run"))
    put_one(store, "mails", id=f"{job_id}-1", id_given=True)
    settle(store, claim(store), Ack())
    assert stored(store, job_id).status == "done"
    assert claim(store, queue=LANE).id.startswith(f"{job_id}-1-")


def test_what_was_repaired_is_logged_after_its_commit_outside_of_the_transaction(
    open_embedded: OpenEmbedded, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that calls the store would meet its own transaction; and a commit that fails has repaired nothing."""
    is_failing = [True]

    def fail(point: str) -> None:
        if "quarantine" in point and is_failing:
            is_failing.clear()
            raise sqlite3.OperationalError("disk I/O error")

    store = open_embedded(failpoint=fail)
    (bad,) = put(store, run("bad"))
    with raw(store._connections.root) as connection:
        connection.execute(f"UPDATE {sql.JOB} SET attempts = max_attempts")
    with pytest.raises(StorageError):
        claim(store)
    assert f"job {bad}" not in caplog.text
    store._access._next_repair = 0.0
    during: list[str] = []

    class Calling(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            during.append(str(store.get(bad)))
            put_one(store, "elsewhere")

    handler = Calling()
    logger = logging.getLogger("taquba_workflow_sync.storage.embedded.access")
    logger.addHandler(handler)
    try:
        assert claims(store) == []
    finally:
        logger.removeHandler(handler)
    assert f"job {bad} (row 1) was made a dead letter" in caplog.text
    assert "'dead'" in during[0]
    assert store.counts()["elsewhere"].pending == len(during)
