"""Which of the limits in a refusal's headers was reached: what *binds* now.

Owns the choice among several readings (``limits``): the empty one, the one that the text names, the one that is reset
last. A reset of 0 says nothing here: a bucket that is full now cannot have refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from otel_ratelimit._core.parsing.limits import LimitReading
from otel_ratelimit._core.throttle import LimitKind, LimitWindow


def exhausted(limits: Iterable[LimitReading]) -> list[LimitReading]:
    """The limits that are said to have nothing left."""
    return [limit for limit in limits if limit.remaining == 0]


def binding_limit(
    limits: list[LimitReading], kind: LimitKind | None, window: LimitWindow | None
) -> LimitReading | None:
    """The limit that refused us: the empty one, or the one that the text names (``kind``, ``window``).

    Among several the one that is reset last; the only one with a reset, where nothing else tells. Else None: then
    ``last_reset`` is the safe guess.
    """
    empty = exhausted(limits)
    named = [limit for limit in limits if kind and limit.kind == kind]
    named = [limit for limit in named if limit.window_name == window] or named
    pool = [limit for limit in named if limit in empty] or empty or named
    if not pool:
        told = [limit for limit in limits if limit.reset]
        pool = told if len(told) == 1 else []
    return max(pool, key=_reset_of, default=None)


def last_reset(limits: Iterable[LimitReading]) -> LimitReading | None:
    """The limit that is reset last, or None where no reset is told."""
    return max((limit for limit in limits if limit.reset), key=_reset_of, default=None)


def _reset_of(limit: LimitReading) -> float:
    return limit.reset or 0.0
