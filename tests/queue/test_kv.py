"""Values by key as a program sees them (FEATURES 2)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from taquba_workflow_sync import KeyValuePage, PayloadTooLargeError, Queue, StorageError, StoreClosedError
from taquba_workflow_sync.storage.relational.sql.kv import KV
from taquba_workflow_sync.testing import ManualClock

from .support import corrupt


def test_a_value_is_put_read_replaced_and_deleted(queue: Queue) -> None:
    kv = queue.kv
    assert kv.get("key") is None
    assert kv.put("key", b"one") is None  # type: ignore[func-returns-value]  # that is what is looked at
    kv.put("key", b"two")
    assert kv.get("key") == b"two"
    assert [kv.delete("key"), kv.delete("key")] == [True, False]
    assert kv.get("key") is None


def test_a_value_is_compared_and_put_or_deleted(queue: Queue) -> None:
    kv = queue.kv
    assert [kv.compare_put("key", b"x", b"one"), kv.compare_put("key", None, b"one")] == [False, True]
    assert [kv.compare_put("key", None, b"two"), kv.compare_put("key", b"one", b"two")] == [False, True]
    assert [kv.compare_delete("key", b"one"), kv.compare_delete("key", b"two")] == [False, True]
    assert kv.get("key") is None


@pytest.mark.parametrize("ttl", [1, 1.0, timedelta(seconds=1)])
def test_a_value_with_a_ttl_is_absent_everywhere_once_that_is_over(still: Queue, clock: ManualClock, ttl: Any) -> None:
    kv = still.kv
    kv.put("key", b"value", ttl=ttl)
    clock.advance(0.999)
    assert (kv.get("key"), kv.scan("").items) == (b"value", [("key", b"value")])
    clock.advance(0.001)
    assert (kv.get("key"), kv.scan("").items, kv.delete("key")) == (None, [], False)
    assert not kv.compare_put("key", b"value", b"x")
    assert kv.compare_put("key", None, b"again")


def test_a_put_without_a_ttl_ends_it(still: Queue, clock: ManualClock) -> None:
    still.kv.put("key", b"value", ttl=1)
    still.kv.put("key", b"value")
    clock.advance(10)
    assert still.kv.get("key") == b"value"


def test_a_scan_leads_through_a_prefix_in_either_direction(queue: Queue) -> None:
    for key in ("b", "a/2", "a/1", "a", "a/10", "ä"):
        queue.kv.put(key, key.encode())
    first = queue.kv.scan("a/", limit=2)
    assert isinstance(first, KeyValuePage)
    assert [key for key, _ in first.items] == ["a/1", "a/10"]
    second = queue.kv.scan("a/", limit=2, cursor=first.next_cursor)
    assert (second.items, second.next_cursor) == ([("a/2", b"a/2")], None)
    back = queue.kv.scan("", limit=3, reverse=True)
    assert [key for key, _ in back.items] == ["ä", "b", "a/2"]
    rest = queue.kv.scan("", cursor=back.next_cursor, reverse=True)
    assert [key for key, _ in rest.items] == ["a/10", "a/1", "a"]


def test_the_longest_key_and_the_largest_value_fit(queue: Queue) -> None:
    key, value = "ü" * 256, b"x" * 2**20
    queue.kv.put(key, value)
    assert queue.kv.get(key) == value
    page = queue.kv.scan("ü", limit=1)
    assert page.items == [(key, value)]


Call = Callable[[Queue], object]
WRONG: dict[str, tuple[Call, type[Exception], str]] = {
    "a key that is no text": (lambda queue: queue.kv.get(b"k"), TypeError, "must be a str"),  # type: ignore[arg-type]  # on purpose, as those below
    "an empty key": (lambda queue: queue.kv.put("", b""), ValueError, "1 to 512"),
    "a long key": (lambda queue: queue.kv.put("x" * 513, b""), ValueError, "513 bytes"),
    "a key with U+0000": (lambda queue: queue.kv.put("a\0b", b""), ValueError, "leave it out"),
    "a lone surrogate": (lambda queue: queue.kv.put("\ud800", b""), ValueError, "surrogates"),
    "a value that is no bytes": (lambda queue: queue.kv.put("k", "v"), TypeError, "encode it"),  # type: ignore[arg-type]
    "a large value": (lambda queue: queue.kv.put("k", b"x" * (2**20 + 1)), PayloadTooLargeError, "1048577"),
    "no time to live": (lambda queue: queue.kv.put("k", b"", ttl=0), ValueError, "positive"),
    "a time to live of text": (lambda queue: queue.kv.put("k", b"", ttl="1"), TypeError, "seconds"),  # type: ignore[arg-type]
    "a large new value": (
        lambda queue: queue.kv.compare_put("k", None, b"x" * (2**20 + 1)), PayloadTooLargeError, "1048577",
    ),
    "an expectation of text": (lambda queue: queue.kv.compare_put("k", "v", b""), TypeError, "expected"),  # type: ignore[arg-type]
    "to delete nothing": (lambda queue: queue.kv.compare_delete("k", None), TypeError, "expected"),  # type: ignore[arg-type]
    "a prefix that is no text": (lambda queue: queue.kv.scan(None), TypeError, "prefix"),  # type: ignore[arg-type]
    "no limit": (lambda queue: queue.kv.scan("", limit=0), ValueError, "limit"),
    "a foreign cursor": (lambda queue: queue.kv.scan("", cursor="xyz"), ValueError, "none of ours"),
    "reverse in words": (lambda queue: queue.kv.scan("", reverse="yes"), TypeError, "reverse"),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_argument_is_refused_and_nothing_is_written(queue: Queue, what: str) -> None:
    call, error, text = WRONG[what]
    with pytest.raises(error, match=text):
        call(queue)
    assert queue.kv.scan("").items == []


def test_a_closed_queue_has_no_values(queue: Queue) -> None:
    kv = queue.kv
    queue.close()
    with pytest.raises(StoreClosedError):
        kv.get("key")
    with pytest.raises(StoreClosedError):
        kv.put("key", b"")


@pytest.mark.embedded
def test_a_value_that_a_disk_changed_is_an_error_that_names_its_key_and_can_be_replaced(queue: Queue) -> None:
    queue.kv.put("good", b"value")
    queue.kv.put("key", b"value")
    corrupt(queue, f"UPDATE {KV} SET value = x'00' WHERE key = x'6b6579'")
    for call in (
        lambda: queue.kv.get("key"),
        lambda: queue.kv.scan("k"),
        lambda: queue.kv.compare_put("key", b"value", b"x"),
        lambda: queue.kv.compare_delete("key", b"value"),
    ):
        with pytest.raises(StorageError, match="key 'key'"):
            call()
    assert queue.kv.get("good") == b"value"
    (problem,) = queue.check().problems
    assert problem.startswith("the value of key 'key' is not what was stored")
    queue.kv.put("key", b"new")
    assert queue.check().ok
    assert queue.kv.get("key") == b"new"
