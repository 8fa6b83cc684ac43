"""What an undisturbed stream costs: ``uv run --group test python -m tests.benchmarks.streams``

The real SDK over an in-process transport, plain and instrumented in turns in one run. Prints, for both APIs and both drivers,
microseconds for each event of a long stream, and for a whole short one (ten events, so mostly what its call costs).
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import openai

import otel_ratelimit
from otel_ratelimit.testing import Reply

try:
    import httpx2 as httpx
except ImportError:  # openai before 3.0
    import httpx  # type: ignore[no-redef,import-not-found,unused-ignore]

LONG = 2000
SHORT = 10
ROUNDS = 15
MESSAGES: Any = [{"role": "user", "content": "Say hello."}]


def body(api: str, deltas: int) -> bytes:
    """A stream with so many pieces of content, all in one read: what is measured is work, not waiting."""
    reply = Reply.stream_throttle(delay=1.0, api="chat" if api == "chat" else "responses", after_content=True)
    *first, _failure = reply.events or ()
    events = [*first, *[first[-1]] * deltas]
    return b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events) + b"data: [DONE]\n\n"


def run(api: str, deltas: int) -> float:
    """Seconds for a stream with the synchronous client."""
    content = body(api, deltas)
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=content, headers=headers))
    http_client = httpx.Client(transport=transport)
    with openai.OpenAI(base_url="http://127.0.0.1/v1", api_key="test", http_client=http_client) as client:
        began = time.perf_counter()
        for _ in _open(client, api):
            pass
        return time.perf_counter() - began


def run_async(api: str, deltas: int) -> float:
    """The same with the asynchronous one."""

    async def main() -> float:
        content = body(api, deltas)
        headers = {"content-type": "text/event-stream"}
        transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=content, headers=headers))
        http_client = httpx.AsyncClient(transport=transport)
        async with openai.AsyncOpenAI(
            base_url="http://127.0.0.1/v1", api_key="test", http_client=http_client
        ) as client:
            began = time.perf_counter()
            opened: Awaitable[Any] = _open(client, api)
            async for _ in await opened:
                pass
            return time.perf_counter() - began

    return asyncio.run(main())


def _open(client: Any, api: str) -> Any:
    if api == "chat":
        return client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    return client.responses.create(model="m", input="Say hello.", stream=True)


def measure(action: Callable[[str, int], float], api: str, deltas: int) -> tuple[float, float]:
    """Microseconds plain and instrumented, each the median of rounds that take turns."""
    plain, instrumented = [], []
    for _ in range(ROUNDS):
        gc.collect()
        plain.append(action(api, deltas))
        otel_ratelimit.instrument()
        try:
            instrumented.append(action(api, deltas))
        finally:
            otel_ratelimit.uninstrument()
    return statistics.median(plain) * 1e6, statistics.median(instrumented) * 1e6


def main() -> None:
    """Print the table."""
    print(f"{'':24}{'plain':>10}{'ours':>10}{'ratio':>8}")
    for action in (run, run_async):
        for api in ("chat", "responses"):
            action(api, SHORT)
            label = f"{'sync' if action is run else 'async'} {api}"
            plain, ours = measure(action, api, LONG)
            print(f"{label + ', an event':24}{plain / LONG:10.2f}{ours / LONG:10.2f}{ours / plain:8.3f}")
            plain, ours = measure(action, api, SHORT)
            print(f"{label + ', 10 events':24}{plain:10.0f}{ours:10.0f}{ours / plain:8.3f}")


if __name__ == "__main__":
    main()
