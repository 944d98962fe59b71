"""SQLite's WAL-reset fault itself: it destroys commits on an affected SQLite without the guard, and not with it."""

from __future__ import annotations

import sqlite3

import pytest

from taquba_workflow_sync.storage.relational.sql.names import JOB
from tests.faults.checker import looking_at
from tests.faults.wal import window
from tests.faults.wal.scene import WalScene, do

NEVER = 1 << 30


def provoke(scene: WalScene, *breach: str) -> int:
    """Let a commit come while a second checkpoint is in the window of the fault; return how many were acknowledged.

    A first checkpoint has moved all there is. The second has read how long the WAL is, and stops; a commit wants to
    begin the WAL anew; the second goes on, and takes the length of the old WAL for that of the new one.
    """
    reason = window.missing()
    if reason is not None:
        pytest.skip(reason)
    writer = scene.actor("--checkpoint", NEVER, *breach)
    stopping = scene.actor("--checkpoint", NEVER, "--can-stop", *breach)
    do(writer, "open")
    do(stopping, "open")
    do(stopping, "checkpoint")  # the WAL of then is all that its connection knows
    do(writer, "put", 30)
    do(writer, "checkpoint")
    stopping.tell("checkpoint", "stopping")
    stopping.hear("stopped")
    since = scene.recorder.size
    writer.tell("put")
    scene.until_tried([writer.pid], since)
    if breach:
        writer.hear("done put")
    stopping.tell("on")
    stopping.hear("done checkpoint")
    if not breach:
        writer.hear("done put")
    do(writer, "put", 20)
    return 30 + 1 + 20


def damage(scene: WalScene, acknowledged: int) -> list[str]:
    """Return what is wrong with the store as the next program finds it."""
    try:
        with looking_at(scene.store) as connection:
            found = connection.execute(f"SELECT count(*) FROM {JOB}").fetchone()[0]
            answer = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    lost = [] if found == acknowledged else [f"{acknowledged} commits were acknowledged, {found} are there"]
    return lost + [each for each in answer if each != "ok"]


def test_the_guard_keeps_a_commit_out_of_the_window_of_the_fault(scene: WalScene) -> None:
    acknowledged = provoke(scene)
    assert damage(scene, acknowledged) == []
    found = scene.finish()
    assert found.violations == []
    stopped = [each for each in found.checkpoints if each.pid == scene.actors[1].pid][-1]
    assert found.waited(stopped) == {scene.actors[0].pid}
    assert damage(scene, acknowledged) == []


def test_without_the_guard_an_affected_sqlite_loses_what_was_acknowledged(scene: WalScene) -> None:
    acknowledged = provoke(scene, "--breach", "unguarded")
    found = damage(scene, acknowledged)
    assert bool(found) == window.is_affected(), f"SQLite {sqlite3.sqlite_version}: {found}"
    overlaps = scene.finish(is_sound=False).violations
    assert any("WAL reset" in text and "overlap" in text for text in overlaps)
    print(f"SQLite {sqlite3.sqlite_version} without the guard: {found}")
