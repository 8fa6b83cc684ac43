"""Clients beside ours, each told what it needs, over sockets against one server: ``python -m tests.benchmarks.alternatives``.

token-throttle needs Python 3.12, so this runs in an environment of its own::

    uv run --python 3.12 --isolated --no-project --with '.[openai,testing]' --with token-throttle \
        python -m tests.benchmarks.alternatives token-throttle used

Two worlds: ``fresh``, where the limit is whole at the beginning, and ``used``, where another program has just used it up, which a
client-side limiter cannot know.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

import openai

from otel_ratelimit.testing import Limit, ThrottlingServer

TOKENS_PER_MINUTE = 30_000
REQUESTS_PER_MINUTE = 500
CALLS = 80
AT_ONCE = 32
MAX_TOKENS = 600
PROMPT_TOKENS = 7
"""As the test server counts ``hi``; a limiter is told the true cost."""

Call = Callable[[], Awaitable[Any]]


def alone(call: Call) -> Call:
    """The SDK by itself."""
    return call


def ours(call: Call) -> Call:
    """Told nothing."""
    import otel_ratelimit

    otel_ratelimit.instrument()
    return call


def token_throttle(call: Call) -> Call:
    """Told both limits, and the true cost of each call."""
    library: Any = import_module("token_throttle")
    quotas = [
        library.Quota(metric="requests", limit=REQUESTS_PER_MINUTE, per_seconds=60),
        library.Quota(metric="tokens", limit=TOKENS_PER_MINUTE, per_seconds=60),
    ]
    limiter = library.RateLimiter(
        library.PerModelConfig(quotas=library.UsageQuotas(quotas)), backend=library.MemoryBackendBuilder()
    )
    usage = {"requests": 1, "tokens": MAX_TOKENS + PROMPT_TOKENS}

    async def limited() -> Any:
        async with limiter.reserve(usage, model="gpt-4o") as reservation:
            answer = await call()
            reservation.set_actual_usage(usage)
            return answer

    return limited


CLIENTS: dict[str, Callable[[Call], Call]] = {"openai": alone, "otel_ratelimit": ours, "token-throttle": token_throttle}


async def run(name: str, server: ThrottlingServer) -> dict[str, Any]:
    """One client, all calls."""
    at_once = asyncio.Semaphore(AT_ONCE)
    failed: list[str] = []
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="test") as client:

        async def call() -> Any:
            messages: list[Any] = [{"role": "user", "content": "hi"}]
            return await client.chat.completions.create(model="gpt-4o", messages=messages, max_tokens=MAX_TOKENS)

        limited = CLIENTS[name](call)

        async def one() -> None:
            async with at_once:
                try:
                    await limited()
                except Exception as error:
                    failed.append(type(error).__name__)

        began = time.monotonic()
        await asyncio.gather(*(one() for _ in range(CALLS)))
    counts = server.counts
    return {
        "client": name,
        "answered": CALLS - len(failed),
        "refused by the server": counts.throttled,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("world", choices=["fresh", "used"])
    options = parser.parse_args()
    limits = [Limit("tokens", TOKENS_PER_MINUTE), Limit("requests", REQUESTS_PER_MINUTE)]
    with ThrottlingServer(limits, latency=0.2) as server:
        if options.world == "used":
            server.take("tokens", TOKENS_PER_MINUTE)
        print(json.dumps({"world": options.world, **asyncio.run(run(options.client, server))}))


if __name__ == "__main__":
    main()
