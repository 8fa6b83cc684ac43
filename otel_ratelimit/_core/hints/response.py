"""One response or stream event to one Throttle: puts together what the other modules found.

Owns the order of precedence: an explicit instruction, the longest if they differ; then reset times, of the limit that
refused; text before headers for what the limit is. The rules are those of the corpus of real responses
(tests/data/README.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from otel_ratelimit._core.hints import verdict
from otel_ratelimit._core.hints.body import decode, gather
from otel_ratelimit._core.hints.durations import tidy
from otel_ratelimit._core.hints.evidence import Evidence
from otel_ratelimit._core.hints.headers import (
    Limit,
    Wait,
    binding_limit,
    exhausted,
    instruction,
    last_reset,
    read_limits,
)
from otel_ratelimit._core.hints.kinds import Subject, subject_of, words_of
from otel_ratelimit._core.hints.message import find_wait
from otel_ratelimit._core.hints.numbers import Amounts, find_amounts
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

_OVERLOAD_STATUSES = (503, 529)

_REASON_PHRASE = re.compile(r"^\W{0,4}too many requests\W{0,4}$|429\W{0,3}too many requests", re.IGNORECASE)
"""What every 429 is called, whatever ran out: it tells the kind only if nothing else does."""


def read_response(status: int | None, headers: Mapping[str, str], body: object, now: float) -> Throttle | None:
    """The throttle of one response; ``status`` None for an event inside a stream. ``headers`` has lower-case names."""
    evidence = gather(decode(body), now)
    _add_headers(evidence, headers)
    subject = _subject(evidence)
    evidence.kind = subject.kind
    limits = read_limits(headers, now)
    relayed = [limit for one in evidence.header_maps for limit in read_limits(one, now)]
    asked = _longest_instruction(evidence, headers, now)
    evidence.has_delay = asked is not None
    if not verdict.is_throttle(status, evidence):
        return None

    binding = binding_limit(limits + relayed, subject.kind or "unknown", subject.window)
    wait = asked or _reset(evidence, limits, relayed, binding)
    told = [limit for limit in limits + relayed if limit.reset]
    binding = binding or (told[0] if len(told) == 1 else None)
    amounts = _amounts(evidence)
    billing = status == 402 or verdict.is_billing(evidence)
    usage = not billing and verdict.is_usage_window(evidence)
    kind = _kind(status, evidence, subject, binding, billing=billing, usage=usage)
    said = subject
    if not said.window and binding and binding.kind in (kind, "unknown"):
        said = Subject(window=_window(binding, limits))
    limit = amounts.limit
    if limit is None and binding and _same_limit(binding, kind, subject):
        limit = binding.limit
    hopeless = (
        billing
        or amounts.limit == 0
        or (amounts.limit is not None and amounts.requested is not None and amounts.requested > amounts.limit)
        or verdict.is_too_large(evidence)
        or (usage and wait is None and said.window is None and not verdict.comes_back(evidence))
    )
    return Throttle(
        delay=tidy(wait.delay) if wait else None,
        source=wait.source if wait else None,
        kind=kind,
        window=said.window,
        limit=tidy(limit) if limit is not None else None,
        used=tidy(amounts.used) if amounts.used is not None else None,
        requested=tidy(amounts.requested) if amounts.requested is not None else None,
        retryable=not hopeless,
        window_seconds=said.seconds,
    )


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


def _reset(evidence: Evidence, limits: list[Limit], relayed: list[Limit], binding: Limit | None) -> Wait | None:
    """The reset of the limit that refused; if no limit is known to have, the last reset."""
    chosen = binding if binding and binding.reset else None
    if chosen is None and not exhausted(limits + relayed):
        chosen = last_reset(limits + relayed)
    if chosen is None or chosen.reset is None:
        return None
    source: ThrottleSource = "body-field" if any(chosen is limit for limit in relayed) else chosen.source
    return Wait(chosen.reset, source)


def _subject(evidence: Evidence) -> Subject:
    """Kind and window: sentences first, then the names of quotas, then codes; the first that says something."""
    kind: LimitKind | None = None
    said = Subject()
    fallback: LimitKind | None = None
    for text in (*evidence.texts, *evidence.names, *evidence.codes, *evidence.types):
        subject = subject_of(text[:MAX_AMOUNT_TEXT])
        said = said if said.window else subject
        if subject.kind == "requests" and _REASON_PHRASE.search(text):
            fallback = subject.kind
        elif kind in (None, "overload") and subject.kind and not (kind and subject.window is None):
            kind = subject.kind
        if said.window and kind not in (None, "overload"):
            break
    return Subject(kind or fallback, said.window, said.units)


def _amounts(evidence: Evidence) -> Amounts:
    """Limit, used, requested: the first text that has any, else the fields."""
    found = [find_amounts(text[:MAX_AMOUNT_TEXT].lower()) for text in evidence.texts]
    limit = next((one.limit for one in found if one.limit is not None), None)
    return Amounts(
        limit if limit is not None else next(iter(evidence.limits), None),
        next((one.used for one in found if one.used is not None), next(iter(evidence.used), None)),
        next((one.requested for one in found if one.requested is not None), next(iter(evidence.requested), None)),
    )


def _kind(
    status: int | None, evidence: Evidence, subject: Subject, binding: Limit | None, *, billing: bool, usage: bool
) -> LimitKind:
    if billing or usage:
        return "quota"
    if subject.kind:
        return subject.kind
    if binding:
        return binding.kind
    return "overload" if status in _OVERLOAD_STATUSES or 503 in evidence.statuses else "unknown"


def _window(binding: Limit, limits: list[Limit]) -> LimitWindow | None:
    """The window of a limit; where two families describe it, as at Kong, one of them may name it."""
    twins = [limit.window for limit in limits if limit.remaining == 0 and limit.limit == binding.limit and limit.window]
    return binding.window or next(iter(twins), None)


def _same_limit(limit: Limit, kind: LimitKind, subject: Subject) -> bool:
    """Whether a header's limit is the one that the text speaks of, as far as both say."""
    same_window = subject.window is None or limit.window in (None, subject.window)
    return limit.kind in (kind, "unknown") and same_window
