"""Worlds that one bucket cannot explain, through the real SDK on a virtual clock: ``python -m tests.benchmarks.untidy``.

Several deployments behind one address, fixed and sliding windows, a limit on concurrency, long answers. The servers are those of
``tests.benchmarks.no_harm``. ``/bound``: makespan over the time that no client can do without, by the sum of the deployments'
limits; ``throttled``: refusals per answered call; ``alone``: the SDK that retries for ever, with ``--alone``.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from dataclasses import dataclass, fields, replace
from functools import partial

from tests.benchmarks.no_harm.play import Run, play
from tests.benchmarks.no_harm.processes import DiedError, forked
from tests.benchmarks.no_harm.worlds import World, calls_of, draw
from tests.benchmarks.simulation.without import NUMBERS, leave_out


@dataclass(frozen=True)
class Untidy(World):
    """A world whose limit is written out.

    Attributes:
        limit: tokens and requests that a deployment of share 1 allows in its window.
    """

    limit: tuple[int, int] = (0, 0)

    @property
    def whole(self) -> tuple[int, int]:
        return self.limit


_DRAWN = draw(1)
TIDY = Untidy(
    **{field.name: getattr(_DRAWN, field.name) for field in fields(World)},
    limit=(200_000, 10_000),
)
TIDY = replace(
    TIDY,
    threads=False,
    callers=64,
    calls=600,
    max_retries=2,
    timeout=None,
    tokens=1500,
    tail="light",
    pause=0.0,
    models=1,
    kind="bucket",
    window=60.0,
    by_second=False,
    unit="tokens",
    deployments=(1.0,),
    routing="random",
    failover=False,
    concurrency=None,
    charged=False,
    charged_at_end=False,
    status=429,
    headers="full",
    silent_refusals=False,
    whole_seconds=False,
    retry_after="none",
    message="numbers",
    usage=True,
    latency=1.5,
    spread=0.4,
    errors=0.0,
    too_large=0,
    day=None,
    day_reset=None,
    others=0.0,
    change=None,
    cold=0,
)
"""One bucket of 200,000 tokens a minute: 600 calls of 1,500, 64 at a time."""

THIRD = (1 / 3, 1 / 3, 1 / 3)
REQUESTS = replace(TIDY, unit="requests", message="nothing")
WORLDS = {
    "three deployments": replace(TIDY, deployments=THIRD),
    "three, message only": replace(TIDY, deployments=THIRD, headers="none"),
    "20k + 60k + 120k": replace(TIDY, deployments=(0.1, 0.3, 0.6), headers="none"),
    "failover gateway": replace(TIDY, deployments=THIRD, failover=True),
    "four of 2 in 5 s": replace(
        REQUESTS,
        deployments=(1.0,) * 4,
        window=5.0,
        limit=(0, 2),
        callers=4,
        calls=90,
        latency=8.0,
        retry_after="rounded up",
    ),
    "fixed minutes": replace(TIDY, kind="fixed", whole_seconds=True),
    "fixed 5 s": replace(
        REQUESTS, kind="fixed", window=5.0, limit=(0, 20), calls=100, callers=32, whole_seconds=True, latency=0.5
    ),
    "Gemini, free tier": replace(
        REQUESTS, kind="fixed", limit=(0, 15), calls=60, callers=16, headers="none", message="delay", retry_after="none"
    ),
    "sliding 10 s": replace(
        REQUESTS,
        kind="sliding",
        window=10.0,
        limit=(0, 20),
        calls=120,
        callers=32,
        headers="remaining",
        retry_after="rounded up",
    ),
    "at most 10 at a time": replace(REQUESTS, limit=(0, 100_000), headers="none", concurrency=10, calls=400),
    "40 s answers": replace(TIDY, limit=(400_000, 10_000), callers=256, latency=40.0, spread=0.1),
    "only the first three": replace(
        REQUESTS, limit=(0, 100_000), headers="none", message="delay", callers=4, calls=40, latency=0.05, cold=3
    ),
    "freed after a minute": replace(TIDY, limit=(100_000, 10_000), change=(60.0, 2.0)),
}


def bound_of(world: World) -> float:
    """Seconds that no client can do without: the limits of all deployments together, or the service time over concurrency."""
    calls = calls_of(world)
    tokens, requests = (amount * sum(world.deployments) for amount in world.whole)
    needed = sum(call.charge for call in calls) if world.unit == "tokens" else len(calls)
    holds = tokens if world.unit == "tokens" else requests
    if world.kind == "bucket":
        at = _refilled(needed - holds, holds / world.window, world.change)
    else:
        at = _windows(world, [call.charge if world.unit == "tokens" else 1 for call in calls], holds)
    width = min(world.callers, world.concurrency or world.callers)
    mean = world.latency * math.exp(world.spread**2 / 2)
    return max(at + world.latency, mean * len(calls) / width)


def _refilled(missing: float, rate: float, change: tuple[float, float] | None) -> float:
    """When so much has been refilled beyond what a full bucket held; a larger limit holds more as well."""
    if missing <= 0:
        return 0.0
    if change is None or missing <= rate * change[0]:
        return missing / rate
    at, factor = change
    return at + (missing - rate * at) / (rate * factor)


def _windows(world: World, costs: list[int], holds: float) -> float:
    """When the last call fits, if windows are filled in order."""
    opened, used = 0, 0.0
    for cost in costs:
        if used + cost > holds:
            opened, used = opened + 1, 0.0
        used += cost
    if not opened:
        return 0.0
    if world.kind == "sliding":
        return opened * world.window
    phase = random.Random(f"gateway {world.seed}").uniform(0.0, world.window)  # as `Gateway` draws it
    return phase + (opened - 1) * world.window


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.untidy")
    parser.add_argument("names", nargs="*", help="only worlds whose name contains one of these")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--alone", action="store_true", help="also the SDK that retries for ever")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--without", metavar="RULE", choices=NUMBERS, help="with this rule taken out")
    options = parser.parse_args()
    if options.without:
        leave_out(options.without)
    names = [name for name in WORLDS if not options.names or any(part in name for part in options.names)]
    clients = ("plugin", "retrying") if options.alone else ("plugin",)
    seeds = range(options.first, options.first + options.seeds)
    worlds = [(client, replace(WORLDS[name], seed=seed)) for name in names for client in clients for seed in seeds]
    runs: dict[int, Run] = {}
    print(f"{'world':22} {'client':9} {'done':>9} {'/bound':>8} {'worst':>8} {'throttled':>10}")
    for index, result in forked([partial(play, world, client) for client, world in worlds], options.jobs):
        if isinstance(result, DiedError):
            raise RuntimeError(str(result))
        runs[index] = result
    for number in range(len(names) * len(clients)):
        own = range(number * len(seeds), (number + 1) * len(seeds))
        client, world = worlds[own[0]]
        ratios = [runs[index].makespan / bound_of(worlds[index][1]) for index in own]
        throttled = statistics.mean(runs[index].refused / max(runs[index].answered, 1) for index in own)
        done = min(runs[index].answered for index in own)
        name = names[number // len(clients)]
        figures = f"{statistics.mean(ratios):8.3f} {max(ratios):8.3f} {throttled:10.3f}"
        print(f"{name:22} {client:9} {f'{done}/{world.calls}':>9} {figures}")


if __name__ == "__main__":
    main()
