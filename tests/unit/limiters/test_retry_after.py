"""The time before which the server wants no call, and the evidence for it."""

from __future__ import annotations

import math

import pytest

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.limiters.limiter import Cause
from otel_ratelimit._core.limiters.retry_after import BUFFER, RetryAfter
from otel_ratelimit._core.limiters.traffic import Traffic
from tests.helpers.limiters import CALL, end, let_go


def test_others_come_a_buffer_after_the_delay() -> None:
    """Delays are cut to whole milliseconds: at their very end a call would be early."""
    traffic = Traffic()
    limiter = RetryAfter(traffic)
    end(traffic, limiter, let_go(traffic, 0.0), 0.1, Cause.UNEXPLAINED, delay=5.0)
    assert limiter.on
    assert limiter.ready(0.2, CALL, None) == 5.1 + BUFFER > 5.1


def test_a_refusal_that_a_bucket_explains_closes_nothing_but_is_evidence() -> None:
    """The bucket knows when the next call fits; a caller with little patience wants to know what the server said."""
    traffic = Traffic()
    limiter = RetryAfter(traffic)
    end(traffic, limiter, let_go(traffic, 0.0), 0.1, Cause.EXHAUSTED, delay=5.0)
    assert not limiter.on
    assert limiter.evidence is not None
    assert (limiter.evidence.until, limiter.evidence.at, limiter.evidence.tokens) == (5.1, 0.1, 1_000.0)


def test_a_success_that_left_later_opens_it() -> None:
    """One that had left before the refusal does not."""
    traffic = Traffic()
    limiter = RetryAfter(traffic)
    before, refused = let_go(traffic, 0.0), let_go(traffic, 0.0)
    end(traffic, limiter, refused, 0.1, Cause.UNEXPLAINED, delay=600.0)
    end(traffic, limiter, before, 0.2, Cause.SERVED)
    assert limiter.on
    assert limiter.evidence is not None
    end(traffic, limiter, let_go(traffic, 1.0), 1.1, Cause.SERVED)
    assert not limiter.on
    assert limiter.until == -math.inf
    assert limiter.evidence is None


def test_a_clock_that_is_set_back_takes_the_time_with_it() -> None:
    """Nobody waits for the hour between."""
    traffic = Traffic()
    limiter = RetryAfter(traffic)
    end(traffic, limiter, let_go(traffic, 10_000.0), 10_000.0, Cause.UNEXPLAINED, delay=5.0)
    limiter.rewind(6_400.0, 3_600.0)
    assert limiter.until == 6_405.0 + BUFFER
    assert limiter.evidence is not None
    assert limiter.evidence.until == 6_405.0


def test_a_probe_that_is_refused_closes_it_for_no_longer() -> None:
    """A server that tells everyone a minute tells it at the end of a minute as well."""
    traffic = Traffic()
    limiter = RetryAfter(traffic)
    end(traffic, limiter, let_go(traffic, 0.0), 0.1, Cause.UNEXPLAINED, delay=60.0)
    probe = let_go(traffic, 5.0)
    probe.probe = True
    end(traffic, limiter, probe, 5.1, Cause.UNEXPLAINED, delay=60.0)
    assert limiter.until == 60.1 + BUFFER


@pytest.mark.parametrize(("delay", "now", "may"), [(60.0, 9.0, True), (60.0, 9.2, False), (86_400.0, 5_000.0, True)])
def test_a_probe_goes_early_in_a_delay_or_not_at_all(delay: float, now: float, may: bool) -> None:
    """It waits for what it is told, from then on: late in a minute, that is nearly two. A day is asked about all the time."""
    traffic = Traffic()
    limiter = RetryAfter(traffic)
    assert limiter.may_be_probed(0.0)
    end(traffic, limiter, let_go(traffic, 0.0), 0.1, Cause.UNEXPLAINED, delay=delay)
    assert limiter.may_be_probed(now) is may


def told(traffic: Traffic, limiter: RetryAfter, now: float) -> None:
    """A call is told a minute, and another one is served within it."""
    end(traffic, limiter, let_go(traffic, now), now, Cause.UNEXPLAINED, delay=60.0)
    end(traffic, limiter, let_go(traffic, now + 3.0), now + 3.0, Cause.SERVED)


def test_delays_that_are_contradicted_bind_the_refused_call_alone() -> None:
    """Two calls in a row were told a minute, and others were served within it: the third is its own."""
    traffic = Traffic()
    limiter = RetryAfter(traffic)
    for now in (0.0, 100.0):
        told(traffic, limiter, now)
    end(traffic, limiter, let_go(traffic, 200.0), 200.0, Cause.UNEXPLAINED, delay=60.0)
    assert not limiter.on
    for now in (203.0, 204.0):  # those who go on are refused as well: it is about all
        end(traffic, limiter, let_go(traffic, now), now, Cause.UNEXPLAINED, delay=60.0)
    assert limiter.on


def test_a_smaller_call_that_is_served_contradicts_nothing() -> None:
    """It may fit where the refused one does not."""
    traffic = Traffic()
    limiter = RetryAfter(traffic)
    small = Amounts(1.0, 10.0, 10.0)
    for now in (0.0, 100.0, 200.0):
        end(traffic, limiter, let_go(traffic, now), now, Cause.UNEXPLAINED, delay=60.0)
        assert limiter.on
        end(traffic, limiter, let_go(traffic, now + 3.0, small), now + 3.0, Cause.SERVED)
