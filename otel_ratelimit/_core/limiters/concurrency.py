"""How many calls may be in flight, where the server refuses for what it has to bear at a time ("too many concurrent requests",
503, 529, "overloaded").

Such a server refills nothing: it bears a number of requests. A refusal comes back at once, the calls that were let in are still
in flight then, so the number in flight when the refusals of a generation have landed is what the server bears. One call more is
tried after a number of answers at that level; each such try that is refused doubles the number, so a limit that is known well is
disturbed seldom, and each one that is served sets it back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.limiters.limiter import Cause, Diagnosis, Reservation
from otel_ratelimit._core.limiters.traffic import Traffic
from otel_ratelimit._core.throttle import Throttle


@dataclass(frozen=True, slots=True)
class ConcurrencyTuning:
    """The numbers of the limit on calls in flight.

    Attributes:
        growth_calls, most_growth_calls: answers at the full level after which one call more is tried, at first and at most.
        most_cut: share of the requests in flight that a generation of refusals leaves at least, where the server speaks of
            overload only: it may mind something else.
        over: times the number that failed, beyond which the limit is dropped: whatever it was is over.
    """

    growth_calls: float = 5.0
    most_growth_calls: float = 640.0
    most_cut: float = 0.5
    over: float = 4.0


TUNED: Final = ConcurrencyTuning()


def tells_time(throttle: Throttle) -> bool:
    """Whether a delay is told to fractions of a second. That is a count of time, of a bucket or a window, whatever it is called.
    What frees a place is the end of a call, and no server knows that to the millisecond. A date's fraction is only the clock's.
    """
    return throttle.delay is not None and throttle.source != "retry-after-date" and throttle.delay % 1.0 > 0.0


class Concurrency:
    """Requests that may be in flight at a time; without bound until the first refusal.

    Attributes:
        most: how many.
    """

    __slots__ = ("_full", "_generation", "_growth_calls", "_peak", "_traffic", "_tried", "_tuning", "most", "on")

    def __init__(self, traffic: Traffic, tuning: ConcurrencyTuning = TUNED) -> None:
        self.on = False
        self.most = math.inf
        self._traffic = traffic
        self._tuning = tuning
        self._generation = -1
        """The latest request that had left at the first refusal of the last generation: refusals up to it say one thing."""
        self._peak = 1.0
        self._growth_calls = tuning.growth_calls
        self._full = 0.0
        """Answers at the full level since it last changed."""
        self._tried = False
        """Whether the present level is one call more than what was borne."""

    def ready(self, now: float, amounts: Amounts, held: Amounts | None) -> float:
        return math.inf if len(self._traffic.in_flight) >= self.most else now

    def take(self, now: float, reservation: Reservation) -> None:
        pass

    def settle(self, reservation: Reservation, attempt: Attempt, diagnosis: Diagnosis) -> None:
        if diagnosis.cause is Cause.TOO_MANY_AT_ONCE:
            said = attempt.throttle is not None and attempt.throttle.kind == "concurrency"
            self._refused(reservation.sequence, float(len(self._traffic.in_flight)), said=said)
        elif diagnosis.cause is Cause.SERVED and self.on and reservation.sequence > self._generation:
            self._served(float(len(self._traffic.in_flight) + 1))  # itself included

    def _refused(self, sequence: int, borne: float, *, said: bool) -> None:
        """``borne``: requests that are in flight now; ``said``: the server says that it is about them."""
        tuning = self._tuning
        if sequence > self._generation:
            if self._tried:
                self._growth_calls = min(2.0 * self._growth_calls, tuning.most_growth_calls)
            self._generation = self._traffic.latest
            self._peak = min(self.most, borne + 1.0)
            self.on = True
        least = 1.0 if said else max(1.0, math.floor(tuning.most_cut * self._peak))
        self.most = max(least, min(borne, self.most))
        self._tried = False
        self._full = 0.0

    def _served(self, in_flight: float) -> None:
        tuning = self._tuning
        if in_flight >= self.most:
            self._full += 1.0
        if self._full < self._growth_calls:
            return
        if self._tried:
            self._growth_calls = tuning.growth_calls
        self._tried = True
        self._full = 0.0
        self.most += 1.0
        if self.most > tuning.over * self._peak + 16.0:
            self.most = math.inf
            self.on = False

    def cancel(self, reservation: Reservation) -> None:
        pass

    def expected(self, now: float, ahead: Amounts) -> float:
        return now  # the next answer tells

    def rewind(self, now: float, seconds: float) -> None:
        pass
