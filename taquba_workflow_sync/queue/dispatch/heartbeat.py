"""The thread that keeps claims alive while their steps run, and learns what happened to them elsewhere."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from taquba_workflow_sync.errors import StoreClosedError, TaqubaError
from taquba_workflow_sync.queue.dispatch.doubts import Doubts
from taquba_workflow_sync.queue.dispatch.lane import Execution
from taquba_workflow_sync.queue.dispatch.overruns import Overruns
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.wakeup import WakeUp

_log = logging.getLogger(__name__)

# A cancel in another process must reach the running step within 250 ms; looking costs one PRAGMA.
_TICK: Final = 0.1
_SLEEP_AFTER: Final = 1.0
_LONGEST_PAUSE: Final = 2.0
_REPORT_EVERY: Final = 20
# At most one commit for the progress of all that runs.
_PROGRESS_EVERY: Final = 1.0


def _pause_after_failure(running: list[Execution]) -> float:
    """Return how long to wait at most while the store fails: two tries and more before a lease is over."""
    shortest = min((execution.lane.lease_ms for execution in running), default=0) / 1000
    return max(_TICK, min(_LONGEST_PAUSE, shortest / 6))


class Heartbeat:
    """Renews the leases of what runs; sets the tokens of steps that were cancelled, are late or have lost their claim.

    Its thread begins with the first claim. It works on the store past the close of the handle, for as long as a step
    of it runs.
    """

    def __init__(self, handle: QueueHandle, running: Callable[[], list[Execution]], name: str) -> None:
        self._store = handle.store
        self._running = running
        self._name = name
        self._wakeup = WakeUp()
        self._is_asleep = False
        self._is_over = False
        self._is_missing = False
        self._version: object = None
        self._overruns = Overruns(self._store)
        self._next_progress = 0.0
        self._thread: threading.Thread | None = None
        self._doubts = Doubts(handle.store, running, f"{name}-beat")

    def wake(self) -> None:
        """Say that something runs now; costs nothing while the thread is awake."""
        if self._thread is None:
            self._start()
        elif self._is_asleep:
            self._wakeup.notify()

    def try_again(self) -> None:
        """Start the thread if that has failed."""
        if self._is_missing:
            self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            if not self._is_missing:
                _log.error("the heartbeat's thread could not be started (%s); it is tried again", error)
            self._is_missing = True
        else:
            self._thread, self._is_missing = thread, False

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._is_over = True
        self._wakeup.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._doubts.stop()

    def _run(self) -> None:
        idle_since = time.monotonic()
        failures = 0
        while not self._is_over:
            running = self._running()
            if running:
                idle_since = time.monotonic()
                try:
                    try:
                        self._doubts.wake()
                    finally:
                        self._beat(running)  # a thread that cannot be started must not cost a lease
                    failures = 0
                except StoreClosedError:
                    return
                except Exception as error:
                    failures += 1
                    if failures == 1 or failures % _REPORT_EVERY == 0:
                        level = logging.WARNING if isinstance(error, TaqubaError) else logging.ERROR
                        _log.log(level, "heartbeat failed (%d in a row), it goes on: %r", failures, error)
            elif time.monotonic() - idle_since > _SLEEP_AFTER:
                self._is_asleep = True
                if not self._running():  # looked at again after the flag went up, or a wake could be missed
                    self._wakeup.wait(None)
                self._is_asleep = False
                idle_since = time.monotonic()
                continue
            self._wakeup.wait(min(_TICK * 2 ** min(failures, 10), _pause_after_failure(running)) if failures else _TICK)

    def _beat(self, running: list[Execution]) -> None:
        try:
            self._look(running)  # first: a renewal that fails (this disk is full) must not hide a cancellation
        finally:
            try:
                self._overruns.look(running)
            finally:
                self._renew(running)  # nor may a look that fails cost a lease
        self._report(running)

    def _look(self, running: list[Execution]) -> None:
        changes = self._store.wait_for_changes(self._version, 0.0, WakeUp())
        if self._version is not None and not changes.are_new:
            return
        held = {claim.token: claim for claim in self._store.running()}
        for execution in running:
            claim = held.get(execution.row.token)
            if claim is None:
                self._lose(execution)
            elif claim.cancel_requested:
                execution.cancel_token.stop("deadline" if claim.is_late else "cancelled")
        self._version = changes.version

    def _renew(self, running: list[Execution]) -> None:
        now = time.monotonic()
        due: dict[int, list[Execution]] = {}
        for execution in running:
            lease_ms = execution.lane.lease_ms
            if not execution.is_lost and execution.is_due_for_renewal(now):
                due.setdefault(lease_ms, []).append(execution)
        for lease_ms, executions in due.items():
            _, renewed = self._store.renew([each.row.token for each in executions], lease_ms)
            for execution in executions:
                if execution.row.token in renewed:
                    execution.renewed_at = now
                else:
                    self._lose(execution)

    def _report(self, running: list[Execution]) -> None:
        """Store what steps have said since the last time; what is said once a claim is lost is nothing."""
        now = time.monotonic()
        if now < self._next_progress:
            return
        said = [
            (execution, report)
            for execution in running
            if (report := execution.progress) is not execution.reported and not execution.is_lost and report is not None
        ]
        if not said:
            return
        self._next_progress = now + _PROGRESS_EVERY
        self._store.report_progress([report for _, report in said])
        for execution, report in said:
            execution.reported = report

    def _lose(self, execution: Execution) -> None:
        if execution.is_lost or execution.has_returned:
            return
        execution.is_lost = True
        execution.cancel_token.stop("claim lost")
        row = execution.row
        _log.warning(
            "the claim of job %s was lost while its step runs; its result will not count",
            row.id,
            extra={"job_id": row.id, "queue": row.queue, "attempt": row.attempts, "step": row.step},
        )
