"""What one reading, or two, tell of a bucket that the server does not name: its window, and how much of it can be saved up.

A header tells units left and seconds until full. What is missing until full grows by the refill rate, so one reading implies the
window of a bucket that holds its whole limit, and two of them tell window and depth of any. Owns the arithmetic alone:
``identify`` remembers the readings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

WINDOW_SECONDS: Final[Mapping[str, float]] = {
    "second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0, "month": 2_592_000.0,
}  # fmt: skip
"""Of each name of a window."""

CANONICAL_WINDOWS: Final = tuple(WINDOW_SECONDS.values())
"""Seconds. The periods that limits are named by; a measured window close to one of them is that one."""

SHORTEST_WINDOW: Final = 0.1
LONGEST_WINDOW: Final = 3_000_000.0
"""Seconds. What no name fits and is outside of these is no window (a month is the longest that was ever seen)."""

WINDOW_TOLERANCE: Final = 0.03
"""Share by which a window computed from one reading may miss a canonical one, beyond the rounding of the reset time."""

FINE_GRAIN: Final = 0.001
"""Seconds to which reset times are printed, where they are not whole."""

SLOPE_ERROR: Final = 0.1
"""Share by which rounding may falsify what two readings tell together; beyond it they tell nothing."""

DEFAULT_WINDOW: Final = 60.0
"""Seconds. The most common window, where nothing tells it. A wrong guess shows up as drain and is corrected by it; any reset time
or message replaces it."""

SAME_WINDOW: Final = 0.05
"""Share by which two readings of one window may differ."""


def unit_of(window: float | None) -> str:
    """The name of a window, for people: of one that has none the longest unit that fits into it ("second" for ten of them, as
    ``Throttle.window`` has it), so that measured windows make no labels without end; ``unknown`` for one that is not known.
    """
    if window is None:
        return "unknown"
    fits = [name for name, seconds in WINDOW_SECONDS.items() if seconds <= window * (1.0 + SAME_WINDOW)]
    return fits[-1] if fits else "second"


def differ(window: float | None, other: float | None) -> bool:
    """Whether two windows, one of which may have been measured, are known and not the same."""
    return window is not None and other is not None and abs(window - other) > SAME_WINDOW * other


def slope_of(
    first: tuple[float, float], second: tuple[float, float], limit: float, grain: float
) -> tuple[float, float] | None:
    """Window and depth in seconds from two readings of (remaining, time until full); None where they cannot tell.

    One reading cannot tell a limit of 10,000 a second from 10,000 a minute of which a second's share can be saved up, both
    empty: two can, because what is missing until full grows by the refill rate.
    """
    (more, sooner), (less, later) = sorted((first, second), reverse=True)
    units, seconds = more - less, later - sooner
    if units <= 0 or seconds <= 0:
        return None
    error = 2.0 * grain / seconds + 1.0 / units
    if error > SLOPE_ERROR:
        return None
    measured = limit * seconds / units
    window = next((one for one in CANONICAL_WINDOWS if abs(one - measured) <= (error + WINDOW_TOLERANCE) * one), None)
    if window is None:
        return None
    return window, less * window / limit + later


def shallow_of(
    first: tuple[float, float], second: tuple[float, float], limit: float, grain: float
) -> tuple[float, float] | None:
    """The same from two readings of a bucket that stays nearly full, of a limit by the minute; None if it is none.

    What is left, in seconds of refill, and the time until full add up to what it holds when full: to the same twice, and far
    less than a minute.
    """
    depth, other = (remaining * DEFAULT_WINDOW / limit + reset for remaining, reset in (first, second))
    tolerance = min(grain + DEFAULT_WINDOW / limit + WINDOW_TOLERANCE * depth, 0.5 * depth)
    if not 0 < depth < 0.5 * DEFAULT_WINDOW or abs(depth - other) > tolerance:
        return None
    return DEFAULT_WINDOW, depth


def window_of(limit: float, remaining: float, reset: float | None) -> float | None:
    """The window that ``reset``, the time until full, implies; None where a reading cannot tell (a full bucket).

    The printed time is rounded to a millisecond or to a second, up or down, so a reading implies a range of windows.
    The canonical one inside it is meant; without one, the middle, if the range is narrow.
    """
    if reset is None:
        return None
    implied = _windows_of(limit, remaining, reset, FINE_GRAIN if reset % 1.0 else 1.0)
    if implied is None:
        return None
    low, middle, high = implied
    within = [window for window in CANONICAL_WINDOWS if low <= window <= high]
    if len(within) == 1:
        return within[0]
    if within or low <= 0 or high / low > 1.2 or not SHORTEST_WINDOW < middle < LONGEST_WINDOW:
        return None
    return middle


def both_whole(first: tuple[float, float], second: tuple[float, float], limit: float, grain: float) -> bool:
    """Whether one window explains both readings of (remaining, time until full), where all of the limit can be saved up."""
    windows, others = (_windows_of(limit, remaining, reset, grain) for remaining, reset in (first, second))
    return windows is not None and others is not None and windows[0] <= others[2] and others[0] <= windows[2]


def _windows_of(limit: float, remaining: float, reset: float, grain: float) -> tuple[float, float, float] | None:
    """The least, the middle and the largest window that a reading allows."""
    missing = limit - remaining
    if missing <= 0 or not 0 < reset < LONGEST_WINDOW:
        return None
    scale = limit / missing
    low = (reset - grain) * scale * (1.0 - WINDOW_TOLERANCE)
    high = (reset + grain) * scale * (1.0 + WINDOW_TOLERANCE)
    if 1.0 < missing < 1.0 / WINDOW_TOLERANCE:  # ``remaining`` is cut to whole units, and the part cut off weighs here
        high *= missing / (missing - 1.0)
    return low, reset * scale, high
