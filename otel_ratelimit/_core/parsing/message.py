"""The wait that a sentence asks for: a length or a point in time, and the words around it that make it a wait.

The grammar goes from the number to the words. Every duration or date in the text is a candidate; it counts only if
the words close before it ("try again in", "wait", "resets after", "请在") or behind it ("before retrying", "后重试")
say so. So windows ("24 per 60s"), budgets ("timed out after 15000 ms") and advice ("stable for 15 minutes") fall
away by themselves. Contexts are slices of a fixed size, so that the work grows with the number of numbers only.
"""
# ruff: noqa: RUF001 - the vocabulary is of several scripts on purpose

from __future__ import annotations

import re

from otel_ratelimit._core.parsing.durations import NUMBER, duration_at, plausible_delay
from otel_ratelimit._core.parsing.instants import MONTH_START, instant_at, next_instant_at, seconds_until

MAX_TEXT = 4096
"""Characters of one text that are read. Error messages have some hundreds, seldom two thousand."""

_MAX_CANDIDATES = 48
"""Numbers of one text that are tried: bounds the work on a text made of nothing but numbers."""

_BEFORE, _BEHIND = 64, 48
"""Characters of context before and behind a candidate; the longest real phrase ("you may retry your request
after approximately") has 50."""

_CANDIDATE = re.compile(r"(?<![a-z0-9_.\-])(?:\.?\d|p(?:t\d|\dd)|midnight\b|noon\b)")
_NUMBER_WORDS = {
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10", "fifteen": "15", "twenty": "20", "thirty": "30", "sixty": "60",
    "half a": "0.5", "half an": "0.5", "a": "1", "an": "1",
}  # fmt: skip
_HAN_NUMBERS = {
    "半": "0.5",
    "一": "1", "两": "2", "二": "2", "三": "3", "四": "4", "五": "5", "六": "6", "七": "7", "八": "8", "九": "9", "十": "10",
}  # fmt: skip
_HAN_NUMBER = re.compile(rf"(?<![\d{''.join(_HAN_NUMBERS)}])[{''.join(_HAN_NUMBERS)}](?=个?(?:秒|分钟|小时|天))")
_NUMBER_WORD = re.compile(rf"\b({'|'.join(_NUMBER_WORDS)})\b(?=[ -](?:second|minute|hour|day|week)s?\b)")

_MARKDOWN = str.maketrans("", "", "*`")
_BLANKS = re.compile(r"\s+")
# "2-3 minutes", "between 30 and 60 seconds": the longer is meant to be enough
_RANGE = re.compile(rf"{NUMBER}\s?(?:-|–|—|~|\bto\b|\band\b|\bor\b|至|到)\s?")
_HAN = re.compile("[\u4e00-\u9fff]")
_TAG = re.compile(r"</?[a-z][^<>]{0,80}>")

# Words between the cue and the number that do not change what it means.
_FILLER = (
    r"(?:[\s:=~≈<>`*\"'(\[（：]"
    r"|\b(?:between|less than|under|no more than|about|around|approximately|approx\.?|roughly|at least"
    r"|another|an additional|the next|next|a further"
    r"|of|is|for|up to|environ|etwa|примерно)\b"
    r"|约|大约|再|还需|還需|至少|大概)"
)
_OBJECT = (
    r"(?:again|back|later|your|the|this|that|request|requests|call|calls|operation|query|message|it|once|more|please)"
)
_RESETTING = (
    r"(?:reset|resets|resetting|replenish\w{0,3}|refresh\w{0,3}|renew\w{0,3}|refill\w{0,3}|restored?|resumes?|lifted"
    r"|unlock\w{0,2}|unblock\w{0,2}|available|recovers?|regain(?:s|ed)?|clears?|lifts?)"
)
_LEFT_CUES = (
    rf"\bre-?(?:try|send|submit|tryable)(?:[\s,]{{1,3}}{_OBJECT}){{0,4}}[\s,]{{1,3}}(?:in|after)",
    rf"\btry(?:ing)?(?:[\s,]{{1,3}}{_OBJECT}){{0,4}}[\s,]{{1,3}}(?:in|after)",
    (
        r"\b(?:can|may|please|should|must|able to)\s(?:only\s)?(?:re)?"
        r"(?:submit|send|make|call|use|access|continue|proceed|request)(?:\s[a-z]{1,12}){0,5}\safter"
    ),
    (
        r"\b(?:limit|limiting|block|ban|penalty|restriction|lock-?out|throttle|throttling|window|time-?out)"
        r"\s(?:period\s)?(?:will\s)?(?:be\s)?(?:expires?|ends?|over)\s(?:in|after)"
    ),
    r"\bnext\s(?:\w{1,12}\s)?(?:window|period|cycle|slot|reset)(?:\s(?:starts?|begins?|opens?|is|available)){0,2}\s(?:in|after)",
    r"\bagain\s{1,3}(?:in|after)",
    r"\btry again(?: later)?\s?[:(]",
    r"\bretry[-_ ]?(?:after|in|delay)(?:[-_ ]?seconds)?",
    r"reset[-_ ]?delay",
    r"\b(?:do not|don't|not) retry (?:for|before|within)",
    (
        r"(?<!max )(?<!max_)(?<!maximum )(?<!queue )(?<!total )(?<!average )(?<!avg )(?<!longest )"
        r"\bwait(?:[\s-](?:time|period|for|at least|until|duration)){0,3}"
    ),
    rf"\b{_RESETTING}(?:\s(?:again|automatically|access|it|your limit|in full))?\s{{1,3}}(?:in|after|within)",
    r"\bresets?\s?[:=]",
    r"\bcool(?:ing|s)?[\s-]?down(?:\s(?:for|period|time|remaining|ends|expires|in|until|left|active|window)){0,3}",
    r"\bback(?:ing)?[\s-]?off(?:\s(?:for|time|period))?",
    (
        r"\b(?:(?:been|are|is)\stimed out|blocked|paused?|sleep|slow down|hold (?:off|on)|stand by|throttled"
        r"|rate[\s-]limited|banned|locked|disabled|suspended)\sfor"
    ),
    r"\b(?:next|new|another|more)\s(?:request|call|attempt|retry|try|credits?|tokens|quota|messages)(?:\s\w{1,12}){0,2}\s(?:in|after)",
    r"\btime\s(?:remaining|left|until reset|to reset|to wait|until retry|before retry)",
    r"\b(?:comes?|check|returns?)\s(?:back\s)?(?:in|after)",
    r"\bseconds\s(?:until|before|to)\s(?:next\s)?(?:retry|reset|request)",
    r"等待(?:时间|時間)?|[请請稍]等|冷却|冷卻|剩余时间|重试时间|还剩|剩余|あと",
    # other languages: Russian, German, French, Spanish, Portuguese, Italian
    r"\b(?:через|подождите|warten sie|r[ée]essay\w{0,4} dans|attend\w{0,3}|patienter|patientez)",
    (
        r"\b(?:(?:re)?int[eé]nt\w{1,8}|prueb\w{1,3}|tente)"
        r"(?:\s(?:de nuevo|nuevamente|otra vez|novamente))?\s(?:en|dentro de|em|após)"
    ),
    r"\b(?:espere|aguarde|riprova\w{0,2} (?:tra|fra))",
    # Polish, Dutch, Vietnamese, Indonesian
    r"\b(?:ponownie za|opnieuw over|thử lại sau|(?:coba )?lagi dalam)",
)
_LEFT = re.compile(rf"(?:{'|'.join(_LEFT_CUES)}){_FILLER}{{0,8}}$")
# One of these is in every cue: a cheap look before the dear one.
_STEM = re.compile(
    "try|again|wait|reset|replen|refresh|renew|refill|restore|resume|lift|unlock|unblock|available|recover|regain|clear"
    "|cool|back|blocked|pause|sleep|slow down|hold o|stand by|throttled|limited|banned|locked|disabled|suspended"
    "|request|call|attempt|credit|token|quota|message|submit|send|make|use|access|continue|proceed|expire|end|over|next"
    "|time|return|come|check|seconds|int[eé]nt|prueb|tente|espere|aguarde|riprova|réessay|attend|patient|через|warten|подождите"
    "|ponownie|opnieuw|thử lại|lagi dalam|等|冷|剩|重试|あと"
)
_PERIOD_BEFORE = re.compile(
    r"(?:\b(?:per|every|each|past|last|previous|within|over|under|than|took|by)|[/每])\s{0,2}(?:1\s)?$"
)
_PREPOSITION = re.compile(rf"\b(?:in|after|wait|for|allow|give it)\b{_FILLER}{{0,4}}$")
_RIGHT_ALWAYS = re.compile(
    r"\s{0,2}(?:"
    r"(?:before|until)\s(?:re-?try|trying|making|sending|attempting|submitting|requesting|continuing|calling"
    r"|you|your|the next|next|another|new)"
    r"|(?:until|till|to|before)\s(?:\w{1,9}\s){0,2}(?:reset|refresh|renew|retry)"
    r"|from now\b|(?:have|has|must)\s(?:passed|elapsed|pass|elapse)\b|sonra tekrar"
    r"|(?:remaining|left)\b(?!\s(?:of|in))"
    r"|(?:之)?(?:后|後|以后|以後|内不|内请勿)\s?[,，]?\s?(?:您|你)?"
    r"(?:再|重|请|請|可|恢复|恢復|尝试|嘗試|解|自动|自動|刷新|释放)"
    r"|後に(?:再|もう|お|リ)|待って|お待ち|間?ほど待|[후뒤](?:에)?\s?(?:다시|재시도)"
    r")"
)
_RIGHT_AFTER_PREPOSITION = re.compile(
    r"[\s,]{0,3}(?:and\s|then\s|please\s|you\s(?:can|may)\s){0,3}"
    r"(?:re-?try|try\s(?:your\s\w{1,10}\s)?again|erneut|wieder|noch einmal)\b"
)
_BARE_END = re.compile(r"(?:\.\d{1,9})?\s{0,2}(?:$|[:,](?!\d)|before\b|[;!)\]}\"'<`]|\.(?:\s|$|[\"']))")
_BARE = re.compile(r"\d{1,9}(?:\.\d{1,9})?")

_LEFT_DATE = re.compile(
    rf"(?:\b(?:{_RESETTING}|again|until|till|(?:re-?)?try|wait|access|restart\w{{0,3}}|not before|no earlier than"
    r"|(?:limit|block|ban|restriction|cool-?down|penalty|window|period)\s(?:will\s)?(?:expires?|ends?))\b|limit reached\|"
    r"|重置|恢复|恢復|刷新|解除|解封|更新|リセット)"
    r"(?:(?![.。;；!]\s)[^0-9]){0,32}$"
)
_RIGHT_DATE = re.compile(
    r"\s{0,2}(?:[a-z(+):\d]{0,12}\s{0,2})?(?:之?[后後])?\s{0,2}(?:自动|自動|に)?"
    r"(?:重置|恢复|恢復|刷新|解除|解封|再试|重试|更新|リセット)"
)


def find_wait(text: str, now: float, *, beijing: bool = False) -> float | None:
    """Seconds that ``text`` asks to wait from ``now`` (seconds since the epoch); the longest if it names several.

    ``beijing``: the service writes Beijing time; so does any text in Chinese.
    """
    lower = text[:MAX_TEXT].lower().translate(_MARKDOWN)
    if "\n" in lower or "  " in lower:  # wrapped and indented
        lower = _BLANKS.sub(" ", lower)
    if "<" in lower:
        lower = _TAG.sub(" ", lower)
    if _NUMBER_WORD.search(lower):
        lower = _NUMBER_WORD.sub(lambda word: _NUMBER_WORDS[word[1]], lower)
    waits: list[float] = []
    if _HAN.search(lower):
        beijing = True
        lower = _HAN_NUMBER.sub(lambda word: _HAN_NUMBERS[word[0]], lower)
    end = 0
    for tried, start in enumerate(_starts(lower)):
        if tried >= _MAX_CANDIDATES:
            break
        if start < end:
            continue
        wait, end = _wait_at(lower, start, now, beijing)
        delay = plausible_delay(wait) if wait is not None else None
        if delay is not None:
            waits.append(delay)
    return max(waits, default=None)


def _starts(text: str) -> list[int]:
    """Where a number, a duration or a date may begin, in order."""
    starts = [found.start() for found in _CANDIDATE.finditer(text)]
    starts += [found.start() for found in MONTH_START.finditer(text)]
    return sorted(starts)


def _wait_at(text: str, start: int, now: float, beijing: bool) -> tuple[float | None, int]:
    """The wait written at ``start``, None if what stands there is no wait; and the index behind it."""
    dated = instant_at(text, start) or next_instant_at(text, start, now)
    if dated:
        instant, end = dated
        is_wait = _LEFT_DATE.search(_left(text, start)) or _RIGHT_DATE.match(text, end)
        return (seconds_until(instant, now, beijing=beijing) if is_wait else None), end
    length = duration_at(text, start)
    if length is None and (spread := _RANGE.match(text, start)):
        length = duration_at(text, spread.end())
    if length:
        seconds, end = length
        return (seconds if _is_wait(_left(text, start), text[end : end + _BEHIND]) else None), end
    bare = _BARE.match(text, start)
    if bare and _BARE_END.match(text, bare.end()) and _asks(_left(text, start)):
        return float(bare[0]), bare.end()
    return None, start + 1


def _left(text: str, start: int) -> str:
    return text[max(0, start - _BEFORE) : start]


def _asks(left: str) -> bool:
    """Whether the words before a number ask to wait."""
    return bool(_STEM.search(left) and _LEFT.search(left))


def _is_wait(left: str, right: str) -> bool:
    if _asks(left):
        return True
    if _PERIOD_BEFORE.search(left):
        return False
    if _RIGHT_ALWAYS.match(right):
        return True
    return bool(_RIGHT_AFTER_PREPOSITION.match(right) and _PREPOSITION.search(left))
