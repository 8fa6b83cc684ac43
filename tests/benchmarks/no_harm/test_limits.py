"""The limits of the worlds' servers: they refuse exactly what does not fit, and tell the truth about when it will."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarks.no_harm.limits import Bucket, FixedWindow, Limit, SlidingWindow, limit_of

KINDS: dict[str, Callable[[], Limit]] = {
    "bucket": lambda: Bucket(100.0, 10.0),
    "fixed": lambda: FixedWindow(100.0, 10.0, phase=3.0),
    "sliding": lambda: SlidingWindow(100.0, 10.0),
}
LITTLE = 1e-3


def test_a_bucket() -> None:
    """100 in 10 s: full at first, refilled by 10 a second."""
    limit = Bucket(100.0, 10.0)
    assert limit.fits(0.0, 100.0)
    limit.charge(0.0, 80.0)
    assert limit.fits(0.0, 20.0)
    assert not limit.fits(0.0, 21.0)
    assert (limit.used(0.0), limit.reset(0.0), limit.delay(0.0, 50.0)) == (80.0, 8.0, 3.0)
    assert limit.fits(3.0, 50.0)
    assert limit.used(100.0) == 0.0


def test_a_fixed_window() -> None:
    """100 in each 10 s, the windows begin at 3, 13, 23: what was used at 12.9 is forgotten at 13."""
    limit = FixedWindow(100.0, 10.0, phase=3.0)
    limit.charge(12.0, 80.0)
    assert limit.fits(12.9, 20.0)
    assert not limit.fits(12.9, 21.0)
    assert (limit.used(12.0), limit.reset(12.0), limit.delay(12.0, 21.0), limit.delay(12.0, 20.0)) == (
        80.0,
        1.0,
        1.0,
        0.0,
    )
    assert limit.fits(13.0, 100.0)


def test_a_sliding_window() -> None:
    """100 in any 10 s: each use counts for ten seconds of its own."""
    limit = SlidingWindow(100.0, 10.0)
    limit.charge(0.0, 60.0)
    limit.charge(4.0, 30.0)
    assert limit.fits(4.0, 10.0)
    assert not limit.fits(4.0, 11.0)
    assert (limit.delay(4.0, 11.0), limit.delay(4.0, 80.0), limit.used(4.0), limit.reset(4.0)) == (
        6.0,
        10.0,
        90.0,
        10.0,
    )
    assert limit.used(10.0) == 30.0
    assert limit.used(14.0) == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_larger_than_the_limit_never_fits(kind: str) -> None:
    """Its delay is infinite, also when nothing is used."""
    limit = KINDS[kind]()
    assert limit.delay(0.0, 100.1) == math.inf
    assert not limit.fits(1e6, 100.1)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0.0, 4.0), st.integers(1, 100)), min_size=1, max_size=30),
    charged=st.booleans(),
)
def test_a_delay_is_exact(kind: str, steps: list[tuple[float, int]], charged: bool) -> None:
    """Whatever came before: after the delay the request fits, a moment earlier it does not; refused requests may count."""
    limit, twin = KINDS[kind](), KINDS[kind]()
    now = 0.0
    for pause, cost in steps:
        now += pause
        fits = limit.fits(now, cost)
        assert fits == (limit.delay(now, cost) <= LITTLE * 0.01)
        if not fits:
            delay = limit.delay(now, cost)
            if delay > 2 * LITTLE:
                assert not twin.fits(now + delay - LITTLE, cost)
            # The twin is asked ahead of time, so it is made anew from the same past.
            assert twin.fits(now + delay + 1e-9, cost)
        if fits or charged:
            limit.charge(now, cost)
        twin = _copy(kind, limit)


def _copy(kind: str, limit: Limit) -> Limit:
    twin = KINDS[kind]()
    for name, value in vars(limit).items():
        setattr(twin, name, value.copy() if hasattr(value, "copy") else value)
    return twin


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_that_changes(kind: str) -> None:
    """Halved: what fits is half of it."""
    limit = KINDS[kind]()
    limit.resize(5.0, 0.5)
    assert limit.fits(5.0, 50.0)
    assert not limit.fits(5.0, 51.0)
    assert limit.capacity == 50.0


def test_by_name() -> None:
    """The three kinds."""
    kinds = [type(limit_of(kind, 1.0, 1.0)) for kind in ("bucket", "fixed", "sliding")]
    assert kinds == [Bucket, FixedWindow, SlidingWindow]
