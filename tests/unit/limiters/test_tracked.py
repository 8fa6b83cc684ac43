"""The limits whose numbers the server names, driven by hand: which calls are worth asking for, and what their answers show."""

from __future__ import annotations

import pytest

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.buckets.estimate import BucketTuning
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.limiters.limiter import Cause, Diagnosis, Reservation
from otel_ratelimit._core.limiters.tracked import TrackedBuckets
from otel_ratelimit._core.limiters.traffic import Traffic
from otel_ratelimit._core.parsing.limits import LimitReading
from otel_ratelimit._core.throttle import LimitKind, Throttle
from tests.helpers.limiters import let_go


class Driven:
    """The buckets, and the traffic that they read."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self.buckets = TrackedBuckets(self.traffic, BucketTuning(boundary=0.0))

    def go(self, now: float, tokens: float = 1_000.0, *, probe: bool = False) -> Reservation:
        """A call goes."""
        reservation = let_go(self.traffic, now, Amounts(1.0, tokens, tokens))
        reservation.probe = probe
        self.buckets.take(now, reservation)
        return reservation

    def serve(self, reservation: Reservation, now: float) -> None:
        """It is served, and nothing said of limits."""
        self._settle(reservation, Attempt(now, True), Cause.SERVED)

    def refuse(self, reservation: Reservation, now: float, throttle: Throttle) -> None:
        reservation.refusals += 1
        self._settle(reservation, Attempt(now, False, throttle=throttle), Cause.EXHAUSTED)

    def _settle(self, reservation: Reservation, attempt: Attempt, cause: Cause) -> None:
        reported = self.buckets.observe(reservation, attempt)
        self.buckets.settle(reservation, attempt, Diagnosis(cause, reported, True))
        self.traffic.in_flight.discard(reservation)

    def know(self, kind: LimitKind, left: float, limit: float) -> None:
        """A header has said at time 0 how much is left."""
        reservation = self.go(0.0, 1.0)
        attempt = Attempt(0.0, True, readings=(reading(kind, left, limit),))
        self._settle(reservation, attempt, Cause.SERVED)

    def worth_asking(self, tokens: float, now: float = 0.0) -> bool:
        return self.buckets.worth_asking(now, Amounts(1.0, tokens, tokens))


def reading(kind: LimitKind, left: float, limit: float = 6_000.0) -> LimitReading:
    return LimitReading(kind, "", "minute", limit, left, (limit - left) * 60.0 / limit)


def test_a_call_is_worth_asking_for_where_more_than_half_of_it_is_missing() -> None:
    """100 a second flow in: of 1,000, 600 are missing, and 400 two seconds later."""
    driven = Driven()
    driven.know("tokens", 400.0, 6_000.0)
    assert driven.worth_asking(1_000.0)
    assert not driven.worth_asking(1_000.0, 2.0)
    assert not driven.worth_asking(400.0)


def test_what_teaches_nothing_is_not_asked() -> None:
    """A call that never fits, a window that refills nothing before its end, a bucket that holds a second's share."""
    driven = Driven()
    driven.know("tokens", 400.0, 6_000.0)
    assert not driven.worth_asking(6_001.0)
    assert driven.worth_asking(6_000.0)
    (tracked,) = driven.buckets.buckets.tracked
    tracked.bucket.hold(1.0)
    assert not driven.worth_asking(6_000.0)
    tracked.bucket.hold(None)
    assert driven.worth_asking(6_000.0)
    tracked.bucket.fixed = True
    assert not driven.worth_asking(6_000.0)


@pytest.mark.parametrize(("limit", "worth"), [(60.0, True), (61.0, False)])
def test_a_limit_of_many_requests_is_not_asked(limit: float, worth: bool) -> None:
    """A refused request counts there."""
    driven = Driven()
    driven.know("requests", 0.0, limit)
    assert driven.worth_asking(10.0) is worth


def test_a_refused_call_is_too_large_where_it_exceeds_all_that_were_served() -> None:
    """By half at the first refusal, at all at a further one."""
    driven = Driven()
    assert not driven.buckets.is_too_large(driven.go(0.0, 9_000.0)), "none was served yet"
    driven.serve(driven.go(0.0, 1_000.0), 0.1)
    for tokens, at_once, afterwards in ((1_000.0, False, False), (1_100.0, False, True), (1_600.0, True, True)):
        reservation = driven.go(0.2, tokens)
        reservation.refusals = 1
        assert driven.buckets.is_too_large(reservation) is at_once
        reservation.refusals = 2
        assert driven.buckets.is_too_large(reservation) is afterwards


def test_what_was_served_long_ago_is_no_measure_of_a_size() -> None:
    """A hundred calls of 100 after one of 1,000: it counts as 366 by now."""
    driven = Driven()
    for tokens in (1_000.0, *[100.0] * 100):
        driven.serve(driven.go(0.0, tokens), 0.1)
    reservation = driven.go(0.2, 1.5 * 1_000.0 * 0.99**100 + 1.0)
    reservation.refusals = 1
    assert driven.buckets.is_too_large(reservation)
    smaller = driven.go(0.2, 1.5 * 1_000.0 * 0.99**100 - 1.0)
    smaller.refusals = 1
    assert not driven.buckets.is_too_large(smaller)


def told(used: float) -> Throttle:
    return Throttle(1.0, "body-message", "tokens", "minute", 6_000.0, used, 1_000.0)


def test_what_probes_took_in_a_row_beyond_margin_and_doubt_shows_another_bucket() -> None:
    """An empty bucket of 6,000, only refusals speak. Each probe of 1,000 lacks 1,000 of it; three calls and 2 % of the limit are
    put down to errors, so the fourth one served cannot have been served by this bucket."""
    driven = Driven()
    driven.refuse(driven.go(0.0), 0.0, told(6_000.0))
    for number in range(3):
        driven.serve(driven.go(0.0, probe=True), 0.0)
        assert not driven.buckets.buckets.several, number
    driven.serve(driven.go(0.0, probe=True), 0.0)
    assert driven.buckets.buckets.several
    assert not driven.buckets.buckets.holding


def test_a_probe_that_is_refused_ends_the_doubt() -> None:
    """What was thought is right after all."""
    driven = Driven()
    driven.refuse(driven.go(0.0), 0.0, told(6_000.0))
    for _ in range(3):
        driven.serve(driven.go(0.0, probe=True), 0.0)
    driven.refuse(driven.go(0.0, probe=True), 0.0, told(6_000.0))
    for _ in range(3):
        driven.serve(driven.go(0.0, probe=True), 0.0)
    assert not driven.buckets.buckets.several


def test_other_calls_than_probes_doubt_nothing() -> None:
    """They went because there was room, however many they are."""
    driven = Driven()
    driven.refuse(driven.go(0.0), 0.0, told(6_000.0))
    for _ in range(8):
        driven.serve(driven.go(0.0), 0.0)
    assert not driven.buckets.buckets.several


def test_a_call_takes_no_more_than_a_limit_holds_and_a_hair() -> None:
    """An estimate that is far too high must not empty what it never fits."""
    driven = Driven()
    driven.know("tokens", 6_000.0, 6_000.0)
    amounts = driven.buckets.amounts(Cost(50_000.0, 0.0), None)
    assert amounts.tokens == pytest.approx(1.01 * 6_000.0)
    assert driven.buckets.oversized(amounts)
    assert not driven.buckets.oversized(driven.buckets.amounts(Cost(6_000.0, 0.0), None))


def test_calls_that_seem_too_large_go_one_a_second() -> None:
    """Only the server can say that they never fit."""
    driven = Driven()
    driven.know("tokens", 6_000.0, 6_000.0)
    amounts = driven.buckets.amounts(Cost(50_000.0, 0.0), None)
    assert driven.buckets.ready(5.0, amounts, None) == 5.0
    driven.go(5.0, amounts.tokens)
    assert driven.buckets.ready(5.0, amounts, None) == 6.0
    assert driven.buckets.ready(6.0, amounts, None) == 6.0
