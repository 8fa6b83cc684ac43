"""Several limits in one sentence, each with what was used of it: which one is exceeded.

Owns lists such as LiteLLM's "current rpm: 2, rpm limit: 2, current tpm: 22, tpm limit: 100" and xAI's "Requests per Second
(actual/limit): 2/8, Requests per Minute (actual/limit): 481/480". Limit, used, window and kind come from one pair, since a
limit with the window of another is worse than none: it would space every call wrongly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice

from otel_ratelimit._core.parsing.durations import tidy
from otel_ratelimit._core.parsing.evidence import Amounts
from otel_ratelimit._core.parsing.kinds import Subject, subject_of

_MAX_PAIRS = 12
"""Pairs of one text that are read; xAI lists four."""

_MAX_AMOUNT = 1e15
"""Requests or tokens. 9223372036854775807 is how LiteLLM writes "no limit"."""

_LABEL = 64
"""Characters before a fraction in which its name stands ("Requests per Minute (actual/limit): ")."""

_NUMBER = r"(\d{1,3}(?:[,_]\d{3}){1,6}(?!\d)|\d{1,24}(?:\.\d{1,9})?)([km]\b)?"
_NAMED = re.compile(
    rf"\bcurrent[\s_]([a-z_ ]{{2,32}}?)\s?[:=]\s?{_NUMBER}\s?[,;]\s?(?:\1(?:[\s_]limit)?|limit)\s?[:=]\s?{_NUMBER}"
)
_NO_TIME = r"(?!\s?(?:ms|s|sec|seconds?|min|minutes?|h|hours?|d|days?)\b)"
_FRACTION = re.compile(rf"(?<![\d./\w-]){_NUMBER}\s?(?:/|(?:out )?of)\s?{_NUMBER}(?![\d/]|\.\d){_NO_TIME}")
_SEPARATOR = re.compile(r"[,;|\n]|\s-\s|\.\s")
_SUFFIX = {"k": 1e3, "m": 1e6}


@dataclass(frozen=True, slots=True)
class Pair:
    """One limit of several: what it is about, and its numbers."""

    subject: Subject
    amounts: Amounts


def amount(digits: str, suffix: str | None) -> float:
    """The number that was written, with its suffix (k, m)."""
    return tidy(float(digits.replace(",", "").replace("_", "")) * _SUFFIX.get(suffix or "", 1))


def find_pairs(lower: str) -> list[Pair]:
    """All limits of a lower-case text that lists more than one; [] where it lists none or one."""
    if "current" in lower:
        named = [_pair(found[1], found, 2) for found in islice(_NAMED.finditer(lower), _MAX_PAIRS)]
        if len(named) > 1:
            return named
    if "/" not in lower and " of " not in lower:
        return []
    fractions = list(islice(_FRACTION.finditer(lower), _MAX_PAIRS))
    if len(fractions) < 2:
        return []
    pairs: list[Pair] = []
    last = 0
    for found in fractions:
        label = _SEPARATOR.split(lower[max(last, found.start() - _LABEL) : found.start()])[-1]
        subject = subject_of(label.strip(" :(="))
        if subject.kind is None and subject.window is None:
            subject = subject_of(_SEPARATOR.split(lower[found.end() : found.end() + _LABEL])[0])
        if subject.kind is None and pairs:  # "requests per second 1/20, per minute 61/60"
            subject = Subject(pairs[-1].subject.kind, subject.window, subject.units)
        pairs.append(Pair(subject, _pair("", found, 1).amounts))
        last = found.end()
    return pairs


def exceeded(pairs: list[Pair]) -> Pair | None:
    """The pair whose limit is exceeded, else the one that is reached; None where no number shows it."""
    known = [pair for pair in pairs if pair.amounts.exceeded and (pair.amounts.limit or 0) < _MAX_AMOUNT]
    over = [pair for pair in known if (pair.amounts.used or 0) > (pair.amounts.limit or 0)]
    return next(iter(over or known), None)


def _pair(label: str, found: re.Match[str], first: int) -> Pair:
    used, limit = amount(found[first], found[first + 1]), amount(found[first + 2], found[first + 3])
    return Pair(subject_of(label), Amounts(limit, used))
