"""Metrics of a store for Prometheus; needs the extra ``[prometheus]``.

Every process that exports a store exports the same numbers, for they are the store's: dashboards take ``max``, not
``sum``, over processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from prometheus_client.core import (
    REGISTRY,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from taquba_workflow_sync.queue import Histogram, JobStatus, Queue, QueueMetrics, StoreMetrics, validation

_STATUSES: Final = tuple(status.value for status in JobStatus)


class TaqubaCollector(Collector):
    """Exports what a store has counted, read when it is scraped: ``TaqubaCollector(queue).register()``.

    ``taquba_jobs{queue,status}`` (``done`` and ``cancelled`` count all ever),
    ``taquba_oldest_ready_age_seconds{queue}``, ``taquba_attempts_total{queue,step,outcome}``,
    ``taquba_runs_finished_total{queue,status}``, ``taquba_step_duration_seconds{queue,step}`` and
    ``taquba_submit_to_start_seconds{queue}`` (histograms), ``taquba_wal_bytes``. ``step`` is a step's label, empty for
    one without; a queue has at most 100, and ``(other)``. Run ids are never exported. To register it reads nothing.

    A registry holds one. Several stores go into one, by names that become the label ``store`` of each series:
    ``TaqubaCollector({"orders": queue, "mails": another})``.

    Raises:
        TypeError: ``queue`` is no open Queue, and no mapping of names to some.
        ValueError: the mapping is empty, has one store twice, or a name is not 1 to 255 bytes of UTF-8 without U+0000.
    """

    def __init__(self, queue: Queue | Mapping[str, Queue]) -> None:
        self._labels = ("store",) if isinstance(queue, Mapping) else ()
        self._stores = _named(queue) if isinstance(queue, Mapping) else {"": _open(queue)}

    def register(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Have a registry export it, as ``registry.register`` does, with an error that says what to do.

        Raises:
            ValueError: the registry has one already.
        """
        try:
            registry.register(self)
        except ValueError as error:
            raise ValueError(
                "the registry has a TaqubaCollector already: give several stores to one, TaqubaCollector({'orders':"
                " queue, 'mails': another}), and let an app that is made more than once in a process, as by a factory,"
                " have a CollectorRegistry() of its own"
            ) from error

    def describe(self) -> Iterator[Metric]:
        """Return the families without their samples, reading nothing: registering must not wait for a disk."""
        yield from _families(self._labels, ())

    def collect(self) -> Iterator[Metric]:
        """Read the stores and return what they have counted.

        Raises:
            StorageError, StoreClosedError: a store cannot be read; the scrape fails, which ``up`` shows.
        """
        stores = [_Store((name,) if self._labels else (), queue.metrics()) for name, queue in self._stores.items()]
        yield from _families(self._labels, stores)


def _open(value: object) -> Queue:
    if not isinstance(value, Queue):
        raise TypeError(f"queue must be a Queue, not {type(value).__name__}; open one with Queue.open")
    return value


def _named(queues: Mapping[str, Queue]) -> dict[str, Queue]:
    if not queues:
        raise ValueError("queue is a mapping without a Queue: there is nothing to export")
    stores = {validation.text(name, "store", most=255): _open(queue) for name, queue in queues.items()}
    paths = [queue.address for queue in stores.values()]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"two of the names are of the store {str(path)!r}, whose numbers would count twice")
    return stores


class _Store(NamedTuple):
    """What one store has counted, and the values of the labels that name it."""

    labels: tuple[str, ...]
    metrics: StoreMetrics


def _families(more: tuple[str, ...], stores: Sequence[_Store]) -> Iterator[Metric]:
    """Yield each family once, with the samples of all stores; ``more``: the labels that each series has besides."""
    queues = [((*store.labels, name), each) for store in stores for name, each in store.metrics.queues.items()]
    jobs = GaugeMetricFamily(
        "taquba_jobs",
        "Jobs and runs by status, as they are now; done and cancelled: ever.",
        labels=[*more, "queue", "status"],
    )
    for labels, each in queues:
        for status in _STATUSES:
            jobs.add_metric([*labels, status], getattr(each.stats, status))
    yield jobs
    ages = GaugeMetricFamily(
        "taquba_oldest_ready_age_seconds",
        "For how long what could be claimed longest has waited; 0 where nothing does.",
        labels=[*more, "queue"],
    )
    for labels, each in queues:
        ages.add_metric(labels, each.oldest_ready_age or 0.0)
    yield ages
    attempts = CounterMetricFamily(
        "taquba_attempts",
        "Attempts that ended, by label of the step and outcome.",
        labels=[*more, "queue", "step", "outcome"],
    )
    for labels, each in queues:
        for (label, outcome), many in each.attempts.items():
            attempts.add_metric([*labels, label, outcome], many)
    yield attempts
    runs = CounterMetricFamily(
        "taquba_runs_finished", "Runs that ended, by terminal status.", labels=[*more, "queue", "status"]
    )
    for labels, each in queues:
        for status, many in each.runs_finished.items():
            runs.add_metric([*labels, status], many)
    yield runs
    yield from _histograms(more, queues)
    log = GaugeMetricFamily("taquba_wal_bytes", "Bytes of the log that is not yet part of the database.", labels=more)
    for store in stores:
        log.add_metric(store.labels, store.metrics.wal_bytes)
    yield log


def _histograms(more: tuple[str, ...], queues: Sequence[tuple[tuple[str, ...], QueueMetrics]]) -> Iterator[Metric]:
    took = HistogramMetricFamily(
        "taquba_step_duration_seconds", "How long attempts took, by label of the step.", labels=[*more, "queue", "step"]
    )
    for labels, each in queues:
        for label, histogram in each.step_duration.items():
            took.add_metric([*labels, label], _buckets(histogram), histogram.sum)
    yield took
    started = HistogramMetricFamily(
        "taquba_submit_to_start_seconds",
        "How long runs waited for their first step, from their submit or their run_at.",
        labels=[*more, "queue"],
    )
    for labels, each in queues:
        if each.submit_to_start.count:
            started.add_metric(labels, _buckets(each.submit_to_start), each.submit_to_start.sum)
    yield started


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(repr, histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, histogram.cumulative), strict=True))
