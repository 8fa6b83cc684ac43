"""The limits whose numbers the server names: a call has to fit every tracked bucket.

Owns the buckets and the charge model, and how each answer corrects them. Knows no queue and no other limiter. What was let go
although there seemed to be no room, and was served, shows that there was some: it is charged to no bucket that had none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from otel_ratelimit._core.amounts import NOTHING, Amounts, amounts_of
from otel_ratelimit._core.attempt import Attempt, Reading
from otel_ratelimit._core.buckets.charge import ChargeModel
from otel_ratelimit._core.buckets.estimate import BucketTuning
from otel_ratelimit._core.buckets.identify import Buckets
from otel_ratelimit._core.buckets.tracked import Call, Tracked
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.limiters.limiter import Cause, Diagnosis, Reservation
from otel_ratelimit._core.limiters.traffic import Traffic
from otel_ratelimit._core.throttle import Throttle

OVERSIZED: Final = 1.01
"""Times a limit that a call takes at most which is larger than that limit: there is no more that it could take."""

OVERSIZED_APART: Final = 1.0
"""Seconds between calls that seem larger than a limit. They go at once, because only the server can say so for sure
(and its "request too large" is the caller's answer), but one at a time: an estimate that is too high says it of all."""

LEAST_SHORTAGE: Final = 0.1
"""Share of a refused call's expected cost that was missing at least, where the numbers do not show that any was: costs
vary by some 15 % from call to call."""

MUCH_LARGER: Final = 1.5
"""Times the largest call that was served from which on one refusal is enough: charges are estimates."""

LARGEST_FADES: Final = 0.99
"""Share of the largest served call's size that is kept with each call that is served: what was served long ago is no measure."""

SHORT: Final = 0.5
"""Share of a call that is missing at least, for it to be worth asking."""

MANY: Final = 60.0
"""Requests. OpenAI counts refused requests as requests: of 300 a minute a handful of probes takes a second, 1 % of a run of two
minutes, and request limits that large are seldom what binds."""

DOUBT_CALLS: Final = 3.0
DOUBT_SHARE: Final = 0.02
"""Calls, and share of the limit, by which an estimate may be wrong beside its margin. What probes took that were served in a row
beyond that, no single bucket can have held."""

AT_LEAST: Final = 2.0
"""Times one of several buckets that all of them are at least."""

Observer = Callable[[Reservation, Tracked, float, float, float], object]
"""Called with each word of the server about a bucket: the reservation, the bucket, what was left, what would have been left had
a refused call been served, and when the request left."""


class TrackedBuckets:
    """Every bucket that the server has named.

    Attributes:
        on: whether there is any.
        charge: how the server charges for tokens.
        buckets: what is known of each limit.
        observer: see :data:`Observer`.
    """

    __slots__ = ("_largest", "_oversized_at", "_refused", "_traffic", "_tuning", "buckets", "charge", "observer", "on")

    def __init__(self, traffic: Traffic, tuning: BucketTuning) -> None:
        self.on = False
        self.charge = ChargeModel()
        self.buckets = Buckets(tuning)
        self.observer: Observer | None = None
        self._traffic = traffic
        self._tuning = tuning
        self._refused = NOTHING
        """Running totals of what refused calls had taken."""
        self._largest = 0.0
        self._oversized_at = -math.inf

    # --- may a call go ------------------------------------------------------------------------------------------------

    def amounts(self, cost: Cost, requested: float | None) -> Amounts:
        """What a call takes of each unit; ``requested``: its tokens, where the server named them."""
        inputs, outputs, requests = cost
        if requested is None:
            requested = self.charge.tokens(cost)
        amounts = [requests, requested, inputs, outputs]
        for tracked in self.buckets.holding:
            most = OVERSIZED * tracked.bucket.limit
            amounts[tracked.index] = min(amounts[tracked.index], most)
        return amounts_of(amounts)

    def ready(self, now: float, amounts: Amounts, held: Amounts | None) -> float:
        at = now
        taken, latest = self._traffic.taken, self._traffic.latest
        for tracked in self.buckets.holding:
            index, bucket = tracked.index, tracked.bucket
            need = amounts[index]
            if need > bucket.limit:
                at = max(at, self._oversized_at + OVERSIZED_APART)
                continue
            if held is not None:
                need += held[index]
            at = max(at, bucket.ready(now, taken[index], min(need, bucket.capacity), latest))
        return at

    def oversized(self, amounts: Amounts) -> bool:
        """Whether a call seems larger than a limit."""
        return any(amounts[tracked.index] > tracked.bucket.limit for tracked in self.buckets.holding)

    def take(self, now: float, reservation: Reservation) -> None:
        predictions = reservation.predictions = []
        amounts, taken = reservation.amounts, reservation.taken
        for tracked in self.buckets.holding:
            bucket = tracked.bucket
            predictions.append((bucket, bucket.level(now, taken[tracked.index], reservation.sequence)))
            if amounts[tracked.index] > bucket.limit:
                self._oversized_at = now

    def worth_asking(self, now: float, amounts: Amounts) -> bool:
        """Whether a call that takes ``amounts``, and goes now, shows something new of a bucket: one that lacks more than half of
        the call.
        """
        taken, latest = self._traffic.taken, self._traffic.latest
        for tracked in self.buckets.holding:
            index, bucket = tracked.index, tracked.bucket
            need = amounts[index]
            if not self.tells_something(tracked, need):
                continue
            if need + bucket.reserve(need) - bucket.level(now, taken[index], latest) > SHORT * need:
                return True
        return False

    @staticmethod
    def tells_something(tracked: Tracked, need: float) -> bool:
        """Whether a bucket that seems to lack what a call needs is worth asking. Not a window: it refills nothing before its end;
        nor one of many requests, which would be charged for it; nor one that holds a second's share, which runs over meanwhile.
        """
        bucket = tracked.bucket
        many = tracked.index == 0 and bucket.limit > MANY
        return not (need > bucket.limit or bucket.fixed or bucket.depth is not None or many)

    def room(self, now: float, share: float, error: float) -> tuple[Amounts, float]:
        """Totals up to which every bucket holds more than ``share`` of its capacity for sure, and the time up to which that is
        certain to within ``error`` of its capacity: what is refilled beyond the brim meanwhile must not count as left.
        """
        most = [math.inf, math.inf, math.inf, math.inf]
        until = math.inf
        traffic = self._traffic
        for tracked in self.buckets.holding:
            index, bucket = tracked.index, tracked.bucket
            taken = traffic.taken[index]
            room = bucket.level(now, taken, traffic.latest) - share * bucket.capacity
            most[index] = min(most[index], taken + room if room > 0 else -math.inf)
            if bucket.rate > 0:
                until = min(until, now + error * bucket.capacity / bucket.rate)
        return amounts_of(most), until

    def expected(self, now: float, ahead: Amounts) -> float:
        return self.expected_for(now, ahead, ahead, -1, guesses=True)

    def expected_for(self, now: float, amounts: Amounts, ahead: Amounts, refused_by: int, *, guesses: bool) -> float:
        """When a call of ``amounts`` is expected to go if ``ahead`` goes first, itself included.

        Args:
            refused_by: the latest request that had left when the call was refused: up to that one, each may have been served
                before it, and need not be waited for. -1 for none.
            guesses: count limits whose window is a guess; that is good enough to sleep by, not to give up by.
        """
        at = now
        traffic = self._traffic
        for tracked in self.buckets.holding if guesses else self.buckets.certain:
            index, bucket = tracked.index, tracked.bucket
            if bucket.sequence < refused_by:
                level = bucket.level_at_best(now)
            else:
                level = bucket.level(now, traffic.taken[index], traffic.latest)
            missing = ahead[index] + bucket.reserve(amounts[index]) - level
            if missing > 0:
                at = max(at, now + bucket.refill_time(missing, now))
        return at

    # --- what an answer says ------------------------------------------------------------------------------------------

    def observe(self, reservation: Reservation, attempt: Attempt) -> dict[Tracked, float]:
        """Headers and message of an answer. Returns the buckets that it spoke of, and what it said was left of each."""
        reported: dict[Tracked, float] = {}
        throttle = attempt.throttle
        sent_at = attempt.departed(reservation.taken_at)
        traffic = self._traffic
        call = Call(
            reservation.amounts,
            sent_at,
            reservation.sequence,
            reservation.taken,
            traffic.latest,
            traffic.taken,
            self._refused,
        )
        if throttle is not None:
            requested = throttle.requested
            if requested is not None and throttle.kind == "tokens" and 0 <= requested < math.inf:
                self.charge.learn_requested(reservation.cost, requested)
                reservation.requested = float(requested)
        refused = throttle is not None and throttle.retryable
        for reading in attempt.readings:
            self._read_header(reservation, attempt, call, reading, reported, refused=refused)
        if throttle is not None and refused:
            self._read_message(reservation, attempt, call, throttle, reported)
        self.on = bool(self.buckets.tracked)
        return reported

    def _read_header(
        self,
        reservation: Reservation,
        attempt: Attempt,
        call: Call,
        reading: Reading,
        reported: dict[Tracked, float],
        *,
        refused: bool,
    ) -> None:
        tracked = self.buckets.of_reading(reading, call)
        remaining = reading.remaining
        if tracked is None or remaining is None or tracked in reported:
            return
        bucket = tracked.bucket
        level = reported[tracked] = float(remaining)
        # Costs are estimates: twice the expected one is still "not enough left" as the reason of a refusal.
        tracked.exhausted = refused and level < 2.0 * reservation.amounts[tracked.index] + bucket.margin
        if reading.reset is not None and bucket.window is not None and 0 <= reading.reset <= bucket.window:
            # Remaining is cut to whole units; the time until full is finer where units are few (300 RPM: 0.2 s each).
            level = min(max(level, bucket.capacity - bucket.rate * reading.reset), level + 0.999)
        self._anchor(reservation, attempt, call, tracked, level, full_at=tracked.full_at(reading.reset, call.sent_at))

    def _read_message(
        self,
        reservation: Reservation,
        attempt: Attempt,
        call: Call,
        throttle: Throttle,
        reported: dict[Tracked, float],
    ) -> None:
        """What a message says by "Limit, Used, Requested": the level, to the unit, at the moment of the refusal."""
        if throttle.limit is None or throttle.used is None or not 0 <= throttle.used <= 2.0 * throttle.limit:
            return
        level = throttle.limit - throttle.used
        tracked = self.buckets.of_message(
            throttle.kind, throttle.limit, throttle.window_seconds, level=level, reported=reported, call=call
        )
        if tracked is None:
            return
        tracked.exhausted = True
        if tracked not in reported:
            reported[tracked] = level
            self._anchor(reservation, attempt, call, tracked, level)

    def _anchor(
        self,
        reservation: Reservation,
        attempt: Attempt,
        call: Call,
        tracked: Tracked,
        level: float,
        *,
        full_at: float = math.inf,
    ) -> None:
        """``level``: what was left when the server had dealt with the call."""
        bucket, index = tracked.bucket, tracked.index
        need = reservation.amounts[index]
        after = level
        if tracked.exhausted:
            # What would have been left had it been served: less than nothing; only a message tells how much less.
            charged = reservation.requested if index == 1 and reservation.requested is not None else need
            after = min(level - charged, -LEAST_SHORTAGE * charged)
        for predicted, expected in reservation.predictions or ():
            # Far from the limit no error matters, and they are larger there.
            if predicted is bucket and expected < self._tuning.margin_cap * bucket.limit:
                bucket.judge(after - expected)
        bucket.anchor(
            level, sent_at=call.sent_at, taken=call.taken[index], sequence=call.sequence, now=attempt.at,
            taken_now=call.taken_now[index], uncharged=need if index and tracked.exhausted else 0.0,
            charge=self.charge if index == 1 and not self.charge.usage_tells else None, full_at=full_at,
        )  # fmt: skip
        if self.observer is not None:
            self.observer(reservation, tracked, level, after, call.sent_at)

    # --- what becomes of a reservation --------------------------------------------------------------------------------

    def settle(self, reservation: Reservation, attempt: Attempt, diagnosis: Diagnosis) -> None:
        cause, reported = diagnosis.cause, diagnosis.reported
        if cause is Cause.SERVED:
            self._largest = max(LARGEST_FADES * self._largest, reservation.amounts.tokens)
            if reservation.probe:
                self._doubt(reservation, reported)
                self._give_back(
                    reservation, 0, reported
                )  # a bucket that had no room for it was not charged, or there was more
            self._pass_over(reported)
            self._learn_usage(reservation, attempt.used_tokens)
        elif cause is Cause.REJECTED:
            self._give_back(
                reservation, 1, reported
            )  # as a request it counts: failed ones do, says OpenAI's documentation
            self._traffic.give_back(reservation, 1)
        elif attempt.throttle is not None:
            if reservation.probe:
                for tracked in reported:
                    tracked.doubt = 0.0
            self._refused = self._refused.plus(reservation.amounts)
            self._give_back(reservation, 1, reported)  # refused work is not charged

    def _doubt(self, reservation: Reservation, reported: Mapping[Tracked, float]) -> None:
        """A probe was served: what the buckets lacked for it, they had. Those that headers speak of are judged by what they
        say.
        """
        for bucket, after in reservation.predictions or ():
            for tracked in self.buckets.holding:
                if tracked.bucket is not bucket or tracked in reported:
                    continue
                need = reservation.amounts[tracked.index]
                tracked.doubt += min(max(-after, 0.0), need)
                if tracked.doubt > bucket.margin + DOUBT_SHARE * bucket.limit + DOUBT_CALLS * need:
                    self.buckets.doubt(tracked)

    def several(self) -> float | None:
        """Usual calls a second that several buckets behind one address refill together at least; None where there are none."""
        if not self.buckets.several:
            return None
        rates = []
        for tracked in self.buckets.tracked:
            typical = self._traffic.typical(tracked.index)
            if tracked.several and typical > 0:
                bucket, sizes = tracked.bucket, self.buckets.sizes_of_all(tracked)
                times = sum(sizes) / bucket.limit if sizes else AT_LEAST
                rates.append(times * bucket.rate / typical)
        return min(rates, default=None)

    def cancel(self, reservation: Reservation) -> None:
        self._give_back(reservation, 0, {})

    def is_too_large(self, reservation: Reservation) -> bool:
        """Whether a call that was refused is larger than any that is served, by far or refused again and again: then it may well
        be larger than the limit, and its refusals say nothing of the pace at which the others may go.
        """
        times = 1.0 if reservation.refusals > 1 else MUCH_LARGER
        return reservation.amounts.tokens > times * self._largest > 0.0

    def _give_back(self, reservation: Reservation, first: int, reported: Mapping[Tracked, float]) -> None:
        """What the call had taken was not charged, from unit ``first`` on. ``reported``: buckets that know it already."""
        for tracked in self.buckets.tracked:
            if tracked.index >= first and tracked not in reported:
                tracked.bucket.give_back(reservation.amounts[tracked.index], reservation.sequence)

    def _pass_over(self, reported: Mapping[Tracked, float]) -> None:
        """A call was served: the buckets that its answer did not speak of."""
        for tracked in self.buckets.tracked:
            if tracked not in reported:
                typical = self._traffic.typical(tracked.index)
                if tracked.index:
                    deviation, bias = typical * self.charge.deviation, typical * self.charge.bias
                else:
                    deviation = bias = 0.0
                tracked.bucket.pass_over(typical, deviation, bias)

    def _learn_usage(self, reservation: Reservation, used: float | None) -> None:
        if used is None or not 0 < used < math.inf:
            return
        charge = self.charge
        charge.see_usage(used)
        if reservation.requested is not None:
            charge.learn_usage(used, reservation.requested)
            return
        charged = charge.charge_of_usage(used)
        if charged is None:
            return
        charge.learn(reservation.cost, charged)
        for tracked in self.buckets.tracked:
            if tracked.index == 1:
                tracked.bucket.give_back(reservation.amounts.tokens - charged, reservation.sequence)

    def rewind(self, now: float, seconds: float) -> None:
        for tracked in self.buckets.tracked:
            tracked.bucket.rewind(now)
        self._oversized_at = min(self._oversized_at, now)
