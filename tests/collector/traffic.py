"""A user's program: the one import, calls against the throttling server, and of telemetry nothing but ``OTEL_*`` variables.

``python -m tests.collector.traffic`` prints, as its last line, what the server counted, as JSON. What happens:

- the demo's fan-out (gpt-4o) against the demo's limit, half of it;
- a burst that does not pace itself (gpt-4o-mini) against the same limit, as a neighbour would send it;
- calls that give up: a delay of two hours, and a quota that is used up; and one server error;
- a caller's own span around a throttled call, and one around an undisturbed call, both with a credential in it;
- where ``TRAFFIC_HALF`` names a file: that file, a wait until it is gone, and another burst.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import openai
from opentelemetry import metrics, trace

import otel_ratelimit
import otel_ratelimit.auto
from otel_ratelimit import Policy
from otel_ratelimit._commands.demo import traffic
from otel_ratelimit.testing import Limit, Reply, ThrottlingServer, throttle_reply
from tests.collector.counted import MODELS, SECRET, Counted

SETTLE = 2.5
"""Seconds in which the zeros of a new series are exported and scraped, where both happen every second."""


def start_server() -> ThrottlingServer:
    """The demo's server, with a limit of requests beside that of tokens."""
    limits = [Limit("tokens", traffic.TOKENS_PER_MINUTE, used=traffic.TOKENS_IN_USE), Limit("requests", 5000)]
    return ThrottlingServer(limits=limits, latency=traffic.SERVICE_TIME)


def call(client: openai.OpenAI, model: str) -> bool:
    """One call; whether it was answered."""
    try:
        client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Say hello."}], max_tokens=400
        )
    except openai.OpenAIError:
        return False
    return True


async def burst(server: ThrottlingServer, model: str, calls: int) -> list[bool]:
    """All at once, each waiting for itself."""

    async def one(client: openai.AsyncOpenAI) -> bool:
        try:
            with otel_ratelimit.use(Policy(pacing=False)):
                await client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "Say hello."}], max_tokens=400
                )
        except openai.OpenAIError:
            return False
        return True

    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="test") as client:
        return list(await asyncio.gather(*(one(client) for _ in range(calls))))


def give_ups(server: ThrottlingServer, client: openai.OpenAI, elsewhere: openai.OpenAI) -> list[bool]:
    """A delay that does not fit, three times; a server error that is retried; no quota, of another account."""
    answered = []
    for _ in range(3):
        server.script([throttle_reply(delay=7200)])
        with otel_ratelimit.use(Policy(pacing=False)):
            answered.append(call(client, "gpt-4.1"))
    server.script([Reply(status=500)])
    answered.append(call(client, "gpt-4.1-mini"))
    error = {"message": "You exceeded your current quota.", "type": "insufficient_quota", "code": "insufficient_quota"}
    server.script([Reply(status=429, json={"error": error})])
    answered.append(call(elsewhere, "o4-mini"))
    return answered


def in_spans(server: ThrottlingServer, client: openai.OpenAI) -> list[bool]:
    """Two callers with spans of their own: one is throttled, one is not."""
    tracer = trace.get_tracer("caller")
    answered = []
    for name, script in (("throttled caller", [throttle_reply(delay=0.05)]), ("undisturbed caller", [Reply.ok()])):
        server.script(script)
        with tracer.start_as_current_span(name) as span:
            span.set_attribute("http.request.header.authorization", [f"Bearer {SECRET}"])
            span.set_attribute("note", f"the key is {SECRET}, they say")
            span.add_event("look", {"api-key": "not even the shape of a key"})
            answered.append(call(client, "gpt-4.1-mini"))
    server.script([throttle_reply(delay=0.05)])
    try:
        with tracer.start_as_current_span("failing caller"):
            answered.append(call(client, "gpt-4.1-mini"))
            raise RuntimeError(f"Incorrect API key provided: {SECRET}")
    except RuntimeError:
        pass
    return answered


def main() -> int:
    """Run it all; 1 where a call ended otherwise than it should."""
    with (
        start_server() as server,
        openai.OpenAI(base_url=server.base_url, api_key="test") as client,
        # By another name: an alert about the quota of one server's account silences those about its limits.
        openai.OpenAI(base_url=server.base_url.replace("127.0.0.1", "localhost"), api_key="test") as elsewhere,
    ):
        server.script([Reply.ok()] * len(MODELS))
        # The first call of a model exports its zeros.
        answered = [call(elsewhere if model == "o4-mini" else client, model) for model in MODELS]
        server.script([])
        time.sleep(SETTLE)
        result = traffic.Result(100)
        asyncio.run(traffic.run(server, result))
        server.take("tokens", traffic.TOKENS_PER_MINUTE)  # the neighbour has used it all
        answered += asyncio.run(burst(server, "gpt-4o-mini", 20))
        failing = give_ups(server, client, elsewhere)
        answered += in_spans(server, client)
        if "TRAFFIC_HALF" in os.environ:
            half = Path(os.environ["TRAFFIC_HALF"])
            half.touch()
            while half.exists():
                time.sleep(0.2)
            server.take("tokens", traffic.TOKENS_PER_MINUTE)
            answered += asyncio.run(burst(server, "gpt-4o-mini", 10))
        by_model: Counter[str] = Counter()
        for request in server.requests:
            if request.status == 429:
                by_model[request.json["model"]] += 1
        counted = Counted(
            requests=server.counts.requests,
            throttled=server.counts.throttled,
            resent=sum(request.headers["x-stainless-retry-count"] != "0" for request in server.requests),
            calls=result.calls + len(answered) + len(failing),
            failed=result.failed + answered.count(False) + failing.count(False),
            throttled_by_model=dict(by_model),
        )
    providers: tuple[Any, ...] = (trace.get_tracer_provider(), metrics.get_meter_provider())
    for provider in providers:
        if hasattr(provider, "force_flush"):  # else there is none for that signal
            provider.force_flush()
    print(json.dumps(asdict(counted)))
    return 0 if failing == [False, False, False, True, False] and all(answered) and result.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
