"""Every public name in its documented forms, as a user's program has it: checked by mypy --strict and pyright against the
installed wheel, never run."""

from __future__ import annotations

from contextlib import AbstractContextManager

import openai
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

import otel_ratelimit
from otel_ratelimit import (
    AdmissionTimeoutError,
    ConfigurationError,
    Policy,
    RateLimitInstrumentor,
    Throttle,
    ThrottleEvent,
    WaitEvent,
    alias,
    instrument,
    parse_stream_event,
    parse_throttle,
    policy_from_environment,
    priority,
    uninstrument,
    use,
)
from otel_ratelimit.testing import Fault, Limit, Reply, ThrottlingServer, throttle_reply


def settings() -> Policy:
    """Each setting, and their defaults."""
    Policy()
    Policy(mode="observe", max_wait=None, buffer=0.1, max_backoff=30, pacing=False, priority="batch", store="memory://")
    return policy_from_environment({"OTEL_RATELIMIT_MODE": "off"})


def installing(tracers: TracerProvider, meters: MeterProvider) -> None:
    """All forms of switching on and off."""
    instrument()
    instrument(policy=settings(), tracer_provider=tracers, meter_provider=meters)
    uninstrument()
    RateLimitInstrumentor().instrument(tracer_provider=tracers)
    RateLimitInstrumentor().uninstrument()
    version: str = otel_ratelimit.__version__
    assert version


def told(wait: WaitEvent) -> None:
    """A callback for waits."""
    seconds: float | None = wait.seconds
    kind: str | None = wait.kind
    print(wait, seconds, kind, wait.throttle)


def refused(event: ThrottleEvent) -> str:
    """One for throttles; what it returns is not looked at."""
    throttle: Throttle = event.throttle
    return f"{event.model} {event.status} {throttle.kind}"


def callbacks() -> None:
    """For the program, and for a block."""
    instrument(on_wait=told, on_throttle=refused)
    with use(on_wait=told), use(Policy(), on_throttle=print), use(on_wait=lambda wait: print(wait.seconds)):
        pass


def names(client: openai.OpenAI, other: openai.AsyncOpenAI) -> None:
    """Names for keys."""
    alias(client, "web")
    alias(other, "batch")


def blocks() -> None:
    """Policies and priorities for a block."""
    scope: AbstractContextManager[Policy] = use(Policy(max_wait=5))
    with scope as policy:
        wait: float | None = policy.max_wait
        assert wait
    with priority("interactive"), priority("normal"), priority("batch"):
        pass


def parsing() -> tuple[float | None, bool]:
    """The public parsers: mappings, pairs, bytes, text, decoded JSON."""
    throttle: Throttle | None = parse_throttle(429, {"retry-after": "1"}, b"{}")
    throttle = parse_throttle(503, [("retry-after", "1")], "busy", now=0.0) or throttle
    throttle = parse_throttle(429, None, {"error": {"message": "slow down"}}) or throttle
    throttle = parse_stream_event({"type": "error"}, now=0.0) or throttle
    throttle = parse_stream_event({"type": "error"}, headers={"retry-after": "1"}) or throttle
    assert throttle is not None
    kind: str = throttle.kind
    assert kind
    return throttle.delay, throttle.retryable


def errors() -> None:
    """What can be caught."""
    try:
        Policy(mode="wait")
    except ConfigurationError as error:
        value: ValueError = error
        raise value from None
    except AdmissionTimeoutError as error:
        timeout: TimeoutError = error
        raise timeout from None


def server() -> str:
    """The test server."""
    with ThrottlingServer(
        [Limit("tokens", 1000)], script=[throttle_reply(0.5), Reply(status=500), Fault.reset()]
    ) as one:
        count: int = one.counts.throttled
        assert count >= 0
        return one.base_url
