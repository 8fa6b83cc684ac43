"""In-memory OpenTelemetry: what was emitted, in a form that a test can compare."""

from __future__ import annotations

from collections import Counter
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Probe:
    """Providers to hand to ``instrument``, and what came out of them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader])

    def spans(self, word: str | None = None) -> list[ReadableSpan]:
        """Finished spans whose name begins with ``word``, in the order in which they began."""
        spans = sorted(
            self._exporter.get_finished_spans(), key=lambda span: (span.start_time or 0, -(span.end_time or 0))
        )
        return [span for span in spans if word is None or span.name.split(" ")[0] == word]

    def names(self) -> Counter[str]:
        """How many spans of each kind: the first word of the name."""
        return Counter(span.name.split(" ")[0] for span in self.spans())

    def recoveries(self) -> dict[str, int]:
        """The same without the waits: on a busy machine a short delay is over before anybody can wait for it."""
        return {word: count for word, count in self.names().items() if word != "wait"}

    def only(self, word: str) -> ReadableSpan:
        """The one span of that kind."""
        (span,) = self.spans(word)
        return span

    def points(self, metric: str) -> list[Any]:
        """All data points of a metric."""
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for emitted in scope.metrics
            if emitted.name == metric
            for point in emitted.data.data_points
        ]

    def total(self, metric: str, **attributes: Any) -> float:
        """Sum of a counter, or count of a histogram, over the points that carry the attributes (dots as underscores)."""
        total = 0.0
        for point in self.points(metric):
            carried = {str(key).replace(".", "_"): value for key, value in point.attributes.items()}
            if all(carried.get(key) == value for key, value in attributes.items()):
                total += point.value if hasattr(point, "value") else point.count
        return total

    def clear(self) -> None:
        """Forget the spans so far."""
        self._exporter.clear()

    def shutdown(self) -> None:
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


def seconds(span: ReadableSpan) -> float:
    """How long a span lasted."""
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def parent_id(span: ReadableSpan) -> int | None:
    """The span id of a span's parent."""
    return span.parent.span_id if span.parent is not None else None


def span_id(span: ReadableSpan) -> int:
    """A span's own id."""
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def notes(error: BaseException) -> list[str]:
    """The notes on an exception; on Python 3.10 the type checker, and the language, do not know them."""
    return list(getattr(error, "__notes__", ()))
