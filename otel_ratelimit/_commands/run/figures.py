"""What was counted: of one process on its way to the parent, and of all of them together. Pure; knows no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from otel_ratelimit._telemetry import names

NO_MODEL: Final = "(no model)"

MERGE: Final = 0.05
"""Seconds. Waits that are no further apart count as one stretch of time in which somebody waited."""

MAX_STRETCHES: Final = 5_000
"""Kept for each model and reason; beyond it the two last ones are joined, gap included."""

Stretch = list[float]
"""From and to, in seconds since the epoch."""


@dataclass
class ModelFigures:
    """Of one model.

    Attributes:
        calls: calls that have ended, throttled or not.
        throttles: throttled responses, by kind of limit.
        retries: requests sent again, by reason.
        give_ups: calls that ended in an error, by reason.
        waits: how many waits, by reason.
        waited: seconds of waiting over all calls, by reason.
        waiting: calls that wait now.
        stretches: when at least one call waited, by reason; sorted, apart from each other.
        levels: limit and what is left of it, by kind.
    """

    calls: int = 0
    throttles: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    give_ups: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    waited: dict[str, float] = field(default_factory=dict)
    waiting: int = 0
    stretches: dict[str, list[Stretch]] = field(default_factory=dict)
    levels: dict[str, list[float]] = field(default_factory=dict)


class Figures:
    """By model."""

    def __init__(self) -> None:
        self.models: dict[str, ModelFigures] = {}

    def of(self, model: object) -> ModelFigures:
        """The figures of a model, new ones where there are none."""
        return self.models.setdefault(str(model) if model else NO_MODEL, ModelFigures())

    def add(self, name: str, amount: float, attributes: Mapping[str, Any], now: float) -> None:
        """A point of the instrument ``name``, as ``Instruments`` calls it, at ``now`` in seconds since the epoch."""
        model = self.of(attributes.get(names.MODEL))
        match name:
            case "call_duration":
                model.calls += 1
            case "throttles":
                model.throttles[str(attributes.get(names.LIMIT_KIND))] += int(amount)
            case "retries":
                model.retries[str(attributes.get(names.RETRY_REASON))] += int(amount)
            case "give_ups":
                model.give_ups[str(attributes.get(names.GIVE_UP_REASON))] += int(amount)
            case "waiting":
                model.waiting += int(amount)
            case "wait_duration":
                reason = str(attributes.get(names.WAIT_REASON))
                model.waits[reason] += 1
                model.waited[reason] = model.waited.get(reason, 0.0) + amount
                insert(model.stretches.setdefault(reason, []), now - amount, now)

    def level(self, model: object, kind: str, limit: float, remaining: float) -> bool:
        """What is left of a limit; returns whether that is news."""
        levels = self.of(model).levels
        found = [float(round(limit)), float(round(remaining))]
        news = levels.get(kind) != found
        levels[kind] = found
        return news

    def as_json(self) -> dict[str, Any]:
        """For ``merge``."""
        return {model: vars(figures) for model, figures in self.models.items()}

    def merge(self, document: Mapping[str, Any]) -> None:
        """Add what another process has written."""
        for name, other in document.items():
            model = self.of(name)
            model.calls += other["calls"]
            model.waiting += other["waiting"]
            for counter in ("throttles", "retries", "give_ups", "waits"):
                getattr(model, counter).update(other[counter])
            for reason, seconds in other["waited"].items():
                model.waited[reason] = model.waited.get(reason, 0.0) + seconds
            for reason, stretches in other["stretches"].items():
                model.stretches[reason] = union([*model.stretches.get(reason, ()), *stretches])
            for kind, (limit, remaining) in other["levels"].items():
                known = model.levels.get(kind)
                # Each process knows the limit by itself: the one that sees least is the one that is throttled next.
                if known is None or remaining < known[1]:
                    model.levels[kind] = [limit, remaining]

    def total(self, counter: str) -> Counter[str]:
        """A counter over all models, by its own reasons or kinds; those that are 0 left out."""
        sums: Counter[str] = Counter()
        for model in self.models.values():
            sums.update(getattr(model, counter))
        return +sums

    @property
    def calls(self) -> int:
        """Of all models."""
        return sum(model.calls for model in self.models.values())

    @property
    def waiting(self) -> int:
        """Of all models."""
        return sum(max(0, model.waiting) for model in self.models.values())


def insert(stretches: list[Stretch], start: float, end: float) -> None:
    """Add one stretch that ends after all others began; overlapping ones become one."""
    while stretches and stretches[-1][1] >= start - MERGE:
        start = min(start, stretches[-1][0])
        end = max(end, stretches.pop()[1])
    stretches.append([start, end])
    if len(stretches) > MAX_STRETCHES:
        stretches[-2:] = [[stretches[-2][0], stretches[-1][1]]]


def union(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Sorted and apart from each other."""
    result: list[Stretch] = []
    for start, end in sorted(stretches):
        insert(result, start, end)
    return result


def length(stretches: Iterable[Stretch]) -> float:
    """Seconds."""
    return sum(end - start for start, end in stretches)
