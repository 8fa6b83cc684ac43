"""One bucket, and how the server speaks of it: windows that start anew, told from buckets."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ratelimit._core.buckets.estimate import Bucket
from otel_ratelimit._core.buckets.tracked import Tracked


def tracked(limit: float = 60_000.0, window: float | None = 60.0) -> Tracked:
    return Tracked(Bucket("tokens", "", limit, window), 1, by_header=True, named=False)


def read(one: Tracked, remaining: float, reset: float, at: float) -> None:
    """A header of a request that left at ``at``."""
    one.measure(one.bucket.limit, remaining, reset, at)
    one.bucket.anchor(
        remaining, sent_at=at, taken=0.0, sequence=round(10 * at), now=at, taken_now=0.0, full_at=one.full_at(reset, at)
    )


def test_an_end_that_stays_while_more_is_taken_is_a_windows() -> None:
    """60,000 a minute that start anew: nothing is refilled before the end, and all of it then."""
    one = tracked()
    read(one, 50_000.0, 58.5, 1.5)
    assert not one.fixed
    read(one, 30_000.0, 40.25, 19.75)
    assert one.fixed
    bucket = one.bucket
    assert bucket.level(40.0, 0.0, 1) == 30_000.0
    assert bucket.ready(20.0, 0.0, 35_000.0, 1) == pytest.approx(60.0 + bucket.tuning.boundary, abs=0.01)
    assert bucket.level(60.1, 0.0, 1) == 60_000.0


def test_the_window_is_as_long_as_the_longest_time_to_its_end() -> None:
    """The first reading comes in the middle of one."""
    one = tracked(20.0, None)
    read(one, 10.0, 1.5, 1.0)
    read(one, 5.0, 0.75, 1.75)
    assert one.fixed
    read(one, 19.0, 4.75, 2.75)
    assert one.bucket.window == 4.75


def test_resets_in_whole_seconds_tell_as_well() -> None:
    """Once two readings are further apart than both of them can be rounded."""
    one = tracked(20.0, None)
    read(one, 15.0, 5.0, 0.1)
    read(one, 14.0, 4.0, 1.4)
    assert not one.fixed
    read(one, 13.0, 3.0, 2.3)
    assert one.fixed


def test_a_reset_that_is_always_the_same_is_no_window() -> None:
    """Its end moves with the clock."""
    one = tracked()
    for number in range(50):
        read(one, 50_000.0 - 1_000.0 * number, 60.0, 3.0 * number)
    assert not one.fixed


def test_what_is_refilled_after_all_is_no_window() -> None:
    """More is left, before the end."""
    one = tracked()
    read(one, 50_000.0, 58.5, 1.5)
    read(one, 30_000.0, 40.25, 19.75)
    assert one.fixed
    for number in range(1, 4):
        read(one, 30_000.0 + 8_000.0 * number, 40.25 - 5.0 * number, 19.75 + 5.0 * number)
    assert not one.fixed


@given(st.integers(0, 10_000), st.sampled_from((0.001, 1.0)), st.sampled_from((20.0, 300.0, 60_000.0)))
def test_no_bucket_is_taken_for_a_window(seed: int, grain: float, limit: float) -> None:
    """Whatever is taken of it and when, and to what its times are rounded, up or down or to the nearest."""
    luck = random.Random(seed)
    rounded = luck.choice((math.ceil, math.floor, round))
    one = tracked(limit, 60.0)
    now, left, rate = 0.0, limit, limit / 60.0
    for _ in range(200):
        step = luck.expovariate(1.0)
        now += step
        left = min(left + step * rate, limit)
        cost = max(1.0, limit / 40.0) * luck.uniform(1.0, 1.5)
        if cost > left:
            continue
        left -= cost
        reset = rounded((limit - left) / rate / grain) * grain
        read(one, math.floor(left), reset, now)
        assert not one.fixed
