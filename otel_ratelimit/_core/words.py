"""Figures as a person reads them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """``0.06 s``, ``0.6 s``, ``12 s``, ``3 min 20 s``, ``3 h 46 min``, ``2 d 5 h``: no more exact than is of use."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.2f} s" if 0.005 <= seconds < 0.0995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if whole < 3600:
        return _two(whole // 60, "min", whole % 60, "s")
    if minutes < 48 * 60:
        return _two(minutes // 60, "h", minutes % 60, "min")
    hours = round(seconds / 3600)
    return _two(hours // 24, "d", hours % 24, "h")


def _two(great: int, unit: str, small: int, smaller: str) -> str:
    return f"{great:,} {unit} {small} {smaller}" if small else f"{great:,} {unit}"
