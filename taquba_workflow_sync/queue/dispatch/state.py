"""What one dispatcher has claimed and not yet settled, and whether it is to stop: what its parts share."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from taquba_workflow_sync.queue.dispatch.lane import Execution
from taquba_workflow_sync.queue.dispatch.pool import Pool
from taquba_workflow_sync.queue.running import RUNNING
from taquba_workflow_sync.storage.port.presence import Abandoned
from taquba_workflow_sync.storage.port.settlement import Release, Settlement
from taquba_workflow_sync.wakeup import WakeUp

Finished = tuple[Execution, Settlement]
_T = TypeVar("_T")


class DispatchState:
    """Claims on their way: in flight, of them finished by a thread, of them unsettled because the store refused.

    Only the thread whose turn it is changes it, but for ``finish`` and ``ask_to_stop``, which any thread may call.
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        self.pools: tuple[Pool, ...] = tuple(pools)
        self.wakeup: WakeUp = WakeUp()
        self.in_flight: dict[str, Execution] = {}
        self.finished: deque[Finished] = deque()
        self.unsettled: list[Finished] = []
        #: Evidence for the next claims.
        self.abandoned: Abandoned | None = None
        #: Whether runs of these lanes are past their time: the next claim ends them, though no thread is free.
        self.has_late: bool = False
        self.stop_asked: bool = False
        self.stopping_since: float | None = None
        #: What steps see: their process is shutting down.
        self.stopping: threading.Event = threading.Event()
        #: Held by the thread that settles, claims and hands out; what is not said to be any thread's changes under it.
        self.turn: threading.Lock = threading.Lock()
        self.leader: int | None = None
        #: Whether threads of the pools may take the turn. Stopping, or after a failure, only the dispatcher does.
        self.is_shared: bool = False
        #: Whether the dispatcher is about to lead: then what ends is left to it, in one turn with what callers bring.
        self.is_awake: bool = True
        #: Why a turn that a pool's thread led has failed, until the dispatcher has seen to it.
        self.failure: Exception | None = None
        #: Whether the dispatcher sleeps without an eye on others' commits, since no thread is free for what they bring.
        self.sees_nothing: bool = False
        #: The pool that runs what was claimed of a queue.
        self.pool_of: dict[str, Pool] = {queue: pool for pool in pools for queue in pool.lanes}

    def ask_to_stop(self) -> None:
        """Have the dispatcher stop claiming and release what has not started."""
        self.stop_asked = True
        self.wakeup.notify()

    def finish(self, execution: Execution, settlement: Settlement) -> None:
        """Take how a thread's work is to be settled."""
        self.finished.append((execution, settlement))
        if not self.is_shared or self.stop_asked or self.is_awake:
            self.wakeup.notify()  # else the thread itself leads next, or leaves it to one that does

    @property
    def wants_leader(self) -> bool:
        """Whether a turn would settle or claim something, and nobody leads one."""
        if not self.is_shared or self.stop_asked or self.is_awake or self.turn.locked():
            return False  # who leads looks again afterwards
        return bool(self.finished or self.unsettled) or any(pool.has_backlog and pool.free > 0 for pool in self.pools)

    def leading(self, turn: Callable[[], _T]) -> _T:
        """Return what ``turn`` does, which is the calling thread's; the lock is held."""
        self.leader = threading.get_ident()
        try:
            return turn()
        finally:
            self.leader = None

    def begin_stop(self) -> None:
        """Tell the steps, and take back what no thread has started."""
        self.is_shared = False
        self.stopping_since = time.monotonic()
        self.stopping.set()
        self.release_unstarted()

    def release_unstarted(self) -> None:
        """Have what no thread has started put back, uncharged."""
        for pool in self.pools:
            self.release(pool.take_back())

    def release(self, executions: Iterable[Execution]) -> None:
        """Have claims put back, uncharged, whose work has not started."""
        for execution in executions:
            row = execution.row
            self.unsettled.append((execution, Settlement(row.id, row.token, Release())))

    @property
    def has_work(self) -> bool:
        """Whether anything that was claimed is still unsettled."""
        return bool(self.in_flight or self.finished or self.unsettled)

    @property
    def only_settlements_are_left(self) -> bool:
        """Whether no thread runs anything any more."""
        return len(self.in_flight) == len(self.unsettled) and not self.finished

    def take_batch(self) -> list[Finished]:
        """Return all that waits to be settled, which it then does no longer."""
        batch, self.unsettled = self.unsettled, []
        while self.finished:
            batch.append(self.finished.popleft())
        return batch

    def take_in(self, pool: Pool, executions: Sequence[Execution]) -> None:
        """Note claims as running in this process."""
        for execution in executions:
            token = execution.row.token
            self.in_flight[token] = execution
            RUNNING.add(token, execution.cancel_token)
        pool.in_flight += len(executions)

    def go_on(self, execution: Execution) -> Execution:
        """Note that a claim goes on with the next step, under its new token; returns what runs then."""
        following, execution.following = execution.following, None
        assert following is not None
        self.in_flight[following.row.token] = following
        self.in_flight.pop(execution.row.token, None)
        RUNNING.discard(execution.row.token)
        return following

    def let_go(self, execution: Execution) -> None:
        """Note that a claim has ended, or is not ours any more."""
        token = execution.row.token
        self.in_flight.pop(token, None)
        RUNNING.discard(token)
        self.pool_of[execution.row.queue].in_flight -= 1


def note_backlog(pools: Iterable[Pool]) -> None:
    """Have the pools claim at the next opportunity."""
    for pool in pools:
        pool.has_backlog = True
