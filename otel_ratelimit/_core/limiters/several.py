"""A rate found by trial for several buckets behind one address.

No numbers tell what the deployments of a gateway allow together, and calls that are spread by chance meet one that is empty now
and then while the others have room. So a share of refusals is tolerated: the rate grows while fewer are refused. Where more are,
the calls that were served tell the rate that is borne. A call that is refused waits for what its own server told it; the others
go on.

*Sizes.* Calls that are spread evenly meet a small deployment as often as a large one: to use the large one in full, many must be
refused by the small one. Then fewer calls meet as many refusals, in share, and a larger share is tolerated: being later than
without is the greater harm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.limiters.limiter import Cause, Diagnosis, Reservation
from otel_ratelimit._core.limiters.rate import LEAST_RATE, MEMORY, MOST_RATE
from otel_ratelimit._core.limiters.traffic import Traffic

NEWS: Final = 1.2
"""Times the rate that they were known to allow together which is worth another start."""


@dataclass(frozen=True, slots=True)
class SeveralTuning:
    """The numbers of the trial rate for several buckets.

    Attributes:
        tolerated: share of calls that may be refused.
        unequal: the same where they are of different sizes. Three of 1 : 3 : 6, met at random, give 75 % of their sum at that
            share.
        window: calls over which the share is taken.
        remains: share of the refusals that is left after a cut which was in vain: of equal ones hardly any are.
        in_vain: cuts in vain, less those that were not, that show different sizes.
        none: share of refusals from which on it is one bucket after all: of several, chance finds one with room more often.
        start: growth per call before any is refused.
        growth: growth per call afterwards, while fewer are refused than may be.
        growth_time, most_growth: seconds in which it grows by a factor e at least, where calls are seldom; growth per call at
            most.
        burst_time: seconds of rate that may be saved up while no call waits.
    """

    tolerated: float = 0.08
    unequal: float = 0.33
    window: int = 20
    remains: float = 0.5
    in_vain: int = 3
    none: float = 0.9
    start: float = 0.06
    growth: float = 0.005
    growth_time: float = 120.0
    most_growth: float = 0.25
    burst_time: float = 1.0


TUNED: Final = SeveralTuning()


class SeveralRate:
    """Usual calls a second (see ``Traffic.work_of``) that may go; off until buckets turn out to be some of several.

    Attributes:
        rate: calls a second.
    """

    __slots__ = (
        "_at", "_growth", "_known", "_level", "_refusals", "_refused_at", "_share", "_tolerated", "_traffic",
        "_tuning", "_vain", "_window_from", "on", "rate",
    )  # fmt: skip

    def __init__(self, traffic: Traffic, tuning: SeveralTuning = TUNED) -> None:
        self.on = False
        self.rate = math.inf
        self._traffic = traffic
        self._tuning = tuning
        self._level = 0.0
        self._at = 0.0
        self._known = 0.0
        """Calls a second that they were known to allow together."""
        self._tolerated = tuning.tolerated
        self._growth = tuning.start
        self._refused_at = -math.inf
        self._window_from = 0
        """The latest request that had left when the present window began."""
        self._refusals = 0
        """In this window."""
        self._share = 0.0
        """Refused in the window before, where that ended with a cut; else 0."""
        self._vain = 0
        """Cuts in vain, less the others."""

    def ready(self, now: float, amounts: Amounts, held: Amounts | None) -> float:
        return self._ready(now, self._traffic.work_of(amounts))

    def expected(self, now: float, ahead: Amounts) -> float:
        return self._ready(now, ahead.requests)

    def _ready(self, now: float, work: float) -> float:
        level = self._level + max(now - self._at, 0.0) * self.rate
        return now if level >= work else now + (work - level) / self.rate

    def take(self, now: float, reservation: Reservation) -> None:
        work = self._traffic.work_of(reservation.amounts)
        level = self._level + max(now - self._at, 0.0) * self.rate
        self._level = min(level, max(work, 1.0, self.rate * self._tuning.burst_time)) - work
        self._at = now

    def settle(self, reservation: Reservation, attempt: Attempt, diagnosis: Diagnosis) -> None:
        now = attempt.at
        if diagnosis.several is not None and diagnosis.several > NEWS * self._known:
            self._start(now, diagnosis.several)
        if not self.on:
            return
        if diagnosis.cause in (Cause.ONE_OF_SEVERAL, Cause.UNEXPLAINED):
            self._refused_at = now
            self._refusals += 1
            self._growth = self._tuning.growth
        elif now - self._refused_at > MEMORY:
            self._end()
            return
        elif diagnosis.cause is Cause.SERVED and diagnosis.waiting and not self._share:
            growth = max(self._growth, min(1.0 / (self.rate * self._tuning.growth_time), self._tuning.most_growth))
            self.rate = min(self.rate * (1.0 + growth), MOST_RATE)
        self._look(self._traffic.latest - self._window_from)

    def _start(self, now: float, known: float) -> None:
        self.rate = min(max(known, self.rate if self.on else self._traffic.rate(now)), MOST_RATE)
        self.on = True
        self._known = known
        self._level = 0.0
        self._at = self._refused_at = now
        self._growth = self._tuning.start
        self._share = 0.0
        self._vain = 0
        self._begin_window()

    def _end(self) -> None:
        self.on = False
        self._known = 0.0
        self._tolerated = self._tuning.tolerated

    def _begin_window(self) -> None:
        self._window_from, self._refusals = self._traffic.latest, 0

    def _look(self, calls: int) -> None:
        """Whether too many of the last ``calls`` were refused, where they are enough to tell."""
        tuning = self._tuning
        if calls < tuning.window:
            return
        share = min(self._refusals / calls, 1.0)
        self._begin_window()
        if share >= tuning.none:
            self._end()
            return
        if self._share:  # the window before it ended with a cut
            self._vain = self._vain + 1 if share > tuning.remains * self._share else max(self._vain - 1, 0)
        self._share = 0.0
        if share <= self._tolerated:
            return
        self._share = share
        if self._vain >= tuning.in_vain and self._tolerated < tuning.unequal:
            self._tolerated = tuning.unequal
            return
        # What was served is borne; half of the tolerated share is left to chance.
        self.rate = max(self.rate * (1.0 - share) / (1.0 - 0.5 * self._tolerated), LEAST_RATE)

    def cancel(self, reservation: Reservation) -> None:
        pass  # the little that it took is refilled before anybody could measure it

    def rewind(self, now: float, seconds: float) -> None:
        self._at = min(self._at, now)
        self._refused_at = min(self._refused_at, now)
