"""The runtime: a client that also runs the steps, and tells its hook how runs ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Self, TypeVar

from taquba_workflow_sync.errors import InvalidStateError, StorageError
from taquba_workflow_sync.outcome import TerminalStatus
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.dispatch.dispatcher import Dispatcher
from taquba_workflow_sync.queue.dispatch.pool import Pool
from taquba_workflow_sync.queue.dispatch.running import RUNNING
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.queue.worker import wait_for_shutdown, worker_lane
from taquba_workflow_sync.storage.port.cancellation import Cancellation
from taquba_workflow_sync.storage.port.claim import LaneClaim
from taquba_workflow_sync.storage.port.notification import Subscription
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.workflow.client import DEFAULT_QUEUE_NAME, WorkflowClient
from taquba_workflow_sync.workflow.hooks import (
    LANE_SUFFIX,
    HookFunction,
    NoopTerminalHook,
    Notifier,
    TerminalHook,
)
from taquba_workflow_sync.workflow.runner import StepFunction, StepRunner, step_function
from taquba_workflow_sync.workflow.spec import StepOrder
from taquba_workflow_sync.workflow.status import RunCounts
from taquba_workflow_sync.workflow.steps import StepLane
from taquba_workflow_sync.workflow.webhook_hook import WebhookTerminalHook

_T = TypeVar("_T")

_WEBHOOK_THREADS = 4
# A hook that `cancel` runs in line has no heartbeat; a killed process frees its claim whatever the lease says.
_INLINE_LEASE_MS = 600_000


class WorkflowRuntime(WorkflowClient):
    """Runs the steps of one queue's runs on threads of this process. Several processes may run the same queue.

    Use it as a context manager, or :meth:`start` and :meth:`stop`; :meth:`run` for a worker process;
    :meth:`run_until_idle` for a cron job.
    """

    def __init__(
        self,
        queue: Queue,
        runner: StepRunner | StepFunction,
        terminal_hook: TerminalHook | HookFunction | None = None,
        *,
        queue_name: str = DEFAULT_QUEUE_NAME,
        max_concurrent_steps: int = 16,
        poll_interval: Duration = 0.25,
        keep_runs: Duration | None = timedelta(days=7),
        shutdown_grace: Duration | None = None,
        step_order: StepOrder = StepOrder.FAIR,
    ) -> None:
        """Bind a runner, and a hook if one is to be told of ended runs, to a queue; nothing starts yet.

        ``max_concurrent_steps``: threads, which hooks share. ``poll_interval``: how long anything stays unseen that
        nothing announces. ``shutdown_grace``: how long :meth:`stop` waits for steps in flight; None: as long as they
        take. ``keep_runs``: as for :class:`WorkflowClient`.

        Raises:
            TypeError, ValueError, InvalidNameError: an argument is wrong.
        """
        super().__init__(queue, queue_name=queue_name, keep_runs=keep_runs)
        self._run_step = step_function(runner)
        self._size = validation.integer(max_concurrent_steps, "max_concurrent_steps", least=1, most=1000)
        self._poll_interval = validation.seconds(poll_interval, "poll_interval", least=1)
        self._grace = validation.optional_seconds(shutdown_grace, "shutdown_grace")
        if not isinstance(step_order, str):
            raise TypeError(f"step_order must be a StepOrder, not {type(step_order).__name__}")
        if step_order not in tuple(StepOrder):
            raise ValueError(f"step_order is {validation.shown(step_order)}; it must be one of {', '.join(StepOrder)}")
        self._keeps_place = step_order == StepOrder.OLDEST_RUN_FIRST
        self._notifier: Notifier | None = None
        if terminal_hook is not None and not isinstance(terminal_hook, NoopTerminalHook):
            self._notifier = Notifier(terminal_hook, queue_name + LANE_SUFFIX)
        self._webhooks = terminal_hook if isinstance(terminal_hook, WebhookTerminalHook) else None
        if self._webhooks is not None and self._webhooks.queue is not queue:
            raise ValueError(
                "the WebhookTerminalHook writes to another Queue than the runtime's; give it the same Queue object"
            )
        self._is_registered = False
        self._inside = threading.local()
        self._dispatcher: Dispatcher | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()

    @staticmethod
    def builder(
        queue: Queue,
        runner: StepRunner | StepFunction,
        terminal_hook: TerminalHook | HookFunction | None = None,
    ) -> WorkflowRuntimeBuilder:
        """Return a builder with a chainable method for each option."""
        return WorkflowRuntimeBuilder(queue, runner, terminal_hook)

    # -- the parts ---------------------------------------------------------------------------------------------

    def _register(self) -> None:
        if self._notifier is None or self._is_registered:
            return
        config = self._queue.config_of(self._notifier.lane_name)
        subscription = Subscription(self._notifier.lane_name, config.max_attempts, config.keep_dead_ms)
        self._queue.store.subscribe(self._queue_name, subscription)
        self._is_registered = True

    def _is_inside(self) -> bool:
        return bool(getattr(self._inside, "depth", 0))

    def _around(self, call: Callable[[], _T]) -> _T:
        """Run a step or hook, marked as such: a wait inside it must have a timeout."""
        self._inside.depth = getattr(self._inside, "depth", 0) + 1
        try:
            return call()
        finally:
            self._inside.depth -= 1

    def _make_dispatcher(self) -> tuple[Dispatcher, StepLane]:
        steps = StepLane(
            self._queue, self._queue_name, self._run_step, keeps_place=self._keeps_place, around=self._around
        )
        lanes = [steps.lane]
        if self._notifier is not None:
            lanes.insert(0, self._notifier.lane(self._queue, self._around, lambda: sum(steps.ended.values())))
        pools = [Pool("step", lanes, self._size)]
        if self._webhooks is not None:
            # Threads of their own: a receiver that answers slowly must not take a step's.
            pools.append(
                Pool(
                    "webhook",
                    [worker_lane(self._queue, self._webhooks.target_queue, self._webhooks.worker)],
                    _WEBHOOK_THREADS,
                )
            )
        dispatcher = Dispatcher(
            self._queue.store,
            pools,
            now_ms=self._queue.now_ms,
            poll_interval=self._poll_interval,
            name=self._queue_name[:40],
        )
        return dispatcher, steps

    def _process_lock(self) -> threading.Lock:
        if self._pid != os.getpid():
            # A forked child: the parent's dispatcher does not run here, and its lock may have been held.
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._dispatcher = None
            self._inside = threading.local()
        return self._lock

    def _install(self) -> tuple[Dispatcher, StepLane]:
        with self._process_lock():
            if self._dispatcher is not None and self._dispatcher.is_running:
                raise InvalidStateError("the runtime is started already; stop it first")
            self._register()
            dispatcher, steps = self._make_dispatcher()
            self._queue.attach(dispatcher)
            self._dispatcher = dispatcher
            return dispatcher, steps

    # -- running -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start to run steps on threads of this process; returns at once.

        The threads are daemons: a forgotten idle runtime does not keep the interpreter from exiting.

        Raises:
            InvalidStateError: it is started already.
        """
        dispatcher, _ = self._install()
        dispatcher.start()

    def stop(self, timeout: Duration | None = None) -> bool:
        """Stop claiming, put back what has not started, and wait for the steps in flight; True if none is left.

        Waits for ``timeout`` seconds if given, else for ``shutdown_grace``. A step that still runs after that stays
        claimed and renewed, may still settle, and falls to others when the process ends: its thread cannot be stopped,
        and must not run beside its successor.
        """
        grace = self._grace if timeout is None else validation.seconds(timeout, "timeout")
        with self._process_lock():
            dispatcher = self._dispatcher
        if dispatcher is None:
            return True
        dispatcher.ask_to_stop()
        if self._is_inside():
            return False  # called by a step: waiting for it here would never end
        if not dispatcher.join(grace):
            return False
        with self._process_lock():
            if self._dispatcher is dispatcher:
                self._dispatcher = None
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def run(self, shutdown: threading.Event | None = None, *, handle_signals: bool = False) -> None:
        """Run steps until ``shutdown`` is set, then drain as :meth:`stop` does, and return.

        ``handle_signals``: SIGTERM and SIGINT end it, too; only in the main thread. ``shutdown`` may be set by a signal
        handler: it is polled, never waited on.

        Raises:
            InvalidStateError: it is started already.
            TypeError: an argument of the wrong type.
            ValueError: ``handle_signals`` outside the main thread.
        """
        if shutdown is not None:
            validation.instance(shutdown, threading.Event, "shutdown")
        validation.instance(handle_signals, bool, "handle_signals")
        if handle_signals and threading.current_thread() is not threading.main_thread():
            raise ValueError("handle_signals works in the main thread only; pass a shutdown Event instead")
        self.start()
        with self._process_lock():
            dispatcher = self._dispatcher
        if dispatcher is None:
            return  # stopped by another thread already
        # The drain is inside: a second signal must not kill it.
        with _signals_ending(dispatcher.ask_to_stop, handle_signals):
            try:
                wait_for_shutdown(dispatcher, shutdown)
            finally:
                self.stop()

    def run_until_idle(self, timeout: Duration | None = None, *, wait_for_scheduled: Duration = 0.0) -> RunCounts:
        """Run steps in the calling thread's loop until nothing is left to do here; return what was done.

        Idle is: nothing claimable, nothing running that this started, no retry waiting for its backoff, and nothing
        else due within ``wait_for_scheduled`` seconds; notifications and webhooks included. At ``timeout`` it finishes
        the steps in flight. What other processes run is reported, not waited for. Safe to start every minute.

        Raises:
            InvalidStateError: the runtime is started.
        """
        limit = validation.optional_seconds(timeout, "timeout")
        wait_ms = validation.duration_ms(wait_for_scheduled, "wait_for_scheduled")
        dispatcher, steps = self._install()
        dispatcher.run_until_idle(None if limit is None else time.monotonic() + limit, wait_ms)
        left = self._queue.store.counts().get(self._queue_name, Counts())
        return RunCounts(
            succeeded=steps.ended[TerminalStatus.SUCCEEDED],
            failed=steps.ended[TerminalStatus.FAILED],
            cancelled=steps.ended[TerminalStatus.CANCELLED],
            steps=steps.steps,
            scheduled=left.scheduled,
            elsewhere=left.claimed,
            dead=left.dead,
        )

    # -- the hook of a cancelled waiting run -------------------------------------------------------------------

    def _cancel_job(self, job_id: str) -> Cancellation:
        notice = None if self._notifier is None else LaneClaim(self._notifier.lane_name, _INLINE_LEASE_MS)
        cancellation = self._queue.store.cancel(job_id, self._queue.abandoned_for_cancel(job_id), notice)
        row = cancellation.notification
        if row is not None and self._notifier is not None:
            notifier = self._notifier
            RUNNING.add(row.token, threading.Event())
            try:
                settlement = self._around(lambda: notifier.deliver(self._queue, row))
                [refusal], _ = self._queue.store.settle_and_claim([settlement], ())
                if isinstance(refusal, StorageError):
                    RUNNING.abandon(row.token)
            finally:
                RUNNING.discard(row.token)
        return cancellation


@contextmanager
def _signals_ending(end: Callable[[], None], wanted: bool) -> Iterator[None]:
    """Have SIGTERM and SIGINT call ``end`` while the block runs; it sets a flag and rings, and waits for nothing."""
    if not wanted:
        yield
        return
    before = {each: signal.signal(each, lambda *_: end()) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class WorkflowRuntimeBuilder:
    """The same, option by option: ``WorkflowRuntime.builder(queue, runner, hook).poll_interval(1).build()``."""

    def __init__(
        self,
        queue: Queue,
        runner: StepRunner | StepFunction,
        terminal_hook: TerminalHook | HookFunction | None = None,
    ) -> None:
        self._queue = queue
        self._runner = runner
        self._hook = terminal_hook
        self._options: dict[str, object] = {}

    def _with(self, name: str, value: object) -> Self:
        self._options[name] = value
        return self

    def queue_name(self, value: str) -> Self:
        """Set the queue's name."""
        return self._with("queue_name", value)

    def max_concurrent_steps(self, value: int) -> Self:
        """Set how many steps run at once."""
        return self._with("max_concurrent_steps", value)

    def poll_interval(self, value: Duration) -> Self:
        """Set how long anything stays unseen that nothing announces."""
        return self._with("poll_interval", value)

    def keep_runs(self, value: Duration | None) -> Self:
        """Set how long a run shows after its end."""
        return self._with("keep_runs", value)

    def shutdown_grace(self, value: Duration | None) -> Self:
        """Set how long a stop waits for steps in flight."""
        return self._with("shutdown_grace", value)

    def step_order(self, value: StepOrder) -> Self:
        """Set where a run's next step stands in line."""
        return self._with("step_order", value)

    def build(self) -> WorkflowRuntime:
        """Return the runtime.

        Raises:
            TypeError, ValueError, InvalidNameError: an option is wrong.
        """
        return WorkflowRuntime(self._queue, self._runner, self._hook, **self._options)  # type: ignore[arg-type]  # checked there
