"""Every limit that the headers of a response tell of: the one reader, and what of it teaches the buckets.

Owns the reading of values and the hot path: it may run on each response, so it makes one pass over the raw header list,
looks names and values up in caches, and builds only what it returns. Two small views stand on it: what *teaches*
(``read_limits``, of any response) and what *binds* now that a request was refused (``binding``). Knows no bucket, and no
clock: a date is measured from ``now``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from otel_ratelimit._core.parsing.durations import MAX_SCALAR_CHARS, number, parse_duration, plausible_delay
from otel_ratelimit._core.parsing.families import HeaderName, Role, read_name
from otel_ratelimit._core.parsing.headers import MAX_HEADERS, normalise
from otel_ratelimit._core.parsing.ietf import NAMES, policy_windows, read_ratelimit_fields
from otel_ratelimit._core.parsing.instants import moment
from otel_ratelimit._core.throttle import LimitKind, LimitWindow, ThrottleSource

MAX_LIMIT = 1e15
"""Requests or tokens. No bucket is larger; 9223372036854775807 is how some gateways write "none"."""

_TAUGHT_KINDS = frozenset({"requests", "tokens", "input_tokens", "output_tokens", "images", "concurrency"})


class LimitReading(NamedTuple):
    """One limit, as one response described it.

    Attributes:
        kind: What is counted.
        scope: Whose bucket it is beside the ordinary one: "" (the caller's organisation or key), "project", or
            "usage_based" (a second token bucket at OpenAI). Different scopes are different limits.
        window_name: The window, where the header's name or its policy says it; else None: it must be inferred
            from ``reset`` (``windows.window_of``), never taken to be a minute.
        limit: The size of the bucket, in units of ``kind``; more than 0. None if not said.
        remaining: What is left of it; None if not said.
        reset: Seconds until the bucket is full again (until the window ends, at some services); None if not said.
            0 where the server says so: the bucket is full.
        source: Which family of headers said it.
    """

    kind: LimitKind
    scope: str
    window_name: LimitWindow | None
    limit: float | None
    remaining: float | None
    reset: float | None
    source: ThrottleSource = "x-ratelimit-reset"


def read_limits(headers: object, *, now: float | None = None) -> tuple[LimitReading, ...]:
    """What teaches: the limits of a known size in the headers of any response, in no particular order.

    ``headers`` is a mapping or an iterable of pairs, in any case; an httpx ``Headers`` is read by its raw list, which
    is quickest. ``now`` is in seconds since the epoch; None reads this machine's clock, and only if a reset is a
    date. A limit without a usable size, and a value that nobody can mean (NaN, infinite, above MAX_LIMIT, no
    number), is no reading. Never raises.
    """
    return tuple([one for one in read_all(headers, now) if one.limit is not None and one.kind in _TAUGHT_KINDS])


def read_all(headers: object, now: float | None) -> list[LimitReading]:
    """All that the headers tell of limits, of every kind, also where only a part is said. Never raises."""
    try:
        return _read(headers, now)
    except Exception:  # somebody else's mapping may raise anything; the hot path has no room for finer guards
        return []


def _read(headers: object, now: float | None) -> list[LimitReading]:
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
        parts = found.get(bucket)
        if parts is None:
            parts = found[bucket] = [None, None, None, None, None, None, 1.0, None, name]
        if index == _RESET:
            if parts[_RESET] is None:
                parts[_UNIT] = name.unit
            else:  # Codex gives one reset twice, as a length and as a date that lags a second behind
                parts[_AGAIN] = (raw_value, name.unit)
                continue
        elif parts[index] is not None:  # a doubled header
            raw_value = f"{_text(parts[index])}, {_text(raw_value)}"  # noqa: PLW2901
        parts[index] = raw_value
    readings: list[LimitReading] = []
    for parts in found.values():
        readings += _readings(parts, now)
    if ietf:
        readings += _ietf_readings(headers, now)
    return readings


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
"""One limit while it is read: values as sent, by the places below, and the HeaderName."""

_LIMIT, _REMAINING, _RESET, _POLICY, _PERCENT, _STATUS, _UNIT, _AGAIN, _NAME = range(9)
_PLACES: Final[dict[Role, int]] = {
    "limit": _LIMIT, "remaining": _REMAINING, "reset": _RESET, "policy": _POLICY, "used-percent": _PERCENT,
    "status": _STATUS,
}  # fmt: skip
_MAX_SLOTS = 4096
"""Names remembered. Servers send some fifty; a hostile one must not fill memory."""
_SLOTS: dict[object, _Slot | None] = {}
_BUCKETS: dict[tuple[str, ...], int] = {}
_NEW: Final[_Slot] = (-2, 0, None)
"""Stands for a name that was never seen."""
_STATUSES: Final = {"rejected": 0.0, "allowed": 1.0, "allowed_warning": 1.0}
"""Anthropic's unified limits have a word for what is left."""


def _learn(raw_name: object) -> _Slot | None:
    """The meaning of a name seen for the first time, remembered; None if it tells of no limit."""
    if not isinstance(raw_name, (str, bytes)) or len(raw_name) > MAX_SCALAR_CHARS:
        return None
    name = (raw_name if isinstance(raw_name, str) else raw_name.decode("latin-1")).lower()
    slot: _Slot | None = None
    if name in NAMES:
        slot = (-1, 0, None)
    elif read := read_name(name):
        if read.key not in _BUCKETS and len(_BUCKETS) >= _MAX_SLOTS:
            return None
        slot = (_BUCKETS.setdefault(read.key, len(_BUCKETS)), _PLACES[read.role], read)
    if len(_SLOTS) < _MAX_SLOTS:
        _SLOTS[raw_name] = slot
    return slot


def _readings(parts: _Parts, now: float | None) -> list[LimitReading]:
    """The limit that one family of headers tells of, or the several whose values are lists ("1, 15000")."""
    name: HeaderName = parts[_NAME]
    raw = parts[_LIMIT]
    if parts[_POLICY] is None and isinstance(raw, (bytes, str)) and len(raw) <= _PLAIN_DIGITS and raw.isdigit():
        size = _amount(raw) or None  # nearly always
        return [LimitReading(name.kind, name.scope, name.window, size, _remaining(parts), _reset(parts, now))]
    policy = _text(parts[_POLICY])
    sizes = _sizes(raw)
    if len(sizes) > 1:
        left, resets = _text(parts[_REMAINING]).split(","), _text(parts[_RESET]).split(",")
        if len(sizes) == len(left) == len(resets):
            windows = policy_windows(policy)
            return [
                LimitReading(
                    name.kind, name.scope, windows.get(size), size, _left(one), _seconds(reset, parts[_UNIT], now)
                )
                for size, one, reset in zip(sizes, left, resets, strict=True)
            ]
    size = sizes[0] if sizes else None
    window = name.window or policy_windows(policy or _text(raw)).get(size or 0.0)
    return [LimitReading(name.kind, name.scope, window, size, _remaining(parts), _reset(parts, now))]


def _remaining(parts: _Parts) -> float | None:
    if parts[_PERCENT] is not None:
        used = number(_text(parts[_PERCENT]).rstrip("% "))
        return max(0.0, 100.0 - used) if used is not None else None
    if parts[_STATUS] is not None:
        return _STATUSES.get(_text(parts[_STATUS]).lower())
    return _left(parts[_REMAINING])


def _reset(parts: _Parts, now: float | None) -> float | None:
    first = _seconds(parts[_RESET], parts[_UNIT], now)
    if parts[_AGAIN] is None:
        return first
    raw, unit = parts[_AGAIN]
    again = _seconds(raw, unit, now)
    return again if first is None or (again is not None and again > first) else first


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""


_PLAIN_DIGITS = 15


def _amount(raw: object) -> float | None:
    """A size or a level; None for what is none. A comma parts thousands ("200,000") or the items of a list ("10, 20")."""
    if isinstance(raw, (bytes, str)) and len(raw) <= _PLAIN_DIGITS and raw.isdigit() and raw.isascii():
        return int(raw)
    text = _text(raw).partition(";")[0]
    value = number(text)
    if value is None:
        value = number(text.partition(",")[0])
    return value if value is not None and value <= MAX_LIMIT else None


def _sizes(raw: object) -> list[float]:
    """The sizes that the value of one header lists; mostly one. "100, 100;w=60" is one size with its policy."""
    size = _amount(raw)
    if not size:
        return []
    text = _text(raw)
    if "," not in text or ";" in text or number(text) is not None:
        return [size]
    sizes = [number(part) for part in text.split(",")]
    return [one for one in sizes if one and one <= MAX_LIMIT] if all(sizes) else [size]


def _left(raw: object) -> float | None:
    """What remains. A bucket that was overdrawn is empty; -1 is how some say "no limit"."""
    if not isinstance(raw, (bytes, str)):
        return None
    if len(raw) <= _PLAIN_DIGITS and raw.isdigit() and raw.isascii():
        return int(raw)
    text = _text(raw).strip()
    if text.startswith("-"):
        overdrawn = number(text[1:])
        return 0.0 if overdrawn is not None and 1 < overdrawn <= MAX_LIMIT else None
    return _amount(text) if text else None


def _seconds(raw: object, unit: float, now: float | None) -> float | None:
    """Seconds until a reset: of a list the longest."""
    if not isinstance(raw, (bytes, str)) or len(raw) > MAX_SCALAR_CHARS:  # nor may the cache keep it
        return None
    if raw[-1:] not in (b"Z", "Z"):  # Anthropic's dates never come back
        length = _plain_duration(raw)
        if length is not None:
            return length
    clock = time.time() if now is None else now
    text = _text(raw).strip()
    found = moment(text, clock, default_unit=unit)
    if found is None and "," in text:
        several = [moment(part.strip(), clock, default_unit=unit) for part in text.split(",")]
        found = max((one for one in several if one), default=None)
    return plausible_delay(found[0]) if found else None


@lru_cache(maxsize=4096)
def _plain_duration(raw: bytes | str) -> float | None:
    """Read "12ms", "6m0s": what needs no clock, and comes back again and again."""
    length = parse_duration(_text(raw))
    return plausible_delay(length) if length is not None else None


def _ietf_readings(headers: object, now: float | None) -> list[LimitReading]:
    readings: list[LimitReading] = []
    for field in read_ratelimit_fields(normalise(_raw_items(headers))):
        size = field.quota if field.quota and field.quota <= MAX_LIMIT else None
        reset = _seconds(field.reset, 1.0, now)
        readings.append(LimitReading(field.kind, "", field.window, size, _left(field.remaining), reset, "ratelimit"))
    return readings
