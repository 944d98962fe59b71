"""Signals in the embedded engine: what a plain row pays, what goes in pieces, and what a damaged one does."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.embedded.store import EmbeddedStore
from taquba_workflow_sync.storage.port.settlement import Ack, Advance, DeadLetter
from taquba_workflow_sync.storage.port.signals import NewSignal, SignalOutcome
from taquba_workflow_sync.storage.port.status import JobStatus
from taquba_workflow_sync.storage.port.wait import NEVER_MS, Wait, WaitKind, waiting_for
from taquba_workflow_sync.storage.relational import sql
from taquba_workflow_sync.storage.relational.belongings import Belonging
from taquba_workflow_sync.testing import ManualClock
from tests.storage.bench import QUEUE, claim, claims, put, put_run, run, settle, stored

from .conftest import OpenEmbedded
from .raw import inside, raw


def wait_for(name: str = "go", timeout_ms: int | None = None) -> Advance:
    return Advance(b"next", wait=Wait(WaitKind.SIGNAL, name, timeout_ms))


def send(store: EmbeddedStore, payload: bytes = b"yes", id: str | None = None, name: str = "go") -> SignalOutcome:
    return store.send_signal(QUEUE, "r", NewSignal(name, payload, id))


def look(store: EmbeddedStore, statement: str, *values: object) -> list[tuple[object, ...]]:
    with raw(store._connections.root) as connection:
        return connection.execute(statement, values).fetchall()


def belongings(store: EmbeddedStore) -> int:
    ((found,),) = look(store, f"SELECT belongings FROM {sql.JOB}")
    assert isinstance(found, int)
    return found


def rows(store: EmbeddedStore) -> dict[str, int]:
    """How many rows each table of the feature has."""
    tables = ("SIGNAL", "SIGNAL_ID", "MAILBOX", "WAIT", "GARBAGE")
    found = {name: look(store, f"SELECT count(*) FROM {getattr(sql, name)}")[0][0] for name in tables}
    return {name: many for name, many in found.items() if isinstance(many, int) and many}


def test_a_row_whose_signals_are_used_up_is_a_plain_one_again(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    put_run(store)
    settle(store, claim(store), wait_for())
    assert belongings(store) == Belonging.WAIT
    send(store)
    assert belongings(store) == Belonging.WAIT | Belonging.SIGNALS
    settle(store, claim(store), Advance(b"plain"))
    assert (belongings(store), rows(store)) == (0, {})


def test_a_row_whose_signals_were_cleared_is_a_plain_one_again(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    job_id = put_run(store)
    send(store)
    assert store.clear_signals(job_id, "go").signals == 1
    assert (belongings(store), rows(store)) == (0, {})


def test_a_row_that_remembers_an_id_keeps_its_mailbox(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    job_id = put_run(store)
    send(store, id="x")
    store.clear_signals(job_id, "go")
    assert (belongings(store), rows(store)) == (Belonging.SIGNALS, {"SIGNAL_ID": 1, "MAILBOX": 1})


def test_a_plain_claim_executes_nothing_more_for_signals(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    put_run(store)
    put(store, run("another"))
    settle(store, claim(store), wait_for())
    seen: list[str] = []
    with inside(store) as connections:
        connections.writer().set_trace_callback(seen.append)
    assert len(claims(store)) == 1
    assert seen and not [each for each in seen if sql.WAIT in each or sql.SIGNAL in each]


def test_a_run_that_waits_for_ever_is_due_at_a_time_that_never_comes(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    put_run(store)
    settle(store, claim(store), wait_for())
    assert look(store, f"SELECT due_ms, due_clock, run_at_ms FROM {sql.JOB}") == [(NEVER_MS, 0, None)]
    assert store.check() == []


def test_what_a_swept_run_had_goes_in_pieces(open_embedded: OpenEmbedded, clock: ManualClock) -> None:
    store = open_embedded(clock=clock)
    put_run(store, keep_done_ms=None)
    for number in range(700):
        send(store, id=str(number))
    settle(store, claim(store), Ack())
    clock.advance(61)
    removed = [store.sweep()]
    while removed[-1]:
        removed.append(store.sweep())
    assert max(removed) <= 500
    assert sum(removed) == 1 + 700 + 700 + 2, "the run, its signals, their ids, and the notes of both"
    assert rows(store) == {}


def test_large_signals_are_cleared_eight_mebibytes_at_a_time(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    job_id = put_run(store)
    for _ in range(40):
        send(store, b"x" * 2**18)
    pieces = []
    go_on: int | None = None
    while True:
        cleared = store.clear_signals(job_id, "go", go_on)
        pieces.append(cleared.signals)
        go_on = cleared.go_on
        if go_on is None:
            break
    assert (sum(pieces), max(pieces)) == (40, 32)


# Damage


def spoil(store: EmbeddedStore, statement: str, *values: object) -> None:
    with raw(store._connections.root) as connection:
        assert connection.execute(statement, values).rowcount == 1


SPOILT = {
    "the payload of the signal": f"UPDATE {sql.SIGNAL} SET payload = 'no'",
    "the name of the signal": f"UPDATE {sql.SIGNAL} SET name = CAST(x'ff' AS TEXT)",
    "the id of the signal": f"UPDATE {sql.SIGNAL} SET signal_id = 'other'",
    "the time of the signal": f"UPDATE {sql.SIGNAL} SET sent_ms = 1 << 60",
    "the signal": f"DELETE FROM {sql.SIGNAL}",
    "the name of the wait": f"UPDATE {sql.WAIT} SET name = CAST(x'ff' AS TEXT)",
    "the kind of the wait": f"UPDATE {sql.WAIT} SET kind = 5",
    "the signal of the wait": f"UPDATE {sql.WAIT} SET signal = NULL",
    "the ordinal of the wait": f"UPDATE {sql.WAIT} SET ordinal = 7",
    "the wait": f"DELETE FROM {sql.WAIT}",
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_damaged_wait_makes_its_run_a_dead_letter_and_no_other(open_embedded: OpenEmbedded, what: str) -> None:
    store = open_embedded()
    put_run(store)
    settle(store, claim(store), wait_for(timeout_ms=60_000))
    send(store)
    spoil(store, SPOILT[what])
    put(store, run("another"))
    damaged, sound = claims(store)
    assert damaged.damage is not None and damaged.damage.startswith("the stored row is damaged: ")
    assert (damaged.payload, damaged.wait, sound.damage) == (b"", None, None)
    settle(store, damaged, DeadLetter(damaged.damage))
    assert stored(store, damaged.id).status is JobStatus.DEAD
    assert store.check() == []


def test_a_damaged_wait_is_shown_and_a_signal_brings_it_to_its_end(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    job_id = put_run(store)
    settle(store, claim(store), wait_for())
    spoil(store, f"UPDATE {sql.WAIT} SET name = 'stop'")
    row = stored(store, job_id)
    assert waiting_for(row) == "time" and "what it waits for is not what was stored" in str(row.damage)
    assert send(store) is SignalOutcome.BUFFERED
    assert claim(store).damage is not None


def test_a_damaged_signal_is_an_error_to_who_looks(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    job_id = put_run(store)
    send(store)
    spoil(store, f"UPDATE {sql.SIGNAL} SET payload = x'00'")
    with pytest.raises(StorageError, match=f"a signal of job {job_id} is damaged"):
        store.signals(job_id)


@pytest.mark.parametrize("count", [0, -5, 10**6, "text"])
def test_wrong_counts_of_a_mailbox_lose_no_signal(open_embedded: OpenEmbedded, count: object) -> None:
    store = open_embedded()
    job_id = put_run(store)
    for name in ("go", "stop"):
        send(store, name=name)
    spoil(store, f"UPDATE {sql.MAILBOX} SET signals = ?, bytes = ?, ids = 0", count, count)
    settle(store, claim(store), wait_for())
    settle(store, claim(store), Advance(b"plain"))
    settle(store, claim(store), wait_for("stop"))
    held = claim(store)
    assert held.wait is not None and held.wait.signal is not None and held.wait.signal.name == "stop"
    assert [signal.name for signal in store.signals(job_id)] == ["stop"]


@pytest.mark.parametrize("timeout_ms", [None, 60_000])
def test_a_run_that_was_set_aside_while_it_waited_waits_again_when_it_is_retried(
    open_embedded: OpenEmbedded, clock: ManualClock, timeout_ms: int | None
) -> None:
    store = open_embedded(clock=clock)
    job_id = put_run(store)
    settle(store, claim(store), wait_for(timeout_ms=timeout_ms))
    spoil(store, f"UPDATE {sql.JOB} SET last_error = x'ff'")
    store._access.repair()
    assert stored(store, job_id).status is JobStatus.DEAD
    clock.advance(3600)
    store.requeue(job_id, failed_run=True)
    assert waiting_for(stored(store, job_id)) == "signal:go"
    assert claims(store) == []
    if timeout_ms is None:
        assert send(store) is SignalOutcome.DELIVERED
    else:
        clock.advance(60)
    held = claim(store)
    assert held.wait is not None and held.wait.timed_out is (timeout_ms is not None)


def test_a_counter_behind_the_signals_keeps_none_out(open_embedded: OpenEmbedded) -> None:
    store = open_embedded()
    job_id = put_run(store)
    for number in range(5):
        send(store, b"%d" % number)
    spoil(store, f"UPDATE {sql.META} SET value = 2 WHERE key = 'next_seq'")
    for number in range(5, 8):
        assert send(store, b"%d" % number) is SignalOutcome.BUFFERED
    assert [signal.payload for signal in store.signals(job_id)] == [b"%d" % number for number in range(8)]
