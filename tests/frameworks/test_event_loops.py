"""Event loops that are not the standard library's: gevent's greenlets under monkey-patching, and uvloop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import openai
import pytest

from otel_ratelimit.testing import Limit, ThrottlingServer
from tests.frameworks.conftest import Stage

CALLS = 50
TEN_A_SECOND = Limit("requests", 20, window=2.0)
"""Twenty at once: the others wait, up to 3 s."""


@pytest.mark.parametrize("patched", ["before", "after"])
def test_greenlets_wait_without_holding_up_the_others(patched: str) -> None:
    """gevent replaces threads, events and sockets, before our import as it should be done, or after it."""
    pytest.importorskip("gevent", reason="gevent is not installed: uv sync --group frameworks")
    with ThrottlingServer([TEN_A_SECOND], latency=0.1) as server:
        program = [sys.executable, "-m", "tests.frameworks.greenlets", server.base_url, str(CALLS), patched]
        done = subprocess.run(program, check=True, capture_output=True, text=True, timeout=90)
        assert server.counts.throttled > 0
    answered, turns = map(int, done.stdout.split())
    assert answered == CALLS
    assert turns >= 20  # of 150


def test_under_uvloop(stage: Stage) -> None:
    """Waits are timers of that loop."""
    uvloop: Any = pytest.importorskip("uvloop", reason="uvloop is not installed: uv sync --group frameworks")

    async def call_all(url: str) -> list[Any]:
        messages: Any = [{"role": "user", "content": "Say hello."}]
        async with openai.AsyncOpenAI(base_url=url, api_key="test") as client:
            calls = (client.chat.completions.create(model="gpt-4o", messages=messages) for _ in range(CALLS))
            return await asyncio.gather(*calls)

    with ThrottlingServer([TEN_A_SECOND], latency=0.1) as server:
        answers = uvloop.run(call_all(server.base_url))
        assert len(answers) == server.counts.succeeded == CALLS
        assert server.counts.throttled == stage.probe.total("otel_ratelimit.throttles") > 0
