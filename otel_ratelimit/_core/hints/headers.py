"""What the headers of one response say: plain instructions, and limits with the time at which they are reset.

Owns the reading of foreign header objects, of `Retry-After` and its relatives, and the choice among several resets.
The names of the limit families are in ``families``, sentences in ``message``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from otel_ratelimit._core.hints.durations import MAX_SCALAR_CHARS, number, plausible_delay
from otel_ratelimit._core.hints.families import HeaderName, read_name, unit_of
from otel_ratelimit._core.hints.ietf import policy_window, read_ratelimit_fields
from otel_ratelimit._core.hints.instants import moment
from otel_ratelimit._core.throttle import LimitKind, LimitWindow, ThrottleSource

MAX_HEADERS = 256
"""Headers that are looked at; real responses carry some forty."""

_MAX_VALUE_CHARS = 1024
"""Characters kept of one value: the longest that matters is a `RateLimit` list or an `x-error-message`."""

_MAX_LIST = 8
"""Values of one header that are read, where they come as a list."""

_WEEKDAY = re.compile(r"\b(?:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6},\s?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait that was asked for: seconds, and where it stood."""

    delay: float
    source: ThrottleSource


@dataclass(slots=True)
class Limit:
    """One limit of a header family, filled in header by header. Units: those of ``kind``; ``reset`` in seconds."""

    kind: LimitKind = "unknown"
    window: LimitWindow | None = None
    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None
    source: ThrottleSource = "x-ratelimit-reset"


def normalise(headers: object) -> dict[str, str]:
    """Lower-case names to text values, from any mapping or iterable of pairs; what cannot be read is left out.

    Foreign code runs here (a mapping of somebody else's), so any ``Exception`` of it ends the reading.
    """
    plain: dict[str, str] = {}
    try:
        for index, (name, value) in enumerate(_pairs(headers)):
            if index >= MAX_HEADERS:
                break
            key, text = _text(name).strip().lower(), _text(value).strip()
            plain[key] = f"{plain[key]}, {text}" if key in plain and len(plain[key]) < _MAX_VALUE_CHARS else text
    except Exception:  # see the docstring
        return plain
    return plain


def _pairs(headers: object) -> Iterable[tuple[object, object]]:
    if isinstance(headers, Mapping):
        return headers.items()
    items = getattr(headers, "items", None)
    if callable(items):
        return items()  # type: ignore[no-any-return]
    return headers if isinstance(headers, Iterable) and not isinstance(headers, (str, bytes)) else ()


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value[:_MAX_VALUE_CHARS].decode("utf-8", "replace")
    if isinstance(value, str):
        return value[:_MAX_VALUE_CHARS]
    if isinstance(value, (int, float)):
        try:
            return str(value)
        except ValueError:  # an int of more than 4,300 digits
            return ""
    if isinstance(value, (list, tuple)):  # as Node relays them
        return ", ".join([_text(one) for one in value[:_MAX_LIST]])
    return ""


def instruction(headers: Mapping[str, str], now: float) -> Wait | None:
    """The wait that the headers ask for outright, or None.

    The milliseconds are the finer form of the seconds and win over them where they can be read, as in the SDKs.
    """
    waits = []
    for raw_name, value in headers.items():
        name = raw_name.replace("_", "-")
        # also `x-ratelimit-retry-after`, and Traefik's `x-retry-in`
        if ("retry-after" in name or "retry-in" in name) and (
            wait := _retry_after(value, unit_of(name.rpartition("retry-")[2]), now)
        ):
            waits.append(wait)
    fine = [wait for wait in waits if wait.source == "retry-after-ms"]
    return max(fine or waits, key=lambda wait: wait.delay, default=None)


def _retry_after(value: str, unit: float, now: float) -> Wait | None:
    """RFC 9110, section 10.2.3, and what else is seen: decimals, units ("20s"), RFC 3339, a doubled header.

    ``unit``: seconds per 1 of a plain number.
    """
    if len(value) > MAX_SCALAR_CHARS:
        return None
    found = moment(value, now, default_unit=unit)
    if found is None:
        # A doubled header, or one in quotes or with parameters. The weekday of a date has a comma of its own.
        parts = [part.partition(";")[0].strip(' "') for part in _WEEKDAY.sub("", value).split(",")]
        moments = [moment(part, now, default_unit=unit) for part in parts]
        known = [one for one in moments if one]
        if not known or len(known) < len(parts):
            return None
        found = max(known)
    delay = plausible_delay(found[0])
    if delay is None:
        return None
    if unit < 1:
        return Wait(delay, "retry-after-ms")
    return Wait(delay, "retry-after-date" if found[1] else "retry-after")


def read_limits(headers: Mapping[str, str], now: float) -> list[Limit]:
    """Every limit that the headers tell of, the IETF fields included, in their order."""
    limits: dict[tuple[str, ...], Limit] = {}
    for raw_name, value in headers.items():
        name = read_name(raw_name)
        if name is not None:
            known = limits.setdefault(name.key, Limit(name.kind, name.window))
            _fill(known, name, value, now)
    for field in read_ratelimit_fields(headers):
        limits["ietf", field.name] = Limit(
            field.kind, field.window, field.quota, field.remaining, _reset(field.reset, now), "ratelimit"
        )
    return list(limits.values())


def _fill(limit: Limit, name: HeaderName, value: str, now: float) -> None:
    """Put one header's value in its place; a negative, empty or unreadable one says nothing (-1 is "no limit").

    But a remainder below -1 is a bucket that was overdrawn.
    """
    match name.role:
        case "reset":
            reset = _reset(value, now, name.unit)
            # Codex gives one reset twice, as a length and as a date that lags a second behind.
            limit.reset = max(reset or 0, limit.reset or 0) or None
        case "limit":
            # "100, 100;w=60": the quota, then the policies (drafts of the IETF fields before 07; Envoy).
            limit.limit = number(value.partition(",")[0].partition(";")[0]) or limit.limit
            limit.window = limit.window or policy_window(value)
        case "remaining":
            overdrawn = number(value[1:]) if value.startswith("-") else None
            limit.remaining = 0.0 if overdrawn and overdrawn > 1 else number(value)
        case "used-percent":
            used = number(value.rstrip("% "))
            limit.remaining = max(0.0, 100 - used) if used is not None else None
        case "status":
            limit.remaining = {"rejected": 0.0, "allowed": 1.0, "allowed_warning": 1.0}.get(value.lower())


def _reset(value: str, now: float, unit: float = 1.0) -> float | None:
    """Seconds until a reset; 0 says nothing, since a bucket that is full now cannot have refused."""
    found = moment(value, now, default_unit=unit)
    return (plausible_delay(found[0]) or None) if found else None


def exhausted(limits: Iterable[Limit]) -> list[Limit]:
    """The limits that are said to have nothing left."""
    return [limit for limit in limits if limit.remaining == 0]


def binding_limit(limits: list[Limit], kind: LimitKind, window: LimitWindow | None) -> Limit | None:
    """The limit that refused us: the empty one, or the one that the text names (``kind``, ``window``).

    Among several the one that is reset last. If neither tells, None: then ``last_reset`` is the safe guess.
    """
    empty = exhausted(limits)
    named = [limit for limit in limits if kind != "unknown" and limit.kind == kind]
    named = [limit for limit in named if limit.window == window] or named
    pool = [limit for limit in named if limit in empty] or empty or named
    return max(pool, key=lambda limit: limit.reset or 0, default=None)


def last_reset(limits: Iterable[Limit]) -> Limit | None:
    """The limit that is reset last, or None where no reset is told."""
    return max((limit for limit in limits if limit.reset), key=lambda limit: limit.reset or 0, default=None)
