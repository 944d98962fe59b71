"""Steps that run on when their time is over: they are told, and it is said; nobody can end their threads."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from taquba_workflow_sync.queue.dispatch.lane import Execution
from taquba_workflow_sync.storage.port.store import Store

_log = logging.getLogger(__name__)

_MINUTE_MS: Final = 60_000


class Overruns:
    """Looks at what runs, by the clock of its store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def look(self, running: Iterable[Execution]) -> None:
        """Set the tokens of steps whose deadline or step timeout has passed; log the latter, then every minute."""
        for execution in running:
            row = execution.row
            if execution.has_returned:
                continue
            if row.deadline is not None and self._store.remaining_ms(row.deadline) <= 0:
                execution.cancel_token.stop("deadline")
            if row.step_end is not None:
                late_ms = -self._store.remaining_ms(row.step_end)
                if late_ms >= 0:
                    execution.cancel_token.stop("step timeout")
                    self._tell(execution, late_ms)

    def _tell(self, execution: Execution, late_ms: int) -> None:
        minutes = late_ms // _MINUTE_MS
        if minutes <= execution.minutes_overdue:
            return
        execution.minutes_overdue = minutes
        row = execution.row
        _log.error(
            "step %d of run %s is over its step timeout by %d minutes; it keeps its claim and its thread until it"
            " returns",
            row.step,
            row.run_id,
            minutes,
            extra={
                "run_id": row.run_id,
                "step": row.step,
                "attempt": row.attempts,
                "queue": row.queue,
                "job_id": row.id,
                "label": None if row.settings is None else row.settings.label,
            },
        )
