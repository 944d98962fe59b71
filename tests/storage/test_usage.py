"""What there is under the limits of a queue."""

from __future__ import annotations

from typing import Any

import pytest

from taquba_workflow_sync.storage.port import usage
from taquba_workflow_sync.storage.port.limit import HoldFor, Limit, Rate
from taquba_workflow_sync.storage.port.settlement import Ack, Advance
from taquba_workflow_sync.storage.port.store import Store
from taquba_workflow_sync.storage.port.usage import Usage, usage_of

from .bench import QUEUE, claim, claims, put, put_one, put_run, run, settle, writes_nothing


def limit(store: Store, pattern: str | None, **fields: Any) -> None:
    store.set_limit(QUEUE, Limit(pattern, **fields))
    while store.settle_limits(QUEUE):
        pass


def keyed(store: Store, key: str, count: int) -> None:
    """Submit so many runs of a key."""
    put(store, *(run(f"{key.encode().hex()[:20]}-{number}", limit_key=key) for number in range(count)))


def test_without_limits_there_is_nothing_to_tell(store: Store) -> None:
    assert store.limit_usage("never used") == []
    keyed(store, "a", 2)
    claim(store)
    assert store.limit_usage(QUEUE) == []


def test_a_queue_is_told_of_with_all_its_claims(store: Store) -> None:
    limit(store, None, concurrency=2)
    put(store, run("a"), run("b", limit_key="k"), run("c"))
    put_one(store)
    assert store.limit_usage(QUEUE) == [Usage(None, 0, 0)]
    claims(store)
    assert store.limit_usage(QUEUE) == [Usage(None, 2, 0)]


def test_each_key_in_use_has_its_claims_and_what_is_parked_for_it(store: Store) -> None:
    limit(store, "customer-*", concurrency=2)
    keyed(store, "customer-1", 3)
    keyed(store, "customer-2", 6)
    keyed(store, "customer-3", 1)
    keyed(store, "other", 2)
    assert store.limit_usage(QUEUE) == [Usage(None, 0, 5), Usage("customer-2", 0, 4), Usage("customer-1", 0, 1)]
    claims(store)
    assert store.limit_usage(QUEUE) == [
        Usage(None, 7, 5),
        Usage("customer-2", 2, 4),
        Usage("customer-1", 2, 1),
        Usage("customer-3", 1, 0),
    ]


def test_a_key_with_a_limit_of_its_own_is_told_of_with_nothing(store: Store) -> None:
    limit(store, "idle", concurrency=1)
    limit(store, "b", concurrency=1)
    keyed(store, "b", 2)
    assert store.limit_usage(QUEUE) == [Usage(None, 0, 1), Usage("b", 0, 1), Usage("idle", 0, 0)]


def test_what_waits_for_a_rate_is_parked(store: Store) -> None:
    limit(store, "k", rate=Rate(1, 60_000))
    keyed(store, "k", 3)
    settle(store, claim(store), Ack())
    assert store.limit_usage(QUEUE) == [Usage(None, 0, 2), Usage("k", 0, 2)]


def test_what_keeps_its_slot_and_waits_for_a_rate_is_parked(store: Store) -> None:
    limit(store, "k", concurrency=1, rate=Rate(1, 60_000), hold=HoldFor.RUN)
    keyed(store, "k", 2)
    settle(store, claim(store), Advance(b"next"))
    assert store.limit_usage(QUEUE) == [Usage(None, 0, 2), Usage("k", 0, 2)]


def test_what_is_scheduled_or_has_ended_is_neither(store: Store) -> None:
    limit(store, "k", concurrency=1)
    keyed(store, "k", 1)
    settle(store, claim(store), Ack())
    put_run(store, "later", limit_key="k", run_at_ms=2**42)
    assert store.limit_usage(QUEUE) == [Usage(None, 0, 0), Usage("k", 0, 0)]


def test_a_queue_knows_nothing_of_another_s_keys(store: Store) -> None:
    limit(store, "*", concurrency=1)
    put(store, *(run(name, queue="elsewhere", limit_key="k") for name in "ab"))
    assert store.limit_usage(QUEUE) == [Usage(None, 0, 0)]


@pytest.mark.parametrize("key", ["%", "[a]", "ä", "\U0001f600", "'", "-" * 255])
def test_a_key_is_told_as_it_is(store: Store, key: str) -> None:
    limit(store, "*", concurrency=1)
    keyed(store, key, 2)
    assert store.limit_usage(QUEUE)[1:] == [Usage(key, 0, 1)]


def test_a_look_changes_nothing(store: Store) -> None:
    limit(store, "*", concurrency=1)
    keyed(store, "k", 2)
    with writes_nothing(store):
        store.limit_usage(QUEUE)


# -- bounds


@pytest.mark.parametrize(
    ("bound", "value", "expected"),
    [
        ("MOST_KEYS_SEEN", 2, [("a", 3), ("b", 3)]),
        ("MOST_OF_KEY", 2, [("a", 2), ("b", 2), ("c", 2)]),
        ("MOST_COUNTED", 4, [("a", 3), ("b", 3)]),
    ],
)
def test_a_look_counts_so_many_rows_of_so_many_keys(
    store: Store, monkeypatch: pytest.MonkeyPatch, bound: str, value: int, expected: list[tuple[str, int]]
) -> None:
    """Only where rows are counted: the memory's engine looks at all of them anyway."""
    from taquba_workflow_sync.storage.relational.reading import usage as reading

    if "memory" in type(store).__module__:
        pytest.skip("this engine counts everything")
    monkeypatch.setattr(reading, bound, value)
    limit(store, "*", concurrency=1)
    for key in "abc":
        keyed(store, key, 4)
    own, *keys = store.limit_usage(QUEUE)
    assert own == Usage(None, 0, 9)
    assert [(each.key, each.parked) for each in keys] == expected


def test_the_most_parked_of_too_many_keys_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "MOST_KEYS", 3)
    own = Usage(None, 0, 0)
    keys = [Usage("a", 0, 1), Usage("b", 2, 0), Usage("c", 1, 9), Usage("d", 1, 1), Usage("e", 1, 0)]
    assert usage_of(own, [Limit("*")], keys) == [own, keys[2], keys[3], keys[0]]


def test_a_key_that_no_limit_is_of_is_told_only_if_something_is_parked() -> None:
    own, free, left = Usage(None, 0, 0), Usage("free", 1, 0), Usage("left", 0, 1)
    assert usage_of(own, [Limit("x*")], [free, left]) == [own, left]
    assert usage_of(own, [], [free, left]) == []
