"""What operators see, in the file: plain runs write nothing for it, and counters are right after damage and repair."""

from __future__ import annotations

from pathlib import Path

import pytest

from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.headers import encode_headers
from taquba_workflow_sync.storage.port.progress import ProgressReport
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, DeadLetter, SettleCancelled
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.tally import Tally
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.transitions import enrol, many, remove
from taquba_workflow_sync.testing import ManualClock
from tests.storage.bench import (
    QUEUE,
    check_counters,
    claim,
    claims,
    ending,
    holding,
    job,
    put,
    put_one,
    put_run,
    run,
    settle,
    stored,
    tally_by_looking,
)

from .conftest import OpenEmbedded
from .raw import raw


def counted(store: EmbeddedStore, table: str) -> int:
    with raw(store._connections.root) as connection:
        found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return found


def damage(store: EmbeddedStore, statement: str, *values: object) -> None:
    with raw(store._connections.root) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement, values)


def test_a_plain_run_that_ends_writes_nothing_for_its_history(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    put(store, *(run(f"r{number}") for number in range(3)))
    held = claims(store)
    store.settle_and_claim([holding(store, row) for row in held], [])
    for row in store.running():
        store.settle_and_claim([ending(claimed(store, row.job_id), Advance(b"x"), yields_to_cancel=True)], [])
    store.settle_and_claim([ending(row, Ack(), yields_to_cancel=True) for row in claims(store)], [])
    assert store.tally(QUEUE) == Tally(succeeded=3)
    for table in (sql.EVENT, sql.PROGRESS, sql.GARBAGE):
        assert counted(store, table) == 0
    with raw(store._connections.root) as connection:
        assert connection.execute(f"SELECT DISTINCT belongings FROM {sql.JOB}").fetchall() == [(0,)]


def claimed(store: EmbeddedStore, job_id: str) -> object:
    """A claim that goes on, as its holder knows it."""
    (token,) = (each.token for each in store.running() if each.job_id == job_id)
    row = stored(store, job_id)
    return type("Held", (), {"id": row.id, "token": token})


def test_a_handle_is_known_by_number_from_its_first_claim_on(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    put(store, run("a"), run("b"))
    assert counted(store, sql.OWNER) == 0
    claim(store, is_bare=True)
    assert counted(store, sql.OWNER) == 0, "a bare claim is nobody's"
    claim(store)
    assert counted(store, sql.OWNER) == 1
    put_run(store, "c")
    claim(store)
    assert counted(store, sql.OWNER) == 1


def test_an_attempt_is_its_claimers_though_another_handle_ends_it(open_embedded: OpenEmbedded) -> None:
    first, second = open_embedded(), open_embedded()
    ids = put(first, run("a"), run("b"), run("c"))
    held = claims(first, 2)
    claim(second)
    second.settle_and_claim([ending(row, Advance(b"x"), yields_to_cancel=True) for row in held], [])
    with raw(first._connections.root) as connection:
        found = connection.execute(
            f"SELECT o.name FROM {sql.ATTEMPT} AS a JOIN {sql.OWNER} AS o ON o.id = a.owner"
        ).fetchall()
    assert found == [(first._lifecycle.owner.id,)] * 2
    assert len(ids) == 3


def test_a_swept_run_leaves_nothing_of_its_own_behind(open_embedded: OpenEmbedded) -> None:
    clock = ManualClock()
    store = open_embedded(clock=clock)
    put_run(store, keep_done_ms=1_000)
    settle(store, claim(store), DeadLetter("x"))
    store.requeue(stored_id(store))
    held = claim(store)
    store.report_progress([ProgressReport(held.id, held.token, 1, None, "")])
    settle(store, held, Ack())
    assert (counted(store, sql.EVENT), counted(store, sql.PROGRESS)) == (2, 1)
    clock.advance(3_600)
    while store.sweep():
        pass
    for table in (sql.JOB, sql.EVENT, sql.PROGRESS, sql.GARBAGE, sql.ATTEMPT):
        assert counted(store, table) == 0


def stored_id(store: EmbeddedStore) -> str:
    """The id of the one job there is."""
    with raw(store._connections.root) as connection:
        ((job_id,),) = connection.execute(f"SELECT id FROM {sql.JOB}").fetchall()
    return str(job_id)


def test_of_very_many_handles_the_oldest_are_forgotten(
    open_embedded: OpenEmbedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrol, "MOST_OWNERS", 3)
    store = open_embedded()
    job_id = put_run(store, max_attempts=100)
    for _ in range(6):
        other = open_embedded()
        settle(other, claim(other), Advance(b"x"), yields_to_cancel=True)
        other.close()
    assert counted(store, sql.OWNER) == 3
    assert [event.pid is None for event in store.events(job_id) if event.outcome] == [True] * 3 + [False] * 3


DAMAGES = ["attempts = max_attempts", "step = 'first'", "belongings = -1", "priority = 'x'", "ordinal = -1"]


@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.parametrize("is_run", [True, False], ids=["run", "bare"])
@pytest.mark.parametrize("state", ["pending", "claimed", "cancelling"])
def test_what_was_made_a_dead_letter_is_counted_where_it_went(
    open_embedded: OpenEmbedded, what: str, is_run: bool, state: str
) -> None:
    store = open_embedded()
    (job_id,) = put(store, run("r", headers="{}") if is_run else job(headers="{}"))
    if state != "pending":
        claim(store)
    if state == "cancelling":
        store.cancel(job_id)
    damage(store, f"UPDATE {sql.JOB} SET {what} WHERE id = ?", job_id)
    put_run(store, "healthy")
    store._access.repair()
    is_invalid = what != "attempts = max_attempts" or state == "pending"
    assert (stored(store, job_id).status is JobStatus.DEAD) == is_invalid
    check_counters(store)
    assert [problem for problem in store.check() if "counters" in problem] == []


@pytest.mark.parametrize("value", ["7", "'many'", "-3"])
def test_counters_that_do_not_fit_are_found_and_counted_anew(open_embedded: OpenEmbedded, value: str) -> None:
    store = open_embedded()
    put_run(store, "a")
    settle(store, claim(store), DeadLetter("x"))
    put_one(store)
    for name in ("bare_waiting", "runs_failed", "cancelling", "cancelling_waiting", "runs_succeeded"):
        damage(store, f"UPDATE {sql.QUEUE} SET {name} = {value}")
        assert all(many >= 0 for many in store.tally(QUEUE))
        assert any("counters" in problem for problem in store.check()), name
        assert store._access.repair()
        assert store.tally(QUEUE) == tally_by_looking(store, QUEUE) == Tally(failed=1)
        store._access._next_repair = 0.0
    assert store.check() == []


def test_runs_with_large_headers_are_cancelled_in_smaller_pieces(
    open_embedded: OpenEmbedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "MOST_BYTES", 3 * 66_000)
    store = open_embedded()
    put(store, *(run(f"r{number}", headers=encode_headers({"h": "x" * 5_000})) for number in range(7)))
    pieces, cursor = [], None
    while not pieces or cursor is not None:
        piece = store.cancel_some(QUEUE, Filter(runs_only=True, is_active=True, newest_first=True), cursor)
        pieces.append(piece.changed)
        cursor = piece.next_cursor
    assert pieces == [3, 3, 1]


def test_runs_with_large_payloads_are_purged_in_smaller_pieces(
    open_embedded: OpenEmbedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit writes to the log what it removes: a purge must not need as much again as it frees."""
    monkeypatch.setattr(remove, "MOST_BYTES", 300_000)
    store = open_embedded()
    put(store, *(run(f"r{number}", payload=bytes(100_000)) for number in range(7)))
    for row in claims(store, 10):
        settle(store, row, DeadLetter("no"), yields_to_cancel=True)
    pieces, cursor = [], None
    while not pieces or cursor is not None:
        piece = store.remove_some(QUEUE, Filter(status=JobStatus.DEAD), cursor)
        pieces.append(piece.changed)
        cursor = piece.next_cursor
    assert pieces == [3, 3, 1]
    assert store.check() == []


def test_a_run_that_ended_between_the_look_and_the_commit_is_left_alone(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    ids = put(store, run("a"), run("b"))
    which = Filter(runs_only=True, is_waiting=True)
    with raw(store._connections.root) as connection:
        found = connection.execute(f"SELECT seq, id FROM {sql.JOB} ORDER BY seq").fetchall()
    settle(store, claim(store), SettleCancelled("by itself"))
    piece = store._access.write(lambda tx: many.cancel_some(tx, which, found, None, "theirs", None, ()))
    assert piece.changed == 1
    assert [stored(store, each).last_error for each in ids] == ["by itself", "theirs"]


def test_what_cannot_be_read_of_an_event_hides_no_other(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    job_id = put_run(store)
    for _ in range(2):
        settle(store, claim(store), DeadLetter("x"))
        store.requeue(job_id)
    whole = [event.kind for event in store.events(job_id)]
    damage(store, f"UPDATE {sql.EVENT} SET kind = 'strange', at_ms = 'soon' WHERE number = 2")
    assert len(store.events(job_id)) == len(whole) - 1


def test_a_run_that_was_begun_since_it_was_looked_for_is_left_alone_where_waiting_ones_are_meant(
    open_embedded: OpenEmbedded,
) -> None:
    store = open_embedded()
    job_id = put_run(store)
    with raw(store._connections.root) as connection:
        found = connection.execute(f"SELECT seq, id FROM {sql.JOB}").fetchall()
    claim(store)
    which = Filter(runs_only=True, is_waiting=True)
    piece = store._access.write(lambda tx: many.cancel_some(tx, which, found, None, None, None, ()))
    assert (piece.changed, piece.tokens) == (0, [])
    assert not stored(store, job_id).cancel_requested
