"""When a limit that is believed to have no room is asked nevertheless."""

from __future__ import annotations

import math

from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.limiters.limiter import Cause, Diagnosis, Reservation
from otel_ratelimit._core.limiters.probes import TUNED, Probes
from otel_ratelimit._core.limiters.traffic import Traffic
from otel_ratelimit._core.throttle import Throttle
from tests.helpers.limiters import let_go


class Driven:
    """Probes and the traffic that they read."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self.probes = Probes(self.traffic)

    def go(self, now: float, *, early: bool = False) -> Reservation:
        """A probe leaves."""
        probe = let_go(self.traffic, now)
        probe.probe, probe.early = True, early
        self.probes.evidence_at = now
        self.probes.take(now, probe)
        return probe

    def served(self, probe: Reservation, now: float) -> None:
        self.probes.settle(probe, Attempt(now, succeeded=True), Diagnosis(Cause.SERVED, {}, True))

    def refused(self, probe: Reservation, now: float) -> None:
        attempt = Attempt(now, succeeded=False, throttle=Throttle(delay=1.0))
        self.probes.settle(probe, attempt, Diagnosis(Cause.EXHAUSTED, {}, True))

    def pass_calls(self, count: int, now: float) -> None:
        for _ in range(count):
            let_go(self.traffic, now)


def test_it_goes_once_the_evidence_is_old() -> None:
    """Where the turn is far away; a turn that comes soon is waited for."""
    driven = Driven()
    driven.probes.evidence_at = 0.0
    assert driven.probes.ready(100.0, 1.0, counted=True) == TUNED.counted
    assert driven.probes.ready(100.0, 1.0, counted=False) == TUNED.guessed
    assert driven.probes.ready(TUNED.counted + 1.0, 1.0, counted=True) == TUNED.counted + 1.0


def test_one_that_is_served_lets_two_more_go_and_a_refusal_ends_it() -> None:
    """Slow start."""
    driven = Driven()
    driven.served(driven.go(0.0), 0.1)
    assert driven.probes.ready(100.0, 0.2, counted=True) == 0.2
    second, third = driven.go(0.2), driven.go(0.2)
    assert driven.probes.ready(100.0, 0.2, counted=True) > 0.2
    driven.served(second, 0.3)
    driven.refused(third, 0.3)
    assert driven.probes.ready(100.0, 0.4, counted=True) > 0.4


def test_what_left_before_a_refused_one_lets_none_go() -> None:
    """It may have taken what was missing then."""
    driven = Driven()
    first, second = driven.go(0.0), driven.go(0.0)
    driven.refused(second, 0.1)
    driven.served(first, 1.0)
    assert driven.probes.ready(100.0, 1.1, counted=True) > 1.1


def test_an_early_one_waits_for_calls_or_seconds_from_the_first_that_had_to_wait() -> None:
    """A burst that has just emptied the limit is no time to ask."""
    driven = Driven()
    driven.pass_calls(500, 0.0)
    assert not driven.probes.early(1.0)
    driven.pass_calls(int(TUNED.calls) - 1, 2.0)
    assert not driven.probes.early(2.0)
    assert driven.probes.early(1.0 + TUNED.seconds)
    driven.pass_calls(1, 3.0)
    assert driven.probes.early(3.0)


def test_an_early_one_that_is_refused_makes_them_rarer_once_a_generation() -> None:
    """So a run of hundreds of calls at a single limit pays for a handful."""
    driven = Driven()
    assert not driven.probes.early(0.0)
    now, asked = 0.0, 0
    for _ in range(1_000):
        now += 0.5
        driven.pass_calls(1, now)
        if driven.probes.early(now):
            asked += 1
            first = driven.go(now, early=True)
            driven.served(first, now)
            both = [driven.go(now), driven.go(now)]  # they go because that one was served
            assert all(probe.early for probe in both)
            for probe in both:
                driven.refused(probe, now)
    assert asked == int(math.log(1_000 / TUNED.calls, TUNED.rarer)) + 1


def test_only_one_early_one_is_on_its_way() -> None:
    """And none that was given up is waited for."""
    driven = Driven()
    assert not driven.probes.early(0.0)
    driven.pass_calls(100, 1.0)
    probe = driven.go(1.0, early=True)
    driven.pass_calls(1_000, 2.0)
    assert not driven.probes.early(2.0)
    driven.probes.cancel(probe)
    assert driven.probes.early(2.0)
