"""Whether a response is a throttle at all, what it comes from, and so whether waiting can help.

Owns the order of the questions; the vocabulary of codes is in ``codes``, that of sentences in ``phrases``. `code` is read
before `type`, because one type covers both kinds at OpenAI (its error codes guide).
"""

from __future__ import annotations

from typing import Literal

from otel_ratelimit._core.parsing import codes, phrases
from otel_ratelimit._core.parsing.evidence import Evidence

Cause = Literal["limit", "allowance", "money", "size"]
"""Why a request was refused: a limit or the server's load; an allowance of some hours or days, which comes back by itself;
money, credits or a paid plan; or this very request, which is larger than what the server takes."""

_NEVER = frozenset({404, 405, 407, 409, 410, 411, 415, 431})
"""Statuses that say what is wrong, and it is no limit."""
_UNAUTHORISED = 401
_MONEY = 402
_ALWAYS = frozenset({402, 429, 529})
_UNAVAILABLE = 503
_EVENTS = (None, 200)
"""Statuses that say nothing: an event inside a stream, and a success whose body is an error."""


def cause_of(status: int | None, evidence: Evidence) -> Cause | None:
    """Why the response was refused, None if it is no throttle. ``status`` is None for an event, which has none."""
    if status in _NEVER:
        return None
    money = is_money(evidence)
    if status not in _ALWAYS and not _is_throttle(status, evidence, money=money):
        return None
    if _is_allowance(evidence):
        return "allowance"
    if money or status == _UNAUTHORISED or _MONEY in (status, *evidence.statuses):
        return "money"
    if phrases.USAGE_WINDOW.search(evidence.words):
        return "allowance"
    if phrases.TOO_LARGE.search(evidence.words) or (not evidence.returns and phrases.of_size(evidence.words)):
        return "size"
    return "limit"


def _is_throttle(status: int | None, evidence: Evidence, *, money: bool) -> bool:
    """Whether a response is a throttle whose status does not say so."""
    if status == _UNAUTHORISED:  # a key whose quota is used up; every other 401 is about the key itself
        return _is_about_quota(evidence)
    if money:
        return True
    if any(codes.OTHER.search(code) for code in evidence.codes):
        return False
    statuses = evidence.statuses if status in _EVENTS else [status, *evidence.statuses]
    if not _ALWAYS.isdisjoint(statuses):
        return True
    if phrases.of_size(evidence.words):
        return False
    if _speaks_of_limits(status, evidence):
        return True
    return _UNAVAILABLE in statuses and _says_wait(evidence)


def _is_about_quota(evidence: Evidence) -> bool:
    if any(codes.QUOTA_OF_KEY.search(code) for code in evidence.codes + evidence.types):
        return True
    return bool(phrases.KEY_USED_UP.search(evidence.words))


def is_money(evidence: Evidence) -> bool:
    """Whether the text or a code says that money, credits or a paid allowance ran out for good."""
    named = evidence.codes + evidence.types
    if any(codes.FINAL_AT_OPENAI.match(code) or codes.FINAL.match(code) for code in named):
        return True
    if phrases.FINAL.search(evidence.words):
        return True
    if phrases.SUBSCRIBE.search(evidence.words) and not evidence.returns and not comes_back(evidence):
        return not phrases.RATE_BESIDE.search(evidence.words)
    weak = "insufficient_quota" in named or phrases.WEAK_FINAL.search(evidence.words)
    if not weak or evidence.kind == "overload" or any(codes.is_throttle(code) for code in evidence.codes):
        return False
    return not _quota_means_rate(evidence)


def _quota_means_rate(evidence: Evidence) -> bool:
    """Whether "quota" stands for a per-minute limit here: Google, Azure, DashScope and gateways say it so.

    OpenAI does not, and a Retry-After does not change that (its error codes guide).
    """
    if phrases.OPENAI_LINK in f"{evidence.words}  {evidence.links}":
        return False
    if phrases.QUOTA_MEANS_RATE.search(evidence.words) or phrases.RATE_LINK.search(evidence.links) or evidence.names:
        return True
    return evidence.has_delay and not phrases.WEAK_FINAL.search(evidence.words)


def _is_allowance(evidence: Evidence) -> bool:
    """Whether a usage allowance over a window (five hours, a day's credits) is spent, which comes back by itself.

    Credits of an hour or a day are one; those of a longer time only where their return is named, and a balance never.
    """
    named = evidence.codes + evidence.types
    if any(codes.FINAL_AT_OPENAI.match(code) for code in named) or phrases.BALANCE.search(evidence.words):
        return False
    if any(codes.USAGE.match(code) for code in named) or phrases.CREDITS_OF_A_DAY.search(evidence.words):
        return True
    return evidence.returns and bool(phrases.CREDITS_OF_A_MONTH.search(evidence.words))


def comes_back(evidence: Evidence) -> bool:
    """Whether the text speaks of a time after which a spent allowance is there again, though it names none."""
    return bool(phrases.COMES_BACK.search(evidence.words))


def _speaks_of_limits(status: int | None, evidence: Evidence) -> bool:
    if any(codes.is_throttle(code, event=status in _EVENTS) for code in evidence.codes + evidence.types):
        return True
    return bool(phrases.THROTTLE.search(evidence.words))


def _says_wait(evidence: Evidence) -> bool:
    """A 503 with a wait is a throttle (RFC 9110, section 15.6.4), and so is Google's UNAVAILABLE (an overload)."""
    if phrases.NO_LOAD.search(evidence.words):
        return False
    if evidence.returns or evidence.kind == "overload":
        return True
    return "unavailable" in evidence.codes + evidence.types
