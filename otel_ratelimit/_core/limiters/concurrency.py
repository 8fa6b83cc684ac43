"""How many calls may be in flight, where the server refuses for what it has to bear at a time (503, 529, "overloaded").

An overloaded server refills nothing: it bears a number of requests. Additive increase and multiplicative decrease on the number
in
flight: one cut for each generation of requests (what was in flight together says one thing once), one more call for each full
round without a refusal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.limiters.limiter import Cause, Diagnosis, Reservation
from otel_ratelimit._core.limiters.traffic import Traffic


@dataclass(frozen=True, slots=True)
class ConcurrencyTuning:
    """
    Attributes:
        cut: share of the requests in flight that remains after a refusal. MEASURE
        over: times the number that failed, beyond which the limit is dropped: whatever it was is over.
    """

    cut: float = 0.85
    over: float = 4.0


TUNED: Final = ConcurrencyTuning()


class Concurrency:
    """Requests that may be in flight at a time; without bound until the first refusal.

    Attributes:
        most: how many.
    """

    __slots__ = ("_cut_by", "_peak", "_traffic", "_tuning", "most", "on")

    def __init__(self, traffic: Traffic, tuning: ConcurrencyTuning = TUNED) -> None:
        self.on = False
        self.most = math.inf
        self._traffic = traffic
        self._tuning = tuning
        self._cut_by = -1
        """The latest request that had left at the last cut."""
        self._peak = 1.0

    def ready(self, now: float, amounts: Amounts, held: Amounts | None) -> float:
        return math.inf if len(self._traffic.in_flight) >= self.most else now

    def take(self, now: float, reservation: Reservation) -> None:
        pass

    def settle(self, reservation: Reservation, attempt: Attempt, diagnosis: Diagnosis) -> None:
        in_flight = len(self._traffic.in_flight)
        if diagnosis.cause is Cause.TOO_MANY_AT_ONCE:
            if reservation.sequence > self._cut_by:
                self.on = True
                self._peak = min(self.most, float(in_flight + 1))  # itself included
                self.most = max(1.0, math.floor(self._tuning.cut * self._peak))
                self._cut_by = self._traffic.latest
        elif diagnosis.cause is Cause.SERVED and self.on and reservation.sequence > self._cut_by:
            if in_flight >= self.most - 1.0:
                self.most += 1.0 / self.most
            if self.most > self._tuning.over * self._peak + 16.0:
                self.most = math.inf
                self.on = False

    def cancel(self, reservation: Reservation) -> None:
        pass

    def expected(self, now: float, ahead: Amounts) -> float:
        return now  # the next answer tells

    def rewind(self, now: float, seconds: float) -> None:
        pass
