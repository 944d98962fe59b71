"""Actors on one store under one recorder, and the moments at which one of them is held inside a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection
from pathlib import Path

from tests.faults.checker import looking_at
from tests.faults.interpose import Operation, Record, Recorder, Rule
from tests.faults.lab import open_queue
from tests.faults.wal.actor import QUEUE
from tests.faults.wal.audit import DATABASE, INDEX, WAL, WRITE_LOCK, Audit, Span, audit
from tests.processes.harness import FORGOTTEN, FORK_WITH_THREADS, Child
from tests.support import PATIENCE, wait_until


class WalScene:
    """Starts actors, tells them what to do, and judges the whole record at the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = directory / "store"
        self.recorder = Recorder(directory / "recorder", watched=self.store, data=False)
        self.actors: list[Child] = []

    def actor(self, *options: object) -> Child:
        child = Child(
            "tests.faults.wal.actor",
            [self.store, *options],
            errors=self.directory / f"stderr-{len(self.actors)}",
            warnings=[FORK_WITH_THREADS, FORGOTTEN],
            environment=self.recorder.environment(),
        )
        self.actors.append(child)
        child.hear("ready")
        return child

    def writers(self, count: int, *options: object) -> list[Child]:
        """Start processes that commit without end."""
        writers = [self.actor(*options) for _ in range(count)]
        for writer in writers:
            do(writer, "open")
            do(writer, "write")
        return writers

    def seed(self, commits: int = 20) -> None:
        """Make the store and leave some commits in it; before anything is recorded."""
        with open_queue(self.store) as queue:
            for _ in range(commits):
                queue.enqueue(QUEUE, b"x" * 500)

    # -- moments -----------------------------------------------------------------------------------------------

    def hold(
        self,
        operation: str,
        path: str,
        others: Collection[Child],
        *,
        skip: int = 0,
        cause: Callable[[], object] | None = None,
        meanwhile: Callable[[], object] | None = None,
    ) -> tuple[int, int]:
        """Hold whoever comes to that operation next, until each other one has tried to write meanwhile, or has written.

        ``cause`` is what makes somebody come there; ``meanwhile`` is called once somebody is held. Returns who was
        held, and the record of it.
        """
        begin = self.recorder.size
        with self.recorder.rule(operation, path, pauses=True, times=1, skip=skip) as rule:
            if cause is not None:
                cause()
            rule.wait_paused()
            at = self.recorder.size
            if meanwhile is not None:
                meanwhile()
            fault = next(
                each
                for each in self.recorder.records(begin)
                if each.operation is Operation.FAULT and each.length == rule.index
            )
            self.until_tried({each.pid for each in others} - {fault.pid}, at)
            let_go(rule)
        return fault.pid, fault.sequence

    def until_tried(self, pids: Collection[int], since: int) -> None:
        """Wait until each of them tried to write, or wrote, after that place in the record."""

        def everyone_tried() -> bool:
            return set(pids) <= {each.pid for each in self.recorder.records(since) if _tries(each)}

        wait_until(everyone_tried, "everyone else tried to write or wrote", 2 * PATIENCE)

    def kill(self, child: Child) -> None:
        child.signal(signal.SIGKILL)
        child.process.wait()

    # -- the end -----------------------------------------------------------------------------------------------

    def finish(self, *, is_sound: bool = True) -> Audit:
        """Have everybody who lives go, and judge the record; and the file, unless it may be damaged."""
        for child in self.actors:
            if child.process.poll() is None:
                child.hangs_up()
        for child in self.actors:
            assert child.ended() in (0, -signal.SIGKILL), child.errors
            assert child.errors == ""
        found = audit(self.recorder.read())
        assert found.commits and found.completed, "nothing happened"
        if not is_sound:
            return found
        with looking_at(self.store) as connection:
            assert [row[0] for row in connection.execute("PRAGMA integrity_check")] == ["ok"]
        return found

    def close(self) -> None:
        for child in self.actors:
            child.destroy()
        self.recorder.close()


def _tries(record: Record) -> bool:
    """Whether it is a write of the WAL, or a refused try for what stands before one."""
    if record.operation is Operation.WRITE:
        return record.path == WAL
    if record.operation is not Operation.LOCK or record.error == 0:
        return False
    return (record.path == INDEX and record.offset == WRITE_LOCK) or (record.path == DATABASE)


def do(child: Child, *words: object) -> None:
    """Have an actor do something, and wait until it has."""
    child.tell(*words)
    child.hear(f"done {words[0]}", 2 * PATIENCE)


def let_go(rule: Rule) -> None:
    """Let go of whom it holds, and see that they went: the place of the rule may be used again."""
    rule.release()
    wait_until(lambda: rule.waiting == 0, "those who were held went on")


def around(spans: Collection[Span], moment: int) -> Span:
    """Return the one span in which the record lies."""
    (found,) = [each for each in spans if each.begin <= moment <= each.end]
    return found
