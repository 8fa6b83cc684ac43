"""An hour of throttled traffic on a virtual clock: ``uv run --group benchmarks python -m tests.benchmarks.virtual_hour``

The real SDK, hooks, parser and driver over a simulated server: 64 callers at a time under a limit of 200,000 tokens a minute that
others use 30 to 70 % of, 3 % of the answers a 500, one call in ten given up by its caller in the middle. Prints, every five
virtual minutes, what is held in our modules and how many tasks there are; at the end, the counters against the server's.
Exit code 1 where something grew or does not agree.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import httpx2
import openai

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit._drivers.runtime import Clock
from otel_ratelimit._instrumentor import RateLimitInstrumentor
from tests.benchmarks import virtual
from tests.benchmarks.real_sdk import Transport, _plain
from tests.benchmarks.simulation.scenarios import Scenario, jobs_of, server_of
from tests.telemetry_probe import Probe

HOUR = 3600.0
SCENARIO = Scenario("an hour", calls=1000, load=(0.3, 0.7, 60.0), errors=0.03)
MOST_GROWTH = 100_000
"""Bytes of ours between the middle and the end."""


class Answered(Transport):
    """Counts what it has answered, by status."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.statuses: Counter[int] = Counter()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        self.statuses[response.status_code] += 1
        return response


def held() -> int:
    """Bytes that were allocated in our modules and are alive."""
    gc.collect()
    ours = tracemalloc.Filter(True, str(Path(otel_ratelimit.__file__).parent / "*"))
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([ours]).traces)


def main() -> int:
    """Run, print, judge."""
    loop = virtual.VirtualLoop()
    probe = Probe()
    clock = Clock(monotonic=loop.time, random=random.Random(3).random)
    RateLimitInstrumentor().instrument(policy=Policy(), clock=clock, meter_provider=probe.meter_provider)
    server = server_of(SCENARIO, 1)
    transport = Answered(server, SCENARIO.dialect, random.Random(4), SCENARIO.network)
    ends: Counter[str] = Counter()
    sizes: list[int] = []

    async def caller(client: openai.AsyncOpenAI, seed: int) -> None:
        draw = random.Random(seed)
        create = _plain(client, 2)
        while loop.time() < HOUR:
            for job in jobs_of(replace(SCENARIO, calls=20), draw):
                patience = draw.uniform(0.0, 20.0) if draw.random() < 0.1 else None
                try:
                    await asyncio.wait_for(create(job), patience)
                    ends["answered"] += 1
                except (TimeoutError, asyncio.TimeoutError):
                    ends["cancelled"] += 1
                except openai.OpenAIError as error:
                    ends[type(error).__name__] += 1

    async def watch() -> None:
        while loop.time() < HOUR:
            await asyncio.sleep(300.0)
            sizes.append(held())
            print(
                f"{loop.time():6.0f} s  {sizes[-1]:9,} bytes of ours  {len(asyncio.all_tasks())} tasks  {dict(ends)}",
                flush=True,
            )

    async def run() -> int:
        async with openai.AsyncOpenAI(
            base_url="http://127.0.0.1/v1", api_key="test", http_client=httpx2.AsyncClient(transport=transport)
        ) as client:
            client._platform = "Linux"  # it is found out in a thread, which has no place on a virtual clock
            await asyncio.gather(watch(), *[caller(client, seed) for seed in range(64)])
        return len(asyncio.all_tasks())

    tracemalloc.start()
    tasks = virtual.run(run(), loop)
    otel_ratelimit.uninstrument()
    statuses = {
        status: probe.total("otel_ratelimit.attempt.duration", http_response_status_code=status)
        for status in (200, 429, 500)
    }
    print(f"server: {dict(transport.statuses)}; attempts by status: {statuses}; calls: {dict(ends)}")
    good = [
        tasks == 1,
        # What was cancelled on its way was answered perhaps, with nobody left to hear of it.
        all(0 <= transport.statuses[status] - counted <= ends["cancelled"] for status, counted in statuses.items()),
        probe.total("otel_ratelimit.throttles") == statuses[429],
        probe.total("otel_ratelimit.call.duration") == sum(ends.values()),
        probe.total("otel_ratelimit.request.waiting") == 0,
        sizes[-1] - sizes[len(sizes) // 2] < MOST_GROWTH,
    ]
    print("all well" if all(good) else f"NOT WELL: {good}")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
