"""Ten real minutes of throttled traffic: ``uv run --group test python -m tests.benchmarks.soak --minutes 10``

Threads and two event loops share one key against a server in a process of its own that enforces a limit, breaks
connections and fails; callers are cancelled and time out. Prints memory, threads, tasks and open files each half minute, and
at the end compares the counters with the server's own. Exit code 1 where something grew or does not agree.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import openai
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit.testing import Fault, Limit, Reply, ThrottlingServer, throttle_reply
from tests.telemetry_probe import Probe

MESSAGES: list[Any] = [{"role": "user", "content": "Say hello."}]
TOKENS = 100
RATE = 2500
"""Tokens a second: twenty-five calls, for some forty callers."""
MOST_GROWTH = 200_000
"""Bytes of ours between the first half and the end."""


def serve() -> None:
    """The child: serves until its input ends, then writes its counts."""
    draw = random.Random(1)
    broken: list[Any] = [Fault.reset(), Fault.truncate(), Fault.reset_after_head(), Reply(status=500)]
    faults: list[Any] = [*broken, *[throttle_reply(0.3)] * 4]
    with ThrottlingServer([Limit("tokens", 60 * RATE, used=55 * RATE)], latency=0.05) as server:
        print(server.base_url, flush=True)
        ended = threading.Event()

        def misbehave() -> None:
            # By count, not by time: a server that breaks whatever comes, however seldom, would rightly get less and less.
            before = 0
            while not ended.wait(0.2):
                if server.counts.requests < before + 40:
                    continue
                before = server.counts.requests
                server.script([draw.choice(faults)])

        thread = threading.Thread(target=misbehave)
        thread.start()
        sys.stdin.read()
        ended.set()
        thread.join()
        counts = server.counts
        print(json.dumps({"requests": counts.requests, "throttled": counts.throttled}), flush=True)


class Counting(SpanProcessor):
    """Counts spans by the first word of their name, and keeps none."""

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        self._lock = threading.Lock()

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            self.ended[span.name.partition(" ")[0]] += 1


class Traffic:
    """Callers of all kinds, until told to stop."""

    def __init__(self, base_url: str, end: float) -> None:
        self.options: dict[str, Any] = {"base_url": base_url, "api_key": "test"}
        self.end = end
        self.ends: dict[str, int] = {}
        self._lock = threading.Lock()

    def count(self, how: str) -> None:
        with self._lock:
            self.ends[how] = self.ends.get(how, 0) + 1

    def thread(self, seed: int) -> None:
        draw = random.Random(seed)
        with openai.OpenAI(**self.options) as client:
            while time.monotonic() < self.end:
                try:
                    level: Any = draw.choice(["interactive", "normal", "batch"])
                    with (
                        otel_ratelimit.priority(level),
                        otel_ratelimit.use(Policy(max_wait=draw.choice([0.2, 5.0, 60.0]))),
                    ):
                        client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=TOKENS)
                    self.count("answered")
                except openai.OpenAIError as error:
                    self.count(type(error).__name__)

    def loop(self, seed: int) -> None:
        draw = random.Random(seed)

        async def one(client: openai.AsyncOpenAI) -> None:
            while time.monotonic() < self.end:
                call = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=TOKENS)
                try:
                    await asyncio.wait_for(call, draw.choice([0.05, 0.5, 30.0, 30.0]))
                    self.count("answered")
                except (TimeoutError, asyncio.TimeoutError):
                    self.count("cancelled")
                except openai.OpenAIError as error:
                    self.count(type(error).__name__)

        async def main() -> None:
            async with openai.AsyncOpenAI(**self.options) as client:
                await asyncio.gather(*[one(client) for _ in range(15)])
                assert len(asyncio.all_tasks()) == 1, "tasks are left"

        asyncio.run(main())


def held() -> int:
    """Bytes that were allocated in our modules and are alive."""
    gc.collect()
    ours = tracemalloc.Filter(True, str(Path(otel_ratelimit.__file__).parent / "*"))
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([ours]).traces)


def open_files() -> int:
    """Descriptors of this process, where the system tells."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def soak(minutes: float) -> bool:
    """Run, print, judge."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.soak", "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    base_url = child.stdout.readline().strip()
    probe = Probe()
    counting = Counting()
    spans = counting.ended
    tracers = TracerProvider()
    tracers.add_span_processor(counting)
    otel_ratelimit.instrument(policy=Policy(), tracer_provider=tracers, meter_provider=probe.meter_provider)
    with openai.OpenAI(
        base_url=base_url, api_key="test"
    ) as client:  # what the SDK imports and caches at its first call
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=TOKENS)
    threads, files = threading.active_count(), open_files()
    tracemalloc.start()
    began = time.monotonic()
    traffic = Traffic(base_url, began + 60.0 * minutes)
    callers = [threading.Thread(target=traffic.thread, args=(seed,)) for seed in range(10)]
    callers += [threading.Thread(target=traffic.loop, args=(seed,)) for seed in range(2)]
    for caller in callers:
        caller.start()
    sizes: list[int] = []
    while any(caller.is_alive() for caller in callers):
        time.sleep(min(30.0, 6.0 * minutes))
        sizes.append(held())
        elapsed = time.monotonic() - began
        print(f"{elapsed:6.0f} s  {sizes[-1]:9,} bytes of ours  {threading.active_count():3} threads  {open_files():3} files"
              f"  {traffic.ends}", flush=True)  # fmt: skip
    for caller in callers:
        caller.join()
    end = held()
    left = (threading.active_count() - threads, open_files() - files)
    counts = json.loads(child.communicate("", timeout=30)[0].strip().splitlines()[-1])
    metrics = {name: probe.total(f"otel_ratelimit.{name}") for name in ("throttles", "retries", "wait.duration")}
    attempts = probe.total("otel_ratelimit.attempt.duration")
    waiting = probe.total("otel_ratelimit.request.waiting")
    half = sizes[len(sizes) // 2] if sizes else end
    print(f"server: {counts}; spans: {spans}; points: {metrics}; attempts: {attempts:.0f}; waiting: {waiting:.0f}")
    print(f"bytes of ours: {half:,} in the middle, {end:,} at the end; threads and files left over: {left}")
    # A cancelled call was sent, and refused perhaps, without anybody left to hear of it.
    unheard = traffic.ends.get("cancelled", 0)
    good = [
        spans["throttle"] == metrics["throttles"],
        spans["retry"] == metrics["retries"],
        spans["wait"] == metrics["wait.duration"],
        0 <= counts["throttled"] - metrics["throttles"] <= unheard,
        counts["requests"] - (attempts - 0) + unheard >= 0,
        waiting == 0,
        end - half < MOST_GROWTH,
        left[0] <= 0 and left[1] <= 2,
    ]
    print("all well" if all(good) else f"NOT WELL: {good}")
    otel_ratelimit.uninstrument()
    probe.shutdown()
    return all(good)


def main() -> int:
    """Either side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return 0
    return 0 if soak(options.minutes) else 1


if __name__ == "__main__":
    sys.exit(main())
