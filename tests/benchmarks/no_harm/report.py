"""What is printed: a harmed world, one world in detail, and the tables for the documentation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from tests.benchmarks.no_harm.judge import KINDS, Trial
from tests.benchmarks.no_harm.play import Run
from tests.benchmarks.no_harm.worlds import World, draw

SHOWN_CALLS = 40
"""Calls in the details."""


def described(trial: Trial) -> str:
    """A world, what it drew, its results, and the harm."""
    harms = trial.harms()
    lines = [
        f"world {trial.world.seed}: {'; '.join(f'{kind} ({figures})' for kind, figures in harms.items()) or 'no harm'}"
    ]
    lines.append(f"  {trial.world}")
    lines += [_line(run, trial) for run in (*trial.alone, trial.plugin, trial.retrying)]
    lines += [f"  contained fault: {fault}" for fault in trial.plugin.faults]
    return "\n".join(lines)


def _line(run: Run, trial: Trial) -> str:
    if run.died is not None:
        return f"  {run.client:9} {run.died}"
    return (
        f"  {run.client:9} answered {run.answered:3}/{trial.world.calls}, the last at {run.makespan:7.1f} s;"
        f" {len(run.seen)} requests, {run.refused} refused; {_counted(run.errors)}"
    ).rstrip("; ")


def _counted(counter: Counter[str | None] | Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())


def detailed(trial: Trial, *, trace: bool) -> str:
    """Call by call, the plugin beside the SDK alone; with ``trace``, every request that the plugin sent."""
    theirs = {record.number: record for record in trial.alone[0].records}
    lines = ["  call   began   first sent      ended  requests  (alone: began, ended, requests)  end"]
    unanswered = [record for record in trial.plugin.records if record.error is not None]
    shown = {record.number for record in (*trial.plugin.records[:SHOWN_CALLS], *unanswered[:SHOWN_CALLS])}
    for record in trial.plugin.records:
        if record.number not in shown:
            continue
        other = theirs.get(record.number)
        sent = "unsent" if record.sent is None else f"{record.sent:.3f}"
        beside = (
            "" if other is None else f"({other.began:.1f}, {other.ended:.1f}, {other.requests}, {other.error or 'ok'})"
        )
        end = "answered" if record.error is None else f"{record.error}: {record.says}"
        lines.append(
            f"  {record.number:4} {record.began:8.3f} {sent:>10} {record.ended:11.3f} {record.requests:5} {beside}  {end}"
        )
    for run in (trial.plugin, trial.alone[0]):
        said = Counter(seen.why or str(seen.status) for seen in run.seen)
        lines.append(f"  the server said ({run.client}): {_counted(said)}")
    if trace:
        lines.append("  at, call, deployment, status, why, delay (of an answer: its latency)")
        lines += [
            f"  {seen.at:10.3f} {seen.call:4} {seen.deployment:2} {seen.status} {seen.why:11} {seen.delay:.3f}"
            for seen in trial.plugin.seen
        ]
    return "\n".join(lines)


def figures(trial: Trial) -> dict[str, Any]:
    """One world for ``--json``."""
    return {
        "seed": trial.world.seed,
        "world": asdict(trial.world),
        "harms": trial.harms(),
        "faults": trial.plugin.faults,
        "runs": [
            {
                "client": run.client,
                "answered": run.answered,
                "makespan": round(run.makespan, 3),
                "requests": len(run.seen),
                "refused": run.refused,
                "errors": dict(run.errors),
                "died": run.died,
            }
            for run in (*trial.alone, trial.plugin, trial.retrying)
        ],
    }


def total(trials: list[Trial]) -> str:
    """One line."""
    counts = Counter(kind for trial in trials for kind in trial.harms())
    harmed = sum(bool(trial.harms()) for trial in trials)
    parts = ", ".join(f"{kind} {counts[kind]}" for kind in KINDS if counts[kind])
    return f"{harmed} of {len(trials)} worlds harmed" + (f": {parts}" if parts else "")


FEATURES: tuple[tuple[str, Callable[[World], object]], ...] = (
    ("limit", lambda world: {"bucket": "bucket", "fixed": "fixed window", "sliding": "sliding window"}[world.kind]),
    ("window", lambda world: f"{world.window:g} s" + (", by the second" if world.by_second else "")),
    ("unit", lambda world: world.unit),
    ("deployments", lambda world: len(world.deployments) if len(world.deployments) == 1 else "2 to 4"),
    ("concurrency", lambda world: world.concurrency or "no limit"),
    ("status", lambda world: world.status),
    ("headers", lambda world: world.headers),
    ("`retry-after`", lambda world: world.retry_after),
    ("message", lambda world: world.message),
    ("refused requests", lambda world: "charged" if world.charged else "free"),
    ("500s", lambda world: f"{world.errors:.0%}"),
    ("day's limit", lambda world: "none" if world.day is None else "hit, reset early" if world.day_reset else "hit"),
    ("too large", lambda world: "some" if world.too_large else "none"),
    (
        "latency",
        lambda world: "below 2 s" if world.latency < 2 else "2 to 10 s" if world.latency < 10 else "10 to 40 s",
    ),
    ("callers", lambda world: world.callers),
    ("costs", lambda world: f"{world.tail} tail"),
    ("`max_retries`", lambda world: world.max_retries),
    ("`timeout`", lambda world: "default" if world.timeout is None else f"{world.timeout:g} s"),
    ("program", lambda world: "threads" if world.threads else "asyncio"),
)


Harms = Mapping[int, Collection[str]]
"""The kinds of harm in each world, by its seed."""


def harms_of(trials: list[Trial]) -> Harms:
    """What ``summary`` counts."""
    return {trial.world.seed: list(trial.harms()) for trial in trials}


def summary(columns: Mapping[str, Harms]) -> str:
    """Tables in Markdown: by kind of harm, and by what the world is like; a column for each code that was run."""
    seeds = sorted(set.intersection(*(set(harms) for harms in columns.values())))
    head = " | ".join(columns)
    line = "|---" * (len(columns) + 1) + "|"

    def counts(counted: Callable[[Collection[str]], bool], among: list[int]) -> str:
        return " | ".join(str(sum(counted(harms[seed]) for seed in among)) for harms in columns.values())

    lines = [f"| harm | {head} |", line]
    lines += [f"| {kind} | {counts(partial(_holds, kind), seeds)} |" for kind in KINDS]
    lines.append(f"| any | {counts(bool, seeds)} |")
    lines += ["", f"| what the world is like | worlds | {head} |", f"|---{line}"]
    worlds = [draw(seed) for seed in seeds]
    for name, feature in FEATURES:
        values: dict[str, list[int]] = {}
        for world in worlds:
            values.setdefault(str(feature(world)), []).append(world.seed)
        for value in sorted(values, key=lambda value: (len(value), value)):
            lines.append(f"| {name}: {value} | {len(values[value])} | {counts(bool, values[value])} |")
    return "\n".join([*lines, ""])


def _holds(kind: str, kinds: Collection[str]) -> bool:
    return kind in kinds


def read_harms(text: str) -> Harms:
    """The kinds of harm as ``write_harms`` wrote them."""
    return {int(seed): kinds for seed, kinds in json.loads(text).items()}


def write_harms(harms: Harms) -> str:
    """One line for each world."""
    return "{\n" + ",\n".join(f'"{seed}": {json.dumps(list(kinds))}' for seed, kinds in harms.items()) + "\n}\n"
