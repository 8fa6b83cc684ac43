"""Sets the OpenTelemetry SDK up from the standard ``OTEL_*`` variables, late and politely.

Only at the first OpenAI call (a program that sets its own provider does so before), only where no provider has been set or
handed in, and only for a signal that the environment asks for. Each signal is set up on its own, by
the functions of the SDK's own configurator (made to be used by distributions), so that samplers, protocols and resources
mean what OpenTelemetry's documentation says. Log records go through Python's ``logging`` and are left alone.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from opentelemetry import metrics, trace

from otel_ratelimit import _early

Signal = Literal["traces", "metrics"]
SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics")

_HTTP_ENDPOINT: Final = re.compile(r":4318(?:/|\Z)|/v1/(?:traces|metrics)/?\Z")

_log: Final = logging.getLogger("otel_ratelimit")


def asked_for(signal: Signal, environment: Mapping[str, str]) -> bool:
    """Whether the environment wants this signal exported.

    ``OTEL_SDK_DISABLED=true`` and ``OTEL_<SIGNAL>_EXPORTER=none`` say no; an exporter's name, or an OTLP endpoint (of the
    signal or of all), says yes; silence says no.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower()
    if exporter:
        return exporter != "none"
    return bool(
        environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        or environment.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    )


def provider_is_set(signal: Signal) -> bool:
    """Whether the program, or a distribution, has set a global provider."""
    if signal == "traces":
        return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    # The API has no public name for it (opentelemetry.metrics._internal._ProxyMeterProvider).
    return type(metrics.get_meter_provider()).__name__ != "_ProxyMeterProvider"


def set_up() -> None:
    """Set up what is asked for and not yet set. A failure is logged, names what is missing, and changes nothing else."""
    unset = [signal for signal in SIGNALS if not provider_is_set(signal)]
    signals = [signal for signal in unset if asked_for(signal, os.environ)]
    declarative = os.environ.get("OTEL_CONFIG_FILE") and len(unset) == len(SIGNALS)
    if not signals and not declarative:
        return
    try:
        # Imported here: a program that exports nothing never pays for it.
        from opentelemetry.sdk import _configuration as sdk  # noqa: PLC0415

        if declarative:
            _from_file(sdk)
            return
        for signal in signals:
            if signal == "metrics" or not _early.adopt():
                _from_variables(sdk, signal)
    except Exception as error:
        _log.error("OpenTelemetry could not be set up from the environment (%s); calls go on without", _told(error))


def keep_early_spans() -> None:
    """Let no span get lost that the program opens before its first OpenAI call, if the environment asks for traces."""
    if asked_for("traces", os.environ) and not os.environ.get("OTEL_CONFIG_FILE") and not provider_is_set("traces"):
        _early.keep(tracer_provider)


def tracer_provider() -> Any:
    """A tracer provider as the environment asks for it, without making it the global one; None where it cannot be made."""
    from opentelemetry.sdk import _configuration  # noqa: PLC0415

    sdk: Any = _configuration
    made: list[Any] = []
    set_globally = sdk.set_tracer_provider  # what the SDK's own function ends with
    sdk.set_tracer_provider = made.append
    try:
        _from_variables(sdk, "traces")
    except _MissingError:
        return None  # said at the first call
    finally:
        sdk.set_tracer_provider = set_globally
    return made[0] if made else None


def _from_file(sdk: Any) -> None:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return
    if importlib.util.find_spec("opentelemetry.configuration") is None:
        raise _MissingError("OTEL_CONFIG_FILE needs the package opentelemetry-configuration, which is not installed")
    sdk._OTelSDKConfigurator().configure()


def _from_variables(sdk: Any, signal: Signal) -> None:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    names = exporter_names(sdk, signal)
    try:
        span_exporters, metric_exporters, _ = sdk._import_exporters(
            names if signal == "traces" else [], names if signal == "metrics" else [], []
        )
    except RuntimeError as error:
        raise _MissingError(
            f"the {signal} exporter {', '.join(names)} is not installed; for OTLP: pip install 'otel-ratelimit[otlp]'"
        ) from error
    resource = Resource.create()
    if signal == "traces":
        sampler = sdk._import_sampler(sdk._get_sampler())
        id_generator = sdk._import_id_generator(sdk._get_id_generator())
        sdk._init_tracing(exporters=span_exporters, id_generator=id_generator, sampler=sampler, resource=resource)
    else:
        sdk._init_metrics(metric_exporters, resource)


def exporter_names(sdk: Any, signal: Signal) -> list[str]:
    """The exporters that the environment names; OTLP where it names only an endpoint.

    Without a protocol the SDK takes OTLP to mean gRPC; where only the HTTP exporter is installed (our extra installs that
    one, and the specification prefers it) HTTP is what was meant, and where both are, by an endpoint that is HTTP's.
    """
    named: list[str] = list(sdk._get_exporter_names(signal)) or [sdk._get_exporter_entry_point("otlp", signal)]
    if protocol_of(signal, os.environ) != "grpc":
        named = ["otlp_proto_http" if name == "otlp_proto_grpc" else name for name in named]
    return named


def protocol_of(signal: Signal, environment: Mapping[str, str]) -> str:
    """``OTEL_EXPORTER_OTLP_PROTOCOL``, or that of the signal; where neither is set what the endpoint and the exporters that are
    installed say: port 4318 and the paths ``/v1/...`` are those of OTLP over HTTP.
    """
    its_own = f"OTEL_EXPORTER_OTLP_{signal.upper()}"
    said = (
        environment.get(f"{its_own}_PROTOCOL", "").strip() or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip()
    )
    if said:
        return said
    if not installed("opentelemetry.exporter.otlp.proto.grpc"):
        return "http/protobuf"
    endpoint = environment.get(f"{its_own}_ENDPOINT") or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    is_http = _HTTP_ENDPOINT.search(endpoint.strip()) and installed("opentelemetry.exporter.otlp.proto.http")
    return "http/protobuf" if is_http else "grpc"


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


class _MissingError(RuntimeError):
    """A message of ours, safe to log; that of any other exception might quote the environment."""


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, _MissingError) else type(error).__name__
