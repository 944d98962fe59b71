"""A run of a flow, as a caller has it: its result typed."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from taquba_workflow_sync.errors import RunNotFoundError
from taquba_workflow_sync.flow.codec import Codec
from taquba_workflow_sync.flow.definition import Definition
from taquba_workflow_sync.flow.retrying import state_for_retry
from taquba_workflow_sync.outcome import RunOutcome
from taquba_workflow_sync.queue.config import Duration
from taquba_workflow_sync.workflow.client import RunHandle, WorkflowClient
from taquba_workflow_sync.workflow.history import RunEvent
from taquba_workflow_sync.workflow.status import RunStatus

_Out = TypeVar("_Out")


class FlowHandle(RunHandle, Generic[_Out]):
    """One run, bound to its job once it is known; the newest run of its name if it was not submitted here.

    ``newly_submitted`` is False if it was not this handle's submit that made it.

    Raises:
        RunNotFoundError: by any use: there is no run of that name (any more).
    """

    __slots__ = ("_codec", "_definition", "_found", "_lock")

    _codec: Codec[_Out]
    _definition: Definition
    _found: RunHandle | None
    _lock: threading.Lock

    def __init__(self, client: WorkflowClient, definition: Definition, run_id: str, found: RunHandle | None) -> None:
        for name, value in (
            ("run_id", run_id),
            ("newly_submitted", found is not None and found.newly_submitted),
            ("_client", client),
            ("_codec", definition.result),
            ("_definition", definition),
            ("_found", found),
            ("_lock", threading.Lock()),
        ):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"FlowHandle({self.run_id!r})"

    @property
    def first_job_id(self) -> str:  # looked up when it is first asked for
        """The id of the run's job."""
        return self._run.first_job_id

    @property
    def _run(self) -> RunHandle:
        with self._lock:
            found = self._found
            if found is None:
                row = self._client._find_visible(self.run_id)
                found = RunHandle(self.run_id, row.id, False, self._client)
                object.__setattr__(self, "_found", found)
            return found

    def wait(self, timeout: Duration | None = None) -> RunOutcome:
        """Block until the run has ended, in whichever process, and return how; its result is JSON there.

        Raises:
            TimeoutError, RunNotFoundError, RuntimeError: as for :meth:`RunHandle.wait`.
        """
        return self._run.wait(timeout)

    def result(self, timeout: Duration | None = None) -> _Out:  # type: ignore[override]  # typed
        """Block until the run has ended and return its result.

        Raises:
            RunFailedError, RunCancelledError: it ended so; ``.outcome`` tells more.
            TypeError: what another version of the flow has stored does not fit its type; names the path.
            TimeoutError, RunNotFoundError, RuntimeError: as for :meth:`wait`.
        """
        return self._codec.decode(self._run.result(timeout), "result")

    def status(self) -> RunStatus | None:
        """Return the run as it is now, or None once it is kept no longer."""
        return self._run.status()

    def history(self) -> list[RunEvent]:
        """Return what happened to the newest run of that name, in order; see ``WorkflowClient.history``."""
        return self._client.history(self.run_id)

    def cancel(self, *, reason: str | None = None) -> bool:
        """Cancel the run; see ``WorkflowClient.cancel``."""
        return self._run.cancel(reason=reason)

    def retry(self, *, payload: object = None, memo: str = "keep") -> None:
        """Have the run, which failed, go on at the step that failed; see ``WorkflowClient.retry``.

        ``payload``: the state that the step is to have in place of the one it had, as a value of the step's type; None
        leaves it.

        Raises:
            TypeError: the state does not fit the step that failed; names the path. Nothing was written.
            InvalidStateError: as for :meth:`RunHandle.retry`; or this program does not know the step, or is older than
                the state.
            RunNotFoundError, ValueError, PayloadTooLargeError: as for :meth:`RunHandle.retry`.
        """
        run = self._run
        data: bytes | None = None
        if payload is not None:
            job = self._client.queue.get_job(run.first_job_id)
            if job is None:
                raise RunNotFoundError(f"run {self.run_id!r} is not stored any more")
            data = state_for_retry(self._definition, job, f"run {self.run_id!r}", payload)
        run.retry(payload=data, memo=memo)
