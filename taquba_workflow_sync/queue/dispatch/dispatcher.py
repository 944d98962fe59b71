"""The one loop: settles what ended, claims for idle threads, sleeps until the next due time or a wake-up.

Each commit is one transaction: what callers of this process have queued, the settlements of what ended, then claims for
the slots that this frees. Due jobs are promoted and abandoned claims taken back inside it.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from taquba_workflow_sync.errors import StorageError, StoreClosedError, StoreMovedError, TaqubaError
from taquba_workflow_sync.queue.dispatch.firing import Fire, Firing
from taquba_workflow_sync.queue.dispatch.heartbeat import Heartbeat
from taquba_workflow_sync.queue.dispatch.idle import Idle
from taquba_workflow_sync.queue.dispatch.maintenance import Maintenance
from taquba_workflow_sync.queue.dispatch.pool import Pool
from taquba_workflow_sync.queue.dispatch.settling import Settler
from taquba_workflow_sync.queue.dispatch.state import DispatchState
from taquba_workflow_sync.queue.dispatch.telling import Teller
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.running import RUNNING
from taquba_workflow_sync.storage.port.changes import Leader

_log = logging.getLogger(__name__)

_BACKOFF: Final = 0.05
_LONGEST_BACKOFF: Final = 2.0
_REPORT_AFTER: Final = 5
# Once stopping, settlements that the store refuses (full disk) are tried this long; then they are left to others. A run
# until idle whose store fails for as long is over, too: nobody would hear of it.
_LAST_TRIES: Final = 30.0
_AT_EXIT: Final = 5.0
_FOR_EVER: Final = float("inf")


class Dispatcher:
    """Serves pools on a thread of its own until told to stop, and then until nothing that it started is left."""

    def __init__(
        self,
        handle: QueueHandle,
        pools: Sequence[Pool],
        *,
        poll_interval: float,
        name: str,
        fire: Fire | None = None,
    ) -> None:
        self._handle = handle
        self._store = handle.store
        self._name = name
        self._pid = os.getpid()
        self._state = DispatchState(pools)
        for pool in pools:
            pool.serve(self._state.finish, self._lead, lambda: self._state.wants_leader, self._state.wakeup.notify)
        self._heartbeat = Heartbeat(handle, lambda: list(self._state.in_flight.values()), f"taquba-heartbeat-{name}")
        self._teller = Teller(f"taquba-log-{name}")
        self._settler = Settler(handle, self._state, self._heartbeat.wake, self._teller)
        self._firing = Firing(fire)
        self._idle = Idle(handle, self._state, self._firing)
        self._maintenance = Maintenance(handle, self._state, poll_interval, self._firing, self._settler.tally)
        self._leader: Leader | None = None
        self._failures = 0
        self._failing_since = 0.0
        self._deadline: float | None = None
        self._wait_for_scheduled_ms: int | None = None
        self._thread: threading.Thread | None = None
        # Held until the end. Not an Event: Ctrl-C in the middle of an Event's wait could keep its lock for ever.
        self._runs = threading.Lock()
        self._runs.acquire()
        self._has_ended = False
        #: Why a run until idle could not go to its end.
        self.error: TaqubaError | None = None
        self.on_end: Callable[[], None] | None = None

    def start(self) -> None:
        """Run the loop on a daemon thread, which cannot keep the interpreter from exiting.

        Raises:
            RuntimeError: the thread cannot be started.
        """
        atexit.register(self._at_exit)
        self._thread = threading.Thread(target=self._run, name=f"taquba-{self._name}", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._end()
            raise

    def start_until_idle(self, deadline: float | None, wait_for_scheduled_ms: int) -> None:
        """Run the loop until nothing becomes due soon, or until ``deadline``; then it drains and ends."""
        self._deadline = deadline
        self._wait_for_scheduled_ms = wait_for_scheduled_ms
        self._maintenance.is_lasting = False
        self.start()

    def ask_to_stop(self) -> None:
        """Have the loop stop claiming and release what has not started; returns at once."""
        self._state.ask_to_stop()

    def join(self, timeout: float | None) -> bool:
        """Wait until nothing is left running; whether that is so."""
        if not self._runs.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)):
            return False
        self._runs.release()
        return True

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether it is stopping or has stopped."""
        return self._state.stop_asked

    @property
    def is_running(self) -> bool:
        """Whether the loop runs, in this process."""
        return self._pid == os.getpid() and not self._has_ended

    @property
    def has_work(self) -> bool:
        """Whether anything that it claimed is still unsettled."""
        return self._state.has_work

    def _at_exit(self) -> None:
        """Let the last commit of a forgotten runtime happen: at exit nobody else waits for a daemon thread.

        The pool's threads have been joined by then, so only settlements and releases are left.
        """
        if self._pid == os.getpid():
            self.ask_to_stop()
            self.join(_AT_EXIT)

    def _run(self) -> None:
        state = self._state
        try:
            with self._store.on_commit(self._committed), self._store.lead(state.wakeup.notify) as leader:
                self._leader = leader
                if self._wait_for_scheduled_ms is not None:
                    self._fire_once()
                self._loop()
                self._maintenance.store_tally()
        except StoreClosedError:
            _log.warning("the store was closed under the dispatcher; it stops")
        except StoreMovedError as error:
            self.error = error
            _log.error("the dispatcher of %s stops: %s", self._name, error)
        except BaseException:
            _log.exception("the dispatcher of %s ends, which it should not", self._name)
        finally:
            self._leader = None
            self._teller.close(_AT_EXIT)
            self._end()

    def _fire_once(self) -> None:
        """Fire what is due as a run until idle begins; a store that refuses that may take what else there is to do."""
        try:
            self._firing.run()
        except StorageError as error:
            self.error = error
        self._firing.stop()

    def _end(self) -> None:
        atexit.unregister(self._at_exit)
        self._state.is_shared = False
        self._state.stop_asked = True
        self._heartbeat.stop()
        for pool in self._state.pools:
            pool.shut_down()
        for execution in list(self._state.in_flight.values()):
            # If leave to go on was asked for and is not known to be refused, the claim may have either token.
            for each in (execution, execution.following):
                if each is not None:
                    self._handle.abandoned_here.add(each.row.token)
                    RUNNING.discard(each.row.token)
        try:
            # Before the end is told: who waits for it finds the store closed, if this was its last user.
            if self.on_end is not None:
                self.on_end()
        finally:
            self._has_ended = True
            self._runs.release()

    def _committed(self, woken: frozenset[str], ended: frozenset[str]) -> None:
        """Hear of a commit of this process."""
        is_ours = self._state.leader == threading.get_ident()
        # In a commit that is led by us the claims come last, so what that puts in line they have seen.
        seen = self._settler.asking if is_ours else ()
        for pool in self._state.pools:
            if pool not in seen and not woken.isdisjoint(pool.lanes):
                pool.has_backlog = True
                if not is_ours and pool.free:
                    self._state.wakeup.notify()

    def _lead(self) -> bool:
        """Settle and claim on the calling thread, which is a pool's, if nobody does and there is something to do.

        Returns whether it did. What goes wrong, and what is done while stopping, is left to the dispatcher's thread.
        """
        state, leader = self._state, self._leader
        if not state.is_shared or leader is None:
            state.wakeup.notify()
            return False
        if not state.wants_leader or not state.turn.acquire(blocking=False):
            return False
        try:
            if not state.is_shared:
                state.wakeup.notify()
                return False
            with leader.here():
                return state.leading(self._settle_and_claim)
        except BaseException as error:
            state.is_shared = False
            if isinstance(error, Exception):
                state.failure = error
            else:
                state.failure = RuntimeError(f"a turn was interrupted: {error!r}")
            state.wakeup.notify()
            return False
        finally:
            state.turn.release()
            self._teller.tell()
            if state.sees_nothing and any(pool.free > 0 for pool in state.pools):
                state.wakeup.notify()

    def _settle_and_claim(self) -> bool:
        return self._settler.settle_and_claim(self._flush)

    def _flush(self) -> None:
        if self._leader is not None:
            self._leader.flush()

    def _loop(self) -> None:
        while True:
            try:
                if self._turn():
                    return
            except (StoreClosedError, StoreMovedError):
                raise
            except Exception as error:
                self._survive(error)
                if self._is_over():
                    return

    def _turn(self) -> bool:
        """Do what there is to do, or sleep; True once it is over."""
        state = self._state
        with state.turn:
            is_over = state.leading(self._lead_here)
        self._teller.tell()
        if is_over is not None:
            if not is_over:
                self._maintain(is_busy=True)
            return is_over
        state.is_awake = False  # what ended before has notified, and ends the wait
        try:
            self._maintain(is_busy=False)
            self._idle.wait(
                min(
                    self._maintenance.next_due,
                    self._retry_threads(),
                    _FOR_EVER if self._deadline is None else self._deadline,
                )
            )
        finally:
            state.is_awake = True
        self._failures = 0
        return False

    def _lead_here(self) -> bool | None:
        """Lead a turn; True once it is over, False if there may be more to do at once, None if there is not."""
        state = self._state
        failure, state.failure = state.failure, None
        if failure is not None:
            raise failure
        if self._deadline is not None and time.monotonic() >= self._deadline:
            state.stop_asked = True
        if any(pool.is_going_down for pool in state.pools):
            state.stop_asked = True
        if state.stop_asked and state.stopping_since is None:
            state.begin_stop()
        has_settled = self._settle_and_claim()
        state.is_shared = self._leader is not None and state.stopping_since is None
        if has_settled:
            self._failures = 0
            return False
        if self._is_over():
            return True
        if self._is_drained():
            state.stop_asked = True
            return False
        return None

    def _is_drained(self) -> bool:
        wait_ms = self._wait_for_scheduled_ms
        state = self._state
        if wait_ms is None or state.stop_asked or state.has_work or not self._idle.is_drained(wait_ms):
            return False
        self.error = self._unreadable() or self.error
        return True

    def _unreadable(self) -> StorageError | None:
        """Return an error if part of the store was passed over: nothing left to do is not all done then."""
        sentences = self._store.unreadable()
        if not sentences:
            return None
        return StorageError(f"part of the store cannot be read; the rest was worked on: {'; '.join(sentences)}")

    def _maintain(self, *, is_busy: bool) -> None:
        if self._maintenance.run(is_busy=is_busy):
            self._idle.look_again()
            self._heartbeat.try_again()

    def _retry_threads(self) -> float:
        times = [again for pool in self._state.pools if (again := pool.try_again()) is not None]
        return min(times, default=_FOR_EVER)

    def _survive(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            self._failing_since = time.monotonic()
        if self._failures == 1 or self._failures % _REPORT_AFTER == 0:
            _log.log(
                logging.ERROR
                if self._failures >= _REPORT_AFTER or not isinstance(error, TaqubaError)
                else logging.WARNING,
                "dispatcher of %s failed (%d in a row), it goes on: %r",
                self._name,
                self._failures,
                error,
                exc_info=not isinstance(error, TaqubaError),
            )
        self._give_up_until_idle(error)
        # Callers and heartbeats notify, too, and would have a failing store tried as often as they do.
        until = time.monotonic() + min(_BACKOFF * 2 ** min(self._failures, 10), _LONGEST_BACKOFF)
        was_asked = self._state.stop_asked
        while (left := until - time.monotonic()) > 0 and self._state.stop_asked == was_asked:
            if self._state.wakeup.wait(left):
                self._flush()  # who waits for a commit learns that it fails

    def _give_up_until_idle(self, error: Exception) -> None:
        """End a run until idle whose store keeps failing: it would wait for ever, or count nothing as nothing to do."""
        if self._wait_for_scheduled_ms is None or not isinstance(error, StorageError):
            return
        now = time.monotonic()
        is_late = self._deadline is not None and now >= self._deadline
        if error.is_permanent or is_late or now - self._failing_since >= _LAST_TRIES:
            self.error = error
            self._state.stop_asked = True

    def _is_over(self) -> bool:
        state = self._state
        if state.stopping_since is None:
            return False
        if not state.has_work:
            return True
        if state.only_settlements_are_left and time.monotonic() - state.stopping_since > _LAST_TRIES:
            _log.error("%d settlements could not be stored; the steps will run again elsewhere", len(state.unsettled))
            return True
        return False
