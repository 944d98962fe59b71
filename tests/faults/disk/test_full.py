"""Calls and openings on a disk with no room, with room for a few pages, and with no inode left."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from taquba_workflow_sync import CancelOutcome, RunSpec, StorageError, WorkflowClient
from tests.faults import crash
from tests.faults.checker import check
from tests.faults.disk.calls import BARE, CALLS, WIDE, answer_of, copy, judge, prepare
from tests.faults.disk.volume import Volume
from tests.faults.lab import open_queue
from tests.faults.test_crash_points import dump

_MOST_PAGES = 100  # far more than any of these needs


def test_every_transition_is_among_the_calls() -> None:
    transitions, _ = crash.points()
    assert transitions - CALLS.keys() == {"quarantine"}  # comes with whichever call meets a damaged row


@pytest.mark.parametrize("name", list(CALLS))
def test_with_too_few_pages_left_a_call_writes_nothing_and_says_so_or_unknown(volume: Volume, name: str) -> None:
    """From no page at all up to as many as the call needs: the answer agrees with the store, and reading goes on."""
    act = prepare(name, volume.place / "template")
    with copy(volume.place / "template", volume.place / "whole") as queue:
        act(queue)
    before, after = dump(volume.place / "template"), dump(volume.place / "whole")
    assert before != after
    refused = 0
    for pages in range(_MOST_PAGES):
        root = volume.place / f"with-{pages}"
        with copy(volume.place / "template", root) as queue:
            queue.stats(BARE)  # the log is there, as in any process that has looked
            volume.fill(leaving=pages)
            answer = answer_of(lambda queue=queue: act(queue))  # type: ignore[misc]
            volume.fill()
            assert queue.list_queues() == sorted(queue.list_queues())  # reads need no room
            wrong = judge(answer, before, after, dump(root))
            assert wrong is None, f"with {pages} pages left: {wrong}"
            check(root, [], is_idle=False).assert_clean()
            volume.give_back()
            if answer["came"] == "done":
                break
            refused += 1
            act(queue)  # with room again, without anything else
            assert dump(root) == after
        shutil.rmtree(root)
    assert answer["came"] == "done"
    assert refused


def test_many_runs_that_do_not_fit_are_submitted_all_or_not_at_all(volume: Volume) -> None:
    """So many that SQLite writes to the log before the COMMIT: then the error says that nothing was written."""
    specs = [RunSpec(run_id=f"r{number}", input=bytes(600_000)) for number in range(80)]
    with open_queue(volume.place / "store") as queue:
        client = WorkflowClient(queue)
        before = dump(volume.place / "store")
        with pytest.raises(StorageError, match="nothing was written: database or disk is full"):
            client.submit_many(specs)
        assert dump(volume.place / "store") == before
        check(volume.place / "store", [], is_idle=False).assert_clean()
        handles = client.submit_many(specs[:2])
        assert [handle.newly_submitted for handle in handles] == [True, True]


# -- opening -----------------------------------------------------------------------------------------------------------


def test_a_store_that_did_not_fit_is_completed_by_the_next_open(volume: Volume) -> None:
    root = volume.place / "store"
    for pages in range(_MOST_PAGES):
        volume.fill(leaving=pages)
        try:
            open_queue(root).close()
            break
        except StorageError as error:
            assert str(root) in str(error)
        volume.give_back()
        with open_queue(root) as queue:
            queue.enqueue(BARE, b"x")
            check(root, [], is_idle=False).assert_clean()
        shutil.rmtree(root)
    assert pages > 1


def test_a_closed_store_opens_with_a_few_pages_and_is_refused_with_none(volume: Volume) -> None:
    """SQLite makes its shared memory anew, and that takes room; an error in it leaves nothing behind."""
    root = volume.place / "store"
    with open_queue(root) as queue:
        queue.enqueue(BARE, b"x", job_id="j")
    refused = 0
    for pages in range(_MOST_PAGES):
        volume.fill(leaving=pages)
        try:
            with open_queue(root) as queue:
                assert queue.get_job("j") is not None
                with pytest.raises(StorageError):
                    queue.enqueue(BARE, b"y")
            break
        except StorageError as error:
            assert str(root) in str(error)
            assert list((root / "owners").iterdir()) == []
            refused += 1
    volume.give_back()
    with open_queue(root) as queue:
        queue.enqueue(BARE, b"y")
        assert queue.stats(BARE).pending == 2
        check(root, [], is_idle=False).assert_clean()
    assert refused


def test_a_store_that_is_open_elsewhere_can_be_opened_and_read_on_a_full_disk(volume: Volume) -> None:
    root = volume.place / "store"
    with open_queue(root) as other:
        other.enqueue(BARE, b"x", job_id="j")
        volume.fill()
        with open_queue(root) as queue:
            assert queue.get_job("j") == other.get_job("j")
            with pytest.raises(StorageError, match="unknown, its COMMIT failed: database or disk is full"):
                queue.enqueue(BARE, b"y")
            with pytest.raises(StorageError, match="full"):
                queue.cancel("j")
        volume.give_back()
        other.enqueue(BARE, b"y")
        assert other.stats(BARE).pending == 2
    assert list((root / "owners").iterdir()) == []


def test_a_cancellation_goes_through_where_the_log_has_pages_to_write_over(volume: Volume) -> None:
    """After a checkpoint that moved everything the log starts over in the room that it has."""
    with open_queue(volume.place / "store", checkpoint_bytes=1) as queue:
        queue.enqueue(BARE, b"x", job_id="j")
        queue.enqueue_batch("other", [WIDE] * 20)
        volume.fill()
        assert queue.cancel("j") is CancelOutcome.REMOVED
        assert (queue.stats(BARE).pending, queue.stats(BARE).cancelled) == (0, 1)


def test_without_an_inode_left_opening_is_refused_and_later_goes_on(volume: Volume) -> None:
    root = volume.place / "store"
    with open_queue(root) as queue:
        queue.enqueue(BARE, b"x", job_id="j")
    for left in range(_MOST_PAGES):
        volume.use_up_inodes(leaving=left)
        try:
            with open_queue(root) as queue:
                assert answer_of(lambda queue=queue: queue.get_job("j"))["came"] != "raw"  # type: ignore[misc]
                if answer_of(lambda queue=queue: queue.enqueue(BARE, b"y"))["came"] == "done":  # type: ignore[misc]
                    break
        except StorageError as error:
            assert str(root) in str(error)
        volume.give_back()
        with open_queue(root) as queue:
            assert queue.get_job("j") is not None
    volume.give_back()
    assert left > 2
    check(root, [], is_idle=False).assert_clean()


def test_a_store_that_finds_no_inode_is_made_by_the_next_open(volume: Volume) -> None:
    root = volume.place / "store"
    for left in range(_MOST_PAGES):
        volume.use_up_inodes(leaving=left)
        try:
            open_queue(root).close()
            break
        except StorageError as error:
            assert str(root) in str(error)
        volume.give_back()
        open_queue(root).close()
        check(root, [], is_idle=False).assert_clean()
        shutil.rmtree(root)
    assert left > 3


def test_without_an_inode_left_an_open_handle_works(volume: Volume) -> None:
    """Its files are there; only another handle cannot be opened."""
    root = volume.place / "store"
    with open_queue(root) as queue:
        queue.enqueue(BARE, b"x")
        volume.use_up_inodes()
        queue.enqueue(BARE, b"y")
        with pytest.raises(StorageError, match="owner lock"):
            open_queue(root)
        volume.give_back()
        with open_queue(root) as other:
            assert other.stats(BARE).pending == 2


# -- read-only ---------------------------------------------------------------------------------------------------------


def test_on_a_read_only_disk_opening_is_refused_and_later_goes_on(volume: Volume, tmp_path: Path) -> None:
    root = volume.place / "store"
    with open_queue(root) as queue:
        queue.enqueue(BARE, b"x")
    volume.turn_read_only()
    for place in (root, volume.place / "new"):
        with pytest.raises(StorageError, match="Read-only file system"):
            open_queue(place)
    volume.turn_writable()
    with open_queue(root) as queue:
        queue.enqueue(BARE, b"y")
        assert queue.stats(BARE).pending == 2
        with pytest.raises(OSError) as refused:  # while anybody writes the kernel does not let it happen
            volume.turn_read_only()
        assert refused.value.errno == errno.EBUSY
