"""The runtime: a client that also runs the steps, and tells its hook how runs ended."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NoReturn, Self, cast

from taquba_workflow_sync.errors import InvalidStateError, TaqubaError
from taquba_workflow_sync.outcome import TerminalStatus
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.dispatch.dispatcher import Dispatcher
from taquba_workflow_sync.queue.dispatch.lane import Lane
from taquba_workflow_sync.queue.dispatch.pool import Pool
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.queue.running import RUNNING
from taquba_workflow_sync.queue.worker import wait_for_shutdown, worker_lane
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.hooks import Hook
from taquba_workflow_sync.workflow.new_run import DEFAULT_KEEP, DEFAULT_QUEUE_NAME
from taquba_workflow_sync.workflow.scheduling import Scheduling
from taquba_workflow_sync.workflow.served import Runner, Service, services_of
from taquba_workflow_sync.workflow.serving import Fire, Serving, fire_all
from taquba_workflow_sync.workflow.shutdown import signals_ending
from taquba_workflow_sync.workflow.spec import StepOrder
from taquba_workflow_sync.workflow.status import RunCounts
from taquba_workflow_sync.workflow.steps import StepLane
from taquba_workflow_sync.workflow.webhook_hook import WebhookTerminalHook

_WEBHOOK_THREADS = 4


class WorkflowRuntime(WorkflowClient):
    """Runs the steps of one queue's runs on threads of this process. Several processes may run the same queue.

    Of several flows it runs each one's queue, all of them on the same threads, and is a client of none.

    Use it as a context manager, or :meth:`start` and :meth:`stop`; :meth:`run` for a worker process;
    :meth:`run_until_idle` for a cron job.
    """

    def __init__(
        self,
        queue: Queue,
        runner: Runner,
        terminal_hook: Hook | None = None,
        *,
        queue_name: str = DEFAULT_QUEUE_NAME,
        max_concurrent_steps: int = 16,
        poll_interval: Duration = 0.25,
        keep_runs: Duration | None = DEFAULT_KEEP,
        shutdown_grace: Duration | None = None,
        step_order: StepOrder = StepOrder.FAIR,
    ) -> None:
        """Bind a runner, and a hook if one is to be told of ended runs, to a queue; nothing starts yet.

        ``runner``: a runner, a flow or several flows. A flow serves the queue of its name and keeps its runs as it
        says; ``terminal_hook`` is told of those that have no hook of their own.

        ``max_concurrent_steps``: threads, which hooks share. ``poll_interval``: how long anything stays unseen that
        nothing announces. ``shutdown_grace``: how long :meth:`stop` waits for steps in flight; None: as long as they
        take. ``keep_runs``: as for :class:`WorkflowClient`.

        Raises:
            TypeError, ValueError, InvalidNameError: an argument is wrong.
        """
        services = services_of(runner, terminal_hook, queue_name, keep_runs)
        self._names: tuple[str, ...] = tuple(each.queue_name for each in services)
        super().__init__(queue, queue_name=services[0].queue_name, keep_runs=services[0].keep_runs)
        self._size = validation.integer(max_concurrent_steps, "max_concurrent_steps", least=1, most=1000)
        self._poll_interval = validation.seconds(poll_interval, "poll_interval", least=1)
        self._grace = validation.optional_seconds(shutdown_grace, "shutdown_grace")
        if not isinstance(step_order, str):
            raise TypeError(f"step_order must be a StepOrder, not {type(step_order).__name__}")
        if step_order not in tuple(StepOrder):
            raise ValueError(f"step_order is {validation.shown(step_order)}; it must be one of {', '.join(StepOrder)}")
        self._keeps_place = step_order == StepOrder.OLDEST_RUN_FIRST
        self._queue = queue
        self._services = services
        self._served = [Serving(self._handle, each, self, keeps_place=self._keeps_place) for each in services]
        self._fires: list[Fire] = []
        for each, serving in zip(services, self._served, strict=True):
            client = WorkflowClient(queue, queue_name=each.queue_name, keep_runs=each.keep_runs)
            client._endings = serving.endings
            self._fires.append(client._scheduling.fire)
        self._endings = self._served[0].endings
        if len(services) > 1:
            self._scheduling = cast(Scheduling, _OfSeveral(self._names))
        self._webhooks = terminal_hook if isinstance(terminal_hook, WebhookTerminalHook) else None
        if self._webhooks is not None and self._webhooks.queue is not queue:
            raise ValueError(
                "the WebhookTerminalHook writes to another Queue than the runtime's; give it the same Queue object"
            )
        self._dispatcher: Dispatcher | None = None
        self._steps: list[StepLane] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()

    @property
    def ended_runs(self) -> int:
        """How many runs have ended here since it was started last."""
        return sum(sum(each.ended.values()) for each in self._steps)

    @property
    def dead_letters(self) -> int:
        """How many steps have become dead letters here since it was started last."""
        return sum(each.dead_letters for each in self._steps)

    def resize(self, max_concurrent_steps: int) -> None:
        """Have the next start make so many threads.

        Raises:
            TypeError, ValueError: it is no number of threads.
        """
        self._size = validation.integer(max_concurrent_steps, "max_concurrent_steps", least=1, most=1000)

    @property
    def services(self) -> tuple[Service, ...]:
        """What it serves, a queue each."""
        return tuple(self._services)

    @property
    def queue_names(self) -> tuple[str, ...]:
        """The queues it serves."""
        return self._names

    @property
    def _queue_name(self) -> str:
        if len(self._names) > 1:
            raise _of_several(self._names)
        return self._name

    @_queue_name.setter
    def _queue_name(self, name: str) -> None:
        self._name = name

    @staticmethod
    def builder(
        queue: Queue,
        runner: Runner,
        terminal_hook: Hook | None = None,
    ) -> WorkflowRuntimeBuilder:
        """Return a builder with a chainable method for each option."""
        return WorkflowRuntimeBuilder(queue, runner, terminal_hook)

    def _make_dispatcher(self) -> tuple[Dispatcher, list[StepLane]]:
        steps: list[StepLane] = []
        hooks: list[Lane] = []
        for serving in self._served:
            lane_of_steps, lanes_of_hook = serving.lanes()
            steps.append(lane_of_steps)
            hooks += lanes_of_hook
        pools = [Pool("step", [*hooks, *(each.lane for each in steps)], self._size, ranked=len(hooks))]
        if self._webhooks is not None:
            # Threads of their own: a receiver that answers slowly must not take a step's.
            lane = worker_lane(self._handle, self._webhooks.target_queue, self._webhooks.worker, self)
            pools.append(Pool("webhook", [lane], _WEBHOOK_THREADS))
        dispatcher = Dispatcher(
            self._handle,
            pools,
            poll_interval=self._poll_interval,
            name=self._served[0].queue_name[:40],
            fire=fire_all(self._fires),
        )
        return dispatcher, steps

    def _process_lock(self) -> threading.Lock:
        if self._pid != os.getpid():
            # A forked child: the parent's dispatcher does not run here, and its lock may have been held.
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._dispatcher = None
        return self._lock

    def _install(self) -> tuple[Dispatcher, list[StepLane]]:
        if not threading.main_thread().is_alive():
            raise InvalidStateError("the interpreter is exiting, no step can run any more; do this before its end")
        for service in self._services:  # outside of the lock: what it asks is the user's
            if service.prepare is not None:
                service.prepare(self._queue)
            if service.graph is not None:
                stored = self._handle.graphs().get(service.queue_name)
                self._handle.put_graph(service.queue_name, service.graph(stored))
        with self._process_lock():
            if self._dispatcher is not None and self._dispatcher.is_running:
                raise InvalidStateError("the runtime is started already; stop it first")
            for serving in self._served:
                serving.endings.register()
            dispatcher, steps = self._make_dispatcher()
            self._handle.keep_open_for(dispatcher)
            self._dispatcher, self._steps = dispatcher, steps
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

    @property
    def error(self) -> TaqubaError | None:
        """What has ended its work by itself, as a ``StoreMovedError`` does; None: it works, or was stopped."""
        with self._process_lock():
            return None if self._dispatcher is None else self._dispatcher.error

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
            StoreMovedError: the store was moved; nothing runs any more.
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
        if dispatcher.error is not None:
            raise dispatcher.error

    def run_until_idle(self, timeout: Duration | None = None, *, wait_for_scheduled: Duration = 0.0) -> RunCounts:
        """Run steps until nothing is left to do here, while the caller waits; return what was done.

        First it fires, once, what is due of the queue's schedules.

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
        left = [self._handle.counts(each.queue_name) for each in self._served]
        return RunCounts(
            succeeded=sum(each.ended[TerminalStatus.SUCCEEDED] for each in steps),
            failed=sum(each.ended[TerminalStatus.FAILED] for each in steps),
            cancelled=sum(each.ended[TerminalStatus.CANCELLED] for each in steps),
            steps=sum(each.steps for each in steps),
            scheduled=sum(each.scheduled for each in left),
            elsewhere=sum(each.claimed for each in left),
            dead=sum(each.dead for each in left),
        )


def _of_several(names: Sequence[str]) -> InvalidStateError:
    return InvalidStateError(
        f"this runtime serves several flows ({', '.join(names)}) and is a client of none; ask the flows themselves,"
        " such as flow.submit(...) and flow.handle(run_id)"
    )


class _OfSeveral:
    """What a runtime of several flows has in place of one queue's schedules."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __getattr__(self, name: str) -> NoReturn:
        raise _of_several(self._names)


class WorkflowRuntimeBuilder:
    """The same, option by option: ``WorkflowRuntime.builder(queue, runner, hook).poll_interval(1).build()``."""

    def __init__(
        self,
        queue: Queue,
        runner: Runner,
        terminal_hook: Hook | None = None,
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
