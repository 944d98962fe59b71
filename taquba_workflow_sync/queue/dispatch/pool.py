"""A pool of threads that runs what was claimed for its lanes."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from taquba_workflow_sync.queue.dispatch.doubts import settled_in_doubt
from taquba_workflow_sync.queue.dispatch.lane import Execution, Lane
from taquba_workflow_sync.queue.records import damage_of
from taquba_workflow_sync.storage.port.claim import LaneClaim
from taquba_workflow_sync.storage.port.headers import decode_headers
from taquba_workflow_sync.storage.port.settlement import DeadLetter, Release, Settlement

_log = logging.getLogger(__name__)

# A pool task takes ready work for this long, then queues itself anew: `submit` refuses once the interpreter is going
# down, and that refusal is the only sign of it that a busy pool gets.
_SHIFT: Final = 0.05
# How long a thread that could not be started (a limit of threads, memory) is not tried again, and how often that is
# said.
_START_INTERVAL: Final = 0.5
_REPORT_EVERY: Final = 20
# How long a thread that was called may take to come before another one is: it may have died on its way.
_CALL_PATIENCE: Final = 2.0


def _execute(execution: Execution) -> Settlement:
    """Run one claim, unless it is in doubt; what came to be in doubt on the way is settled as that."""
    if execution.is_in_doubt:
        return Settlement(execution.row.id, execution.row.token, Release())
    settlement = _executed(execution)
    return settled_in_doubt(execution, settlement) if execution.is_in_doubt else settlement


def _executed(execution: Execution) -> Settlement:
    """Run one claim; whatever goes wrong around the user's code ends as a dead letter, never as a lost thread."""
    row = execution.row
    try:
        if execution.headers is None:
            damage = damage_of(row)
            if damage is not None:
                return Settlement(row.id, row.token, DeadLetter(damage))
            execution.headers = decode_headers(row.headers)
        return execution.lane.execute(execution)
    except BaseException as error:
        _log.exception("job %s could not be run", row.id, extra={"job_id": row.id, "queue": row.queue})
        return Settlement(row.id, row.token, DeadLetter(f"could not be run: {type(error).__name__}"))


def _leads_nothing() -> bool:
    return False


def _tells_nobody() -> None:
    pass


class _Call:
    """One task given to the executor: void if no thread came for it, though it stays in the queue there."""

    __slots__ = ("at", "is_void")

    def __init__(self) -> None:
        self.at = time.monotonic()
        self.is_void = False


class Pool:
    """Threads that serve some lanes: the ``ranked`` first ones in their order, then the others, which take turns."""

    def __init__(self, name: str, lanes: Sequence[Lane], size: int, *, ranked: int | None = None) -> None:
        self.name = name
        self.size = size
        self.lanes: dict[str, Lane] = {lane.queue: lane for lane in lanes}
        self.claims: tuple[LaneClaim, ...] = tuple(lane.claim for lane in lanes)
        queues = tuple(self.lanes)
        self._ranked = len(queues) if ranked is None else ranked
        self._lanes_to = {queue: self._before(queues, number) for number, queue in enumerate(queues)}
        self._turn = 0
        self.in_flight = 0
        self.has_backlog = True
        #: When the next job of its lanes is due, by the monotonic clock; None: no job waits for a time.
        self.next_due: float | None = None
        self.is_going_down: bool = False
        self._ready: deque[Execution] = deque()
        self._lock = threading.Lock()
        self._active = 0
        self._working: set[int] = set()
        self._called: _Call | None = None
        self._refusals = 0
        self._not_before = 0.0
        self._lead: Callable[[], bool] = _leads_nothing
        self._wants_leader: Callable[[], bool] = _leads_nothing
        self._tell_dispatcher: Callable[[], None] = _tells_nobody
        self._executor = ThreadPoolExecutor(size, thread_name_prefix=f"taquba-{name}")

    def _before(self, queues: tuple[str, ...], number: int) -> tuple[str, ...]:
        if number < self._ranked:
            return queues[: number + 1]
        # Whoever takes turns gives way to those that wait beside it: else one busy lane would keep every thread.
        return (*queues[:number], *queues[number + 1 :], queues[number])

    def next_claims(self) -> tuple[LaneClaim, ...]:
        """Return the lanes in the order in which they are to be asked now; those that take turns move on by one."""
        if self._ranked > len(self.claims) - 2:
            return self.claims
        ranked, others = self.claims[: self._ranked], self.claims[self._ranked :]
        self._turn = (self._turn + 1) % len(others)
        return (*ranked, *others[self._turn :], *others[: self._turn])

    def lanes_to(self, queue: str) -> tuple[str, ...]:
        """Return the queues that are served before one, and that one, last."""
        return self._lanes_to[queue]

    @property
    def free(self) -> int:
        """How many more claims the pool can start at once."""
        return self.size - self.in_flight

    def serve(
        self,
        finish: Callable[[Execution, Settlement], None],
        lead: Callable[[], bool],
        wants_leader: Callable[[], bool],
        tell_dispatcher: Callable[[], None],
    ) -> None:
        """Say what the threads call: with how to settle; to lead a turn, which tells whether it did; to learn whether
        that is wanted; and for the dispatcher to see to what no thread can.
        """
        self._finish, self._lead = finish, lead
        self._wants_leader, self._tell_dispatcher = wants_leader, tell_dispatcher

    def give(self, executions: Sequence[Execution]) -> None:
        """Hand claims to the threads."""
        with self._lock:
            self._ready.extend(executions)
            if threading.get_ident() not in self._working:
                self._call_one()  # one of these threads takes a claim itself when its turn is over, and calls then

    def try_again(self) -> float | None:
        """Call a thread if one could not be started, or did not come; when to look again, by the monotonic clock."""
        called = self._called
        if called is None and not self._refusals:
            return None
        with self._lock:
            if called is not None and called is self._called and time.monotonic() - called.at > _CALL_PATIENCE:
                called.is_void = True
                self._called = None
                self._active -= 1
            self._call_one()
            if self._called is not None:
                return self._called.at + _CALL_PATIENCE
            return self._not_before if self._refusals and self._ready else None

    def _call_one(self) -> None:
        """Start one more task if work is ready, or a turn waits for a leader, and a thread is free; the lock is held.

        Each task calls the next, and only one call is under way at a time: a thread that gets through short work
        before the next one has woken leaves nothing to be woken for.
        """
        if not self._ready and not self._wants_leader():
            return
        if self._active >= self.size or (self._not_before and time.monotonic() < self._not_before):
            if self._wants_leader():
                self._tell_dispatcher()  # every thread there is, is at work: a step may last for hours
            return
        if self._called is not None:
            return
        call = _Call()
        self._active += 1
        self._called = call
        try:
            self._executor.submit(self._work, call)
            self._refusals = 0
        except (RuntimeError, MemoryError) as error:
            # The executor has taken the task all the same; whoever meets it there drops it.
            call.is_void = True
            self._active -= 1
            self._called = None
            if isinstance(error, RuntimeError) and "shutdown" in str(error):
                # The interpreter is going down: there is no other sign of it. What is ready goes back unstarted.
                self.is_going_down = True
                self._tell_dispatcher()
                return
            if self._wants_leader():
                self._tell_dispatcher()
            self._not_before = time.monotonic() + _START_INTERVAL
            self._refusals += 1
            if self._refusals == 1 or self._refusals % _REPORT_EVERY == 0:
                _log.error(
                    "no thread could be started for pool %s (%s); work goes on with those there are (%d)",
                    self.name,
                    error,
                    self._active,
                )

    def _work(self, call: _Call) -> None:
        with self._lock:
            if call.is_void:
                return
            if self._called is call:
                self._called = None
        now = time.monotonic()
        until = now + _SHIFT
        me = threading.get_ident()
        self._working.add(me)
        is_counted = True
        try:
            while True:
                with self._lock:
                    goes_on, execution = self._take(is_over=now >= until)
                    if not goes_on:
                        is_counted = False
                        return
                if execution is None:
                    now = time.monotonic()
                    # Looked at again after a turn, whoever's it was: who came meanwhile has left it to its leader.
                    if self._lead() or self._wants_leader():
                        continue
                    with self._lock:
                        # Emptiness is looked at under the lock that `give` holds, or a claim could be left with no
                        # thread.
                        if self._ready:
                            continue
                        self._active -= 1
                        is_counted = False
                        is_last = self._active == 0
                    if is_last:
                        self._tell_dispatcher()
                    return
                began = time.monotonic()
                settlement = _execute(execution)
                now = time.monotonic()
                execution.took = now - began
                # From here on the claim may end by this very settlement, so its end is no loss.
                execution.has_returned = True
                self._finish(execution, settlement)
        finally:
            self._working.discard(me)
            if is_counted:  # it dies of a fault of ours, or for want of memory: another one takes its place
                with self._lock:
                    self._active -= 1
                self._tell_dispatcher()

    def _take(self, *, is_over: bool) -> tuple[bool, Execution | None]:
        """Take what is ready, if anything, and whether to go on: not if another task takes this one's place.

        ``is_over``: its shift is. The lock is held.
        """
        if not self._ready:
            return True, None
        if is_over:
            self._active -= 1
            self._call_one()
            if self._called is not None or self.is_going_down:
                return False, None
            self._active += 1  # nobody could be called, so this thread goes on
        execution = self._ready.popleft()
        self._call_one()
        return True, execution

    def take_back(self) -> list[Execution]:
        """Return what no thread has started, so that it can be released."""
        with self._lock:
            unstarted = list(self._ready)
            self._ready.clear()
        return unstarted

    def shut_down(self) -> None:
        """Let the threads go when they are idle; never waits."""
        self._executor.shutdown(wait=False)
