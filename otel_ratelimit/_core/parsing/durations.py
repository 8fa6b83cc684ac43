"""Numbers and lengths of time as services write them, to seconds.

Owns the grammar of "6m0s", "564ms", "1 minute and 30 seconds", "PT1M", "00:12:34", "5 分钟" and the bounds of what a
server can mean. Knows nothing of sentences or header names, nor of the clock (``instants``). All patterns are
linear: every repetition is bounded or of a class that its neighbours exclude.
"""
# ruff: noqa: RUF001 - the vocabulary is of several scripts on purpose

from __future__ import annotations

import math
import re

MAX_DELAY = 366 * 86_400
"""Seconds. The longest wait that a server can mean: a yearly window. Anything above is a broken number, not a wait."""

MAX_SCALAR_CHARS = 128
"""Characters. No header value or field that is one number, duration or date is longer."""

_SECOND, _MINUTE, _HOUR, _DAY = 1.0, 60.0, 3600.0, 86_400.0

# Full words first, so that "min" is not read as "m". Word forms of the larger European languages, of Turkish,
# Vietnamese and Indonesian, and of Chinese, Japanese and Korean are here because gateways localise their errors.
_LATIN_UNITS: tuple[tuple[float, str], ...] = (
    (1e-9, r"nanoseconds?|ns"),
    (1e-6, r"microseconds?|[uµμ]s"),
    (1e-3, r"milliseconds?|millisecs?|millis|msecs?|ms"),
    (_SECOND, r"second\(s\)|seconds?|secs?|s|sekunden?|secondes|segundos?|secondi|секунд[уы]?|сек"),
    (_SECOND, r"saniye|sekund[ay]?|seconden|giây|detik"),
    (_MINUTE, r"minute\(s\)|minutes?|mins?|m|minuten|minutos?|minuti|минут[уы]?|мин|dakika|minut[ay]?|phút|menit"),
    (_HOUR, r"hour\(s\)|hours?|hrs?|h|stunden?|heures?|horas?|ore|час(?:а|ов)?|saat|godzin[ay]?|uur|giờ|jam"),
    (_DAY, r"day\(s\)|days?|d|tagen?|jours?|d[ií]as?|giorni|дн(?:я|ей)|день"),
    (7 * _DAY, r"week\(s\)|weeks?|wks?|w"),
)
_CJK_UNITS: tuple[tuple[float, str], ...] = (
    (1e-3, "毫秒|밀리초"),
    (_SECOND, "秒钟|秒鐘|秒間|秒|초"),
    (_MINUTE, "分钟|分鐘|分間|分|분"),
    (_HOUR, "个小时|個小時|小时|小時|時間|시간"),
    (_DAY, "天|日間|日|일"),
)
_SIZES = tuple(size for size, _ in _LATIN_UNITS + _CJK_UNITS)
_UNIT = "|".join([f"({words})(?![a-zа-я])" for _, words in _LATIN_UNITS] + [f"({words})" for _, words in _CJK_UNITS])
NUMBER = r"(?:\d{1,3}(?:,\d{3}){1,5}(?:\.\d{1,24})?(?!\d)|\d{1,18}(?:\.\d{1,24})?|\.\d{1,24})"
# "5s", "5 s", "'5' minutes", "**5** seconds", "30 (seconds)", "5 more minutes", "5-second"
_GAP = r"[\"'`*\])]{0,2}\s{0,2}(?:(?:more|additional|further|full)\s)?[-(\[]?"
_DECIMAL_COMMA = r"\d{1,6},\d{1,2}(?!\d)"
_DECIMALS = len(",50")
"""Characters from the comma to the end of a number: thousands have one more at least."""
_COMPONENT = re.compile(rf"({_DECIMAL_COMMA}|{NUMBER}){_GAP}(?:{_UNIT})")
# The full stop belongs to an abbreviation: "1 hr. 30 min."
_SEPARATOR = re.compile(r"(?:(?<=hr|in|ec)\.)?[\s,]{0,4}(?:(?:and|und|et|y|e|и|&|\+)\s{1,3})?")
_CLOCK = re.compile(r"(?:(\d{1,3})[.:])?(\d{1,3}):([0-5]\d):([0-5]\d)(\.\d{1,9})?(?![\d:])")
_ISO = re.compile(r"p(?:(\d{1,4})d)?(?:t(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?)?(?![a-z\d])")
_PLAIN = re.compile(rf"\+?{NUMBER}")


def tidy(value: float) -> float:
    """The same number, as ``int`` where it is whole; float noise below a nanosecond is dropped."""
    rounded = round(float(value), 9)
    return int(rounded) if rounded.is_integer() else rounded


def plausible_delay(seconds: float) -> float | None:
    """``seconds`` if a server can mean it as a wait: finite and between 0 and MAX_DELAY; else None."""
    if not math.isfinite(seconds) or not 0 <= seconds <= MAX_DELAY:
        return None
    return tidy(seconds)


def number(text: str) -> float | None:
    """A plain non-negative decimal that is the whole of ``text`` ("1,000" and "0.5", not "1e9", "-1", "5s")."""
    text = text.strip()
    if len(text) > MAX_SCALAR_CHARS or not _PLAIN.fullmatch(text):
        return None
    return float(text.replace(",", ""))


def duration_at(text: str, start: int) -> tuple[float, int] | None:
    """The length of time written at ``text[start]``: (seconds, index behind it), or None. ``text`` is lower case.

    Units must shrink from left to right ("1m 30s"), so that two neighbouring durations are not added up.
    """
    clock = _CLOCK.match(text, start)
    if clock:
        days, hours, minutes, seconds, fraction = clock.groups()
        total = int(days or 0) * _DAY + int(hours) * _HOUR + int(minutes) * _MINUTE + int(seconds)
        return total + float(fraction or 0), clock.end()
    if text.startswith("p", start):
        return _iso_at(text, start)
    total, end, last = 0.0, start, math.inf
    position = start
    while component := _COMPONENT.match(text, position):
        size = _SIZES[(component.lastindex or 0) - 2]
        if size >= last:
            break
        total += _decimal(component[1]) * size
        last, end = size, component.end()
        separator = _SEPARATOR.match(text, end)
        position = separator.end() if separator else end
    return (total, end) if last < math.inf else None


def _decimal(text: str) -> float:
    """The value of a number; a comma parts thousands ("1,200") or, as on the Continent, decimals ("1,5")."""
    if "," not in text:
        return float(text)
    return float(text.replace(",", "." if len(text) - text.rindex(",") <= _DECIMALS else ""))


def _iso_at(text: str, start: int) -> tuple[float, int] | None:
    """ISO 8601 "PT1M30S", without years and months, whose length is not fixed."""
    iso = _ISO.match(text, start)
    if not iso or not any(iso.groups()):
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in iso.groups())
    return days * _DAY + hours * _HOUR + minutes * _MINUTE + seconds, iso.end()


def parse_duration(text: str) -> float | None:
    """Seconds of a text that is nothing but a duration with units ("6m0s", "~30 seconds"); None otherwise."""
    if len(text) > MAX_SCALAR_CHARS:
        return None
    text = text.strip().lower().lstrip("~≈ ")
    found = duration_at(text, 0)
    return found[0] if found and found[1] == len(text) else None
