"""How many calls may be in flight, where the server refuses for what it has to bear at a time."""

from __future__ import annotations

import math

from otel_ratelimit._core.limiters.concurrency import Concurrency
from otel_ratelimit._core.limiters.limiter import Cause, Reservation
from otel_ratelimit._core.limiters.traffic import Traffic
from tests.helpers.limiters import CALL, end, let_go


def limited(in_flight: int) -> tuple[Traffic, Concurrency, list[Reservation]]:
    """So many are in flight, and the first of them was refused."""
    traffic = Traffic()
    limiter = Concurrency(traffic)
    calls = [let_go(traffic, 0.0) for _ in range(in_flight)]
    end(traffic, limiter, calls[0], 0.1, Cause.TOO_MANY_AT_ONCE)
    return traffic, limiter, calls[1:]


def test_without_a_refusal_there_is_no_bound() -> None:
    """However many are in flight."""
    traffic = Traffic()
    limiter = Concurrency(traffic)
    for _ in range(100):
        let_go(traffic, 0.0)
    assert limiter.most == math.inf
    assert limiter.ready(0.0, CALL, None) == 0.0


def test_a_refusal_cuts_once_a_generation() -> None:
    """Of 20 in flight that all fail, the first cuts to 17, the others say the same thing."""
    traffic, limiter, others = limited(20)
    for call in others:
        end(traffic, limiter, call, 0.1, Cause.TOO_MANY_AT_ONCE)
    assert limiter.most == 17
    later = [let_go(traffic, 1.0) for _ in range(17)]
    assert limiter.ready(1.0, CALL, None) == math.inf  # the next one goes after an answer
    end(traffic, limiter, later[0], 1.1, Cause.TOO_MANY_AT_ONCE)
    assert limiter.most == 14


def test_it_grows_by_one_a_round_when_it_is_full() -> None:
    """And not when it is not."""
    traffic, limiter, others = limited(20)
    for call in others:
        traffic.in_flight.discard(call)
    end(traffic, limiter, let_go(traffic, 1.0), 1.1, Cause.SERVED)
    assert limiter.most == 17
    calls: list[Reservation] = []
    for _ in range(17):
        while limiter.ready(2.0, CALL, None) <= 2.0:
            calls.append(let_go(traffic, 2.0))
        end(traffic, limiter, calls.pop(0), 2.1, Cause.SERVED)
    assert 17.8 < limiter.most < 18.1


def test_it_never_closes_and_is_dropped_in_the_end() -> None:
    """One at a time always goes, and after long success there is no bound."""
    traffic, limiter, _ = limited(1)
    for _ in range(50):
        end(traffic, limiter, let_go(traffic, 1.0), 1.1, Cause.TOO_MANY_AT_ONCE)
    assert limiter.most == 1
    assert limiter.ready(1.1, CALL, None) == 1.1
    for _ in range(2000):
        while len(traffic.in_flight) + 1 < limiter.most < 1e9:
            let_go(traffic, 2.0)
        end(traffic, limiter, let_go(traffic, 2.0), 2.1, Cause.SERVED)
    assert limiter.most == math.inf
    assert not limiter.on
