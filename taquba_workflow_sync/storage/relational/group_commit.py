"""Group commit: the concurrent writes of one process share a transaction and one fsync, and one thread of ours commits.

A caller's thread never leads: it puts its call in line with one call into C, wakes who commits, and sleeps on a lock of
its own. So whatever a signal handler raises in it, and wherever, meets no other caller's write. Who commits is the
thread that leads (a dispatcher), or the clerk. Only where no thread can be started at all a caller commits, and then
its own call alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

from taquba_workflow_sync.errors import StorageError
from taquba_workflow_sync.storage.relational.clerk import Clerk
from taquba_workflow_sync.storage.relational.gate import Room
from taquba_workflow_sync.storage.relational.pending import Operation, PendingCall, PendingWrite
from taquba_workflow_sync.storage.relational.transactor import GaveWay, Transactor

_BATCH_LIMIT: Final = 512
# How long a caller sleeps before it wakes the committer once more: at first, and at most.
_FIRST_SLEEP: Final = 0.05
_LONGEST_SLEEP: Final = 1.0
# How long a thread that commits in its own place waits for those whose calls it committed the last time: they have
# just been woken, and without that it commits its own call alone and theirs after it (four threads: 7,000 instead of
# 10,000 memos a second).
_COMPANY_COMES: Final = 0.0001


class _Leading(NamedTuple):
    """That somebody leads, and how that one is told that somebody waits."""

    on_waiting: Callable[[], None]


class _Here:
    """A thread of ours commits its own calls; a class, since a generator costs each step of a busy worker more."""

    __slots__ = ("_me", "_ours")

    def __init__(self, ours: set[int]) -> None:
        self._ours = ours
        self._me = threading.get_ident()

    def __enter__(self) -> None:
        self._ours.add(self._me)

    def __exit__(self, *_: object) -> None:
        self._ours.discard(self._me)


def _never() -> bool:
    return False


class GroupCommit:
    """The line of a store's calls that wait for a commit, and who serves it."""

    def __init__(self, transactor: Transactor) -> None:
        self._transactor = transactor
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget what the parent's threads had put in line: it is theirs, and they commit it."""
        self._line: deque[PendingCall] = deque()
        # One thread commits at a time. It is known which, so that a call from inside a transaction is refused instead
        # of waiting for itself.
        self._turn = Room(1)
        self._is_committing = False
        #: How many calls a thread that commits in its own place committed the last time; they may come again.
        self._company = 1
        self._gatherer: PendingCall | None = None
        self._leading: _Leading | None = None
        #: The threads of ours that commit their own calls themselves.
        self._ours: set[int] = set()
        self._choosing = threading.Lock()
        self.clerk: Clerk = Clerk(self._serve_as_clerk, self.has_waiting)

    def may_wait(self) -> bool:
        """Whether the calling thread may have something committed: not from inside a transaction."""
        me = threading.get_ident()
        return me != self.clerk.thread and not self._turn.holds(me)

    def has_waiting(self) -> bool:
        """Whether callers wait for a commit."""
        return bool(self._line)

    @property
    def failures(self) -> int:
        """How many transactions could not be committed, ever, for what the disk or another process did."""
        return self._transactor.failures

    def run(self, operations: Sequence[Operation]) -> list[PendingWrite]:
        """Commit the operations, together with whatever else waits; on return each has its answer.

        Raises:
            RuntimeError: called from inside a transaction of this thread, or from the thread that commits (a log
                handler, a ``__del__``).
        """
        me = threading.get_ident()
        if me == self.clerk.thread or self._turn.holds(me):
            raise RuntimeError("the store was called from inside its own transaction, by the thread that runs it")
        call = PendingCall(operations)
        if not operations:
            return call.writes
        if me in self._ours:
            self._lead(call)
            return call.writes
        line = self._line
        try:
            line.append(call)
            self._wake_committer(call)
            sleep = _FIRST_SLEEP
            while not call.is_done and not call.wake.acquire(timeout=sleep):
                if self._line is not line:
                    raise StorageError("a signal handler forked this process meanwhile: the write is its parent's")
                self._wake_committer(call, is_late=True)
                sleep = min(2 * sleep, _LONGEST_SLEEP)
        except BaseException:
            call.is_gone = True  # what has begun may be committed all the same: the outcome is unknown to this caller
            self._turn.leave(call, None)  # if it had one, and was interrupted before it could give it up
            self._retract(call)  # gone first, then this look; who commits stores the answer, then looks who is gone
            raise
        return call.writes

    def run_here(self, operations: Sequence[Operation]) -> list[PendingWrite]:
        """Commit the operations as :meth:`run` does, and whatever else waits, in the calling thread if nobody commits.

        For a thread of ours that waits for a write of its own, and saves being woken for it. Whoever has committed
        wakes the next such thread that waits: the one commits what the others bring meanwhile.
        """
        me = threading.get_ident()
        if me == self.clerk.thread or self._turn.holds(me):
            return self.run(operations)  # which refuses it
        if threading.current_thread() is threading.main_thread():
            return self.run(operations)  # a signal handler may raise anything there
        call = PendingCall(operations, can_lead=True)
        line = self._line
        try:
            line.append(call)
            if len(line) == self._company:
                self._wake_gatherer()
            sleep = _FIRST_SLEEP
            while not call.is_done:
                if self._turn.enter_if_first(call):
                    if len(line) < self._company:
                        self._gatherer = call
                        if len(line) < self._company:
                            call.wake.acquire(timeout=_COMPANY_COMES)
                        self._gatherer = None
                    batch = self._take()
                    self._company = len(batch)
                    self._commit(batch, _never)
                    self._leave_turn(call)
                elif not call.wake.acquire(timeout=sleep):
                    self._wake_committer(call, is_late=True)
                    sleep = min(2 * sleep, _LONGEST_SLEEP)
        except BaseException:
            call.is_gone = True
            self._leave_turn(call)
            self._retract(call)
            raise
        return call.writes

    def _wake_gatherer(self) -> None:
        """Have the thread that leads, and waits for the others that committed with it, go on: they are all there."""
        gatherer = self._gatherer
        if gatherer is not None:
            gatherer.notify()

    def _leave_turn(self, token: object) -> None:
        """Let the next one commit: who stands in line for it, or a thread that waits and may."""
        self._turn.leave(token, None)
        self._turn.tell()
        if self._line:
            for call in tuple(self._line):
                if call.can_lead:
                    call.notify()
                    return

    def begin_leading(self, on_waiting: Callable[[], None]) -> bool:
        """Have the calling thread, one of ours, commit for everyone; False if another one does."""
        with self._choosing:
            if self._leading is not None:
                return False
            self._leading = _Leading(on_waiting)
            self._ours.add(threading.get_ident())
            return True

    def end_leading(self) -> None:
        """Leave it to the clerk again: this first, and then a look at the line."""
        self._ours.discard(threading.get_ident())
        self._leading = None
        if self._line:
            self.clerk.wake()

    def here(self) -> AbstractContextManager[None]:
        """Have the calling thread, one of ours, commit its own calls itself while the block runs."""
        return _Here(self._ours)

    def flush(self) -> None:
        """Commit what waits, as the leader."""
        if self._line:
            self._serve(_never)
        leading = self._leading
        if self._line and leading is not None:
            leading.on_waiting()  # more than one transaction holds: the leader is to look again

    def _wake_committer(self, call: PendingCall, *, is_late: bool = False) -> None:
        leading = self._leading
        if leading is not None:
            leading.on_waiting()
            # It may be gone without a word, or busy elsewhere: the clerk helps out where nobody commits.
            if not is_late or self._is_committing:
                return
        if not self.clerk.wake(is_late=is_late):
            self._commit_alone(call)

    def _commit_alone(self, call: PendingCall) -> None:
        """Commit one call in the thread that made it, which may be interrupted at any point: nobody else's with it."""
        try:
            self._turn.enter(call)
            try:
                self._line.remove(call)
            except ValueError:
                return  # somebody has taken it, and answers
            self._commit([call], _never, is_interruptible=True)
        finally:
            self._turn.leave(call, None)
            self._turn.tell()

    def _lead(self, call: PendingCall) -> None:
        """Commit the leader's own call, last in a transaction with what waits: its claims see what the others bring."""
        token = object()
        try:  # not a context manager: each step of a busy worker passes here
            self._turn.enter(token)
            self._commit([*self._take(), call] if self._line else [call], _never)
        finally:
            self._leave_turn(token)

    def _serve_as_clerk(self) -> None:
        self._serve(lambda: self.clerk.is_wanted_elsewhere)

    def _serve(self, gives_way: Callable[[], bool]) -> None:
        token = object()
        try:
            self._turn.enter(token)
            batch = self._take()
            try:
                self._commit(batch, gives_way)
            except GaveWay:
                self._line.extendleft(reversed(batch))
        finally:
            self._leave_turn(token)

    def _take(self) -> list[PendingCall]:
        batch: list[PendingCall] = []
        left = _BATCH_LIMIT
        while self._line and left > 0:
            batch.append(self._line[0])  # in this order: what cannot be noted for want of memory stays in line
            self._line.popleft()
            left -= len(batch[-1].writes)
        return batch

    def _commit(
        self, batch: Sequence[PendingCall], gives_way: Callable[[], bool], *, is_interruptible: bool = False
    ) -> None:
        try:
            self._is_committing = True
            writes = [write for call in batch if not call.is_gone for write in call.writes]
            if writes:
                self._transactor.commit(writes, gives_way, is_interruptible=is_interruptible)
        except GaveWay:
            raise
        except BaseException:
            self._answer(batch)
            raise
        else:
            self._answer(batch)
        finally:
            self._is_committing = False

    def _answer(self, batch: Sequence[PendingCall]) -> None:
        for call in batch:
            for write in call.writes:
                if not write.is_done:
                    write.fail(StorageError("nothing was written: the thread that commits was stopped"))
            call.finish()
            if call.is_gone:
                self._retract(call)

    def _retract(self, call: PendingCall) -> None:
        """Put in line, for nobody to wait for, what takes back the answers of a caller that is gone.

        Both sides may do so, since a claim is given back once at most; what both miss is left to its lease.
        """
        operations = call.to_retract()
        if operations:
            self._line.append(PendingCall(operations))
            self.clerk.wake()
