"""The runtime: a client that also runs the steps, and tells its hook how runs ended."""

from __future__ import annotations

import os
import threading
import time
from datetime import timedelta
from types import TracebackType
from typing import Self

from taquba_workflow_sync.errors import InvalidStateError
from taquba_workflow_sync.outcome import TerminalStatus
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.dispatch.dispatcher import Dispatcher
from taquba_workflow_sync.queue.dispatch.pool import Pool
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.queue.running import RUNNING, Inside
from taquba_workflow_sync.queue.worker import wait_for_shutdown, worker_lane
from taquba_workflow_sync.workflow.client import DEFAULT_QUEUE_NAME, WorkflowClient
from taquba_workflow_sync.workflow.endings import Endings
from taquba_workflow_sync.workflow.hooks import (
    LANE_SUFFIX,
    HookFunction,
    NoopTerminalHook,
    Notifier,
    TerminalHook,
)
from taquba_workflow_sync.workflow.runner import StepFunction, StepRunner, step_function
from taquba_workflow_sync.workflow.shutdown import signals_ending
from taquba_workflow_sync.workflow.spec import StepOrder
from taquba_workflow_sync.workflow.status import RunCounts
from taquba_workflow_sync.workflow.steps import StepLane
from taquba_workflow_sync.workflow.webhook_hook import WebhookTerminalHook

_WEBHOOK_THREADS = 4


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
        self._inside = Inside(self, self._handle.address, queue_name)
        self._notifier: Notifier | None = None
        if terminal_hook is not None and not isinstance(terminal_hook, NoopTerminalHook):
            lane = queue_name + LANE_SUFFIX
            self._notifier = Notifier(self._handle, terminal_hook, lane, self._inside)
            self._endings = Endings(self._handle, queue_name, lane, self._notifier.deliver)
        self._webhooks = terminal_hook if isinstance(terminal_hook, WebhookTerminalHook) else None
        if self._webhooks is not None and self._webhooks.queue is not queue:
            raise ValueError(
                "the WebhookTerminalHook writes to another Queue than the runtime's; give it the same Queue object"
            )
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

    def _make_dispatcher(self) -> tuple[Dispatcher, StepLane]:
        steps = StepLane(
            self._handle, self._queue_name, self._run_step, keeps_place=self._keeps_place, inside=self._inside
        )
        lanes = [steps.lane]
        if self._notifier is not None:
            lanes.insert(0, self._notifier.lane(lambda: sum(steps.ended.values())))
        pools = [Pool("step", lanes, self._size)]
        if self._webhooks is not None:
            # Threads of their own: a receiver that answers slowly must not take a step's.
            lane = worker_lane(self._handle, self._webhooks.target_queue, self._webhooks.worker, self)
            pools.append(Pool("webhook", [lane], _WEBHOOK_THREADS))
        dispatcher = Dispatcher(self._handle, pools, poll_interval=self._poll_interval, name=self._queue_name[:40])
        return dispatcher, steps

    def _process_lock(self) -> threading.Lock:
        if self._pid != os.getpid():
            # A forked child: the parent's dispatcher does not run here, and its lock may have been held.
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._dispatcher = None
        return self._lock

    def _install(self) -> tuple[Dispatcher, StepLane]:
        if not threading.main_thread().is_alive():
            raise InvalidStateError("the interpreter is exiting, no step can run any more; do this before its end")
        with self._process_lock():
            if self._dispatcher is not None and self._dispatcher.is_running:
                raise InvalidStateError("the runtime is started already; stop it first")
            self._endings.register()
            dispatcher, steps = self._make_dispatcher()
            self._handle.keep_open_for(dispatcher)
            self._dispatcher = dispatcher
            return dispatcher, steps

    def start(self) -> None:
        """Start to run steps on threads of this process; returns at once.

        The threads are daemons: a forgotten idle runtime does not keep the interpreter from exiting.

        Raises:
            InvalidStateError: it is started already, or the interpreter is exiting.
            RuntimeError: no thread can be started.
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
        if any(inside.owner is self for inside in RUNNING.here()):
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
        with signals_ending(dispatcher.ask_to_stop, handle_signals):
            try:
                wait_for_shutdown(dispatcher, shutdown)
            finally:
                self.stop()

    def run_until_idle(self, timeout: Duration | None = None, *, wait_for_scheduled: Duration = 0.0) -> RunCounts:
        """Run steps until nothing is left to do here, while the caller waits; return what was done.

        Idle is: nothing claimable, nothing running that this started, no retry waiting for its backoff, and nothing
        else due within ``wait_for_scheduled`` seconds; notifications and webhooks included. At ``timeout`` it finishes
        the steps in flight. What other processes run is reported, not waited for. Safe to start every minute.

        An interrupt of the wait (Ctrl-C) has what runs settled, and goes on then; a second one goes on at once.

        Raises:
            InvalidStateError: the runtime is started, also by the call that a signal handler interrupts; or this is
                called from a step or hook, or while the interpreter exits.
            StorageError: the store could not be worked on: it kept failing, or part of it cannot be read. What could
                be done has been done.
        """
        limit = validation.optional_seconds(timeout, "timeout")
        wait_ms = validation.duration_ms(wait_for_scheduled, "wait_for_scheduled")
        if RUNNING.here():
            raise InvalidStateError(
                "run_until_idle was called from a step or hook, which it would wait for; use submit"
            )
        dispatcher, steps = self._install()
        dispatcher.start_until_idle(None if limit is None else time.monotonic() + limit, wait_ms)
        try:
            dispatcher.join(None)
        except BaseException:
            dispatcher.ask_to_stop()
            dispatcher.join(None)
            raise
        if dispatcher.error is not None:
            raise dispatcher.error
        left = self._handle.counts(self._queue_name)
        return RunCounts(
            succeeded=steps.ended[TerminalStatus.SUCCEEDED],
            failed=steps.ended[TerminalStatus.FAILED],
            cancelled=steps.ended[TerminalStatus.CANCELLED],
            steps=steps.steps,
            scheduled=left.scheduled,
            elsewhere=left.claimed,
            dead=left.dead,
        )


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
