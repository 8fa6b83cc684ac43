"""A rate found by trial for several buckets behind one address."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.limiters.limiter import Cause, Diagnosis
from otel_ratelimit._core.limiters.rate import MEMORY
from otel_ratelimit._core.limiters.several import TUNED, SeveralRate
from otel_ratelimit._core.limiters.traffic import Traffic
from otel_ratelimit._core.throttle import Throttle
from tests.helpers.limiters import CALL, let_go


class Driven:
    """The rate, the traffic that it reads, and a clock."""

    def __init__(self, known: float = 2.0) -> None:
        self.traffic = Traffic()
        self.limiter = SeveralRate(self.traffic)
        self.known = known
        self.now = 100.0

    def answer(self, cause: Cause, *, waiting: bool = True) -> None:
        """A call goes, and is answered at once."""
        call = let_go(self.traffic, self.now, limiter=self.limiter if self.limiter.on else None)
        self.traffic.in_flight.discard(call)
        throttle = None if cause is Cause.SERVED else Throttle(delay=1.0)
        attempt = Attempt(self.now, succeeded=throttle is None, throttle=throttle)
        self.limiter.settle(call, attempt, Diagnosis(cause, {}, waiting, several=self.known))

    def share(self, refused: int, calls: int = TUNED.window) -> None:
        """A window of so many refusals."""
        for number in range(calls):
            self.answer(Cause.ONE_OF_SEVERAL if number < refused else Cause.SERVED)


def test_it_is_off_until_buckets_are_some_of_several() -> None:
    """And starts at what they are known to allow."""
    limiter = SeveralRate(traffic := Traffic())
    call = let_go(traffic, 0.0)
    limiter.settle(call, Attempt(0.1, succeeded=True), Diagnosis(Cause.SERVED, {}, True))
    assert not limiter.on
    limiter.settle(call, Attempt(0.1, succeeded=True), Diagnosis(Cause.SERVED, {}, True, several=4.0))
    assert limiter.on
    assert limiter.rate == pytest.approx(4.0 * (1.0 + TUNED.start))


def test_more_that_is_learned_of_their_sum_starts_it_anew() -> None:
    """Another size was named."""
    driven = Driven(2.0)
    driven.answer(Cause.ONE_OF_SEVERAL)
    driven.known = 8.0
    driven.answer(Cause.ONE_OF_SEVERAL)
    assert driven.limiter.rate >= 8.0


def test_a_few_refusals_cut_nothing() -> None:
    """One in twenty is chance."""
    driven = Driven()
    driven.share(1)
    rate = driven.limiter.rate
    driven.share(1)
    driven.share(1)
    assert driven.limiter.rate > rate


def test_more_refusals_cut_to_what_was_served() -> None:
    """Half of the calls of a window: half of the rate is borne, and half of the tolerated share on top."""
    driven = Driven()
    for _ in range(TUNED.window + 1):
        driven.answer(Cause.SERVED, waiting=False)
    before = driven.limiter.rate
    for number in range(TUNED.window):
        driven.answer(Cause.ONE_OF_SEVERAL if number % 2 else Cause.SERVED, waiting=False)
    assert driven.limiter.rate == pytest.approx(before * 0.5 / (1.0 - 0.5 * TUNED.tolerated), rel=0.05)


def test_where_nearly_all_are_refused_it_is_one_bucket_after_all() -> None:
    """Of several, chance finds one with room more often."""
    driven = Driven()
    driven.answer(Cause.SERVED)
    driven.share(TUNED.window)
    driven.known = 0.0
    driven.share(TUNED.window)
    assert not driven.limiter.on


def test_it_is_off_again_after_long_peace() -> None:
    """Whatever it was is over."""
    driven = Driven()
    driven.answer(Cause.ONE_OF_SEVERAL)
    driven.now += MEMORY + 1.0
    driven.answer(Cause.SERVED)
    assert not driven.limiter.on


def test_no_more_than_a_second_of_it_is_saved_up() -> None:
    """A burst after a pause."""
    driven = Driven(10.0)
    driven.answer(Cause.SERVED, waiting=False)
    driven.now += 1_000.0
    for _ in range(10):
        assert driven.limiter.ready(driven.now, CALL, None) <= driven.now
        driven.limiter.take(driven.now, let_go(driven.traffic, driven.now))
    assert driven.limiter.ready(driven.now, CALL, None) > driven.now


def served_share(sizes: tuple[float, ...], seed: int) -> tuple[float, float]:
    """Buckets of so many calls a second each, which hold twenty seconds of it, met at random by as many calls as go: the share of
    their sum that is served in ten minutes, and refusals for each call served."""
    luck = random.Random(seed)
    driven = Driven(2.0 * sizes[0])
    levels, end = [0.0 for _ in sizes], driven.now + 600.0
    at = driven.now
    served = refused = 0
    driven.answer(Cause.SERVED)
    while driven.now < end:
        driven.now = max(driven.limiter.ready(driven.now, CALL, None), driven.now + 1e-6)
        levels = [min(level + (driven.now - at) * size, 20.0 * size) for level, size in zip(levels, sizes, strict=True)]
        at = driven.now
        met = luck.randrange(len(sizes))
        if levels[met] >= 1.0:
            levels[met] -= 1.0
            driven.answer(Cause.SERVED)
            served += 1
        else:
            driven.answer(Cause.ONE_OF_SEVERAL)
            refused += 1
    return served / (600.0 * sum(sizes)), refused / served


@pytest.mark.parametrize(("sizes", "least", "most"), [((1.0, 1.0, 1.0), 0.9, 0.2), ((1.0, 3.0, 6.0), 0.5, 0.5)])
def test_their_sum_is_used_with_few_refusals(sizes: tuple[float, ...], least: float, most: float) -> None:
    """Of equal ones nearly all. Of 1 : 3 : 6 a rate at which one in twelve is refused uses a third; that refusals stay as they
    are when less is sent shows that they are unequal. Means of ten runs."""
    runs = [served_share(sizes, seed) for seed in range(10)]
    assert statistics.mean(used for used, _ in runs) > least
    assert statistics.mean(refused for _, refused in runs) < most


def test_a_clock_that_is_set_back_holds_no_call_back() -> None:
    """For longer than a call takes."""
    driven = Driven()
    driven.answer(Cause.SERVED)
    driven.limiter.rewind(50.0, 50.0)
    assert driven.limiter.ready(50.0, CALL, None) < 51.0
    assert driven.limiter.expected(50.0, CALL) < math.inf
