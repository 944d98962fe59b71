"""The one loop: commits settlements, claims for idle threads, sleeps until the next due time or a wake-up.

A turn is one transaction: what callers of this process have queued, the settlements of what ended, then claims for
the slots that this frees. Due jobs are promoted and dead claims taken back inside it.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from taquba_workflow_sync.errors import ClaimLostError, StorageError, StoreClosedError, TaqubaError
from taquba_workflow_sync.queue.bell import Bell
from taquba_workflow_sync.queue.heartbeat import Heartbeat
from taquba_workflow_sync.queue.lanes import Crew, Execution
from taquba_workflow_sync.queue.running import RUNNING
from taquba_workflow_sync.storage.port import Store
from taquba_workflow_sync.storage.records import (
    NO_DEATHS,
    SWEEP_LIMIT,
    ClaimedRow,
    ClaimRequest,
    Dead,
    Deaths,
    LaneClaim,
    Release,
    Settlement,
)

_log = logging.getLogger(__name__)

# A wake of an idle thread costs 65-200 microseconds of CPU: looking every 5 ms is 3 % of a core, so that only happens
# for a second after something happened; every 40 ms is about a third of one.
_LOOK_WHEN_ACTIVE: Final = 0.005
_LOOK_WHEN_IDLE: Final = 0.04
_ACTIVE_FOR: Final = 1.0
_PROBE_INTERVAL: Final = 0.5
_SWEEP_INTERVAL: Final = 1.0
_SWEEP_SHARE: Final = 4.0
_BACKOFF: Final = 0.05
_LONGEST_BACKOFF: Final = 2.0
_REPORT_AFTER: Final = 5
# Once stopping, settlements that the store refuses (full disk) are tried this long; then they are left to others.
_LAST_TRIES: Final = 30.0
_ORPHAN_AGE: Final = 3.0
_AT_EXIT: Final = 5.0

# How long another dispatcher of the same handle may take from the commit of its claims to their registration.
_HANDING_OUT: Final = 0.5

Finished = tuple[Execution, Settlement]


class Dispatcher:
    """Serves crews until told to stop, and then until nothing that it started is left."""

    def __init__(
        self, store: Store, crews: Sequence[Crew], *, now_ms: Callable[[], int], poll_interval: float, name: str
    ) -> None:
        self._store = store
        self._crews = crews
        self._now_ms = now_ms
        self._poll_interval = poll_interval
        self._name = name
        self._pid = os.getpid()
        self._bell = Bell()
        self._finished: deque[Finished] = deque()
        self._unsettled: list[Finished] = []
        self._batch: list[Finished] = []
        self._in_flight: dict[str, Execution] = {}
        self._asking: tuple[Crew, ...] = ()
        self._deaths: Deaths = NO_DEATHS
        self._version: int | None = None
        self._active_until = 0.0
        self._next_probe = 0.0
        self._next_sweep = 0.0
        self._failures = 0
        self._suspects: dict[str, float] = {}
        self._looked_at = 0.0
        self._deadline: float | None = None
        self._stop_asked = False
        self._stopping_since: float | None = None
        self._thread_id: int | None = None
        self._thread: threading.Thread | None = None
        # Held until the end. Not an Event: Ctrl-C in the middle of an Event's wait could keep its lock for ever.
        self._runs = threading.Lock()
        self._runs.acquire()
        self._has_ended = False
        self._heartbeat = Heartbeat(store, lambda: list(self._in_flight.values()), f"taquba-heartbeat-{name}")
        self.stopping: threading.Event = threading.Event()
        self.on_end: Callable[[], None] | None = None

    # -- called from other threads -----------------------------------------------------------------------------

    def start(self) -> None:
        """Run the loop on a daemon thread, which cannot keep the interpreter from exiting."""
        atexit.register(self._at_exit)
        self._thread = threading.Thread(target=self._run, args=(None,), name=f"taquba-{self._name}", daemon=True)
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Have the loop stop claiming and release what has not started; returns at once."""
        self._stop_asked = True
        self._bell.ring()

    def join(self, timeout: float | None) -> bool:
        """Wait until nothing is left running; whether that is so."""
        if not self._runs.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)):
            return False
        self._runs.release()
        return True

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether it is stopping or has stopped."""
        return self._stop_asked

    @property
    def is_running(self) -> bool:
        """Whether the loop runs, in this process."""
        return self._pid == os.getpid() and not self._has_ended

    @property
    def has_work(self) -> bool:
        """Whether anything that it claimed is still unsettled."""
        return bool(self._in_flight or self._finished or self._unsettled)

    def ring(self) -> None:
        """Wake the loop."""
        self._bell.ring()

    def _committed(self, woken: frozenset[str], ended_run: bool) -> None:
        """Hear of a commit of this process; nothing at all means that callers wait to be committed for."""
        if not woken:
            if not ended_run:
                self._bell.ring()
            return
        # In a batch that this loop leads its claims come last, so what the batch put in line they have seen.
        seen = self._asking if threading.get_ident() == self._thread_id else ()
        for crew in self._crews:
            if crew not in seen and not woken.isdisjoint(crew.lanes):
                crew.is_hungry = True
                if threading.get_ident() != self._thread_id and crew.free:
                    self._bell.ring()

    def _finish(self, execution: Execution, settlement: Settlement) -> None:
        self._finished.append((execution, settlement))
        self._bell.ring()

    # -- the loop ----------------------------------------------------------------------------------------------

    def run_until_idle(self, deadline: float | None, wait_for_scheduled_ms: int) -> None:
        """Run the loop on the calling thread until nothing becomes due soon, then drain."""
        self._deadline = deadline
        self._run(lambda: self._nothing_comes(wait_for_scheduled_ms))

    def _run(self, is_idle: Callable[[], bool] | None) -> None:
        self._heartbeat.start()
        try:
            self._attend(is_idle)
        except BaseException:
            # The caller's own thread was interrupted (Ctrl-C). What runs must still be settled, so the loop goes on
            # elsewhere; a second interrupt ends this wait for it.
            self._stop_asked = True
            self._thread = threading.Thread(target=self._finish_elsewhere, name=f"taquba-{self._name}", daemon=True)
            self._thread.start()
            self.join(None)
            raise
        self._end()

    def _at_exit(self) -> None:
        """Let the last commit of a forgotten runtime happen: at exit nobody else waits for a daemon thread.

        The pool's threads have been joined by then, so only settlements and releases are left.
        """
        if self._pid == os.getpid():
            self.ask_to_stop()
            self.join(_AT_EXIT)

    def _finish_elsewhere(self) -> None:
        try:
            self._take_up_after_interrupt()
            self._attend(None)
        finally:
            self._end()

    def _take_up_after_interrupt(self) -> None:
        """Mend a turn that was interrupted anywhere between its commit and the end of its consequences.

        Its settlements are tried again, and their fence tells which were stored; claims that it made and handed to no
        thread are released.
        """
        again = {execution for execution, _ in self._unsettled}
        for execution, settlement in self._batch:
            if execution not in again and execution.row.token in self._in_flight:
                execution.is_repeated = True
                self._unsettled.append((execution, settlement))
        try:
            self._release_orphans()
            if self._suspects:
                self._bell.wait(_HANDING_OUT)
                self._release_orphans(age=0.0)
        except TaqubaError as error:
            _log.warning("claims of an interrupted turn may stay until this process ends: %s", error)

    def _attend(self, is_idle: Callable[[], bool] | None) -> None:
        self._thread_id = threading.get_ident()
        try:
            with self._store.listen(self._committed, attend=True):
                self._loop(is_idle)
        except StoreClosedError:
            _log.warning("the store was closed under the dispatcher; it stops")

    def _end(self) -> None:
        atexit.unregister(self._at_exit)
        self._heartbeat.stop()
        for crew in self._crews:
            crew.dismiss()
        for token in list(self._in_flight):
            RUNNING.give_up(token)
        try:
            # Before the end is told: who waits for it finds the store closed, if this was its last user.
            if self.on_end is not None:
                self.on_end()
        finally:
            self._has_ended = True
            self._runs.release()

    def _loop(self, is_idle: Callable[[], bool] | None) -> None:
        while True:
            try:
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    self._stop_asked = True
                if self._stop_asked and self._stopping_since is None:
                    self._begin_stop()
                did_something = self._turn()
                self._failures = 0
                if did_something:
                    self._active_until = time.monotonic() + _ACTIVE_FOR
                    self._keep_house(is_busy=True)
                    continue
                if self._is_over():
                    return
                if is_idle is not None and not self._stop_asked and not self.has_work and is_idle():
                    self._stop_asked = True
                    continue
                self._rest()
            except StoreClosedError:
                raise
            except Exception as error:
                self._survive(error)
                if self._is_over():
                    return

    def _survive(self, error: Exception) -> None:
        self._failures += 1
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
        # Callers and heartbeats ring, too, and would have a failing store tried as often as they do.
        until = time.monotonic() + min(_BACKOFF * 2 ** min(self._failures, 10), _LONGEST_BACKOFF)
        was_asked = self._stop_asked
        while (left := until - time.monotonic()) > 0 and self._stop_asked == was_asked:
            self._bell.wait(left)

    def _is_over(self) -> bool:
        if self._stopping_since is None:
            return False
        if not self.has_work:
            return True
        only_settlements = len(self._in_flight) == len(self._unsettled) and not self._finished
        if only_settlements and time.monotonic() - self._stopping_since > _LAST_TRIES:
            _log.error("%d settlements could not be stored; the steps will run again elsewhere", len(self._unsettled))
            return True
        return False

    def _begin_stop(self) -> None:
        self._stopping_since = time.monotonic()
        self.stopping.set()
        self._release_unstarted()

    def _release_unstarted(self) -> None:
        for crew in self._crews:
            for execution in crew.take_back():
                row = execution.row
                self._unsettled.append((execution, Settlement(row.id, row.token, Release())))

    # -- one turn ----------------------------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Commit what ended and claim for what is free; False if there was nothing to do."""
        if any(crew.is_going_down for crew in self._crews) and not self._stop_asked:
            self._stop_asked = True
            self._begin_stop()
        batch = self._batch = self._unsettled
        self._unsettled = []
        while self._finished:
            batch.append(self._finished.popleft())
        requests = self._requests(batch)
        asking = self._asking
        if not batch and not requests:
            self._store.turn((), ())
            return False
        refusals: Sequence[TaqubaError | None] | None = None
        try:
            refusals, claimed = self._store.turn([settlement for _, settlement in batch], requests)
        except StorageError:
            # Only the claims failed (a turn with settlements answers for each).
            _make_hungry(asking)
            raise
        finally:
            self._asking = ()
            if refusals is None:
                self._unsettled += batch
        failed = self._conclude(batch, refusals)
        self._hand_out(claimed, requests)
        self._batch = []
        if failed is not None:
            # The claims beside it failed as well, or may have happened all the same: see _release_orphans.
            _make_hungry(asking)
            raise failed
        return True

    def _requests(self, batch: Sequence[Finished]) -> list[ClaimRequest]:
        freed: dict[Crew, int] = {}
        for execution, _ in batch:
            freed[execution.crew] = freed.get(execution.crew, 0) + 1
        asking = []
        requests = []
        for crew in self._crews:
            lanes, limit = crew.claims, crew.free + freed.get(crew, 0)
            if self._stop_asked:
                lanes, limit = self._owed(crew, limit)
            if (limit > 0 and crew.is_hungry) or (self._deaths and lanes):
                crew.is_hungry = False
                asking.append(crew)
                requests.append(ClaimRequest(lanes, limit, deaths=self._deaths))
        self._asking = tuple(asking)
        self._deaths = NO_DEATHS
        return requests

    @staticmethod
    def _owed(crew: Crew, limit: int) -> tuple[tuple[LaneClaim, ...], int]:
        """Return what a stopping dispatcher still claims: the hooks of runs that it ended itself."""
        if not crew.is_going_down:
            for lane in crew.lanes.values():
                owed = lane.owed()
                if owed > 0:
                    return (lane.claim,), min(limit, owed)
        return (), 0

    def _conclude(self, batch: Sequence[Finished], refusals: Sequence[TaqubaError | None]) -> TaqubaError | None:
        """Let go of what was settled; returns why something has to be tried again, if it has."""
        failed: TaqubaError | None = None
        for (execution, settlement), refusal in zip(batch, refusals, strict=True):
            if isinstance(refusal, StorageError):
                # Unknown: tried again under the same token, whose fence tells whether it happened.
                execution.is_repeated = True
                self._unsettled.append((execution, settlement))
                failed = refusal
                continue
            if isinstance(refusal, ClaimLostError) and execution.is_repeated:
                _log.info("the settlement of job %s was stored before, or its claim was lost", execution.row.id)
            other = None
            if type(refusal) is TaqubaError and not isinstance(settlement.action, Dead):
                # The store cannot hold what the step came to; it would not at the next try.
                other = Settlement(settlement.job_id, settlement.token, Dead(str(refusal)))
            elif not isinstance(settlement.action, Release):
                other = execution.lane.settled(execution, settlement, refusal)
            if other is not None:
                self._unsettled.append((execution, other))
                continue
            if type(refusal) is TaqubaError:
                # Not even a dead letter can be stored. Taken back, it counts as an attempt; released, it would not.
                RUNNING.give_up(execution.row.token)
            self._let_go(execution)
        return failed

    def _let_go(self, execution: Execution) -> None:
        token = execution.row.token
        self._in_flight.pop(token, None)
        RUNNING.discard(token)
        execution.crew.in_flight -= 1

    def _hand_out(self, claimed: Sequence[ClaimedRow], requests: Sequence[ClaimRequest]) -> None:
        for crew in self._crews:
            executions = [Execution(row, crew, self.stopping) for row in claimed if row.queue in crew.lanes]
            for request in requests:
                if request.lanes[0] in crew.claims and len(executions) == request.limit:
                    crew.is_hungry = True  # there may be more
            if not executions:
                continue
            for execution in executions:
                token = execution.row.token
                self._in_flight[token] = execution
                RUNNING.add(token, execution.cancel_token)
            crew.in_flight += len(executions)
            self._heartbeat.wake()
            crew.give(executions, self._finish)
            if crew.is_going_down:
                self._release_unstarted()

    # -- between turns -----------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """Sleep until something may have happened: a bell, a due time, another process's commit."""
        self._keep_house(is_busy=False)
        until = min(self._next_probe, self._next_sweep)
        eager: list[Crew] = []
        if not self._stop_asked:
            eager = [crew for crew in self._crews if crew.free > 0]
            if self._deaths or any(crew.is_hungry for crew in eager) or (eager and self._news(eager)):
                return
            due = min((crew.next_due_ms for crew in eager if crew.next_due_ms is not None), default=None)
            if due is not None:
                wait_ms = due - self._now_ms()
                if wait_ms <= 0:
                    self._version = None
                    _make_hungry(eager)
                    return
                until = min(until, time.monotonic() + wait_ms / 1000)
            if self._deadline is not None:
                until = min(until, self._deadline)
        self._sleep(until, looks=bool(eager))

    def _sleep(self, until: float, *, looks: bool) -> None:
        """Sleep until a bell, the time given, or (``looks``) a commit of anybody's; this is what idling costs."""
        while (left := until - (now := time.monotonic())) > 0:
            look = _LOOK_WHEN_ACTIVE if now < self._active_until else _LOOK_WHEN_IDLE
            if self._bell.wait(min(left, look) if looks else left):
                self._active_until = time.monotonic() + _ACTIVE_FOR
                return
            if looks and self._store.version() != self._version:
                return

    def _news(self, crews: Sequence[Crew]) -> bool:
        """Look whether anybody has committed, and if so, whether that is work for these crews."""
        version = self._store.version()
        if version == self._version:
            return False
        for crew in crews:
            due: int | None = None
            for queue in crew.lanes:
                readiness = self._store.readiness(queue)
                if readiness.is_ready:
                    crew.is_hungry = True
                elif readiness.next_due_ms is not None:
                    due = min(due, readiness.next_due_ms) if due is not None else readiness.next_due_ms
            crew.next_due_ms = due
        self._version = version
        return any(crew.is_hungry for crew in crews)

    def _nothing_comes(self, wait_ms: int) -> bool:
        """Whether no retry waits for its backoff and nothing else becomes due within ``wait_ms``."""
        for crew in self._crews:
            for queue in crew.lanes:
                if self._store.readiness(queue, retries_only=True).next_due_ms is not None:
                    return False
                readiness = self._store.readiness(queue)
                if readiness.is_ready:
                    crew.is_hungry = True
                    return False
                if readiness.next_due_ms is not None and readiness.next_due_ms - self._now_ms() <= wait_ms:
                    return False
        return True

    def _keep_house(self, *, is_busy: bool) -> None:
        """Probe for dead owners and sweep: in small pieces, and also when there is no quiet moment."""
        now = time.monotonic()
        if self._stop_asked:
            self._next_probe = self._next_sweep = now + _SWEEP_INTERVAL
            return
        if now >= self._next_probe:
            self._next_probe = now + _PROBE_INTERVAL
            if any(crew.next_due_ms is not None for crew in self._crews):
                self._version = None  # the wall clock, or a suspended machine, may have moved the next due time
            self._deaths = self._store.find_deaths()
            self._release_orphans()
        if now >= self._next_sweep:
            swept = self._store.sweep()
            ended = time.monotonic()
            if is_busy:
                # A full piece says that there is more: a fifth of the time goes there then, or rows would pile up
                # under a worker that ends more runs than one piece a second.
                pause = _SWEEP_SHARE * (ended - now) if swept >= SWEEP_LIMIT else _SWEEP_INTERVAL
            else:
                pause = 0.0 if swept else self._poll_interval
            self._next_sweep = ended + pause

    def _release_orphans(self, *, age: float = _ORPHAN_AGE) -> None:
        """Let go of claims of this handle that no thread works on: nobody else may, while its owner lives.

        A COMMIT that raised may have claimed them all the same: those never began, and go back uncharged. Or a step
        ended and its end could not be stored before everything was stopped: those are taken back as from the dead.
        Another dispatcher of the same handle registers its claims a moment after their commit, so a claim counts as
        an orphan only when it has been one for seconds.
        """
        orphans = {claim.token: claim for claim in self._store.running(foreign=False) if claim.token not in RUNNING}
        now = time.monotonic()
        # A longer gap between two looks does not count: the process was stopped, registrations under way with it.
        gap, self._looked_at = min(now - self._looked_at, 2 * _PROBE_INTERVAL), now
        known = self._suspects
        self._suspects = {token: known[token] + gap if token in known else 0.0 for token in orphans}
        given_up = {token: claim.lease_until_ms for token, claim in orphans.items() if RUNNING.was_given_up(token)}
        if given_up:
            self._deaths = Deaths(self._deaths.owners, {**self._deaths.tokens, **given_up})
        old = [
            orphans[token] for token, seen_for in self._suspects.items() if seen_for >= age and token not in given_up
        ]
        if old:
            _log.warning("releasing %d claims that no thread runs, left by a commit that failed", len(old))
            self._store.turn([Settlement(claim.job_id, claim.token, Release()) for claim in old], ())


def _make_hungry(crews: Sequence[Crew]) -> None:
    for crew in crews:
        crew.is_hungry = True
