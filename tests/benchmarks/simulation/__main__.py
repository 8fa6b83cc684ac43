"""``python -m tests.benchmarks.simulation [--others] [--wild N] [--seeds N] [--without RULE] [NAME ...]``: the table.

``/bound``: makespan over the larger of refill time plus a median service time, and service time over concurrency.
``/ideal``: over that of a client which knows the server's buckets and sends each call at the very moment at which it fits
(or, far below the limit, over the plain SDK's): the end of a run is the slowest of the last few answers, which no client
can help. ``throttled`` is per call, without the ``cold`` ones before the first answer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from otel_ratelimit._core.limiters.combined import CombinedLimiter
from otel_ratelimit._core.queueing.admission import Admission
from tests.benchmarks.simulation.scenarios import OTHERS, SCENARIOS, Scenario, median, play
from tests.benchmarks.simulation.wild import wild
from tests.benchmarks.simulation.without import NUMBERS, tuning_without
from tests.benchmarks.simulation.world import Oracle, Ours, Parsed, Run, Sdk, World

NOTHING_BETTER = 1.005
"""A makespan this close to the ideal is no miss, whatever the bound says."""

HEADER = ("scenario", "client", "done", "/bound", "/ideal", "throttled", "cold", "slow/med", "ideal's", "misses")
ROW = "{:34} {:19} {:>10} {:>7} {:>7} {:>9} {:>5} {:>8} {:>7}  {}"


def row(scenario: Scenario, label: str, make: Callable[..., World], seeds: list[int], ideal: dict[int, Run]) -> str:
    """One line of the table: medians over the seeds, and what it misses."""
    runs = {seed: play(scenario, seed, make) for seed in seeds}
    done = min(run.done for run, _, _ in runs.values())
    bound = median([run.makespan / least for run, least, _ in runs.values()])
    best = median([run.makespan / ideal[seed].makespan for seed, (run, _, _) in runs.items()])
    throttled = median([(run.throttled - run.cold) / scenario.calls for run, _, _ in runs.values()])
    cold = median([run.cold for run, _, _ in runs.values()])
    spread = median([run.spread for run, _, _ in runs.values()])
    fair = median([run.spread for run in ideal.values()])
    misses = {
        "done": done < scenario.calls,
        "makespan": bound > scenario.most[0] and best > NOTHING_BETTER,
        "tail": bound > scenario.most[0] and best <= NOTHING_BETTER,
        "throttled": throttled > scenario.most[1],
        "spread": spread > max(scenario.most[2], fair + 0.05),
    }
    return ROW.format(
        scenario.name,
        label,
        f"{done}/{scenario.calls}",
        f"{bound:.4f}",
        f"{best:.4f}",
        f"{throttled:.4f}",
        f"{cold:.0f}",
        f"{spread:.2f}",
        f"{fair:.2f}",
        " ".join(name for name, missed in misses.items() if missed) if label == "ours" else "",
    )


def _without(rule: str, *args: Any, **keywords: Any) -> World:
    return Ours(*args, admission=Admission(CombinedLimiter(tuning_without(rule))), **keywords)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.simulation")
    parser.add_argument("names", nargs="*", help="only scenarios whose name contains one of these")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--others", action="store_true", help="also scenarios like the named ones")
    parser.add_argument("--wild", type=int, default=0, metavar="N", help="also N drawn at random, one seed each")
    parser.add_argument("--baselines", action="store_true", help="also the plain SDK and the delay parsed call by call")
    parser.add_argument(
        "--without", action="append", default=[], metavar="RULE", choices=[*NUMBERS, "all"],
        help=f"also with a rule taken out, or with each in turn (all): {', '.join(NUMBERS)}",
    )  # fmt: skip
    arguments = parser.parse_args()
    began = time.process_time()
    clients: list[tuple[str, Callable[..., World]]] = [("ours", Ours)]
    rules = NUMBERS if "all" in arguments.without else arguments.without
    clients += [(f"-{rule}", partial(_without, rule)) for rule in rules]
    if arguments.baselines:
        clients += [("sdk", Sdk), ("parsed", Parsed)]
    seeds = [arguments.first * 1000 + 17 * seed for seed in range(arguments.seeds)]
    print(ROW.format(*HEADER))
    mixtures = tuple(wild(number) for number in range(arguments.wild))
    for scenario in SCENARIOS + (OTHERS if arguments.others else ()) + mixtures:
        if arguments.names and not any(name in scenario.name for name in arguments.names):
            continue
        unlimited = scenario.limits.tpm >= 1e8 and scenario.limits.rpm >= 1e6
        ideal = {seed: play(scenario, seed, Sdk if unlimited else Oracle)[0] for seed in seeds}
        for label, kind in clients:
            print(row(scenario, label, kind, seeds, ideal))
    print(f"{time.process_time() - began:.1f} s of CPU")


if __name__ == "__main__":
    main()
