"""OpenTelemetry's own SDK in this process, which keeps what it is told."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@dataclass
class Told:
    """What was told since the test began: the finished spans, and sums of metrics."""

    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    def spans(self) -> list[Any]:
        """In the order in which they began."""
        finished: Any = self.exporter.get_finished_spans()
        return sorted(finished, key=lambda span: span.start_time)

    def counts(self) -> dict[tuple[str, str], float]:
        """What was counted in all tests, by metric and by the kind of error."""
        found: dict[tuple[str, str], float] = {}
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for metric in (m for scope in resource.scope_metrics for m in scope.metrics):
                for point in metric.data.data_points:
                    kind = str((point.attributes or {}).get("error.type", ""))
                    number = getattr(point, "count", getattr(point, "value", 0))
                    found[metric.name, kind] = found.get((metric.name, kind), 0) + number
        return found


@pytest.fixture(scope="session")
def providers() -> Told:
    """Providers can be set once only, and stay."""
    told = Told(InMemorySpanExporter(), InMemoryMetricReader())
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(told.exporter))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([told.reader]))
    return told


@pytest.fixture
def told(providers: Told) -> Iterator[Told]:
    providers.exporter.clear()
    yield providers
    providers.exporter.clear()
