"""What is done where the server names no numbers: the pacer, the crowd, the ramp and the cold start."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.gates import Gates
from otel_ratelimit._core.pacer import LEAST_RATE, Crowd, Pacer, Ramp
from otel_ratelimit._core.queueing.ticket import Ticket


def refuse(pacer: Pacer, at: float, sent: int, *, before: float, measured: float = 10.0, until: float = 0.0) -> None:
    pacer.refused(
        at, before, sent, now=at + 0.06, spent_now=before + 1, last_sent=sent,
        measured=measured, until=max(until, at + 0.06), alone=True,
    )  # fmt: skip


def test_it_is_off_until_the_first_refusal() -> None:
    """A server that never refuses is never paced."""
    assert not Pacer().on
    assert not Ramp().on
    assert Crowd().most == math.inf
    assert not Gates(24, 0.05).gated


def test_the_first_refusal_starts_below_what_was_measured() -> None:
    """What was measured then is the burst of a full bucket: a fifth of it. Another is in flight beside it, half a call
    was left, so one and a half are owed, and the next goes when two and a half have flown in."""
    pacer = Pacer()
    pacer.refused(5.0, 49, 50, now=5.06, spent_now=51, last_sent=51, measured=10, until=5.06, alone=False)
    assert pacer.rate == 2.0
    assert pacer.ready(5.06, 1.0) == pytest.approx(5.0 + (1 - (0.5 - 2)) / 2)


def test_a_lone_call_is_held_no_longer_than_its_own_hint() -> None:
    """Told 564 ms, nothing else in flight: one call may go when they are over, whatever was measured."""
    pacer = Pacer()
    refuse(pacer, 5.0, 1, before=0, measured=0.1, until=5.624)
    assert pacer.ready(5.06, 1.0) == pytest.approx(5.624)


def test_a_lone_caller_is_never_held_for_longer_and_longer() -> None:
    """Each of its calls is refused once, whatever its pace, and told 50 ms: the next waits for ten times that at most."""
    pacer = Pacer()
    now = 0.0
    for sent in range(1, 200, 2):
        refuse(pacer, now, sent, before=sent - 1, until=now + 0.11)
        now += 0.11
        pacer.take(now, 1.0)
        pacer.passed(sent + 1, now, waiting=False)
        went = pacer.ready(now, 1.0)
        assert went - now <= 0.5 + 1e-9
        now = went
        pacer.take(now, 1.0)


def test_refusals_far_apart_measure_the_rate() -> None:
    """99.5 calls passed in 50 s between two refusals: two a second, whatever it was before (but no more than 5 % less)."""
    pacer = Pacer()
    refuse(pacer, 0.0, 1, before=0, measured=11)
    refuse(pacer, 50.0, 101, before=99.5)
    assert pacer.rate == pytest.approx(2.0)


def test_a_refusal_sent_under_an_older_rate_cuts_nothing() -> None:
    """Those that were in flight when the rate was cut say nothing of the new one."""
    pacer = Pacer()
    pacer.refused(5.0, 9, 10, now=5.1, spent_now=40, last_sent=40, measured=10, until=5.1, alone=False)
    rate = pacer.rate
    pacer.refused(5.0, 11, 12, now=5.2, spent_now=40, last_sent=40, measured=10, until=5.2, alone=False)
    assert pacer.rate == rate


def test_it_grows_only_if_the_rate_is_used() -> None:
    """Successes while nobody waits, or of calls sent before the cut, are neutral."""
    pacer = Pacer()
    refuse(pacer, 5.0, 50, before=49)
    rate = pacer.rate
    pacer.passed(51, 6.0, waiting=False)
    pacer.passed(50, 6.0, waiting=True)
    assert pacer.rate == rate
    pacer.passed(52, 6.0, waiting=True)
    assert pacer.rate > rate


def test_it_returns_to_the_refused_rate_in_some_sixty_calls_and_then_crawls() -> None:
    """Quick up to the rate that failed, slow beyond."""
    pacer = Pacer()
    refuse(pacer, 5.0, 50, before=49)
    calls = 0
    while pacer.rate < 10:
        pacer.passed(51 + calls, 6.0, waiting=True)
        calls += 1
    assert 30 <= calls <= 60
    pacer.passed(200, 6.0, waiting=True)
    assert pacer.rate < 10.7


def test_it_is_off_again_after_a_quarter_of_an_hour() -> None:
    """Without a refusal for that long, whatever it was is over."""
    pacer = Pacer()
    refuse(pacer, 5.0, 50, before=49)
    pacer.passed(51, 906.0, waiting=True)
    assert not pacer.on


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e4), st.booleans()), max_size=60))
def test_every_wait_is_finite(steps: list[tuple[float, float, bool]]) -> None:
    """However often it is refused: nobody is told to wait for ever."""
    pacer = Pacer()
    now = 0.0
    for sent, (gap, measured, refused) in enumerate(steps, 1):
        now += gap
        if refused:
            refuse(pacer, now, sent, before=sent - 1, measured=measured)
        else:
            pacer.passed(sent, now, waiting=True)
        if pacer.on:
            assert pacer.rate >= LEAST_RATE
            assert now <= pacer.ready(now, 1.0) <= now + 3 / LEAST_RATE


def test_an_overload_cuts_the_crowd_once_a_generation() -> None:
    """Of 20 in flight that all fail, the first cuts to 17, the others say the same thing."""
    crowd = Crowd()
    for sent in range(1, 21):
        crowd.overloaded(sent, 20, 20)
    assert crowd.most == 17
    crowd.overloaded(21, 17, 37)
    assert crowd.most == 14


def test_the_crowd_grows_by_one_a_round_when_it_is_full() -> None:
    """And not when it is not."""
    crowd = Crowd()
    crowd.overloaded(1, 20, 20)
    crowd.passed(21, 3)
    assert crowd.most == 17
    for sent in range(17):
        crowd.passed(22 + sent, 17)
    assert crowd.most == pytest.approx(18, abs=0.1)


def test_the_crowd_never_closes() -> None:
    """One at a time always goes, and after long success there is no bound."""
    crowd = Crowd()
    for sent in range(1, 100):
        crowd.overloaded(sent, 1, sent)
    assert crowd.most == 1
    for sent in range(100, 2000):
        crowd.passed(sent, int(min(crowd.most, 1e9)))
    assert crowd.most == math.inf


def test_slow_down_bends_the_ramp_and_keeps_the_level() -> None:
    """Ten a second stay ten a second; after 15 minutes fifteen are allowed."""
    ramp = Ramp()
    ramp.slow_down(10, 100.0, 10, 10.0)
    assert ramp.rate(100.0) == 10
    assert ramp.rate(1000.0) == pytest.approx(15)
    ramp.slow_down(9, 200.0, 20, 99.0)  # sent before
    assert ramp.rate(100.0) == 10
    ramp.slow_down(30, 1000.0, 30, 99.0)  # told again: a little less than what was reached
    assert ramp.rate(1000.0) == pytest.approx(13.5)
    assert ramp.ready(1000.0, 1.0) == pytest.approx(1000 + 1 / 13.5)
    assert ramp.ready(1000.0 + 3600, 1.0) == 4600.0
    assert not ramp.on


def test_the_cold_start_doubles_every_fifty_milliseconds() -> None:
    """24 at once, 48 after 50 ms, 96 after 100 ms; all once the server has answered."""
    gates = Gates(24, 0.05)
    times = []
    for _ in range(96):
        at = gates.when(1.0, 7.0)
        times.append(round(at - 7.0, 4))
        gates.count(Ticket(Cost(), "normal", 0), 7.0)
    assert times[23] == 0
    assert times[47] == 0.05
    assert times[95] == 0.1
    gates.known = True
    assert gates.when(1.0, 7.0) == 7.0
