"""One door out of ``claimed``: each way through it is barred by the token in its statement, and by nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from taquba_workflow_sync.errors import ClaimLostError
from taquba_workflow_sync.storage.embedded.boot_clock import BootClock
from taquba_workflow_sync.storage.embedded.cache import connect
from taquba_workflow_sync.storage.port.claim import ClaimedRow, ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Nack,
    PutBack,
    Release,
    SettleCancelled,
    Settlement,
)
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.data_errors import InvalidDataError
from taquba_workflow_sync.storage.relational.sql import fence as door
from taquba_workflow_sync.storage.relational.sql.owner import NUMBER_OF_HOLDER
from taquba_workflow_sync.storage.relational.transaction import Transaction
from taquba_workflow_sync.storage.relational.transitions import advance as advancing
from taquba_workflow_sync.storage.relational.transitions import finish as finishing
from taquba_workflow_sync.storage.relational.transitions.cancel import cancel
from taquba_workflow_sync.storage.relational.transitions.claim import claim
from taquba_workflow_sync.storage.relational.transitions.enqueue import insert
from taquba_workflow_sync.storage.relational.transitions.reap import take_back
from taquba_workflow_sync.storage.relational.transitions.settle import is_plain, settle, settle_in_bulk
from taquba_workflow_sync.storage.relational.unreadable import Unreadable
from tests.storage.bench import QUEUE, job, run

from .conftest import open_at

LARGE = b"x" * 5000
End = Callable[[Transaction, ClaimedRow], None]


@pytest.fixture
def tx(root: Path) -> Iterator[Transaction]:
    """A write transaction that is rolled back."""
    open_at(root).close()
    with closing(connect(root / "db", synchronous=1)) as connection:
        connection.execute(sql.BEGIN)
        yield Transaction(connection, 1_000, "owner", BootClock(), delays_by_boot_clock=False, unreadable=Unreadable())
        connection.execute(sql.ROLLBACK)


def by(action: Action) -> End:
    return lambda tx, held: settle(tx, Settlement(held.id, held.token, action))


def in_bulk(tx: Transaction, held: ClaimedRow) -> None:
    settlement = Settlement(held.id, held.token, Advance(b"next"), yields_to_cancel=True)
    assert is_plain(settlement)
    if settle_in_bulk(tx, [settlement]) != {held.token: None}:
        raise ClaimLostError("left for the single way")


def ended_in_bulk(tx: Transaction, held: ClaimedRow) -> None:
    settlement = Settlement(held.id, held.token, Ack(result=b"result"), yields_to_cancel=True)
    assert is_plain(settlement)
    if settle_in_bulk(tx, [settlement]) != {held.token: None}:
        raise ClaimLostError("left for the single way")


def by_reaping(tx: Transaction, held: ClaimedRow) -> None:
    take_back(tx, held.id, held.token, "why")


A_RUN = run("a-run", b"input", headers='{"a":"b"}', max_attempts=9)
A_LARGE_RUN = run("a-large-run", LARGE, headers='{"a":"b"}', max_attempts=9)
A_LAST_ATTEMPT = run("the-last-attempt", max_attempts=2)
A_BARE_JOB = job(payload=LARGE, max_attempts=9)

#: Every way out: the statement of the door that it goes by, a job, and what ends its claim.
WAYS: dict[str, tuple[str, NewJob, End]] = {
    "advance": ("ADVANCE", A_RUN, by(Advance(b"next"))),
    "advance to large parts": ("ADVANCE", A_RUN, by(Advance(LARGE, headers='{"a":"' + "b" * 5000 + '"}'))),
    "advance from large parts": ("ADVANCE", A_LARGE_RUN, by(Advance(b"next"))),
    "advance later": ("ADVANCE", A_RUN, by(Advance(b"next", delay_ms=5_000))),
    "advance in bulk": ("ADVANCE_MANY", A_RUN, in_bulk),
    "ack in bulk": ("FINISH_MANY", A_RUN, ended_in_bulk),
    "nack": ("RETRY", A_RUN, by(Nack("boom"))),
    "nack with backoff": ("RETRY", A_RUN, by(Nack("boom", 5_000))),
    "put back": ("PUT_BACK", A_RUN, by(PutBack(5))),
    "release": ("RELEASE", A_RUN, by(Release())),
    "ack": ("FINISH", A_RUN, by(Ack(result=b"result"))),
    "ack with a large result": ("FINISH", A_RUN, by(Ack(result=LARGE))),
    "ack of a bare job": ("DELETE", A_BARE_JOB, by(Ack())),
    "dead-letter": ("FINISH", A_RUN, by(DeadLetter("broken"))),
    "settle cancelled": ("FINISH", A_RUN, by(SettleCancelled("enough"))),
    "settle a bare job cancelled": ("DELETE", A_BARE_JOB, by(SettleCancelled("enough"))),
    "reap": ("REAP", A_RUN, by_reaping),
    "reap after the last attempt": ("FINISH", A_LAST_ATTEMPT, by_reaping),
}


def claim_one(tx: Transaction) -> ClaimedRow:
    (held,) = claim(tx, ClaimRequest((LaneClaim(QUEUE, 30_000),), 1))
    return held


def stale(tx: Transaction, new: NewJob) -> ClaimedRow:
    """A claim that was taken back; its job is claimed anew."""
    insert(tx, [new])
    held = claim_one(tx)
    take_back(tx, held.id, held.token, "the process that ran it died")
    assert claim_one(tx).id == held.id
    return held


def everything(tx: Transaction) -> list[Any]:
    tx.flush()
    return [
        tx.execute(f"SELECT * FROM {table}").fetchall() for table in (sql.JOB, sql.ATTEMPT, sql.OVERFLOW, sql.QUEUE)
    ]


def without_token(statement: str) -> str:
    mutant = statement.replace("AND token = ?", "AND ? IS NOT NULL").replace(f"AND {sql.JOB}.token = s.token", "")
    assert mutant != statement
    return mutant


@pytest.mark.parametrize("way", WAYS)
def test_a_stale_claim_is_refused_before_anything_is_written(tx: Transaction, way: str) -> None:
    _, new, end = WAYS[way]
    held = stale(tx, new)
    before = everything(tx)
    changes = tx.connection.total_changes
    tx.transitions.clear()
    with pytest.raises(ClaimLostError):
        end(tx, held)
    assert tx.connection.total_changes == changes
    assert everything(tx) == before
    assert tx.transitions == set()


@pytest.mark.parametrize("way", WAYS)
def test_without_the_token_in_its_statement_the_stale_claim_would_get_through(
    tx: Transaction, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test before would fail: the statement's own token is what refuses, not something before it."""
    name, new, end = WAYS[way]
    held = stale(tx, new)
    monkeypatch.setattr(sql, name, without_token(getattr(sql, name)))
    for module, forms in ((advancing, "_STATEMENTS"), (finishing, "_FINISH"), (finishing, "_HISTORY")):
        mutants = {size: without_token(text) for size, text in getattr(module, forms).items()}
        monkeypatch.setattr(module, forms, mutants)
    end(tx, held)
    row = tx.execute(f"SELECT token, owner, lease_until_ms FROM {sql.JOB} WHERE id = ?", (held.id,)).fetchone()
    assert row in (None, (None, None, None))


@pytest.mark.parametrize("way", WAYS)
def test_a_claim_that_holds_goes_through_and_leaves_nothing_of_itself(tx: Transaction, way: str) -> None:
    _, new, end = WAYS[way]
    insert(tx, [new])
    held = claim_one(tx)
    if new is A_LAST_ATTEMPT:
        take_back(tx, held.id, held.token, "once")
        held = claim_one(tx)
    end(tx, held)
    row = tx.execute(f"SELECT token, owner, lease_until_ms FROM {sql.JOB} WHERE id = ?", (held.id,)).fetchone()
    assert row in (None, (None, None, None))
    with pytest.raises(ClaimLostError):
        end(tx, held)


def test_every_statement_of_the_door_has_a_way_here() -> None:
    assert {name for name, _, _ in WAYS.values()} == set(sql.DOOR)


def texts(module: ModuleType) -> dict[str, str]:
    return {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}


@pytest.mark.parametrize("name", sql.DOOR)
def test_a_statement_of_the_door_has_the_one_predicate_and_clears_the_one_set_of_columns(name: str) -> None:
    statement = texts(door)[name]
    changes, _, condition = statement.partition("WHERE")
    if name in ("ADVANCE_MANY", "FINISH_MANY"):
        assert f"{sql.JOB}.seq = s.seq AND {sql.JOB}.token = s.token AND status = 'claimed'" in condition
    else:
        assert condition.strip() == "seq = ? AND token = ? AND status = 'claimed'"
    if name != "DELETE":
        assert "token = NULL, owner = NULL, lease_until_ms = NULL" in changes


def test_no_other_statement_ends_a_claim_or_deletes_a_job() -> None:
    others = {name: text for name, text in texts(sql).items() if name not in sql.DOOR}
    assert not [name for name, text in others.items() if re.search(r"\b(token|owner|lease_until_ms) = NULL", text)]
    deleting = {name for name, text in others.items() if f"DELETE FROM {sql.JOB}" in text}
    # Rows that wait, are finished, or are past their retention: each says so in its own condition.
    assert deleting == {"DELETE_WAITING", "DELETE_FINISHED", "DELETE_EXPIRED", "DELETE_HELD"}
    setting = {name for name, text in others.items() if re.search(rf"UPDATE {sql.JOB}[^;]*?\bstatus = ['?]", text)}
    assert setting - {"RENEW", "REQUEST_CANCEL", "HOLD", "HOLD_ONE"} == {
        "CLAIM",
        "CLAIM_SEQ",
        "CLAIM_ONE",
        "PROMOTE",
        "WAKE",
        "WAKE_WAITER",
        "WAIT_AGAIN",
        "PROMOTE_KEYED",
        "REQUEUE",
        "REQUEUE_WITH_PAYLOAD",
        "FINISH_WAITING",
        "RELEASE_MEMBERS",
    }


def test_what_keeps_a_claim_singly_has_the_doors_predicate() -> None:
    _, _, condition = texts(door)["HOLD_ONE"].partition("WHERE")
    assert condition.strip() == "seq = ? AND token = ? AND status = 'claimed'"


@pytest.mark.parametrize(
    "name", [*("HOLD", "HOLD_HISTORY", "FINISH_HISTORY", "FINISH_MANY", "ADVANCE_MANY", "ADVANCE_HISTORY")]
)
def test_what_is_done_in_bulk_stands_behind_the_same_predicate(name: str) -> None:
    _, _, condition = texts(door)[name].replace(NUMBER_OF_HOLDER, "").partition("WHERE")
    predicate = f"{sql.JOB}.seq = s.seq AND {sql.JOB}.token = s.token AND status = 'claimed'"
    kept = r"\(\s*\(belongings = 0 AND s\.label IS NULL\)\s*OR \(belongings = \d+ AND s\.label IS NOT NULL AND EXISTS"
    carries = kept if name.startswith("HOLD") else "belongings = 0"
    assert re.match(re.escape(f"{predicate} AND cancel_requested = 0 AND ") + carries, condition.strip())


def test_no_sql_stands_outside_of_its_room() -> None:
    """Or the test before would not see it."""
    package = Path(door.__file__).parents[1]
    statement = re.compile(r"\b(UPDATE \w+ SET|DELETE FROM|INSERT (OR \w+ )?INTO|SELECT .* FROM)\b")
    strays = [
        f"{path.relative_to(package)}:{number}"
        for path in package.rglob("*.py")
        if path.parent.name != "sql"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if statement.search(line)
    ]
    assert all(stray.startswith("cache.py:") for stray in strays), strays  # the Settings, of diskcache


@pytest.mark.parametrize("name", ["FINISH_WAITING", "DELETE_WAITING"])
def test_what_ends_a_waiting_job_does_not_touch_a_claimed_or_finished_one(tx: Transaction, name: str) -> None:
    insert(tx, [A_RUN])
    held = claim_one(tx)
    statement = getattr(sql, name)
    values = ["done", None, None, None, None, 0, 1, 1, 1] if name == "FINISH_WAITING" else []
    (seq,) = tx.execute(f"SELECT seq FROM {sql.JOB} WHERE id = ?", (held.id,)).fetchone()
    assert tx.execute(statement, (*values, seq)).rowcount == 0
    settle(tx, Settlement(held.id, held.token, Ack()))
    assert tx.execute(statement, (*values, seq)).rowcount == 0


@pytest.mark.parametrize("waiting", [A_RUN, A_BARE_JOB], ids=["kept", "kept no longer"])
def test_a_waiting_job_that_is_not_found_waiting_is_damage_and_not_cancelled(tx: Transaction, waiting: NewJob) -> None:
    (inserted,) = insert(tx, [waiting])
    tx.execute(f"CREATE TEMP TRIGGER t BEFORE UPDATE ON {sql.JOB} BEGIN SELECT RAISE(IGNORE); END")
    tx.execute(f"CREATE TEMP TRIGGER u BEFORE DELETE ON {sql.JOB} BEGIN SELECT RAISE(IGNORE); END")
    with pytest.raises(InvalidDataError, match="not found waiting"):
        cancel(tx, inserted.job_id, None, (), None)


def test_a_second_settlement_of_a_row_in_one_bulk_is_left_for_the_single_way(tx: Transaction) -> None:
    insert(tx, [A_RUN])
    held = claim_one(tx)
    first, second = (Settlement(held.id, held.token, Advance(data), yields_to_cancel=True) for data in (b"a", b"b"))
    assert settle_in_bulk(tx, [first, second]) == {held.token: None}
    with pytest.raises(ClaimLostError):
        settle(tx, second)
    (payload,) = tx.execute(f"SELECT payload FROM {sql.JOB}").fetchone()
    assert payload == b"a"
