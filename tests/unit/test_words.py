"""Figures for people."""

from __future__ import annotations

import pytest

from otel_ratelimit._core.words import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0.0 s"),
        (0.0, "0.0 s"),
        (0.004, "0.0 s"),
        (0.064, "0.06 s"),
        (0.0994, "0.10 s"),
        (0.564, "0.6 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (119.4, "1 min 59 s"),
        (119.6, "2 min"),
        (200.0, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (13_560.0, "3 h 46 min"),
        (86_400.0 * 2, "2 d"),
        (86_400.0 * 2.2, "2 d 5 h"),
        (86_400.0 * 2000, "2,000 d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """At the borders no unit overflows into the next."""
    assert duration(seconds) == text
