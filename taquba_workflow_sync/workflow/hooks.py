"""Terminal hooks: told of every outcome that committed, at least once, through a durable notification."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol, runtime_checkable

from taquba_workflow_sync.errors import TaqubaError
from taquba_workflow_sync.failpoints import between
from taquba_workflow_sync.outcome import RunOutcome
from taquba_workflow_sync.queue.dispatch.lane import Execution, Lane
from taquba_workflow_sync.queue.dispatch.user_code import calling
from taquba_workflow_sync.queue.effects import Site, seal
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.queue.policy import after_exception
from taquba_workflow_sync.queue.running import Inside
from taquba_workflow_sync.queue.worker import log_refusal
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.notification import decode_notification
from taquba_workflow_sync.storage.port.settlement import Ack, DeadLetter, Settlement
from taquba_workflow_sync.workflow.effects import Effects, effects_of
from taquba_workflow_sync.workflow.refusals import after_refusal

_log = logging.getLogger(__name__)


@runtime_checkable
class TerminalHook(Protocol):
    """Told how each run of a queue ended. A plain function is accepted in its place.

    With a second parameter it is passed :class:`Effects`, which are applied in the commit that records its return:
    exactly once for each ending that it was told of, however often it was called.

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


@runtime_checkable
class TerminalHookWithEffects(Protocol):
    """The same, with effects of its own."""

    def on_termination(self, outcome: RunOutcome, effects: Effects) -> None:
        """Act on the end of a run; what is staged in ``effects`` happens once."""
        ...


HookFunction = Callable[[RunOutcome], None] | Callable[[RunOutcome, Effects], None]
Hook = TerminalHook | TerminalHookWithEffects | HookFunction


class Notifier:
    """Runs a hook on the notifications of a queue; ``inside`` is what its calls are marked as.

    ``site``: where its effects are committed.
    """

    def __init__(self, handle: QueueHandle, hook: Hook, lane_name: str, inside: Inside, site: Site) -> None:
        method = getattr(hook, "on_termination", None)
        if callable(method):
            call: Callable[..., None] = method
        elif callable(hook):
            call = hook
        else:
            raise TypeError(
                f"terminal_hook must be a function or have a method on_termination, not {type(hook).__name__}"
            )
        observes: Callable[[RunOutcome], Any] | None = getattr(hook, "observes", None)
        self._call = calling(inside, between(handle.failpoint, "hook", with_effects(call)))
        self._site = site
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
            if refusal is not None:
                other = self.after_refusal(execution.row, settlement, refusal)
                if other is not None:
                    return other
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
        effects = effects_of(self._site)
        try:
            if self._observes is None or self._observes(outcome):
                self._call(outcome, effects)
        except BaseException as error:
            _log.warning(
                "the terminal hook failed for run %s: %s",
                outcome.run_id,
                type(error).__name__,
                extra={"run_id": outcome.run_id, "job_id": outcome.job_id, "attempt": row.attempts, "queue": row.queue},
            )
            action = after_exception(self._config, error, attempts=row.attempts, max_attempts=row.max_attempts)
            return Settlement(row.id, row.token, action)
        finally:
            staged = seal(effects)
        return Settlement(row.id, row.token, Ack(), effects=staged.at(self._site))

    def after_refusal(self, row: ClaimedRow, settlement: Settlement, refusal: TaqubaError) -> Settlement | None:
        """Return how to settle a delivery whose effects were refused; None: it was refused for another reason."""
        return after_refusal(self._config, row, settlement, refusal)


def with_effects(call: Callable[..., None]) -> Callable[[RunOutcome, Effects], None]:
    """Return a hook as a function of two arguments, whether it takes effects or not."""
    try:
        parameters = list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):  # a builtin may tell nothing
        parameters = []
    by_name = [each for each in parameters if each.name == "effects" and each.kind in _BY_NAME]
    by_place = [each for each in parameters if each.kind in _BY_PLACE][1:2]
    if by_name:
        return lambda outcome, effects: call(outcome, effects=effects)
    if by_place and by_place[0].default is inspect.Parameter.empty:
        return lambda outcome, effects: call(outcome, effects)
    return lambda outcome, effects: call(outcome)


_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_BY_PLACE: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
