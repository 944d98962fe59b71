"""Signals at the port: who gets which, what a claim fixes, what uses one up, and what there is room for."""

from __future__ import annotations

from typing import Any

import pytest

from taquba_workflow_sync.errors import (
    DuplicateJobIdError,
    EffectConflictError,
    InputMismatchError,
    InvalidStateError,
    MemoFullError,
    RunNotFoundError,
    SignalBufferFullError,
)
from taquba_workflow_sync.storage.port import memo as memo_rules
from taquba_workflow_sync.storage.port import signals as rules
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.effects import ComparePut, Effect, Insert, Put, SendSignal
from taquba_workflow_sync.storage.port.job import NewJob
from taquba_workflow_sync.storage.port.memo import MemoScope
from taquba_workflow_sync.storage.port.reads import DueIn, Filter, Ready
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Nack,
    PutBack,
    Release,
    SettleCancelled,
)
from taquba_workflow_sync.storage.port.signals import NewSignal, SignalOutcome
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.wait import Wait, WaitEnd, WaitKind, waiting_for
from taquba_workflow_sync.testing import ManualClock
from taquba_workflow_sync.wakeup import WakeUp

from .bench import (
    KEEP_MS,
    QUEUE,
    claim,
    claims,
    ending,
    holding,
    job,
    put,
    put_one,
    put_run,
    rows_of,
    run,
    settle,
    stored,
    version_of,
    writes_nothing,
)
from .conftest import MakeStore

DELIVERED, BUFFERED, DUPLICATE = SignalOutcome
MINUTE = 60_000


def send(
    store: Store,
    name: str = "go",
    payload: bytes = b"",
    *,
    run_id: str = "r",
    id: str | None = None,
    submit: NewJob | None = None,
    effects: tuple[Effect, ...] = (),
) -> SignalOutcome:
    insert = None if submit is None else Insert(submit, effects)
    return store.send_signal(QUEUE, run_id, NewSignal(name, payload, id), insert)


def wait_for(name: str = "go", timeout_ms: int | None = None, payload: bytes = b"next") -> Advance:
    return Advance(payload, wait=Wait(WaitKind.SIGNAL, name, timeout_ms))


def put_waiting(store: Store, name: str = "go", timeout_ms: int | None = None, run_id: str = "r", **fields: Any) -> str:
    """A run whose step 1 waits."""
    job_id = put_run(store, run_id, **fields)
    (held,) = [each for each in claims(store) if each.id == job_id]
    settle(store, held, wait_for(name, timeout_ms))
    return job_id


def end_of(held: ClaimedRow) -> WaitEnd:
    assert held.wait is not None
    return held.wait


def got(held: ClaimedRow) -> bytes | None:
    """The payload that a claim brought to its step; None: the timeout came first."""
    end = end_of(held)
    assert end.timed_out is (end.signal is None)
    return None if end.signal is None else end.signal.payload


def waits(store: Store, job_id: str) -> str | None:
    return waiting_for(stored(store, job_id))


def payloads(store: Store, job_id: str) -> list[bytes]:
    return [signal.payload for signal in store.signals(job_id)]


# Who gets which


def test_a_run_that_waits_is_scheduled_and_due_never(store: Store, clock: ManualClock) -> None:
    job_id = put_waiting(store)
    row = stored(store, job_id)
    assert (row.status, row.step, row.run_at_ms, waiting_for(row)) == (JobStatus.SCHEDULED, 1, None, "signal:go")
    assert store.next_work(QUEUE) is None
    assert store.next_work(QUEUE, retries_only=True) is None
    clock.advance(10**9)
    assert claims(store) == []
    assert store.next_work(QUEUE) is None
    assert [each.id for each in rows_of(store, QUEUE, Filter(is_waiting=True, runs_only=True))] == [job_id]
    assert [each.id for each in rows_of(store, QUEUE, Filter(JobStatus.SCHEDULED))] == [job_id]


def test_what_waits_beside_a_run_that_waits_for_ever_is_due_when_it_is(store: Store) -> None:
    put_waiting(store)
    put_waiting(store, timeout_ms=MINUTE, run_id="other")
    assert store.next_work(QUEUE) == DueIn(MINUTE)


def test_a_signal_wakes_the_run_that_waits_for_it(make_store: MakeStore, clock: ManualClock) -> None:
    mine, other = make_store(), make_store()
    job_id = put_waiting(mine)
    clock.advance(5)
    version = version_of(mine)
    assert send(other, payload=b"yes", id="1") is DELIVERED
    assert mine.wait_for_changes(version, 0, WakeUp()).are_new
    assert (mine.next_work(QUEUE), waits(mine, job_id)) == (Ready(), None)
    held = claim(mine)
    assert (held.id, held.step, held.payload, held.attempts) == (job_id, 1, b"next", 1)
    signal = end_of(held).signal
    assert signal is not None
    assert (signal.name, signal.payload, signal.id, signal.sent_ms) == ("go", b"yes", "1", held.claimed_ms)


def test_a_commit_that_wakes_a_run_is_told_to_listeners(store: Store) -> None:
    put_waiting(store)
    told: list[frozenset[str]] = []
    with store.on_commit(lambda woken, ended: told.append(woken)):
        assert send(store, "another") is BUFFERED
        assert send(store) is DELIVERED
    assert told == [frozenset({QUEUE})]


def test_a_signal_of_another_name_wakes_nobody(store: Store) -> None:
    job_id = put_waiting(store)
    assert send(store, "stop") is BUFFERED
    assert claims(store) == []
    assert waits(store, job_id) == "signal:go"


def test_only_the_first_signal_of_a_name_is_delivered(store: Store) -> None:
    put_waiting(store)
    assert [send(store, payload=each) for each in (b"1", b"2")] == [DELIVERED, BUFFERED]
    assert got(claim(store)) == b"1"


def test_what_is_buffered_is_taken_by_the_step_that_asks_for_it_at_once(store: Store) -> None:
    put_run(store)
    assert send(store, payload=b"early") is BUFFERED
    settle(store, claim(store), wait_for())
    assert store.next_work(QUEUE) == Ready()
    assert got(claim(store)) == b"early"


def test_signals_are_first_in_first_out_for_each_name(store: Store) -> None:
    put_run(store)
    for name, payload in (("a", b"1"), ("b", b"2"), ("a", b"3"), ("b", b"4")):
        send(store, name, payload)
    received = []
    for name in ("b", "a", "a", "b"):
        settle(store, claim(store), wait_for(name))
        (held,) = claims(store)
        received.append(got(held))
        settle(store, held, Advance(b"next"))
    assert received == [b"2", b"1", b"3", b"4"]


def test_two_runs_have_signals_of_their_own(store: Store) -> None:
    one, two = put_waiting(store, run_id="one"), put_waiting(store, run_id="two")
    assert send(store, payload=b"1", run_id="one") is DELIVERED
    assert got(claim(store)) == b"1"
    assert (payloads(store, one), payloads(store, two)) == ([b"1"], [])


def test_a_poll_takes_what_is_buffered_and_waits_for_nothing(store: Store) -> None:
    put_run(store)
    settle(store, claim(store), wait_for(timeout_ms=0))
    held = claim(store)
    assert got(held) is None
    send(store, payload=b"now")
    settle(store, held, wait_for(timeout_ms=0))
    assert got(claim(store)) == b"now"


def test_a_timeout_that_passes_first_is_told_to_the_step(store: Store, clock: ManualClock) -> None:
    job_id = put_waiting(store, timeout_ms=MINUTE)
    assert store.next_work(QUEUE) == DueIn(MINUTE)
    clock.advance(59)
    assert claims(store) == []
    clock.advance(1)
    held = claim(store)
    assert (held.id, got(held)) == (job_id, None)


def test_until_the_claim_a_signal_beats_a_timeout_that_has_passed(store: Store, clock: ManualClock) -> None:
    put_waiting(store, timeout_ms=MINUTE)
    clock.advance(61)
    claims(store, 0)  # promoted
    assert store.next_work(QUEUE) == Ready()
    assert send(store, payload=b"late") is DELIVERED
    assert got(claim(store)) == b"late"


def test_after_the_claim_a_signal_is_buffered_for_a_later_step(store: Store, clock: ManualClock) -> None:
    put_waiting(store, timeout_ms=MINUTE)
    clock.advance(61)
    held = claim(store)
    assert send(store, payload=b"late") is BUFFERED
    settle(store, held, Nack("boom"))
    again = claim(store)
    assert got(again) is None, "the first claim has decided"
    settle(store, again, wait_for())
    assert got(claim(store)) == b"late"


def test_a_run_that_was_woken_keeps_its_place_in_line(store: Store) -> None:
    first = put_waiting(store)
    second = put_one(store)
    send(store)
    assert [held.id for held in claims(store)] == [first, second]


# What a claim fixes, and what uses a signal up

KEEPING: dict[str, Action] = {
    "nack": Nack("boom"),
    "nack with backoff": Nack("boom", 1_000),
    "put back": PutBack(0),
    "put back for later": PutBack(1_000),
    "fail": Ack(Verdict.FAILED, None, "no"),
    "dead letter": DeadLetter("broken"),
    "release": Release(),
}
USING_UP: dict[str, Action] = {
    "advance": Advance(b"next"),
    "advance later": Advance(b"next", delay_ms=1_000),
    "wait again": wait_for("another"),
    "success": Ack(result=b"done"),
    "cancellation": SettleCancelled("enough"),
}


@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("is_timeout", [False, True], ids=["signal", "timeout"])
def test_what_may_be_tried_again_sees_exactly_the_same(
    store: Store, clock: ManualClock, name: str, is_timeout: bool
) -> None:
    job_id = put_waiting(store, timeout_ms=MINUTE)
    if is_timeout:
        clock.advance(60)
    else:
        send(store, payload=b"yes", id="1")
    held = claim(store)
    settle(store, held, KEEPING[name])
    assert [signal.id for signal in store.signals(job_id)] == ([] if is_timeout else ["1"])
    if stored(store, job_id).finished_ms is not None:
        store.requeue(job_id, failed_run=True)
    clock.advance(1)
    again = claim(store)
    assert again.wait == held.wait


def test_a_reaped_claim_has_fixed_it_too(store: Store, clock: ManualClock) -> None:
    put_waiting(store, timeout_ms=MINUTE)
    clock.advance(60)
    held = claim(store, is_bare=True, lease_ms=1_000)
    assert send(store, payload=b"late") is BUFFERED
    clock.advance(2)
    again = claim(store)
    assert (again.wait, again.attempts) == (held.wait, 2)


def test_a_release_of_the_first_claim_opens_the_wait_again(store: Store, clock: ManualClock) -> None:
    put_waiting(store, timeout_ms=MINUTE)
    clock.advance(60)
    settle(store, claim(store), Release())
    assert send(store, payload=b"in time") is DELIVERED
    assert got(claim(store)) == b"in time"


def test_a_release_of_a_later_claim_leaves_what_an_earlier_one_has_fixed(store: Store, clock: ManualClock) -> None:
    put_waiting(store, timeout_ms=MINUTE)
    clock.advance(60)
    for action in (Nack("boom"), Release(), PutBack(0), Release()):
        held = claim(store)
        assert got(held) is None
        settle(store, held, action)
    assert send(store) is BUFFERED
    assert got(claim(store)) is None


def test_a_claim_put_back_has_fixed_it_though_it_was_not_charged(store: Store, clock: ManualClock) -> None:
    put_waiting(store, timeout_ms=MINUTE)
    clock.advance(60)
    settle(store, claim(store), PutBack(0))
    settle(store, claim(store), Release())
    assert send(store) is BUFFERED
    assert got(claim(store)) is None


def test_a_released_signal_is_still_the_one_that_is_received(store: Store) -> None:
    put_waiting(store)
    send(store, payload=b"1")
    settle(store, claim(store), Release())
    assert send(store, payload=b"2") is BUFFERED
    assert got(claim(store)) == b"1"


@pytest.mark.parametrize("name", USING_UP)
def test_a_step_that_ends_well_has_used_its_signal_up(store: Store, name: str) -> None:
    job_id = put_waiting(store)
    send(store, payload=b"1")
    send(store, payload=b"2")
    held = claim(store)
    assert payloads(store, job_id) == [b"1", b"2"], "the received one is among them until then"
    settle(store, held, USING_UP[name])
    assert payloads(store, job_id) == [b"2"]


def test_a_claim_that_is_held_on_has_used_its_signal_up(store: Store) -> None:
    job_id = put_waiting(store)
    send(store)
    held = claim(store)
    settlement = holding(store, held)
    store.settle_and_claim([settlement], [])
    assert payloads(store, job_id) == []
    settle(store, held._replace(token=store.running()[0].token), Nack("boom"))
    assert claim(store).wait is None


def test_a_settlement_that_waits_never_holds_its_claim(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    settlement = holding(store, held)
    action = settlement.action
    assert isinstance(action, Advance)
    waiting = Advance(b"next", hold=action.hold, wait=Wait(WaitKind.SIGNAL, "go"))
    (answer,), _ = store.settle_and_claim([settlement._replace(action=waiting)], [])
    assert (answer, waits(store, job_id)) == (None, "signal:go")


def test_runs_that_come_to_wait_in_one_commit_all_wait(store: Store) -> None:
    jobs = [put_run(store, name) for name in ("one", "two", "three")]
    ends = [ending(held, wait_for(), yields_to_cancel=True) for held in claims(store)]
    assert store.settle_and_claim(ends, []) == ([None] * 3, [])
    assert [waits(store, each) for each in jobs] == ["signal:go"] * 3


def test_waiting_again_for_the_same_name_does_not_take_the_signal_that_is_used_up(store: Store) -> None:
    job_id = put_waiting(store)
    send(store, payload=b"1")
    settle(store, claim(store), wait_for())
    assert (claims(store), waits(store, job_id)) == ([], "signal:go")
    assert send(store, payload=b"2") is DELIVERED
    assert got(claim(store)) == b"2"


def test_waiting_again_for_the_same_name_takes_the_next_one(store: Store) -> None:
    put_waiting(store)
    for payload in (b"1", b"2"):
        send(store, payload=payload)
    settle(store, claim(store), wait_for())
    assert got(claim(store)) == b"2"


def test_a_step_that_did_not_wait_brings_nothing(store: Store) -> None:
    put_run(store)
    send(store)
    held = claim(store)
    assert held.wait is None
    settle(store, held, Advance(b"next"))
    assert claim(store).wait is None


def test_a_wait_is_fenced(store: Store) -> None:
    put_run(store)
    zombie = claim(store)
    settle(store, zombie, Nack("boom"))
    held = claim(store)
    with writes_nothing(store):
        store.settle_and_claim([ending(zombie, wait_for())], [])
    settle(store, held, Advance(b"next"))
    assert claim(store).wait is None


def test_a_requested_cancellation_refuses_to_wait(store: Store) -> None:
    job_id = put_run(store)
    held = claim(store)
    store.cancel(job_id)
    with writes_nothing(store):
        store.settle_and_claim([ending(held, wait_for(), yields_to_cancel=True)], [])
    assert send(store) is BUFFERED, "it has not ended"


def test_a_run_that_waits_can_be_cancelled(store: Store) -> None:
    job_id = put_waiting(store)
    store.cancel(job_id)
    row = stored(store, job_id)
    assert (row.status, waiting_for(row)) == (JobStatus.CANCELLED, None)
    with pytest.raises(InvalidStateError):
        send(store)


def test_a_signal_that_no_claim_has_found_outlives_the_cancellation_of_its_run(store: Store) -> None:
    job_id = put_waiting(store)
    send(store, payload=b"unread")
    store.cancel(job_id)
    assert payloads(store, job_id) == [b"unread"]


# Ids


def test_a_repeated_id_is_a_duplicate_and_changes_nothing(store: Store) -> None:
    job_id = put_waiting(store)
    assert send(store, payload=b"1", id="x") is DELIVERED
    with writes_nothing(store):
        assert send(store, "another", b"2", id="x") is DUPLICATE
    assert payloads(store, job_id) == [b"1"]
    settle(store, claim(store), Ack())
    assert send(store, id="x") is DUPLICATE, "though it was used up, and the run has ended"
    with pytest.raises(InvalidStateError):
        send(store, id="y")


def test_a_duplicate_is_known_as_long_as_the_row_is_stored(store: Store, clock: ManualClock) -> None:
    put_waiting(store, keep_done_ms=None)
    send(store, id="x")
    settle(store, claim(store), Ack())
    assert send(store, id="x") is DUPLICATE
    with pytest.raises(RunNotFoundError):
        send(store, id="y")


def test_two_runs_know_ids_of_their_own(store: Store) -> None:
    put_waiting(store, run_id="one")
    put_waiting(store, run_id="two")
    assert [send(store, id="x", run_id=each) for each in ("one", "two", "one")] == [DELIVERED, DELIVERED, DUPLICATE]


def test_signals_without_an_id_are_all_new(store: Store) -> None:
    job_id = put_run(store)
    assert [send(store, payload=b"same") for _ in range(3)] == [BUFFERED] * 3
    assert [signal.id for signal in store.signals(job_id)] == [None] * 3


def test_so_many_ids_are_remembered_and_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_IDS", 3)
    put_run(store)
    for number in range(4):
        assert send(store, id=str(number)) is BUFFERED
    assert [send(store, id=str(number)) for number in (1, 2, 3)] == [DUPLICATE] * 3
    assert send(store, id="0") is BUFFERED, "the oldest was forgotten"
    assert send(store, id="1") is BUFFERED


def test_ten_thousand_ids_are_remembered() -> None:
    assert (rules.MOST_IDS, rules.MOST_BUFFERED, rules.MOST_PAYLOAD) == (10_000, 1_000, 262_144)


# Who it is for


def test_an_unknown_run_gets_no_signal(store: Store) -> None:
    with writes_nothing(store), pytest.raises(RunNotFoundError):
        send(store)
    put_run(store)
    with pytest.raises(RunNotFoundError):
        store.send_signal("another queue", "r", NewSignal("go"))


@pytest.mark.parametrize("action", [Ack(), Ack(Verdict.FAILED, None, "no"), DeadLetter("broken"), SettleCancelled()])
def test_an_ended_run_gets_no_signal(store: Store, action: Action) -> None:
    put_run(store)
    settle(store, claim(store), action)
    with writes_nothing(store), pytest.raises(InvalidStateError):
        send(store)


def test_signals_are_the_rows_and_not_the_names(store: Store, clock: ManualClock) -> None:
    first = put_run(store)
    send(store, payload=b"1", id="x")
    settle(store, claim(store), Ack())
    second = put(store, run("r", if_finished=IfFinished.RERUN))[0]
    assert (payloads(store, first), payloads(store, second)) == ([b"1"], [])
    assert send(store, payload=b"2", id="x") is BUFFERED, "the new row knows no ids"
    assert (payloads(store, first), payloads(store, second)) == ([b"1"], [b"2"])


def test_a_retried_run_has_its_signals_again(store: Store) -> None:
    job_id = put_run(store)
    send(store, payload=b"1")
    settle(store, claim(store), DeadLetter("broken"))
    assert payloads(store, job_id) == [b"1"]
    store.requeue(job_id, failed_run=True)
    settle(store, claim(store), wait_for())
    assert got(claim(store)) == b"1"


# With a submit


def test_a_run_that_is_not_there_is_submitted_with_its_first_signal(store: Store) -> None:
    assert send(store, payload=b"1", id="x", submit=run("r", b"input")) is BUFFERED
    held = claim(store)
    assert (held.run_id, held.payload) == ("r", b"input")
    settle(store, held, wait_for())
    assert got(claim(store)) == b"1"


def test_a_run_that_is_there_is_not_submitted_again(store: Store) -> None:
    job_id = put_waiting(store)
    assert send(store, submit=run("r")) is DELIVERED
    assert [row.id for row in rows_of(store, QUEUE)] == [job_id]


def test_a_known_id_submits_nothing(store: Store) -> None:
    put_run(store)
    send(store, id="x")
    settle(store, claim(store), Ack())
    with writes_nothing(store):
        assert send(store, id="x", submit=run("r", if_finished=IfFinished.RERUN)) is DUPLICATE
        assert send(store, id="x", submit=run("r", b"other input")) is DUPLICATE
    assert send(store, id="y", submit=run("r", if_finished=IfFinished.RERUN)) is BUFFERED
    assert len(rows_of(store, QUEUE)) == 2


def test_a_submit_is_refused_as_it_would_be_alone(store: Store) -> None:
    put_run(store)
    with writes_nothing(store), pytest.raises(InputMismatchError):
        send(store, submit=run("r", b"other input"))
    settle(store, claim(store), Ack())
    with writes_nothing(store):
        with pytest.raises(InputMismatchError):
            send(store, submit=run("r", b"other input"))
        with pytest.raises(InvalidStateError):
            send(store, submit=run("r"))  # answered by the run that is kept, which has ended


def test_the_effects_of_a_new_run_are_applied_with_its_signal(store: Store) -> None:
    effects = (Put("k", b"v"), Insert(job("mails")), SendSignal(QUEUE, "r", NewSignal("go", b"first")))
    assert send(store, payload=b"second", submit=run("r"), effects=effects) is BUFFERED
    assert store.kv_get("k") == b"v" and len(rows_of(store, "mails")) == 1
    row = store.find_run(QUEUE, "r")
    assert row is not None and payloads(store, row.id) == [b"first", b"second"]


def test_the_effects_of_a_run_that_is_there_are_not_applied(store: Store) -> None:
    job_id = put_waiting(store)
    assert send(store, id="x", submit=run("r"), effects=(Put("k", b"v"),)) is DELIVERED
    assert send(store, id="x", submit=run("r"), effects=(Put("k", b"v"),)) is DUPLICATE
    assert store.kv_get("k") is None and [row.id for row in rows_of(store, QUEUE)] == [job_id]


@pytest.mark.parametrize(
    "refused, error",
    [
        ((Put("k", b"v"), ComparePut("taken", None, b"mine")), EffectConflictError),
        ((Put("k", b"v"), Insert(job("mails", id="taken", id_given=True))), DuplicateJobIdError),
        ((Put("k", b"v"), *[SendSignal(QUEUE, "r", NewSignal("go"))] * rules.MOST_BUFFERED), SignalBufferFullError),
        ((Put("k", b"v"), SendSignal(QUEUE, "nobody", NewSignal("go"))), RunNotFoundError),
    ],
    ids=["conflict", "job id", "buffer", "unknown run"],
)
def test_a_refused_effect_refuses_the_signal_and_its_run(
    store: Store, refused: tuple[Effect, ...], error: type[Exception]
) -> None:
    store.commit_effects([Put("taken", b"yours"), Insert(job("mails", id="taken", id_given=True))])
    with writes_nothing(store), pytest.raises(error):
        send(store, submit=run("r"), effects=refused)
    assert store.kv_get("k") is None


def test_a_run_past_its_retention_is_submitted_anew(store: Store, clock: ManualClock) -> None:
    put_run(store)
    settle(store, claim(store), Ack())
    clock.advance(KEEP_MS / 1000 + 1)
    assert send(store, submit=run("r", b"other input")) is BUFFERED
    assert claim(store).payload == b"other input"


# Bounds


def test_so_many_signals_are_buffered_and_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_BUFFERED", 3)
    put_run(store)
    for number in range(3):
        send(store, str(number))
    with writes_nothing(store), pytest.raises(SignalBufferFullError, match="3 signals") as refused:
        send(store, id="x")
    assert not refused.value.is_permanent
    settle(store, claim(store), wait_for("1"))
    held = claim(store)
    assert send(store, id="x") is BUFFERED, "what a step has received is buffered no more"
    with pytest.raises(SignalBufferFullError):
        send(store)
    settle(store, held, Advance(b"next"))
    with pytest.raises(SignalBufferFullError):
        send(store)


def test_a_full_buffer_does_not_refuse_what_the_run_waits_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_BUFFERED", 2)
    job_id = put_waiting(store)
    for _ in range(2):
        send(store, "noise")
    assert send(store) is DELIVERED
    with pytest.raises(SignalBufferFullError):
        send(store, "noise")
    assert len(store.signals(job_id)) == 3


def test_signals_and_memos_of_a_run_have_so_many_bytes_together(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo_rules, "MOST_BYTES", 20)
    put_run(store)
    held = claim(store)
    store.memo_put(held.id, held.token, MemoScope.STEP, "1", b"123456789")
    assert send(store, "\u00fc", b"1234567") is BUFFERED  # two bytes and seven
    with writes_nothing(store), pytest.raises(SignalBufferFullError, match="20"):
        send(store, "2", b"x")
    with writes_nothing(store), pytest.raises(MemoFullError, match="20"):
        store.memo_put(held.id, held.token, MemoScope.RUN, "2", b"x")
    assert send(store, "2") is BUFFERED
    with pytest.raises(MemoFullError):
        store.memo_put(held.id, held.token, MemoScope.RUN, "2", b"")
    settle(store, held, wait_for("\u00fc"))
    held = claim(store)  # the memo has given its room back
    assert send(store, "3", b"12345678") is BUFFERED
    with pytest.raises(MemoFullError):
        store.memo_put(held.id, held.token, MemoScope.RUN, "2", b"x")
    settle(store, held, Advance(b"next"))
    held = claim(store)  # and so has the signal
    assert store.memo_put(held.id, held.token, MemoScope.RUN, "2", b"12345678") == b"12345678"


@pytest.mark.parametrize("payload", [b"", b"\0" * 2**18])
def test_a_payload_of_any_size_comes_as_it_was_sent(store: Store, payload: bytes) -> None:
    job_id = put_waiting(store)
    send(store, payload=payload)
    assert payloads(store, job_id) == [payload]
    assert got(claim(store)) == payload


@pytest.mark.parametrize("name", ["\u00fc", "a b", "x" * 512, "%", "signal:go"])
def test_a_name_is_any_text(store: Store, name: str) -> None:
    job_id = put_waiting(store, name)
    assert waits(store, job_id) == f"signal:{name}"
    assert send(store, name) is DELIVERED
    assert end_of(claim(store)).wait.name == name


# Clearing, and what goes with the row


def test_clearing_removes_the_signals_of_a_name(store: Store) -> None:
    job_id = put_run(store)
    for name, payload in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        send(store, name, payload, id=payload.decode())
    assert store.clear_signals(job_id, "a") == (2, None)
    assert payloads(store, job_id) == [b"2"]
    with writes_nothing(store):
        assert store.clear_signals(job_id, "a") == store.clear_signals("nobody", "a") == (0, None)
    assert send(store, "a", id="1") is DUPLICATE, "ids stay remembered"


@pytest.mark.parametrize("is_claimed", [False, True])
def test_clearing_spares_the_received_one(store: Store, is_claimed: bool) -> None:
    job_id = put_waiting(store)
    for payload in (b"1", b"2", b"3"):
        send(store, payload=payload)
    held = claim(store) if is_claimed else None
    assert store.clear_signals(job_id, "go").signals == 2
    assert payloads(store, job_id) == [b"1"]
    assert got(held or claim(store)) == b"1"


def test_clearing_goes_in_pieces_up_to_what_was_there_at_its_begin(store: Store) -> None:
    job_id = put_run(store)
    for number in range(700):
        send(store, payload=str(number).encode())
    removed, go_on = 0, None
    while True:
        cleared = store.clear_signals(job_id, "go", go_on)
        removed, go_on = removed + cleared.signals, cleared.go_on
        if go_on is None:
            break
        assert cleared.signals <= 500
        send(store, payload=b"later")
    assert removed == 700
    assert set(payloads(store, job_id)) <= {b"later"}


def test_room_is_given_back_by_clearing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_BUFFERED", 2)
    job_id = put_run(store)
    for _ in range(2):
        send(store)
    store.clear_signals(job_id, "go")
    assert [send(store), send(store)] == [BUFFERED, BUFFERED]
    with pytest.raises(SignalBufferFullError):
        send(store)


def test_a_run_that_is_swept_leaves_nothing(store: Store, clock: ManualClock) -> None:
    job_id = put_waiting(store)
    for number in range(3):
        send(store, id=str(number))
    settle(store, claim(store), Ack(Verdict.FAILED, None, "no"))
    assert len(store.signals(job_id)) == 3, "unread signals stay until then"
    clock.advance(KEEP_MS / 1000 + 1)
    while store.sweep():
        pass
    assert (store.get(job_id), store.signals(job_id)) == (None, [])
    with pytest.raises(RunNotFoundError):
        send(store, id="0")


def test_nobody_has_signals(store: Store) -> None:
    assert store.signals("nobody") == []


# Waking


def _scheduled(store: Store, clock: ManualClock, how: str) -> str:
    if how == "run_at":
        return put_run(store, run_at_ms=stored(store, put_one(store, "other")).enqueued_ms + MINUTE)
    job_id = put_run(store)
    actions: dict[str, Action] = {
        "delay": Advance(b"next", delay_ms=MINUTE),
        "backoff": Nack("boom", MINUTE),
        "put back": PutBack(MINUTE),
    }
    settle(store, claim(store), actions[how])
    return job_id


@pytest.mark.parametrize("how", ["run_at", "delay", "backoff", "put back"])
def test_what_waits_for_a_time_can_be_woken(store: Store, clock: ManualClock, how: str) -> None:
    job_id = _scheduled(store, clock, how)
    assert waits(store, job_id) == "time"
    assert claims(store) == []
    assert store.wake(job_id)
    assert (waits(store, job_id), store.next_work(QUEUE)) == (None, Ready())
    assert not store.wake(job_id), "it waits no more"
    assert claim(store).id == job_id


def test_a_backoff_after_a_wait_is_a_time(store: Store, clock: ManualClock) -> None:
    job_id = put_waiting(store)
    send(store, payload=b"1")
    settle(store, claim(store), Nack("boom", MINUTE))
    assert waits(store, job_id) == "time"
    assert store.wake(job_id)
    assert got(claim(store)) == b"1"


def test_what_waits_for_no_time_is_not_woken(store: Store) -> None:
    waiting = [put_waiting(store), put_waiting(store, timeout_ms=MINUTE, run_id="other")]
    claimed = put_run(store, "claimed")
    claim(store)
    pending = put_one(store)
    ended = put_run(store, "ended", queue="b")
    settle(store, claim(store, queue="b"), Ack())
    with writes_nothing(store):
        for job_id in (*waiting, claimed, pending, ended, "nobody"):
            assert not store.wake(job_id)
    assert [waits(store, each) for each in waiting] == ["signal:go"] * 2


def test_a_bare_job_can_be_woken_too(store: Store) -> None:
    later = stored(store, put_one(store, "other")).enqueued_ms + MINUTE
    job_id = put(store, job(run_at_ms=later))[0]
    assert store.wake(job_id)
    assert claim(store).id == job_id
