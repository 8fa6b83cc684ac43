"""What ran out and over which window, from sentences, codes and quota names.

Owns the vocabulary: "tokens per min", "TPM", "UserByModelByMinuteOutputTokens", "每分钟",
"ModelAccountRpmRateLimitExceeded".
Names are split into words first, so that one grammar reads prose and identifiers. Says nothing about whether waiting
helps (``verdict``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from otel_ratelimit._core.buckets.infer import WINDOW_SECONDS
from otel_ratelimit._core.parsing.ietf import window_name
from otel_ratelimit._core.throttle import LimitKind, LimitWindow

_CAMEL = re.compile(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_TO_SPACE = str.maketrans("-_.:#", "     ", "*`")
"""Signs inside identifiers part words; those of Markdown say nothing."""

_WINDOW_WORDS: dict[str, LimitWindow] = {
    "s": "second", "sec": "second", "second": "second", "秒": "second",
    "m": "minute", "min": "minute", "minute": "minute", "分": "minute", "分钟": "minute", "分鐘": "minute",
    "h": "hour", "hr": "hour", "hour": "hour", "hourly": "hour", "小时": "hour", "小時": "hour",
    "d": "day", "day": "day", "daily": "day", "today": "day",
    "天": "day", "日": "day", "今日": "day", "当日": "day", "每日": "day",
    "mo": "month", "month": "month", "monthly": "month", "月": "month",
}  # fmt: skip
_PER = r"(?:(?:per|each|every|by|within(?:\san?)?|an?)\s|/\s?)"
_WINDOW = r"(?:one\s)?(?:(\d{1,5})\s?)?(second|sec|s|minute|min|m|hour|hr|h|day|d|month|mo)s?\b"

# "tokens per min", "API calls / month", "input tokens per model per minute", "requests per 1 minute"
_NOUN = (
    r"(tokens?|requests?|reqs?|quer(?:y|ies)|calls?|images?|messages?|prompts?|credits?|neurons?|predictions?"
    r"|generations?|invocations?|transactions?|operations?|audio)"
)
_OWNER = r"(?:\sper\s(?:base\s)?(?:model|project|user|region|organi[sz]ation|org|key|account|team))"
_RATE_OF_OWNER = re.compile(rf"\b(?:(input|prompt|output|completion)\s)?{_NOUN}{_OWNER}\b")
_RATE = re.compile(
    rf"\b(?:(input|prompt|uncached input|output|completion|generated)\s)?{_NOUN}"
    rf"(?:\s(?:count|usage|limit|(?:are\s)?allowed))?{_OWNER}{{0,3}}\s?{_PER}{_WINDOW}"
)
_ABBREVIATION = re.compile(r"\b(?:([io]?t|r|q|as)p([smhd])|(i)p([mhd]))\b")  # "ips" are addresses
_ABBREVIATED: dict[str, LimitKind] = {
    "t": "tokens", "it": "input_tokens", "ot": "output_tokens", "r": "requests", "q": "requests", "i": "images",
}  # fmt: skip
# "requests/tokens per minute", "RPM and TPM": which of the two it was is not said
_JOIN = r"\s?(?:/|,|\||and/or|and|or)\s?(?:[\d,.]{1,12}\s?[km]?\s)?"
_CALLS = r"(?:requests?|quer(?:y|ies)|calls?)"
_BOTH = re.compile(
    rf"\b(?:{_CALLS}{_JOIN}tokens?|tokens?{_JOIN}{_CALLS})\b"
    rf"|\b(?:rp[smhd]{_JOIN}(?:max\s)?tp[smhd]|tp[smhd]{_JOIN}(?:max\s)?rp[smhd])\b"
)
_WHOLE: dict[str, LimitKind] = {"tokens": "tokens", "requests": "requests", "images": "images"}
_WHOLE_WINDOWS = frozenset({"second", "minute", "hour", "hourly", "day", "daily", "month", "monthly"})
# GitHub Models: "UserByModelByMinuteOutputTokens"
_BY_WINDOW = re.compile(r"\bby (second|minute|hour|day|month)(?: (input|output))?( tokens?)?\b")
_NOUN_LIMIT = re.compile(
    r"\b(?:(input|prompt|output|completion)\s)?(tokens?|requests?|calls?|quer(?:y|ies)|images?|messages?|prompts?)"
    r"\s(?:rate\s|usage\s|count\s)?(?:limit|quota|throughput)"
)
_LIMIT_FOR = re.compile(
    r"\b(?:limit|limit type|limited|limit reached|limit exceeded|quota|number)\s(?:for|on|of|by)?\s?"
    r"(?:(input|prompt|output|completion)\s|request\s|the\s)?(tokens?|requests?|calls?|images?)\b"
)
_COUNT = re.compile(r"\b(input|output)?\s?token count\b")
_COUNTED = re.compile(r"\d\s(tokens|requests|calls|queries|images|messages|prompts|generations)\b")


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


_CONCURRENCY = _any(
    r"concurren|simultaneous|in ?flight|too many connections|active (?:requests|jobs)",
    r"\bparallel (?:request|call|connection)",
    r"total request limit reached \(",  # NVIDIA: "Worker local total request limit reached (33/32)"
    "并发|並發|同時実行|동시",
)
_OVERLOAD = _any(
    r"over ?load|slow down|saturat|\bbusy\b|peak load",
    r"high (?:demand|load|traffic|volume|usage)|heavy (?:load|traffic)",
    r"(?<!your )\bcapacity\b",  # "exhausted your capacity" is the caller's quota
    r"queue (?:is )?(?:full|exceeded)|request queue|queue budget|first token before the given deadline",
    r"no (?:available |healthy )?(?:capacity|workers?|instances?)\b|no deployments available",
    r"(?:processing|receiving|handling|getting) too many requests|no more data centers",
    r"flex unavailable|model not ready|currently loading|resource unavailable",
    r"burst rate|increased too quickly",
    "访问量过大|负载|過載|过载|繁忙|拥挤|高峰|排队|混み合|混雑|과부하",
)
_VAGUE_REQUESTS = _any(
    r"too many (?:requests|queries|calls)|requests? (?:rate|frequency)|requests (?:are )?too frequent|rate of requests",
    r"request (?:was|has been) throttled|number of (?:\w+ ){0,2}requests|requests list",
    r"free models|call rate|call volume",
    r"(?:high|reduce) (?:request )?frequency|(?:limit|reduce|slow) your (?:api )?(?:requests|calls)",
    "请求(?:过于|太|过)?(?:频繁|过多|频率)|限频|频率过高|频繁|调用频率|请求数|次数|\\d\\s?次|リクエスト",
)
_VAGUE_TOKENS = re.compile(r"too many tokens|token (?:rate )?limit|number of (?:request )?tokens|token throughput")
_VAGUE_IMAGES = re.compile(r"too many images|image generation limit")

# Alibaba's error page has a paragraph per limit, and the link tells which one it was.
_DASHSCOPE_LINK = re.compile(r"error-code#(token|rate)-limit\b", re.IGNORECASE)
ADDRESS = re.compile(r"https?://[^\s)\]>\"'\u3000-\u9fff\uff00-\uffef]{1,300}", re.IGNORECASE)
"""Names in an address are no words of the sentence; Chinese, which has no blanks, may follow one directly."""

_PER_WINDOW = re.compile(rf"(?:\b(?:per|each|every|by)\s?|/\s?){_WINDOW}")
_WINDOW_LIMIT = re.compile(
    r"\b(?:(\d{1,3})\s)?(second|minute|hour|day|month)\s"
    r"(?:(?:usage|rate|rolling|request|token|free|allocated|sliding|api)\s){0,2}(?:limit|quota|window|cap|allowance|period|interval)"
)
# "Usage limit reached for 5 hour", "window of 60 seconds", "limit:5,time:1 minute", but not "cooldown period of 1 minute"
_WINDOW_OF = re.compile(
    r"\b(?:reached for|resets every|interval|(?<!down )(?<!wait )(?<!waiting )period|window|(?<=\d,)time)(?: of)?"
    r" (?:(\d{1,5})\s?)?(second|minute|min|m|hour|h|day|d|month)\b"
)
_THIS_WINDOW = re.compile(
    r"\b(?:this|last|past|current|previous|for the|(?:requests|calls|tokens|messages|quer(?:y|ies)|images) in(?: an?| the)?)"
    r" (?:(\d{1,5})\s)?(second|minute|hour|day|month)s?\b"
)
_ADVERB = re.compile(r"\b(hourly|daily|monthly|today)\b")
_CHINESE_WINDOW = _any(
    r"(今日|当日|每日)",
    r"\d{1,4}\s?(秒|分钟|小时|天)内",
    r"次\s?/\s?(秒|分钟|分|小时|天|日|月)",
    r"每(?:个|一)?\s?(秒|分钟|分鐘|分|小时|小時|天|日|月)",
    r"\d{1,3}\s?(小时|天|分钟|月)的?(?:使用)?(?:上限|限额|额度|配额)",
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a text is about: ``kind`` of limit (None: not said), its ``window`` (None: not said), and of how many such units
    it really is: "second" and 10 for "per 10 seconds".
    """

    kind: LimitKind | None = None
    window: LimitWindow | None = None
    units: float = 1.0

    @property
    def seconds(self) -> float | None:
        """The length of the window."""
        return None if self.window is None else self.units * WINDOW_SECONDS[self.window]


def words_of(text: str) -> str:
    """Lower case, with identifiers split into words: "UserByMinute" and "user_by-minute" become "user by minute"."""
    return _CAMEL.sub(" ", text).replace(": ", " ").translate(_TO_SPACE).lower()


def names_both(words: str) -> bool:
    """Whether a text names requests and tokens in one breath, so that neither its kind nor a number is sure."""
    return bool(_BOTH.search(words)) and not _CONCURRENCY.search(words)


def subject_of(text: str) -> Subject:
    """Kind and window of a sentence, a code or the name of a quota: the most specific wording wins."""
    if "#" in text and (link := _DASHSCOPE_LINK.search(text)):
        return Subject("tokens" if link[1].lower() == "token" else "requests", "minute")
    words = words_of(ADDRESS.sub(" ", text))
    if words in _WHOLE:  # OpenAI's `type`
        return Subject(_WHOLE[words])
    if words in _WHOLE_WINDOWS:  # {"window": "minute"}
        return Subject(None, _WINDOW_WORDS[words])
    rate = _rate(words)
    window, units = (rate.window, rate.units) if rate.window else _window(words)
    if names_both(words):
        return Subject(None, window, units)
    if rate.kind:
        return Subject(rate.kind, window, units)
    return Subject(_kind(words), window, units)


def _rate(words: str) -> Subject:
    """A noun with its window, the first of them; units without a kind (audio seconds) give the window only.

    Full words go before abbreviations, which names of models contain too ("10KTPM-200RPM"). Nothing, if a limit of
    concurrency is named first: then the rate is an aside.
    """
    found = [match for match in (_RATE.search(words), _BY_WINDOW.search(words)) if match]
    first = min(found, key=lambda match: match.start(), default=None) or _ABBREVIATION.search(words)
    if first is None or _CONCURRENCY.search(words, 0, first.start()):
        return Subject()
    if first.re is _ABBREVIATION:
        return Subject(_ABBREVIATED.get(first[1] or first[3]), _WINDOW_WORDS[first[2] or first[4]])
    if first.re is _BY_WINDOW:
        return Subject(_noun(first[2], "tokens" if first[3] else "requests"), _WINDOW_WORDS[first[1]])
    return Subject(_noun(first[1], first[2]), *_period(first[3], first[4]))


def _period(count: str | None, unit: str) -> tuple[LimitWindow | None, float]:
    """The name of "60 s" (minute) or "day"; of a length without a name ("5 hours") the unit it is counted in, and how many."""
    name = _WINDOW_WORDS[unit]
    if count and not int(count):  # GitHub's "2 per 0s": a limit of concurrency, which has no window
        return None, 1.0
    units = int(count or 1)
    whole = window_name(units * WINDOW_SECONDS[name])
    return (whole, 1.0) if whole else (name, float(units))


def _noun(side: str | None, noun: str) -> LimitKind | None:
    if noun.startswith("token"):
        if side is None:
            return "tokens"
        return "output_tokens" if side in ("output", "completion", "generated") else "input_tokens"
    if noun.startswith("image"):
        return "images"
    if noun.startswith(("credit", "neuron")):
        return "quota"
    return None if noun == "audio" else "requests"


def _kind(words: str) -> LimitKind | None:
    """The kind where no window stands beside a noun, from the most telling wording to the vaguest."""
    if _CONCURRENCY.search(words):
        return "concurrency"
    named = _NOUN_LIMIT.search(words) or _LIMIT_FOR.search(words)
    if named:
        return _noun(named[1], named[2])
    if owned := _RATE_OF_OWNER.search(words):
        return _noun(owned[1], owned[2])
    if counted := _COUNT.search(words):
        return _noun(counted[1], "tokens")
    if _OVERLOAD.search(words):
        return "overload"
    if _VAGUE_TOKENS.search(words):
        return "tokens"
    if _VAGUE_IMAGES.search(words):
        return "images"
    if _VAGUE_REQUESTS.search(words):
        return "requests"
    counted = _COUNTED.search(words)
    return _noun(None, counted[1]) if counted else None


def _window(words: str) -> tuple[LimitWindow | None, float]:
    if per := _PER_WINDOW.search(words):
        return _period(per[1], per[2])
    if limit := _WINDOW_LIMIT.search(words) or _WINDOW_OF.search(words):
        return _period(limit[1], limit[2])
    if this := _THIS_WINDOW.search(words):
        return _period(this[1], this[2])
    if "weekly" in words or "每周" in words:  # Zhipu's "Weekly/Monthly Limit Exhausted" says neither
        return None, 1.0
    for pattern in (_ADVERB, _CHINESE_WINDOW):
        if found := pattern.search(words):
            return _WINDOW_WORDS[next(group for group in found.groups() if group)], 1.0
    return None, 1.0
