"""What the environment sets, and the mistakes in it. Pure: reads the mapping that it is given. Shows no secret."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from opentelemetry import environment_variables as api_variables
from opentelemetry.sdk import environment_variables as sdk_variables

from otel_ratelimit import _settings, _setup
from otel_ratelimit._commands.doctor.check import Check, as_name, without_secret
from otel_ratelimit._core.policy import ConfigurationError

AREA: Final = "environment"

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_SIGNALS: Final = ("TRACES", "METRICS")
_PROTOCOLS: Final = ("grpc", "http/protobuf", "http/json")
_ELSEWHERE: Final = (
    "OTEL_PYTHON_",
    "OTEL_INSTRUMENTATION_",
    "OTEL_SEMCONV_",
    "OTEL_RESOURCE_",
    "OTEL_EXPORTER_PROMETHEUS_",
)


def check(environment: Mapping[str, str]) -> Iterator[Check]:
    """Our own variables, OpenTelemetry's, the SDK's."""
    yield from _ours(environment)
    yield from _typing_errors(environment)
    yield from _telemetry(environment)
    yield from _openai(environment)


def _ours(environment: Mapping[str, str]) -> Iterator[Check]:
    anything = False
    for name in sorted(environment):
        if name not in _settings.VARIABLES:
            continue
        anything = True
        value = without_secret(environment[name]) if name.endswith("_STORE") else environment[name]
        try:
            _settings.policy_from_environment({name: environment[name]})
        except ConfigurationError as error:
            said = str(error).partition("; got ")[0]  # the value may be that of another variable, with a password
            used = "observe" if name.endswith("_MODE") else "the default"
            yield Check(AREA, "failure", said, f"{used} is used meanwhile")
        else:
            yield Check(AREA, "ok", f"{name}={value}")
    for name, meant in _settings.mistyped(environment):
        anything = True
        yield Check(AREA, "failure", f"{name} is no setting", meant)
    if not anything:
        yield Check(AREA, "ok", "no OTEL_RATELIMIT_* is set: the defaults hold")
    if environment.get("OTEL_RATELIMIT_MODE", "").strip().lower() == "off":
        yield Check(AREA, "warning", "OTEL_RATELIMIT_MODE=off: nothing waits, nothing is traced")


def known_variables() -> set[str]:
    """The variables that OpenTelemetry's API and SDK list themselves."""
    return {
        value
        for module in (api_variables, sdk_variables)
        for name, value in vars(module).items()
        if name.startswith("OTEL_") and isinstance(value, str)
    }


def _typing_errors(environment: Mapping[str, str]) -> Iterator[Check]:
    known = known_variables()
    ours = {name for name, _ in _settings.mistyped(environment)}
    for name in sorted(environment.keys() - ours):
        if not name.startswith("OTEL_") or name in known or name.startswith((_settings.PREFIX, *_ELSEWHERE)):
            continue
        close = difflib.get_close_matches(name, known, 1, cutoff=0.9)
        if close:
            yield Check(AREA, "warning", f"{name} is not known to OpenTelemetry", f"did you mean {close[0]}?")


def _telemetry(environment: Mapping[str, str]) -> Iterator[Check]:
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield Check(AREA, "warning", "OTEL_SDK_DISABLED=true: no span and no metric leaves this program")
        return
    for signal in _SIGNALS:
        if environment.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() == "none":
            yield Check(AREA, "note", f"OTEL_{signal}_EXPORTER=none: no {signal.lower()}")
    for name in (ENDPOINT, *(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT" for signal in _SIGNALS)):
        if environment.get(name):
            yield from _endpoint(name, environment)
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", *(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL" for signal in _SIGNALS)):
        value = environment.get(name, "").strip()
        if value and value not in _PROTOCOLS:
            yield Check(AREA, "failure", f"{name}={as_name(value)} is no protocol", f"one of {', '.join(_PROTOCOLS)}")
    if environment.get("OTEL_TRACES_SAMPLER", "").strip() == "always_off":
        yield Check(
            AREA,
            "warning",
            "OTEL_TRACES_SAMPLER=always_off: no trace is kept",
            "unset it, or use parentbased_always_on",
        )
    disabled = [name.strip() for name in environment.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")]
    if "openai_ratelimit" in disabled or "*" in disabled:
        yield Check(
            AREA,
            "warning",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS keeps opentelemetry-instrument from loading otel_ratelimit",
            "take openai_ratelimit (or *) out of it, or import otel_ratelimit.auto",
        )
    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not named and any(_setup.asked_for(signal, environment) for signal in _setup.SIGNALS):
        yield Check(
            AREA, "warning", "the service has no name", "set OTEL_SERVICE_NAME, or it is unknown_service in Jaeger"
        )


def _endpoint(name: str, environment: Mapping[str, str]) -> Iterator[Check]:
    value = environment[name].strip()
    shown = f"{name}={without_secret(value)}"
    protocol = _protocol(name, environment)
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        yield Check(AREA, "failure", f"{shown}: the port is no number")
        return
    if parts.scheme not in ("http", "https"):
        yield Check(AREA, "failure", f"{shown} has no scheme", "it must begin with http:// or https://")
        return
    if name == ENDPOINT and protocol != "grpc" and parts.path.rstrip("/").endswith(("/v1/traces", "/v1/metrics")):
        yield Check(
            AREA, "failure", f"{shown}: the path is appended by the exporter", "leave out what follows host and port"
        )
    elif name != ENDPOINT and protocol != "grpc" and parts.path.rstrip("/") == "":
        signal = "traces" if "TRACES" in name else "metrics"
        yield Check(AREA, "failure", f"{shown} is used as it is, and has no path", f"append /v1/{signal}")
    else:
        yield Check(AREA, "ok", f"{shown} ({protocol})")


def _protocol(name: str, environment: Mapping[str, str]) -> str:
    """The protocol of an endpoint, as ``_setup`` chooses it: HTTP unless told otherwise, or unless only gRPC is there."""
    return _setup.protocol_of("metrics" if "METRICS" in name else "traces", environment)


def _openai(environment: Mapping[str, str]) -> Iterator[Check]:
    key = "set" if environment.get("OPENAI_API_KEY") else "not set"
    base = environment.get("OPENAI_BASE_URL")
    yield Check(
        AREA, "note", f"OPENAI_API_KEY is {key}; OPENAI_BASE_URL is {without_secret(base) if base else 'not set'}"
    )
