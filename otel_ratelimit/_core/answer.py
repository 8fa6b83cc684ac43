"""What a fleet may be told, and what it may answer: the judge between Redis and the limits of a process.

Owns the bounds of a report, which ``ledger.lua`` holds as well, and the shape of an answer (see ``lease.Lease`` for what its
parts mean). Whoever can write to the Redis can answer whatever they like; what is not of this shape is no answer, and the process
goes on alone as if there had been none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MOST_LEDGERS: Final = 64
"""Of one account. A server names some ten: tokens, requests and project tokens, by the minute and the day."""

MOST: Final = 1e15
"""Units. Beyond it sums of floats lose single tokens; no limit comes near it."""

LONGEST_WINDOW: Final = 31_622_400.0
"""Seconds: 366 days."""

LONGEST_TEXT: Final = 200
"""Characters of a name."""


class AnswerError(ValueError):
    """It is no answer of a fleet. The message names the part, and quotes nothing of it."""


def judged(answer: object) -> dict[str, Any]:
    """The answer, made of parts that are what they should be; all else is left out.

    Raises:
        AnswerError: a part is missing, of another type, or beyond its bounds.
    """
    if not isinstance(answer, Mapping):
        raise AnswerError("it is no object")
    levels = answer.get("levels")
    if not isinstance(levels, Mapping) or len(levels) > MOST_LEDGERS:
        raise AnswerError("levels")
    other = answer.get("other")
    return {
        "epoch": _text(answer, "epoch"),
        "lease": _amounts(answer, "lease", 0.0),
        "calm": answer.get("calm") is True,
        "mark": _amounts(answer, "mark", -MOST),
        "again": _number(answer.get("again"), "again", 0.0, MOST),
        "cause": _text(answer, "cause"),
        "levels": {_name(name): _level(level) for name, level in levels.items()},
        "others": _amounts(answer, "others", 0.0),
        "live": _number(answer.get("live"), "live", 0.0, MOST),
        "other": None if other is None else plain(_name(other)),
    }


def amount(value: float) -> float:
    """A number of units as the fleet takes it: a call may be estimated at more than any limit holds."""
    return min(max(value, 0.0), MOST)


def tellable(said: Mapping[str, Any]) -> bool:
    """Whether the fleet takes what a server said of a limit; a report with anything else in it is refused altogether."""
    return bool(
        1e-9 <= said["limit"] <= MOST
        and 1e-3 <= said["window"] <= LONGEST_WINDOW
        and 0.0 <= said["capacity"] <= MOST
        and abs(said["told"]) <= MOST
        and abs(said["since"]) <= MOST
    )


def plain(text: str) -> str:
    """A text from elsewhere as it may be logged: one line of printable ASCII, of bounded length."""
    return "".join(one if " " <= one <= "~" else "?" for one in text[:LONGEST_TEXT])


def _number(value: object, part: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:  # NaN is not
        raise AnswerError(part)
    return float(value)


def _amounts(answer: Mapping[str, Any], part: str, least: float) -> list[float]:
    """By unit."""
    values = answer.get(part)
    if not isinstance(values, (list, tuple)) or len(values) != 4:
        raise AnswerError(part)
    return [_number(value, part, least, MOST) for value in values]


def _level(values: object) -> tuple[int, float, float, float, float]:
    if not isinstance(values, (list, tuple)) or len(values) != 5 or values[0] not in (0, 1, 2, 3):
        raise AnswerError("levels")
    level, rate, floor, capacity = (_number(value, "levels", -MOST, MOST) for value in values[1:])
    if rate <= 0.0:
        raise AnswerError("levels")
    return int(values[0]), level, rate, floor, capacity


def _text(answer: Mapping[str, Any], part: str) -> str:
    return _name(answer.get(part))


def _name(value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise AnswerError("a name")
    return value
