"""``python -m tests.benchmarks.simulation [--others] [--seeds N] [--baselines] [NAME ...]``: the table of issue 3."""

from __future__ import annotations

import argparse
import time

from tests.benchmarks.simulation.scenarios import OTHERS, SCENARIOS, median, play
from tests.benchmarks.simulation.world import Oracle, Ours, Parsed, Sdk, World


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.simulation")
    parser.add_argument("names", nargs="*", help="only scenarios whose name contains one of these")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--others", action="store_true", help="also scenarios that are not in the issue")
    parser.add_argument("--baselines", action="store_true")
    arguments = parser.parse_args()
    began = time.process_time()
    clients: list[tuple[str, type[World]]] = [("ours", Ours)]
    if arguments.baselines:
        clients += [("sdk", Sdk), ("parsed", Parsed)]
    print(f"{'scenario':36} {'client':7} {'done':>10} {'/bound':>7} {'/oracle':>7} {'429/call':>8} {'cold':>5} {'slow/med':>8} {'oracle':>7}  misses")
    for scenario in SCENARIOS + (OTHERS if arguments.others else ()):
        if arguments.names and not any(name in scenario.name for name in arguments.names):
            continue
        seeds = [arguments.first * 1000 + 17 * seed for seed in range(arguments.seeds)]
        ideal = [play(scenario, seed, Oracle)[0] for seed in seeds] if scenario.overload_above > 10**6 else []
        best = {seed: run.makespan for seed, run in zip(seeds, ideal, strict=False)}
        fair = median([run.spread for run in ideal]) if ideal else float("nan")
        for label, kind in clients:
            rows = [(seed, *play(scenario, seed, kind)) for seed in seeds]
            done = min(run.done for _, run, _, _ in rows)
            ratio = median([run.makespan / bound for _, run, bound, _ in rows])
            oracle = median([run.makespan / best[seed] for seed, run, _, _ in rows]) if best else float("nan")
            throttled = median([(run.throttled - run.cold) / scenario.calls for _, run, _, _ in rows])
            cold = median([run.cold for _, run, _, _ in rows])
            spread = median([run.spread for _, run, _, _ in rows])
            misses = []
            if done < scenario.calls:
                misses.append("done")
            if ratio > scenario.most[0] and (oracle > 1.001 or oracle != oracle):
                misses.append("makespan")
            if throttled > scenario.most[1]:
                misses.append("throttled")
            if spread > max(scenario.most[2], fair + 0.05):
                misses.append("spread")
            print(
                f"{scenario.name:36} {label:7} {done:5}/{scenario.calls:<4} {ratio:7.4f} {oracle:7.4f} {throttled:8.4f} {cold:5.0f}"
                f" {spread:8.2f} {fair:7.2f}  {' '.join(misses) if label == 'ours' else ''}"
            )
    print(f"{time.process_time() - began:.1f} s of CPU")


if __name__ == "__main__":
    main()
