"""The recorder sees what happens, in the order in which it happens, and its rules strike where they say."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults import interpose
from tests.faults.interpose import Flag, Operation, Record, Recorder
from tests.faults.power.disk import Disk
from tests.processes.harness import ROOT
from tests.support import PATIENCE

_MISSING = interpose.missing()
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))


class Traced:
    """Recorded child processes of one test."""

    def __init__(self, directory: Path, **options: int) -> None:
        self.directory = directory.resolve() / "watched"
        self.directory.mkdir()
        self.recorder = Recorder(directory / "recorder", watched=self.directory, **options)  # type: ignore[arg-type]
        self._children: list[subprocess.Popen[str]] = []

    def start(self, program: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-m", "tests.faults.interpose.traced", program]
        child = subprocess.Popen(
            [*command, str(self.directory), *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **self.recorder.environment()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._children.append(child)
        return child

    def run(self, program: str, *arguments: object) -> list[Record]:
        child = self.start(program, *arguments)
        _, errors = child.communicate(timeout=PATIENCE)
        assert (child.returncode, errors) == (0, "")
        return self.recorder.records()

    def obedient(self) -> subprocess.Popen[str]:
        child = self.start("obey")
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        return child

    def close(self) -> None:
        for child in self._children:
            child.kill()
            child.communicate()
        self.recorder.close()


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    traced = Traced(tmp_path)
    try:
        yield traced
    finally:
        traced.close()


def tell(child: subprocess.Popen[str], *words: object) -> None:
    assert child.stdin is not None
    child.stdin.write(" ".join(map(str, words)) + "\n")


def ask(child: subprocess.Popen[str], *words: object) -> str:
    tell(child, *words)
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_every_write_and_sync_of_sqlite_is_seen(traced: Traced) -> None:
    """The standard library's SQLite goes through the recorder: its files follow from the record alone."""
    records = traced.run("database")
    disk = Disk()
    synced: list[str] = []
    for record in records:
        if record.operation is Operation.MARK and record.data.startswith(b"committed"):
            # Every commit is synced before it returns, so nothing of the log is in doubt at its mark.
            log = disk.file("cache.db-wal")
            assert log is not None and not log.pending and log.cached
        if record.operation is Operation.MARK and record.data == b"checkpointed":
            database = disk.file("cache.db")
            assert database is not None and not database.pending and len(database.cached) > 5 * 3_000
        if record.operation is Operation.SYNC:
            synced.append(record.path)
        disk.apply(record)
    assert {path for path in synced if not path.endswith("-journal")} == {".", "cache.db", "cache.db-wal"}
    found = disk.file("cache.db")
    assert found is not None and bytes(found.cached) == (traced.directory / "cache.db").read_bytes()
    assert disk.find("cache.db-wal") is None, "its removal at the last close was not seen"
    with closing(sqlite3.connect(traced.directory / "cache.db")) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (5,)


def test_the_locks_of_sqlite_are_seen(traced: Traced) -> None:
    """The write lock (byte 120) and the checkpoint lock (121) of the shared-memory file are taken and given back."""
    locks = [each for each in traced.run("database") if each.operation is Operation.LOCK and each.succeeded]
    for byte in (120, 121):
        kinds = [each.data[0] for each in locks if each.path == "cache.db-shm" and each.offset == byte]
        assert kinds.count(1) >= 1 and 2 in kinds


def test_each_kind_of_call_is_recorded_and_nothing_else(traced: Traced) -> None:
    records = traced.run("calls")
    assert all(each.succeeded or each.operation is Operation.SYNC_BEGIN for each in records), list(map(str, records))
    seen = [(each.operation.name, each.path, each.offset, each.data) for each in records]
    for expected in [
        ("WRITE", "a.bin", 0, b"one"),
        ("WRITE", "a.bin", 10, b"two"),
        ("WRITE", "a.bin", 3, b"threefour"),
        ("WRITE", "a.bin", 100, b"fivesix"),
        ("WRITE", "a.bin", 12, b"seven"),
        ("ALLOCATE", "a.bin", 0, b""),
        ("WRITE", "a.bin", 60, b"eight"),
        ("LINK", "a.bin", 0, b"d/b.bin"),
        ("SYMLINK", "d/c.bin", 0, b"b.bin"),
        ("RENAME", "d/b.bin", 0, b"d/e.bin"),
        ("UNLINK", "d/c.bin", 0, b""),
        ("UNLINK", "d/e.bin", 0, b""),
        ("RMDIR", "d", 0, b""),
    ]:
        assert seen.count(expected) == 1, expected
    assert [each.length for each in records if each.operation is Operation.TRUNCATE] == [50, 40]
    syncs = [(each.path, Flag.DATA_ONLY in each.flags) for each in records if each.operation is Operation.SYNC]
    assert syncs == [("a.bin", False), ("a.bin", True), ("d", False)]
    assert sum(each.operation is Operation.FLOCK for each in records) == 1
    assert sum(each.operation is Operation.LOCK for each in records) == 1
    assert {each.path for each in records} <= {"a.bin", "d", "d/b.bin", "d/c.bin", "d/e.bin"}


def test_the_order_is_real_over_threads_processes_and_forks(traced: Traced) -> None:
    """Many append to one file at once; the file has the lines in the order of the records."""
    children = [traced.start("append", 3, 100, "forks") for _ in range(3)]
    for child in children:
        _, errors = child.communicate(timeout=PATIENCE)
        assert (child.returncode, errors) == (0, "")
    written = [each for each in traced.recorder.records() if each.operation is Operation.WRITE]
    assert len(written) == 3 * 2 * 3 * 100
    assert len({each.pid for each in written}) == 6 and len({each.tid for each in written}) == 18
    assert b"".join(each.data for each in written) == (traced.directory / "lines").read_bytes()
    assert [each.sequence for each in written] == sorted(each.sequence for each in written)
    offsets = [each.offset for each in written]
    assert offsets == [sum(len(each.data) for each in written[:index]) for index in range(len(written))]


def test_processes_killed_at_any_time_leave_a_whole_record_and_the_others_going(traced: Traced) -> None:
    """The lock's owner may die; nobody waits for it, no record is torn, and the file follows from the record."""
    survivor = traced.start("append", 2, 1_000)
    for more in range(8):
        begun = traced.recorder.size
        victim = traced.start("append", 3, 1_000_000)
        deadline = time.monotonic() + PATIENCE
        # At another place each time; the survivor's records count, too, so that its end does not hang the test.
        while traced.recorder.size < begun + 10_000 + 1_000 * more:
            assert time.monotonic() < deadline and victim.poll() is None
        victim.kill()
        victim.wait(PATIENCE)
    _, errors = survivor.communicate(timeout=PATIENCE)
    assert (survivor.returncode, errors) == (0, "")
    # Whoever was killed inside of a write may have made it or not: its record has no result.
    content = (traced.directory / "lines").read_bytes().splitlines()
    found = set(content)
    written = [each for each in traced.recorder.records() if each.operation is Operation.WRITE]
    assert sum(each.result is None for each in written) <= 8 * 3
    assert content == [line for each in written for line in each.data.splitlines() if each.succeeded or line in found]
    assert sum(each.pid == survivor.pid for each in written) == 2 * 1_000


def test_marks_stand_among_the_operations(traced: Traced) -> None:
    records = traced.run("database")
    marks = [each.data.decode() for each in records if each.operation is Operation.MARK]
    assert marks == [*(f"committed {each}" for each in range(5)), "checkpointed", "closed"]
    first = next(each.sequence for each in records if each.data == b"committed 0")
    assert any(each.path == "cache.db-wal" and each.sequence < first for each in records)


def test_outside_of_a_recorded_process_a_mark_does_nothing() -> None:
    assert interpose.mark("nothing") == -1


def test_without_data_everything_else_is_recorded(tmp_path: Path) -> None:
    traced = Traced(tmp_path, data=False)
    try:
        records = traced.run("database")
        writes = [each for each in records if each.operation is Operation.WRITE]
        assert writes and all(each.data == b"" and each.length == each.result for each in writes)
    finally:
        traced.close()


def test_a_full_trace_is_an_error_of_the_recorder(tmp_path: Path) -> None:
    traced = Traced(tmp_path, capacity=8192)
    try:
        with pytest.raises(AssertionError, match="the trace is full"):
            traced.run("database")
    finally:
        traced.close()


# -- rules -------------------------------------------------------------------------------------------------------------


def test_a_call_fails_before_or_after_it_was_done(traced: Traced) -> None:
    child = traced.obedient()
    file = traced.directory / "x"
    assert ask(child, "open x") == "did 0"
    with traced.recorder.rule("write", "x", fails=errno.EIO) as rule:
        assert ask(child, "write x 0 before") == f"failed {errno.EIO}"
        assert (rule.matched, rule.injected, file.read_bytes()) == (1, 1, b"")
    with traced.recorder.rule("write", "x", fails=errno.EDQUOT, after=True) as rule:
        assert ask(child, "write x 0 after") == f"failed {errno.EDQUOT}"
        assert (rule.injected, file.read_bytes()) == (1, b"after")
    assert ask(child, "write x 0 again") == "did 5"
    written = [each for each in traced.recorder.records() if each.operation is Operation.WRITE]
    assert [(each.performed, each.succeeded, each.data) for each in written] == [
        (False, False, b"before"),
        (True, True, b"after"),
        (True, True, b"again"),
    ]
    faults = [each for each in traced.recorder.records() if each.operation is Operation.FAULT]
    assert [(each.path, each.offset, each.error) for each in faults] == [
        ("x", Operation.WRITE, errno.EIO),
        ("x", Operation.WRITE, errno.EDQUOT),
    ]


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("fsync", "sync x"),
        ("ftruncate", "truncate x 5"),
        ("read", "read x 1"),
        ("unlink", "unlink x"),
        ("open", "open x"),
        ("write", "write x 0 more"),
    ],
)
def test_each_class_of_calls_can_fail_and_only_that_one(traced: Traced, operation: str, words: str) -> None:
    child = traced.obedient()
    ask(child, "open x")
    ask(child, "write x 0 some")
    for other in ("fsync", "ftruncate", "read", "unlink", "open", "write"):
        if other != operation:
            traced.recorder.add(other, fails=errno.EPERM)
    with traced.recorder.rule(operation, "x", fails=errno.ENOSPC) as rule:
        assert ask(child, words) == f"failed {errno.ENOSPC}"
        assert rule.injected == 1
    assert ask(child, words).startswith("did")


def test_writes_fall_short(traced: Traced) -> None:
    child = traced.obedient()
    ask(child, "open x")
    with traced.recorder.rule("write", short=3):
        assert ask(child, "write x 0 abcdef") == "did 3"
    with traced.recorder.rule("write", partial=2):
        assert ask(child, "write x 3 XYZ") == f"failed {errno.ENOSPC}"
    assert (traced.directory / "x").read_bytes() == b"abcXY"
    written = [each for each in traced.recorder.records() if each.operation is Operation.WRITE]
    assert [(each.data, each.result) for each in written] == [(b"abc", 3), (b"XY", 2)]


def test_rules_skip_and_stop(traced: Traced) -> None:
    child = traced.obedient()
    ask(child, "open x")
    with traced.recorder.rule("write", fails=errno.EIO, skip=2, times=2) as rule:
        answers = [ask(child, "write x 0 a").split()[0] for _ in range(6)]
        assert answers == ["did", "did", "failed", "failed", "did", "did"]
        assert (rule.matched, rule.injected) == (6, 2)


def test_rules_choose_by_path_process_and_kind(traced: Traced) -> None:
    one, two = traced.obedient(), traced.obedient()
    for child in (one, two):
        ask(child, "open cache.db")
        ask(child, "open cache.db-wal")
    with traced.recorder.rule("write", "-wal", fails=errno.EIO, pid=one.pid):
        assert ask(one, "write cache.db 0 a") == "did 1"
        assert ask(one, "write cache.db-wal 0 a").startswith("failed")
        assert ask(two, "write cache.db-wal 0 a") == "did 1"
    with traced.recorder.rule("write", "cache.db", fails=errno.EIO):
        assert ask(one, "write cache.db 0 a").startswith("failed")
        assert ask(one, "write cache.db-wal 0 a") == "did 1"
    with traced.recorder.rule("write", only="directories", fails=errno.EIO) as rule:
        assert ask(one, "write cache.db 0 a") == "did 1"
        assert rule.matched == 0


@pytest.mark.parametrize("after", [False, True])
def test_a_thread_is_held_and_let_go(traced: Traced, after: bool) -> None:
    child, other = traced.obedient(), traced.obedient()
    ask(child, "open x")
    ask(other, "open y")
    file = traced.directory / "x"
    with traced.recorder.rule("write", "x", pauses=True, after=after) as rule:
        tell(child, "write x 0 held")
        rule.wait_paused()
        assert file.read_bytes() == (b"held" if after else b"")
        assert ask(other, "write y 0 free") == "did 4"  # a held thread holds nobody else
        rule.release()
        assert child.stdout is not None and child.stdout.readline() == "did 4\n"
        assert rule.waiting == 0
    assert file.read_bytes() == b"held"


@pytest.mark.parametrize("after", [False, True])
def test_a_process_is_killed_at_a_call(traced: Traced, after: bool) -> None:
    child = traced.obedient()
    ask(child, "open x")
    with traced.recorder.rule("write", "x", kills=True, after=after, skip=1) as rule:
        assert ask(child, "write x 0 first") == "did 5"
        tell(child, "write x 0 wrote")
        assert child.wait(PATIENCE) == -9
        rule.wait(injected=1)
    assert (traced.directory / "x").read_bytes() == (b"wrote" if after else b"first")
    writes = [each.data for each in traced.recorder.records() if each.operation is Operation.WRITE]
    assert writes == [b"first", b"wrote"][: 1 + after]


def test_a_call_can_be_delayed(traced: Traced) -> None:
    child = traced.obedient()
    ask(child, "open x")
    with traced.recorder.rule("fsync", "x", delays=0.2) as rule:
        began = time.monotonic()
        assert ask(child, "sync x") == "did 0"
        assert time.monotonic() - began >= 0.2 and rule.injected == 1


def test_sixteen_rules_at_once_and_the_first_that_strikes_counts(traced: Traced) -> None:
    child = traced.obedient()
    ask(child, "open x")
    for _ in range(15):
        traced.recorder.add("write", "elsewhere", fails=errno.EIO)
    traced.recorder.add("write", "x", fails=errno.EROFS, times=1)
    assert ask(child, "write x 0 a") == f"failed {errno.EROFS}"
    assert ask(child, "write x 0 a") == "did 1"
    traced.recorder.clear()
    traced.recorder.add("write", "x", fails=errno.EIO)
    assert ask(child, "write x 0 a") == f"failed {errno.EIO}"
