"""Memos at the port: written once under a claim, kept over failures, gone with their step, and bounded."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.errors import ClaimLostError, MemoFullError
from taquba_workflow_sync.storage.port import memo as rules
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.memo import MemoScope
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
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .bench import KEEP_MS, claim, claims, holding, put_run, settle, stored, writes_nothing
from .conftest import MakeStore

STEP, RUN = MemoScope.STEP, MemoScope.RUN


def put(store: Store, held: ClaimedRow, key: str = "key", value: bytes = b"value", scope: MemoScope = STEP) -> bytes:
    return store.memo_put(held.id, held.token, scope, key, value)


def shows(store: Store, job_id: str, scope: MemoScope = STEP) -> list[tuple[str, bytes]]:
    """All of a memo, by its pages and by its keys, which must agree."""
    page = store.memo_page(job_id, scope, 100_000, None)
    assert page.next_cursor is None
    assert store.memo_keys(job_id, scope, stored(store, job_id).step) == [key for key, _ in page.items]
    return page.items


@pytest.mark.parametrize("scope", MemoScope)
def test_an_entry_is_there_for_every_handle_from_its_commit_on(make_store: MakeStore, scope: MemoScope) -> None:
    mine, other = make_store(), make_store()
    put_run(mine)
    held = claim(mine)
    assert put(mine, held, scope=scope) == b"value"
    assert other.memo_get(held.id, scope, 0, "key") == b"value"
    assert other.memo_get(held.id, scope, 0, "another") is None


@pytest.mark.parametrize("scope", MemoScope)
def test_the_first_write_of_a_key_is_the_one_that_stays(store: Store, scope: MemoScope) -> None:
    put_run(store)
    held = claim(store)
    put(store, held, value=b"first", scope=scope)
    with writes_nothing(store):
        assert put(store, held, value=b"second", scope=scope) == b"first"
    assert shows(store, held.id, scope) == [("key", b"first")]


def test_the_two_memos_of_a_run_are_two(store: Store) -> None:
    put_run(store)
    held = claim(store)
    put(store, held, value=b"step")
    put(store, held, value=b"run", scope=RUN)
    assert (shows(store, held.id), shows(store, held.id, RUN)) == ([("key", b"step")], [("key", b"run")])


def test_two_runs_have_memos_of_their_own(store: Store) -> None:
    put_run(store, "one")
    put_run(store, "two")
    one, two = claims(store)
    put(store, one, value=b"1")
    assert shows(store, two.id) == []
    assert put(store, two, value=b"2") == b"2"


def test_entries_are_listed_in_the_order_they_were_written(store: Store) -> None:
    put_run(store)
    held = claim(store)
    names = ["b", "a", "Z", "\u00fc", "1"]
    for name in names:
        put(store, held, name, name.encode())
    assert shows(store, held.id) == [(name, name.encode()) for name in names]


@pytest.mark.parametrize("value", [b"", b"x" * 2**20])
def test_a_value_of_any_size_comes_back_as_it_was(store: Store, value: bytes) -> None:
    put_run(store)
    held = claim(store)
    put(store, held, value=value)
    assert store.memo_get(held.id, STEP, 0, "key") == value


KEEPING: dict[str, Action] = {
    "nack": Nack("boom"),
    "release": Release(),
    "put back": PutBack(0),
    "fail": Ack(Verdict.FAILED, None, "no"),
    "dead letter": DeadLetter("broken"),
}
CLEARING: dict[str, Action] = {
    "advance": Advance(b"next"),
    "advance later": Advance(b"next", delay_ms=1_000),
    "success": Ack(result=b"done"),
    "cancellation": SettleCancelled("enough"),
}


@pytest.mark.parametrize("name", KEEPING)
def test_what_may_be_tried_again_keeps_its_memos(store: Store, name: str) -> None:
    put_run(store)
    held = claim(store)
    put(store, held)
    put(store, held, scope=RUN)
    settle(store, held, KEEPING[name])
    assert shows(store, held.id) == shows(store, held.id, RUN) == [("key", b"value")]
    if stored(store, held.id).finished_ms is not None:
        store.requeue(held.id, failed_run=True)
    again = claim(store)
    assert put(store, again, value=b"other") == b"value"


@pytest.mark.parametrize("name", CLEARING)
def test_a_step_that_ends_well_takes_its_memo_along_and_leaves_the_run_its(store: Store, name: str) -> None:
    put_run(store)
    held = claim(store)
    put(store, held)
    put(store, held, scope=RUN)
    settle(store, held, CLEARING[name])
    assert (shows(store, held.id), shows(store, held.id, RUN)) == ([], [("key", b"value")])
    assert store.memo_get(held.id, STEP, 0, "key") is None, "nor is it found as the step's that is over"


def test_a_claim_that_is_held_on_has_an_empty_step_memo(store: Store) -> None:
    put_run(store)
    held = claim(store)
    put(store, held)
    put(store, held, scope=RUN)
    settlement = holding(store, held)
    store.settle_and_claim([settlement], [])
    following = held._replace(token=store.running()[0].token)
    assert (shows(store, held.id), shows(store, held.id, RUN)) == ([], [("key", b"value")])
    assert put(store, following, value=b"of step 1") == b"of step 1"
    assert (store.memo_get(held.id, STEP, 0, "key"), store.memo_get(held.id, STEP, 1, "key")) == (None, b"of step 1")


def test_a_reaped_claim_leaves_its_memos_to_the_next(store: Store, clock: ManualClock) -> None:
    put_run(store)
    held = claim(store, is_bare=True, lease_ms=1_000)
    put(store, held)
    clock.advance(2)
    again = claim(store)
    assert again.id == held.id and shows(store, held.id) == [("key", b"value")]


def test_a_zombie_writes_nothing(store: Store) -> None:
    put_run(store)
    zombie = claim(store)
    settle(store, zombie, Nack("boom"))
    claim(store)
    with writes_nothing(store), pytest.raises(ClaimLostError):
        put(store, zombie)
    assert shows(store, zombie.id) == []


def test_a_zombie_does_not_read_the_memo_of_a_later_step(store: Store) -> None:
    put_run(store)
    settle(store, claim(store), Advance(b"next"))
    later = claim(store)
    put(store, later)
    assert store.memo_get(later.id, STEP, 0, "key") is None
    assert store.memo_keys(later.id, STEP, 0) == []


def test_a_requested_cancellation_is_no_obstacle(store: Store) -> None:
    put_run(store)
    held = claim(store)
    store.cancel(held.id)
    assert put(store, held) == b"value"


def test_a_wrong_token_writes_nothing(store: Store) -> None:
    put_run(store)
    held = claim(store)
    with writes_nothing(store):
        for token in ("", "nothing", store.token_after(held.token)):
            with pytest.raises(ClaimLostError):
                store.memo_put(held.id, token, STEP, "key", b"value")
        with pytest.raises(ClaimLostError):
            store.memo_put("nobody", held.token, STEP, "key", b"value")


def test_nobody_has_a_memo(store: Store) -> None:
    for scope in MemoScope:
        assert store.memo_get("nobody", scope, 0, "key") is None
        assert store.memo_keys("nobody", scope, 0) == []
        assert store.memo_page("nobody", scope, 10, None) == ([], None)


def test_pages_lead_through_a_memo_once(store: Store) -> None:
    put_run(store)
    held = claim(store)
    for number in range(7):
        put(store, held, f"key-{number}", bytes([number]))
    seen: list[tuple[str, bytes]] = []
    cursor = None
    for expected in (3, 3, 1):
        page = store.memo_page(held.id, STEP, 3, cursor)
        assert len(page.items) == expected
        seen, cursor = seen + page.items, page.next_cursor
    assert cursor is None
    assert seen == shows(store, held.id)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "\u0663"])
def test_a_cursor_that_is_none_is_refused(store: Store, cursor: str) -> None:
    put_run(store)
    held = claim(store)
    put(store, held)
    with pytest.raises(ValueError, match="none of ours"):
        store.memo_page(held.id, STEP, 3, cursor)


@pytest.mark.parametrize("scope", MemoScope)
def test_a_memo_has_so_many_entries_and_no_more(
    store: Store, scope: MemoScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MOST_ENTRIES", 3)
    put_run(store)
    held = claim(store)
    for number in range(3):
        put(store, held, str(number), scope=scope)
    with writes_nothing(store), pytest.raises(MemoFullError, match="3 entries"):
        put(store, held, "one more", scope=scope)
    assert put(store, held, "2", b"again", scope=scope) == b"value", "what is there needs no room"


def test_all_memos_of_a_run_have_so_many_bytes_and_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_BYTES", 20)
    put_run(store)
    held = claim(store)
    put(store, held, "12", b"12345678")
    put(store, held, "\u00fc", b"1234567", scope=RUN)  # two bytes and seven
    with pytest.raises(MemoFullError, match="20"):
        put(store, held, "3", b"x")
    assert put(store, held, "4", b"") == b""
    settle(store, held, Advance(b"next"))
    later = claim(store)
    assert put(store, later, "12", b"123456789") == b"123456789", "the step before has given its room back"


def test_a_run_that_is_swept_leaves_nothing(store: Store, clock: ManualClock) -> None:
    put_run(store, keep_done_ms=KEEP_MS)
    held = claim(store)
    put(store, held)
    put(store, held, scope=RUN)
    settle(store, held, Ack(Verdict.FAILED, None, "no"))
    clock.advance(KEEP_MS / 1000 + 1)
    while store.sweep():
        pass
    assert store.memo_page(held.id, STEP, 10, None) == store.memo_page(held.id, RUN, 10, None) == ([], None)
