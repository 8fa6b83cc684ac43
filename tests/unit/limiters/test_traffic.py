"""Our own traffic: what a usual call takes, and how many calls a second there were of late."""

from __future__ import annotations

import pytest

from otel_ratelimit._core.amounts import NOTHING, Amounts
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.limiters.limiter import Reservation
from otel_ratelimit._core.limiters.traffic import LEAST_RATE_TIME, MOST_WORK, RATE_TIME, Traffic


def sent(calls: int, tokens: float = 100.0) -> Traffic:
    """Traffic of so many calls, each of so many tokens."""
    traffic = Traffic()
    for _ in range(calls):
        traffic.latest += 1
        traffic.taken = traffic.taken.plus(Amounts(1.0, tokens, 60.0, 40.0))
    return traffic


def test_what_a_usual_call_takes() -> None:
    """The mean of what was taken and not given back; nothing before the first."""
    assert Traffic().typical(1) == 0.0
    traffic = sent(4)
    assert [traffic.typical(index) for index in range(4)] == [1.0, 100.0, 60.0, 40.0]
    reservation = Reservation.after(Cost(60.0, 40.0), None)
    reservation.amounts = Amounts(1.0, 100.0, 60.0, 40.0)
    traffic.give_back(reservation, 1)  # the request itself was counted
    assert traffic.returned == Amounts(0.0, 100.0, 60.0, 40.0)
    assert [traffic.typical(index) for index in range(4)] == [1.0, 75.0, 45.0, 30.0]


@pytest.mark.parametrize(("tokens", "work"), [(100.0, 1.0), (0.0, 0.5), (300.0, 2.0), (1e9, 0.5 + 0.5 * MOST_WORK)])
def test_a_call_in_units_of_a_usual_one(tokens: float, work: float) -> None:
    """Half by number, half by size, and never endlessly large."""
    traffic = sent(4)
    assert traffic.work_of(Amounts(1.0, tokens)) == work
    assert Traffic().work_of(Amounts(1.0, tokens)) == 1.0
    traffic.extra = 2.5
    assert traffic.work == 6.5


def test_the_rate_of_late() -> None:
    """Over ten seconds or more; a burst is no rate, and a quiet while still counts the stretch before it."""
    traffic = sent(1)
    traffic.measure(100.0)
    traffic.latest += 20
    assert traffic.rate(100.0) == 21 / LEAST_RATE_TIME
    assert traffic.rate(103.0) == 7.0
    assert traffic.rate(103.0, pause=4.0) == 3.0
    traffic.measure(110.0)  # twenty calls in ten seconds
    assert traffic.measure_at == 110.0 + RATE_TIME
    assert traffic.rate(112.0) == 2.0
    assert traffic.rate(110.0 + RATE_TIME) == pytest.approx(0.1)  # only the latest one since
    assert traffic.rate(1000.0) == 1.0 / RATE_TIME


def test_a_clock_that_is_set_back() -> None:
    """Measured on from there."""
    traffic = sent(1)
    traffic.measure(100.0)
    traffic.rewind(40.0)
    assert traffic.measure_at == 40.0 + RATE_TIME
    traffic.latest += 9
    assert traffic.rate(50.0) == 1.0
    assert traffic.taken.minus(traffic.taken) == NOTHING
