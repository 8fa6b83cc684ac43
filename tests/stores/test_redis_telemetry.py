"""What a fleet shows: failures of the store are counted, and waits link to throttles that other processes met."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import openai
import pytest
from opentelemetry.trace import SpanContext, TraceFlags

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit._core.events import NotBefore
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._stores.memory import Account
from otel_ratelimit._stores.redis import RedisStore
from otel_ratelimit._telemetry.causes import decode_cause, encode_cause
from otel_ratelimit.testing import Limit, ThrottlingServer
from tests.helpers.redis_server import RedisServer, free_port
from tests.stores.test_both_stores import COST, open_redis_store, wait
from tests.telemetry_probe import Probe

CONTEXT = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, False, TraceFlags(1))


def test_a_cause_survives_its_way_through_redis() -> None:
    """Trace, span and flags; it is a remote one then."""
    text = encode_cause(CONTEXT)
    assert text == "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    found = decode_cause(text)
    assert found is not None
    assert (found.trace_id, found.span_id, found.trace_flags, found.is_remote) == (*CONTEXT[:2], 1, True)


@pytest.mark.parametrize("text", ["", "x", "0" * 32 + "-" + "0" * 16 + "-01", "a" * 32 + "-" + "b" * 16, "\n"])
def test_what_is_no_cause_is_none(text: str) -> None:
    """Whatever stands in Redis."""
    assert decode_cause(text) is None


@pytest.mark.parametrize("cause", [None, "text", SpanContext(0, 0, False)])
def test_nothing_is_told_where_there_is_no_cause(cause: object) -> None:
    """A program without tracing has no valid spans."""
    assert encode_cause(cause) == ""


def test_a_wait_links_to_a_throttle_that_another_process_met(shared_redis: RedisServer) -> None:
    """One process is refused; another one's waiting call says because of whom."""
    account = Account(secrets.token_hex(8), b"payer", "gpt-4o")
    stores: list[RedisStore] = [
        open_redis_store(shared_redis.url, encode=encode_cause, decode=decode_cause) for _ in range(2)
    ]
    try:
        first, second = (store.place(store.line(account, "gpt-4o")) for store in stores)
        wait(first)
        wait(second)
        refusal = Throttle(20.0, "body-message", "tokens", "minute", 6000, 6000, 100)
        first.settle(time.monotonic(), throttle=refusal, succeeded=False, cause=CONTEXT)
        deadline = time.monotonic() + 15.0
        while time.monotonic() < deadline:
            waiting = stores[1].place(stores[1].line(account, "gpt-4o"))
            answer = waiting.reserve(COST, "normal", None, time.monotonic())
            waiting.leave(time.monotonic())
            if isinstance(answer, NotBefore) and waiting.cause is not None:
                break
            time.sleep(0.05)
        assert isinstance(waiting.cause, SpanContext)
        assert (waiting.cause.trace_id, waiting.cause.span_id) == (CONTEXT.trace_id, CONTEXT.span_id)
    finally:
        for store in stores:
            store.close()


@pytest.fixture
def called() -> Callable[[str], Probe]:
    """Make a few calls with this store, through everything, and see what comes out."""

    def called(url: str) -> Probe:
        probe = Probe()
        otel_ratelimit.instrument(
            policy=Policy(store=url), tracer_provider=probe.tracer_provider, meter_provider=probe.meter_provider
        )
        with (
            ThrottlingServer([Limit("tokens", 200_000)]) as server,
            openai.OpenAI(base_url=server.base_url, api_key=secrets.token_hex(8)) as client,
        ):
            for _ in range(3):
                client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello."}])
            assert server.counts.succeeded == 3
        return probe

    return called


def test_failures_are_counted(called: Callable[[str], Probe]) -> None:
    """By what went wrong; every series is born at 0."""
    probe = called(f"redis://127.0.0.1:{free_port()}")
    deadline = time.monotonic() + 15.0
    while not probe.total("otel_ratelimit.store.errors", error_type="connection") and time.monotonic() < deadline:
        time.sleep(0.02)
    values = {point.attributes["error.type"]: point.value for point in probe.points("otel_ratelimit.store.errors")}
    assert values.pop("connection") >= 1
    assert values == {"timeout": 0, "response": 0, "internal": 0}
    probe.shutdown()


def test_calls_far_from_the_limit_leave_no_trace(called: Callable[[str], Probe], shared_redis: RedisServer) -> None:
    """One after the other, with a Redis that works: no wait, no span; and the gauges are there."""
    probe = called(shared_redis.url)
    assert probe.names()["throttle"] == 0
    assert probe.points("otel_ratelimit.tokens.limit")[0].value == 200_000
    assert sum(point.value for point in probe.points("otel_ratelimit.store.errors")) <= 1  # a busy machine's 50 ms
    probe.shutdown()


def test_no_store_no_failures(called: Callable[[str], Probe]) -> None:
    """In memory the metric does not exist."""
    probe = called("memory://")
    assert probe.points("otel_ratelimit.store.errors") == []
    probe.shutdown()


def test_observing_opens_no_store() -> None:
    """Nor does a policy without pacing: there is nothing to share."""
    for policy in (Policy(store="redis://localhost", mode="observe"), Policy(store="redis://localhost", pacing=False)):
        otel_ratelimit.instrument(policy=policy)
        hooks = otel_ratelimit.RateLimitInstrumentor()._hooks
        assert hooks is not None
        assert hooks.runtime is not None
        assert not isinstance(hooks.runtime.store, RedisStore)
        otel_ratelimit.uninstrument()
