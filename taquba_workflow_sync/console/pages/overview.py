"""All queues of the store: what they do, what waits, what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from taquba_workflow_sync.console.drawing.activity import Activity, activity
from taquba_workflow_sync.console.view import Page, View
from taquba_workflow_sync.queue.metrics import MinuteActivity, QueueMetrics
from taquba_workflow_sync.queue.records import QueueStats
from taquba_workflow_sync.workflow.new_run import holds_runs


@dataclass(frozen=True, slots=True)
class _Row:
    stats: QueueStats
    oldest_ready_age: float | None
    activity: Activity
    has_runs: bool


def page(view: View) -> Page:
    """Return the first page."""
    metrics = view.queue.metrics()
    activities = view.queue.recent_activities()
    rows = [
        _Row(
            each.stats,
            each.oldest_ready_age,
            activity(activities.get(name, []), view.now, width=180, height=28),
            holds_runs(name),
        )
        for name, each in metrics.queues.items()
    ]
    values = {
        "rows": rows,
        "all": activity(_together(activities), view.now, width=1190, height=96),
        "running": sum(row.stats.claimed for row in rows),
        "waiting": sum(row.stats.pending for row in rows),
        "later": sum(row.stats.scheduled for row in rows),
        "dead": sum(row.stats.dead for row in rows),
        "per_minute": sum(row.activity.per_minute for row in rows),
        "oldest": max((row.oldest_ready_age or 0.0 for row in rows), default=0.0),
        "log_bytes": metrics.wal_bytes,
        "runs_ended": _ended(list(metrics.queues.values())),
    }
    return Page("overview.html", "Queues", values)


def _together(activities: Mapping[str, Sequence[MinuteActivity]]) -> list[MinuteActivity]:
    """Return the minutes of all queues as if they were one."""
    minutes: dict[datetime, Counter[str]] = {}
    for each in chain.from_iterable(activities.values()):
        minutes.setdefault(each.at, Counter()).update(each.attempts)
    return [MinuteActivity(at, attempts, {}) for at, attempts in minutes.items()]


def _ended(queues: list[QueueMetrics]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in queues:
        for status, many in each.runs_finished.items():
            found[status] = found.get(status, 0) + many
    return found
