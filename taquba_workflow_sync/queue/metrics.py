"""What a store has counted, as callers see it: frozen values, read when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate

from taquba_workflow_sync.clock import from_ms
from taquba_workflow_sync.queue.records import QueueStats
from taquba_workflow_sync.storage.port.meter import BOUNDS, MINUTE_MS, SUM, Meter, Series
from taquba_workflow_sync.storage.port.reads import Counts
from taquba_workflow_sync.storage.port.store import Store


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations by size. ``counts`` has one number for each of ``bounds`` (upper ones, in seconds), and one for what
    is longer; ``sum`` is all of them together, in seconds."""

    bounds: tuple[float, ...] = BOUNDS
    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    sum: float = 0.0

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    @property
    def cumulative(self) -> tuple[int, ...]:
        """How many were no longer than each bound, and at the end how many there were."""
        return tuple(accumulate(self.counts))


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """What is known of one queue. Totals only grow, whatever retention removes, for as long as the store lives.

    ``attempts``: how many ended, by label of the step and outcome (an ``AttemptOutcome``); ``runs_finished``: by
    terminal status; ``step_duration``, by label: how long threads were busy with an attempt; ``submit_to_start``: how
    long runs waited from their submit, or the later ``run_at``, to their first step. The label of a step that has none
    is empty; a queue has 100 labels, and what is beyond counts as ``"(other)"``. ``oldest_ready_age``: for how many
    seconds what could be claimed longest has been waiting for that; None: nothing waits.

    Counted is what runtimes and ``run_worker`` do, not claims that a caller makes and ends by itself. They store it
    once a second: a process that is killed loses as much.
    """

    stats: QueueStats
    oldest_ready_age: float | None = None
    attempts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    runs_finished: Mapping[str, int] = field(default_factory=dict)
    step_duration: Mapping[str, Histogram] = field(default_factory=dict)
    submit_to_start: Histogram = field(default_factory=Histogram)


@dataclass(frozen=True, slots=True)
class StoreMetrics:
    """What is known of a store: its queues by name, and the bytes of the log that is not yet part of the database."""

    queues: Mapping[str, QueueMetrics]
    wal_bytes: int


@dataclass(frozen=True, slots=True)
class MinuteActivity:
    """What happened in a queue in the minute that began at ``at`` (aware, in UTC): attempts by outcome, ended runs by
    status."""

    at: datetime
    attempts: Mapping[str, int]
    runs_finished: Mapping[str, int]


class _Read:
    """One queue's series as they come."""

    def __init__(self) -> None:
        self.attempts: dict[tuple[str, str], int] = {}
        self.runs: dict[str, int] = {}
        self.took: dict[str, dict[str, int]] = {}
        self.started: dict[str, int] = {}

    def take(self, series: Series, value: int) -> None:
        match series.meter:
            case Meter.ATTEMPTS:
                self.attempts[series.label, series.name] = value
            case Meter.RUNS:
                self.runs[series.name] = value
            case Meter.TOOK:
                self.took.setdefault(series.label, {})[series.name] = value
            case Meter.STARTED:
                self.started[series.name] = value


def metrics_of(store: Store) -> StoreMetrics:
    """Return what a store has counted."""
    read: dict[str, _Read] = {}
    for series, value in sorted(store.read_meters().items()):
        read.setdefault(series.queue, _Read()).take(series, value)
    ages = store.ready_ages_ms()
    counts = store.counts()
    return StoreMetrics(
        {
            queue: _queue_metrics(
                QueueStats(queue, *counts.get(queue, Counts()), paused=store.is_paused(queue)),
                ages.get(queue),
                read.get(queue, _Read()),
            )
            for queue in sorted(counts.keys() | read.keys())
        },
        store.log_bytes(),
    )


def _queue_metrics(stats: QueueStats, age_ms: int | None, read: _Read) -> QueueMetrics:
    return QueueMetrics(
        stats,
        None if age_ms is None else age_ms / 1000,
        read.attempts,
        read.runs,
        {label: _histogram(took) for label, took in read.took.items()},
        _histogram(read.started),
    )


def _histogram(read: Mapping[str, int]) -> Histogram:
    counts = tuple(read.get(str(number), 0) for number in range(len(BOUNDS) + 1))
    return Histogram(BOUNDS, counts, read.get(SUM, 0) / 1e6)


def activity_of(store: Store) -> dict[str, list[MinuteActivity]]:
    """Return what happened in each queue, by the minute."""
    queues: dict[str, dict[int, tuple[dict[str, int], dict[str, int]]]] = {}
    for minute, series, added in store.recent_minutes():
        attempts, runs = queues.setdefault(series.queue, {}).setdefault(minute, ({}, {}))
        counted = attempts if series.meter is Meter.ATTEMPTS else runs
        counted[series.name] = counted.get(series.name, 0) + added
    return {
        queue: [MinuteActivity(from_ms(minute * MINUTE_MS), *counted) for minute, counted in sorted(minutes.items())]
        for queue, minutes in queues.items()
    }
