"""What Prometheus is told: the names of the contract, the numbers of the store, read by its own parser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import JobStatus, Queue, StoreClosedError, Succeed, WorkflowClient, WorkflowRuntime
from taquba_workflow_sync.testing import ManualClock
from tests.contrib.support import work
from tests.support import PATIENCE

prometheus_client = pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest  # noqa: E402  # behind the skip
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402  # behind the skip

from taquba_workflow_sync.contrib.prometheus import TaqubaCollector  # noqa: E402  # behind the skip

NAMES = {
    "taquba_jobs": "gauge",
    "taquba_oldest_ready_age_seconds": "gauge",
    "taquba_attempts": "counter",
    "taquba_runs_finished": "counter",
    "taquba_step_duration_seconds": "histogram",
    "taquba_submit_to_start_seconds": "histogram",
    "taquba_wal_bytes": "gauge",
}
DASHBOARD = Path(__file__).resolve().parents[2] / "docs" / "grafana" / "taquba.json"


def scrape(queue: Queue) -> tuple[dict[str, Any], str]:
    """The families by name, as a server would read them."""
    registry = CollectorRegistry()
    registry.register(TaqubaCollector(queue))
    text = generate_latest(registry).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}, text


def value(families: dict[str, Any], sample: str, **labels: str) -> float | None:
    found = [
        each.value
        for family in families.values()
        for each in family.samples
        if each.name == sample and each.labels == labels
    ]
    assert len(found) <= 1
    return found[0] if found else None


def test_the_names_and_types_are_those_of_the_contract_also_of_an_empty_store(queue: Queue) -> None:
    families, _ = scrape(queue)
    assert {name: family.type for name, family in families.items()} == NAMES
    work(queue, "a")
    families, _ = scrape(queue)
    assert {name: family.type for name, family in families.items()} == NAMES


def test_the_numbers_are_the_stores(queue: Queue) -> None:
    work(queue, "a", "b", "dead-1", "fail-1", "retry-1")
    WorkflowClient(queue, queue_name="orders").submit(run_id="waits")
    families, _ = scrape(queue)
    of = {"queue": "orders"}
    statuses = {status: value(families, "taquba_jobs", status=status, **of) for status in JobStatus}
    assert statuses == {"pending": 1, "scheduled": 0, "claimed": 0, "done": 4, "dead": 1, "cancelled": 0}
    attempts = {
        (step, outcome): value(families, "taquba_attempts_total", step=step, outcome=outcome, **of)
        for step, outcome in (("charge", "continued"), ("ship", "succeeded"), ("charge", "dead"), ("charge", "retried"))
    }
    assert attempts == {
        ("charge", "continued"): 3, ("ship", "succeeded"): 3, ("charge", "dead"): 1, ("charge", "retried"): 1,
    }  # fmt: skip
    assert value(families, "taquba_runs_finished_total", status="succeeded", **of) == 3
    assert value(families, "taquba_runs_finished_total", status="failed", **of) == 2
    assert value(families, "taquba_step_duration_seconds_count", step="ship", **of) == 3
    assert value(families, "taquba_step_duration_seconds_bucket", step="ship", le="+Inf", **of) == 3
    assert value(families, "taquba_submit_to_start_seconds_count", **of) == 5
    age = value(families, "taquba_oldest_ready_age_seconds", **of)
    assert age is not None and age >= 0
    wal = value(families, "taquba_wal_bytes")
    assert wal is not None and wal >= 0


def test_buckets_are_cumulative_and_end_with_the_count(queue: Queue) -> None:
    work(queue, *(f"r{number}" for number in range(5)))
    families, _ = scrape(queue)
    for name in ("taquba_step_duration_seconds", "taquba_submit_to_start_seconds"):
        by_series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
        for sample in families[name].samples:
            if sample.name.endswith("_bucket"):
                labels = tuple(sorted((key, each) for key, each in sample.labels.items() if key != "le"))
                by_series.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        assert by_series
        for buckets in by_series.values():
            assert [bound for bound, _ in buckets] == sorted(bound for bound, _ in buckets)
            assert [many for _, many in buckets] == sorted(many for _, many in buckets)
            assert buckets[-1] == (float("inf"), 5.0)


def test_sums_ages_and_the_log_are_the_stores(still: Queue, clock: ManualClock) -> None:
    WorkflowClient(still, queue_name="orders").submit(run_id="waits")
    clock.advance(3)
    work(still, "a")
    WorkflowClient(still, queue_name="mails").submit()
    clock.advance(7)
    metrics = still.metrics()
    families, _ = scrape(still)
    for label, histogram in metrics.queues["orders"].step_duration.items():
        of = {"queue": "orders", "step": label}
        assert value(families, "taquba_step_duration_seconds_sum", **of) == histogram.sum
        for bound, many in zip([*histogram.bounds, float("inf")], histogram.cumulative, strict=True):
            le = "+Inf" if bound == float("inf") else repr(bound)
            assert value(families, "taquba_step_duration_seconds_bucket", le=le, **of) == many
    waited = metrics.queues["orders"].submit_to_start
    assert value(families, "taquba_submit_to_start_seconds_sum", queue="orders") == waited.sum == 3
    assert value(families, "taquba_submit_to_start_seconds_count", queue="mails") is None, "none has started"
    assert value(families, "taquba_oldest_ready_age_seconds", queue="mails") == 7
    assert value(families, "taquba_oldest_ready_age_seconds", queue="orders") == 0
    assert value(families, "taquba_wal_bytes") == metrics.wal_bytes > 0


def test_run_ids_are_never_exported(queue: Queue) -> None:
    work(queue, "customer-4711", "dead-4711")
    assert "4711" not in scrape(queue)[1]


def test_a_scrape_reads_the_store_as_it_is_then(queue: Queue) -> None:
    registry = CollectorRegistry()
    registry.register(TaqubaCollector(queue))
    assert registry.get_sample_value("taquba_runs_finished_total", {"queue": "orders", "status": "succeeded"}) is None
    work(queue, "a")
    assert registry.get_sample_value("taquba_runs_finished_total", {"queue": "orders", "status": "succeeded"}) == 1


def test_to_describe_reads_nothing(queue: Queue) -> None:
    collector = TaqubaCollector(queue)
    queue.close()
    assert {family.name for family in collector.describe()} == NAMES.keys()
    CollectorRegistry().register(collector)
    with pytest.raises(StoreClosedError):
        list(collector.collect())


def test_what_is_no_queue_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Queue\.open"):
        TaqubaCollector("var/jobs")  # type: ignore[arg-type]


def test_several_stores_go_into_one_registry_by_a_label(queue: Queue, tmp_path: Path) -> None:
    work(queue, "a")
    with Queue.open(tmp_path / "other") as other:
        work(other, "b", "c", queue_name="mails")
        registry = CollectorRegistry()
        TaqubaCollector({"shop": queue, 'the "other"': other}).register(registry)
        text = generate_latest(registry).decode()
    families = list(text_string_to_metric_families(text))
    assert [family.name for family in families] == list(NAMES), "each family stands once"
    samples = [sample for family in families for sample in family.samples]
    series = [(sample.name, *sorted(sample.labels.items())) for sample in samples]
    assert len(set(series)) == len(series)
    stores = {(sample.labels["store"], sample.labels.get("queue")) for sample in samples}
    assert stores == {("shop", "orders"), ("shop", None), ('the "other"', "mails"), ('the "other"', None)}
    finished = {
        sample.labels["store"]: sample.value for sample in samples if sample.name == "taquba_runs_finished_total"
    }
    assert finished == {"shop": 1, 'the "other"': 2}


def test_a_second_collector_in_a_registry_is_told_what_to_do(queue: Queue) -> None:
    registry = CollectorRegistry()
    TaqubaCollector(queue).register(registry)
    with pytest.raises(ValueError, match=r"has a TaqubaCollector already: .*CollectorRegistry\(\) of its own"):
        TaqubaCollector(queue).register(registry)
    TaqubaCollector(queue).register(CollectorRegistry())


def test_it_is_registered_where_the_library_looks_unless_it_is_told(queue: Queue) -> None:
    collector = TaqubaCollector(queue)
    collector.register()
    try:
        assert b"taquba_wal_bytes" in generate_latest(prometheus_client.REGISTRY)
    finally:
        prometheus_client.REGISTRY.unregister(collector)


@pytest.mark.parametrize(
    ("names", "error", "told"),
    [
        ([], ValueError, "nothing to export"),
        (["one", "two"], ValueError, "two of the names are of the store"),
        ([""], ValueError, "store '' has 0 bytes"),
        (["x" * 256], ValueError, "has 256 bytes; it must have 1 to 255"),
        ([3], TypeError, "store must be a str"),
    ],
)
def test_senseless_stores_are_refused_at_once(
    queue: Queue, names: list[Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        TaqubaCollector(dict.fromkeys(names, queue))


def test_what_is_no_queue_by_a_name_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Queue\.open"):
        TaqubaCollector({"one": "var/jobs"})  # type: ignore[dict-item]


@pytest.mark.parametrize("label", ['say "hi"', "a\\b", "a{b=c},d", "größe", "# HELP x"])
def test_whatever_a_label_says_it_is_read_back_as_it_was(queue: Queue, label: str) -> None:
    runtime = WorkflowRuntime(queue, lambda step: Succeed(), queue_name=f"queue {label}")
    runtime.submit(label=label)
    runtime.run_until_idle(PATIENCE)
    families, _ = scrape(queue)
    labels = {"queue": f"queue {label}", "step": label, "outcome": "succeeded"}
    assert value(families, "taquba_attempts_total", **labels) == 1


def test_names_and_helps_are_as_prometheus_has_them(queue: Queue) -> None:
    work(queue, "a")
    families, text = scrape(queue)
    for name, family in families.items():
        assert re.fullmatch(r"taquba_[a-z_]+", name)
        assert family.documentation.endswith(".") and "\n" not in family.documentation
        assert f"# HELP {name}{'_total' if family.type == 'counter' else ''} {family.documentation}" in text
        if family.type == "histogram":
            assert name.endswith("_seconds"), "the unit is the base unit"
        if family.type == "counter":
            assert {sample.name for sample in family.samples} == {f"{name}_total"}
        for sample in family.samples:
            assert all(re.fullmatch(r"[a-z]+", label) for label in sample.labels)


def queries() -> list[str]:
    board = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert panels and all(panel["targets"] for panel in panels)
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    return [*found, board["templating"]["list"][1]["query"]["query"]]


def test_every_query_of_the_dashboard_is_about_what_is_exported(queue: Queue) -> None:
    work(queue, "a", "dead-1")
    families, _ = scrape(queue)
    samples = {sample.name: set(sample.labels) for family in families.values() for sample in family.samples}
    asked = set()
    for query in queries():
        for name, selector in re.findall(r"(taquba_\w+)(?:\{([^}]*)\})?", query):
            assert name in samples, query
            labels = set(re.findall(r"(\w+)\s*=", selector or "")) - {"instance", "job"}
            assert labels <= samples[name], query
            asked.add(re.sub(r"_(total|bucket|sum|count)$", "", name))
        for group in re.findall(r"by \(([^)]*)\)", query):
            known = set().union(*samples.values()) | {"le"}
            assert {each.strip() for each in group.split(",")} <= known, query
    assert asked == NAMES.keys()


def test_the_dashboard_takes_the_most_over_processes_never_the_sum() -> None:
    for query in queries():
        if query.startswith("label_values"):
            continue
        innermost = re.findall(r"(\w+) ?(?:by \([^)]*\) ?)?\((?:rate\(|increase\()?taquba_", query)
        assert innermost and set(innermost) == {"max"}, query
