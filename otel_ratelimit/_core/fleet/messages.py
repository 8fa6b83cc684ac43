"""What a process tells its fleet, and what it is answered: typed, versioned, judged.

Owns the shapes of :class:`Report` and :class:`Answer`, their form on the wire, and the bounds of both; ``_stores/allocation.lua``
holds reports to the same bounds. Whoever can write to the Redis can answer whatever they like: what is not of this shape is no
answer, and the process goes on alone as if there had been none.

A report tells ages ("1.2 s ago"), so no two clocks are compared; and totals and the present state, so it can be repeated where
it is not known whether it arrived. Units are counted as in :class:`Amounts`, from 0, on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from otel_ratelimit._core.amounts import Amounts

VERSION: Final = 1
"""Of both shapes. A process of another version is told so, and goes on alone until all of the fleet has it."""

MOST_BUCKETS: Final = 64
"""Of one account. A server names some ten: tokens, requests and project tokens, by the minute and the day."""

MOST: Final = 1e15
"""Units. Beyond it sums of floats lose single tokens; no limit comes near it."""

LONGEST_WINDOW: Final = 31_622_400.0
"""Seconds: 366 days."""

LONGEST_TEXT: Final = 200
"""Characters of a name."""


class AnswerError(ValueError):
    """It is no answer of a fleet. The message names the part, and quotes nothing of it."""


# --- what a process tells -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Word:
    """What the server said last of one bucket.

    Attributes:
        index: which of a call's amounts it counts.
        limit, window, capacity: see ``buckets.estimate.Bucket``; the window in seconds.
        level: units that were left.
        age: seconds ago, when the request was sent.
        since: units that this process has used since then.
        error, judged: the worst of so many predictions since the last report.
        mark: the fleet's total at which that request had been handed its share; None where it had no lease.
        epoch: the life of the fleet's state that ``mark`` is of.
    """

    index: int
    limit: float
    window: float
    capacity: float
    level: float
    age: float
    since: float
    error: float
    judged: int
    mark: float | None = None
    epoch: str = ""

    @property
    def tellable(self) -> bool:
        """Whether the fleet takes it; a report with anything else in it is refused altogether."""
        return bool(
            1e-9 <= self.limit <= MOST
            and 1e-3 <= self.window <= LONGEST_WINDOW
            and 0.0 <= self.capacity <= MOST
            and abs(self.level) <= MOST
            and abs(self.since) <= MOST
        )

    def wire(self) -> dict[str, Any]:
        """As it is sent."""
        told: dict[str, Any] = {
            "unit": self.index, "limit": self.limit, "window": self.window, "capacity": self.capacity, "told": self.level,
            "age": self.age, "since": self.since, "error": self.error, "judged": self.judged,
        }  # fmt: skip
        if self.mark is not None:
            told["mark"] = self.mark
            told["epoch"] = self.epoch
        return told


class Finding(NamedTuple):
    """A bucket turned out to be one of several behind the address: its name, and seconds ago."""

    name: str
    age: float


class Waiter(NamedTuple):
    """A call that waits: for how many seconds, and for what."""

    waited: float
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Report:
    """What one process did since it joined, and who waits there.

    Attributes:
        epoch: the life of the fleet's state that its lease is of; empty where it has none.
        used: what it has used, ever.
        answers, silent: answers it has had, and how many of them spoke of no limit.
        known: whether the cold start is over.
        words: by name of the bucket, see :class:`Word`.
        lanes: by priority, the first calls that wait.
        waits: all calls that wait, together.
        held: what is held for throttled calls that may not come back yet.
        want: what the next slice should hold.
        typical: one call, without which a slice is of no use.
        closed: seconds for which the server wants no call, as far as that is shared.
        cause: of the last refusal, as text; empty for none since the last report.
        live: seconds after which this process is given up.
        settings: those that all of the fleet should have alike.
        leaving: whether it leaves the fleet.
        several: what it found out itself of several buckets; None for nothing.
        early: seconds since a call went early there; None where none did.
    """

    epoch: str
    used: Amounts
    answers: int
    silent: int
    known: bool
    words: Mapping[str, Word]
    lanes: tuple[tuple[Waiter, ...], ...]
    waits: Amounts
    held: Amounts
    want: Amounts
    typical: Amounts
    closed: float
    cause: str
    live: float
    settings: str
    leaving: bool
    several: Finding | None = None
    early: float | None = None

    def wire(self) -> dict[str, Any]:
        """As it is sent: within the bounds that the fleet holds it to."""
        return {
            "version": VERSION,
            "epoch": self.epoch,
            "used": _bounded(self.used),
            "answers": self.answers,
            "silent": self.silent,
            "known": self.known,
            "said": {name: word.wire() for name, word in self.words.items()},
            "lanes": [[[one.waited, *_bounded(one.amounts)] for one in lane] for lane in self.lanes],
            "waits": _bounded(self.waits),
            "hold": _bounded(self.held),
            "want": _bounded(self.want),
            "typical": _bounded(self.typical),
            "closed": self.closed,
            "cause": self.cause,
            "live": self.live,
            "settings": self.settings,
            "leaving": self.leaving,
            "several": list(self.several) if self.several is not None else None,
            "early": self.early,
        }


def _bounded(amounts: Amounts) -> list[float]:
    """As the fleet takes it: a call may be estimated at more than any limit holds."""
    return [min(max(amount, 0.0), MOST) for amount in amounts]


# --- what it is answered ------------------------------------------------------------------------------------------


class Flow(NamedTuple):
    """What the fleet believes of one bucket: which amounts it counts, units at the answer's mark, units a second that flow in,
    units that must be left, and what it holds when full.
    """

    counts: int
    level: float
    rate: float
    reserve: float
    capacity: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What the fleet hands to one process.

    Attributes:
        epoch: which life of the fleet's state this is of.
        lease: what the process may use until the next exchange, beyond what it has reported.
        ahead: whether it is a slice ahead, far from the limit.
        mark: the fleet's own totals.
        again: seconds until the next exchange.
        cause: of the fleet's last refusal, as text.
        flows: by name of the bucket.
        others: what else waits in the fleet.
        live: processes in it.
        settings: those of other processes, where they differ; None where they do not.
        several: what a process of the fleet found out last of several buckets; None for nothing of late.
        early: seconds since a call went early in the fleet; None for none of late.
    """

    epoch: str
    lease: Amounts
    ahead: bool
    mark: Amounts
    again: float
    cause: str
    flows: Mapping[str, Flow]
    others: Amounts
    live: float
    settings: str | None
    several: Finding | None = None
    early: float | None = None

    @classmethod
    def of(cls, answer: object) -> Answer:
        """An answer as it came.

        Raises:
            AnswerError: a part is missing, of another type, or beyond its bounds.
        """
        if not isinstance(answer, Mapping):
            raise AnswerError("it is no object")
        flows = answer.get("levels")
        if not isinstance(flows, Mapping) or len(flows) > MOST_BUCKETS:
            raise AnswerError("levels")
        settings = answer.get("other")
        return cls(
            epoch=_text(answer, "epoch"),
            lease=_amounts(answer, "lease", 0.0),
            ahead=answer.get("calm") is True,
            mark=_amounts(answer, "mark", -MOST),
            again=_number(answer.get("again"), "again", 0.0, MOST),
            cause=_text(answer, "cause"),
            flows={_name(name): _flow(flow) for name, flow in flows.items()},
            others=_amounts(answer, "others", 0.0),
            live=_number(answer.get("live"), "live", 0.0, MOST),
            settings=None if settings is None else plain(_name(settings)),
            several=_finding(answer.get("several")),
            early=None if answer.get("early") is None else _number(answer["early"], "early", 0.0, MOST),
        )


def plain(text: str) -> str:
    """A text from elsewhere as it may be logged: one line of printable ASCII, of bounded length."""
    return "".join(one if " " <= one <= "~" else "?" for one in text[:LONGEST_TEXT])


def _number(value: object, part: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:  # NaN is not
        raise AnswerError(part)
    return float(value)


def _amounts(answer: Mapping[str, Any], part: str, least: float) -> Amounts:
    values = answer.get(part)
    if not isinstance(values, (list, tuple)) or len(values) != len(Amounts._fields):
        raise AnswerError(part)
    return Amounts(*(_number(value, part, least, MOST) for value in values))


def _flow(values: object) -> Flow:
    if not isinstance(values, (list, tuple)) or len(values) != len(Flow._fields) or values[0] not in (0, 1, 2, 3):
        raise AnswerError("levels")
    level, rate, reserve, capacity = (_number(value, "levels", -MOST, MOST) for value in values[1:])
    if rate <= 0.0:
        raise AnswerError("levels")
    return Flow(int(values[0]), level, rate, reserve, capacity)


def _finding(values: object) -> Finding | None:
    if values is None:  # also of a script that is older
        return None
    if not isinstance(values, (list, tuple)) or len(values) != len(Finding._fields):
        raise AnswerError("several")
    return Finding(_name(values[0]), _number(values[1], "several", 0.0, MOST))


def _text(answer: Mapping[str, Any], part: str) -> str:
    return _name(answer.get(part))


def _name(value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise AnswerError("a name")
    return value
