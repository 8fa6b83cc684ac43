"""Spans and counters against the server's own count, one to one, whatever it answers and whoever is cancelled."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import anyio
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import otel_ratelimit
from otel_ratelimit import Policy
from tests.telemetry_probe import Probe
from tests.trust.in_process import HEADERS, Answer, Scripted, asynchronous_client, client, fail, ok, reply, throttle

MESSAGES: list[Any] = [{"role": "user", "content": "Say hello."}]
QUOTA = {
    "error": {"message": "You exceeded your current quota.", "code": "insufficient_quota", "type": "insufficient_quota"}
}
ANSWERS: dict[str, Answer] = {
    "ok": ok(),
    "headers": ok({**HEADERS, "x-ratelimit-limit-tokens": "100000", "x-ratelimit-remaining-tokens": "50000"}),
    "throttled": throttle(0.001),
    "bare": reply(429, b""),
    "overloaded": reply(503, b'{"error": {"message": "The engine is currently overloaded, please try again later"}}'),
    "unavailable": fail(503),
    "failed": fail(500),
    "conflict": fail(409),
    "refused": fail(400),
    "quota": reply(429, json.dumps(QUOTA).encode()),
}
SCRIPTS = st.lists(st.sampled_from(list(ANSWERS)), min_size=1, max_size=12)
THROTTLES = ("throttled", "bare", "quota", "overloaded")


class Recorded(Scripted):
    """Keeps the name of every answer that it gave."""

    def __init__(self, script: list[str]) -> None:
        self.given: Counter[str] = Counter()
        super().__init__(*[self._named(name) for name in [*script, "ok"]])

    def _named(self, name: str) -> Answer:
        def answer() -> Any:
            self.given[name] += 1
            return ANSWERS[name]()

        return answer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr(openai._base_client, "MAX_RETRY_DELAY", 0.002)


def instrumented(mode: Any) -> Probe:
    probe = Probe()
    policy = Policy(mode=mode, max_wait=0.2, buffer=0.0, max_backoff=0.002)
    otel_ratelimit.instrument(policy=policy, tracer_provider=probe.tracer_provider, meter_provider=probe.meter_provider)
    return probe


def agree(probe: Probe, server: Recorded, calls: int, ended: int, turned_away: int) -> None:
    """``ended``: calls that were not cancelled; ``turned_away``: those whose turn did not come in time: nothing was sent."""
    otel_ratelimit.uninstrument()
    names = probe.names()
    throttled = sum(server.given[name] for name in THROTTLES)
    assert probe.total("otel_ratelimit.call.duration") == calls
    assert names["wait"] == probe.total("otel_ratelimit.wait.duration")
    assert names["retry"] == probe.total("otel_ratelimit.retries")
    assert names["throttle"] == probe.total("otel_ratelimit.throttles")
    assert probe.total("otel_ratelimit.request.waiting") == 0
    spans = {span.context.span_id for span in probe.spans("rate_limited") if span.context}
    for span in probe.spans():
        if not span.name.startswith("rate_limited"):
            assert span.parent is not None
            assert span.parent.span_id in spans, "a span of ours without its call"
    if ended == calls:
        assert names["throttle"] == throttled
        assert probe.total("otel_ratelimit.attempt.duration") == server.requests
        assert server.requests == calls + names["retry"] - turned_away
    else:  # what was cancelled on its way has no verdict
        assert names["throttle"] <= throttled
        assert probe.total("otel_ratelimit.attempt.duration") <= server.requests
    probe.shutdown()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=SCRIPTS, calls=st.integers(1, 5), mode=st.sampled_from(["wait", "observe"]), retries=st.integers(0, 3))
def test_one_after_the_other(script: list[str], calls: int, mode: str, retries: int) -> None:
    """The synchronous client."""
    server = Recorded(script)
    probe = instrumented(mode)
    turned_away = 0
    with client(server, max_retries=retries) as one:
        for _ in range(calls):
            try:
                one.chat.completions.create(model="gpt-4o", messages=MESSAGES)
            except otel_ratelimit.AdmissionTimeoutError:
                turned_away += 1
            except openai.OpenAIError:
                continue
    agree(probe, server, calls, calls, turned_away)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    script=SCRIPTS,
    patience=st.lists(st.one_of(st.none(), st.floats(0.0, 0.01)), min_size=1, max_size=8),
    mode=st.sampled_from(["wait", "observe"]),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_all_at_once(script: list[str], patience: list[float | None], mode: str, backend: str) -> None:
    """The asynchronous client; ``patience``: seconds after which each caller goes away."""
    server = Recorded(script)
    probe = instrumented(mode)
    ended = turned_away = 0

    async def one(asynchronous: openai.AsyncOpenAI, seconds: float | None) -> None:
        nonlocal ended, turned_away
        with anyio.move_on_after(seconds) as scope:
            try:
                await asynchronous.chat.completions.create(model="gpt-4o", messages=MESSAGES)
            except otel_ratelimit.AdmissionTimeoutError:
                turned_away += 1
            except openai.OpenAIError:
                pass
        ended += not scope.cancelled_caught

    async def main() -> None:
        async with asynchronous_client(server) as asynchronous, anyio.create_task_group() as tasks:
            for seconds in patience:
                tasks.start_soon(one, asynchronous, seconds)

    anyio.run(main, backend=backend)
    agree(probe, server, int(probe.total("otel_ratelimit.call.duration")), ended, turned_away)
