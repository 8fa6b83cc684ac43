"""The fan-out that the demo runs, and what became of it. Knows the SDK and the test server, not the screen."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import openai

from otel_ratelimit.testing import Limit, ThrottlingServer

TOKENS_PER_MINUTE = 200_000
"""The limit of the story that this project began with."""

TOKENS_IN_USE = 170_000
"""What others are using of it when the demo starts, so that it ends within half a minute."""

CALLS = 75
CONCURRENCY = 32
TOKENS_PER_CALL = 1_200
"""Few and large: the limit lets 2.8 of them through in a second, which also a slow and busy machine can send. So the limit and
not the machine decides what becomes of them."""

SERVICE_TIME = 0.5
"""Seconds that an answer takes."""

MODEL = "gpt-4o"


@dataclass
class Result:
    """What became of one run."""

    calls: int
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    throttled: int = 0
    """Throttled responses by the server's own count."""
    errors: dict[str, int] = field(default_factory=dict)


def start_server() -> ThrottlingServer:
    """A server on a free loopback port with the demo's limit."""
    return ThrottlingServer(limits=[Limit("tokens", TOKENS_PER_MINUTE, used=TOKENS_IN_USE)], latency=SERVICE_TIME)


async def run(server: ThrottlingServer, result: Result) -> None:
    """Send all calls, as a program would that wants its answers soon. ``result`` is kept up to date meanwhile."""
    gate = asyncio.Semaphore(CONCURRENCY)
    began = time.monotonic()

    async def one(client: openai.AsyncOpenAI) -> None:
        async with gate:
            sent = time.monotonic()
            try:
                await client.chat.completions.create(
                    model=MODEL,
                    messages=[{"role": "user", "content": "Say hello."}],
                    max_tokens=TOKENS_PER_CALL,
                )
            except openai.OpenAIError as error:
                result.failed += 1
                name = type(error).__name__
                result.errors[name] = result.errors.get(name, 0) + 1
            else:
                result.done += 1
            now = time.monotonic()
            result.slowest = max(result.slowest, now - sent)
            result.seconds = now - began
            result.throttled = server.counts.throttled

    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="demo") as client:
        await asyncio.gather(*(one(client) for _ in range(result.calls)))
