"""Signals among effects, at the port: handed over with the end of a claim or with the others of a program."""

from __future__ import annotations

from typing import Any

import pytest

from taquba_workflow_sync.errors import InvalidStateError, RunNotFoundError, SignalBufferFullError, TaqubaError
from taquba_workflow_sync.storage.port import signals as rules
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.effects import Effect, Insert, OpenGroup, Put, SendSignal
from taquba_workflow_sync.storage.port.event import EventKind
from taquba_workflow_sync.storage.port.group import HeldBy, NewGroup, OnFailure
from taquba_workflow_sync.storage.port.run import IfFinished
from taquba_workflow_sync.storage.port.settlement import Ack, Action, Advance, DeadLetter, SettleCancelled, Settlement
from taquba_workflow_sync.storage.port.signals import NewSignal
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.wait import Wait, WaitKind

from .bench import QUEUE, claim, claims, put_run, run, settle, stored, writes_nothing

ENDS: dict[str, Action] = {
    "ack": Ack(Verdict.SUCCEEDED, b""),
    "dead letter": DeadLetter("no"),
    "cancelled": SettleCancelled("enough"),
}


def signal(run_id: str, payload: bytes = b"", name: str = "go") -> SendSignal:
    return SendSignal(QUEUE, run_id, NewSignal(name, payload))


def put_waiting(store: Store, run_id: str) -> str:
    job_id = put_run(store, run_id)
    (held,) = [each for each in claims(store) if each.id == job_id]
    settle(store, held, Advance(b"next", wait=Wait(WaitKind.SIGNAL, "go", None)))
    return job_id


def put_claimed(store: Store, run_id: str = "sender", **fields: Any) -> ClaimedRow:
    job_id = put_run(store, run_id, **fields)
    (held,) = [each for each in claims(store) if each.id == job_id]
    return held


def settle_with(store: Store, held: ClaimedRow, action: Action, *effects: Effect) -> TaqubaError | None:
    ((answer,), _) = store.settle_and_claim([Settlement(held.id, held.token, action, False, effects)], [])
    assert answer is None or isinstance(answer, TaqubaError)
    return answer


def payloads(store: Store, job_id: str) -> list[bytes]:
    return [each.payload for each in store.signals(job_id)]


def dropped(store: Store, job_id: str) -> list[str]:
    events = [each for each in store.events(job_id) if each.kind is EventKind.SIGNAL_DROPPED]
    return [event.detail or "" for event in events]


def fill(store: Store, run_id: str, many: int = rules.MOST_BUFFERED) -> None:
    for _ in range(many):
        store.send_signal(QUEUE, run_id, NewSignal("noise"))


@pytest.mark.parametrize("name", [*ENDS, "advance"])
def test_a_run_that_waits_is_woken_in_the_commit_that_ends_the_senders_step(store: Store, name: str) -> None:
    waiting = put_waiting(store, "waits")
    held = put_claimed(store)
    assert settle_with(store, held, ENDS.get(name, Advance(b"")), signal("waits", b"told")) is None
    assert stored(store, waiting).status is JobStatus.PENDING
    (claimed,) = [each for each in claims(store) if each.id == waiting]
    assert claimed.wait is not None and claimed.wait.signal is not None and claimed.wait.signal.payload == b"told"
    assert dropped(store, held.id) == []


def test_signals_of_one_commit_keep_their_order(store: Store) -> None:
    job_id = put_run(store, "r")
    held = put_claimed(store)
    settle_with(store, held, Advance(b""), signal("r", b"1"), signal("r", b"2"), signal("r", b"3"))
    assert payloads(store, job_id) == [b"1", b"2", b"3"]


def test_what_is_refused_sends_nothing(store: Store) -> None:
    job_id = put_run(store, "r")
    put_run(store, "taken")
    with writes_nothing(store), pytest.raises(TaqubaError):
        store.commit_effects([signal("r"), Insert(run("taken", b"other"))])
    assert payloads(store, job_id) == []


def test_a_zombie_sends_nothing(store: Store) -> None:
    job_id = put_run(store, "r")
    held = put_claimed(store)
    settle(store, held, Advance(b""))
    with writes_nothing(store):
        assert settle_with(store, held, Advance(b""), signal("r")) is not None
    assert payloads(store, job_id) == []


# For nobody


@pytest.mark.parametrize("name", [*ENDS, "advance"])
def test_a_steps_signal_to_an_unknown_run_is_dropped_and_noted(store: Store, name: str) -> None:
    held = put_claimed(store)
    assert settle_with(store, held, ENDS.get(name, Advance(b"")), signal("nobody"), Put("key", b"value")) is None
    (why,) = dropped(store, held.id)
    assert "'go'" in why and "'nobody'" in why
    assert store.kv_get("key") == b"value", "the other effects are applied"


def test_a_steps_signal_to_a_run_that_has_ended_is_dropped_and_noted(store: Store) -> None:
    settle(store, put_claimed(store, "over"), Ack(Verdict.SUCCEEDED, b""))
    held = put_claimed(store)
    assert settle_with(store, held, Advance(b""), signal("over"), signal("over")) is None
    assert len(dropped(store, held.id)) == 2 and all("has ended" in each for each in dropped(store, held.id))


@pytest.mark.parametrize("name", ENDS)
def test_a_step_that_ends_its_run_sends_that_none(store: Store, name: str) -> None:
    held = put_claimed(store)
    assert settle_with(store, held, ENDS[name], signal("sender")) is None
    assert len(dropped(store, held.id)) == 1 and payloads(store, held.id) == []


def test_a_step_whose_run_is_not_kept_may_send_to_nobody(store: Store) -> None:
    held = put_claimed(store, keep_done_ms=0)
    assert settle_with(store, held, Ack(Verdict.SUCCEEDED, b""), signal("nobody")) is None
    assert not stored(store, held.id).is_visible and len(dropped(store, held.id)) == 1


def test_a_step_that_goes_on_may_send_to_its_own_run(store: Store) -> None:
    held = put_claimed(store)
    ends = Advance(b"next", wait=Wait(WaitKind.SIGNAL, "go", None))
    assert settle_with(store, held, ends, signal("sender", b"to myself")) is None
    again = claim(store)
    assert again.wait is not None and again.wait.signal is not None and again.wait.signal.payload == b"to myself"


def test_a_program_is_told_that_nobody_listens(store: Store) -> None:
    settle(store, put_claimed(store, "over"), Ack(Verdict.SUCCEEDED, b""))
    for run_id, error in (("nobody", RunNotFoundError), ("over", InvalidStateError)):
        with writes_nothing(store), pytest.raises(error):
            store.commit_effects([Put("key", b"value"), signal(run_id)])


# With what is put in by the same commit


def test_a_run_that_is_submitted_before_it_gets_a_signal(store: Store) -> None:
    held = put_claimed(store)
    assert settle_with(store, held, Advance(b""), Insert(run("child")), signal("child", b"hi")) is None
    child = store.find_run(QUEUE, "child")
    assert child is not None and payloads(store, child.id) == [b"hi"] and dropped(store, held.id) == []


def test_one_that_is_submitted_after_it_does_not(store: Store) -> None:
    held = put_claimed(store)
    assert settle_with(store, held, Advance(b""), signal("child", b"hi"), Insert(run("child"))) is None
    child = store.find_run(QUEUE, "child")
    assert child is not None and payloads(store, child.id) == [] and len(dropped(store, held.id)) == 1


def test_a_later_life_gets_the_signal_and_the_earlier_does_not(store: Store) -> None:
    settle(store, put_claimed(store, "again"), DeadLetter("no"))
    held = put_claimed(store)
    again = Insert(run("again", if_finished=IfFinished.RERUN_FAILED))
    assert settle_with(store, held, Advance(b""), again, signal("again", b"hi")) is None
    row = store.find_run(QUEUE, "again")
    assert row is not None and row.status is JobStatus.PENDING and payloads(store, row.id) == [b"hi"]


# Without room


def test_a_full_buffer_refuses_the_whole_commit(store: Store) -> None:
    put_run(store, "full")
    fill(store, "full", rules.MOST_BUFFERED - 1)
    held = put_claimed(store)
    with writes_nothing(store):
        refusal = settle_with(store, held, Advance(b""), Put("key", b"value"), signal("full"), signal("full"))
    assert isinstance(refusal, SignalBufferFullError) and not refusal.is_permanent
    assert settle_with(store, held, Advance(b""), signal("full")) is None, "one more has room"


def test_the_signal_that_is_waited_for_always_has_room_and_the_next_does_not(store: Store) -> None:
    job_id = put_waiting(store, "waits")
    fill(store, "waits")
    held = put_claimed(store)
    with writes_nothing(store):
        assert isinstance(settle_with(store, held, Advance(b""), signal("waits"), signal("waits")), TaqubaError)
    assert settle_with(store, held, Advance(b""), signal("waits")) is None
    assert stored(store, job_id).status is JobStatus.PENDING


# To the members of a group


def written(store: Store, writer: HeldBy | None = None) -> NewGroup:
    """A group of one member, "g-0", that is written and not open."""
    group = NewGroup("g", QUEUE, 1, b"f", OnFailure.COLLECT, None)
    store.group_write(group, 0, [run("g-0")], writer)
    return group


def test_a_member_of_a_group_that_is_not_open_is_nobody_to_a_signal(store: Store) -> None:
    written(store)
    with writes_nothing(store), pytest.raises(RunNotFoundError):
        store.send_signal(QUEUE, "g-0", NewSignal("go"))
    with writes_nothing(store), pytest.raises(RunNotFoundError):
        store.commit_effects([signal("g-0")])
    store.group_open("g", b"f")
    store.send_signal(QUEUE, "g-0", NewSignal("go"))


def test_a_step_tells_a_member_of_the_group_that_it_opens_before(store: Store) -> None:
    held = put_claimed(store)
    written(store, HeldBy(held.id, held.token))
    assert settle_with(store, held, Advance(b""), OpenGroup("g", b"f"), signal("g-0", b"hi")) is None
    member = store.find_run(QUEUE, "g-0")
    assert member is not None and payloads(store, member.id) == [b"hi"] and dropped(store, held.id) == []


def test_a_step_that_opens_it_afterwards_tells_nobody(store: Store) -> None:
    held = put_claimed(store)
    written(store, HeldBy(held.id, held.token))
    assert settle_with(store, held, Advance(b""), signal("g-0", b"hi"), OpenGroup("g", b"f")) is None
    member = store.find_run(QUEUE, "g-0")
    assert member is not None and payloads(store, member.id) == [] and len(dropped(store, held.id)) == 1
