"""Event loops that are closed with calls waiting in them: what those held is given back, and the next loop is not late."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import openai
import pytest

import otel_ratelimit
from otel_ratelimit._drivers import loops
from otel_ratelimit._drivers.scope import current, restore
from otel_ratelimit.testing import Limit, ThrottlingServer
from tests.drivers.conftest import MESSAGES
from tests.telemetry_probe import Probe

Instrumented = Callable[..., Probe]

# What asyncio and the SDK's transport say when they are dropped; without us too.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

GHOSTS = 40
SLOW = Limit("tokens", 6000, used=5800)
"""A hundred tokens a second: one call of a hundred each second, so that forty that wait would hold the next one for 40 s."""


async def call(client: openai.AsyncOpenAI) -> Any:
    return await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=100)


async def once(url: str) -> Any:
    async with openai.AsyncOpenAI(base_url=url, api_key="test") as client:
        return await call(client)


def waiting(probe: Probe) -> float:
    probe.points("otel_ratelimit.request.waiting")  # a collection of its own first, as exporters make one after another
    return probe.total("otel_ratelimit.request.waiting")


def leave_waiting(url: str, probe: Probe) -> list[Any]:
    """Close a loop while calls wait in it; returns its tasks, which a program may keep."""
    loop = asyncio.new_event_loop()

    async def begin() -> list[asyncio.Task[Any]]:
        client = openai.AsyncOpenAI(base_url=url, api_key="test")
        await call(client)
        tasks = [asyncio.ensure_future(call(client)) for _ in range(GHOSTS)]
        while waiting(probe) < GHOSTS - 5:
            await asyncio.sleep(0.05)
        return tasks

    tasks = loop.run_until_complete(begin())
    loop.close()
    return tasks


@pytest.mark.parametrize("kept", [False, True], ids=["dropped", "kept"])
def test_the_next_loop_is_not_late(instrumented: Instrumented, kept: bool) -> None:
    """Its call does not stand behind the others, whether the program keeps their tasks or drops them."""
    probe = instrumented()
    with ThrottlingServer([SLOW], latency=0.02) as server:
        tasks = leave_waiting(server.base_url, probe)
        if not kept:
            tasks.clear()
            gc.collect()
        began = time.monotonic()
        asyncio.run(once(server.base_url))
        assert time.monotonic() - began < 10
        assert waiting(probe) == 0
        tasks.clear()
        gc.collect()
        asyncio.run(once(server.base_url))


def test_a_thread_is_not_late_either(instrumented: Instrumented) -> None:
    """The synchronous client shares the queue with them."""
    probe = instrumented()
    with ThrottlingServer([SLOW], latency=0.02) as server:
        tasks = leave_waiting(server.base_url, probe)
        began = time.monotonic()
        with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=100)
        assert time.monotonic() - began < 10
        tasks.clear()
        gc.collect()


def test_they_do_not_count_as_waiting(instrumented: Instrumented) -> None:
    """No call after them is needed: the collection of metrics sees it, and what they were is in their spans."""
    probe = instrumented()
    with ThrottlingServer([SLOW], latency=0.02) as server:
        tasks = leave_waiting(server.base_url, probe)
        assert waiting(probe) == 0
        assert not loops._waiting
        hooks = otel_ratelimit.RateLimitInstrumentor()._hooks
        assert hooks is not None
        assert hooks.runtime is not None
        assert not hooks.runtime.store._waiting
        cancelled = [
            span
            for span in probe.spans("rate_limited")
            if (span.attributes or {})["otel_ratelimit.outcome"] == "cancelled"
        ]
        assert len(cancelled) >= GHOSTS - 5
        ended = probe.total("otel_ratelimit.call.duration")
        tasks.clear()
        gc.collect()
        assert probe.total("otel_ratelimit.call.duration") - ended <= 5  # no call ends twice; a few were not waiting


def test_nothing_is_kept_of_loops_that_end_well(instrumented: Instrumented) -> None:
    """As by far most do."""
    instrumented()
    with ThrottlingServer([Limit("tokens", 60_000, used=59_900)], latency=0.02) as server:
        asyncio.run(once(server.base_url))
        asyncio.run(once(server.base_url))
    assert not loops._waiting


def _session(ended: bool) -> Any:
    return SimpleNamespace(ended=ended)


def test_a_dropped_call_leaves_the_one_at_work_alone() -> None:
    """It may be dropped in the middle of another call, whose context it then ends in. One that has ended is no longer at work."""
    dropped, at_work = (_session(ended) for ended in (True, False))
    outer = current.get()
    try:
        current.set(at_work)
        restore(dropped, None)
        assert current.get() == at_work
        restore(at_work, None)
        assert current.get() is None
        current.set(dropped)
        restore(at_work, None)
        assert current.get() is None
    finally:
        current.set(outer)
