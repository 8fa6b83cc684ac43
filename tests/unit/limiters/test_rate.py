"""The rate that is found by trial, where the server names no numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ratelimit._core.limiters.limiter import Cause
from otel_ratelimit._core.limiters.rate import LEAST_RATE, Rate
from otel_ratelimit._core.limiters.traffic import Traffic
from tests.helpers.limiters import CALL, end, let_go


class Driven:
    """A trial rate and the traffic that it reads."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self.rate = Rate(self.traffic)

    def refuse(self, now: float, *, delay: float | None = None, waiting: bool = False) -> None:
        """A call goes, and is refused 60 ms later."""
        end(
            self.traffic,
            self.rate,
            let_go(self.traffic, now),
            now + 0.06,
            Cause.UNEXPLAINED,
            delay=delay,
            waiting=waiting,
        )

    def serve(self, now: float, *, waiting: bool = True) -> None:
        """A call goes, and is served."""
        end(self.traffic, self.rate, let_go(self.traffic, now), now, Cause.SERVED, waiting=waiting)

    def ready(self, now: float) -> float:
        return self.rate.ready(now, CALL, None)


def test_it_is_off_until_the_first_refusal() -> None:
    """A server that never refuses is never paced."""
    driven = Driven()
    driven.serve(1.0)
    assert not driven.rate.on


def test_the_first_refusal_starts_below_what_was_measured() -> None:
    """What was measured then is the burst of a full bucket: 50 calls in 5 s, so a fifth of ten a second. Another is in flight
    beside it, half a call was left, so half a call is owed, and the next goes when one and a half have flown in."""
    driven = Driven()
    first = [let_go(driven.traffic, 0.1 * number) for number in range(50)]
    refused = let_go(driven.traffic, 5.0)
    let_go(driven.traffic, 5.01)
    for reservation in first:
        driven.traffic.in_flight.discard(reservation)
    end(driven.traffic, driven.rate, refused, 5.06, Cause.UNEXPLAINED)
    assert driven.rate.rate == pytest.approx(0.2 * 52 / 5.06)
    assert driven.ready(5.06) == pytest.approx(5.0 + (1 - (0.5 - 2)) / driven.rate.rate)


def test_a_lone_call_is_held_no_longer_than_its_own_delay() -> None:
    """Told 564 ms, nothing else in flight: one call may go when they are over, whatever was measured."""
    driven = Driven()
    driven.refuse(5.0, delay=0.564)
    assert driven.ready(5.06) == pytest.approx(5.624)


def test_a_lone_caller_is_never_held_for_longer_and_longer() -> None:
    """Each of its calls is refused once, whatever its pace, and told 50 ms: the next waits for ten times that at most."""
    driven = Driven()
    now = 0.0
    for _ in range(100):
        driven.refuse(now, delay=0.05)
        now += 0.11
        end(driven.traffic, driven.rate, let_go(driven.traffic, now, limiter=driven.rate), now, Cause.SERVED)
        went = driven.ready(now)
        assert went - now <= 0.5 + 1e-9
        now = went


def test_refusals_far_apart_measure_the_rate() -> None:
    """100 calls passed in 50 s between two refusals: two a second, whatever it was before."""
    driven = Driven()
    for number in range(200):
        driven.serve(0.05 * number, waiting=False)
    driven.refuse(10.0)
    for number in range(100):
        driven.serve(10.1 + 0.49 * number)
    driven.rate.rate = 5.0
    driven.refuse(60.0)
    assert driven.rate.rate == pytest.approx(2.5)  # half of the old rate at least
    driven.rate.rate = 2.2
    for number in range(100):
        driven.serve(60.1 + 0.49 * number)
    driven.rate.rate = 2.2
    driven.refuse(110.0)
    assert driven.rate.rate == pytest.approx(2.0, rel=0.02)


def cut_at(rate: float, served: int) -> Driven:
    """Refused at 5.0; at ``rate`` so many were served within a second, and the next one was refused. (Half a call beside.)"""
    driven = Driven()
    driven.refuse(5.0)
    driven.rate.rate = rate
    for number in range(served):
        driven.serve(5.0 + (number + 1) / (served + 1), waiting=False)
    driven.refuse(6.0, waiting=True)
    return driven


@pytest.mark.parametrize(
    ("rate", "served", "left"),
    [
        (
            8.0,
            10,
            8.0 * (1.0 - 0.5 / (1.0 + 11.5 / 10.0)),
        ),  # 11.5 a second passed: no less than it was, and cut all the same
        (80.0, 100, 80.0 * (1.0 - 0.5 / (1.0 + 101.5 / 10.0))),  # after a hundred calls a little too high
        (12.0, 7, 8.5),  # what was measured
        (30.0, 10, 15.0),  # half at most
        (1.0, 0, 1.5 * (1.0 - 0.5 / (1.0 + 1.5 / 10.0)) / 1.5),
    ],
)
def test_a_cut_goes_by_what_passed_since_the_last_one(rate: float, served: int, left: float) -> None:
    """Calls let through over the time between two refusals; half of it at least, and less than it was."""
    assert cut_at(rate, served).rate.rate == pytest.approx(left)


@pytest.mark.parametrize(("delay", "least"), [(0.05, 2.0), (0.5, 2.0 / 3.0), (10.0, 1.0 / 30.0)])
def test_a_call_is_held_for_three_times_the_servers_own_delay_at_most(delay: float, least: float) -> None:
    """However often all are refused, none of them served."""
    driven = Driven()
    for number in range(60):
        driven.refuse(5.0 + 100.0 * number, delay=delay, waiting=True)
    assert driven.rate.rate == pytest.approx(least)


def test_after_a_closed_door_the_rate_before_it_is_found_quickly() -> None:
    """One was served at 8 a second; then nine refusals in a row, however slow. The next served one raises it by half, up to 0.7
    of the rate before for each refusal at the closed door."""
    driven = Driven()
    driven.refuse(5.0)
    driven.rate.rate = 8.0
    driven.serve(5.5)
    before = driven.rate.rate
    driven.refuse(6.0, waiting=True)
    driven.refuse(20.0, waiting=True)
    driven.refuse(40.0, waiting=True)
    rate = driven.rate.rate
    threshold = 0.7 * 0.7 * before
    assert rate < 0.5 * threshold
    driven.serve(41.0)
    assert driven.rate.rate == pytest.approx(1.5 * rate)
    for _ in range(10):
        driven.serve(42.0)
        if driven.rate.rate == pytest.approx(threshold):
            break
    else:
        pytest.fail("it never stops there")
    driven.serve(43.0)
    assert threshold < driven.rate.rate < 1.2 * threshold


def test_each_call_beyond_the_refused_rate_grows_it_by_a_thousandth_and_more_and_more() -> None:
    """Compounding with the calls since: about one call in forty is the probe that is refused."""
    driven = Driven()
    driven.refuse(5.0)
    rate = driven.rate.rate = 100.0
    for number in range(1, 4):
        driven.serve(6.0)
        rate *= 1.0 + 0.001 * (1.0 + number / 100.0)
        assert driven.rate.rate == pytest.approx(rate)


def test_what_a_second_lets_go_is_saved_up_while_no_call_waits() -> None:
    """No more: five calls at five a second; a call at less than one."""
    driven = Driven()
    driven.refuse(5.0)
    driven.rate.rate = 10.0
    for number in range(9):
        driven.serve(5.1 + 0.1 * number)
    driven.refuse(6.0, waiting=True)
    burst = driven.rate.rate
    gone = 0
    while driven.ready(500.0) <= 500.0:
        driven.rate.take(500.0, let_go(driven.traffic, 500.0))
        gone += 1
    assert gone == int(burst)


def test_the_work_of_a_call_that_is_refused_alone_is_given_back() -> None:
    """Others need not pay for it."""
    driven = Driven()
    driven.refuse(5.0)
    while driven.ready(6.0) <= 6.0:
        let_go(driven.traffic, 6.0, limiter=driven.rate)
    before = driven.ready(6.0)
    odd = let_go(driven.traffic, 6.0, limiter=driven.rate)
    assert driven.ready(6.0) > before
    end(driven.traffic, driven.rate, odd, 6.0, Cause.ITS_OWN)
    assert driven.ready(6.0) == pytest.approx(before)


def test_a_refusal_sent_under_an_older_rate_cuts_nothing() -> None:
    """Those that were in flight when the rate was cut say nothing of the new one."""
    driven = Driven()
    calls = [let_go(driven.traffic, 5.0) for _ in range(40)]
    end(driven.traffic, driven.rate, calls[9], 5.1, Cause.UNEXPLAINED)
    rate = driven.rate.rate
    end(driven.traffic, driven.rate, calls[11], 5.2, Cause.UNEXPLAINED)
    assert driven.rate.rate == rate


def test_it_grows_only_if_the_rate_is_used() -> None:
    """Successes while no call waits, or of calls sent before the cut, are neutral."""
    driven = Driven()
    before = let_go(driven.traffic, 4.0)
    driven.refuse(5.0)
    rate = driven.rate.rate
    driven.serve(6.0, waiting=False)
    end(driven.traffic, driven.rate, before, 6.0, Cause.SERVED, waiting=True)
    assert driven.rate.rate == rate
    driven.serve(6.0)
    assert driven.rate.rate > rate


def test_it_returns_to_the_refused_rate_in_some_thirty_calls_and_then_crawls() -> None:
    """Quick up to the rate that failed, slow beyond."""
    driven = Driven()
    for number in range(50):
        let_go(driven.traffic, 0.1 * number)
    end(driven.traffic, driven.rate, let_go(driven.traffic, 5.0), 5.06, Cause.UNEXPLAINED, waiting=True)
    failed = 5.0 * driven.rate.rate  # the first cut leaves a fifth
    calls = 0
    while driven.rate.rate < failed:
        driven.serve(6.0)
        calls += 1
    assert 15 <= calls <= 30
    driven.serve(6.0)
    assert driven.rate.rate < 1.07 * failed


def test_the_refusal_of_a_probe_cuts_nothing() -> None:
    """It went although its turn had not come."""
    driven = Driven()
    driven.refuse(5.0)
    rate = driven.rate.rate
    probe = let_go(driven.traffic, 6.0)
    probe.probe = True
    end(driven.traffic, driven.rate, probe, 6.1, Cause.UNEXPLAINED)
    assert driven.rate.rate == rate


def test_it_is_off_again_after_a_quarter_of_an_hour() -> None:
    """Without a refusal for that long, whatever it was is over."""
    driven = Driven()
    driven.refuse(5.0)
    driven.serve(906.0)
    assert not driven.rate.on


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 50), st.booleans()), max_size=40))
def test_every_wait_is_finite(steps: list[tuple[float, int, bool]]) -> None:
    """However often it is refused: no caller is told to wait for ever."""
    driven = Driven()
    now = 0.0
    for gap, burst, refused in steps:
        now += gap
        for _ in range(burst):
            driven.serve(now)
        if refused:
            driven.refuse(now)
        if driven.rate.on:
            assert driven.rate.rate >= LEAST_RATE
            assert now <= driven.ready(now) <= now + 3 / LEAST_RATE


def after_a_burst(delay: float) -> Driven:
    """112 calls go within 4 s; one of the last two is refused, and told to wait for ``delay``."""
    driven = Driven()
    for number in range(110):
        end(driven.traffic, driven.rate, let_go(driven.traffic, 0.01 * number), 0.01 * number, Cause.SERVED)
    refused, beside = let_go(driven.traffic, 4.0), let_go(driven.traffic, 4.0)
    end(driven.traffic, driven.rate, refused, 4.06, Cause.UNEXPLAINED, delay=delay, waiting=True)
    driven.traffic.in_flight.discard(beside)
    return driven


def test_what_went_before_a_long_pause_is_no_less_than_what_is_refilled() -> None:
    """112 calls go within 4 s, and the server wants a pause of 8 s: that many in 12 s. A fifth of what was measured would be less
    than two thirds of it."""
    driven = after_a_burst(delay=8.0)
    assert driven.rate.rate == pytest.approx(112 / 12.06)
    assert driven.rate.rate > 1.5 * 0.2 * driven.traffic.rate(4.06)


def test_a_short_pause_tells_no_rate() -> None:
    """It is no rest of a window: what was measured is a burst, and a fifth of it is tried."""
    driven = after_a_burst(delay=4.9)
    assert driven.rate.rate == pytest.approx(0.2 * driven.traffic.rate(4.06))


@pytest.mark.parametrize(("delay", "rate"), [(0.0, 2.0), (0.25, 2.0), (1.0, 1.0), (4.0, 0.25)])
def test_where_next_to_nothing_was_sent_the_first_pace_goes_by_the_servers_delay(delay: float, rate: float) -> None:
    """Two calls: one each delay, no more than two a second. What was measured of them says nothing."""
    driven = Driven()
    refused = let_go(driven.traffic, 100.0)
    let_go(driven.traffic, 100.0)
    end(driven.traffic, driven.rate, refused, 104.0, Cause.UNEXPLAINED, delay=delay, waiting=True)
    assert driven.rate.rate == pytest.approx(max(rate, 0.2 * driven.traffic.rate(104.0)))


def test_a_lone_call_that_is_refused_again_and_again_is_told_a_pace_by_its_own_delay() -> None:
    """Three times its delay at most, and no more than two a second: whatever its pace, it is not held for longer and longer."""
    for delay, rate in ((0.01, 2.0), (1.0, 1.0 / 3.0), (6.0, 1.0 / 18.0)):
        driven = Driven()
        for number in range(60):
            driven.refuse(5.0 + 100.0 * number, delay=delay)
        assert driven.rate.rate == pytest.approx(rate)
