"""The demo's OpenTelemetry: exports where the environment says, and keeps a copy to show and to leave as a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from opentelemetry.sdk import _configuration as sdk
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_ratelimit import _setup
from otel_ratelimit._commands.exports import ExportFailures, lines_of
from otel_ratelimit._commands.otlp_json import spans_as_json


class Recorder:
    """Providers for ``instrument``."""

    def __init__(self) -> None:
        resource = Resource.create(
            {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "otel-ratelimit-demo"}
        )
        self.exports = bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
        self._failures = ExportFailures()
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        readers: list[MetricReader] = [self._reader]
        self.tracer_provider = TracerProvider(resource=resource)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        if self.exports:
            self._failures.watch()
            span_exporter, metric_exporter = (_exporter(signal) for signal in _setup.SIGNALS)
            self.tracer_provider.add_span_processor(BatchSpanProcessor(span_exporter()))
            readers.append(PeriodicExportingMetricReader(metric_exporter(), export_interval_millis=5000))
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
        self._failures.stop()

    def failures(self) -> list[str]:
        """What could not be exported, and why: a line for each signal. Complete once it is closed."""
        return lines_of(self._failures.found, os.environ)


def _exporter(signal: _setup.Signal) -> Any:
    """The OTLP exporter for the protocol that the environment means."""
    names = ["otlp_proto_grpc" if _setup.protocol_of(signal, os.environ) == "grpc" else "otlp_proto_http"]
    spans, metrics, _ = sdk._import_exporters(
        names if signal == "traces" else [], names if signal == "metrics" else [], []
    )
    return next(iter({**spans, **metrics}.values()))


def write_traces(spans: list[ReadableSpan], path: Path) -> None:
    """Leave the spans as one OTLP JSON object."""
    path.write_text(json.dumps(spans_as_json(spans)))
