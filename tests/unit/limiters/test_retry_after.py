"""The time before which the server wants no call, and the evidence for it."""

from __future__ import annotations

import math

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
