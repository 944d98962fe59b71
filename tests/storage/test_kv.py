"""Values at the port: held by their keys, ordered by the keys' bytes, absent everywhere once they have expired."""

from __future__ import annotations

import pytest

from taquba_workflow_sync.storage.port.effects import Put
from taquba_workflow_sync.storage.port.kv import PAGE_BYTES
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.testing import ManualClock

from .conftest import MakeStore

KEYS = ["Z", "a", "a-1", "a-2", "a-2-x", "a/", "b", "ä", "€", "\U0001f600", "￿"]


def put(store: Store, key: str = "key", value: bytes = b"value", ttl_ms: int | None = None) -> None:
    store.kv_put(key, value, ttl_ms)


def scanned(store: Store, prefix: str = "", limit: int = 1_000, *, reverse: bool = False) -> list[tuple[str, bytes]]:
    """All of a scan, page by page."""
    items: list[tuple[str, bytes]] = []
    cursor = None
    while True:
        page = store.kv_scan(prefix, limit, cursor, reverse=reverse)
        assert len(page.items) <= limit
        items, cursor = items + page.items, page.next_cursor
        if cursor is None:
            return items


def test_a_value_is_there_for_every_handle_from_its_commit_on(make_store: MakeStore) -> None:
    mine, other = make_store(), make_store()
    put(mine)
    assert (other.kv_get("key"), other.kv_get("another")) == (b"value", None)


def test_a_value_is_still_there_after_a_restart(make_store: MakeStore) -> None:
    first = make_store()
    put(first)
    first.close()
    assert make_store().kv_get("key") == b"value"


@pytest.mark.parametrize("value", [b"", b"\0\xff", b"x" * 2**20])
def test_a_value_of_any_size_comes_back_as_it_was(store: Store, value: bytes) -> None:
    put(store, value=value)
    assert store.kv_get("key") == value


def test_a_put_replaces(store: Store) -> None:
    put(store, value=b"first")
    put(store, value=b"second")
    assert scanned(store) == [("key", b"second")]


def test_a_delete_says_whether_there_was_anything(store: Store) -> None:
    put(store)
    assert [store.kv_delete("key"), store.kv_delete("key")] == [True, False]
    assert store.kv_get("key") is None and scanned(store) == []


def test_a_value_is_exchanged_only_for_the_one_expected(store: Store) -> None:
    assert not store.kv_compare_put("key", b"value", b"x")
    assert store.kv_compare_put("key", None, b"first")
    assert not store.kv_compare_put("key", None, b"x")
    assert not store.kv_compare_put("key", b"other", b"x")
    assert store.kv_get("key") == b"first"
    assert store.kv_compare_put("key", b"first", b"second")
    assert store.kv_get("key") == b"second"


def test_a_value_is_dropped_only_if_it_is_the_one_expected(store: Store) -> None:
    assert not store.kv_compare_delete("key", b"value")
    put(store)
    assert not store.kv_compare_delete("key", b"other")
    assert store.kv_get("key") == b"value"
    assert store.kv_compare_delete("key", b"value")
    assert store.kv_get("key") is None


def test_an_expired_value_is_absent_everywhere(store: Store, clock: ManualClock) -> None:
    put(store, ttl_ms=1_000)
    put(store, "stays")
    clock.advance(0.999)
    assert store.kv_get("key") == b"value"
    clock.advance(0.001)
    assert store.kv_get("key") is None
    assert scanned(store) == [("stays", b"value")] == scanned(store, reverse=True)
    assert not store.kv_compare_delete("key", b"value")
    assert not store.kv_compare_put("key", b"value", b"x")
    assert not store.kv_delete("key")
    put(store, ttl_ms=1_000)
    clock.advance(1)
    assert store.kv_compare_put("key", None, b"again")
    assert store.kv_get("key") == b"again"


def test_a_put_without_a_time_to_live_ends_the_one_before(store: Store, clock: ManualClock) -> None:
    put(store, ttl_ms=1_000)
    put(store)
    put(store, "exchanged", ttl_ms=1_000)
    assert store.kv_compare_put("exchanged", b"value", b"other")
    clock.advance(2)
    assert (store.kv_get("key"), store.kv_get("exchanged")) == (b"value", b"other")


def test_a_put_with_a_time_to_live_begins_it_anew(store: Store, clock: ManualClock) -> None:
    put(store, ttl_ms=1_000)
    clock.advance(0.9)
    put(store, ttl_ms=1_000)
    clock.advance(0.9)
    assert store.kv_get("key") == b"value"


def test_what_has_expired_is_swept_and_nothing_else(store: Store, clock: ManualClock) -> None:
    put(store, "stays")
    put(store, "later", ttl_ms=5_000)
    for number in range(3):
        put(store, f"gone-{number}", ttl_ms=1_000)
    assert store.sweep() == 0
    clock.advance(1)
    assert (store.sweep(), store.sweep()) == (3, 0)
    assert scanned(store) == [("later", b"value"), ("stays", b"value")]


def test_a_sweep_removes_a_bounded_number_of_values(store: Store, clock: ManualClock) -> None:
    store.commit_effects([])  # nothing to be done is done
    for number in range(510):
        put(store, f"{number:04}", ttl_ms=1)
    clock.advance(1)
    assert (store.sweep(), store.sweep(), store.sweep()) == (500, 10, 0)


def test_keys_are_ordered_by_their_bytes(store: Store) -> None:
    for key in KEYS:
        put(store, key, key.encode())
    in_order = sorted(KEYS, key=str.encode)
    assert in_order != sorted(KEYS, key=lambda key: key.encode("utf-16-be")), "not every encoding orders them so"
    assert [key for key, _ in scanned(store)] == in_order
    assert [key for key, _ in scanned(store, reverse=True)] == in_order[::-1]


@pytest.mark.parametrize("prefix", ["", "a", "a-", "a-2", "ä", "€", "￿", "nothing", "\x7f"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_scan_shows_each_key_with_the_prefix_once(store: Store, prefix: str, reverse: bool, limit: int) -> None:
    for key in KEYS:
        put(store, key, key.encode())
    wanted = sorted((key for key in KEYS if key.startswith(prefix)), key=str.encode, reverse=reverse)
    assert scanned(store, prefix, limit, reverse=reverse) == [(key, key.encode()) for key in wanted]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_cursor_stays_good_when_its_key_is_gone(store: Store, reverse: bool) -> None:
    for key in "abcd":
        put(store, key)
    page = store.kv_scan("", 2, None, reverse=reverse)
    last, _ = page.items[-1]
    store.kv_delete(last)
    rest = store.kv_scan("", 10, page.next_cursor, reverse=reverse)
    assert [key for key, _ in rest.items] == (["b", "a"] if reverse else ["c", "d"])


def test_a_page_that_ends_with_the_last_key_is_the_last(store: Store) -> None:
    for key in "ab":
        put(store, key)
    assert store.kv_scan("", 2, None, reverse=False).next_cursor is None


@pytest.mark.parametrize("reverse", [False, True])
def test_a_page_has_8_mib_at_most_and_the_cursor_goes_on(store: Store, reverse: bool) -> None:
    wanted = {f"k{number:02}": bytes([number]) * 2**20 for number in range(18)}
    store.commit_effects([Put(key, value) for key, value in wanted.items()])
    pages = [store.kv_scan("k", 1_000, None, reverse=reverse)]
    while pages[-1].next_cursor is not None:
        pages.append(store.kv_scan("k", 1_000, pages[-1].next_cursor, reverse=reverse))
    assert [len(page.items) for page in pages] == [7, 7, 4], "a key counts, too"
    assert all(sum(len(key) + len(value) for key, value in page.items) <= PAGE_BYTES for page in pages)
    assert [pair for page in pages for pair in page.items] == sorted(wanted.items(), reverse=reverse)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "6", "6A", "6100g0", "٦١"])
def test_a_cursor_that_is_none_is_refused(store: Store, cursor: str) -> None:
    put(store)
    with pytest.raises(ValueError, match="none of ours"):
        store.kv_scan("", 3, cursor, reverse=False)
