"""The scenarios that admission is held to, others like them, and wild mixtures; what each must reach."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from otel_ratelimit._core.cost import Cost
from tests.benchmarks.simulation.server import Dialect, Limits, Load, Server, refill_time
from tests.benchmarks.simulation.world import Job, Ours, Run, World


@dataclass(frozen=True)
class Scenario:
    name: str
    limits: Limits = field(default_factory=Limits)
    dialect: Dialect = field(default_factory=Dialect)
    calls: int = 600
    concurrency: int = 64
    mix: str = "usual"
    load: tuple[float, float, float] | None = None
    errors: float = 0.0
    overload_above: int = 10**9
    median: float = 1.5
    sigma: float = 0.4
    network: tuple[float, float] = (0.002, 0.002)
    most: tuple[float, float, float] = (1.005, 0.02, 1.5)
    """Makespan / bound, throttled per call, slowest / median of those that queued."""


SILENT = Dialect(headers="none")
BARE = Dialect(headers="none", message="none", usage=False)
RPM = Limits(tpm=1e7, rpm=300.0)
SCENARIOS = (
    Scenario("200k TPM, headers and message"),
    Scenario("message only, no headers", dialect=Dialect(headers="none"), most=(1.01, 0.02, 1.5)),
    Scenario("headers only, no delay", dialect=Dialect(message="none")),
    Scenario("300 RPM, 128-way", limits=Limits(tpm=1e7, rpm=300.0), concurrency=128),
    Scenario("1M TPM, 500-way", limits=Limits(tpm=1e6), calls=3000, concurrency=500),
    Scenario("enforced per second", limits=Limits(burst=1.0), most=(1.015, 0.02, 2.0)),
    Scenario("bare 429", dialect=Dialect(headers="none", message="none", usage=False), most=(1.10, 0.10, 2.0)),
    Scenario("30 to 70 % used by others", load=(0.3, 0.7, 20.0), most=(1.03, 0.05, 2.0)),
    Scenario("3 % answers are 500", errors=0.03, most=(1.01, 0.02, 2.0)),
    Scenario(
        "limit halves, then x4", limits=Limits(schedule=((40.0, 100_000.0), (110.0, 400_000.0))), most=(1.02, 0.05, 2.0)
    ),
    Scenario("headers of the day only", dialect=Dialect(headers="day"), most=(1.02, 0.05, 2.0)),
    Scenario("far below the limit", limits=Limits(tpm=1e8, rpm=1e6), most=(1.005, 0.0, 9.0)),
)
OTHERS = (
    Scenario("mix 200..20k, headers and message", mix="wide", most=(1.02, 0.03, 3.0)),
    Scenario("mix, message only", mix="wide", dialect=Dialect(headers="none"), most=(1.02, 0.03, 3.0)),
    Scenario("mix, bare 429", mix="wide", dialect=BARE, most=(1.15, 0.10, 3.0)),
    Scenario("message only, no usage", dialect=Dialect(headers="none", usage=False), most=(1.01, 0.02, 1.5)),
    Scenario("delay only (retry-after-ms)", dialect=Dialect(headers="none", message="delay"), most=(1.05, 0.05, 2.0)),
    Scenario("300 RPM bare", limits=RPM, concurrency=128, dialect=BARE, most=(1.1, 0.1, 2.0)),
    Scenario("300 RPM message only", limits=RPM, concurrency=128, dialect=SILENT, most=(1.03, 0.02, 2.0)),
    Scenario(
        "300 RPM per second", limits=Limits(tpm=1e7, rpm=300.0, burst=1.0), concurrency=128, most=(1.015, 0.02, 2.0)
    ),
    Scenario(
        "per second, headers of the second",
        limits=Limits(burst=1.0),
        dialect=Dialect(headers="bucket"),
        most=(1.03, 0.03, 2.0),
    ),
    Scenario(
        "per second, message only", limits=Limits(burst=1.0), dialect=Dialect(headers="none"), most=(1.015, 0.02, 2.0)
    ),
    Scenario("resets in whole seconds", dialect=Dialect(reset_grain=1.0)),
    Scenario("jittery network", network=(0.02, 0.1)),
    Scenario("slow answers (10 s)", median=10.0, most=(1.03, 0.02, 2.0)),
    Scenario("20k TPM, cold storm", limits=Limits(tpm=20_000.0), calls=120, most=(1.02, 0.1, 2.0)),
    Scenario("charged otherwise (x2, sum)", mix="sum"),
    Scenario("others, message only", load=(0.3, 0.7, 20.0), dialect=Dialect(headers="none"), most=(1.05, 0.05, 2.0)),
    Scenario("overload above 16", limits=Limits(tpm=1e8), overload_above=16, most=(1.15, 0.1, 3.0)),
)


def jobs_of(scenario: Scenario, rng: random.Random) -> list[Job]:
    jobs = []
    for number in range(scenario.calls):
        if scenario.mix == "wide":
            tokens = min(max(math.exp(rng.gauss(math.log(1500.0), 1.0)), 200.0), 20_000.0)
        else:
            tokens = 1500.0 * rng.uniform(0.8, 1.2)
        noise = max(0.5, rng.gauss(1.0, 0.15))
        if scenario.mix == "sum":
            output = float(rng.choice((256, 512, 1024)))
            jobs.append(Job(number, round(2.0 * tokens * noise + output), Cost(tokens, output)))
        else:
            jobs.append(Job(number, round(tokens * noise), Cost(tokens, 0.0)))
    return jobs


def server_of(scenario: Scenario, seed: int) -> Server:
    """The scenario's server, with the load of others on it."""
    load = Load(*scenario.load, random.Random(seed + 1)) if scenario.load is not None else None
    return Server(
        scenario.limits, scenario.dialect, random.Random(seed + 2), load, scenario.errors, scenario.median, scenario.sigma,
        scenario.overload_above,
    )  # fmt: skip


def bound_of(scenario: Scenario, jobs: list[Job], load: Load | None) -> float:
    """Seconds that no client can do without: refill time and a median service time, or service time over concurrency."""
    limits = scenario.limits
    attempts = len(jobs) / (1.0 - scenario.errors)
    charged = sum(job.charge for job in jobs) * attempts / len(jobs)
    tokens = refill_time(charged, limits.tpm / 60 * limits.burst, limits.tpm / 60, load, limits.schedule)
    requests = refill_time(attempts, limits.rpm / 60 * limits.burst, limits.rpm / 60, None, ())
    width = min(scenario.concurrency, scenario.overload_above)
    mean = scenario.median * math.exp(scenario.sigma**2 / 2)
    return max(max(tokens, requests) + scenario.median, mean * len(jobs) / width)


def play(scenario: Scenario, seed: int, kind: Callable[..., World] = Ours, **keywords: Any) -> tuple[Run, float, World]:
    """One run and its bound in seconds."""
    jobs = jobs_of(scenario, random.Random(seed))
    server = server_of(scenario, seed)
    world = kind(server, jobs, scenario.concurrency, random.Random(seed + 3), network=scenario.network, **keywords)
    return world.run(), bound_of(scenario, jobs, server.load), world


def median(values: list[float]) -> float:
    return statistics.median(values)
