"""A throttling server, instrumented; and one body of tests for every framework, as somebody would use it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import openai
import pytest

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit.testing import Reply, ThrottlingServer, throttle_reply
from tests.telemetry_probe import Probe, parent_id, span_id

TEXT = "Hello from the throttling server."
OURS = {"rate_limited": 1, "throttle": 1, "retry": 1}


class Stage:
    """Runs what a program does with a framework, inside of a span of the program's own."""

    def __init__(self, server: ThrottlingServer, probe: Probe) -> None:
        self.server = server
        self.probe = probe
        self.tracer = probe.tracer_provider.get_tracer("program")

    @property
    def url(self) -> str:
        return self.server.base_url

    def throttled_once(self, call: Callable[[], Any], throttle: Reply, spans: tuple[str, ...] = ()) -> None:
        """The answer is right; the server throttled once and answered the second request; we waited, once; and our span is in the
        innermost of the framework's ``spans`` (first words, outermost first), or in the program's where it makes none."""
        self.server.script([throttle])
        with self.tracer.start_as_current_span("program"):
            assert call() == TEXT
        counts = self.server.counts
        assert (counts.requests, counts.throttled, counts.succeeded) == (2, 1, 1)
        assert self.probe.recoveries() == {"program": 1, **dict.fromkeys(spans, 1), **OURS}
        around = span_id(self.probe.only("program"))
        for word in (*spans, "rate_limited"):
            span = self.probe.only(word)
            assert parent_id(span) == around
            around = span_id(span)
        assert parent_id(self.probe.only("retry")) == around
        assert self.probe.total("otel_ratelimit.wait.duration", otel_ratelimit_wait_reason="throttled") == 1
        assert self.probe.total("otel_ratelimit.throttles") == 1

    def refused(self, call: Callable[[], Any], error: type[BaseException], requests: int) -> None:
        """A throttle whose delay is beyond the budget comes up after so many requests; each is a call that gave up at once."""
        reply = Reply(
            status=429, json={"error": {"message": "Rate limit reached. Please try again in 6m0s.", "type": "tokens"}}
        )
        self.server.script([reply] * 20)
        with pytest.raises(error):
            call()
        assert self.server.counts.requests == self.server.counts.throttled == requests
        assert self.probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason="budget_exceeded") == requests
        assert self.probe.names()["retry"] == self.probe.names()["wait"] == 0

    def throttled_often(self, call: Callable[[], Any], throttle: Reply, times: int = 4) -> None:
        """More throttles than any layer's count of retries: one call all the same, with one request for each throttle and one for
        the answer."""
        self.server.script([throttle] * times)
        assert call() == TEXT
        assert self.server.counts.requests == times + 1
        assert self.server.counts.throttled == times
        assert {word: self.probe.names()[word] for word in OURS} == {
            "rate_limited": 1,
            "throttle": times,
            "retry": times,
        }


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    probe = Probe()
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "true")  # its own traces go to OpenAI
    otel_ratelimit.instrument(
        policy=Policy(buffer=0.001, max_wait=60, pacing=False),
        tracer_provider=probe.tracer_provider,
        meter_provider=probe.meter_provider,
    )
    with ThrottlingServer() as server:
        yield Stage(server, probe)
    probe.shutdown()


class TurnedAway:
    """A model whose limit is reached for half a minute, for calls that may wait for 10 s."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def refuse(self, before: float = 0.0) -> None:
        """Have a call to ``gpt-4o`` refused, after so many seconds."""
        self.stage.server.script([replace(throttle_reply(delay=30.0), before=before)])
        messages: Any = [{"role": "user", "content": "Hi"}]  # a larger call's refusal would not hold the others
        with (
            openai.OpenAI(base_url=self.stage.url, api_key="test") as client,
            pytest.raises(openai.RateLimitError) as refused,
        ):
            client.chat.completions.create(model="gpt-4o", messages=messages)
        assert type(refused.value) is openai.RateLimitError

    @contextmanager
    def asked(self) -> Iterator[None]:
        """While another call asks whether the limit still holds, and is refused, calls wait for it and are turned away."""
        self.refuse()
        asking = threading.Thread(target=self.refuse, args=(4.0,))
        asking.start()
        time.sleep(0.4)
        yield
        asking.join()

    def __call__(self, call: Callable[[], Any]) -> None:
        """What is called goes to ``gpt-4o``, which our queue turns away unsent, then to ``gpt-4o-mini``, which answers."""
        with self.asked():
            assert call() == TEXT
        models = [request.json["model"] for request in self.stage.server.requests]
        assert models[-3:] == ["gpt-4o", "gpt-4o", "gpt-4o-mini"]
        reason = "queue_budget_exceeded"
        assert self.stage.probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason=reason) == 1


@pytest.fixture
def turned_away(stage: Stage) -> TurnedAway:
    otel_ratelimit.uninstrument()
    otel_ratelimit.instrument(
        policy=Policy(max_wait=10),
        tracer_provider=stage.probe.tracer_provider,
        meter_provider=stage.probe.meter_provider,
    )
    return TurnedAway(stage)
