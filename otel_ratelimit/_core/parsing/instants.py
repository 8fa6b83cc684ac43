"""Points in time as services write them, to seconds since the epoch.

Owns RFC 3339 and its looser cousins, HTTP dates, English dates and epoch numbers in any unit. Knows no clock: what
"now" is comes in as an argument.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from otel_ratelimit._core.parsing.durations import MAX_SCALAR_CHARS, number, parse_duration
from otel_ratelimit._core.parsing.zones import ZONE, offset_of

_BEIJING_OFFSET = 8 * 3600
"""Seconds. Zhipu, Volcengine and Alibaba print Beijing wall time without naming the zone."""

_EPOCH_MIN, _EPOCH_MAX = 1_000_000_000, 10_000_000_000
"""Seconds since the epoch (2001 to 2286). Smaller numbers are lengths of time, and below 1 s nobody counts."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})[a-z]{{0,6}}\.?"
_DAY = r"(?P<day>\d{1,2})"
_YEAR = r"(?P<year>\d{4})"
_SHORT_YEAR = r"(?P<year>\d{4}|\d{2}(?!\d))"
_ZONE = rf"(?:\s{{0,2}}\(?(?P<zone>{ZONE}|\s?[+-]\d{{1,2}}(?::?\d{{2}})?))?"
_HOUR_MINUTE = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9})\d{0,9})?)?"
_TIME = rf"{_HOUR_MINUTE}(?:\s?(?P<half>[ap])\.?m\b\.?)?{_ZONE}"
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        # RFC 3339, its forms with blanks, slashes or "at", and the bare date
        rf"{_YEAR}[-/](?P<month>\d{{1,2}}|{'|'.join(_MONTHS)})[-/]{_DAY}(?!\d)(?:(?:t|,?\s{{1,3}}(?:at\s)?){_TIME})?",
        # HTTP dates of both kinds (RFC 9110, section 5.6.7), behind the name of the weekday
        rf"{_DAY}[\s-]{_MONTH}[\s,-]{{1,2}}{_SHORT_YEAR}\s{{1,2}}(?:at\s)?{_TIME}",
        rf"{_MONTH}\s{{1,2}}{_DAY}\s{_HOUR_MINUTE}\s{_YEAR}",
        # "Apr 20, 2026 at 8:00 AM UTC", "May 3rd, 2026"
        rf"{_MONTH}\s{_DAY}(?:st|nd|rd|th)?,?\s{_YEAR}(?:,?\s{{1,2}}(?:at\s)?{_TIME})?",
        rf"{_YEAR}\s?年\s?(?P<month>\d{{1,2}})\s?月\s?{_DAY}\s?日(?:\s{{0,2}}{_TIME})?",
    )
)
_ASCTIME = _PATTERNS[2]
_DATE_START = re.compile(rf"\d{{4}}\s?[-/年]|(?:\d{{1,2}}[\s-])?(?:{'|'.join(_MONTHS)})")
"""A cheap look before the patterns, since most numbers of a text are no dates."""
# "5pm (UTC)", "14:30 GMT", "midnight UTC", "Oct 5 at 9am UTC": what recurs, so the next one is meant
_RECURRING = re.compile(
    rf"(?:{_MONTH}\s{{1,2}}{_DAY}(?:st|nd|rd|th)?,?\s(?:at\s)?)?"
    rf"(?:(?P<word>midnight|noon)|(?P<hour>\d{{1,2}})(?::(?P<minute>\d{{2}})(?::(?P<second>\d{{2}}))?)?"
    rf"(?:\s?(?P<half>[ap])\.?m\b\.?)?)\s{{0,2}}\(?(?P<zone>{ZONE})\)?"
)
_WEEKDAY = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6},?\s{1,2}")
_EPOCH = re.compile(r"(\d{10,19})(?:\.\d{1,9})?(?![\d\w])")
_RFC_3339_CHARS = len("2026-10-03T14:00:00Z")
MONTH_START = re.compile(rf"\b(?:{'|'.join(_MONTHS)})[a-z]{{0,6}}\.?\s{{1,2}}\d")
"""Where a date that begins with the name of a month may start, in lower-case text."""


@dataclass(frozen=True, slots=True)
class Instant:
    """A point in time. ``epoch``: seconds since the epoch, read as UTC if ``zoned`` is False (no zone was written)."""

    epoch: float
    zoned: bool


def instant_at(text: str, start: int) -> tuple[Instant, int] | None:
    """The point in time written at ``text[start]`` and the index behind it, or None. ``text`` is lower case."""
    for pattern in _PATTERNS if _DATE_START.match(text, start) else ():
        found = pattern.match(text, start)
        if found:
            instant = _build(found)
            return (instant, found.end()) if instant else None
    epoch = _EPOCH.match(text, start)
    if epoch:
        seconds = epoch_seconds(float(epoch[1]))
        return (Instant(seconds, True), epoch.end()) if seconds is not None else None
    return None


def next_instant_at(text: str, start: int, now: float) -> tuple[Instant, int] | None:
    """The next time of day, or day of the year, after ``now`` that is written at ``text[start]`` with its zone.

    Without a zone it is None: half a day of doubt is no hint.
    """
    found = _RECURRING.match(text, start)
    if not found or not (found["word"] or found["minute"] or found["half"]):
        return None
    try:
        here = datetime.fromtimestamp(now, timezone.utc)
        today = here + timedelta(seconds=offset_of(found["zone"], here) or 0)
        instant = _build(found, today)
        if instant and instant.epoch <= now:
            instant = _build(found, today + timedelta(days=366 if found["month"] else 1))
    except (ValueError, OverflowError, OSError):  # a clock that no calendar holds
        return None
    return (instant, found.end()) if instant else None


def _build(found: re.Match[str], today: datetime | None = None) -> Instant | None:
    """The calendar arithmetic; None for a date that does not exist. ``today`` gives what was not written."""
    part = found.groupdict()
    try:
        month = _month(part["month"]) if part["month"] or not today else today.month
        day = int(part["day"]) if part["day"] or not today else today.day
        year = _year(part["year"]) if not today else today.year
        hour = int(part.get("hour") or (12 if part.get("word") == "noon" else 0))
        if half := part.get("half"):
            hour = hour % 12 + (12 if half == "p" else 0)
        minute, second = int(part.get("minute") or 0), int(part.get("second") or 0)
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
        # asctime() is the one form of HTTP date without a zone, and it is UTC (RFC 9110, section 5.6.7).
        offset = 0 if found.re is _ASCTIME else offset_of(part.get("zone"), moment)
        epoch = (moment - timedelta(seconds=offset or 0)).timestamp() + float(f"0.{part.get('fraction') or 0}")
    except (ValueError, OverflowError):
        return None
    return Instant(epoch, offset is not None)


def _month(text: str) -> int:
    return int(text) if text.isdigit() else _MONTHS.index(text) + 1


def _year(text: str) -> int:
    """Two digits are of the years 1969 to 2068, as in POSIX."""
    return int(text) if len(text) > 2 else 1900 + int(text) + (100 if int(text) < 69 else 0)


def epoch_seconds(value: float) -> float | None:
    """Seconds since the epoch of a number in s, ms, µs or ns; None if it is no date of our time."""
    for size in (1.0, 1e3, 1e6, 1e9):
        if _EPOCH_MIN <= value / size < _EPOCH_MAX:
            return value / size
    return None


def seconds_until(instant: Instant, now: float, *, beijing: bool = False) -> float | None:
    """Seconds from ``now`` to ``instant``; None if it is not in the future.

    ``beijing``: read a time without a zone as Beijing's, unless that is past and UTC is not.
    """
    ahead = instant.epoch - now
    if not instant.zoned and beijing and ahead - _BEIJING_OFFSET > 0:
        ahead -= _BEIJING_OFFSET
    return ahead if ahead > 0 else None


def parse_instant(text: str) -> Instant | None:
    """The instant that is the whole of ``text`` (RFC 3339, HTTP date, epoch number, ...), or None."""
    if len(text) > MAX_SCALAR_CHARS:
        return None
    if len(text) == _RFC_3339_CHARS and text.endswith("Z"):
        with suppress(ValueError):  # the commonest form, by the quickest way
            return Instant(datetime.fromisoformat(f"{text[:-1]}+00:00").timestamp(), True)
    text = text.strip().lower()
    weekday = _WEEKDAY.match(text)
    found = instant_at(text, weekday.end() if weekday else 0)
    if not found or text[found[1] :].strip(" ()abcdefghijklmnopqrstuvwxyz"):
        return None
    return found[0]


def moment(text: str, now: float, *, default_unit: float = 1.0) -> tuple[float, bool] | None:
    """What a header or field says about *when*: (seconds from ``now``, whether it was a date), or None.

    Reads a plain number (times ``default_unit`` seconds, or an epoch if it is large enough), a duration with
    units, or a date. A date that is not in the future is None; the caller judges the size.
    """
    value = number(text)
    if value is not None:
        epoch = epoch_seconds(value)
        if epoch is None:
            return value * default_unit, False
        ahead = seconds_until(Instant(epoch, True), now)
    else:
        length = None if text.endswith("Z") else parse_duration(text)  # "Z" ends dates only
        if length is not None:
            return length, False
        instant = parse_instant(text)
        ahead = seconds_until(instant, now) if instant else None
    return (ahead, True) if ahead is not None else None
