"""The demo's OpenTelemetry: exports where the environment says, and keeps a copy to show and to leave as a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Recorder:
    """Providers for ``instrument``."""

    def __init__(self) -> None:
        resource = Resource.create(
            {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "otel-ratelimit-demo"}
        )
        self.exports = bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        readers: list[MetricReader] = [self._reader]
        self.tracer_provider = TracerProvider(resource=resource)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        if self.exports:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415

            self.tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=5000))
        self.meter_provider = MeterProvider(readers, resource=resource)

    def spans(self) -> list[ReadableSpan]:
        """Finished spans so far."""
        return list(self._spans.get_finished_spans())

    def metrics(self) -> dict[str, float]:
        """Sums of all counters and gauges, by name."""
        sums: dict[str, float] = {}
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        value = getattr(point, "value", None)
                        sums[metric.name] = sums.get(metric.name, 0) + (point.count if value is None else value)  # type: ignore[union-attr]
        return sums

    def close(self) -> None:
        """Flush and shut down."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


def write_traces(spans: list[ReadableSpan], path: Path) -> None:
    """Leave the spans as one OTLP JSON object, which Jaeger's UI loads ("Upload", "JSON File").

    OTLP's JSON differs from protobuf's own in one point: ids are hexadecimal, not base64
    (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).
    """
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # noqa: PLC0415

    message = encode_spans(spans)
    document = MessageToDict(message, use_integers_for_enums=True)
    for resource, encoded_resource in zip(message.resource_spans, document["resourceSpans"], strict=True):
        for scope, encoded_scope in zip(resource.scope_spans, encoded_resource["scopeSpans"], strict=True):
            for span, encoded in zip(scope.spans, encoded_scope["spans"], strict=True):
                _hexadecimal_ids(span, encoded)
                for link, encoded_link in zip(span.links, encoded.get("links", ()), strict=True):
                    _hexadecimal_ids(link, encoded_link)
    path.write_text(json.dumps(document))


def _hexadecimal_ids(message: Any, encoded: dict[str, Any]) -> None:
    for field, name in (("trace_id", "traceId"), ("span_id", "spanId"), ("parent_span_id", "parentSpanId")):
        if name in encoded:
            encoded[name] = getattr(message, field).hex()
