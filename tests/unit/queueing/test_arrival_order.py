"""A burst arrives in another order than it left, its answers come in yet another: nobody is held longer than the server asked."""

from __future__ import annotations

import itertools
import random

import pytest

from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.parsing.limits import LimitReading
from otel_ratelimit._core.queueing.admission import Admission
from otel_ratelimit._core.throttle import Throttle

LIMIT = 6000
COST = 1250
"""Four fit at once; the fifth has to wait 2.5 s."""
ORDERS = list(itertools.permutations(range(5)))


def burst(served: tuple[int, ...], answered: tuple[int, ...]) -> list[float]:
    """Seconds that the refused call was expected to wait for its turn, after each answer since its own."""
    admission = Admission()
    tickets = [admission.enter(0.0, Cost(0.0, COST), "normal") for _ in range(5)]
    left = {number: LIMIT - COST * (place + 1) for place, number in enumerate(served)}
    refused = served[4]
    left[refused] = left[served[3]]
    now, waits = 0.05, []
    for number in answered:
        now += 0.001
        remaining = left[number]
        reading = LimitReading("tokens", "", None, LIMIT, remaining, (LIMIT - remaining) / 100)
        ticket = tickets[number]
        if number == refused:
            throttle = Throttle(2.5, "body-message", "tokens", "minute", LIMIT, LIMIT - remaining, COST)
            admission.settle(ticket, Attempt(now, readings=[reading], throttle=throttle, succeeded=False))
            admission.requeue(ticket, now, now + 2.525)
        else:
            admission.settle(ticket, Attempt(now, readings=[reading], succeeded=True, used_tokens=COST))
            admission.leave(ticket, now)
        if tickets[refused].not_before is not None:
            waits.append(admission.turn(tickets[refused], now) - now)
    return waits


@pytest.mark.parametrize("served", ORDERS, ids=lambda served: "".join(map(str, served)))
def test_the_refused_call_waits_for_what_the_server_asked(served: tuple[int, ...]) -> None:
    """Every order of arrival; answered in that order, and in ten others."""
    draw = random.Random(str(served))
    for answered in (served, *draw.sample(ORDERS, 10)):
        waits = burst(served, answered)
        assert 2.4 < waits[-1] < 2.7, answered
        assert max(waits) < 2.7, answered
