"""Limits over windows that are no second, minute or day, over sockets with the real SDK."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from otel_ratelimit.testing import Limit, ThrottlingServer, wording
from tests.drivers.conftest import MESSAGES
from tests.telemetry_probe import Probe

CALLS = 60
SECONDS = 4.0
"""The least that they take: twenty at once, and ten a second from then on."""


@pytest.mark.parametrize("dialect", [wording.OPENAI, wording.HEADERS_ONLY], ids=["named", "measured"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_limit_of_two_seconds_runs_at_its_own_speed(
    asynchronous: bool, dialect: wording.Dialect, instrumented: Callable[..., Probe]
) -> None:
    """Taken for one by the minute it would take two; taken for one by the second, each call would be refused again and again."""
    instrumented()
    with ThrottlingServer([Limit("requests", 20, window=2.0)], dialect=dialect) as server:
        began = time.monotonic()
        if asynchronous:
            asyncio.run(_all_async(server.base_url))
        else:
            with openai.OpenAI(base_url=server.base_url, api_key="test") as client, ThreadPoolExecutor(CALLS) as pool:
                list(pool.map(lambda _: client.chat.completions.create(model="m", messages=MESSAGES), range(CALLS)))
        took = time.monotonic() - began
        assert server.counts.succeeded == CALLS
        assert took < 15 * SECONDS
        assert server.counts.throttled < 2 * CALLS


async def _all_async(base_url: str) -> None:
    async with openai.AsyncOpenAI(base_url=base_url, api_key="test") as client:
        await asyncio.gather(*(client.chat.completions.create(model="m", messages=MESSAGES) for _ in range(CALLS)))
