"""Whether the exporters that the environment names take what they are given: a test span, and an empty batch of metrics."""

from __future__ import annotations

import logging
import os
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
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otel_ratelimit import _setup
from otel_ratelimit._commands.doctor import wire
from otel_ratelimit._commands.doctor.check import HIDDEN, Check, as_name, fault, without_secret

AREA: Final = "export"

TIMEOUT: Final = "5"
"""Seconds that an endpoint has to answer, unless the environment gives it less or more."""

SPAN: Final = "otel-ratelimit doctor"
"""Name of the test span, and of its service where the environment names none."""


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
            _missing(names),
        )
        return
    if signal == "traces":
        yield from _sampler()
    for name, make in {**spans, **metrics}.items():
        if name == "console":
            yield Check(AREA, "ok", f"{signal}: to standard output")
            continue
        reason = ""
        exporter: Any = None
        with _quiet():
            try:
                # A class that is no exporter (Prometheus' reader, which is asked instead of sending) has nobody to call.
                exporter = make() if issubclass(make, (SpanExporter, MetricExporter)) else None
                # The exporter would try again and again where nobody listens.
                away = not _proxied(_endpoint(exporter)) and wire.unreachable(_endpoint(exporter), float(TIMEOUT))
                sent = exporter is None or (
                    not away and (_send_span(exporter) if signal == "traces" else _send_metrics(exporter))
                )
            except Exception as error:
                sent, reason = False, wire.meaning(str(error)) or fault(error)
        endpoint = _endpoint(exporter)
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
                _advice(exporter, signal, reason),
            )


def _shown(endpoint: str) -> str:
    """Exporters of gRPC keep host and port without a scheme; a word without a port may be anything."""
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
    # The wire is tested, whatever the environment's sampler would drop.
    provider = TracerProvider(ALWAYS_ON, Resource.create(service), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Watched()))
    provider.get_tracer("otel_ratelimit").start_span(SPAN).end()
    provider.shutdown()
    return results == [SpanExportResult.SUCCESS]


def _send_metrics(exporter: MetricExporter) -> bool:
    result = exporter.export(MetricsData(resource_metrics=[]))
    exporter.shutdown()
    return result is MetricExportResult.SUCCESS


def _endpoint(exporter: Any) -> str:
    """Where the exporter sends to: the HTTP one keeps the whole address, the gRPC one host and port."""
    return str(getattr(exporter, "_endpoint", ""))


def _proxied(endpoint: str) -> bool:
    """Whether a proxy of the environment is in between: what is heard directly then proves nothing."""
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    except ValueError:
        return False
    return parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")


def _advice(exporter: Any, signal: _setup.Signal, reason: str) -> str:
    """What stands in the way: what is heard at the endpoint, or what the exporter failed by."""
    endpoint = _endpoint(exporter) if exporter is not None else ""
    if endpoint and not _proxied(endpoint):
        certificate = getattr(exporter, "_certificate_file", None)
        heard = wire.hear(
            _with_scheme(endpoint, signal),
            "grpc"
            if type(exporter).__module__.startswith("opentelemetry.exporter.otlp.proto.grpc")
            else "http/protobuf",
            certificate=certificate if isinstance(certificate, str) else os.environ.get(wire.CERTIFICATE),
            headers=getattr(exporter, "_headers", None) or {},
            timeout=float(TIMEOUT),
        )
        if heard:
            return heard
    more = "the program's own log, of the logger opentelemetry, says more"
    return f"{reason}; {more}" if reason else more


def _with_scheme(endpoint: str, signal: _setup.Signal) -> str:
    """The exporter of gRPC forgets the scheme, which says whether TLS is spoken."""
    if "://" in endpoint:
        return endpoint
    its_own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    said = (its_own or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")).strip()
    return f"{'https' if said.startswith('https://') else 'http'}://{endpoint}"


def _missing(names: list[str]) -> str:
    """How to get an exporter that is not installed."""
    if "otlp_proto_grpc" in names:
        return f"pip install {wire.GRPC_EXPORTER}, or speak HTTP (port 4318, as a rule): {wire.HTTP}"
    return "for OTLP: pip install 'otel-ratelimit[otlp]'"


def _sampler() -> Iterator[Check]:
    """A head sampler decides before a throttle is known."""
    sampler = sdk._import_sampler(sdk._get_sampler())
    if sampler is None:
        return
    description = sampler.get_description()
    collector = "use parentbased_always_on, and let the Collector choose: it knows what was throttled"
    if "root:AlwaysOff" in description or description.startswith("AlwaysOff"):
        yield Check(AREA, "warning", "traces: the sampler (OTEL_TRACES_SAMPLER) drops every trace", collector)
    elif "TraceIdRatio" in description:
        yield Check(
            AREA,
            "warning",
            "traces: the sampler (OTEL_TRACES_SAMPLER) drops traces by chance, throttled or not",
            collector,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """What the exporter logs meanwhile is not shown: it may quote addresses and answers."""
    logger = logging.getLogger("opentelemetry")
    handler = logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
