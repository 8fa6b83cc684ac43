"""The OpenAI SDK waits exactly as long as the server asked, and OpenTelemetry shows every second of it.

``import otel_ratelimit.auto`` is all that a program needs; the names below are for those who want more say.
"""

from typing import TYPE_CHECKING

from otel_ratelimit._version import __version__

if TYPE_CHECKING:
    from otel_ratelimit._core.parsing import parse_stream_event, parse_throttle
    from otel_ratelimit._core.policy import ConfigurationError, Policy
    from otel_ratelimit._core.throttle import Throttle
    from otel_ratelimit._drivers.aliases import alias
    from otel_ratelimit._drivers.errors import AdmissionTimeoutError
    from otel_ratelimit._instrumentor import RateLimitInstrumentor, instrument, priority, uninstrument, use
    from otel_ratelimit._settings import policy_from_environment
    from otel_ratelimit._telemetry.callbacks import ThrottleEvent, WaitEvent

__all__ = [
    "AdmissionTimeoutError",
    "ConfigurationError",
    "Policy",
    "RateLimitInstrumentor",
    "Throttle",
    "ThrottleEvent",
    "WaitEvent",
    "__version__",
    "alias",
    "instrument",
    "parse_stream_event",
    "parse_throttle",
    "policy_from_environment",
    "priority",
    "uninstrument",
    "use",
]


# Loaded when first used: two of them need the SDK, whose import takes a second; most of the others need OpenTelemetry, which who
# imports `otel_ratelimit.testing` alone does not.
_HOMES = {
    "AdmissionTimeoutError": "_drivers.errors",
    "ConfigurationError": "_core.policy",
    "Policy": "_core.policy",
    "RateLimitInstrumentor": "_instrumentor",
    "Throttle": "_core.throttle",
    "ThrottleEvent": "_telemetry.callbacks",
    "WaitEvent": "_telemetry.callbacks",
    "alias": "_drivers.aliases",
    "instrument": "_instrumentor",
    "parse_stream_event": "_core.parsing",
    "parse_throttle": "_core.parsing",
    "policy_from_environment": "_settings",
    "priority": "_instrumentor",
    "uninstrument": "_instrumentor",
    "use": "_instrumentor",
}


if not TYPE_CHECKING:  # a type checker that saw this would take every name for one of ours

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - most programs need it, a test run may not

        value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
