"""One step as a pipeline: check the job, run the runner, conclude, settle."""

from __future__ import annotations

import logging

from taquba_workflow_sync.errors import CancelRequestedError, InvalidStepHeaderError, MissingHeaderError, TaqubaError
from taquba_workflow_sync.failpoints import between
from taquba_workflow_sync.outcome import TerminalStatus
from taquba_workflow_sync.queue.dispatch.lane import Execution, Lane
from taquba_workflow_sync.queue.dispatch.user_code import calling
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.policy import describe
from taquba_workflow_sync.queue.running import Inside
from taquba_workflow_sync.queue.worker import log_refusal
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.headers import HEADER_RUN_ID, HEADER_STEP, decode_headers
from taquba_workflow_sync.storage.port.settlement import Ack, Action, DeadLetter, SettleCancelled, Settlement
from taquba_workflow_sync.storage.port.status import Verdict
from taquba_workflow_sync.workflow.conclude import Limits, Returned, conclude
from taquba_workflow_sync.workflow.runner import Step, StepFunction

_log = logging.getLogger(__name__)


class StepLane:
    """Runs the steps of one queue, and counts what it did."""

    def __init__(
        self, handle: QueueHandle, queue_name: str, run_step: StepFunction, *, keeps_place: bool, inside: Inside
    ) -> None:
        self._run_step = calling(inside, between(handle.failpoint, "runner", run_step))
        self._keeps_place = keeps_place
        self._max_payload_bytes = handle.max_payload_bytes
        self._config = handle.config_of(queue_name)
        self.steps: int = 0
        self.ended: dict[TerminalStatus, int] = dict.fromkeys(TerminalStatus, 0)
        self.lane: Lane = Lane(queue_name, self._config.lease_ms, self._execute, self._settled, holds=True)

    def _execute(self, execution: Execution) -> Settlement:
        row = execution.row
        foreign = check_is_step(row)
        if foreign is not None:
            return Settlement(row.id, row.token, DeadLetter(describe(foreign)))
        if row.cancel_requested:
            return Settlement(row.id, row.token, SettleCancelled(None))
        returned = self._call(execution)
        limits = Limits(row.attempts, row.max_attempts, self._config, self._max_payload_bytes, self._keeps_place)
        action = conclude(returned, cancel_requested=False, limits=limits)
        # Whether a cancellation was requested is decided by the stored row, when the settlement meets it: the
        # execution's own token proves nothing, since the runner may have set it.
        return Settlement(row.id, row.token, action, not isinstance(action, SettleCancelled))

    def _call(self, execution: Execution) -> object:
        row = execution.row
        assert row.run_id is not None
        step = Step(
            run_id=row.run_id,
            step_number=row.step,
            payload=row.payload,
            headers=dict(execution.headers or {}),
            job_id=row.id,
            attempts=row.attempts,
            max_attempts=row.max_attempts,
            cancel_token=execution.cancel_token,
            stopping=execution.stopping,
        )
        self.steps += 1
        try:
            returned = self._run_step(step)
        except BaseException as error:
            _log.info(
                "step %d of run %s failed at attempt %d of %d: %s",
                row.step,
                row.run_id,
                row.attempts,
                row.max_attempts,
                type(error).__name__,
                extra={
                    "run_id": row.run_id,
                    "step": row.step,
                    "attempt": row.attempts,
                    "queue": row.queue,
                    "job_id": row.id,
                },
            )
            return error
        return Returned(returned) if isinstance(returned, BaseException) else returned

    def _settled(self, execution: Execution, settlement: Settlement, refusal: TaqubaError | None) -> Settlement | None:
        if isinstance(refusal, CancelRequestedError):
            return Settlement(settlement.job_id, settlement.token, SettleCancelled(None))
        if refusal is not None:
            return log_refusal(execution, settlement, refusal)
        ended = _terminal(settlement.action)
        if ended is not None and execution.row.run_id is not None:
            self.ended[ended] += 1
        return None


def _terminal(action: Action) -> TerminalStatus | None:
    match action:
        case Ack(verdict=Verdict.SUCCEEDED):
            return TerminalStatus.SUCCEEDED
        case Ack() | DeadLetter():
            return TerminalStatus.FAILED
        case SettleCancelled():
            return TerminalStatus.CANCELLED
        case _:
            return None


def check_is_step(row: ClaimedRow) -> TaqubaError | None:
    """Return why a job on a workflow queue is no step of a run, or None if it is one."""
    if row.run_id is not None:
        return None
    headers = decode_headers(row.headers)
    if HEADER_RUN_ID not in headers:
        return MissingHeaderError(f"job {row.id} lacks the header {HEADER_RUN_ID!r}: it was not submitted as a run")
    number = headers.get(HEADER_STEP)
    if number is None:
        return MissingHeaderError(f"job {row.id} lacks the header {HEADER_STEP!r}: it was not submitted as a run")
    if not (number.isascii() and number.isdecimal()):
        return InvalidStepHeaderError(f"job {row.id} has {HEADER_STEP}={number!r:.80}, which is no step number")
    return InvalidStepHeaderError(
        f"job {row.id} calls itself step {number:.20} of run {headers[HEADER_RUN_ID]!r:.140}, but was not submitted"
        " as a run; use submit"
    )
