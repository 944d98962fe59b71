"""Terminal hooks: told of every outcome that committed, at least once, through a durable notification."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Protocol, runtime_checkable

from taquba_workflow_sync.clock import from_ms
from taquba_workflow_sync.errors import MissingHeaderError, TaqubaError
from taquba_workflow_sync.failpoints import between
from taquba_workflow_sync.outcome import RunOutcome, TerminalStatus
from taquba_workflow_sync.queue.dispatch.lane import Execution, Lane
from taquba_workflow_sync.queue.policy import after_exception
from taquba_workflow_sync.queue.queue import Queue
from taquba_workflow_sync.queue.records import decode_headers
from taquba_workflow_sync.queue.worker import log_refusal
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.headers import (
    HEADER_ERROR,
    HEADER_FINISHED_MS,
    HEADER_JOB_ID,
    HEADER_RUN_ID,
    HEADER_STATUS,
    HEADER_STEP,
    HEADER_TERMINATION,
    RESERVED_HEADER_PREFIX,
)
from taquba_workflow_sync.storage.port.settlement import Ack, DeadLetter, Settlement

_log = logging.getLogger(__name__)


LANE_SUFFIX: Final = ".terminal"


@runtime_checkable
class TerminalHook(Protocol):
    """Told how each run of a queue ended. A plain function of one argument is accepted in its place.

    Called at least once for each ending, after its commit. An exception is retried with backoff (so the delivery of
    an older ``termination`` may come after a newer one's); ``StepError.permanent`` dead-letters the notification. An
    optional method ``observes(outcome) -> bool`` is asked first; False skips the outcome.
    """

    def on_termination(self, outcome: RunOutcome) -> None:
        """Act on the end of a run; must bear being called twice with the same outcome."""
        ...


class NoopTerminalHook:
    """The same as no hook: nothing is registered, no notification is stored."""

    def on_termination(self, outcome: RunOutcome) -> None:
        """Do nothing."""


HookFunction = Callable[[RunOutcome], None]


class Notifier:
    """Runs a hook on the notifications of a queue."""

    def __init__(self, hook: TerminalHook | HookFunction, lane: str) -> None:
        method = getattr(hook, "on_termination", None)
        if callable(method):
            self._call: HookFunction = method
        elif callable(hook):
            self._call = hook
        else:
            raise TypeError(
                f"terminal_hook must be a function or have a method on_termination, not {type(hook).__name__}"
            )
        self._observes: Callable[[RunOutcome], Any] | None = getattr(hook, "observes", None)
        self.lane_name = lane

    def lane(
        self,
        queue: Queue,
        around: Callable[[Callable[[], Settlement]], Settlement],
        ended_here: Callable[[], int],
    ) -> Lane:
        """Return the lane that delivers; ``around`` is what each delivery runs inside of.

        ``ended_here`` counts the runs that the same dispatcher has ended: a stop still delivers as many.
        """
        delivered = 0

        def settled(execution: Execution, settlement: Settlement, refusal: TaqubaError | None) -> Settlement | None:
            nonlocal delivered
            delivered += 1
            return log_refusal(execution, settlement, refusal)

        return Lane(
            self.lane_name,
            queue.config_of(self.lane_name).lease_ms,
            lambda execution: around(lambda: self.deliver(queue, execution.row)),
            settled,
            lambda: ended_here() - delivered,
        )

    def deliver(self, queue: Queue, row: ClaimedRow) -> Settlement:
        """Call the hook for one notification and return how to settle it; never raises."""
        try:
            outcome = decode_notification(row)
        except Exception as error:
            return Settlement(row.id, row.token, DeadLetter(f"not a notification: {type(error).__name__}: {error}"))
        try:
            if self._observes is None or self._observes(outcome):
                between(queue.failpoint, "hook", self._call)(outcome)
        except BaseException as error:
            _log.warning(
                "the terminal hook failed for run %s: %s",
                outcome.run_id,
                type(error).__name__,
                extra={"run_id": outcome.run_id, "job_id": outcome.job_id, "attempt": row.attempts, "queue": row.queue},
            )
            config = queue.config_of(self.lane_name)
            action = after_exception(config, error, attempts=row.attempts, max_attempts=row.max_attempts)
            return Settlement(row.id, row.token, action)
        return Settlement(row.id, row.token, Ack())


def decode_notification(row: ClaimedRow) -> RunOutcome:
    """Return the outcome that a notification carries.

    Raises:
        MissingHeaderError: the job is no notification.
        ValueError: a header cannot be read.
    """
    headers = decode_headers(row.headers)
    for name in (HEADER_RUN_ID, HEADER_STATUS, HEADER_STEP, HEADER_JOB_ID, HEADER_TERMINATION, HEADER_FINISHED_MS):
        if name not in headers:
            raise MissingHeaderError(f"job {row.id} lacks the header {name!r}")
    status = TerminalStatus(headers[HEADER_STATUS])
    return RunOutcome(
        run_id=headers[HEADER_RUN_ID],
        status=status,
        result=row.payload if status is TerminalStatus.SUCCEEDED else None,
        error=headers.get(HEADER_ERROR),
        headers={name: value for name, value in headers.items() if not name.startswith(RESERVED_HEADER_PREFIX)},
        final_step=int(headers[HEADER_STEP]),
        job_id=headers[HEADER_JOB_ID],
        termination=int(headers[HEADER_TERMINATION]),
        finished_at=from_ms(int(headers[HEADER_FINISHED_MS])),
    )
