"""All limiters of one (server, credential, project, model): whether a call may go, what its permit takes, what its answer means.

Owns the diagnosis of an answer, the order in which limiters are asked, and the fast path. Knows no queue and no order of calls:
it is asked about one call at a time.

*Fast path.* While every bucket holds more than half, nothing that an answer says can matter yet, and no arithmetic is done: a
call only adds to the running totals, up to which that is certain; a reading that shows more than half is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from otel_ratelimit._core.amounts import NEVER, Amounts, amounts_of
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.buckets.tracked import Tracked
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.limiters.cold_start import ColdStart
from otel_ratelimit._core.limiters.concurrency import Concurrency, tells_time
from otel_ratelimit._core.limiters.confidence import Confidence
from otel_ratelimit._core.limiters.growth import Growth
from otel_ratelimit._core.limiters.limiter import Cause, Diagnosis, Limiter, Reservation
from otel_ratelimit._core.limiters.odd_one_out import OddOneOut
from otel_ratelimit._core.limiters.permits import Level, Turn
from otel_ratelimit._core.limiters.probes import Probes
from otel_ratelimit._core.limiters.rate import Rate
from otel_ratelimit._core.limiters.retry_after import Evidence, RetryAfter
from otel_ratelimit._core.limiters.several import SeveralRate
from otel_ratelimit._core.limiters.tracked import TrackedBuckets
from otel_ratelimit._core.limiters.traffic import Traffic
from otel_ratelimit._core.limiters.tuning import TUNED, Tuning

HALF: Final = 0.5
"""Share of a bucket above which nothing is near."""

FAST_ERROR: Final = 0.01
"""Share of a bucket that may be refilled beyond the brim while the fast path does not look: what is lost there must not count as
left, or a burst after a pause would be let go with half as much again as there is."""

LOOK_AGAIN: Final = 0.05
"""Seconds between two looks at headers on the fast path. Our own calls are counted meanwhile; half of a limit that refills over a
minute is not used up by others in a twentieth of a second."""


class CombinedLimiter:
    """Every limiter, asked together.

    Attributes:
        traffic: what was let go.
        tracked: the limits whose numbers are known.
        granted: totals up to which calls may take the fast path, by somebody else's word (a fleet's lease); None: the buckets
            tell.
        predicts: whether the buckets' predictions let calls go, so that their errors count.
        part: of what several buckets allow together, what a rate found by trial starts from here: others of a fleet start, too.
    """

    __slots__ = (
        "_cold_start", "_concurrency", "_confidence", "_fast_most", "_fast_until", "_growth", "_looked_at", "_odd_one_out",
        "_others", "_rate", "_retry_after", "_several", "granted", "part", "predicts", "probes", "tracked", "traffic",
    )  # fmt: skip

    def __init__(self, tuning: Tuning = TUNED) -> None:
        self.traffic = traffic = Traffic()
        self.tracked = TrackedBuckets(traffic, tuning.buckets)
        self.probes = Probes(traffic, tuning.probes)
        self._confidence = Confidence(tuning.confidence)
        self._odd_one_out = OddOneOut(tuning.odd_one_out)
        self._cold_start = ColdStart(traffic, tuning.cold_start)
        self._retry_after = RetryAfter(traffic)
        self._rate = Rate(traffic, tuning.rate)
        self._several = SeveralRate(traffic, tuning.several)
        self._growth = Growth(traffic, tuning.growth)
        self._concurrency = Concurrency(traffic, tuning.concurrency)
        self._others: tuple[Limiter, ...] = (
            self._cold_start, self._concurrency, self._retry_after, self._rate, self._several, self._growth,
        )  # fmt: skip
        self.granted: Amounts | None = None
        self.predicts = True
        self.part = 1.0
        self._fast_most: Amounts = NEVER
        self._fast_until = math.inf
        self._looked_at = -math.inf

    # --- may a call go ------------------------------------------------------------------------------------------------

    def amounts(self, cost: Cost, requested: float | None = None) -> Amounts:
        """What a call takes of each unit; ``requested``: its tokens, where the server named them."""
        return self.tracked.amounts(cost, requested)

    def ready(self, now: float, amounts: Amounts, held: Amounts | None) -> Turn:
        """When a call that takes ``amounts`` may go. ``held``: what is kept for others beside it; None if nothing."""
        counted, others = self.tracked.ready(now, amounts, held), self.others_ready(now, amounts)
        return self.turn(now, amounts, counted, others, self.tracked.worth_asking)

    def turn(
        self,
        now: float,
        amounts: Amounts,
        counted: float,
        others: float,
        worth_asking: Callable[[float, Amounts], bool],
    ) -> Turn:
        """The turn of a call that the server's numbers let go at ``counted`` and the other limiters at ``others``.
        ``worth_asking``: as ``TrackedBuckets.worth_asking``, by whoever told ``counted``.
        """
        if counted > now >= others and worth_asking(now, amounts) and self.probes.early(now):
            return Turn(now, True, True)
        at = max(counted, others)
        if at <= now:
            return Turn(now, False)
        if not self._retry_after.may_be_probed(now):
            return Turn(at, False)
        early = self.probes.ready(at, now, counted=others < at)
        return Turn(early, early < at)

    def others_ready(self, now: float, amounts: Amounts) -> float:
        """When the limiters that hold without numbers let such a call go."""
        at = now
        for limiter in self._others:
            if limiter.on:
                at = max(at, limiter.ready(now, amounts, None))
        return at

    def room_at(self, now: float, amounts: Amounts) -> float:
        """When there is room for such a call, probes aside; inf: after an answer."""
        return max(self.tracked.ready(now, amounts, None), self.others_ready(now, amounts))

    def expected(self, now: float, amounts: Amounts, ahead: Amounts, refused_by: int = -1, *, guesses: bool) -> float:
        """When a call is expected to go; see ``TrackedBuckets.expected_for``."""
        counted = self.tracked.expected_for(now, amounts, ahead, refused_by, guesses=guesses)
        return max(counted, self.others_expected(now, ahead))

    def others_expected(self, now: float, ahead: Amounts) -> float:
        """The same by the limiters that hold without numbers."""
        at = now
        for limiter in self._others:
            if limiter.on:
                at = max(at, limiter.expected(now, ahead))
        return at

    def begins_to_wait(self, now: float) -> None:
        """A call has to wait, the first of its priority."""

    @property
    def known(self) -> bool:
        """Whether the cold start is over."""
        return not self._cold_start.on

    @property
    def closed_until(self) -> float:
        """The time before which the server wants no call; minus infinity for none."""
        return self._retry_after.until

    @property
    def evidence(self) -> Evidence | None:
        """What the server told the call that it refused last; None once a later one was served."""
        return self._retry_after.evidence

    @property
    def probe_busy_until(self) -> float:
        """Until when the answer of a probe is awaited; minus infinity where none is on its way."""
        return self.probes.busy_until()

    # --- permits ------------------------------------------------------------------------------------------------------

    def take_fast(self, now: float, reservation: Reservation) -> bool:
        """:meth:`take`, if the call surely leaves every bucket above half; False: nothing was done. By far the usual call: its
        steps stand in one place, because a step into another function costs more than the step.
        """
        most = self._fast_most
        if most is NEVER or now > self._fast_until:
            return False
        cost = reservation.cost
        inputs, outputs, requests = cost
        charge = self.tracked.charge
        factor = charge.factor_of_larger
        larger = inputs if inputs > outputs else outputs
        tokens = charge.tokens(cost) if factor is None else factor * larger or charge.typical
        traffic = self.traffic
        all_requests, all_tokens, all_inputs, all_outputs = traffic.taken
        all_requests += requests
        all_tokens += tokens
        all_inputs += inputs
        all_outputs += outputs
        if all_requests > most[0] or all_tokens > most[1] or all_inputs > most[2] or all_outputs > most[3]:
            return False
        reservation.amounts = amounts_of((requests, tokens, inputs, outputs))
        traffic.taken = reservation.taken = amounts_of((all_requests, all_tokens, all_inputs, all_outputs))
        traffic.latest = reservation.sequence = traffic.latest + 1
        reservation.taken_at = self.probes.evidence_at = now
        traffic.in_flight.add(reservation)
        if now > traffic.measure_at:
            traffic.measure(now)
        return True

    def take(
        self, now: float, amounts: Amounts, reservation: Reservation, *, probe: bool = False, early: bool = False
    ) -> None:
        """A call goes.

        Args:
            now: the present.
            amounts: what it takes, see :meth:`amounts`.
            reservation: of its attempt, empty.
            probe: it goes although there is no room.
            early: that, and the evidence is fresh.
        """
        traffic = self.traffic
        reservation.amounts = amounts
        traffic.taken = reservation.taken = traffic.taken.plus(amounts)
        traffic.latest = reservation.sequence = traffic.latest + 1
        reservation.taken_at = self.probes.evidence_at = now
        traffic.in_flight.add(reservation)
        if now > traffic.measure_at:
            traffic.measure(now)
        if probe:
            reservation.probe, reservation.early = True, early
            self.probes.take(now, reservation)
        if self._is_far(now, traffic.taken):
            return
        for limiter in self._others:
            if limiter.on:
                limiter.take(now, reservation)
        if self._held_by_trial():
            traffic.extra += traffic.work_of(amounts) - 1.0
        reservation.work = traffic.work
        self.tracked.take(now, reservation)
        if not self.predicts:
            reservation.predictions = []

    def _is_far(self, now: float, taken: Amounts) -> bool:
        """Whether every bucket surely stays above half, so that nothing of this call needs to be looked at."""
        if now <= self._fast_until and taken.fits(self._fast_most):
            return True
        if self._cold_start.on or self._held_by_trial():
            return False
        self._fast_until = math.inf
        if self.granted is None:
            self._fast_most, self._fast_until = self.tracked.room(now, HALF, FAST_ERROR)
        else:
            self._fast_most = self.granted
        return taken.fits(self._fast_most)

    def _held_by_trial(self) -> bool:
        """Whether a limiter holds that needs no numbers (the cold start aside)."""
        return self._rate.on or self._several.on or self._retry_after.on or self._concurrency.on or self._growth.on

    def settle_fast(self, now: float, reservation: Reservation) -> bool:
        """An attempt was answered well, and that is all that it can teach: it took the fast path, and headers were looked at just
        now. False: it may be so or not; nothing was done, call :meth:`settle`.
        """
        if (
            reservation.predictions is not None
            or self._fast_most is NEVER
            or reservation.probe
            or not 0.0 <= now - self._looked_at < LOOK_AGAIN
        ):
            return False
        self.traffic.in_flight.discard(reservation)
        return True

    def settle(self, reservation: Reservation, attempt: Attempt, *, waiting: bool) -> None:
        """An attempt was answered, or failed: learns from it. ``waiting``: whether other calls wait.

        A throttle may come late, when the attempt was settled as a success: inside of the stream that it answered with.
        """
        self.traffic.in_flight.discard(reservation)
        if attempt.throttle is None and attempt.succeeded and self._says_nothing(reservation, attempt):
            return
        self._fast_most = NEVER
        reported = self.tracked.observe(reservation, attempt)
        diagnosis = self._diagnose(reservation, attempt, reported, waiting=waiting)
        if diagnosis.cause is not Cause.LOST or reported:
            self.probes.evidence_at = attempt.at
        self.tracked.settle(reservation, attempt, diagnosis)
        several = self.tracked.several()
        if several is not None:
            diagnosis = diagnosis._replace(several=self.part * several)
        for limiter in self._others:
            limiter.settle(reservation, attempt, diagnosis)
        if several is not None and not self._several.on:
            self.tracked.buckets.trust()
        if reservation.probe:
            self.probes.settle(reservation, attempt, diagnosis)
        if several is not None:
            self.probes.stop()  # the rate of several buckets is found without them

    def _says_nothing(self, reservation: Reservation, attempt: Attempt) -> bool:
        """Whether a success teaches nothing: it took the fast path, and its headers show that every bucket is far from empty."""
        if reservation.predictions is not None or reservation.probe or self._fast_most is NEVER:
            return False
        self._looked_at = attempt.at
        slots = self.tracked.buckets.slots
        for reading in attempt.readings:
            tracked = slots.get((reading.kind, reading.scope, reading.window_name))
            remaining = reading.remaining
            if tracked is None or remaining is None or tracked.bucket.limit != reading.limit:
                return False
            if remaining < HALF * tracked.bucket.capacity:
                return False
        return True

    def _diagnose(
        self, reservation: Reservation, attempt: Attempt, reported: dict[Tracked, float], *, waiting: bool
    ) -> Diagnosis:
        """What an answer says of limits, once for all limiters."""
        throttle = attempt.throttle
        if throttle is None:
            if not attempt.succeeded:
                return Diagnosis(Cause.REJECTED if attempt.rejected else Cause.LOST, reported, waiting)
            self._odd_one_out.served(reservation)
            return Diagnosis(Cause.SERVED, reported, waiting, trusted=self._trusts(reservation, reported))
        reservation.refusals += 1
        reservation.reset_known = False
        if not throttle.retryable:
            return Diagnosis(Cause.ITS_OWN, reported, waiting)
        if attempt.slow_down:
            return Diagnosis(Cause.GREW_TOO_FAST, reported, waiting)
        if throttle.kind == "concurrency" or (throttle.kind == "overload" and not tells_time(throttle)):
            alone = self._odd_one_out.refused(reservation, self.traffic.latest)
            return Diagnosis(Cause.ITS_OWN if alone else Cause.TOO_MANY_AT_ONCE, reported, waiting)
        # A reset time says when the bucket is full: no instruction, where a bucket knows when the call fits.
        explained = any(tracked.exhausted for tracked in reported)
        reservation.reset_known = explained and throttle.source == "x-ratelimit-reset"
        if explained and all(tracked.several for tracked in reported if tracked.exhausted):
            return Diagnosis(Cause.ONE_OF_SEVERAL, reported, waiting)
        if not explained and self.tracked.is_too_large(reservation):
            return Diagnosis(Cause.ITS_OWN, reported, waiting)
        had_room = not reservation.probe and (reservation.predictions is None or bool(reservation.predictions))
        surprised = had_room and explained and self._confidence.surprised(reservation.sequence, self.traffic.latest)
        if explained and not surprised:
            return Diagnosis(Cause.EXHAUSTED, reported, waiting)
        if self._odd_one_out.refused(reservation, self.traffic.latest):
            reservation.reset_known = False
            return Diagnosis(Cause.ITS_OWN, reported, waiting)
        delay = None if reservation.reset_known else throttle.delay
        return Diagnosis(Cause.UNEXPLAINED, reported, waiting, delay)

    def _trusts(self, reservation: Reservation, reported: dict[Tracked, float]) -> bool:
        """Whether a success ends a rate that was found by trial: headers show room, or the buckets are right again."""
        confidence = self._confidence
        confidence.served()
        trusted = False
        if self._rate.on and reported and self._retry_after.is_later(reservation):
            shows_room = all(level > HALF * tracked.bucket.capacity for tracked, level in reported.items())
            trusted = shows_room and confidence.believes_headers()
        return (confidence.shaken and confidence.right(reservation.sequence)) or trusted

    def abandon(self, reservation: Reservation) -> None:
        """The call was sent, and its answer will not be heard of. It stays charged: the server may have done the work."""
        self.traffic.in_flight.discard(reservation)
        if reservation.probe:
            self.probes.cancel(reservation)

    def cancel(self, reservation: Reservation) -> None:
        """The call was never sent: what it took is free again."""
        self.traffic.in_flight.discard(reservation)
        self.tracked.cancel(reservation)
        self.traffic.give_back(reservation, 0)
        for limiter in self._others:
            limiter.cancel(reservation)
        if reservation.probe:
            self.probes.cancel(reservation)
        self._fast_most = NEVER

    # --- the rest -----------------------------------------------------------------------------------------------------

    def grant(self, most: Amounts | None) -> None:
        """Totals up to which calls may take the fast path, by a fleet's word; None: the own buckets tell, from the next call
        on.
        """
        self.granted = most
        self._fast_most = NEVER if most is None else most
        self._fast_until = math.inf

    def levels(self, now: float) -> list[Level]:
        """What every bucket holds now."""
        found = []
        for tracked in self.tracked.buckets.tracked:
            bucket = tracked.bucket
            level = bucket.level(now, self.traffic.taken[tracked.index], self.traffic.latest)
            reset = max(bucket.capacity - level, 0.0) / bucket.rate if bucket.rate > 0 else 0.0
            found.append(Level(bucket.kind, bucket.scope, bucket.window, bucket.limit, max(level, 0.0), reset))
        return found

    def rewind(self, now: float, seconds: float) -> None:
        """The clock was set back to ``now``, by ``seconds``."""
        self.tracked.rewind(now, seconds)
        for limiter in self._others:
            limiter.rewind(now, seconds)
        self.traffic.rewind(now)
        self.probes.rewind(now)
        self._looked_at = -math.inf
        self._fast_most = NEVER
