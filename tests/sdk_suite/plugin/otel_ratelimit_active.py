"""A pytest plugin that instruments the SDK before its own tests are collected, with real providers.

In a folder of its own, which goes on the path: the SDK's tests are a package called ``tests`` too.
"""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

import otel_ratelimit

_reader = InMemoryMetricReader()


def pytest_configure(config: pytest.Config) -> None:
    otel_ratelimit.instrument(tracer_provider=TracerProvider(), meter_provider=MeterProvider([_reader]))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How much went through the hooks: a run in which nothing did would prove nothing."""
    data = _reader.get_metrics_data()
    counts = {
        metric.name: sum(getattr(point, "count", 0) or getattr(point, "value", 0) for point in metric.data.data_points)
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    for name in ("otel_ratelimit.call.duration", "otel_ratelimit.attempt.duration", "otel_ratelimit.throttles"):
        terminalreporter.write_line(f"{name}: {counts.get(name, 0)}")
