"""Spans of submits and attempts, linked through the runs' headers; told by OpenTelemetry's own exporter."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from taquba_workflow_sync import (
    InputMismatchError,
    Queue,
    RunSpec,
    Step,
    StepOutcome,
    Succeed,
    WorkflowClient,
    WorkflowRuntime,
    __version__,
)
from taquba_workflow_sync.contrib import otel
from taquba_workflow_sync.workflow.instruments import INSTRUMENTS, Attempt
from tests.contrib.support import orders
from tests.support import PATIENCE

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace  # behind the skip
from opentelemetry.sdk.metrics import MeterProvider  # behind the skip
from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # behind the skip
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider  # behind the skip
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # behind the skip
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # behind the skip
from opentelemetry.trace import SpanKind, StatusCode  # behind the skip

PACKAGE = "taquba_workflow_sync"


class Telemetry:
    """Providers that keep what they are told."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self.reader])

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        found = [span for span in self.exporter.get_finished_spans() if name in (None, span.name)]
        return sorted(found, key=lambda span: span.start_time or 0)

    def metrics(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    kept = Telemetry()
    assert otel.instrument(kept.tracers, kept.meters)
    yield kept
    otel.uninstrument()
    kept.meters.shutdown()
    kept.tracers.shutdown()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def context(span: ReadableSpan) -> Any:
    assert span.context is not None
    return span.context


def test_a_submit_is_a_producer_and_each_attempt_a_consumer_linked_to_it(queue: Queue, telemetry: Telemetry) -> None:
    runtime = WorkflowRuntime(queue, orders, queue_name="orders")
    job_id = runtime.submit(run_id="retry-1", label="charge").first_job_id
    runtime.run_until_idle(PATIENCE)
    (send,) = telemetry.spans("send orders")
    processed = telemetry.spans("process orders")
    assert send.kind is SpanKind.PRODUCER
    assert attributes(send) == {
        "messaging.system": "taquba",
        "messaging.destination.name": "orders",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.message.conversation_id": "retry-1",
    }
    assert [span.kind for span in processed] == [SpanKind.CONSUMER] * 3
    for span in processed:
        assert [link.context.span_id for link in span.links] == [context(send).span_id]
        assert context(span).trace_id == context(send).trace_id
        assert span.parent is not None and span.parent.span_id == context(send).span_id
        taquba = {name for name in attributes(span) if name.startswith("taquba.")} | {"error.type"}
        assert {name: value for name, value in attributes(span).items() if name not in taquba} == {
            "messaging.system": "taquba",
            "messaging.destination.name": "orders",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.message.id": job_id,
            "messaging.message.conversation_id": "retry-1",
        }
    told = [(each["taquba.step"], each["taquba.label"], each["taquba.attempt"]) for each in map(attributes, processed)]
    assert told == [(0, "charge", 1), (0, "charge", 2), (1, "ship", 1)]
    failed, *well = processed
    assert failed.status.status_code is StatusCode.ERROR and attributes(failed)["error.type"] == "OSError"
    assert [event.name for event in failed.events] == ["exception"]
    assert [span.status.status_code for span in well] == [StatusCode.UNSET] * 2


def test_the_context_travels_in_the_headers(queue: Queue, telemetry: Telemetry) -> None:
    client = WorkflowClient(queue, queue_name="orders")
    client.submit(run_id="r", headers={"tenant": "red"})
    (send,) = telemetry.spans()
    status = client.status("r")
    assert status is not None and status.headers["tenant"] == "red"
    version, trace_id, span_id, _ = status.headers["traceparent"].split("-")
    assert (version, int(trace_id, 16), int(span_id, 16)) == ("00", context(send).trace_id, context(send).span_id)


def test_a_context_that_the_caller_has_set_goes_first(queue: Queue, telemetry: Telemetry) -> None:
    mine = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    client = WorkflowClient(queue, queue_name="orders")
    client.submit(run_id="r", headers={"traceparent": mine})
    status = client.status("r")
    assert status is not None and status.headers["traceparent"] == mine


def test_what_a_run_does_not_have_is_not_told(queue: Queue, telemetry: Telemetry) -> None:
    runtime = WorkflowRuntime(queue, lambda step: Succeed(), queue_name="orders")
    runtime.submit()
    runtime.run_until_idle(PATIENCE)
    (send,), (process,) = telemetry.spans("send orders"), telemetry.spans("process orders")
    assert not {"messaging.message.conversation_id", "messaging.batch.message_count"} & attributes(send).keys()
    assert "taquba.label" not in attributes(process) and "error.type" not in attributes(process)


def test_a_submit_that_is_repeated_is_the_same_run(queue: Queue, telemetry: Telemetry) -> None:
    client = WorkflowClient(queue, queue_name="orders")
    assert client.submit(run_id="r", input=b"x").newly_submitted
    assert not client.submit(run_id="r", input=b"x").newly_submitted
    assert len(telemetry.spans("send orders")) == 2


def test_a_submit_stands_in_the_trace_of_its_caller_and_many_are_one_span(queue: Queue, telemetry: Telemetry) -> None:
    client = WorkflowClient(queue, queue_name="orders")
    with telemetry.tracers.get_tracer("app").start_as_current_span("view") as view:
        client.submit_many([RunSpec(run_id="a"), RunSpec(run_id="b")])
    (send,) = telemetry.spans("send orders")
    assert send.parent is not None and send.parent.span_id == view.get_span_context().span_id
    assert attributes(send)["messaging.batch.message_count"] == 2
    assert "messaging.message.conversation_id" not in attributes(send)
    (sent,) = telemetry.metrics()["messaging.client.sent.messages"]
    assert sent.value == 2
    statuses = [client.status(run_id) for run_id in "ab"]
    assert len({status.headers["traceparent"] for status in statuses if status is not None}) == 1


def test_what_a_step_does_and_submits_is_inside_of_its_span(queue: Queue, telemetry: Telemetry) -> None:
    inner: list[int] = []

    def parent(step: Step) -> StepOutcome:
        inner.append(trace.get_current_span().get_span_context().span_id)
        if step.run_id == "parent":
            step.effects.submit(RunSpec(run_id="child"))
            step.effects.submit_group("g", [RunSpec(run_id="member")])
        return Succeed()

    runtime = WorkflowRuntime(queue, parent, queue_name="orders")
    runtime.submit(run_id="parent")
    runtime.run_until_idle(PATIENCE)
    first, *_ = processed = telemetry.spans("process orders")
    assert [context(span).span_id for span in processed] == inner and len(inner) == 3
    sent = telemetry.spans("send orders")
    assert [span.parent and span.parent.span_id for span in sent[1:]] == [context(first).span_id] * 2
    linked = {str(attributes(span)["messaging.message.conversation_id"]): span.links[0] for span in processed}
    by_run = {name: link.context.span_id for name, link in linked.items()}
    assert by_run == dict(zip(("parent", "child", "member"), [context(span).span_id for span in sent], strict=True))


def test_a_run_without_a_context_is_processed_without_a_link(queue: Queue, telemetry: Telemetry) -> None:
    otel.uninstrument()
    client = WorkflowClient(queue, queue_name="orders")
    client.submit(run_id="r")
    client.submit(run_id="odd", headers={"traceparent": "nonsense"})
    otel.instrument(telemetry.tracers, telemetry.meters)
    WorkflowRuntime(queue, lambda step: Succeed(), queue_name="orders").run_until_idle(PATIENCE)
    assert [(span.name, span.links, span.parent) for span in telemetry.spans()] == [("process orders", (), None)] * 2


def test_attempts_and_submits_are_measured(queue: Queue, telemetry: Telemetry) -> None:
    runtime = WorkflowRuntime(queue, orders, queue_name="orders")
    runtime.submit(run_id="retry-1")
    runtime.run_until_idle(PATIENCE)
    metrics = telemetry.metrics()
    (sent,) = metrics["messaging.client.sent.messages"]
    assert sent.value == 1 and sent.attributes["messaging.operation.name"] == "send"
    took = {dict(point.attributes).get("error.type"): point.count for point in metrics["messaging.process.duration"]}
    assert took == {None: 2, "OSError": 1}
    for point in [sent, *metrics["messaging.process.duration"]]:
        assert point.attributes["messaging.system"] == "taquba"
        assert point.attributes["messaging.destination.name"] == "orders"
        assert "retry-1" not in point.attributes.values()


def test_what_is_measured_is_in_the_units_and_bounds_of_the_conventions(queue: Queue, telemetry: Telemetry) -> None:
    began = time.monotonic()
    runtime = WorkflowRuntime(queue, orders, queue_name="orders")
    runtime.submit(run_id="retry-1")
    runtime.run_until_idle(PATIENCE)
    data = telemetry.reader.get_metrics_data()
    assert data is not None
    (scope,) = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    assert (scope.scope.name, scope.scope.version) == (PACKAGE, __version__)
    assert scope.schema_url == f"https://opentelemetry.io/schemas/{otel.SEMCONV_VERSION}"
    units = {metric.name: metric.unit for metric in scope.metrics}
    assert units == {"messaging.client.sent.messages": "{message}", "messaging.process.duration": "s"}
    assert all(metric.description.endswith(".") for metric in scope.metrics)
    took = telemetry.metrics()["messaging.process.duration"]
    assert {point.attributes["messaging.operation.name"] for point in took} == {"process"}
    assert 0 < sum(point.sum for point in took) <= time.monotonic() - began
    for point in took:
        assert point.explicit_bounds == (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


def test_an_attempt_that_is_broken_off_is_told(telemetry: Telemetry) -> None:
    (instrument,) = INSTRUMENTS.active
    with pytest.raises(KeyboardInterrupt), instrument.processing(Attempt("orders", "r", "j", 0, None, 1, {})):
        raise KeyboardInterrupt
    (span,) = telemetry.spans("process orders")
    (took,) = telemetry.metrics()["messaging.process.duration"]
    assert attributes(span)["error.type"] == took.attributes["error.type"] == "KeyboardInterrupt"


def test_a_submit_that_fails_is_told_and_not_counted(queue: Queue, telemetry: Telemetry) -> None:
    client = WorkflowClient(queue, queue_name="orders")
    with pytest.raises(TypeError, match="RunSpec"):
        client.submit_many([RunSpec(), "no spec"])  # type: ignore[list-item]
    assert telemetry.spans() == []
    client.submit(run_id="r", input=b"x")
    with pytest.raises(InputMismatchError):
        client.submit(run_id="r", input=b"y")
    assert [span.status.status_code for span in telemetry.spans()] == [StatusCode.UNSET, StatusCode.ERROR]
    (sent,) = telemetry.metrics()["messaging.client.sent.messages"]
    assert sent.value == 1


def test_a_repeat_replaces_and_uninstrument_ends_it(queue: Queue, telemetry: Telemetry) -> None:
    assert otel.instrument(telemetry.tracers, telemetry.meters)
    client = WorkflowClient(queue, queue_name="orders")
    client.submit(run_id="a")
    assert len(telemetry.spans()) == 1
    otel.uninstrument()
    otel.uninstrument()
    client.submit(run_id="b")
    assert len(telemetry.spans()) == 1 and INSTRUMENTS.active == ()


def test_instruments_of_others_stay(queue: Queue, telemetry: Telemetry) -> None:
    class Other:
        """Sees nothing."""

    other: Any = Other()
    INSTRUMENTS.add(other)
    try:
        otel.uninstrument()
        assert INSTRUMENTS.active == (other,)
    finally:
        INSTRUMENTS.remove(other)


def test_the_version_of_the_conventions_is_pinned(queue: Queue, telemetry: Telemetry) -> None:
    WorkflowClient(queue).submit()
    (send,) = telemetry.spans()
    assert send.instrumentation_scope is not None
    assert (send.instrumentation_scope.name, send.instrumentation_scope.version) == (PACKAGE, __version__)
    assert send.instrumentation_scope.schema_url == f"https://opentelemetry.io/schemas/{otel.SEMCONV_VERSION}"


def test_without_the_api_it_does_nothing() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from taquba_workflow_sync.contrib import otel\n"
        "from taquba_workflow_sync.workflow.instruments import INSTRUMENTS\n"
        "assert otel.instrument() is False and INSTRUMENTS.active == ()\n"
        "otel.uninstrument()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
