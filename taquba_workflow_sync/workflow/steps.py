"""One step as a pipeline: check the job, run the runner, conclude, settle."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from taquba_workflow_sync.errors import (
    CancelRequestedError,
    ClaimLostError,
    GroupNotFoundError,
    InvalidStateError,
    InvalidStepHeaderError,
    MissingHeaderError,
    TaqubaError,
)
from taquba_workflow_sync.failpoints import between
from taquba_workflow_sync.outcome import TerminalStatus
from taquba_workflow_sync.queue.dispatch.lane import Execution, Lane
from taquba_workflow_sync.queue.dispatch.telling import say
from taquba_workflow_sync.queue.dispatch.user_code import calling
from taquba_workflow_sync.queue.effects import Site
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.policy import describe
from taquba_workflow_sync.queue.running import Inside
from taquba_workflow_sync.queue.tracebacks import trace_of
from taquba_workflow_sync.queue.worker import log_refusal
from taquba_workflow_sync.storage.port.claim import ClaimedRow, TakenBack
from taquba_workflow_sync.storage.port.headers import HEADER_RUN_ID, HEADER_STEP, decode_headers
from taquba_workflow_sync.storage.port.own import OutcomeUnknownError, OwnTransaction
from taquba_workflow_sync.storage.port.run import terminal_status
from taquba_workflow_sync.storage.port.settlement import Ack, Action, Advance, DeadLetter, SettleCancelled, Settlement
from taquba_workflow_sync.storage.port.status import JobStatus, Verdict
from taquba_workflow_sync.storage.port.timing import Late, LimitPassedError, Overrun
from taquba_workflow_sync.workflow.claim import StepClaim
from taquba_workflow_sync.workflow.conclude import Limits, Returned, after_timeout, conclude, is_outcome
from taquba_workflow_sync.workflow.current import CURRENT
from taquba_workflow_sync.workflow.instruments import INSTRUMENTS, processed
from taquba_workflow_sync.workflow.refusals import after_refusal
from taquba_workflow_sync.workflow.runner import Step, StepFunction
from taquba_workflow_sync.workflow.signals import signal_of
from taquba_workflow_sync.workflow.step_log import line_about, line_about_taken_back, say_start

#: For how long a stopping process asks what became of a transaction.
_LAST_TRIES: Final = 20.0


class StepLane:
    """Runs the steps of one queue, and counts what it did."""

    def __init__(
        self,
        handle: QueueHandle,
        queue_name: str,
        run_step: StepFunction,
        *,
        keeps_place: bool,
        inside: Inside,
        keep_ms: int | None = None,
    ) -> None:
        self._run_step = calling(inside, between(handle.failpoint, "runner", run_step))
        self._handle = handle
        self._site = Site(handle, queue_name, keep_ms)
        self._keeps_place = keeps_place
        self._max_payload_bytes = handle.max_payload_bytes
        self._config = handle.config_of(queue_name)
        self.steps: int = 0
        self.dead_letters: int = 0
        self.ended: dict[TerminalStatus, int] = dict.fromkeys(TerminalStatus, 0)
        # Where priorities age, a step that follows enters the line anew, behind what has waited.
        holds = self._config.priority_aging is None
        self.lane: Lane = Lane(
            queue_name,
            self._config.lease_ms,
            self._execute,
            self._settled,
            holds=holds,
            taken_back=self._taken_back,
        )

    def _execute(self, execution: Execution) -> Settlement:
        row = execution.row
        foreign = check_is_step(row)
        if foreign is not None:
            return Settlement(row.id, row.token, DeadLetter(describe(foreign)))
        late = None if row.deadline is None and row.late is None else self._late(row)
        if late is not None and late.overrun is Overrun.DEADLINE:
            return Settlement(row.id, row.token, DeadLetter(late.why), True, ignores_deadline=True)
        if row.cancel_requested:
            return Settlement(row.id, row.token, SettleCancelled(None))
        if late is not None:
            return Settlement(row.id, row.token, SettleCancelled(late.why))
        if not row.step:
            say(partial(say_start, row))
        claim = StepClaim(self._handle, execution, self._site)
        returned = self._call(execution, claim)
        staged = claim.seal()
        action = conclude(returned, cancel_requested=False, limits=self._limits(row))
        # Whether a cancellation was requested is decided by the stored row, when the settlement meets it: the
        # execution's own token proves nothing, since the runner may have set it.
        effects = staged.at(self._site) if staged.parts and is_outcome(returned, action) else ()
        yields = not isinstance(action, SettleCancelled)
        trace = None if execution.error is None else trace_of(execution.error)
        settlement = Settlement(row.id, row.token, action, yields, effects, False, row.step_end, trace)
        own = claim.take_transaction()
        return settlement if own is None else self._end_with(own, execution, settlement, is_outcome(returned, action))

    def _end_with(self, own: OwnTransaction, execution: Execution, settlement: Settlement, counts: bool) -> Settlement:
        """Settle a step in its transaction, if it has come to an outcome; returns what is left to be settled.

        It is done here, on the step's thread, and once: a repeat under the claim's token could keep the step's end and
        lose what was written with it.
        """
        if not counts:
            own.roll_back()
            return settlement
        row = execution.row
        execution.has_returned = True  # the claim may end now
        gave_up_at = [0.0]

        def gives_up() -> bool:
            if not execution.stopping.is_set():
                return False
            gave_up_at[0] = gave_up_at[0] or time.monotonic() + _LAST_TRIES
            return time.monotonic() >= gave_up_at[0]

        try:
            execution.answer = own.settle(settlement, gives_up)
        except OutcomeUnknownError as error:
            # If it was not committed, the claim is there yet, and others take it back.
            self._handle.abandoned_here.add(row.token)
            execution.answer = ClaimLostError(f"job {row.id} was left: {error}")
        except BaseException as error:
            execution.error = error
            action = conclude(error, cancel_requested=False, limits=self._limits(row))
            return Settlement(row.id, row.token, action, True, (), False, row.step_end, trace_of(error))
        execution.is_settled = True
        return settlement

    def _limits(self, row: ClaimedRow) -> Limits:
        backoff = None if row.settings is None else row.settings.backoff
        return Limits(row.attempts, row.max_attempts, self._config, self._max_payload_bytes, self._keeps_place, backoff)

    def _late(self, row: ClaimedRow) -> Late | None:
        """Return the limit that has passed before the step could start."""
        deadline = row.deadline
        if row.late is not None or deadline is None or self._handle.remaining_ms(deadline) > 0:
            return row.late
        return Late(Overrun.DEADLINE, deadline.ms)

    def step_of(self, execution: Execution, claim: StepClaim | None = None) -> Step:
        """Return what the runner is called with."""
        row = execution.row
        assert row.run_id is not None
        return Step(
            row.run_id,
            row.step,
            row.payload,
            dict(execution.headers or ()),
            row.id,
            row.attempts,
            row.max_attempts,
            execution.cancel_token,
            execution.stopping,
            None if row.wait is None or row.wait.signal is None else signal_of(row.wait.signal),
            row.wait is not None and row.wait.timed_out,
            None if row.settings is None else row.settings.label,
            claim or StepClaim(self._handle, execution, self._site),
        )

    def _call(self, execution: Execution, claim: StepClaim) -> object:
        row = execution.row
        self.steps += 1
        step = self.step_of(execution, claim)
        CURRENT.set(row)
        try:
            if not INSTRUMENTS.active:
                returned = self._run_step(step)
            else:
                returned = processed(row, step.headers, self._run_step, step)
        except BaseException as error:
            execution.error = error
            return error
        finally:
            CURRENT.set(None)
        return Returned(returned) if isinstance(returned, BaseException) else returned

    def _settled(self, execution: Execution, settlement: Settlement, refusal: TaqubaError | None) -> Settlement | None:
        if isinstance(refusal, CancelRequestedError):
            return Settlement(settlement.job_id, settlement.token, SettleCancelled(None))
        if isinstance(refusal, LimitPassedError):
            return self._after_limit(execution, settlement, refusal)
        if isinstance(refusal, (GroupNotFoundError, InvalidStateError)) and isinstance(settlement.action, Advance):
            # What it was to wait for will not be there at another try either.
            return Settlement(settlement.job_id, settlement.token, DeadLetter(describe(refusal)), True)
        if refusal is not None:
            other = after_refusal(self._config, execution.row, settlement, refusal)
            if other is not None:
                return other
            return log_refusal(execution, settlement, refusal)
        self.dead_letters += isinstance(settlement.action, DeadLetter)
        execution.afterwards = line_about(execution.row, settlement.action, execution.error)
        execution.error = None  # its traceback holds the frame that holds this execution
        ended = _terminal(settlement.action)
        if ended is not None and execution.row.run_id is not None:
            self.ended[ended] += 1
        return None

    def _taken_back(self, taken: TakenBack) -> Callable[[], None] | None:
        """Count what has ended by a claim, and return what to say of what it has taken back."""
        if taken.run_id is not None and taken.status is not JobStatus.PENDING:
            self.dead_letters += taken.status is JobStatus.DEAD
            self.ended[terminal_status(taken.status, None)] += 1
        return line_about_taken_back(taken)

    def _after_limit(self, execution: Execution, settlement: Settlement, refusal: LimitPassedError) -> Settlement:
        """Return how to settle a step instead whose end yielded to a limit; what goes before that still does."""
        row = execution.row
        if refusal.overrun is Overrun.DEADLINE:
            return Settlement(row.id, row.token, DeadLetter(str(refusal)), True, ignores_deadline=True)
        timeout_ms = (row.settings.step_timeout_ms if row.settings is not None else None) or 0
        action = after_timeout(settlement.action, timeout_ms, self._limits(row))
        return Settlement(row.id, row.token, action, True, trace=settlement.trace)


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
