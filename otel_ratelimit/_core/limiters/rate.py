"""A rate found by trial, where the server refuses and names no numbers (a bare 429).

Additive increase and multiplicative decrease, around what was measured: between two refusals the server let through what it
refills, so (calls let through) / (time between them) is its rate, more exact the longer it took. A refusal therefore does not cut
to a fixed share: the new rate is the measured one, at least half of the old one and a little below it. It only counts if the
refused request was sent under the present rate. Growth needs the rate to be really used; it is quick up to the rate that failed
last and slow beyond it (the shape of CUBIC, RFC 9438).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.limiters.limiter import Cause, Diagnosis, Reservation
from otel_ratelimit._core.limiters.traffic import Traffic

LEAST_RATE: Final = 1.0 / 300
"""Calls a second. Every wait stays finite: this limiter alone holds no call for longer than five minutes."""

MOST_RATE: Final = 1e6
"""Calls a second. Keeps the growth finite."""

MEMORY: Final = 900.0
"""Seconds without a refusal after which it is off again. A limit that still holds is found again by one refusal."""


@dataclass(frozen=True, slots=True)
class RateTuning:
    """The numbers of the trial rate.

    Attributes:
        first_cut: share of the measured rate to start from at the first refusal. What was measured then is mostly the burst from
            a full bucket, far above the refill, so the first steps search by halving.
        most_cut: share of the rate that a refusal leaves at least.
        deepest_cut, cut_calls: a refusal takes at least ``deepest_cut / (1 + calls since the last refusal / cut_calls)`` off,
            measured or not: refusals that come close together say that the rate is far too high, one after a hundred calls that
            it is a little too high.
        recovery_calls: calls in which the rate returns to the one that was refused last.
        probe_growth: growth per call beyond that, compounding with the calls since the last refusal. The excess adds up to one
            call after some forty, so about one call in forty is the probe that is refused.
        threshold_cut: share of the rate before a door was closed that stays with each refusal at it.
        slow_start: growth per call up to that, once one is served.
        modest_rate: calls a second. Where next to nothing was sent, the measured rate says nothing; the first pace is no slower
            than this or than the server's own delay (so a lone call that was told 564 ms is back after 564 ms).
        patience: times the server's own delay that a call is worth at most: where calls are further apart than that, it is not
            their pace that is refused.
        pause: seconds of delay from which on the server's own time tells the rate: it is the rest of a window, or the time in
            which what went before is refilled.
        burst_time: seconds of rate that may be saved up while no call waits.
    """

    first_cut: float = 0.2
    most_cut: float = 0.5
    deepest_cut: float = 0.5
    cut_calls: float = 10.0
    recovery_calls: float = 30.0
    probe_growth: float = 0.001
    threshold_cut: float = 0.7
    slow_start: float = 0.5
    modest_rate: float = 2.0
    patience: float = 3.0
    pause: float = 5.0
    burst_time: float = 1.0


TUNED: Final = RateTuning()


class Rate:
    """Usual calls a second (see ``Traffic.work_of``) that may go; off until the first refusal that is not explained.

    Attributes:
        rate: calls a second.
    """

    __slots__ = ("_at", "_before", "_burst", "_cut_by", "_growth", "_level", "_refused_at", "_refused_rate", "_refused_work",
    "_served", "_since",
                 "_threshold", "_traffic", "_tuning", "on", "rate")  # fmt: skip

    def __init__(self, traffic: Traffic, tuning: RateTuning = TUNED) -> None:
        self.on = False
        self.rate = math.inf
        self._traffic = traffic
        self._tuning = tuning
        self._level = 0.0
        self._at = 0.0
        self._burst = 1.0
        self._cut_by = -1
        """The latest request that had left at the last cut."""
        self._growth = 0.0
        self._since = 0.0
        """Calls let through under the present rate."""
        self._refused_rate = math.inf
        self._refused_at = -math.inf
        self._refused_work = 0.0
        self._served = False
        """Whether a call was served since the last cut, under the rate that it left."""
        self._before = 0.0
        """The rate before the last cut that followed one which was served."""
        self._threshold = 0.0
        """The rate up to which it is quick, after a door was closed; 0 where none was."""

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
        self._level = min(level, max(work, self._burst)) - work  # what was saved up beyond a burst is lost
        self._at = now

    def settle(self, reservation: Reservation, attempt: Attempt, diagnosis: Diagnosis) -> None:
        if diagnosis.several is not None:
            self.on = False  # theirs is another one (``several``)
        elif diagnosis.cause is Cause.UNEXPLAINED:
            if reservation.probe and self.on:
                return  # it went although its turn had not come: that says nothing against the present rate
            self._refused(reservation, attempt, diagnosis)
        elif diagnosis.cause is Cause.ITS_OWN and self.on:
            self._level += self._traffic.work_of(reservation.amounts)  # others need not pay for it
        elif diagnosis.cause is Cause.SERVED and self.on:
            if diagnosis.trusted:
                self.on = False
            else:
                self._passed(reservation.sequence, attempt.at, waiting=diagnosis.waiting)

    def cancel(self, reservation: Reservation) -> None:
        pass  # the little that it took is refilled before anybody could measure it

    def rewind(self, now: float, seconds: float) -> None:
        self._at = min(self._at, now)
        self._refused_at = min(self._refused_at, now)

    def _refused(self, reservation: Reservation, attempt: Attempt, diagnosis: Diagnosis) -> None:
        tuning, traffic = self._tuning, self._traffic
        now = attempt.at
        sent_at = attempt.departed(reservation.taken_at)
        until = now if diagnosis.delay is None else now + diagnosis.delay
        work = (reservation.sequence if reservation.predictions is None else reservation.work) - 1.0
        if not self.on:
            self.on = True
            measured = traffic.rate(now)
            self._refused_rate = max(measured, tuning.modest_rate)
            modest = min(tuning.modest_rate, 1.0 / max(until - now, 1e-9))
            # What went before a pause that the server asks for, over that time and the pause: no less than that is refilled.
            refilled = traffic.rate(now, until - now) if until - now > tuning.pause else 0.0
            self.rate = max(tuning.first_cut * measured, modest, refilled, LEAST_RATE)
        elif reservation.sequence > self._cut_by:
            self._cut(sent_at, work)
            if until > now:
                self.rate = max(self.rate, min(1.0 / (tuning.patience * (until - now)), tuning.modest_rate))
        else:
            return
        self._growth = max(
            math.log(max(self._refused_rate / self.rate, 1.0)) / tuning.recovery_calls, tuning.probe_growth
        )
        self._since = 0.0
        self._cut_by = traffic.latest
        self._refused_at = sent_at
        self._refused_work = work
        self._level = 0.5 - (traffic.work - work)  # something between nothing and one call was left
        self._at = sent_at
        if not diagnosis.waiting and not traffic.in_flight:
            # A lone call storms nothing: when its own delay or backoff is over, it may go.
            self._level = 1.0 - self.rate * (until - now)
            self._at = now
        self._burst = max(1.0, self.rate * max(tuning.burst_time, until - now))

    def _cut(self, sent_at: float, work: float) -> None:
        """Down to the measured rate, within bounds."""
        tuning = self._tuning
        elapsed = sent_at - self._refused_at
        passed = work - self._refused_work + 0.5
        measured = passed / elapsed if elapsed > 0 else 0.0
        # Where none was served between two cuts, a door is closed rather than the pace too high: up to the pace before it is
        # found quickly once one is served again (slow start, RFC 5681).
        if self._served:
            self._threshold, self._before = 0.0, self.rate
        else:
            self._threshold = tuning.threshold_cut * (self._threshold or self._before)
        self._served = False
        self._refused_rate = self.rate
        most = 1.0 - tuning.deepest_cut / (1.0 + passed / tuning.cut_calls)
        self.rate = max(min(max(measured, tuning.most_cut * self.rate), most * self.rate), LEAST_RATE)

    def _passed(self, sequence: int, now: float, *, waiting: bool) -> None:
        """A request was served."""
        if now - self._refused_at > MEMORY:
            self.on = False
            return
        if sequence <= self._cut_by or not waiting:
            return  # sent under an older rate, or the rate was not used up: teaches nothing about the present one
        self._since += 1.0
        self._served = True
        if self.rate < self._threshold:
            self.rate = min(self.rate * (1.0 + self._tuning.slow_start), self._threshold)
            return
        growth = self._growth if self.rate < self._refused_rate else self._tuning.probe_growth
        self.rate = min(self.rate * (1.0 + growth * (1.0 + self._since / 100.0)), MOST_RATE)
