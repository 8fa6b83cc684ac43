"""How many calls go before the first answer."""

from __future__ import annotations

import pytest

from otel_ratelimit._core.limiters.cold_start import ColdStart
from otel_ratelimit._core.limiters.limiter import Cause
from otel_ratelimit._core.limiters.traffic import Traffic
from tests.helpers.limiters import CALL, end, let_go


def test_it_doubles_every_fifty_milliseconds() -> None:
    """24 at once, 48 after 50 ms, 96 after 100 ms."""
    traffic = Traffic()
    cold_start = ColdStart(traffic)
    times = []
    for _ in range(96):
        times.append(round(max(cold_start.ready(7.0, CALL, None), 7.0) - 7.0, 4))
        let_go(traffic, 7.0)
    assert times[23] == 0
    assert times[47] == 0.05
    assert times[95] == 0.1


@pytest.mark.parametrize(("cause", "answers"), [(Cause.UNEXPLAINED, 1), (Cause.EXHAUSTED, 1), (Cause.SERVED, 24)])
def test_it_is_over_with_a_refusal_or_after_many_answers_without_a_word(cause: Cause, answers: int) -> None:
    """A refusal may name the limit yet, so answers without headers end it only after as many as went at once."""
    traffic = Traffic()
    cold_start = ColdStart(traffic)
    calls = [let_go(traffic, 0.0) for _ in range(30)]
    for call in calls[:answers]:
        assert cold_start.on
        end(traffic, cold_start, call, 1.0, cause)
    assert not cold_start.on


def test_what_was_lost_says_nothing() -> None:
    """A connection that broke is no answer."""
    traffic = Traffic()
    cold_start = ColdStart(traffic)
    for _ in range(100):
        end(traffic, cold_start, let_go(traffic, 0.0), 1.0, Cause.LOST)
    assert cold_start.on
