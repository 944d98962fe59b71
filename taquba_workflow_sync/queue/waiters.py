"""Threads that wait for commits: each is woken by what it waits for and by nothing else, and one of them looks for all.

What this process commits is heard of at once. Of what others commit the store tells only that there was something; so
one of the waiters looks, for all that is waited for together, and spends no more than a small share of its time on it.

A waiter puts itself into the table, *then* reads what it waits for, and then sleeps; who commits does that first, and
then looks into the table. So an end that the read does not see finds its waiter. Every waiter sleeps on a bare lock of
its own: a Condition would not do, since what a signal handler raises inside its wait leaves its lock released twice, or
held for ever.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final, Protocol

from taquba_workflow_sync.storage.port.changes import ChangeSource
from taquba_workflow_sync.storage.port.reads import Reads, Ready
from taquba_workflow_sync.wakeup import WakeUp

# How long a sleeper trusts that another one looks: the looker may have been interrupted.
_TRUST: Final = 0.5
# Between two looks at what others committed: so long, and so many times what the last look took.
_LEAST_PAUSE: Final = 0.001
_SHARE: Final = 10.0


class Source(ChangeSource, Reads, Protocol):
    """What is needed of a store."""


class Waiter:
    """One thread that waits. ``is_woken``: what it waits for may be there; it says False before it reads."""

    __slots__ = ("interruptions", "is_woken", "wakeup")

    def __init__(self, interruptions: int) -> None:
        self.is_woken: bool = False
        self.wakeup: WakeUp = WakeUp()
        self.interruptions: int = interruptions

    def wake(self) -> None:
        """Have it read again."""
        self.is_woken = True
        self.wakeup.notify()


class Waiters:
    """Whoever waits, in one process, for a run to end or for work to claim."""

    def __init__(self, store: Source, is_over: Callable[[], bool]) -> None:
        self._store = store
        self._is_over = is_over
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._ends: dict[str, list[Waiter]] = {}
        self._work: dict[str, list[Waiter]] = {}
        self._present: dict[Waiter, None] = {}
        self._looker: Waiter | None = None
        self._looked_at = 0.0
        self._seen: object = None
        #: Whether there was a commit that nobody has looked into.
        self._is_owing = False
        self._look_again = 0.0
        self._interruptions = 0
        self._listening: AbstractContextManager[None] | None = None

    def _enter_process(self) -> None:
        if self._pid != os.getpid():
            self._start()  # a forked child: the parent's waiters are not here
        if self._listening is None:
            listening = self._store.on_commit(self._hear)
            listening.__enter__()  # for as long as the store is open; two that come at once hear everything twice
            self._listening = listening

    @property
    def has_waiters(self) -> bool:
        """Whether any thread waits."""
        return bool(self._present)

    def wake(self) -> None:
        """Have every waiter return now, whatever was committed: the queue is closed."""
        if self._pid == os.getpid():
            self._interruptions += 1
            for waiter in tuple(self._present):
                waiter.wakeup.notify()

    @contextmanager
    def end_of(self, job_id: str) -> Iterator[Waiter]:
        """Wait, inside the block, for the end of a run."""
        with self._waiting(self._ends, job_id) as waiter:
            yield waiter

    @contextmanager
    def work_in(self, queue: str) -> Iterator[Waiter]:
        """Wait, inside the block, for work to claim. One waiter is woken at a time; who leaves wakes the next."""
        try:
            with self._waiting(self._work, queue) as waiter:
                yield waiter
        finally:
            self._wake_one(queue)

    @contextmanager
    def _waiting(self, table: dict[str, list[Waiter]], key: str) -> Iterator[Waiter]:
        self._enter_process()
        waiter = Waiter(self._interruptions)
        try:
            self._present[waiter] = None
            while True:
                line = table.setdefault(key, [])
                line.append(waiter)
                if table.get(key) is line:
                    break  # else it was taken out of the table at this moment, and nobody looks into it any more
            yield waiter
        finally:
            self._present.pop(waiter, None)
            with suppress(KeyError, ValueError):  # the line stays: only who has seen an end takes one out
                table[key].remove(waiter)
            if self._looker is waiter:
                self._looker = None
                for other in tuple(self._present)[:1]:
                    other.wakeup.notify()  # it looks from now on

    def sleep(self, waiter: Waiter, timeout: float) -> None:
        """Return once ``waiter`` is woken, or after ``timeout`` seconds, or when the queue is closed.

        Raises:
            StorageError: it was this one's turn to look, and that failed.
        """
        until = time.monotonic() + timeout
        while not (waiter.is_woken or self._is_over() or waiter.interruptions != self._interruptions):
            left = until - time.monotonic()
            if left <= 0:
                return
            if not self._has_looker(waiter):
                # Two that take it at once both look, which costs one look too many.
                self._looker = waiter
                self._look(waiter, min(left, _TRUST))
            else:
                waiter.wakeup.wait(min(left, _TRUST))

    def _has_looker(self, waiter: Waiter) -> bool:
        """Whether another one looks. One that was interrupted may be there yet, and look no more."""
        looker = self._looker
        if looker is None or looker is waiter or looker not in self._present:
            return False
        return time.monotonic() - self._looked_at < 2 * _TRUST

    def _look(self, waiter: Waiter, timeout: float) -> None:
        self._looked_at = time.monotonic()
        if self._is_owing:
            timeout = min(timeout, max(self._look_again - time.monotonic(), 0.0))
        changes = self._store.wait_for_changes(self._seen, timeout, waiter.wakeup)
        if changes.are_new:
            # In this order: a commit that comes after it is told of by the next look, if this one does not find it.
            self._seen = changes.version
            self._is_owing = True
        if self._is_owing and time.monotonic() >= self._look_again:
            self._is_owing = False
            self._find()

    def _find(self) -> None:
        """Wake whom a commit of another process concerns; this one's commits have woken theirs."""
        began = time.monotonic()
        awaited = list(self._ends)
        if awaited:
            for job_id in self._store.ended(awaited):
                self._wake_all(self._ends.pop(job_id, ()))
        for queue, line in list(self._work.items()):
            if line and isinstance(self._store.next_work(queue), Ready):
                self._wake_one(queue)
        ended = time.monotonic()
        self._look_again = ended + max(_LEAST_PAUSE, _SHARE * (ended - began))

    def _hear(self, woken: frozenset[str], ended: frozenset[str]) -> None:
        """Hear of a commit of this process."""
        for job_id in ended:
            self._wake_all(self._ends.pop(job_id, ()))
        for queue in woken:
            self._wake_one(queue)

    def _wake_all(self, line: Iterable[Waiter]) -> None:
        for waiter in tuple(line):  # a copy: one that leaves meanwhile would have the next one passed over
            waiter.wake()

    def _wake_one(self, queue: str) -> None:
        for waiter in self._work.get(queue, ()):
            if not waiter.is_woken:
                waiter.wake()
                return
