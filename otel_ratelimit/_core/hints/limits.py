"""Every limit that the headers of a response tell of, success or not: what feeds the ledgers.

Owns the reading for the hot path: it runs on each response, so it makes one pass over the raw header list, looks names
and values up in caches, and builds only what it returns. What a *refusal* says is read by ``response``. Knows no
ledger, and no clock: a date is measured from ``now``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from otel_ratelimit._core.hints.durations import MAX_SCALAR_CHARS, number, parse_duration, plausible_delay
from otel_ratelimit._core.hints.families import HeaderName, read_name
from otel_ratelimit._core.hints.headers import MAX_HEADERS, normalise
from otel_ratelimit._core.hints.ietf import NAMES, policy_window, read_ratelimit_fields
from otel_ratelimit._core.hints.instants import moment
from otel_ratelimit._core.throttle import LimitKind, LimitWindow

MAX_LIMIT = 1e15
"""Requests or tokens. No bucket is larger; 9223372036854775807 is how some gateways write "none"."""

_READ_KINDS = frozenset({"requests", "tokens", "input_tokens", "output_tokens", "images", "concurrency"})


class LimitReading(NamedTuple):
    """One limit, as one response described it.

    Attributes:
        kind: What is counted.
        scope: Whose bucket it is beside the ordinary one: "" (the caller's organisation or key), "project", or
            "usage_based" (a second token bucket at OpenAI). Different scopes are different limits.
        window_name: The window, where the header's name or its policy says it; else None: it must be inferred
            from ``reset`` (``windows.window_of``), never taken to be a minute.
        limit: The size of the bucket, in units of ``kind``; more than 0.
        remaining: What is left of it; None if not said.
        reset: Seconds until the bucket is full again (until the window ends, at some services); None if not said.
            0 where the server says so: the bucket is full.
    """

    kind: LimitKind
    scope: str
    window_name: LimitWindow | None
    limit: float
    remaining: float | None
    reset: float | None


def read_limits(headers: object, *, now: float | None = None) -> tuple[LimitReading, ...]:
    """The limits in the headers of any response, in no particular order; () if there are none.

    ``headers`` is a mapping or an iterable of pairs, in any case; an httpx ``Headers`` is read by its raw list, which
    is quickest. ``now`` is in seconds since the epoch; None reads this machine's clock, and only if a reset is a
    date. A limit without a usable size, and a value that nobody can mean (negative, NaN, infinite, above
    MAX_LIMIT, no number), is no reading. Never raises.
    """
    try:
        return _read(headers, now)
    except Exception:  # somebody else's mapping may raise anything; the hot path has no room for finer guards
        return ()


def _read(headers: object, now: float | None) -> tuple[LimitReading, ...]:
    found: dict[int, _Parts] = {}
    ietf = False
    known = _SLOTS.get
    for raw_name, raw_value in _raw_items(headers):
        slot = known(raw_name, _NEW)
        if slot is _NEW:
            slot = _learn(raw_name)
        if slot is None:
            continue
        bucket, index, name = slot
        if name is None:
            ietf = True
            continue
        if bucket in found:
            found[bucket][index] = raw_value
        else:
            parts: _Parts = [None, None, None, name]
            parts[index] = raw_value
            found[bucket] = parts
    if not found and not ietf:
        return ()
    readings = [_reading(parts, now) for parts in found.values()]
    if ietf:
        readings += _ietf_readings(headers, now)
    return tuple([reading for reading in readings if reading is not None])


def _raw_items(headers: object) -> Iterable[tuple[object, object]]:
    """Pairs of names and values as cheaply as the object gives them."""
    raw = getattr(headers, "raw", None)
    if isinstance(raw, list):
        return raw if len(raw) <= MAX_HEADERS else raw[:MAX_HEADERS]
    if type(headers) is dict:
        return list(headers.items())[:MAX_HEADERS]
    return normalise(headers).items()


_Slot = tuple[int, int, HeaderName | None]
"""Where the value of one header goes: the limit's number, the place in its parts. Without a name: ``ietf`` reads it."""
_Parts = list[Any]
"""One limit while it is read: values for limit, remaining and reset as sent, and the HeaderName."""

_INDEX = {"limit": 0, "remaining": 1, "reset": 2}
_MAX_SLOTS = 4096
"""Names remembered. Servers send some fifty; a hostile one must not fill memory."""
_SLOTS: dict[object, _Slot | None] = {}
_BUCKETS: dict[tuple[str, ...], int] = {}
_NEW: Final[_Slot] = (-2, 0, None)
"""Stands for a name that was never seen."""


def _learn(raw_name: object) -> _Slot | None:
    """The meaning of a name seen for the first time, remembered; None if it tells of no limit."""
    if not isinstance(raw_name, (str, bytes)) or len(raw_name) > MAX_SCALAR_CHARS:
        return None
    name = (raw_name if isinstance(raw_name, str) else raw_name.decode("latin-1")).lower()
    slot: _Slot | None = None
    if name in NAMES:
        slot = (-1, 0, None)
    elif "limit" in name and (read := read_name(name)) and read.kind in _READ_KINDS and read.role in _INDEX:
        if read.key not in _BUCKETS and len(_BUCKETS) >= _MAX_SLOTS:
            return None
        slot = (_BUCKETS.setdefault(read.key, len(_BUCKETS)), _INDEX[read.role], read)
    if len(_SLOTS) < _MAX_SLOTS:
        _SLOTS[raw_name] = slot
    return slot


def _reading(parts: _Parts, now: float | None) -> LimitReading | None:
    raw_limit, raw_remaining, raw_reset, name = parts
    limit = _amount(raw_limit)
    if not limit:
        return None
    reset = _seconds(raw_reset, name.unit, now) if isinstance(raw_reset, (bytes, str)) else None
    window = name.window or policy_window(_text(raw_limit))
    return LimitReading(name.kind, name.scope, window, limit, _amount(raw_remaining), reset)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""


def _amount(raw: object) -> float | None:
    """A size or a level; None for what is none."""
    if isinstance(raw, (bytes, str)) and len(raw) <= _PLAIN_DIGITS and raw.isdigit() and raw.isascii():
        return int(raw)
    value = number(_text(raw).partition(",")[0].partition(";")[0])
    return value if value is not None and value <= MAX_LIMIT else None


_PLAIN_DIGITS = 15


def _seconds(raw: bytes | str, unit: float, now: float | None) -> float | None:
    if len(raw) > MAX_SCALAR_CHARS:  # nor may the cache keep it
        return None
    if raw[-1:] not in (b"Z", "Z"):  # Anthropic's dates never come back
        length = _plain_duration(raw)
        if length is not None:
            return length
    found = moment(_text(raw), time.time() if now is None else now, default_unit=unit)
    return plausible_delay(found[0]) if found else None


@lru_cache(maxsize=4096)
def _plain_duration(raw: bytes | str) -> float | None:
    """ "12ms", "6m0s": what needs no clock, and comes back again and again."""
    length = parse_duration(_text(raw))
    return plausible_delay(length) if length is not None else None


def _ietf_readings(headers: object, now: float | None) -> list[LimitReading | None]:
    readings: list[LimitReading | None] = []
    for field in read_ratelimit_fields(normalise(_raw_items(headers))):
        if field.quota and field.quota <= MAX_LIMIT and field.kind in _READ_KINDS:
            reset = _seconds(field.reset, 1.0, now)
            readings.append(LimitReading(field.kind, "", field.window, field.quota, field.remaining, reset))
    return readings
