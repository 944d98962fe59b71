"""Workers of bare queues: a function or object that processes jobs, and the loop that runs it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

from taquba_workflow_sync.errors import ClaimLostError, TaqubaError
from taquba_workflow_sync.failpoints import between
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.dispatch.dispatcher import Dispatcher
from taquba_workflow_sync.queue.dispatch.lane import Execution, Lane
from taquba_workflow_sync.queue.dispatch.pool import Pool
from taquba_workflow_sync.queue.dispatch.user_code import calling
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.policy import after_exception
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.queue.records import Claim, JobRecord, record_of_claim
from taquba_workflow_sync.queue.running import Inside
from taquba_workflow_sync.queue.tracebacks import trace_of
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.settlement import Ack, Action, DeadLetter, Nack, Settlement

_log = logging.getLogger(__name__)

# A signal handler may set the event that the caller passed. Waiting inside an Event that its handler sets deadlocks,
# so `is_set` is polled and the wait is on a primitive of our own.
_SHUTDOWN_POLL: Final = 0.05


@runtime_checkable
class Worker(Protocol):
    """Processes jobs: returning acks, ``PermanentFailure`` dead-letters, any other exception is retried."""

    def process(self, job: JobRecord, claim: Claim) -> None:
        """Do the job. Called by several threads at once if ``concurrency`` is more than 1."""
        ...


WorkerFunction = Callable[[JobRecord, Claim], None]


def worker_lane(handle: QueueHandle, queue_name: str, worker: Worker | WorkerFunction, owner: object) -> Lane:
    """Return the lane that runs ``worker`` on the jobs of a queue; ``owner`` is whose threads it runs on."""
    process = worker.process if isinstance(worker, Worker) else worker
    if not callable(process):
        raise TypeError(f"worker must be a function or have a method process, not {type(worker).__name__}")
    process = calling(Inside(owner, handle.address, queue_name), between(handle.failpoint, "worker", process))
    config = handle.config_of(queue_name)

    def execute(execution: Execution) -> Settlement:
        row = execution.row
        try:
            process(record_of_claim(row), Claim(record_of_claim(row), row.token, execution.cancel_token))
        except BaseException as error:
            action = after_exception(config, error, attempts=row.attempts, max_attempts=row.max_attempts)
            _log_failure(row, action, error)
            return Settlement(row.id, row.token, action, trace=trace_of(error))
        return Settlement(row.id, row.token, Ack())

    return Lane(queue_name, config.lease_ms, execute, log_refusal)


def _log_failure(row: ClaimedRow, action: Action, error: BaseException) -> None:
    extra = {"job_id": row.id, "queue": row.queue, "attempt": row.attempts}
    if isinstance(action, DeadLetter):
        _log.error("job %s is a dead letter: %s", row.id, type(error).__name__, extra=extra, exc_info=error)
    elif isinstance(action, Nack):
        _log.warning("job %s failed and is tried again: %s", row.id, type(error).__name__, extra=extra)


def log_refusal(execution: Execution, settlement: Settlement, refusal: TaqubaError | None) -> Settlement | None:
    """Log a settlement that was fenced off; nothing more can be done for it."""
    if refusal is not None and not (isinstance(refusal, ClaimLostError) and execution.is_repeated):
        row = execution.row
        _log.warning(
            "job %s was not settled: %s",
            row.id,
            refusal,
            extra={"job_id": row.id, "queue": row.queue, "attempt": row.attempts},
        )
    return None


def run_worker(
    queue: Queue,
    queue_name: str,
    worker: Worker | WorkerFunction,
    *,
    concurrency: int = 1,
    poll_interval: Duration = 0.25,
    shutdown: threading.Event | None = None,
) -> None:
    """Work on a queue's jobs until ``shutdown`` is set, then finish those in flight and return.

    Jobs run on ``concurrency`` threads; their leases are renewed while they run. Without ``shutdown`` it runs until
    interrupted: on KeyboardInterrupt what runs is finished before the interrupt goes on.

    Raises:
        StoreMovedError: the store was moved; nothing runs any more.
        TypeError, ValueError, InvalidNameError: an argument is wrong.
    """
    validation.instance(queue, Queue, "queue")
    validation.queue_name(queue_name)
    size = validation.integer(concurrency, "concurrency", least=1, most=1000)
    poll = validation.seconds(poll_interval, "poll_interval", least=1)
    if shutdown is not None:
        validation.instance(shutdown, threading.Event, "shutdown")
    pool = Pool(queue_name[:40], [worker_lane(queue.handle, queue_name, worker, queue)], size)
    dispatcher = Dispatcher(queue.handle, [pool], poll_interval=poll, name=f"worker-{queue_name[:40]}")
    queue.handle.keep_open_for(dispatcher)
    try:
        dispatcher.start()
        wait_for_shutdown(dispatcher, shutdown)
    finally:
        dispatcher.ask_to_stop()
        dispatcher.join(None)
    if dispatcher.error is not None:
        raise dispatcher.error


def wait_for_shutdown(dispatcher: Dispatcher, shutdown: threading.Event | None) -> None:
    """Block until ``shutdown`` is set, or the dispatcher was told to stop, or ended by itself."""
    while not dispatcher.is_asked_to_stop and not (shutdown is not None and shutdown.is_set()):
        if dispatcher.join(_SHUTDOWN_POLL):
            return
