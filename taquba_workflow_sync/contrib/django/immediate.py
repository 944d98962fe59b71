"""Immediate mode: what is submitted is worked on before the call returns, in the thread that made it; for tests.

In that thread, since a test's transaction belongs to its connection, and connections belong to threads.
"""

from __future__ import annotations

import queue as queues
import threading
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final, cast

from taquba_workflow_sync.contrib.django.serving import Within
from taquba_workflow_sync.errors import StepError
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.workflow.client import WorkflowClient
from taquba_workflow_sync.workflow.runtime import WorkflowRuntime
from taquba_workflow_sync.workflow.served import Served
from taquba_workflow_sync.workflow.status import RunState, RunStatus

#: What may give a step or a hook something to do: what puts in line, what ends a run (its hook, whoever waits for it),
#: and what makes room.
_BRINGS_WORK: Final = frozenset(
    {
        "insert", "commit_effects", "send_signal", "requeue", "retry_some", "wake", "group_open", "group_retry", "fire",
        "cancel", "cancel_some", "group_cancel", "settle",
        "pause", "set_limit", "clear_limit",
    }
)  # fmt: skip
#: The stores, by their paths, and the queues of them that loops in this thread work on: a step that submits to one of
#: them leaves it to that loop.
_WORKING: Final[ContextVar[frozenset[tuple[str, str]]]] = ContextVar("taquba immediate", default=frozenset())
_TICK: Final = 0.02


def immediate(queue: Queue, served: Callable[[], Iterable[Served]]) -> Queue:
    """Return a store whose calls return once nothing is left to do for what is served.

    What waits for a moment to come, a signal or a group waits; only a retry's backoff is skipped.
    """
    handle = _ImmediateHandle(queue.handle, lambda: work(queue, served()))
    return Queue(cast(QueueHandle, handle))


class _ImmediateHandle:
    """An open store that works after each call which brings work."""

    def __init__(self, handle: QueueHandle, work_now: Callable[[], None]) -> None:
        self._handle = handle
        self._work_now = work_now

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._handle, name)
        if name not in _BRINGS_WORK:
            return value

        @wraps(value)
        def then_work(*args: Any, **kwargs: Any) -> Any:
            answer = value(*args, **kwargs)
            self._work_now()
            return answer

        return then_work


class _Call:
    """One call of user code, asked for by a thread of the runtime, made by the thread that waits for it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._done = threading.Event()
        self._answer: Any = None
        self._error: BaseException | None = None

    def make(self) -> None:
        """Make the call.

        Raises:
            KeyboardInterrupt: the user ends it; the step has failed then.
        """
        try:
            self._answer = self._call()
        except KeyboardInterrupt as error:
            self._error = StepError.permanent(f"KeyboardInterrupt: {error}")
            raise
        except BaseException as error:
            self._error = error
            if isinstance(error.__cause__, KeyboardInterrupt):
                raise error.__cause__ from None
        finally:
            self._done.set()

    def answer(self) -> Any:
        """Wait for the call, and return or raise what it did."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._answer


def work(queue: Queue, served: Iterable[Served]) -> None:
    """Run steps until nothing is left to do, their code in this thread; leave to a loop in it what that works on.

    Raises:
        KeyboardInterrupt: a step was interrupted, which has failed by that.
        StorageError: the store cannot be worked on.
    """
    working = _WORKING.get()
    chosen = {(queue.address, each.service().queue_name): each for each in served}
    mine = {name: each for name, each in chosen.items() if name not in working}
    if not mine:
        return
    token = _WORKING.set(working | mine.keys())
    try:
        inbox: queues.SimpleQueue[_Call | None] = queues.SimpleQueue()
        _loop(queue, [Within(each, lambda function: _by(inbox, function)) for each in mine.values()], inbox)
    finally:
        _WORKING.reset(token)


def _by(inbox: queues.SimpleQueue[_Call | None], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that has whoever reads the inbox call it."""

    @wraps(function)
    def elsewhere(*args: Any, **kwargs: Any) -> Any:
        call = _Call(lambda: function(*args, **kwargs))
        inbox.put(call)
        return call.answer()

    return elsewhere


def _loop(queue: Queue, served: list[Within], inbox: queues.SimpleQueue[_Call | None]) -> None:
    runtime = WorkflowRuntime(queue, served, max_concurrent_steps=1)
    clients = [WorkflowClient(queue, queue_name=each.service().queue_name) for each in served]
    errors: list[BaseException] = []

    def body() -> None:
        try:
            runtime.run_until_idle()
        except BaseException as error:
            errors.append(error)
        finally:
            inbox.put(None)

    thread = threading.Thread(target=body, name="taquba-immediate")
    thread.start()
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            call = inbox.get(timeout=_TICK)
        except queues.Empty:
            _skip_backoffs(clients)
            continue
        if call is None:
            break
        try:
            call.make()
        except KeyboardInterrupt as error:
            interrupt = error
    thread.join()
    if interrupt is not None:
        raise interrupt
    if errors:
        raise errors[0]


def _skip_backoffs(clients: list[WorkflowClient]) -> None:
    for client in clients:
        for run in waiting_for_time(client):
            if run.attempts > 0:
                client.wake(run.run_id)


def waiting_for_time(client: WorkflowClient) -> list[RunStatus]:
    """Return the runs of a queue that wait for a moment."""
    found: list[RunStatus] = []
    cursor: str | None = None
    while True:
        page = client.list_runs(RunState.PENDING, limit=1000, cursor=cursor)
        found += [run for run in page.runs if run.waiting_for == "time"]
        cursor = page.next_cursor
        if cursor is None:
            return found
