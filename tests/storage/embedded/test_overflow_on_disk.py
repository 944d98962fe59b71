"""Large parts lie in rows of their own: not rewritten by claims and renewals, gone with what they belonged to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taquba_workflow_sync.storage.port.settlement import Ack, Action, Advance, DeadLetter, Nack, Release
from taquba_workflow_sync.storage.relational.sql.names import ATTEMPT, OVERFLOW
from taquba_workflow_sync.testing import ManualClock
from tests.storage.bench import claim, put_one, put_run, settle

from .conftest import OpenEmbedded
from .raw import raw

BIG = b"x" * 1_000_000


def parts(root: Path) -> int:
    with raw(root) as connection:
        count: int = connection.execute(f"SELECT count(*) FROM {OVERFLOW}").fetchone()[0]
        return count


def wal_size(root: Path) -> int:
    return os.stat(root / "db" / "cache.db-wal").st_size


@pytest.mark.parametrize("action", [Release(), Nack("boom"), Ack(), DeadLetter("broken")])
def test_a_large_payload_is_written_once_whatever_the_claim_comes_to(
    open_embedded: OpenEmbedded, root: Path, action: Action
) -> None:
    store = open_embedded(checkpoint_bytes=1 << 40)
    put_run(store, payload=BIG, headers=f'{{"a":"{"h" * 60_000}"}}')
    before = wal_size(root)
    assert before > len(BIG)
    held = claim(store)
    for _ in range(5):
        store.renew([held.token], 60_000)
    settle(store, held, action)
    assert wal_size(root) - before < 200_000


def test_a_part_leaves_when_what_replaces_it_is_small(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    put_run(store, payload=BIG)
    assert parts(root) == 1
    settle(store, claim(store), Advance(b"small"))
    assert parts(root) == 0


def test_a_part_is_replaced_not_added_by_a_large_one(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    put_run(store, payload=BIG)
    settle(store, claim(store), Advance(BIG + b"y"))
    assert parts(root) == 1


def test_the_parts_of_a_job_leave_with_its_row(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    headers = f'{{"a":"{"h" * 5_000}"}}'
    acked = put_one(store, payload=BIG, headers=headers)
    cancelled = put_one(store, payload=BIG, headers=headers)
    assert parts(root) == 4
    held = claim(store)
    assert held.id == acked
    settle(store, held, Ack(result=BIG))
    store.cancel(cancelled)
    assert parts(root) == 0


def test_parts_and_history_leave_with_a_sweep(open_embedded: OpenEmbedded, root: Path) -> None:
    clock = ManualClock()
    store = open_embedded(clock=clock)
    put_run(store, payload=BIG, keep_done_ms=None)
    settle(store, claim(store), Ack(result=BIG))
    assert parts(root) == 2
    clock.advance(60)
    assert store.sweep() == 1
    assert parts(root) == 0
    with raw(root) as connection:
        assert connection.execute(f"SELECT count(*) FROM {ATTEMPT}").fetchone() == (0,)


def test_a_retried_run_leaves_no_old_result_behind(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    job_id = put_run(store)
    settle(store, claim(store), DeadLetter("x"))
    store.requeue(job_id)
    settle(store, claim(store), Ack(result=BIG))
    assert parts(root) == 1


def test_no_part_lies_in_a_file_of_its_own(open_embedded: OpenEmbedded, root: Path) -> None:
    store = open_embedded()
    put_run(store, payload=BIG)
    settle(store, claim(store), Ack(result=BIG))
    assert {each.name for each in (root / "db").iterdir()} <= {"cache.db", "cache.db-wal", "cache.db-shm"}
