"""One queue: how its runs stand, the last hour, how long its steps take, its flow, its limits and schedules."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from taquba_workflow_sync.console.drawing.activity import activity
from taquba_workflow_sync.console.drawing.flow import picture
from taquba_workflow_sync.console.view import Missing, Page, View
from taquba_workflow_sync.flow.graph import Graph
from taquba_workflow_sync.queue.metrics import Histogram, QueueMetrics
from taquba_workflow_sync.workflow.new_run import holds_runs


@dataclass(frozen=True, slots=True)
class _Step:
    label: str
    attempts: int
    failed: int
    mean: float | None
    median: str
    slowest: str


def page(view: View) -> Page:
    """Return the page of the queue that the request names."""
    name = view.queue_name
    found = view.queue.metrics().queues.get(name)
    if found is None:
        raise Missing(f"the store has no queue {name!r}")
    has_runs = holds_runs(name)
    client = view.client() if has_runs else None
    graph = graph_of(client.graph()) if client is not None else None
    values = {
        "name": name,
        "stats": found.stats,
        "oldest": found.oldest_ready_age,
        "counts": client.count_runs() if client is not None else {},
        "activity": activity(view.queue.recent_activity(name), view.now, width=1190, height=96),
        "steps": _steps(found),
        "started": found.submit_to_start if found.submit_to_start.count else None,
        "started_median": _within(found.submit_to_start, 0.5),
        "started_most": _within(found.submit_to_start, 0.99),
        "picture": None if graph is None else picture(graph),
        "limits": client.limits() if client is not None else [],
        "has_runs": has_runs,
    }
    return Page("queue.html", name, values)


def graph_of(text: str | None) -> Graph | None:
    """Return the graph of a stored text; None if there is none that this version can read."""
    try:
        graph = None if text is None else Graph.of_json(text)
    except (ValueError, RecursionError):
        return None
    return graph if graph is not None and _is_sound(graph) else None


def _is_sound(graph: Graph) -> bool:
    """Whether a graph has what it should have: another program may have written it."""
    names = [graph.flow, graph.start, *graph.steps, *graph.waits.values(), *chain.from_iterable(graph.edges)]
    return all(isinstance(name, str) for name in names) and graph.start in graph.steps


def _steps(metrics: QueueMetrics) -> list[_Step]:
    labels = sorted({label for label, _ in metrics.attempts} | set(metrics.step_duration))
    return [_step(label, metrics) for label in labels]


def _step(label: str, metrics: QueueMetrics) -> _Step:
    attempts = {outcome: many for (each, outcome), many in metrics.attempts.items() if each == label}
    took = metrics.step_duration.get(label, Histogram())
    return _Step(
        label or "(no label)",
        sum(attempts.values()),
        sum(attempts.get(outcome, 0) for outcome in ("failed", "dead", "retried", "reaped")),
        took.sum / took.count if took.count else None,
        _within(took, 0.5),
        _within(took, 0.99),
    )


def _within(histogram: Histogram, share: float) -> str:
    """Return within which bound that share of the durations was: the histogram knows no better."""
    if not histogram.count:
        return ""
    for bound, many in zip(histogram.bounds, histogram.cumulative, strict=False):
        if many >= share * histogram.count:
            return f"≤ {bound:g} s" if bound >= 1 else f"≤ {bound * 1000:g} ms"
    return f"> {histogram.bounds[-1]:g} s"
