"""Terminal hooks: told of every outcome that committed, at least once, through a durable notification."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Protocol, runtime_checkable

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.failpoints import between
from taquba_workflow_sync.outcome import RunOutcome
from taquba_workflow_sync.queue.dispatch.lane import Execution, Lane
from taquba_workflow_sync.queue.dispatch.user_code import calling
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.policy import after_exception
from taquba_workflow_sync.queue.running import Inside
from taquba_workflow_sync.queue.worker import log_refusal
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.notification import decode_notification
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
    """Runs a hook on the notifications of a queue; ``inside`` is what its calls are marked as."""

    def __init__(self, handle: QueueHandle, hook: TerminalHook | HookFunction, lane_name: str, inside: Inside) -> None:
        method = getattr(hook, "on_termination", None)
        if callable(method):
            call: HookFunction = method
        elif callable(hook):
            call = hook
        else:
            raise TypeError(
                f"terminal_hook must be a function or have a method on_termination, not {type(hook).__name__}"
            )
        observes: Callable[[RunOutcome], Any] | None = getattr(hook, "observes", None)
        self._call = calling(inside, between(handle.failpoint, "hook", call))
        self._observes = None if observes is None else calling(inside, observes)
        self._config = handle.config_of(lane_name)
        self.lane_name = lane_name

    def lane(self, ended_here: Callable[[], int]) -> Lane:
        """Return the lane that delivers.

        ``ended_here`` counts the runs that the same dispatcher has ended: a stop still delivers as many.
        """
        delivered = 0

        def settled(execution: Execution, settlement: Settlement, refusal: TaqubaError | None) -> Settlement | None:
            nonlocal delivered
            delivered += 1
            return log_refusal(execution, settlement, refusal)

        return Lane(
            self.lane_name,
            self._config.lease_ms,
            lambda execution: self.deliver(execution.row),
            settled,
            lambda: ended_here() - delivered,
        )

    def deliver(self, row: ClaimedRow) -> Settlement:
        """Call the hook for one notification and return how to settle it; never raises."""
        try:
            outcome = decode_notification(row)
        except Exception as error:
            return Settlement(row.id, row.token, DeadLetter(f"not a notification: {type(error).__name__}: {error}"))
        try:
            if self._observes is None or self._observes(outcome):
                self._call(outcome)
        except BaseException as error:
            _log.warning(
                "the terminal hook failed for run %s: %s",
                outcome.run_id,
                type(error).__name__,
                extra={"run_id": outcome.run_id, "job_id": outcome.job_id, "attempt": row.attempts, "queue": row.queue},
            )
            action = after_exception(self._config, error, attempts=row.attempts, max_attempts=row.max_attempts)
            return Settlement(row.id, row.token, action)
        return Settlement(row.id, row.token, Ack())
