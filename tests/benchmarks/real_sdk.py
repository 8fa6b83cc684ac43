"""The real SDK and the whole plugin on a virtual clock: ``python -m tests.benchmarks.real_sdk`` (group ``benchmarks``).

The scenarios, the server's arithmetic and the bounds are those of ``tests.benchmarks.simulation``; here the calls go through
the real ``openai.AsyncOpenAI``, the hooks, the parser and the driver, over an in-process transport that answers with HTTP
responses in OpenAI's words. Beside ours: the SDK alone, with ten retries, tenacity as OpenAI's cookbook sets it,
aiolimiter told the limit and each call's true cost, and the delay obeyed call by call (``Policy(pacing=False)``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiolimiter
import httpx2
import openai
import tenacity

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit._drivers.runtime import Clock
from otel_ratelimit._instrumentor import RateLimitInstrumentor
from otel_ratelimit.testing import answers, wording
from tests.benchmarks import virtual
from tests.benchmarks.simulation.scenarios import SCENARIOS, Scenario, bound_of, jobs_of, server_of
from tests.benchmarks.simulation.server import Answer, Dialect, Server
from tests.benchmarks.simulation.world import Job

PLOT = Path(__file__).parents[2] / "docs" / "images" / "benchmark.png"


@dataclass
class Outcome:
    """What came out of one run."""

    done: int = 0
    failed: int = 0
    makespan: float = 0.0
    throttled: int = 0
    finished: list[float] = field(default_factory=list)
    """Seconds after the start at which each call was answered."""


class Transport(httpx2.AsyncBaseTransport):
    """The simulated server behind HTTP responses."""

    def __init__(self, server: Server, dialect: Dialect, rng: random.Random, network: tuple[float, float]) -> None:
        self.server = server
        self.dialect = dialect
        self.rng = rng
        self.network = network

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(self.network[0] + self.rng.random() * self.network[1])
        answer = self.server.receive(asyncio.get_running_loop().time(), float(request.headers["x-true-cost"]))
        served = answer.status == 200
        self.server.busy += served
        await asyncio.sleep(answer.after)
        self.server.busy -= served
        return httpx2.Response(answer.status, headers=self._headers(answer), json=self._body(answer), request=request)

    def _headers(self, answer: Answer) -> dict[str, str]:
        headers = {}
        for reading in answer.readings:
            headers[f"x-ratelimit-limit-{reading.kind}"] = f"{reading.limit:.0f}"
            headers[f"x-ratelimit-remaining-{reading.kind}"] = f"{reading.remaining:.0f}"
            headers[f"x-ratelimit-reset-{reading.kind}"] = wording.duration(reading.reset or 0.0)
        if answer.throttle is not None and self.dialect.message == "delay":
            headers["retry-after-ms"] = f"{(answer.throttle.delay or 0.0) * 1000:.0f}"
        return headers

    def _body(self, answer: Answer) -> dict[str, Any]:
        if answer.status == 200:
            body = answers.chat({"model": "gpt-4o"})
            usage = None if answer.used is None else {"total_tokens": round(answer.used), "prompt_tokens": 1}
            return {**body, "usage": usage and {**usage, "completion_tokens": 1}}
        throttle = answer.throttle
        if throttle is None:
            return wording.error_body("The server had an error while processing your request.", kind="server_error")
        if self.dialect.message != "numbers":
            return wording.error_body("Too Many Requests")
        unit = "requests" if throttle.kind == "requests" else "tokens"
        message = (
            f"Rate limit reached for gpt-4o in organization org-test on {unit} per min ({unit[0].upper()}PM): Limit"
            f" {throttle.limit:.0f}, Used {throttle.used:.0f}, Requested {throttle.requested:.0f}."
            f" Please try again in {wording.duration(throttle.delay or 0.0)}."
        )
        return wording.error_body(message, kind=unit, code="rate_limit_exceeded")


Create = Callable[[Job], Awaitable[object]]


def _plain(client: openai.AsyncOpenAI, retries: int) -> Create:
    client.max_retries = retries

    async def create(job: Job) -> object:
        return await client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "x" * round(4 * job.cost.input)}],
            extra_headers={"x-true-cost": str(job.charge)},
        )

    return create


def _tenacity(client: openai.AsyncOpenAI, _scenario: Scenario) -> Create:
    return tenacity.retry(
        retry=tenacity.retry_if_exception_type(openai.RateLimitError),
        wait=tenacity.wait_random_exponential(min=1, max=60),
        stop=tenacity.stop_after_attempt(6),
    )(_plain(client, 0))


def _aiolimiter(client: openai.AsyncOpenAI, scenario: Scenario) -> Create:
    limiter = aiolimiter.AsyncLimiter(scenario.limits.tpm, 60)
    send = _plain(client, 2)

    async def create(job: Job) -> object:
        await limiter.acquire(job.charge)
        return await send(job)

    return create


CLIENTS: dict[str, tuple[Policy | None, Callable[[openai.AsyncOpenAI, Scenario], Create]]] = {
    "openai alone": (None, lambda client, _: _plain(client, 2)),
    "max_retries=10": (None, lambda client, _: _plain(client, 10)),
    "tenacity": (None, _tenacity),
    "aiolimiter": (None, _aiolimiter),
    "delay call by call": (Policy(pacing=False), lambda client, _: _plain(client, 2)),
    "otel_ratelimit": (Policy(), lambda client, _: _plain(client, 2)),
}


def play(scenario: Scenario, seed: int, label: str) -> tuple[Outcome, float]:
    """One run, and its bound in seconds."""
    policy, make = CLIENTS[label]
    rng = random.Random(seed)
    jobs = jobs_of(scenario, rng)
    server = server_of(scenario, seed)
    outcome = Outcome()
    loop = virtual.VirtualLoop()

    async def main() -> None:
        transport = Transport(server, scenario.dialect, random.Random(seed + 4), scenario.network)
        http = httpx2.AsyncClient(transport=transport)
        async with openai.AsyncOpenAI(base_url="http://127.0.0.1/v1", api_key="test", http_client=http) as client:
            client._platform = "Linux"  # it is found out in a thread, which has no place on a virtual clock
            create = make(client, scenario)
            queue = iter(jobs)

            async def caller() -> None:
                for job in queue:
                    try:
                        await create(job)
                    except (openai.OpenAIError, tenacity.RetryError):
                        outcome.failed += 1
                    else:
                        outcome.done += 1
                        outcome.finished.append(loop.time())

            await asyncio.gather(*(caller() for _ in range(scenario.concurrency)))
        outcome.makespan = loop.time()

    if policy is not None:
        clock = Clock(monotonic=loop.time, random=random.Random(seed + 3).random)
        RateLimitInstrumentor().instrument(policy=policy, clock=clock)
    try:
        virtual.run(main(), loop)
    finally:
        if policy is not None:
            otel_ratelimit.uninstrument()
    outcome.throttled = server.throttled
    return outcome, bound_of(scenario, jobs, server.load)


def plot(outcomes: dict[str, Outcome], bound: float, path: Path) -> None:
    """Answered calls over time, one line for each client."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.5))
    for label, outcome in outcomes.items():
        times = sorted(outcome.finished)
        style: dict[str, Any] = {"linewidth": 3, "color": "black"} if label == "otel_ratelimit" else {"linewidth": 1.3}
        axes.step(
            [0, *times],
            range(len(times) + 1),
            label=f"{label}: {outcome.done} of 600, {outcome.throttled:,} throttled",
            **style,
        )
    axes.axvline(bound, linestyle=":", color="grey", label="the limit's own time")
    axes.set_xlabel("seconds")
    axes.set_ylabel("calls answered")
    axes.set_title("600 calls of 1,500 tokens, 64 at a time, 200,000 tokens a minute")
    axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.real_sdk")
    parser.add_argument("names", nargs="*", help="only scenarios whose name contains one of these")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--baselines", action="store_true", help="the other clients too, on the first scenario")
    parser.add_argument("--plot", type=Path, nargs="?", const=PLOT, help="draw the first scenario")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    began = time.process_time()
    seeds = [1000 + 17 * seed for seed in range(options.seeds)]
    print(f"{'scenario':32} {'client':20} {'done':>10} {'makespan/bound':>15} {'throttled/call':>15}")
    drawn: dict[str, Outcome] = {}
    bound = 0.0
    for index, scenario in enumerate(SCENARIOS):
        if options.names and not any(name in scenario.name for name in options.names):
            continue
        labels = list(CLIENTS) if options.baselines and index == 0 else ["otel_ratelimit"]
        for label in labels:
            runs = [play(scenario, seed, label) for seed in seeds]
            if index == 0:
                drawn[label], bound = runs[0]
            done = min(run.done for run, _ in runs)
            ratio = statistics.median(run.makespan / least for run, least in runs)
            throttled = statistics.median(run.throttled for run, _ in runs) / scenario.calls
            if options.json:
                print(json.dumps({"scenario": scenario.name, "client": label, "done": done, "ratio": ratio}))
            print(f"{scenario.name:32} {label:20} {f'{done}/{scenario.calls}':>10} {ratio:15.4f} {throttled:15.4f}")
    if options.plot and drawn:
        plot(drawn, bound, options.plot)
        print(f"drawn: {options.plot.name}")
    print(f"{time.process_time() - began:.0f} s of CPU")


if __name__ == "__main__":
    main()
