"""What was counted: of one process on its way to the parent, and of all of them together. Pure; knows no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from otel_ratelimit._telemetry import names

NO_MODEL: Final = "(no model)"

MERGE: Final = 0.05
"""Seconds. Waits that are no further apart count as one stretch of time in which somebody waited."""

MAX_STRETCHES: Final = 5_000
"""Kept for each model and reason; beyond it the two last ones are joined, gap included."""

MOST_MODELS: Final = 1_000
MOST_WORDS: Final = 100
"""Models of a process, reasons and kinds of a model. The library itself names a fifth of that."""

MOST_TEXT: Final = 200
"""Characters of a name."""

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
        next_turn: when the next of the calls that wait goes on, as far as is known; seconds since the epoch, 0 for none.
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
    next_turn: float = 0.0


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

    def merge(self, document: object) -> None:
        """Add what another process has written.

        Raises:
            ValueError: it is something else; nothing was added.
        """
        for name, other in judged(document).items():
            model = self.of(name)
            model.calls += other["calls"]
            model.waiting += other["waiting"]
            turns = [turn for turn in (model.next_turn, other["next_turn"]) if turn]
            model.next_turn = min(turns, default=0.0)
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
    def next_turn(self) -> float:
        """Of all models."""
        return min((model.next_turn for model in self.models.values() if model.next_turn), default=0.0)

    @property
    def waiting(self) -> int:
        """Of all models."""
        return sum(max(0, model.waiting) for model in self.models.values())


def judged(document: object) -> dict[str, Any]:
    """What a process has written, made of what it should be; the file may be anybody's who runs as the same user.

    Raises:
        ValueError: a part is of another type, or no finite number.
    """
    if not isinstance(document, dict) or len(document) > MOST_MODELS:
        raise ValueError("no figures")
    found: dict[str, Any] = {}
    for name, model in document.items():
        if not isinstance(model, dict):
            raise ValueError("no figures of a model")
        counters = ("throttles", "retries", "give_ups", "waits")
        found[plain(name)] = {
            **{part: int(_number(model.get(part))) for part in ("calls", "waiting")},
            **{part: {word: int(count) for word, count in _numbers(model.get(part), 1)} for part in counters},
            "waited": dict(_numbers(model.get("waited"), 1)),
            "next_turn": _number(model.get("next_turn", 0.0)),
            "levels": dict(_numbers(model.get("levels"), 2)),
            "stretches": {
                plain(word): [list(_row(row, 2)) for row in _rows(rows)]
                for word, rows in _items(model.get("stretches"))
            },
        }
    return found


def plain(text: object) -> str:
    """As it may be written to a terminal: one line of what can be seen, of bounded length."""
    return "".join(one if one.isprintable() else "?" for one in str(text)[:MOST_TEXT])


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e15 <= value <= 1e15:  # NaN is not
        raise ValueError("no number")
    return value


def _row(values: object, length: int) -> list[float]:
    if not isinstance(values, list) or len(values) != length:
        raise ValueError("no numbers")
    return [_number(value) for value in values]


def _rows(rows: object) -> list[object]:
    if not isinstance(rows, list) or len(rows) > MAX_STRETCHES:
        raise ValueError("no stretches")
    return rows


def _items(value: object) -> list[tuple[str, object]]:
    if not isinstance(value, dict) or len(value) > MOST_WORDS:
        raise ValueError("no object")
    return list(value.items())


def _numbers(value: object, length: int) -> Iterator[tuple[str, Any]]:
    """By word: a number, or a row of them."""
    for word, one in _items(value):
        yield plain(word), _number(one) if length == 1 else _row(one, length)


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
