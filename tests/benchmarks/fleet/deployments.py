"""Several deployments behind one address, called by a fleet: ``python -m tests.benchmarks.fleet deployments``.

The fleet of ``simulation`` (a real Redis, a virtual clock) against servers of which one answers each request, at random, by its
own limits and with its own headers. What may be used is the sum.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from otel_ratelimit._stores.redis_client import Script
from tests.benchmarks.fleet.simulation import Fleet
from tests.benchmarks.simulation.scenarios import SILENT, Scenario, bound_of, jobs_of, server_of
from tests.benchmarks.simulation.server import Answer, Limits, Server
from tests.helpers.redis_server import RedisServer

AT_A_TIME = 64
WORLDS = (
    ("three deployments", (200_000.0, 200_000.0, 200_000.0), Scenario("", calls=1800)),
    ("three, message only", (200_000.0, 200_000.0, 200_000.0), Scenario("", calls=1800, dialect=SILENT)),
    ("20k + 60k + 120k", (20_000.0, 60_000.0, 120_000.0), Scenario("")),
)


class Deployments(Server):
    """One address; each request goes to one of several servers, at random."""

    def __init__(self, servers: Sequence[Server], rng: random.Random) -> None:
        first = servers[0]
        super().__init__(first.limits, first.dialect, rng)
        self.servers = servers

    def receive(self, now: float, charge: float) -> Answer:
        """As the one that it goes to answers."""
        answer = self.rng.choice(self.servers).receive(now, charge)
        self.served += answer.status == 200
        if answer.throttle is not None:
            self.throttled += 1
            self.throttle_times.append(now)
        return answer


def measure(sizes: Sequence[int], seeds: Sequence[int]) -> None:
    """Print a line for each world and size of the fleet: the mean over the seeds."""
    print(f"{'world':22}{'processes':>10}{'done':>8}{'/bound':>9}{'worst':>9}{'throttled':>11}")
    with RedisServer() as redis:
        script = Script(f"unix://{redis.socket}", timeout=20.0)
        for name, shares, scenario in WORLDS:
            for size in sizes:
                runs = [_run(scenario, shares, size, seed, script) for seed in seeds]
                done, over, throttled = (sum(run[part] for run in runs) / len(runs) for part in range(3))
                worst = max(run[1] for run in runs)
                print(f"{name:22}{size:>10}{done:>8.3f}{over:>9.3f}{worst:>9.3f}{throttled:>11.3f}", flush=True)
        script.close()


def _run(
    scenario: Scenario, shares: Sequence[float], size: int, seed: int, script: Script
) -> tuple[float, float, float]:
    """Share of the calls that were answered, makespan over the bound, refusals a call."""
    jobs = jobs_of(scenario, random.Random(seed))
    servers = [
        server_of(replace(scenario, limits=Limits(tpm=tpm)), seed + 10 * number) for number, tpm in enumerate(shares)
    ]
    whole = replace(scenario, limits=Limits(tpm=sum(shares)))
    fleet = Fleet(
        Deployments(servers, random.Random(seed + 5)),
        [jobs[number::size] for number in range(size)],
        AT_A_TIME // size,
        script=script,
    )
    for process in fleet.processes:
        process.budget = math.inf  # no call fails by our own estimate; how late it is shows in the makespan
    fleet.play()
    found = fleet.summary()
    return found["done"], found["makespan"] / bound_of(whole, jobs, None), found["throttled"]
