"""Which field names of an error body mean a wait, and in which unit.

Owns the grammar of names: `retry_after`, `retryAfterMs`, `resets_in_seconds`, `quotaResetTimeStamp` are words in some
order, with a unit and a sense (length of time, or point in time). Knows nothing of bodies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from otel_ratelimit._core.parsing.durations import number, parse_duration, plausible_delay
from otel_ratelimit._core.parsing.instants import Instant, epoch_seconds, parse_instant, seconds_until

_MAX_KEY_CHARS = 64
"""Characters. Longer keys are data, not names."""

_BOUNDARY = re.compile(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z\d]+")
_UNITS = {
    "ms": 1e-3, "millis": 1e-3, "milliseconds": 1e-3, "msec": 1e-3,
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
    "minutes": 60.0, "mins": 60.0, "hours": 3600.0, "days": 86_400.0,
}  # fmt: skip
_STEMS = (
    {"retry", "after"}, {"retryafter"}, {"retry", "delay"}, {"retry", "in"}, {"retry", "at"}, {"retry", "time"},
    {"reset"}, {"resets"}, {"wait"}, {"cooldown"}, {"cool", "down"}, {"available", "at"},
    {"available", "in"}, {"available", "after"}, {"estimated", "time"}, {"try", "again"}, {"refresh", "time"},
    {"unblock"}, {"timeremaining"}, {"retry", "ms"}, {"retry", "seconds"}, {"backoff"}, {"next", "access"},
    {"next", "request"}, {"next", "allowed"}, {"next", "available"}, {"unlock"}, {"time", "remaining"},
    {"seconds", "remaining"}, {"blocked", "until"}, {"limited", "until"}, {"throttled", "until"}, {"banned", "until"},
)  # fmt: skip
# Budgets, totals and history have the same stems: `totalRetryDelay`, `maxWaitMs`, `last_reset_at`, `resetCredits`.
_NOT_WAITS = frozenset({
    "max", "maximum", "min", "total", "limit", "budget", "count", "attempt", "attempts", "policy", "strategy",
    "enabled", "default", "elapsed", "previous", "last", "timeout", "window", "percent", "used", "type", "id", "url",
    "message", "reason", "credits", "waited", "number", "queue", "interval", "should", "can", "policies", "mode",
})  # fmt: skip

_RESETS = frozenset({"reset", "resets"})


@dataclass(frozen=True, slots=True)
class FieldName:
    """A name that means a wait. ``unit``: seconds per 1 of a plain number."""

    unit: float


@lru_cache(maxsize=1024)
def read_field_name(key: str) -> FieldName | None:
    """The meaning of a field's name, None if it is no wait."""
    if len(key) > _MAX_KEY_CHARS:
        return None
    words = [word.lower() for word in _BOUNDARY.split(key) if word]
    present = set(words)
    if not _RESETS.isdisjoint(present):
        present.discard("limit")  # "rate_limit_reset", but not "retry_limit"
    if not _NOT_WAITS.isdisjoint(present) or not any(stem <= present for stem in _STEMS):
        return None
    return FieldName(next((_UNITS[word] for word in words if word in _UNITS), 1.0))


def field_wait(name: FieldName, value: object, now: float) -> tuple[float, bool] | None:
    """The wait that a field's value means: (seconds from ``now``, whether it was given as a date); None if it is none.

    Reads numbers, numbers in strings, durations, dates, epoch numbers in any unit, and protobuf's
    {"seconds": 9, "nanos": 5} (google.rpc.RetryInfo).
    """
    seconds: float | None = None
    if isinstance(value, bool):
        return None
    if isinstance(value, Mapping):
        seconds = _protobuf_duration(value)
    elif isinstance(value, (int, float)):
        return _from_number(value, name, now)
    elif isinstance(value, str):
        plain = number(value)
        if plain is not None:
            return _from_number(plain, name, now)
        seconds = parse_duration(value)
        if seconds is None:
            return _dated(parse_instant(value), now)
    delay = plausible_delay(seconds) if seconds is not None else None
    return (delay, False) if delay is not None else None


def _from_number(value: float, name: FieldName, now: float) -> tuple[float, bool] | None:
    if not 0 <= value < 1e20:  # also sorts out NaN, and integers that no float can hold
        return None
    epoch = epoch_seconds(value)
    if epoch is not None:
        return _dated(Instant(epoch, True), now)
    delay = plausible_delay(value * name.unit)
    return (delay, False) if delay is not None else None


def _dated(instant: Instant | None, now: float) -> tuple[float, bool] | None:
    ahead = seconds_until(instant, now, beijing=True) if instant else None
    delay = plausible_delay(ahead) if ahead is not None else None
    return (delay, True) if delay is not None else None


def _protobuf_duration(value: Mapping[object, object]) -> float | None:
    parts = []
    for key, size in (("seconds", 1.0), ("nanos", 1e-9)):
        part = value.get(key, 0)
        plain = number(part) if isinstance(part, str) else part
        if not isinstance(plain, (int, float)) or isinstance(plain, bool) or not 0 <= plain < 1e12:
            return None
        parts.append(plain * size)
    return sum(parts) if "seconds" in value or "nanos" in value else None
