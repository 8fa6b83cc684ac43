"""A ceiling on how fast traffic may grow, after the server said ``slow_down``.

The level that was reached is kept: the server minds the growth, not the level. From there the ceiling rises by half in fifteen
minutes (OpenAI's words: above a million tokens a minute, grow by at most 50 % in 15 minutes), for as long as it matters: at four
times the start it is lifted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.limiters.limiter import Cause, Diagnosis, Reservation
from otel_ratelimit._core.limiters.rate import LEAST_RATE
from otel_ratelimit._core.limiters.traffic import Traffic


@dataclass(frozen=True, slots=True)
class GrowthTuning:
    """The numbers of the ceiling.

    Attributes:
        growth, time: factor by which the ceiling rises in so many seconds: OpenAI's words, see above.
        cut: share of the ceiling that stays when the server says ``slow_down`` again: too little growth costs minutes only.
        lifted: times its start at which the ceiling is lifted.
        burst_time: seconds of the ceiling that may be saved up.
    """

    growth: float = 1.5
    time: float = 900.0
    cut: float = 0.9
    lifted: float = 4.0
    burst_time: float = 1.0


TUNED: Final = GrowthTuning()


class Growth:
    """Usual calls a second that may go; off until the server says ``slow_down``."""

    __slots__ = ("_at", "_cut_by", "_level", "_start", "_start_at", "_traffic", "_tuning", "on")

    def __init__(self, traffic: Traffic, tuning: GrowthTuning = TUNED) -> None:
        self.on = False
        self._traffic = traffic
        self._tuning = tuning
        self._start = 0.0
        self._start_at = 0.0
        self._level = 0.0
        self._at = 0.0
        self._cut_by = -1

    def ceiling(self, now: float) -> float:
        """Calls a second that are allowed at ``now``."""
        tuning = self._tuning
        age = min(max(now - self._start_at, 0.0), 10.0 * tuning.time)
        return max(self._start * math.pow(tuning.growth, age / tuning.time), LEAST_RATE)

    def ready(self, now: float, amounts: Amounts, held: Amounts | None) -> float:
        return self._ready(now, self._traffic.work_of(amounts))

    def expected(self, now: float, ahead: Amounts) -> float:
        return self._ready(now, ahead.requests)

    def _ready(self, now: float, work: float) -> float:
        ceiling = self.ceiling(now)
        if ceiling > self._tuning.lifted * self._start:
            self.on = False
            return now
        level = self._level + max(now - self._at, 0.0) * ceiling
        return now if level >= work else now + (work - level) / ceiling

    def take(self, now: float, reservation: Reservation) -> None:
        work = self._traffic.work_of(reservation.amounts)
        ceiling = self.ceiling(now)
        level = self._level + max(now - self._at, 0.0) * ceiling
        self._level = min(level, max(work, 1.0, ceiling * self._tuning.burst_time)) - work
        self._at = now

    def settle(self, reservation: Reservation, attempt: Attempt, diagnosis: Diagnosis) -> None:
        if diagnosis.cause is not Cause.GREW_TOO_FAST or reservation.sequence <= self._cut_by:
            return
        now = attempt.at
        self._start = self._tuning.cut * self.ceiling(now) if self.on else max(self._traffic.rate(now), LEAST_RATE)
        self.on = True
        self._start_at = self._at = now
        self._level = 0.0
        self._cut_by = self._traffic.latest

    def cancel(self, reservation: Reservation) -> None:
        pass

    def rewind(self, now: float, seconds: float) -> None:
        self._at = min(self._at, now)
        self._start_at = min(self._start_at, now)
