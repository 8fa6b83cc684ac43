"""Policy: what is allowed, and the arithmetic of one delay."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ratelimit import ConfigurationError, Policy
from otel_ratelimit._core.policy import delay_after
from otel_ratelimit._core.throttle import Throttle


def throttle(delay: float | None) -> Throttle:
    return Throttle(
        delay=delay, source=None, kind="tokens", window=None, limit=None, used=None, requested=None, retryable=True
    )


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("mode", "loud", "wait, observe, off"),
        ("priority", "urgent", "interactive, normal, batch"),
        ("pacing", "yes", "true or false"),
        ("max_wait", -1.0, "finite and not negative"),
        ("max_wait", math.inf, "finite and not negative"),
        ("buffer", math.nan, "finite and not negative"),
        ("buffer", "1s", "a number of seconds"),
        ("max_backoff", True, "a number of seconds"),
        ("store", "http://user:secret@host", "memory://"),
    ],
)
def test_a_bad_value_names_the_setting_and_what_is_allowed(setting: str, value: Any, allowed: str) -> None:
    """The message can be acted on without reading the source; it never shows what may hold a password."""
    with pytest.raises(ConfigurationError, match=allowed) as error:
        Policy(**{setting: value})
    assert f"Policy.{setting}" in str(error.value)
    assert "secret" not in str(error.value)


def test_a_policy_is_frozen_and_keyword_only() -> None:
    """Two calls can never see two states of one policy."""
    with pytest.raises(AttributeError):
        Policy().mode = "off"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Policy("off")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("throttles", "random", "expected"),
    [
        (1, 0.0, 0.010 + 0.05),
        (1, 0.5, 0.010 + 0.05 + 0.00025),  # a twentieth of the hint, half of it drawn
        (2, 0.0, 0.1),  # the floor of a call that is throttled again: 0.1, 0.2, 0.4, ... s
        (3, 0.0, 0.2),
        (5, 0.0, 0.8),
    ],
)
def test_tiny_hints_that_keep_coming_meet_a_growing_floor(throttles: int, random: float, expected: float) -> None:
    """Worked out by hand for a hint of 10 ms and a buffer of 50 ms."""
    delay = delay_after(throttle(0.010), Policy(buffer=0.05), throttles=throttles, random=random)
    assert delay.seconds == pytest.approx(expected)
    assert delay.asked == pytest.approx(0.06)


@given(
    delay=st.floats(0, 1e6),
    buffer=st.floats(0, 10),
    throttles=st.integers(1, 10_000),
    random=st.floats(0, 1, exclude_max=True),
)
def test_jitter_is_only_ever_added(delay: float, buffer: float, throttles: int, random: float) -> None:
    """No draw brings the call back before the server's time, and none delays it by more than a second beyond the rules."""
    policy = Policy(buffer=buffer)
    waited = delay_after(throttle(delay), policy, throttles=throttles, random=random).seconds
    assert waited >= delay + buffer
    assert waited <= max(delay + buffer, policy.max_backoff) + 1.0


@given(throttles=st.integers(1, 10_000), random=st.floats(0, 1, exclude_max=True))
def test_backoff_is_capped(throttles: int, random: float) -> None:
    """Without a hint no wait is longer than the ceiling and the buffer."""
    policy = Policy(buffer=0.05, max_backoff=8.0)
    assert 0.05 <= delay_after(throttle(None), policy, throttles=throttles, random=random).seconds <= 8.05


@given(
    delay=st.one_of(st.none(), st.floats(0, 1e4)),
    throttles=st.integers(1, 10_000),
    left=st.floats(0, 700),
    random=st.floats(0, 1, exclude_max=True),
)
def test_a_pause_of_our_own_is_cut_to_what_is_left_of_the_budget(
    delay: float | None, throttles: int, left: float, random: float
) -> None:
    """So that a call uses its whole budget; what the server asked for is never cut."""
    waited = delay_after(throttle(delay), Policy(), throttles=throttles, random=random, left=left)
    assert waited.asked <= waited.seconds <= max(left, waited.asked)


@pytest.mark.parametrize(
    ("max_wait", "timeout", "max_retries", "total", "longest"),
    [
        (None, None, 2, 600.0, 600.0),  # no timeout at all
        (None, 600.0, 2, 600.0, 600.0),  # the SDK's default
        (None, 2.0, 1, 120.0, 120.0),  # the longest Retry-After that the SDK alone would sit out, whatever the timeout
        (None, 30.0, 2, 240.0, 120.0),  # and as often as it has retries
        (None, 300.0, 2, 300.0, 300.0),
        (None, 3600.0, 100, 600.0, 600.0),  # never more than ten minutes unless asked for
        (None, 30.0, 0, 120.0, 120.0),
        (10.0, 30.0, 5, 10.0, 10.0),  # what is asked for holds
        (7200.0, 5.0, 2, 7200.0, 7200.0),
        (0.0, None, 2, 0.0, 0.0),
    ],
)
def test_the_budget_is_what_was_asked_for_or_no_less_than_the_sdk_alone_would_wait(
    max_wait: float | None, timeout: float | None, max_retries: int, total: float, longest: float
) -> None:
    """A call's own timeout is no budget: the SDK alone waits two minutes for the server with ``timeout=2`` as well."""
    budget = Policy(max_wait=max_wait).budget(timeout, max_retries)
    assert (budget.total, budget.longest) == (total, longest)


@pytest.mark.parametrize(("max_retries", "patience"), [(0, 0.5), (1, 1.5), (2, 3.0), (5, 18.5)])
def test_patience_is_what_the_sdk_alone_would_take_to_fail(max_retries: int, patience: float) -> None:
    """0.5, 1, 2, 4, 8 s between its attempts, half a second for each."""
    assert Policy().budget(600.0, max_retries).patience == patience
    assert Policy(max_wait=600.0).budget(600.0, max_retries).patience == 0.0
