"""Whether the exporters that the environment names take what they are given: a test span, and an empty batch of metrics."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from opentelemetry.sdk import _configuration as sdk
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from otel_ratelimit import _setup
from otel_ratelimit._commands.doctor.check import HIDDEN, Check, as_name, fault, without_secret

AREA: Final = "export"

TIMEOUT: Final = "5"
"""Seconds that an endpoint has to answer, unless the environment gives it less or more."""

SPAN: Final = "otel-ratelimit doctor"
"""Name of the test span, and of its service where the environment names none."""

_HINTS: Final = (
    ("refused", "nothing listens there: is the Collector (or Jaeger) up, and is the port right?"),
    (
        "404",
        "something listens there that does not take this signal: Jaeger takes traces only (OTEL_METRICS_EXPORTER=none)",
    ),
    ("401", "the endpoint wants a credential: OTEL_EXPORTER_OTLP_HEADERS"),
    ("403", "the endpoint refuses the credential: OTEL_EXPORTER_OTLP_HEADERS"),
    ("gaierror", "the host name cannot be resolved"),
    ("timed out", "no answer in time: is a firewall or a proxy in between?"),
)


def check(environment: Mapping[str, str]) -> Iterator[Check]:
    """Each signal that is asked for, through its own exporter."""
    asked = [signal for signal in _setup.SIGNALS if _setup.asked_for(signal, environment)]
    if not asked:
        yield Check(
            AREA,
            "note",
            "the environment asks for no export; spans and metrics go to the providers that the program sets, if any",
            "to see them: OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318",
        )
        return
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", TIMEOUT)
    for signal in asked:
        yield from _signal(signal)


def _signal(signal: _setup.Signal) -> Iterator[Check]:
    names = _setup.exporter_names(sdk, signal)
    try:
        spans, metrics, _ = sdk._import_exporters(
            names if signal == "traces" else [], names if signal == "metrics" else [], []
        )
    except RuntimeError:
        yield Check(
            AREA,
            "failure",
            f"the {signal} exporter {', '.join(map(as_name, names))} is not installed",
            "for OTLP: pip install 'otel-ratelimit[otlp]'",
        )
        return
    for name, make in {**spans, **metrics}.items():
        if name == "console":
            yield Check(AREA, "ok", f"{signal}: to standard output")
            continue
        reason = ""
        with _told() as told:
            try:
                # A class that is no exporter (Prometheus' reader, which is asked instead of sending) has nobody to call.
                exporter: Any = make() if issubclass(make, (SpanExporter, MetricExporter)) else None
                unreachable = _unreachable(str(getattr(exporter, "_endpoint", "")))
                told.extend(unreachable)
                sent = exporter is None or (
                    not unreachable and (_send_span(exporter) if signal == "traces" else _send_metrics(exporter))
                )
            except Exception as error:
                told.append(f"{type(error).__name__}: {error}")
                sent, exporter = False, None
                reason = fault(error)
        endpoint = str(getattr(exporter, "_endpoint", "")) if exporter is not None else ""
        where = _shown(endpoint) if endpoint else ""
        what = "a test span" if signal == "traces" else "an empty batch"
        if sent:
            yield Check(
                AREA,
                "ok",
                f"{signal}: {what} was taken{f' by {where}' if where else ''}" if exporter else f"{signal}: {name}",
            )
        else:
            yield Check(
                AREA,
                "failure",
                f"{signal}: {what} was not taken{f' by {where}' if where else ''}",
                _advice(told, reason),
            )


def _shown(endpoint: str) -> str:
    """gRPC's exporters keep host and port without a scheme; a word without a port may be anything."""
    if "://" in endpoint:
        return without_secret(endpoint)
    return without_secret(f"grpc://{endpoint}").removeprefix("grpc://") if ":" in endpoint else HIDDEN


def _send_span(exporter: SpanExporter) -> bool:
    results = []

    class Watched(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            results.append(exporter.export(spans))
            return results[-1]

        def shutdown(self) -> None:
            exporter.shutdown()

    service = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": SPAN}
    provider = TracerProvider(resource=Resource.create(service), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Watched()))
    provider.get_tracer("otel_ratelimit").start_span(SPAN).end()
    provider.shutdown()
    return results == [SpanExportResult.SUCCESS]


def _send_metrics(exporter: MetricExporter) -> bool:
    result = exporter.export(MetricsData(resource_metrics=[]))
    exporter.shutdown()
    return result is MetricExportResult.SUCCESS


def _unreachable(endpoint: str) -> list[str]:
    """Why no connection can be had, if so. The exporter itself would try again and again first, and not say why."""
    parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    if not parts.hostname or (parts.scheme in getproxies() and not proxy_bypass(parts.hostname)):
        return []
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), float(TIMEOUT)).close()
    except OSError as error:
        return [f"{type(error).__name__}: {error}"]
    return []


@contextmanager
def _told() -> Iterator[list[str]]:
    """What the exporter logs meanwhile: it returns only that it failed. Known words are looked for; the text is not shown."""
    told: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logger = logging.getLogger("opentelemetry")
    logger.addHandler(listener)
    try:
        yield told
    finally:
        logger.removeHandler(listener)


def _advice(told: list[str], reason: str) -> str:
    said = " ".join(told).lower()
    hint = next((hint for word, hint in _HINTS if word in said), "")
    more = "the program's own log, of the logger opentelemetry, says more"
    return hint or (f"{reason}; {more}" if reason else more)
