"""Every operation below every call that writes fails once: what the caller is told agrees with what is stored."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from taquba_workflow_sync.storage.embedded import owners
from taquba_workflow_sync.storage.relational import reads
from tests.faults import interpose
from tests.faults.checker import check
from tests.faults.disk import volume as volumes
from tests.faults.disk.actor import LIVES
from tests.faults.disk.bench import FAULTS, Bench, strike_everywhere
from tests.faults.disk.calls import BARE, CALLS, answer_of, copy
from tests.faults.disk.volume import mounted
from tests.faults.lab import open_queue
from tests.faults.test_crash_points import dump

#: Making a store takes hundreds of operations, most of them alike.
_STRIDES = {"create": 17}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One actor for all of them: they are many, and starting a process costs more than what is looked at."""
    reason = volumes.missing() or interpose.missing()
    if reason is not None:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("errors")
    with mounted(directory / "volume", size=16 << 20, inodes=4000) as volume:
        bench = Bench(directory, volume)
        try:
            yield bench
        finally:
            bench.close()


#: In the default run only an operation that fails is looked at below every call, the rest below these.
_MORE = ("submit_many", "claim", "advance_large", "notify")
_POINTS = [(name, fault) for name in CALLS for fault in FAULTS if fault == "fails" or name in _MORE]


@pytest.mark.parametrize(("name", "fault"), _POINTS)
def test_whichever_operation_of_a_call_fails_the_answer_agrees_with_the_store(
    bench: Bench, name: str, fault: str
) -> None:
    """The commit's checkpoint is among them: what fails there is no failure of the call."""
    with bench.prepared(name, 1) as place:
        assert strike_everywhere(bench, place, FAULTS[fault]) > 1


@pytest.mark.parametrize("name", LIVES)
def test_whichever_operation_of_an_opening_or_a_close_fails_the_next_one_is_whole(bench: Bench, name: str) -> None:
    """Opening says what failed, as an error of the library; closing never fails; and what is left can be opened."""
    refused = 0
    with bench.prepared(name, 4 << 20) as place:
        for point in range(0, 1000, _STRIDES.get(name, 1)):
            root = place / f"at-{point}"
            bench.tell("copy", root.name)
            rule = bench.recorder.add("mkdir open write fsync ftruncate unlink", fails=errno.EIO, skip=point, times=1)
            answer = bench.tell("act")
            rule.remove()
            if not rule.injected:
                break
            if answer["came"] != "done":
                assert name != "close" and answer["type"] == "StorageError", f"operation {point}: {answer}"
                assert str(root) in answer["text"], answer
                refused += 1
                again = bench.tell("act")
                assert again["came"] == "done", f"operation {point}: {answer}, then {again}"
            assert bench.tell("close")["came"] == "done"
            with open_queue(root) as queue:
                queue.enqueue(BARE, b"y")
                check(root, [], is_idle=False).assert_clean()
            shutil.rmtree(root)
        assert point > 5
        assert refused or name == "close"
        bench.tell("close")


# What a caller that repeats by id learns if the first call had happened all the same.
_KNOWN = ("DuplicateJobIdError", "ClaimLostError", "InvalidStateError", "ScheduleNotFoundError")
_CANNOT_BE_TOLD = ("enqueue_batch", "signal", "meter", "enrol")  # the last names a process, and its repeat another one


@pytest.mark.parametrize("has_happened", [True, False], ids=["the data had reached the disk", "it had not"])
@pytest.mark.parametrize("name", list(CALLS))
def test_a_commit_whose_sync_failed_was_called_unknown_and_after_a_kill_is_there_wholly_or_not_at_all(
    bench: Bench, name: str, has_happened: bool
) -> None:
    with bench.prepared(name, 4 << 20) as place:
        for variant in ("before", "after"):
            with copy(place / "template", place / variant) as queue:
                queue.enqueue("other", b"x", job_id="o")
        assert bench.tell("act_in", "after")["came"] == "done"
        before, after = dump(place / "before"), dump(place / "after")
        answer = bench.act_and_die("killed", after=has_happened)
        assert "the outcome of this write is unknown" in answer["text"]
        root = place / "killed"
        assert dump(root) == (after if has_happened else before)
        check(root, [], is_idle=False).assert_clean()
        if has_happened and name in _CANNOT_BE_TOLD:
            return
        again = bench.tell("act_in", "killed")
        assert again["came"] == "done" or (has_happened and again["type"] in _KNOWN), again
        assert dump(root) == after
        check(root, [], is_idle=False).assert_clean()


def test_an_error_while_the_locks_of_the_dead_are_cleared_away_is_none_of_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is housekeeping, done by whoever claims; only what the claim itself needs may fail it."""
    with open_queue(tmp_path / "store") as queue:
        queue.enqueue(BARE, b"x")
        (tmp_path / "store" / "owners" / "1-dead.lock").touch()

        def fail(*_: object) -> bool:
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(reads, "has_claims", fail)
        assert queue.claim(BARE) is not None


@pytest.mark.parametrize("call", ["claim", "open"])
def test_a_directory_of_locks_that_cannot_be_read_is_an_error_of_the_library_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with open_queue(tmp_path / "store") as queue:
        queue.enqueue(BARE, b"x")

        def fail(*_: object) -> list[str]:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(owners.os, "listdir", fail)
        if call == "claim":
            assert answer_of(lambda: queue.claim(BARE))["came"] != "raw"
        else:
            answer = answer_of(lambda: open_queue(tmp_path / "store"))
            assert (answer["came"], answer["type"]) == ("refused", "StorageError"), answer
