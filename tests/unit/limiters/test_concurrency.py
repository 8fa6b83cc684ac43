"""How many calls may be in flight, where the server refuses for what it has to bear at a time."""

from __future__ import annotations

import itertools
import math

from otel_ratelimit._core.limiters.concurrency import Concurrency
from otel_ratelimit._core.limiters.limiter import Cause, Reservation
from otel_ratelimit._core.limiters.traffic import Traffic
from otel_ratelimit._core.throttle import Throttle
from tests.helpers.limiters import CALL, end, let_go

SAID = Throttle(kind="concurrency")
"""The server speaks of calls at a time."""


def limited(in_flight: int) -> tuple[Traffic, Concurrency, list[Reservation]]:
    """So many are in flight, and the first of them was refused."""
    traffic = Traffic()
    limiter = Concurrency(traffic)
    calls = [let_go(traffic, 0.0) for _ in range(in_flight)]
    end(traffic, limiter, calls[0], 0.1, Cause.TOO_MANY_AT_ONCE, throttle=SAID)
    return traffic, limiter, calls[1:]


def test_without_a_refusal_there_is_no_bound() -> None:
    """However many are in flight."""
    traffic = Traffic()
    limiter = Concurrency(traffic)
    for _ in range(100):
        let_go(traffic, 0.0)
    assert limiter.most == math.inf
    assert limiter.ready(0.0, CALL, None) == 0.0


def test_what_is_in_flight_when_the_refusals_have_landed_is_what_it_bears() -> None:
    """Of 64 at once, 54 are refused at once, and ten are being served."""
    traffic, limiter, others = limited(64)
    for call in others[:53]:
        end(traffic, limiter, call, 0.1, Cause.TOO_MANY_AT_ONCE, throttle=SAID)
    assert limiter.most == 10
    assert limiter.ready(0.2, CALL, None) == math.inf  # the next one goes after an answer
    end(traffic, limiter, others[60], 1.0, Cause.SERVED)
    assert limiter.ready(1.0, CALL, None) == 1.0


def test_a_word_of_overload_alone_leaves_half() -> None:
    """It may be about something else, a limit of tokens, say: then what is in flight says little."""
    traffic = Traffic()
    limiter = Concurrency(traffic)
    for call in [let_go(traffic, 0.0) for _ in range(20)]:
        end(traffic, limiter, call, 0.1, Cause.TOO_MANY_AT_ONCE, throttle=Throttle(kind="overload"))
    assert limiter.most == 10


def test_one_more_is_tried_ever_more_seldom_if_it_is_refused() -> None:
    """After 5 answers at the full level, then after 10, 20, 40: less than one refusal in forty calls in the long run."""
    traffic, limiter, others = limited(64)
    for call in others[:53]:
        end(traffic, limiter, call, 0.1, Cause.TOO_MANY_AT_ONCE, throttle=SAID)
    running, refused, tries = others[53:], 0, []
    for served in range(2_000):
        while limiter.ready(1.0, CALL, None) <= 1.0:
            call = let_go(traffic, 1.0)
            if len(traffic.in_flight) > 10:
                end(traffic, limiter, call, 1.0, Cause.TOO_MANY_AT_ONCE, throttle=SAID)
                refused += 1
                tries.append(served)
            else:
                running.append(call)
        end(traffic, limiter, running.pop(0), 1.0, Cause.SERVED)
    gaps = [later - sooner for sooner, later in itertools.pairwise(tries)]
    assert gaps == sorted(gaps)
    assert refused <= 10


def test_a_try_that_is_served_is_followed_by_others() -> None:
    """The limit was raised: every five answers one more, those of the ten aside that left before the refusal."""
    traffic, limiter, others = limited(11)
    running = others
    assert limiter.most == 10
    for _ in range(40):
        while limiter.ready(1.0, CALL, None) <= 1.0:
            running.append(let_go(traffic, 1.0))
        end(traffic, limiter, running.pop(0), 1.0, Cause.SERVED)
    assert limiter.most == 10 + (40 - 10) // 5


def test_it_never_closes_and_is_dropped_in_the_end() -> None:
    """One at a time always goes, and after long success there is no bound."""
    traffic, limiter, _ = limited(1)
    for _ in range(50):
        end(traffic, limiter, let_go(traffic, 1.0), 1.1, Cause.TOO_MANY_AT_ONCE, throttle=SAID)
    assert limiter.most == 1
    assert limiter.ready(1.1, CALL, None) == 1.1
    for _ in range(2000):
        while len(traffic.in_flight) + 1 < limiter.most < 1e9:
            let_go(traffic, 2.0)
        end(traffic, limiter, let_go(traffic, 2.0), 2.1, Cause.SERVED)
    assert limiter.most == math.inf
    assert not limiter.on
