"""Everything that needs no runner: submit, look, wait, cancel, retry; for web processes and scripts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, NoReturn

from taquba_workflow_sync.errors import (
    InvalidNameError,
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
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.storage.port.headers import encode_headers
from taquba_workflow_sync.storage.port.job import JobRow, NewJob
from taquba_workflow_sync.storage.port.reads import Filter
from taquba_workflow_sync.storage.port.run import RunName
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.workflow.endings import Endings
from taquba_workflow_sync.workflow.hooks import LANE_SUFFIX
from taquba_workflow_sync.workflow.spec import RunSpec, check_headers
from taquba_workflow_sync.workflow.status import RunPage, RunState, RunStatus, outcome_of, status_of
from taquba_workflow_sync.workflow.waiting import refuse_endless_wait, wait_for_end

DEFAULT_QUEUE_NAME: Final = "workflow-steps"
_NAME_BYTES: Final = 246  # 255 less the suffix of the notification lane

_FILTERS: Final[dict[RunState, Filter]] = {
    RunState.PENDING: Filter(is_waiting=True, cancel_requested=False, runs_only=True),
    RunState.RUNNING: Filter(status=JobStatus.CLAIMED, cancel_requested=False, runs_only=True),
    RunState.CANCELLING: Filter(is_active=True, cancel_requested=True, runs_only=True),
    RunState.SUCCEEDED: Filter(status=JobStatus.DONE, verdict=Verdict.SUCCEEDED, runs_only=True),
    RunState.FAILED: Filter(verdict=Verdict.FAILED, runs_only=True),
    RunState.CANCELLED: Filter(status=JobStatus.CANCELLED, runs_only=True),
}


@dataclass(frozen=True, slots=True, eq=False)
class RunHandle:
    """One submitted run, bound to its job: a later run of the same name is another one.

    ``newly_submitted`` is False if the submit was answered by a run that was there already.
    """

    run_id: str
    first_job_id: str
    newly_submitted: bool
    _client: WorkflowClient

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

    def cancel(self) -> bool:
        """Cancel the run; see :meth:`WorkflowClient.cancel`."""
        return self._client._endings.cancel(self.first_job_id)


class WorkflowClient:
    """Submits runs to a queue and watches over them; needs no runner, starts no thread."""

    def __init__(
        self,
        queue: Queue,
        *,
        queue_name: str = DEFAULT_QUEUE_NAME,
        keep_runs: Duration | None = timedelta(days=7),
    ) -> None:
        """Bind to a queue of a store.

        ``keep_runs``: how long a run shows after its end, frozen on it at submit; None: not at all.

        Raises:
            TypeError, ValueError, InvalidNameError: an argument is wrong.
        """
        validation.instance(queue, Queue, "queue")
        validation.queue_name(queue_name, limit=_NAME_BYTES)
        if queue_name.endswith(LANE_SUFFIX):
            raise InvalidNameError(
                f"queue name {queue_name!r} ends with {LANE_SUFFIX!r}, which names the lane of notifications; rename it"
            )
        self._handle = queue.handle
        self._queue_name = queue_name
        self._keep_ms = None if keep_runs is None else validation.duration_ms(keep_runs, "keep_runs")
        self._endings = Endings(self._handle, queue_name)

    @property
    def queue_name(self) -> str:
        """The queue this client submits to."""
        return self._queue_name

    def submit(self, spec: RunSpec | None = None, **fields: Any) -> RunHandle:
        """Submit a run, given as a :class:`RunSpec` or by its fields; durable on return.

        Safe to repeat after any error when it has a ``run_id``: the same name with the same input is the same run.

        Raises:
            InputMismatchError: the name is taken by a run with another input.
            TypeError, ValueError, InvalidRunIdError, ReservedHeaderError, PayloadTooLargeError: nothing was written.
        """
        if spec is None:
            spec = RunSpec(**fields)
        elif fields:
            raise TypeError("submit takes a RunSpec or the fields of one, not both")
        return self.submit_many([spec])[0]

    def submit_many(self, specs: Iterable[RunSpec]) -> list[RunHandle]:
        """Submit many runs in one commit, all or none, in order.

        Raises:
            InputMismatchError, TypeError, PayloadTooLargeError: as for :meth:`submit`; nothing was written.
        """
        if isinstance(specs, RunSpec):
            raise TypeError("submit_many takes several RunSpecs; use submit for one")
        jobs = [self._job_of(spec) for spec in specs]
        self._endings.register()
        answers = self._handle.insert(jobs)
        return [
            RunHandle(job.run.run_id, answer.job_id, answer.is_new, self)
            for job, answer in zip(jobs, answers, strict=True)
            if job.run is not None
        ]

    def _job_of(self, spec: RunSpec) -> NewJob:
        validation.instance(spec, RunSpec, "spec")
        config = self._handle.config_of(self._queue_name)
        job_id = new_ulid()
        return NewJob(
            id=job_id,
            queue=self._queue_name,
            payload=validation.payload(spec.input, self._handle.max_payload_bytes, "input"),
            # Checked again: a dict can be changed after the spec was made.
            headers=encode_headers(check_headers(spec.headers)),
            priority=config.default_priority if spec.priority is None else spec.priority,
            max_attempts=config.max_attempts if spec.max_attempts_per_step is None else spec.max_attempts_per_step,
            run_at_ms=validation.moment_ms(spec.run_at, "run_at"),
            keep_done_ms=self._keep_ms,
            run=RunName(spec.run_id or job_id, spec.fingerprint(), spec.if_finished),
        )

    def _find(self, run_id: object) -> JobRow | None:
        return self._handle.find_run(self._queue_name, validation.identifier(run_id, "run_id", InvalidRunIdError))

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

    def list_runs(self, state: RunState | None = None, *, limit: int = 100, cursor: str | None = None) -> RunPage:
        """Return a page of the queue's runs in the order of their submission; ``cursor`` is a page's ``next_cursor``.

        A cursor stays good when the row it points at is gone.
        """
        which = Filter(runs_only=True) if state is None else _FILTERS[_state(state)]
        page = self._handle.page(self._queue_name, replace(which, visible_only=True), limit, cursor)
        return RunPage([status_of(row) for row in page.rows], page.next_cursor)

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

    def cancel(self, run_id: str) -> bool:
        """Cancel the newest run of that name, from any process; durable on return.

        A waiting run ends at once; a running step sees its token set within a quarter of a second, and the run ends as
        cancelled when the step returns, whatever it returns. True if this started or found a cancellation; False for a
        run that is unknown or has ended.
        """
        row = self._find(run_id)
        return row is not None and row.finished_ms is None and self._endings.cancel(row.id)

    def retry(self, run_id: str) -> None:
        """Have a failed run go on at the step that failed, with all its attempts; durable on return.

        Raises:
            RunNotFoundError: there is no run of that name (any more).
            InvalidStateError: it has not failed, or is active.
        """
        row = self._find(run_id)
        if row is None or not row.is_visible:
            raise RunNotFoundError(f"queue {self._queue_name!r} has no run {run_id!r}")
        if row.finished_ms is None:
            raise InvalidStateError(f"run {run_id!r} is active; only a failed run can be retried")
        try:
            self._handle.requeue(row.id, failed_run=True)
        except JobNotFoundError:
            raise RunNotFoundError(f"run {run_id!r} is not stored any more") from None

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


def _state(value: object) -> RunState:
    if not isinstance(value, str):
        raise TypeError(f"state must be a RunState, not {type(value).__name__}")
    try:
        return RunState(value)
    except ValueError:
        raise ValueError(f"state is {validation.shown(value)}; it must be one of {', '.join(RunState)}") from None
