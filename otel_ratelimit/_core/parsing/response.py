"""One response or stream event to one Throttle: puts together what the other modules found.

Owns the order of precedence: an explicit instruction, the longest if they differ; then reset times, of the limit that
refused; text before headers for what the limit is. The rules are those of the corpus of real responses
(tests/data/README.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from otel_ratelimit._core.parsing.binding import binding_limit, exhausted, last_reset
from otel_ratelimit._core.parsing.body import gather
from otel_ratelimit._core.parsing.decoding import decode
from otel_ratelimit._core.parsing.durations import tidy
from otel_ratelimit._core.parsing.evidence import Amounts, Evidence
from otel_ratelimit._core.parsing.headers import Wait, instruction
from otel_ratelimit._core.parsing.kinds import Subject, subject_of, words_of
from otel_ratelimit._core.parsing.limits import LimitReading, read_all
from otel_ratelimit._core.parsing.message import find_wait
from otel_ratelimit._core.parsing.numbers import find_amounts
from otel_ratelimit._core.parsing.pairs import Pair, exceeded, find_pairs
from otel_ratelimit._core.parsing.verdict import Cause, cause_of, comes_back
from otel_ratelimit._core.throttle import LimitKind, LimitWindow, Throttle, ThrottleSource

_NAMING_HEADERS = (
    "x-ratelimit-exceeded",
    "x-ratelimit-type",
    "x-ratelimit-resource",
    "rate-limit-type",
    "rate_limit_type",
)
"""Headers that name the limit as a quota id does (GitHub Models, LiteLLM)."""

_TEXT_HEADERS = ("x-error-message", "x-amzn-errormessage")
_CODE_HEADERS = ("x-amzn-errortype", "x-error-code", "x-ms-error-code", "x-error-type")

_BEIJING_CODES = frozenset({"1308", "1310", "1316"})
"""Zhipu's codes for spent usage windows, whose English messages too carry Beijing time without a zone."""

MAX_AMOUNT_TEXT = 2048
"""Characters of one text in which numbers are looked for: they stand at the beginning of a message."""

_NEVER_FITS = 86_400
"""Seconds that Azure asks for where a request needs more tokens than a minute has; smaller ones are served meanwhile."""

_OVERLOAD_STATUSES = (503, 529)
_TOKENS = ("tokens", "input_tokens", "output_tokens")

_REASON_PHRASE = re.compile(
    r"^\W{0,4}too many requests\W{0,4}$|429\W{0,3}(?:client error\W{0,3})?too many requests|too many requests for url",
    re.IGNORECASE,
)
"""What every 429 is called, whatever ran out: it tells the kind only if nothing else does, headers neither."""


@dataclass(slots=True)
class _Response:
    """One response, read but not yet judged.

    Attributes:
        subject: What the text is about; ``phrase`` is the kind that a mere reason phrase names.
        relayed: Limits of another response's headers in the body.
    """

    status: int | None
    evidence: Evidence
    subject: Subject
    phrase: LimitKind | None
    limits: list[LimitReading]
    relayed: list[LimitReading]
    asked: Wait | None


def read_response(status: int | None, headers: Mapping[str, str], body: object, now: float) -> Throttle | None:
    """The throttle of one response; ``status`` None for an event inside a stream. ``headers`` has lower-case names."""
    response = _read(status, headers, body, now)
    cause = cause_of(status, response.evidence)
    if cause is None:
        return None
    binding = binding_limit(response.limits + response.relayed, response.subject.kind, response.subject.window)
    wait = response.asked or _reset(response, binding)
    kind = _kind(response, cause, binding)
    subject = response.subject
    if not subject.window and binding and binding.kind in (kind, "unknown"):
        subject = Subject(window=_window(binding, response.limits))
    amounts = _amounts(response.evidence)
    fits = _fits(amounts) and not _azure_never(wait, kind, subject)
    limit = amounts.limit
    if limit is None and binding and _same_limit(binding, kind, response.subject):
        limit = binding.limit
    return Throttle(
        delay=tidy(wait.delay) if wait else None,
        source=wait.source if wait else None,
        kind=kind,
        window=subject.window,
        limit=_tidy(limit),
        used=_tidy(amounts.used),
        requested=_tidy(amounts.requested),
        retryable=fits and _passes(cause, response.evidence, timed=bool(wait) or subject.window not in (None, "month")),
        window_seconds=subject.seconds,
    )


def _read(status: int | None, headers: Mapping[str, str], body: object, now: float) -> _Response:
    evidence = gather(decode(body), now)
    _add_headers(evidence, headers)
    subject, phrase = _subject(evidence)
    evidence.kind = subject.kind
    limits = read_all(headers, now)
    if status is None:  # the headers of a 200: what they say of room is older than the refusal
        limits = exhausted(limits)
    relayed = [limit for one in evidence.header_maps for limit in read_all(one, now)]
    asked = _longest_instruction(evidence, headers, now)
    evidence.has_delay = asked is not None
    evidence.exhausted = any(limit.reset for limit in exhausted(limits))
    return _Response(status, evidence, subject, phrase, limits, relayed, asked)


def _add_headers(evidence: Evidence, headers: Mapping[str, str]) -> None:
    """Headers that speak as a body does."""
    for name in _TEXT_HEADERS:
        if text := headers.get(name):
            evidence.texts.append(text)
            evidence.words += f"  {words_of(text)}"
    for name in _NAMING_HEADERS:
        if text := headers.get(name):
            evidence.names.append(text)
            evidence.words += f"  {words_of(text)}"
    for name in _CODE_HEADERS:
        if text := headers.get(name):
            # Amazon appends the namespace: "ThrottlingException:http://internal.amazon.com/..."
            evidence.codes.append(words_of(text.partition(":")[0]).replace(" ", "_"))


def _longest_instruction(evidence: Evidence, headers: Mapping[str, str], now: float) -> Wait | None:
    """The longest wait asked for outright; where two are equal, header before field before sentence."""
    waits: list[Wait] = []
    if header := instruction(headers, now):
        waits.append(header)
    fields = list(evidence.durations)
    fields += [wait.delay for one in evidence.header_maps if (wait := instruction(one, now))]
    if not fields:
        fields = evidence.resets_in
    waits += [Wait(delay, "body-field") for delay in fields]
    beijing = not _BEIJING_CODES.isdisjoint(evidence.codes)
    for text in evidence.texts:
        delay = find_wait(text, now, beijing=beijing)
        if delay is not None:
            waits.append(Wait(delay, "body-message"))
    return max(waits, key=lambda wait: wait.delay, default=None)


def _reset(response: _Response, binding: LimitReading | None) -> Wait | None:
    """The reset of the limit that refused; if no limit is known to have, the last reset."""
    every = response.limits + response.relayed
    chosen = binding if binding and binding.reset else None
    if chosen is None and not exhausted(every):
        chosen = last_reset(every)
    if chosen is None or not chosen.reset:
        return None
    source: ThrottleSource = "body-field" if any(chosen is limit for limit in response.relayed) else chosen.source
    return Wait(chosen.reset, source)


def _subject(evidence: Evidence) -> tuple[Subject, LimitKind | None]:
    """Kind and window: of several limits the exceeded one; else sentences, names of quotas, codes, in that order.

    Beside them the kind that a mere reason phrase names.
    """
    for text in evidence.texts:
        if pair := _exceeded_pair(text):
            return pair.subject, None
    kind: LimitKind | None = None
    said = Subject()
    phrase: LimitKind | None = None
    for text in (*evidence.texts, *evidence.names, *evidence.codes, *evidence.types):
        subject = subject_of(text[:MAX_AMOUNT_TEXT])
        said = said if said.window else subject
        if subject.kind == "requests" and _REASON_PHRASE.search(text):
            phrase = subject.kind
        elif kind in (None, "overload") and subject.kind and not (kind and subject.window is None):
            kind = subject.kind
        if said.window and kind not in (None, "overload"):
            break
    return Subject(kind, said.window, said.units), phrase


def _exceeded_pair(text: str) -> Pair | None:
    pair = exceeded(find_pairs(text[:MAX_AMOUNT_TEXT].lower()))
    return pair if pair and pair.subject.kind else None


def _amounts(evidence: Evidence) -> Amounts:
    """Limit, used, requested: the first text that has any, else the fields, those of an exceeded limit first."""
    found = [find_amounts(text[:MAX_AMOUNT_TEXT].lower()) for text in evidence.texts]
    found += sorted(evidence.amounts, key=lambda one: not one.exceeded)
    return Amounts(
        next((one.limit for one in found if one.limit is not None), None),
        next((one.used for one in found if one.used is not None), None),
        next((one.requested for one in found if one.requested is not None), None),
    )


def _fits(amounts: Amounts) -> bool:
    """Whether the request can ever pass: False for a limit of 0, and for a request larger than the limit."""
    if amounts.limit is None:
        return True
    return amounts.limit > 0 and (amounts.requested is None or amounts.requested <= amounts.limit)


def _azure_never(wait: Wait | None, kind: LimitKind, subject: Subject) -> bool:
    """Whether the wait is Azure's way to say that the request has more tokens than a minute's limit."""
    if wait is None or wait.delay != _NEVER_FITS or wait.source == "x-ratelimit-reset":
        return False
    return kind in _TOKENS and subject.window in (None, "minute")


def _passes(cause: Cause, evidence: Evidence, *, timed: bool) -> bool:
    """Whether waiting can help. ``timed``: the time of the return, or the window, is known."""
    if cause == "allowance":
        return timed or comes_back(evidence)
    return cause == "limit"


def _kind(response: _Response, cause: Cause, binding: LimitReading | None) -> LimitKind:
    if cause in ("money", "allowance"):
        return "quota"
    if response.subject.kind:
        return response.subject.kind
    if binding and (binding.kind != "unknown" or response.phrase is None):
        return binding.kind
    if response.phrase:
        return response.phrase
    return "overload" if response.status in _OVERLOAD_STATUSES or 503 in response.evidence.statuses else "unknown"


def _window(binding: LimitReading, limits: list[LimitReading]) -> LimitWindow | None:
    """The window of a limit; where two families describe it, as at Kong, one of them may name it."""
    twins = [one.window_name for one in limits if one.remaining == 0 and one.limit == binding.limit and one.window_name]
    return binding.window_name or next(iter(twins), None)


def _same_limit(limit: LimitReading, kind: LimitKind, subject: Subject) -> bool:
    """Whether a header's limit is the one that the text speaks of, as far as both say."""
    same_window = subject.window is None or limit.window_name in (None, subject.window)
    return limit.kind in (kind, "unknown") and same_window


def _tidy(value: float | None) -> float | None:
    return None if value is None else tidy(value)
