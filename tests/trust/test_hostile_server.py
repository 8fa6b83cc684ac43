"""A server that wishes us ill, through the whole driver: nothing but the SDK's own exceptions comes out, in bounded time and
memory, and nothing that it says gets into a log line or an attribute as more than a figure."""

from __future__ import annotations

import gc
import json
import logging
import threading
import time
import tracemalloc
from typing import Any

import anyio
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import _base_client

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit._core.parsing.limits import read_limits
from otel_ratelimit._drivers import aio
from otel_ratelimit._telemetry import names
from tests.drivers.conftest import MESSAGES, chat
from tests.telemetry_probe import Probe
from tests.trust.in_process import HEADERS, Scripted, asynchronous_client, client, ok, reply

BUDGET = 0.05
HEADER_NAMES = (
    "retry-after", "retry-after-ms", "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
    "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "ratelimit",
    "ratelimit-policy", "ratelimit-limit", "x-should-retry", "date", "content-encoding", "x-error-message", "x-ratelimit-type",
)  # fmt: skip
FIGURES = st.one_of(
    st.integers(-(10**40), 10**40).map(str),
    st.floats().map(str),
    st.sampled_from(
        [
            "1s",
            "6m0s",
            "1e999",
            "-1",
            "٣",
            "0x10",
            "inf",
            "Wed, 21 Oct 2015 07:28:00 GMT",
            "9" * 3000,
            "1;w=1",
            '""',
            "ms",
        ]
    ),
    st.text(max_size=30),
)
VALUES = FIGURES.map(
    lambda text: text.encode("utf-8", "ignore").replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), FIGURES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                ["error", "message", "code", "type", "retry_after", "detail", "details", "resets_at", "param", "x"]
            ),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=12,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode("utf-8", "ignore")),
    FIGURES.map(
        lambda figure: json.dumps(
            {
                "error": {
                    "message": f"Limit {figure}, Used {figure}, Requested {figure}. Please try again in {figure}s.",
                    "code": "rate_limit_exceeded",
                }
            }
        ).encode("utf-8", "ignore")
    ),
)
ANSWERS = st.tuples(
    st.sampled_from([200, 200, 400, 402, 404, 408, 409, 413, 429, 429, 429, 429, 500, 503, 503, 529]),
    st.lists(st.tuples(st.sampled_from(HEADER_NAMES).map(str.encode), VALUES), max_size=8),
    BODIES,
)
ALLOWED = (openai.OpenAIError, json.JSONDecodeError, UnicodeError)
"""What the SDK alone raises at a body that is no JSON, or at bytes that are no text."""


def plain_end(script: list[Any]) -> type[BaseException] | None:
    """How the SDK alone ends at the first answer."""
    with client(Scripted(*script), max_retries=0) as one:
        try:
            chat(one)
        except Exception as error:
            return type(error)
    return None


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=st.lists(ANSWERS, min_size=1, max_size=4), stream=st.booleans())
def test_any_answers(script: list[Any], stream: bool) -> None:
    """Statuses, headers and bodies at random: the exceptions of the SDK, no other; never longer than the budget."""
    replies = [
        reply(status, body, [(b"content-type", b"application/json"), *headers]) for status, headers, body in script
    ]
    alone = [plain_end([one]) for one in replies]
    otel_ratelimit.instrument(policy=Policy(max_wait=BUDGET, max_backoff=0.01))
    original = _base_client.BaseClient._calculate_retry_timeout
    _base_client.BaseClient._calculate_retry_timeout = lambda *_, **__: 0.001  # type: ignore[method-assign]
    began = time.monotonic()
    waits: list[float] = []
    from otel_ratelimit._drivers import sync

    sleep = sync._wait
    try:
        sync._wait = lambda session, until: waits.append(session.seconds_until(until))
        # A script that ends with a throttle for ever would be asked for ever by a wait that takes no time.
        with client(Scripted(*replies, ok())) as one:
            try:
                answer = one.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=stream)
                if stream:
                    list(answer)
            except ALLOWED:
                pass
            except Exception as error:
                if not stream and type(error) not in alone:
                    raise
    finally:
        sync._wait = sleep
        _base_client.BaseClient._calculate_retry_timeout = original  # type: ignore[method-assign]
        otel_ratelimit.uninstrument()
    assert all(wait <= BUDGET + 0.01 for wait in waits)
    assert time.monotonic() - began < 20.0


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    script=st.lists(ANSWERS, min_size=1, max_size=4), stream=st.booleans(), backend=st.sampled_from(["asyncio", "trio"])
)
def test_any_answers_to_tasks(script: list[Any], stream: bool, backend: str) -> None:
    """The same for the asynchronous client, three callers at a time."""
    replies = [
        reply(status, body, [(b"content-type", b"application/json"), *headers]) for status, headers, body in script
    ]
    alone = [plain_end([one]) for one in replies]
    otel_ratelimit.instrument(policy=Policy(max_wait=BUDGET, max_backoff=0.01))
    waits: list[float] = []

    async def no_wait(session: Any, until: float) -> None:
        waits.append(session.seconds_until(until))
        await anyio.sleep(0)

    async def call(one: openai.AsyncOpenAI) -> None:
        try:
            answer: Any = await one.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=stream)
            if stream:
                async for _ in answer:
                    pass
        except ALLOWED:
            pass
        except Exception as error:
            if not stream and type(error) not in alone:
                raise

    async def main() -> None:
        async with asynchronous_client(Scripted(*replies, ok())) as one, anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(call, one)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_base_client.BaseClient, "_calculate_retry_timeout", lambda *_, **__: 0.001)
        patch.setattr(aio, "_wait", no_wait)
        try:
            anyio.run(main, backend=backend)
        finally:
            otel_ratelimit.uninstrument()
    assert all(wait <= BUDGET + 0.01 for wait in waits)


@pytest.mark.parametrize("limit", ["1e15", "999999999999999", "9223372036854775807", "1" * 300, "0.000001", "1"])
def test_limits_that_nobody_can_mean(limit: str) -> None:
    """Gigantic or tiny, with nothing left: calls go on, and the gauges stay finite."""
    probe = Probe()
    otel_ratelimit.instrument(
        policy=Policy(max_wait=0.2), tracer_provider=probe.tracer_provider, meter_provider=probe.meter_provider
    )
    headers = {
        **HEADERS,
        "x-ratelimit-limit-tokens": limit,
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1ms",
    }
    with client(Scripted(ok(headers))) as one:
        for _ in range(5):
            try:
                assert chat(one).choices
            except otel_ratelimit.AdmissionTimeoutError:
                assert limit in ("1", "0.000001")  # a call does not fit that, and the server is the one who says so
    for name in ("tokens.limit", "tokens.remaining"):
        for point in probe.points(f"otel_ratelimit.{name}"):
            assert 0 <= point.value < 1e16
    probe.shutdown()


def test_thousands_of_models_and_keys() -> None:
    """Names that a program makes up: accounts, attribute sets and what is remembered of each stay bounded."""
    probe = Probe()
    otel_ratelimit.instrument(
        policy=Policy(), tracer_provider=probe.tracer_provider, meter_provider=probe.meter_provider
    )
    with client(Scripted(ok())) as one:
        for number in range(1050):
            one.chat.completions.create(model=f"model-{number}" * (1 + number % 3), messages=MESSAGES)
    hooks = otel_ratelimit.RateLimitInstrumentor()._hooks
    assert hooks is not None
    runtime = hooks.runtime
    assert runtime is not None
    assert len(runtime.store._lines) <= 1000
    assert len(runtime._seen) <= 1000
    assert len(runtime._subjects) <= names.MAX_MODELS + 1
    models = {
        (point.attributes or {}).get("gen_ai.request.model") for point in probe.points("otel_ratelimit.call.duration")
    }
    assert len(models) <= names.MAX_MODELS + 1
    assert names.OTHER in models
    probe.shutdown()


def test_thousands_of_header_names() -> None:
    """A server that makes up names of limits: what is remembered of them is bounded."""
    otel_ratelimit.instrument(policy=Policy())

    def made_up(number: int) -> dict[str, str]:
        return {**HEADERS, **{f"x-ratelimit-limit-{number}-{index}-tokens": "100" for index in range(50)}}

    def read(numbers: range) -> None:
        with client(Scripted(*[ok(made_up(number)) for number in numbers])) as one:
            for number in numbers:
                read_limits(made_up(number))
                if number % 10 == 0:
                    chat(one)

    tracemalloc.start()
    read(range(300))  # the tables are full by now
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    read(range(300, 400))
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 300_000


def test_injection_into_logs_and_attributes(caplog: pytest.LogCaptureFixture) -> None:
    """Line ends, terminal codes and markup in models, headers and bodies arrive nowhere."""
    probe = Probe()
    otel_ratelimit.instrument(
        policy=Policy(max_wait=0.05), tracer_provider=probe.tracer_provider, meter_provider=probe.meter_provider
    )
    evil = "evil\r\nERROR forged line\x1b[31m<script>\u202e"
    body = {"error": {"message": f"{evil} Please try again in 10ms.", "type": evil, "code": evil, "param": evil}}
    headers = {**HEADERS, "x-ratelimit-type": "evil\tERROR forged", "x-error-message": "evil<script>"}
    with (
        caplog.at_level(logging.DEBUG, logger="otel_ratelimit"),
        client(Scripted(reply(429, json.dumps(body).encode(), headers))) as one,
        pytest.raises(openai.RateLimitError),
    ):
        one.chat.completions.create(model=evil, messages=MESSAGES)
    lines = [record.getMessage() for record in caplog.records if record.name == "otel_ratelimit"]
    texts = [span.to_json() for span in probe.spans()] + lines
    assert lines
    for text in texts:
        assert "\x1b" not in text
        assert "\r" not in text
        assert "\\u001b" not in text
        assert "\u202e" not in text
        assert "\\u202e" not in text
    assert not any("\n" in line for line in lines)
    values = [value for span in probe.spans() for value in (span.attributes or {}).values() if isinstance(value, str)]
    assert not any("forged line" in value for value in values)
    probe.shutdown()


@pytest.mark.parametrize("length", [1 << 16, 1 << 20])
def test_a_huge_refusal_takes_bounded_time(length: int) -> None:
    """A megabyte of what the parser likes least."""
    otel_ratelimit.instrument(policy=Policy(max_wait=0.01))
    bodies = [b"[" * length, b'{"error":' * (length // 9), b"Please try again in 1" * (length // 21), b"\xff" * length]
    for body in bodies:
        began = time.thread_time()
        with client(Scripted(reply(429, body)), max_retries=1) as one, pytest.raises(openai.RateLimitError):
            chat(one)
        assert time.thread_time() - began < 10.0


def test_nothing_is_left_running() -> None:
    """No thread of ours is alive after all that."""
    assert not [thread.name for thread in threading.enumerate() if "otel_ratelimit" in thread.name]
