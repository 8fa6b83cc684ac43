"""All limiters asked together: reservations are conserved, and what is shown of the limits is what they hold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ratelimit._core.amounts import NOTHING
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.limiters.combined import CombinedLimiter
from otel_ratelimit._core.limiters.limiter import Reservation
from otel_ratelimit._core.parsing.limits import LimitReading
from otel_ratelimit._core.throttle import Throttle

COST = Cost(100.0, 900.0)


def reading(remaining: float, limit: float = 60_000.0) -> LimitReading:
    return LimitReading("tokens", "", "minute", limit, remaining, (limit - remaining) * 60.0 / limit)


def take(limiter: CombinedLimiter, now: float, *, fast: bool = False) -> Reservation:
    reservation = Reservation.after(COST, None)
    if not (fast and limiter.take_fast(now, reservation)):
        limiter.take(now, limiter.amounts(COST), reservation)
    return reservation


ACTIONS = st.tuples(
    st.sampled_from(["take", "fast", "serve", "refuse", "lose", "cancel", "abandon"]),
    st.floats(0.0, 20.0),
    st.integers(0, 9),
)


@settings(deadline=None)
@given(st.lists(ACTIONS, max_size=80))
def test_reservations_are_conserved(actions: list[tuple[str, float, int]]) -> None:
    """Whatever happens in whatever order: taken is settled, cancelled, abandoned or in flight, and what came back is what was
    never used.
    """
    limiter = CombinedLimiter()
    held: list[Reservation] = []
    taken = cancelled = NOTHING
    now, ended = 0.0, 0
    for action, seconds, which in actions:
        now += seconds
        if action in ("take", "fast") or not held:
            held.append(take(limiter, now, fast=action == "fast"))
            taken = taken.plus(held[-1].amounts)
        else:
            reservation = held.pop(which % len(held))
            ended += 1
            if action == "serve":
                attempt = Attempt(now, True, readings=(reading(30_000.0),), used_tokens=1_000)
                limiter.settle(reservation, attempt, waiting=False)
            elif action == "refuse":
                throttle = Throttle(2.0, "body-message", "tokens", "minute", 60_000.0, 59_900.0, 1_000.0)
                limiter.settle(reservation, Attempt(now, False, throttle=throttle), waiting=True)
            elif action == "lose":
                limiter.settle(reservation, Attempt(now, False), waiting=False)
            elif action == "abandon":
                limiter.abandon(reservation)
            else:
                cancelled = cancelled.plus(reservation.amounts)
                limiter.cancel(reservation)
        assert limiter.traffic.in_flight == set(held)
        assert limiter.traffic.latest == ended + len(held)
        assert limiter.traffic.taken == pytest.approx(taken)
        assert all(back >= never - 1e-6 for back, never in zip(limiter.traffic.returned, cancelled, strict=True))


def test_what_is_shown_of_a_limit() -> None:
    """Its name, what is left of it now, and the seconds until it is full."""
    limiter = CombinedLimiter()
    reservation = take(limiter, 100.0)
    limiter.settle(reservation, Attempt(100.5, True, readings=(reading(30_000.0),), used_tokens=1_000), waiting=False)
    (level,) = limiter.levels(100.0)
    assert (level.kind, level.scope, level.window, level.limit) == ("tokens", "", 60.0, 60_000.0)
    assert level.remaining == pytest.approx(30_000.0)
    assert level.reset == pytest.approx(30.0)
    (later,) = limiter.levels(110.0)
    assert later.remaining == pytest.approx(40_000.0)
    assert later.reset == pytest.approx(20.0)
    take(limiter, 110.0)
    (taken,) = limiter.levels(110.0)
    assert taken.remaining == pytest.approx(40_000.0 - limiter.amounts(COST).tokens)
    (full,) = limiter.levels(1_000.0)
    assert (full.remaining, full.reset) == (60_000.0, 0.0)
