"""``python -m tests.benchmarks.no_harm --worlds 200 --seed 1``: see the package's own words."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests.benchmarks.no_harm import report
from tests.benchmarks.no_harm.judge import SEEDS, Trial
from tests.benchmarks.no_harm.trials import try_worlds
from tests.benchmarks.no_harm.worlds import draw
from tests.benchmarks.simulation.without import NUMBERS, leave_out


def main() -> int:
    """Run and print; exit code 1 where a program was harmed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.no_harm", description="No program is worse off.")
    parser.add_argument("--worlds", type=int, default=40, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="the first one's; the others follow")
    parser.add_argument(
        "--only", type=int, nargs="+", metavar="SEED", help="these worlds alone; one alone: with details"
    )
    parser.add_argument("--trace", action="store_true", help="with --only: every request that the plugin sent")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--sdk-seeds", type=int, default=SEEDS, help="runs of the SDK alone, of which the mean counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--summary", action="store_true", help="at the end, tables in Markdown")
    parser.add_argument("--before", type=Path, metavar="FILE", help="harms of other code, beside ours in the tables")
    parser.add_argument("--harms", type=Path, metavar="FILE", help="write what --before reads")
    parser.add_argument("--without", metavar="RULE", choices=NUMBERS, help="with this rule taken out")
    options = parser.parse_args()
    if options.without:
        leave_out(options.without)
    began = time.monotonic()
    seeds = options.only or range(options.seed, options.seed + options.worlds)
    trials: list[Trial] = []
    for trial in try_worlds([draw(seed) for seed in seeds], options.jobs, options.sdk_seeds):
        trials.append(trial)
        if trial.harms() or trial.plugin.faults or options.only:
            print(report.described(trial), flush=True)
        if options.only and (len(seeds) == 1 or options.trace):
            print(report.detailed(trial, trace=options.trace))
        if sys.stderr.isatty():
            print(f"{len(trials)}/{len(seeds)}", end="\r", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps([report.figures(trial) for trial in trials], indent=1) + "\n")
    harms = report.harms_of(trials)
    if options.harms:
        options.harms.write_text(report.write_harms(harms))
    if options.summary:
        before = {"before": report.read_harms(options.before.read_text())} if options.before else {}
        print(report.summary({**before, "harmed": harms}))
    print(report.total(trials))
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    return 1 if any(trial.harms() for trial in trials) else 0


if __name__ == "__main__":
    sys.exit(main())
