"""How one attempt ended, as far as limits are concerned.

Owns the shape of what drivers tell: read from a response once, then only looked at. Knows neither how it was read nor what is
learned from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from otel_ratelimit._core.throttle import Throttle


class Reading(Protocol):
    """What a response's headers say of one limit (``parsing.limits.LimitReading``)."""

    @property
    def kind(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def window_name(self) -> str | None: ...
    @property
    def limit(self) -> float | None: ...
    @property
    def remaining(self) -> float | None: ...
    @property
    def reset(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that was answered, or failed. Times are seconds on the driver's monotonic clock.

    Attributes:
        at: when the answer was read.
        succeeded: whether the server did the work.
        sent_at: when the request left; None: when its permit was taken.
        readings: what the response's headers said of limits.
        throttle: the refusal, if it was one.
        slow_down: the refusal's code was ``slow_down``: traffic grew too fast.
        rejected: whether the server did no work because something was wrong with the request (a 4xx that is no throttle).
        used_tokens: total tokens that a success reported, None if it did not.
    """

    at: float
    succeeded: bool
    sent_at: float | None = None
    readings: Iterable[Reading] = ()
    throttle: Throttle | None = None
    slow_down: bool = False
    rejected: bool = False
    used_tokens: float | None = None

    def departed(self, taken_at: float) -> float:
        """When the request left, whose permit was taken at ``taken_at``; never after the answer, also if the clock was set
        back.
        """
        return min(taken_at if self.sent_at is None else self.sent_at, self.at)
