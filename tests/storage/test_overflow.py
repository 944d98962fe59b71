"""Payloads, headers and results of any size come back whole, through every transition and every change of size."""

from __future__ import annotations

import json

import pytest

from taquba_workflow_sync.storage.port.settlement import Ack, Advance, DeadLetter, Nack, Release
from taquba_workflow_sync.storage.port.store import Store

from .bench import QUEUE, claim, claims, ending, job, put, put_one, put_run, rows_of, run, settle, stored

SIZES = [0, 1, 2_047, 2_048, 2_049, 100_000, 3_000_000]


def headers_of(size: int) -> str:
    return json.dumps({"k": "ü" * size}, ensure_ascii=False) if size else ""


@pytest.mark.parametrize("size", SIZES)
def test_a_payload_comes_back_whole(store: Store, size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    job_id = put_one(store, payload=payload)
    assert stored(store, job_id).payload == payload
    assert claim(store).payload == payload


@pytest.mark.parametrize("size", [0, 1, 1_020, 1_500, 2_040, 2_050, 30_000])
def test_headers_come_back_whole(store: Store, size: int) -> None:
    job_id = put_one(store, headers=headers_of(size))
    assert stored(store, job_id).headers == headers_of(size)
    assert claim(store).headers == headers_of(size)


@pytest.mark.parametrize("size", SIZES)
def test_a_result_comes_back_whole_beside_the_payload(store: Store, size: int) -> None:
    job_id = put_run(store, payload=b"p" * size)
    settle(store, claim(store), Ack(result=b"r" * size))
    assert stored(store, job_id).result == b"r" * size
    assert stored(store, job_id).payload == b"p" * size


def test_no_result_and_an_empty_result_are_different(store: Store) -> None:
    none, empty = put(store, run("a"), run("b"))
    held = claims(store)
    settle(store, held[0], Ack(result=None))
    settle(store, held[1], Ack(result=b""))
    assert (stored(store, none).result, stored(store, empty).result) == (None, b"")


@pytest.mark.parametrize("sizes", [(10, 9_000, 10), (9_000, 10, 9_000), (9_000, 8_000, 0), (0, 2_048, 2_049)])
@pytest.mark.parametrize("together", [1, 3], ids=["alone", "in bulk"])
def test_a_payload_changes_its_size_from_step_to_step(store: Store, sizes: tuple[int, ...], together: int) -> None:
    put(store, *(run(f"r{number}", b"0" * sizes[0], headers=headers_of(5_000)) for number in range(together)))
    for step, size in enumerate(sizes[1:]):
        held = claims(store)
        assert [row.payload for row in held] == [str(step).encode() * sizes[step]] * together
        action = Advance(str(step + 1).encode() * size)
        assert not any(store.settle_and_claim([ending(row, action, yields_to_cancel=True) for row in held], [])[0])
        assert all(row.headers == headers_of(5_000) for row in held)
    for row in claims(store):
        assert row.payload == str(len(sizes) - 1).encode() * sizes[-1]
        assert row.headers == headers_of(5_000)


@pytest.mark.parametrize(("before", "after"), [(10, 5_000), (5_000, 10), (5_000, 6_000), (5_000, 0)])
def test_headers_change_their_size_with_an_advance(store: Store, before: int, after: int) -> None:
    put_run(store, headers=headers_of(before))
    settle(store, claim(store), Advance(b"x", headers=headers_of(after)))
    assert claim(store).headers == headers_of(after)


@pytest.mark.parametrize("action", [Nack("boom"), Release()])
def test_large_parts_survive_what_puts_the_job_back(store: Store, action: Nack | Release) -> None:
    put_run(store, payload=b"p" * 9_000, headers=headers_of(9_000))
    settle(store, claim(store), action)
    held = claim(store)
    assert (held.payload, held.headers) == (b"p" * 9_000, headers_of(9_000))


@pytest.mark.parametrize("size", [10, 9_000])
def test_a_retried_run_has_its_payload_and_loses_its_old_result(store: Store, size: int) -> None:
    job_id = put_run(store, payload=b"p" * size)
    settle(store, claim(store), DeadLetter("x"))
    store.requeue(job_id)
    settle(store, claim(store), Ack(result=b"r" * size))
    assert (stored(store, job_id).payload, stored(store, job_id).result) == (b"p" * size, b"r" * size)


def test_a_read_without_payload_leaves_out_large_payload_and_result_but_not_headers(store: Store) -> None:
    job_id = put_run(store, payload=b"p" * 9_000, headers=headers_of(9_000))
    settle(store, claim(store), Ack(result=b"r" * 9_000))
    row = store.get(job_id, with_payload=False)
    assert row is not None
    assert (row.payload, row.result, row.headers) == (b"", None, headers_of(9_000))
    found = store.find_run(QUEUE, "r")
    assert found is not None and found.headers == headers_of(9_000)
    assert found.payload == b""


def test_a_page_holds_whole_rows_of_every_size(store: Store) -> None:
    put(store, *(job(payload=bytes([size % 251]) * size, headers=headers_of(size)) for size in (1, 2_500, 10, 70_000)))
    rows = rows_of(store, QUEUE)
    assert [len(row.headers) for row in rows] == [len(headers_of(size)) for size in (1, 2_500, 10, 70_000)]
    assert [stored(store, row.id).payload[:1] for row in rows] == [bytes([size % 251]) for size in (1, 2500, 10, 70000)]


def test_the_parts_of_a_job_are_not_those_of_the_next_one(store: Store) -> None:
    # Rows that left must leave nothing that a later row could take for its own.
    for number in range(5):
        payload = bytes([number]) * 9_000
        put_one(store, payload=payload, headers=headers_of(3_000 + number))
        held = claim(store)
        assert (held.payload, held.headers) == (payload, headers_of(3_000 + number))
        settle(store, held, Ack(result=payload))
    small = put_one(store, payload=b"small")
    assert (stored(store, small).payload, stored(store, small).headers, stored(store, small).result) == (
        b"small", "", None,
    )  # fmt: skip
