"""No checkpoint overlaps a commit, in the one order of the locks, writes and syncs of all processes."""

from __future__ import annotations

import errno
import signal

import pytest

from tests.faults.checker import looking_at
from tests.faults.wal.actor import BREACHES
from tests.faults.wal.audit import DATABASE, WAL
from tests.faults.wal.scene import WalScene, around, do

#: Where a checkpoint is held: before it moves its first page, further on, and before it syncs the database.
PLACES = (("write", 0), ("write", 1), ("fsync", 0))
NEVER = 1 << 30


def test_a_commit_waits_for_the_checkpoint_of_another_process(scene: WalScene) -> None:
    scene.seed()
    writers = scene.writers(3)
    moments = [scene.hold(operation, DATABASE, writers, skip=skip) for operation, skip in PLACES]
    for writer in writers:
        do(writer, "rest")
    found = scene.finish()
    assert found.violations == []
    for pid, at in moments:
        checkpoint = around(found.checkpoints, at)
        assert checkpoint.pid == pid
        assert found.waited(checkpoint) == {each.pid for each in writers} - {pid}


@pytest.mark.parametrize("breach", list(BREACHES))
def test_without_the_guard_the_overlap_is_reported(scene: WalScene, breach: str) -> None:
    scene.seed()
    writers = scene.writers(2, "--breach", breach)
    pid, at = scene.hold("write", DATABASE, writers)
    for writer in writers:
        do(writer, "rest")
    # What a commit overlapped need not have come to its end; with nobody beside it, the next one does.
    do(writers[0], "put", 20)
    found = scene.finish()
    checkpoint = around(found.checkpoints, at)
    (other,) = {each.pid for each in writers} - {pid}
    assert any(text.endswith(f"inside the {checkpoint}") and f"process {other}" in text for text in found.violations)
    assert f"checkpoint of process {pid} ({checkpoint.begin}) without the write lock" in found.violations
    assert any(commit.overlaps(checkpoint) for commit in found.commits)


def test_an_opening_waits_for_the_checkpoint_of_a_last_close(scene: WalScene) -> None:
    last, next_one = (scene.actor("--checkpoint", NEVER) for _ in range(2))
    moments = []
    for operation in ("write", "fsync"):
        do(last, "open")
        do(last, "put", 20)
        moments.append(
            scene.hold(
                operation,
                DATABASE,
                [next_one],
                cause=lambda: last.tell("close"),
                meanwhile=lambda: next_one.tell("open"),
            )
        )
        last.hear("done close")
        next_one.hear("done open")
        do(next_one, "put")
        do(next_one, "close")
    found = scene.finish()
    assert found.violations == []
    assert not found.checkpoints
    for pid, at in moments:
        close = around(found.closes, at)
        assert close.pid == pid == last.pid
        assert found.waited(close) == {next_one.pid}


def test_kills_inside_commits_and_checkpoints_leave_no_overlap_behind(scene: WalScene) -> None:
    scene.seed()
    survivors = scene.writers(1)
    for operation, path in (("write", WAL), ("fsync", WAL), ("write", DATABASE), ("fsync", DATABASE)):
        (victim,) = scene.writers(1)
        scene.recorder.add(operation, path, kills=True, after=operation == "write", skip=2, times=1, pid=victim.pid)
        assert victim.ended(60) == -signal.SIGKILL
    with scene.recorder.rule("write", DATABASE, pauses=True, times=1) as rule:
        rule.wait_paused()
        for each in survivors:
            scene.kill(each)
    last = scene.writers(2)
    scene.hold("write", DATABASE, last)
    for each in last:
        do(each, "rest")
    found = scene.finish()
    assert found.violations == []
    counts = found.counts()
    assert counts["commits cut short by a kill"] >= 1  # which of the two was killed in the WAL's sync, chance decides
    assert counts["checkpoints cut short by a kill"] >= 3
    assert counts["commits cut short by a kill"] + counts["checkpoints cut short by a kill"] == 5
    assert last[0].pid in {each.pid for each in found.recoveries}


def test_nobody_writes_while_the_wal_is_read_anew_after_a_crash(scene: WalScene) -> None:
    scene.seed()
    (victim,) = scene.writers(1)
    scene.recorder.add("write", WAL, kills=True, after=True, skip=9, times=1, pid=victim.pid)
    assert victim.ended(60) == -signal.SIGKILL
    first, second = scene.actor(), scene.actor()
    pid, at = scene.hold(
        "read", WAL, [second], skip=2, cause=lambda: first.tell("open"), meanwhile=lambda: second.tell("open")
    )
    for each in (first, second):
        each.hear("done open")
        do(each, "put", 3)
    found = scene.finish()
    assert found.violations == []
    recovery = around(found.recoveries, at)
    assert recovery.pid == pid == first.pid
    assert found.waited(recovery) == {second.pid}


def test_neither_we_nor_plain_diskcache_checkpoint_a_long_wal(scene: WalScene) -> None:
    ours, foreign = scene.actor("--checkpoint", NEVER), scene.actor()
    do(ours, "open")
    do(ours, "put", 80, 1 << 16)  # over 1,000 pages: SQLite and diskcache checkpoint then unless told not to
    do(foreign, "diskcache", 3)
    do(ours, "put")
    do(ours, "close")
    do(foreign, "diskcache")
    found = scene.finish()
    assert found.violations == []
    assert not found.checkpoints
    assert {each.pid for each in found.closes if each.writes > 1_000} == {ours.pid}
    assert "close" in found.of(foreign.pid)


def test_plain_diskcache_opened_during_a_checkpoint_waits(scene: WalScene) -> None:
    scene.seed()
    writers = scene.writers(2)
    foreign = scene.actor()
    do(foreign, "diskcache")
    moments = []
    for _ in range(2):
        moments.append(
            scene.hold("write", DATABASE, [*writers, foreign], meanwhile=lambda: foreign.tell("diskcache", 5))
        )
        foreign.hear("done diskcache")
    for writer in writers:
        do(writer, "rest")
    found = scene.finish()
    assert found.violations == []
    assert "commit" in found.of(foreign.pid) and "checkpoint" not in found.of(foreign.pid)
    assert all(foreign.pid in found.waited(around(found.checkpoints, at)) for _, at in moments)


def test_diskcache_with_its_own_settings_is_reported(scene: WalScene) -> None:
    scene.seed()
    (writer,) = scene.writers(1, "--checkpoint", NEVER)
    foreigner = scene.actor()
    with looking_at(scene.store) as connection:  # while the store is open: an opening would put it right
        connection.execute("UPDATE Settings SET value = 1 WHERE key = 'sqlite_wal_autocheckpoint'")
    scene.hold("write", DATABASE, [writer], cause=lambda: foreigner.tell("diskcache", 5))
    foreigner.hear("done diskcache")
    do(writer, "rest")
    found = scene.finish()
    assert any(f"by process {writer.pid}" in text and "overlap" in text for text in found.violations)


def test_forks_exits_and_closes_beside_writers_leave_no_overlap(scene: WalScene) -> None:
    scene.seed()
    writers = scene.writers(2)
    coming, forking, leaving, vanishing = (scene.actor() for _ in range(4))
    for each in (forking, leaving, vanishing):
        do(each, "open")
    coming.tell("reopen", 12)
    for _ in range(3):
        do(forking, "fork")
        scene.hold("write", DATABASE, writers)
    for each in (leaving, vanishing):
        do(each, "put", 5)
    leaving.tell("exit")
    vanishing.tell("vanish")
    leaving.ends_well()
    vanishing.ends_well()
    coming.hear("done reopen")
    for writer in writers:
        do(writer, "rest")
        writer.tell("vanish")  # so that the last ones to go close nothing either
        writer.ends_well()
    forking.tell("exit")
    found = scene.finish()
    assert found.violations == []
    children = {int(words[0]) for words in forking.said("forked")}
    assert len(children) == 3
    assert all("commit" in found.of(pid) for pid in children | {each.pid for each in scene.actors[1:]})


def test_checkpoints_that_fail_or_are_kept_from_their_end_overlap_nothing(scene: WalScene) -> None:
    scene.seed()
    writers = scene.writers(2)
    reader = scene.actor()
    scene.hold("write", DATABASE, writers)
    do(reader, "pin")
    for writer in writers:
        do(writer, "put", 5)
    do(reader, "unpin")
    for operation in ("write", "fsync"):
        with scene.recorder.rule(operation, DATABASE, fails=errno.EIO, times=1) as failing:
            failing.wait(injected=1)
        scene.hold("write", DATABASE, writers)
    for writer in writers:
        do(writer, "rest")
    found = scene.finish()
    assert found.violations == []
    assert len(found.checkpoints) > len(found.completed) - len(found.closes)
