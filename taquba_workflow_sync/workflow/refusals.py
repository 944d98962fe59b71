"""What becomes of a step, or a hook's call, whose effects were refused at its commit."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Final

from taquba_workflow_sync.errors import ClaimLostError, EffectConflictError, StorageError, TaqubaError
from taquba_workflow_sync.queue.config import QueueConfig
from taquba_workflow_sync.queue.policy import after_failure, describe
from taquba_workflow_sync.storage.port.claim import ClaimedRow
from taquba_workflow_sync.storage.port.effects import MOST_REFUSALS
from taquba_workflow_sync.storage.port.run import NameHeldError
from taquba_workflow_sync.storage.port.settlement import Action, DeadLetter, PutBack, Settlement

_log = logging.getLogger(__name__)

#: How long a refused step stays away, in milliseconds, so that those who refuse each other come apart.
LEAST_JITTER_MS: Final = 10
MOST_JITTER_MS: Final = 100
#: ... and one whose run's name a program's open transaction has taken, which may last.
LEAST_NAME_MS: Final = 200
MOST_NAME_MS: Final = 1000


def after_refusal(
    config: QueueConfig,
    row: ClaimedRow,
    settlement: Settlement,
    refusal: TaqubaError,
    jitter: Callable[[int, int], int] = random.randint,
) -> Settlement | None:
    """Return how to settle in place of one whose effects were refused; None: that was for another reason.

    A refused expectation is nobody's fault: back, uncharged, and soon, up to the 100th in a row; nor is a name that is
    not known to be free. What no retry can help
    is a dead letter; what one may help is a failed attempt.
    """
    if not settlement.effects or isinstance(refusal, (ClaimLostError, StorageError)):
        return None
    action = _action(config, row, refusal, jitter)
    _log.info(
        "the effects of job %s were refused: %s",
        row.id,
        type(refusal).__name__,
        extra={"run_id": row.run_id, "step": row.step, "job_id": row.id, "attempt": row.attempts, "queue": row.queue},
    )
    return Settlement(row.id, row.token, action, row.run_id is not None)


def _action(config: QueueConfig, row: ClaimedRow, refusal: TaqubaError, jitter: Callable[[int, int], int]) -> Action:
    why = describe(refusal)
    if isinstance(refusal, NameHeldError):
        return PutBack(jitter(LEAST_NAME_MS, MOST_NAME_MS), why, is_retry=True)
    if refusal.is_permanent:
        return DeadLetter(why)
    if not isinstance(refusal, EffectConflictError):
        return after_failure(config, attempts=row.attempts, max_attempts=row.max_attempts, error=why)
    refusals = refusal.refusals + 1
    if refusals >= MOST_REFUSALS:
        return DeadLetter(f"{why} (refused {refusals} times in a row)")
    return PutBack(jitter(LEAST_JITTER_MS, MOST_JITTER_MS), why, is_retry=True, is_refusal=True)
