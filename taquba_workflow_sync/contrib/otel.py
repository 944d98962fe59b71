"""Traces and metrics for OpenTelemetry; needs the extra ``[otel]``, and does nothing without its API.

The names follow the semantic conventions for messaging spans of version 1.37.0 (development status), which are written
down here and do not change when the installed package of conventions does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from taquba_workflow_sync import __version__
from taquba_workflow_sync.workflow.instruments import INSTRUMENTS, Attempt
from taquba_workflow_sync.workflow.spec import RunSpec

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

#: The version of the semantic conventions that the names below are of.
SEMCONV_VERSION: Final = "1.37.0"
_SCHEMA_URL: Final = f"https://opentelemetry.io/schemas/{SEMCONV_VERSION}"
_SCOPE: Final = "taquba_workflow_sync"
_SYSTEM: Final = "messaging.system"
_DESTINATION: Final = "messaging.destination.name"
_OPERATION_NAME: Final = "messaging.operation.name"
_OPERATION_TYPE: Final = "messaging.operation.type"
_MESSAGE_ID: Final = "messaging.message.id"
_CONVERSATION_ID: Final = "messaging.message.conversation_id"
_BATCH_COUNT: Final = "messaging.batch.message_count"
_ERROR_TYPE: Final = "error.type"
#: Bounds that the conventions advise for durations, in seconds.
_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


def instrument(tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None) -> bool:
    """Trace submits and attempts from now on, in this process; whether it does: not where the API is not installed.

    A submit is a span ``send <queue>`` of kind PRODUCER, whose context travels in the runs' headers (``traceparent``);
    an attempt of a step is a span ``process <queue>`` of kind CONSUMER, in the same trace and linked to the submit's,
    with run id, step, label and attempt. What a step submits is sent from within its span. Histograms
    ``messaging.process.duration`` and a counter ``messaging.client.sent.messages`` go to the meter provider. None: the
    global provider. A repeat replaces what was set up before.
    """
    try:
        from opentelemetry import metrics, propagate, trace  # noqa: F401  # asked for, so that nothing is half set up
    except ImportError:
        return False
    uninstrument()
    INSTRUMENTS.add(_Telemetry(tracer_provider, meter_provider))
    return True


def uninstrument() -> None:
    """Trace nothing more; without effect where nothing is traced."""
    for each in INSTRUMENTS.active:
        if isinstance(each, _Telemetry):
            INSTRUMENTS.remove(each)


class _Telemetry:
    """An instrument that tells OpenTelemetry."""

    def __init__(self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None) -> None:
        from opentelemetry import metrics, propagate, trace

        self._trace = trace
        self._propagate = propagate
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider, _SCHEMA_URL)
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider, _SCHEMA_URL)
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Runs that were submitted, or found to be there already."
        )
        self._took = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "How long attempts of steps took.",
            explicit_bucket_boundaries_advisory=_BOUNDS,
        )

    @contextmanager
    def sending(self, queue: str, specs: Sequence[RunSpec]) -> Iterator[Sequence[RunSpec]]:
        """Go around a submit; its runs carry the context of its span."""
        attributes = _attributes(queue, "send")
        if len(specs) == 1 and specs[0].run_id is not None:
            attributes[_CONVERSATION_ID] = specs[0].run_id
        elif len(specs) != 1:
            attributes[_BATCH_COUNT] = len(specs)
        with self._tracer.start_as_current_span(
            f"send {queue}", kind=self._trace.SpanKind.PRODUCER, attributes=attributes
        ):
            carrier: dict[str, str] = {}
            self._propagate.inject(carrier)
            # What the caller has set goes first: it knows of what its run is a part.
            yield [replace(spec, headers={**carrier, **spec.headers}) for spec in specs] if carrier else specs
        self._sent.add(len(specs), {_SYSTEM: "taquba", _DESTINATION: queue, _OPERATION_NAME: "send"})

    @contextmanager
    def processing(self, attempt: Attempt) -> Iterator[None]:
        """Go around an attempt."""
        sent = self._propagate.extract(attempt.headers)
        producer = self._trace.get_current_span(sent).get_span_context()
        links = [self._trace.Link(producer)] if producer.is_valid else []
        attributes = _attributes(attempt.queue, "process") | {
            _MESSAGE_ID: attempt.job_id,
            "taquba.step": attempt.step,
            "taquba.attempt": attempt.number,
        }
        if attempt.run_id is not None:
            attributes[_CONVERSATION_ID] = attempt.run_id
        if attempt.label is not None:
            attributes["taquba.label"] = attempt.label
        measured: dict[str, Any] = {_SYSTEM: "taquba", _DESTINATION: attempt.queue, _OPERATION_NAME: "process"}
        began = time.perf_counter()
        try:
            with self._tracer.start_as_current_span(
                f"process {attempt.queue}",
                context=sent,
                kind=self._trace.SpanKind.CONSUMER,
                attributes=attributes,
                links=links,
            ) as span:
                try:
                    yield
                except BaseException as error:
                    span.set_attribute(_ERROR_TYPE, type(error).__qualname__)
                    measured[_ERROR_TYPE] = type(error).__qualname__
                    raise
        finally:
            self._took.record(time.perf_counter() - began, measured)


def _attributes(queue: str, operation: str) -> dict[str, str | int]:
    return {_SYSTEM: "taquba", _DESTINATION: queue, _OPERATION_NAME: operation, _OPERATION_TYPE: operation}
