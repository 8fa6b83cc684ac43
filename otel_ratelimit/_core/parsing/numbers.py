"""Limit, used and requested as sentences give them.

Owns the grammar of "Limit 30000, Used 29937, Requested 385", "Limit: 20 / min", "limit of 24 per 60s", "limited to
1000 API calls / month", "(actual/limit): 480/480", "max RPM: 3". Units and windows are the subject of ``kinds``.
"""
# ruff: noqa: RUF001 - the vocabulary is of several scripts on purpose

from __future__ import annotations

import re
from itertools import islice

from otel_ratelimit._core.parsing.evidence import Amounts
from otel_ratelimit._core.parsing.kinds import names_both, words_of
from otel_ratelimit._core.parsing.pairs import amount, exceeded, find_pairs

_NUMBER = r"(\d{1,3}(?:[,_]\d{3}){1,5}(?!\d)|\d{1,18}(?:\.\d{1,9})?)([km]\b)?"
_TIME_UNIT = r"(?![\d.,]*\d)(?!\s?%)(?![\s-]?(?:ms|s|sec|secs|seconds?|m|min|minutes?|h|hours?|days?)\b)"
_IS = r"(?:\s(?:is|of|was|set to|reached|exceeded))?[\s:=(~≈'\"]{0,4}"
_WHICH = r"(?:\s?\(?(?:rpm|tpm|rpd|tpd|qps|qpm|ipm|requests?|tokens?|concurrency|parallel requests|value)\)?)?"
_NOUN = (
    r"(?:(?:input|output|prompt|completion|api|free|image|model|credit|active|concurrent|parallel|simultaneous|enqueued)\s)?"
    r"(?:tokens?|requests?|reqs?|quer(?:y|ies)|calls?|images?|messages?|prompts?|credits?|neurons?|predictions?|generations?"
    r"|transactions?|operations?|invocations?|connections?|units?|jobs?|次)"
)
_LENGTH = r"(?:one\s)?(?:\d{1,5}[\s-]?)?(?:s|sec|seconds?|m|min|minutes?|h|hrs?|hours?|d|days?|months?)\b"
_PERIOD = rf"(?:\s?/\s?|\s(?:per|every|each|an?|in|within)\s(?:an?\s|the\s|any\s)?){_LENGTH}"

_LIMIT = re.compile(
    rf"(?<![a-z])(?:limits?|quota|quota_limit_value|quotavalue){_WHICH}{_IS}{_NUMBER}{_TIME_UNIT}"
    r"(?!\s?(?:/|(?:out )?of)\s?\d+(?![\da-z]))"
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
# "5 requests per second allowed", "rate limit exceeded: 100 requests/minute", "the rate limit ... is 9.0 queries per minute"
_RATE = re.compile(
    rf"(?<![\w.,/-]){_NUMBER}"
    rf"(?:\s{_NOUN}(?:\s(?:are\s)?allowed|\s?\([a-z]{{3,4}}\))?{_PERIOD}|\s?(?:/\s?|(?:per|every|each)\s){_LENGTH})"
)
# "max 5 runs per minute", "Max 10 scoring requests per minute": whatever is counted, behind a word of limits
_LIMITED_RATE = re.compile(
    rf"\b(?:max(?:imum)?(?: of)?|limit(?:ed)?(?: is| of| to)?|at most|up to|only|frequency is):?\s{_NUMBER}"
    rf"(?:\s[a-z]{{2,14}}){{1,3}}{_PERIOD}"
)
_ABBREVIATED_RATE = re.compile(rf"(?<![\w.,/-]){_NUMBER}\s?(?:[io]?tp|rp|qp|ip)[smhd]\b")
_LIMITING = re.compile(
    r"limit|exceed|allow|max|quota|throttl|\bonly\b|restrict|no more than|at most|too many|\bcap\b|frequency"
    r"|\b(?:can|may) (?:make|send)\b"
)
"""Words of a text whose rate is a limit."""

_DONE = re.compile(
    r"\b(?:made|sent|used|sending|making|received|processed|submitted|currently|usage|current|actual|observed|your rate is"
    r"|last|past)\b[^.;!?\n]{0,24}$"
)
"""Words before a rate that is what the caller did."""

_OFFERED = re.compile(
    r"\b(?:upgrad|increas|unlock|subscrib|purchas|adding|rais|instead of|get up|for up|higher)[^.;!?\n]{0,64}$"
)
"""Words before a rate that more money buys."""

_LIMIT_BEFORE = re.compile(
    r"\b(?:more than|over|above|exceed\w{0,3}|limit(?:ed)?(?: of| to| is)?|max\w{0,4}(?: of)?|up to|at most)\s$"
)
"""Words directly before a rate that make it a limit, whatever stands further left."""

_CHINESE_LIMIT = re.compile(
    rf"(?:限制|上限|限额|最多|最大|不超过)(?:为|是|值)?(?:请求|调用)?[\s:：为`]{{0,3}}{_NUMBER}(?!\s?(?:秒|分|小时|天))"
)
_CHINESE_COUNT = re.compile(rf"{_NUMBER}\s?次的?(?:请求|调用)?(?:上限|限制|限额)")
_OVER = re.compile(rf"exceed\w{{0,3}}:?\s{_NUMBER}\s?>\s?{_NUMBER}")
_FRACTION = re.compile(
    rf"(?:actual/limit\)?|limit(?: is)? (?:reached|exceeded)|limit:|used)[\s:(]{{0,4}}"
    rf"{_NUMBER}\s?(?:/|of|out of)\s?(?:your\s|the\s)?{_NUMBER}{_TIME_UNIT}"
)
_FRACTION_USED = re.compile(rf"(?<![\d./]){_NUMBER}\s?(?:/|of)\s?{_NUMBER}\s(?:{_NOUN}\s)?used")
_USED = re.compile(rf"\b(?:used|(?:current|actual)(?:\s(?:usage|rpm|tpm|rate|value))?|usage){_IS}{_NUMBER}{_TIME_UNIT}")
_REQUESTED = re.compile(
    rf"\b(?:requested(?:\s(?:tokens|up to|about|approximately))?|request (?:of|needs|requires)){_IS}{_NUMBER}{_TIME_UNIT}"
)


def find_amounts(lower: str) -> Amounts:
    """The numbers of a lower-case text. Of several limits those of the exceeded one; else the first wording found."""
    lower = lower.translate(_MARKDOWN)
    if pairs := find_pairs(lower):
        pair = exceeded(pairs)
        return pair.amounts if pair else Amounts()
    if ">" in lower and (over := _OVER.search(lower)):
        return Amounts(_value(over, 3), None, _value(over, 1))
    requested = _value(_REQUESTED.search(lower), 1) if "request" in lower else None
    limit = _limit(lower, sized=requested is not None)
    used = _value(_USED.search(lower), 1) if any(word in lower for word in _USED_ANCHORS) else None
    if limit is None:
        limit, used = _fraction(lower) or (None, used)
    if used is None and requested is None and names_both(words_of(lower)):
        return Amounts()
    if limit is None:
        limit = _rate(lower)
    return Amounts(limit, used, requested)


_MARKDOWN = str.maketrans("", "", "*`")
_LIMITS = (
    (_LIMIT, ""),
    (_LIMITED_TO, " "),
    (_MAX_OF, "max"),
    (_CHINESE_COUNT, "次"),
    (_CHINESE_LIMIT, ""),
)
_USED_ANCHORS = ("used", "curren", "usage", "actual")
_MAX_TRIES = 4
"""Numbers of one wording that are tried, where the first ones are error codes."""


def _limit(lower: str, *, sized: bool) -> float | None:
    """``sized``: the text says what was requested, so that a number in parentheses is no error code."""
    for pattern, anchor in _LIMITS:
        if anchor not in lower:
            continue
        for found in islice(pattern.finditer(lower), _MAX_TRIES):
            if sized or not _is_code(lower, found):
                return _value(found, 1)
    return None


_PARENTHESIS = re.compile(r"[)\]]\s?(?:\w+\s)?(?:exceeded|reached|hit|is|was|has|requests?|tokens?|per|for|/)")
_STATUSES = frozenset({"429", "503", "529"})


def _is_code(lower: str, found: re.Match[str]) -> bool:
    """Whether a number is an error code: "limit exceeded (1002)", but not "limit (60) exceeded"."""
    before, after = lower[found.start(1) - 1 : found.start(1)], lower[found.end() : found.end() + 24]
    if before in ("(", "[") and after[:1] in (")", "]"):
        return not _PARENTHESIS.match(after) or "exceeded" in found[0] or "reached" in found[0]
    return found[1] in _STATUSES and not re.match(rf"\s?(?:{_NOUN}|/|per)", after)


def _fraction(lower: str) -> tuple[float, float | None] | None:
    """Limit and used of "480/480", "59 of 60"; None without, or where it is "0/0", which is how MiniMax says nothing."""
    if "/" not in lower and " of " not in lower:
        return None
    found = _FRACTION.search(lower) or (_FRACTION_USED.search(lower) if "used" in lower else None)
    limit = _value(found, 3)
    return (limit, _value(found, 1)) if limit else None


def _rate(lower: str) -> float | None:
    """The first rate of a text that speaks of limits, unless it is what was sent or what more money buys."""
    if not _LIMITING.search(lower):
        return None
    for pattern in (_RATE, _LIMITED_RATE, _ABBREVIATED_RATE):
        for found in islice(pattern.finditer(lower), _MAX_TRIES):
            left = lower[max(0, found.start() - 90) : found.start()]
            if not _OFFERED.search(left) and (_LIMIT_BEFORE.search(left) or not _DONE.search(left)):
                return _value(found, 1)
    return None


def _value(found: re.Match[str] | None, group: int) -> float | None:
    """The number in ``group``, with its suffix (k, m) in the group behind it."""
    if found is None or found[group] is None:
        return None
    return amount(found[group], found[group + 1])
