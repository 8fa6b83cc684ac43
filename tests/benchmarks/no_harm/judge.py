"""When a program is worse off with the plugin than without it.

The rules are those of the contract (*Do no harm*), to the letter; what is fair where luck comes in:

- The server's luck is the same for all: an answer's latency and whether it is a 500 depend on the call's number and on how
  often it has been let through, not on when it comes.
- The SDK's own jitter is luck: it is run with ``SEEDS`` seeds, and its figures are the means of these runs, with no allowance.
  The plugin is run once, with one seed, and has no second chance; so is the SDK that retries for ever.
- "All answered" means every call but those that can never fit, which no client can get answered.
- "Later" compares the moments of the last answer.
- With ``max_retries=0`` "a median call later" is taken twice, so that calls which end otherwise (an answer instead of a
  refusal) do not hide it or feign it: the median time that a call was held on the client's side, and the median difference of
  the calls that both have answered, call by call.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.no_harm.play import Run
from tests.benchmarks.no_harm.worlds import World

SEEDS = 3
"""Runs of the SDK alone."""

FEWER = "fewer answered"
LATER = "later than alone"
HELD = "held with max_retries=0"
FOREIGN = "foreign exception"
SLOWER = "later than retrying"
STUCK = "did not end"
KINDS = (FEWER, FOREIGN, LATER, HELD, SLOWER, STUCK)

MOST_LATER = (1.1, 2.0)
"""Factor, and seconds, by which the last answer may be later than the SDK's alone."""

MOST_SLOWER = (1.15, 2.0)
"""The same, than the SDK's that retries for ever."""

MOST_HELD = 0.5
"""Seconds by which the median call with ``max_retries=0`` may be later."""


@dataclass
class Trial:
    """A world and its runs."""

    world: World
    plugin: Run
    alone: Sequence[Run]
    retrying: Run

    @property
    def answerable(self) -> int:
        return self.world.calls - self.world.too_large

    @property
    def alone_answered(self) -> float:
        return statistics.mean(run.answered for run in self.alone)

    @property
    def alone_makespan(self) -> float:
        return statistics.mean(run.makespan for run in self.alone)

    def harms(self) -> dict[str, str]:
        """The kinds of harm, and the figures of each."""
        plugin = self.plugin
        if plugin.died is not None:
            return {STUCK: plugin.died}
        harms = {}
        if plugin.answered < self.alone_answered:
            harms[FEWER] = f"{plugin.answered} instead of {self.alone_answered:.1f}"
        if plugin.foreign:
            harms[FOREIGN] = ", ".join(f"{count} {name}" for name, count in sorted(plugin.foreign.items()))
        if plugin.answered >= self.answerable:
            if self.alone_answered >= self.answerable and _late(plugin.makespan, self.alone_makespan, MOST_LATER):
                harms[LATER] = f"{plugin.makespan:.1f} s instead of {self.alone_makespan:.1f} s"
            retrying = self.retrying
            if retrying.answered >= self.answerable and _late(plugin.makespan, retrying.makespan, MOST_SLOWER):
                harms[SLOWER] = f"{plugin.makespan:.1f} s instead of {retrying.makespan:.1f} s"
        if self.world.max_retries == 0:
            held = max(_held(plugin, run) for run in self.alone)
            if held > MOST_HELD:
                harms[HELD] = f"a median call by {held:.1f} s"
        return harms


def _late(seconds: float, other: float, most: tuple[float, float]) -> bool:
    return seconds > most[0] * other + most[1]


def _held(plugin: Run, alone: Run) -> float:
    """Seconds by which a median call is later."""
    held = statistics.median(record.held for record in plugin.records)
    before = statistics.median(record.held for record in alone.records)
    ours = {record.number: record.duration for record in plugin.records if record.error is None}
    theirs = {record.number: record.duration for record in alone.records if record.error is None}
    pairs = [ours[number] - theirs[number] for number in ours.keys() & theirs.keys()]
    return max(held - before, statistics.median(pairs) if pairs else 0.0)
