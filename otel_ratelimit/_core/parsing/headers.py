"""Foreign header objects, and what they ask for outright: `Retry-After` and its relatives.

Limits and their resets are read by ``limits``; sentences by ``message``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from otel_ratelimit._core.parsing.durations import MAX_SCALAR_CHARS, plausible_delay
from otel_ratelimit._core.parsing.families import unit_of
from otel_ratelimit._core.parsing.instants import moment
from otel_ratelimit._core.throttle import ThrottleSource

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


def normalise(headers: object) -> dict[str, str]:
    """Lower-case names to text values, from any mapping or iterable of pairs; what cannot be read is left out.

    Foreign code runs here (a mapping of somebody else's), so any ``Exception`` of it ends the reading.
    """
    plain: dict[str, str] = {}
    try:
        for index, (name, value) in enumerate(_pairs(headers)):
            if index >= MAX_HEADERS:
                break
            # Nearly all are text: a function for each would be most of what reading headers costs.
            key = (name[:_MAX_VALUE_CHARS] if isinstance(name, str) else _text(name)).strip().lower()
            text = (value[:_MAX_VALUE_CHARS] if isinstance(value, str) else _text(value)).strip()
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
        if ("retry-after" in name or "retry-in" in name or "retry-at" in name) and (
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
