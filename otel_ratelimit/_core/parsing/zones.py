"""Time zones as error messages write them, to seconds east of Greenwich.

Owns abbreviations, offsets ("UTC+8", "+05:30") and the names of some cities ("Asia/Seoul"). The standard library's zones
need files of the system, which this package does not read; so summer time follows the rules of the United States and of the
European Union as they have been since 2007 and 1996, and zones with other rules are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

_HOUR: Final = 3600

_FIXED: Final[dict[str, float]] = {
    "z": 0, "utc": 0, "gmt": 0, "pst": -8, "pdt": -7, "mst": -7, "mdt": -6, "cst": -6, "cdt": -5, "est": -5, "edt": -4,
    "wet": 0, "west": 1, "bst": 1, "cet": 1, "cest": 2, "eet": 2, "eest": 3, "msk": 3, "ist": 5.5, "sgt": 8, "hkt": 8,
    "jst": 9, "kst": 9, "aest": 10, "aedt": 11,
    "asia/shanghai": 8, "asia/hong_kong": 8, "asia/taipei": 8, "asia/singapore": 8, "asia/manila": 8, "asia/kuala_lumpur": 8,
    "asia/tokyo": 9, "asia/seoul": 9, "asia/kolkata": 5.5, "asia/calcutta": 5.5, "asia/jakarta": 7, "asia/bangkok": 7,
    "asia/ho_chi_minh": 7, "asia/saigon": 7, "asia/dubai": 4, "europe/moscow": 3, "europe/istanbul": 3,
    "america/sao_paulo": -3, "america/bogota": -5, "america/lima": -5, "america/phoenix": -7, "australia/brisbane": 10,
    "etc/utc": 0, "africa/lagos": 1, "africa/nairobi": 3, "africa/johannesburg": 2, "beijing time": 8, "beijing": 8,
}  # fmt: skip
"""Hours east. "cst" is America's: China's services write Beijing time without any zone."""

_AMERICAN: Final[dict[str, int]] = {
    "pt": -8, "pacific time": -8, "pacific": -8, "america/los_angeles": -8, "us/pacific": -8, "america/vancouver": -8,
    "mt": -7, "mountain time": -7, "america/denver": -7,
    "ct": -6, "central time": -6, "america/chicago": -6,
    "et": -5, "eastern time": -5, "eastern": -5, "america/new_york": -5, "us/eastern": -5, "america/toronto": -5,
    "america/anchorage": -9,
}  # fmt: skip
"""Hours east in winter."""

_EUROPEAN: Final[dict[str, int]] = {
    "europe/london": 0, "europe/dublin": 0, "europe/lisbon": 0,
    "europe/berlin": 1, "europe/paris": 1, "europe/madrid": 1, "europe/rome": 1, "europe/amsterdam": 1, "europe/brussels": 1,
    "europe/vienna": 1, "europe/zurich": 1, "europe/stockholm": 1, "europe/oslo": 1, "europe/copenhagen": 1,
    "europe/prague": 1, "europe/warsaw": 1, "europe/budapest": 1,
    "europe/helsinki": 2, "europe/athens": 2, "europe/bucharest": 2, "europe/sofia": 2, "europe/kyiv": 2, "europe/kiev": 2,
}  # fmt: skip
"""Hours east in winter."""

_NAMES: Final = sorted([*_FIXED, *_AMERICAN, *_EUROPEAN], key=len, reverse=True)
ZONE: Final = (
    rf"(?:(?:utc|gmt)\s?[+-]\d{{1,2}}(?::?\d{{2}})?|(?:{'|'.join(map(re.escape, _NAMES))})\b|[+-]\d{{2}}:?\d{{2}}\b)"
)
"""The pattern of a zone, in lower-case text."""

_OFFSET: Final = re.compile(r"([+-])(\d{1,2}):?(\d{2})?$")


def offset_of(zone: str | None, at: datetime) -> int | None:
    """Seconds east of Greenwich of a zone at a wall-clock time; None where no zone was written, or none is known."""
    if not zone:
        return None
    zone = zone.strip()
    if zone in _FIXED:
        return round(_FIXED[zone] * _HOUR)
    if zone in _AMERICAN:
        return (_AMERICAN[zone] + _summer(at, _american_summer)) * _HOUR
    if zone in _EUROPEAN:
        return (_EUROPEAN[zone] + _summer(at, _european_summer)) * _HOUR
    signed = _OFFSET.search(zone)
    if not signed:
        return None
    seconds = int(signed[2]) * _HOUR + int(signed[3] or 0) * 60
    return -seconds if signed[1] == "-" else seconds


def _summer(at: datetime, rule: Callable[[int], tuple[datetime, datetime]]) -> int:
    begin, end = rule(at.year)
    return 1 if begin <= at.replace(tzinfo=None) < end else 0


def _american_summer(year: int) -> tuple[datetime, datetime]:
    """From the second Sunday of March to the first Sunday of November, at 2 o'clock (Energy Policy Act of 2005)."""
    return _sunday(datetime(year, 3, 8, 2)), _sunday(datetime(year, 11, 1, 2))


def _european_summer(year: int) -> tuple[datetime, datetime]:
    """From the last Sunday of March to that of October (Directive 2000/84/EC)."""
    return _sunday(datetime(year, 3, 25, 2)), _sunday(datetime(year, 10, 25, 3))


def _sunday(day: datetime) -> datetime:
    """That day, if it is a Sunday, or the next one."""
    return day + timedelta(days=6 - day.weekday())
