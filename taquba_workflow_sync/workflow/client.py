"""Everything that needs no runner: submit, look, wait, cancel, retry; for web processes and scripts."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NoReturn

from taquba_workflow_sync.errors import (
    InvalidRunIdError,
    InvalidStateError,
    JobNotFoundError,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
)
from taquba_workflow_sync.ids import new_ulid
from taquba_workflow_sync.outcome import RunOutcome, TerminalStatus
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.queue.effects import Site, checked_effects
from taquba_workflow_sync.queue.own_handle import checked_given
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.queue.records import KeyValuePage
from taquba_workflow_sync.storage.port.effects import Insert
from taquba_workflow_sync.storage.port.job import JobRow, NewJob
from taquba_workflow_sync.storage.port.memo import MemoScope
from taquba_workflow_sync.storage.port.own import Given
from taquba_workflow_sync.workflow.endings import Endings
from taquba_workflow_sync.workflow.graph import DrawnQueue
from taquba_workflow_sync.workflow.group_calls import GroupCalls
from taquba_workflow_sync.workflow.instruments import INSTRUMENTS, sending
from taquba_workflow_sync.workflow.limit import LimitedQueue
from taquba_workflow_sync.workflow.new_run import (
    DEFAULT_KEEP,
    DEFAULT_QUEUE_NAME,
    LANE_SUFFIX,
    checked_queue_name,
    new_run,
)
from taquba_workflow_sync.workflow.operators import RunOperators, checked_reason
from taquba_workflow_sync.workflow.schedule_calls import ScheduleCalls
from taquba_workflow_sync.workflow.scheduling import Scheduling
from taquba_workflow_sync.workflow.signal_calls import SignalCalls, refuse_effects
from taquba_workflow_sync.workflow.spec import RunSpec
from taquba_workflow_sync.workflow.status import RunStatus, outcome_of, status_of
from taquba_workflow_sync.workflow.waiting import refuse_endless_wait, wait_for_end


@dataclass(frozen=True, slots=True, eq=False)
class RunHandle:
    """One submitted run, bound to its job: a later run of the same name is another one.

    ``newly_submitted`` is False if the submit was answered by a run that was there already.
    """

    run_id: str
    first_job_id: str
    newly_submitted: bool
    _client: WorkflowClient

    @property
    def queue_name(self) -> str:
        """The queue that the run was submitted to."""
        return self._client.queue_name

    def wait(self, timeout: Duration | None = None) -> RunOutcome:
        """Block until the run has ended, in whichever process, and return how.

        Raises:
            TimeoutError: it has not ended within ``timeout`` seconds; it goes on.
            RunNotFoundError: it ended, and its row is past its retention.
            RuntimeError: called without a timeout from a step or hook of the same runtime.
        """
        return self._client._wait_for(self.run_id, self.first_job_id, timeout)

    def result(self, timeout: Duration | None = None) -> bytes:
        """Block until the run has ended and return its result.

        Raises:
            RunFailedError, RunCancelledError: it ended so; ``.outcome`` tells more.
            TimeoutError, RunNotFoundError, RuntimeError: as for :meth:`wait`.
        """
        outcome = self.wait(timeout)
        if outcome.status is TerminalStatus.SUCCEEDED:
            return outcome.result or b""
        if outcome.status is TerminalStatus.FAILED:
            raise RunFailedError(f"run {self.run_id!r} failed: {outcome.error}", outcome)
        why = f": {outcome.error}" if outcome.error else ""
        raise RunCancelledError(f"run {self.run_id!r} was cancelled{why}", outcome)

    def status(self) -> RunStatus | None:
        """Return the run as it is now, or None once it is kept no longer."""
        return self._client._status_of(self._client._handle.get(self.first_job_id, with_payload=False))

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a RunHandle belongs to an open store and cannot be pickled; pickle its run_id, {self.run_id!r}, and ask a"
            " WorkflowClient for it there"
        )

    def cancel(self, *, reason: str | None = None) -> bool:
        """Cancel the run; see :meth:`WorkflowClient.cancel`."""
        return self._client._endings.cancel(self.first_job_id, checked_reason(reason))

    def retry(self, *, payload: bytes | None = None, memo: str = "keep") -> None:
        """Have the run, which failed, go on at the step that failed; see :meth:`WorkflowClient.retry`.

        Raises:
            RunNotFoundError: it is stored no more.
            InvalidStateError: it has not failed, or its name is that of an active run.
            TypeError, ValueError, PayloadTooLargeError: an argument is wrong; nothing was written.
        """
        self._client._retry(self.run_id, self.first_job_id, payload, memo)


class WorkflowClient(RunOperators, SignalCalls, ScheduleCalls, LimitedQueue, GroupCalls, DrawnQueue):
    """Submits runs to a queue and watches over them; needs no runner, starts no thread."""

    def __init__(
        self,
        queue: Queue,
        *,
        queue_name: str = DEFAULT_QUEUE_NAME,
        keep_runs: Duration | None = DEFAULT_KEEP,
    ) -> None:
        """Bind to a queue of a store.

        ``keep_runs``: how long a run shows after its end, frozen on it at submit; None: not at all.

        Raises:
            TypeError, ValueError, InvalidNameError: an argument is wrong.
        """
        validation.instance(queue, Queue, "queue")
        checked_queue_name(queue_name)
        self._handle = queue.handle
        self._queue = queue
        self._queue_name = queue_name
        self._keep_ms = None if keep_runs is None else validation.duration_ms(keep_runs, "keep_runs")
        self._endings = Endings(self._handle, queue_name)
        self._scheduling = Scheduling(
            self._handle, queue_name, self._keep_ms, self._job_of_schedule, lambda: self._endings.register()
        )

    @property
    def queue(self) -> Queue:
        """The open store this client works on."""
        return self._queue

    @property
    def queue_name(self) -> str:
        """The queue this client submits to."""
        return self._queue_name

    def submit(
        self, spec: RunSpec | None = None, *, connection: Any = None, notify: bool = False, **fields: Any
    ) -> RunHandle:
        """Submit a run, given as a :class:`RunSpec` or by its fields; durable on return.

        Safe to repeat after any error when it has a ``run_id``: the same name with the same input is the same run.

        With ``connection`` (of psycopg, Django or SQLAlchemy, to the database of a store on PostgreSQL) the run exists
        exactly if the transaction that is open there commits; on return nothing is durable yet. Where none is open and
        each statement commits, it is one of its own. It is found within a second of the commit, sooner with
        ``notify``, which costs that commit. Where another open transaction submits the same ``run_id`` it waits for
        that, as any unique index does, for as long as the connection's own timeouts let it.

        Raises:
            StorageError: another program's open transaction submits that ``run_id``, and has not ended in 2 s.
            StoreMismatchError: ``connection`` leads to another database.
            psycopg.Error: from ``connection``, as the server raised it; its transaction is the caller's to end.
            InputMismatchError: the name is taken by a run with another input.
            EffectConflictError: an expectation of its effects does not hold; nothing was written.
            QueueFullError: it would be a new run, and as many wait as ``max_waiting`` of a limit allows.
            TypeError, ValueError, InvalidRunIdError, ReservedHeaderError, PayloadTooLargeError: nothing was written.
        """
        if spec is None:
            spec = RunSpec(**fields)
        elif fields:
            raise TypeError("submit takes a RunSpec or the fields of one, not both")
        given = checked_given(connection, notify)
        if given is not None:
            return self._submit_in(given, spec)
        return self.submit_many([spec])[0]

    def _submit_in(self, given: Given, spec: RunSpec) -> RunHandle:
        with ExitStack() as stack:
            (sent,) = sending(self._queue_name, [spec], stack) if INSTRUMENTS.active else [spec]
            insert = self._insert_of(sent)
            refuse_effects(insert)
            assert insert.job.run is not None
            self._endings.register()
            answer = self._handle.insert_in(given, insert.job)
            return RunHandle(insert.job.run.run_id, answer.job_id, answer.is_new, self)

    def submit_many(self, specs: Iterable[RunSpec]) -> list[RunHandle]:
        """Submit many runs in one commit, all or none, in order.

        Raises:
            InputMismatchError, EffectConflictError, QueueFullError, TypeError, PayloadTooLargeError: as for
                :meth:`submit`; nothing was written.
        """
        if isinstance(specs, RunSpec):
            raise TypeError("submit_many takes several RunSpecs; use submit for one")
        if not INSTRUMENTS.active:
            return self._submit(specs)
        with ExitStack() as stack:
            return self._submit(sending(self._queue_name, list(specs), stack))

    def _submit(self, specs: Iterable[RunSpec]) -> list[RunHandle]:
        inserts = [self._insert_of(spec) for spec in specs]
        jobs = [insert.job for insert in inserts]
        self._endings.register()
        if any(insert.effects for insert in inserts):
            answers = self._handle.commit_effects(inserts)
        else:
            answers = self._handle.insert(jobs)
        return [
            RunHandle(job.run.run_id, answer.job_id, answer.is_new, self)
            for job, answer in zip(jobs, answers, strict=True)
            if job.run is not None
        ]

    def _job_of_schedule(self, spec: RunSpec) -> NewJob:
        return new_run(self._handle, spec, self._queue_name, self._keep_ms, new_ulid())

    def _insert_of(self, spec: RunSpec) -> Insert:
        job = new_run(self._handle, spec, self._queue_name, self._keep_ms, new_ulid(), is_bounded=True)
        if spec.effects is None:
            return Insert(job)
        return Insert(job, checked_effects(spec.effects).at(Site(self._handle)))

    def _status_of(self, row: JobRow | None) -> RunStatus | None:
        return status_of(row) if row is not None and row.is_visible else None

    def status(self, run_id: str) -> RunStatus | None:
        """Return the newest run of that name, or None if there is none (any more)."""
        return self._status_of(self._find(run_id))

    def outcome(self, run_id: str) -> RunOutcome | None:
        """Return how the newest run of that name ended, or None if it has not, or is not kept."""
        row = self._find(run_id)
        if row is None or row.finished_ms is None or not row.is_visible:
            return None
        whole = self._handle.get(row.id)
        return None if whole is None or whole.finished_ms is None else outcome_of(whole)

    def memo(self, run_id: str, *, scope: str = "step", limit: int = 100, cursor: str | None = None) -> KeyValuePage:
        """Return a page of what the newest run of that name has noted, in the order it was written.

        ``scope``: ``"step"``, the current step's memo (that of the step that failed, for a failed run), or ``"run"``.
        ``cursor`` is a page's ``next_cursor``.

        Raises:
            RunNotFoundError: there is no run of that name (any more).
            TypeError, ValueError: an argument is wrong.
        """
        if not isinstance(scope, str):
            raise TypeError(f"scope must be a str, not {type(scope).__name__}")
        if scope not in tuple(MemoScope):
            raise ValueError(f"scope is {validation.shown(scope)}; it must be one of {', '.join(MemoScope)}")
        row = self._find_visible(run_id)
        return KeyValuePage(*self._handle.memo_page(row.id, MemoScope(scope), limit, cursor))

    def wait(self, run_id: str, timeout: Duration | None = None) -> RunOutcome:
        """Block until the newest run of that name has ended, in whichever process, and return how.

        Raises:
            RunNotFoundError: there is no run of that name, or its row went while it was waited for.
            TimeoutError: it has not ended within ``timeout`` seconds; it goes on.
            RuntimeError: called without a timeout from a step or hook of the same runtime.
        """
        row = self._find(run_id)
        if row is None:
            raise RunNotFoundError(f"queue {self._queue_name!r} has no run {run_id!r}")
        return self._wait_for(run_id, row.id, timeout)

    def _wait_for(self, run_id: str, job_id: str, timeout: Duration | None) -> RunOutcome:
        limit = validation.optional_seconds(timeout, "timeout")
        if limit is None:
            refuse_endless_wait(self._handle, self._queue_name)
        return wait_for_end(self._handle, run_id, job_id, limit)

    def cancel(self, run_id: str, *, reason: str | None = None, connection: Any = None, notify: bool = False) -> bool:
        """Cancel the newest run of that name, from any process; durable on return.

        A waiting run ends at once; a running step sees its token set within a quarter of a second, and the run ends as
        cancelled when the step returns, whatever it returned. Its error is then the ``reason``, also where it ends
        later (None without one; a runner that ends it by ``Cancel`` gives its own); a repeat does not change it. True
        if this started or found a cancellation; False for a run that is unknown or has ended.

        With ``connection`` it is cancelled exactly if the transaction that is open there commits; see :meth:`submit`.

        Raises:
            StoreMismatchError: ``connection`` leads to another database.
            TypeError, ValueError, InvalidRunIdError: an argument is wrong.
        """
        checked = checked_reason(reason)
        given = checked_given(connection, notify)
        if given is not None:
            validation.identifier(run_id, "run_id", InvalidRunIdError)
            self._endings.register()
            return self._handle.cancel_in(given, self._queue_name, run_id, checked)
        row = self._find(run_id)
        return row is not None and row.finished_ms is None and self._endings.cancel(row.id, checked)

    def retry(self, run_id: str, *, payload: bytes | None = None, memo: str = "keep") -> None:
        """Have a failed run go on at the step that failed, with all its attempts; durable on return.

        ``payload`` takes the place of what the step had. ``memo="clear"``: what the step and the run have noted is
        forgotten, so the step does everything again; ``"keep"``: it sees what it saw.

        Raises:
            RunNotFoundError: there is no run of that name (any more).
            InvalidStateError: it has not failed, or is active.
            TypeError, ValueError, PayloadTooLargeError: an argument is wrong; nothing was written.
        """
        self._check_retry(payload, memo)
        row = self._find_visible(run_id)
        if row.finished_ms is None:
            raise InvalidStateError(f"run {run_id!r} is active; only a failed run can be retried")
        self._retry(run_id, row.id, payload, memo)

    def _check_retry(self, payload: object, memo: object) -> None:
        if payload is not None:
            validation.payload(payload, self._handle.max_payload_bytes)
        if not isinstance(memo, str):
            raise TypeError(f"memo must be a str, not {type(memo).__name__}")
        if memo not in ("keep", "clear"):
            raise ValueError(f"memo is {validation.shown(memo)}; it must be 'keep' or 'clear'")

    def _retry(self, run_id: str, job_id: str, payload: bytes | None, memo: str) -> None:
        self._check_retry(payload, memo)
        try:
            self._handle.requeue(job_id, failed_run=True, payload=payload, clears_memo=memo == "clear")
        except JobNotFoundError:
            raise RunNotFoundError(f"run {run_id!r} is not stored any more") from None

    def wake(self, run_id: str) -> bool:
        """Have the newest run of that name, if it waits for a time, be due now; durable on return.

        True if it did: for a delay, its ``run_at``, a backoff. False for a run that waits for anything else, is in
        line, runs, has ended or is unknown.
        """
        row = self._find(run_id)
        return row is not None and row.finished_ms is None and self._handle.wake(row.id)

    def unregister_hook(self, waiting: str = "deliver") -> None:
        """End the registration of the queue's terminal hook; durable on return.

        Runs that end from then on notify nobody, in any process, until a runtime with a hook is made anew and used.
        ``waiting="deliver"`` leaves the notifications that wait to a runtime that still has the hook;
        ``"drop"`` removes them (those being delivered are finished). A repeat, or a queue without a hook, is a no-op.

        Raises:
            TypeError, ValueError: ``waiting`` is neither; nothing was changed.
        """
        if not isinstance(waiting, str):
            raise TypeError(f"waiting must be a str, not {type(waiting).__name__}")
        if waiting not in ("deliver", "drop"):
            raise ValueError(f"waiting is {validation.shown(waiting)}; it must be 'deliver' or 'drop'")
        lane = self._queue_name + LANE_SUFFIX
        self._handle.unsubscribe(self._queue_name, drop_from=lane if waiting == "drop" else None)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a client of an open store cannot be pickled; open the store there: {self._handle.address}")
