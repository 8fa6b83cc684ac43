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
    assert delay_after(throttle(0.010), Policy(buffer=0.05), throttles=throttles, random=random) == pytest.approx(
        expected
    )


@given(
    delay=st.floats(0, 1e6),
    buffer=st.floats(0, 10),
    throttles=st.integers(1, 10_000),
    random=st.floats(0, 1, exclude_max=True),
)
def test_jitter_is_only_ever_added(delay: float, buffer: float, throttles: int, random: float) -> None:
    """No draw brings the call back before the server's time, and none delays it by more than a second beyond the rules."""
    policy = Policy(buffer=buffer)
    waited = delay_after(throttle(delay), policy, throttles=throttles, random=random)
    assert waited >= delay + buffer
    assert waited <= max(delay + buffer, policy.max_backoff) + 1.0


@given(throttles=st.integers(1, 10_000), random=st.floats(0, 1, exclude_max=True))
def test_backoff_is_capped(throttles: int, random: float) -> None:
    """Without a hint no wait is longer than the ceiling and the buffer."""
    policy = Policy(buffer=0.05, max_backoff=8.0)
    assert 0.05 <= delay_after(throttle(None), policy, throttles=throttles, random=random) <= 8.05
