"""The ceiling on growth after ``slow_down``."""

from __future__ import annotations

import pytest

from otel_ratelimit._core.limiters.growth import Growth
from otel_ratelimit._core.limiters.limiter import Cause
from otel_ratelimit._core.limiters.traffic import Traffic
from tests.helpers.limiters import CALL, end, let_go


def test_it_bends_the_growth_and_keeps_the_level() -> None:
    """Ten a second stay ten a second; after 15 minutes fifteen are allowed; told again, a little less than was reached."""
    traffic = Traffic()
    growth = Growth(traffic)
    calls = [let_go(traffic, 0.1 * number) for number in range(1, 1001)]
    end(traffic, growth, calls[-1], 100.0, Cause.GREW_TOO_FAST)
    start = growth.ceiling(100.0)
    assert start == pytest.approx(10.0, rel=0.02)
    assert growth.ceiling(1000.0) == pytest.approx(1.5 * start)
    end(traffic, growth, calls[-2], 200.0, Cause.GREW_TOO_FAST)  # sent before
    assert growth.ceiling(100.0) == start
    end(traffic, growth, let_go(traffic, 1000.0), 1000.0, Cause.GREW_TOO_FAST)
    ceiling = growth.ceiling(1000.0)
    assert ceiling == pytest.approx(0.9 * 1.5 * start)
    assert growth.ready(1000.0, CALL, None) == pytest.approx(1000 + 1 / ceiling)


def test_it_is_lifted_at_four_times_its_start() -> None:
    """An hour later it matters no longer."""
    traffic = Traffic()
    growth = Growth(traffic)
    assert not growth.on
    end(traffic, growth, let_go(traffic, 1000.0), 1000.0, Cause.GREW_TOO_FAST)
    assert growth.on
    assert growth.ready(1000.0 + 3600, CALL, None) == 4600.0
    assert not growth.on


def test_what_was_saved_up_is_no_more_than_a_second() -> None:
    """An idle minute allows no burst of a minute."""
    traffic = Traffic()
    growth = Growth(traffic)
    for number in range(1, 101):
        let_go(traffic, 0.1 * number)
    end(traffic, growth, let_go(traffic, 10.0), 10.0, Cause.GREW_TOO_FAST)
    let_go(traffic, 70.0, limiter=growth)
    ceiling = growth.ceiling(70.0)
    gone = 1
    while growth.ready(70.0, CALL, None) <= 70.0:
        let_go(traffic, 70.0, limiter=growth)
        gone += 1
    assert gone <= ceiling + 1
