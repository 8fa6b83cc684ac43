"""A limiter driven by hand: reservations, answers and diagnoses without a server."""

from __future__ import annotations

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.limiters.limiter import Cause, Diagnosis, Limiter, Reservation
from otel_ratelimit._core.limiters.traffic import Traffic
from otel_ratelimit._core.throttle import Throttle

CALL = Amounts(1.0, 1_000.0, 1_000.0)


def let_go(traffic: Traffic, now: float, amounts: Amounts = CALL, *, limiter: Limiter | None = None) -> Reservation:
    """A call goes at ``now``."""
    reservation = Reservation.after(Cost(amounts.input, amounts.output), None)
    traffic.taken = reservation.taken = traffic.taken.plus(amounts)
    traffic.latest = reservation.sequence = traffic.latest + 1
    reservation.amounts, reservation.taken_at = amounts, now
    traffic.in_flight.add(reservation)
    if now > traffic.measure_at:
        traffic.measure(now)
    if limiter is not None:
        limiter.take(now, reservation)
    return reservation


def end(
    traffic: Traffic,
    limiter: Limiter,
    reservation: Reservation,
    now: float,
    cause: Cause,
    *,
    delay: float | None = None,
    waiting: bool = False,
    throttle: Throttle | None = None,
) -> None:
    """Its answer comes at ``now`` and is diagnosed as ``cause``."""
    traffic.in_flight.discard(reservation)
    if throttle is None and cause not in (Cause.SERVED, Cause.REJECTED, Cause.LOST):
        throttle = Throttle(delay=delay)
    attempt = Attempt(now, succeeded=cause is Cause.SERVED, throttle=throttle)
    limiter.settle(reservation, attempt, Diagnosis(cause, {}, waiting, delay))
