"""The OpenAI SDK waits exactly as long as the server asked, and OpenTelemetry shows every second of it.

``import otel_ratelimit.auto`` is all that a program needs; the names below are for those who want more say.
"""

from typing import TYPE_CHECKING

from otel_ratelimit._core.hints import parse_stream_event, parse_throttle
from otel_ratelimit._core.policy import ConfigurationError, Policy
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._instrumentor import RateLimitInstrumentor, instrument, priority, uninstrument, use
from otel_ratelimit._settings import policy_from_environment
from otel_ratelimit._telemetry.callbacks import ThrottleEvent, WaitEvent
from otel_ratelimit._version import __version__

if TYPE_CHECKING:
    from otel_ratelimit._drivers.aliases import alias
    from otel_ratelimit._drivers.errors import AdmissionTimeoutError

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


if not TYPE_CHECKING:  # a type checker that saw this would take every name for one of ours

    def __getattr__(name: str) -> object:
        # Both need the SDK, whose import takes a second: only who asks for them pays.
        if name == "AdmissionTimeoutError":
            from otel_ratelimit._drivers.errors import AdmissionTimeoutError  # noqa: PLC0415

            return AdmissionTimeoutError
        if name == "alias":
            from otel_ratelimit._drivers.aliases import alias  # noqa: PLC0415

            return alias
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
