"""Limit, used and requested as sentences give them.

Owns the grammar of "Limit 30000, Used 29937, Requested 385", "Limit: 20 / min", "limit of 24 per 60s", "limited to
1000 API calls / month", "(actual/limit): 480/480", "max RPM: 3". Units and windows are the subject of ``kinds``.
"""
# ruff: noqa: RUF001 - the vocabulary is of several scripts on purpose

from __future__ import annotations

import re
from dataclasses import dataclass

from otel_ratelimit._core.hints.durations import tidy

_NUMBER = r"(\d{1,3}(?:[,_]\d{3}){1,5}(?!\d)|\d{1,18}(?:\.\d{1,9})?)([km]\b)?"
_TIME_UNIT = r"(?![\d.,]*\d)(?![\s-]?(?:ms|s|sec|secs|seconds?|m|min|minutes?|h|hours?|days?)\b)"
_IS = r"(?:\s(?:is|of|was|set to|reached|exceeded))?[\s:=(~≈`'\"]{0,4}"
_WHICH = r"(?:\s?\(?(?:rpm|tpm|rpd|tpd|qps|qpm|ipm|requests?|tokens?|concurrency|parallel requests|value)\)?)?"
_NOUN = (
    r"(?:(?:input|output|prompt|completion|api|free|image|model|credit|active|concurrent|parallel|enqueued)\s)?"
    r"(?:tokens?|requests?|reqs?|quer(?:y|ies)|calls?|images?|messages?|credits?|neurons?|predictions?|generations?|次)"
)

_LIMIT = re.compile(
    rf"(?<![a-z])(?:limits?|quota|quota_limit_value|quotavalue){_WHICH}{_IS}{_NUMBER}{_TIME_UNIT}(?!\s?/\s?\d+(?![\da-z]))"
)
_LIMITED_TO = re.compile(
    rf"\b(?:limited to|limit you to|reduced to|maximum(?: of)?|max(?: of)?|at most|allows?|allowed|only(?: make| send)?)"
    rf"{_IS}{_NUMBER}\s(?={_NOUN})"
)
_MAX_OF = re.compile(
    rf"\bmax(?:imum)?[\s_](?:[a-z]{{3,14}}\s)?"
    rf"(?:requests?|tokens?|concurrency|concurrent requests|rpm|tpm|rpd|tpd|ipm|qps|parallel[\s_]requests)"
    rf"(?:\sper\s(?:minute|second|hour|day))?\s?(?:\([a-z]{{3,4}}\))?{_IS}{_NUMBER}"
)
# "the rate limit ... is 9.0 queries per minute", "rate limit for your organization of 20,000 input tokens per minute"
_LIMIT_RATE = re.compile(
    rf"\blimits?\b(?:(?!\.\s)[^\n]){{0,90}}?\s(?:is|of|to|at|:)\s{_NUMBER}\s(?=(?:{_NOUN}\s?)?(?:(?:per|an?|every|each)\s|/))"
)
_CHINESE_LIMIT = re.compile(
    rf"(?:限制|上限|限额|最多|最大|不超过)(?:为|是|值)?(?:请求|调用)?[\s:：为`]{{0,3}}{_NUMBER}(?!\s?(?:秒|分|小时|天))"
)
_CHINESE_COUNT = re.compile(rf"{_NUMBER}\s?次的?(?:请求|调用)?(?:上限|限制|限额)")
_OVER = re.compile(rf"exceed\w{{0,3}}:?\s{_NUMBER}\s?>\s?{_NUMBER}")
_FRACTION = re.compile(
    rf"(?:actual/limit\)?|limit(?: is)? (?:reached|exceeded)|limit:|used)[\s:(]{{0,4}}"
    rf"{_NUMBER}\s?(?:/|of|out of)\s?(?:your\s|the\s)?{_NUMBER}{_TIME_UNIT}"
)
_FRACTION_USED = re.compile(rf"(?<![\d./]){_NUMBER}\s?/\s?{_NUMBER}\s(?:{_NOUN}\s)?used")
_USED = re.compile(rf"\b(?:used|(?:current|actual)(?:\s(?:usage|rpm|tpm|rate|value))?|usage){_IS}{_NUMBER}{_TIME_UNIT}")
_REQUESTED = re.compile(
    rf"\b(?:requested(?:\s(?:tokens|up to|about|approximately))?|request (?:of|needs|requires)){_IS}{_NUMBER}{_TIME_UNIT}"
)
_SUFFIX = {"k": 1e3, "m": 1e6}


@dataclass(frozen=True, slots=True)
class Amounts:
    """Numbers in the unit of the limit; None where not said."""

    limit: float | None = None
    used: float | None = None
    requested: float | None = None


def find_amounts(lower: str) -> Amounts:
    """The numbers of a lower-case text. The first wording that is found counts."""
    if "actual/limit" in lower:
        return _worst_fraction(lower)
    if ">" in lower and (over := _OVER.search(lower)):
        return Amounts(_value(over, 3), None, _value(over, 1))
    limit = None
    for pattern, anchor in _LIMITS:
        if anchor in lower and (found := pattern.search(lower)):
            limit = _value(found, 1)
            break
    used = requested = None
    if "used" in lower or "curren" in lower or "usage" in lower or "actual" in lower:
        used = _value(_USED.search(lower), 1)
    if limit is None and ("/" in lower or " of " in lower):
        found = _FRACTION.search(lower) or (_FRACTION_USED.search(lower) if "used" in lower else None)
        if found and _value(found, 3):  # "(0/0 used)" is how MiniMax says nothing
            used, limit = _value(found, 1), _value(found, 3)
    if "request" in lower:
        requested = _value(_REQUESTED.search(lower), 1)
    return Amounts(limit, used, requested)


_LIMITS = (
    (_LIMIT, ""),
    (_LIMITED_TO, " "),
    (_MAX_OF, "max"),
    (_LIMIT_RATE, "limit"),
    (_CHINESE_COUNT, "次"),
    (_CHINESE_LIMIT, ""),
)


def _worst_fraction(lower: str) -> Amounts:
    """xAI lists every limit as "(actual/limit): 480/480"; the one that is reached is the one that refused."""
    pairs = [(_value(found, 1) or 0, _value(found, 3) or 0) for found in _FRACTION.finditer(lower)]
    if not pairs:
        return Amounts()
    reached = [pair for pair in pairs if pair[1] and pair[0] >= pair[1]]
    used, limit = (reached or pairs)[0]
    return Amounts(limit, used)


def _value(found: re.Match[str] | None, group: int) -> float | None:
    """The number in ``group``, with its suffix (k, m) in the group behind it."""
    if found is None or found[group] is None:
        return None
    digits = found[group].replace(",", "").replace("_", "")
    return tidy(float(digits) * _SUFFIX.get(found[group + 1] or "", 1))
