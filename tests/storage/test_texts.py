"""Texts and numbers at their edges: what is escaped, and what the store says that it cannot hold."""

from __future__ import annotations

import json

import pytest

from taquba_workflow_sync.clock import LAST_MS
from taquba_workflow_sync.storage.port.claim import ClaimRequest, LaneClaim
from taquba_workflow_sync.storage.port.headers import HEADER_ERROR
from taquba_workflow_sync.storage.port.reads import DueIn
from taquba_workflow_sync.storage.port.settlement import (
    Ack,
    Action,
    Advance,
    DeadLetter,
    Nack,
    SettleCancelled,
    UnstorableError,
)
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.texts import readable_error, storable_error
from taquba_workflow_sync.testing import ManualClock

from .bench import (
    LANE,
    LEASE_MS,
    QUEUE,
    claim,
    claims,
    ending,
    job,
    now_ms,
    put,
    put_run,
    refusal,
    rows_of,
    run,
    settle,
    stored,
    subscribe,
    writes_nothing,
)

ODD_ERRORS = {
    "a null": "a\0b",
    "nothing but nulls": "\0" * 3,
    "a lone surrogate": "a\ud800b",
    "both, and more": "ü\0\udfff\U0001f600\ufdd0\ufdd00\n",
    "empty": "",
    "a null where it is cut": "x" * 16_383 + "\0\0",
}


@pytest.mark.parametrize("error", ODD_ERRORS.values(), ids=ODD_ERRORS.keys())
@pytest.mark.parametrize("end", ["nack", "dead", "failed", "cancelled"])
def test_any_error_is_stored_as_the_port_says_it_can_be(store: Store, error: str, end: str) -> None:
    subscribe(store)
    ends: dict[str, Action] = {
        "nack": Nack(error),
        "dead": DeadLetter(error),
        "failed": Ack(Verdict.FAILED, None, error),
        "cancelled": SettleCancelled(error),
    }
    job_id = put_run(store)
    settle(store, claim(store), ends[end])
    expected = storable_error(error)
    assert expected is not None and "\0" not in expected
    assert stored(store, job_id).last_error == expected
    assert [each.error for each in store.history(job_id)] == [expected]
    for note in rows_of(store, LANE):
        assert json.loads(note.headers)[HEADER_ERROR] == expected
    if end == "nack":
        assert claim(store).last_error == expected
    if error.isprintable() or len(error) < 100:
        assert readable_error(expected) == error.encode("utf-8", "backslashreplace").decode()


UNSTORABLE: dict[str, Action] = {
    "headers with a lone surrogate": Advance(b"x", headers='{"a":"\ud800"}'),
    "headers that end in half a character": Advance(b"x", headers='{"a":"\udfff'),
}


@pytest.mark.parametrize("action", [Advance(b"x", delay_ms=2**70), Nack("boom", 2**70)], ids=["advance", "nack"])
def test_a_delay_beyond_the_calendar_ends_with_it(store: Store, clock: ManualClock, action: Action) -> None:
    job_id = put_run(store)
    settle(store, claim(store), action)
    assert (stored(store, job_id).status, stored(store, job_id).run_at_ms) == ("scheduled", LAST_MS)
    assert store.next_work(QUEUE) == DueIn(LAST_MS - now_ms(clock))


@pytest.mark.parametrize("action", UNSTORABLE.values(), ids=UNSTORABLE.keys())
def test_a_settlement_that_the_store_cannot_hold_is_refused_by_that_name(store: Store, action: Action) -> None:
    subscribe(store)
    put_run(store)
    held = claim(store)
    with writes_nothing(store):
        for _ in range(2):
            assert type(refusal(store, held, action)) is UnstorableError, "now, and at the next try"
    assert refusal(store, held, DeadLetter("cannot be stored")) is None, "the claim is still held"


@pytest.mark.parametrize("action", UNSTORABLE.values(), ids=UNSTORABLE.keys())
def test_what_cannot_be_stored_harms_nothing_beside_it(store: Store, action: Action) -> None:
    put(store, *(run(f"r{number}") for number in range(4)))
    held = claims(store)
    waiting = put(store, job())[0]
    settlements = [ending(row, action if number == 2 else Ack(result=b"x")) for number, row in enumerate(held)]
    refusals, claimed = store.settle_and_claim(settlements, [ClaimRequest((LaneClaim(QUEUE, LEASE_MS),), 9)])
    assert [type(error) for error in refusals] == [type(None), type(None), UnstorableError, type(None)]
    assert [stored(store, row.id).status for row in held] == ["done", "done", "claimed", "done"]
    assert [row.id for row in claimed] == [waiting]


def test_a_stale_claim_is_lost_whatever_its_settlement_says(store: Store) -> None:
    put_run(store)
    held = claim(store)
    settle(store, held, Ack())
    for action in UNSTORABLE.values():
        with writes_nothing(store):
            assert refusal(store, held, action) is not None


@pytest.mark.parametrize("text", ["\U0001f600", "\ufdd0", "\ufffe", "\x01\x7f", "\u2028", "e\u0301"])
def test_any_text_without_a_null_comes_back_as_it_was(store: Store, text: str) -> None:
    headers = json.dumps({text: text}, ensure_ascii=False)
    job_id = put_run(store, headers=headers)
    assert stored(store, job_id).headers == headers
    assert claim(store).headers == headers
