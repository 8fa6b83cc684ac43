"""Worlds and their runs, side by side in processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from tests.benchmarks.no_harm.judge import SEEDS, Trial
from tests.benchmarks.no_harm.play import Run, play
from tests.benchmarks.no_harm.processes import DiedError, forked
from tests.benchmarks.no_harm.worlds import World


def try_worlds(worlds: Sequence[World], jobs: int, seeds: int = SEEDS) -> Iterator[Trial]:
    """Run each world by every client; yields the trials in the order of ``worlds``.

    Args:
        worlds: what to run.
        jobs: processes at a time.
        seeds: runs of the SDK alone.
    """
    each = [("plugin", 1), ("retrying", 1), *(("alone", luck) for luck in range(1, seeds + 1))]
    tasks = [partial(play, world, client, luck) for world in worlds for client, luck in each]
    runs: dict[int, Run] = {}
    ready = 0
    for index, result in forked(tasks, jobs):
        died = isinstance(result, DiedError)
        runs[index] = Run(each[index % len(each)][0], died=str(result)) if died else result
        while ready < len(worlds) and all(ready * len(each) + number in runs for number in range(len(each))):
            plugin, retrying, *alone = (runs.pop(ready * len(each) + number) for number in range(len(each)))
            for run in (retrying, *alone):
                if run.died is not None:
                    raise RuntimeError(f"world {worlds[ready].seed}, {run.client}: {run.died}")
            yield Trial(worlds[ready], plugin, alone, retrying)
            ready += 1
