"""A walk over an error body, which puts every string, code and number where it belongs.

Owns decoding and the shapes of bodies: nested envelopes, arrays, JSON inside strings, Python's repr of a dict in a
log line, half a JSON document, google.rpc details, headers relayed inside. Judges nothing. The work is bounded in
bytes, nodes and depth, whatever comes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice

from otel_ratelimit._core.hints.evidence import Evidence
from otel_ratelimit._core.hints.fields import field_wait, read_field_name
from otel_ratelimit._core.hints.headers import normalise
from otel_ratelimit._core.hints.kinds import words_of
from otel_ratelimit._core.hints.message import MAX_TEXT

MAX_BODY = 64 * 1024
"""Characters (or bytes) of a body that are decoded. Real errors have at most some thousands; a longer body is cut
here before it is decoded, and its head is read as text."""

MAX_NODES = 1000
"""Values of one body that are looked at."""

MAX_DEPTH = 16
"""Levels of nesting that are walked. The deepest real body (a relayed Google error) has seven."""

MAX_TEXTS = 24
"""Sentences of one body that are read. The longest real body (a Google error with its help links) has ten."""

MAX_TOTAL_TEXT = 16 * 1024
"""Characters of all texts together."""

_CODE_KEYS = frozenset({
    "code", "error_code", "errorcode", "err_code", "error_name", "error_no", "errno", "__type", "error_status_code",
    "status_code", "error_details_code", "limit_type", "rate_limit_type",
})  # fmt: skip
_TYPE_KEYS = frozenset({
    "type", "status", "reason", "error_type", "errortype", "category", "limit_source", "limit_reason", "name",
    "exception",
})  # fmt: skip
_STATUS_KEYS = frozenset({
    "code", "status", "status_code", "http_status_code", "http_status", "http_code", "error_code", "raw_status_code",
})  # fmt: skip
_NAME_KEYS = frozenset({
    "quota_id", "quota_metric", "quota_limit", "quota_unit", "subject", "limit_name", "limit_type", "rate_limit_type",
    "limit_source", "resource", "window", "period",
})  # fmt: skip
_LIMIT_KEYS = frozenset({
    "limit", "quota_value", "quota_limit_value", "max_limit", "rate_limit", "current_limit",
})  # fmt: skip
_USED_KEYS = frozenset({
    "used", "current", "current_usage", "usage", "consumed",
})  # fmt: skip
_REQUESTED_KEYS = frozenset({
    "requested", "requested_tokens",
})  # fmt: skip
_NOISE_KEY = re.compile(
    r"(?:^|_)(?:id|ids|url|urls|uri|link|links|href|model|models|provider|object|timestamp|created|param|user|trace|stack|domain"
    r"|traceback|dimensions|docs|documentation|hint|remedy|choices|messages|input|output|prompt|metric_labels|service|consumer)(?:$|_)"
)
_HEADERS_KEYS = frozenset({"headers", "response_headers"})
# "key": "value", 'key': 12, \"key\": \"v\" and key=value inside a text that is no JSON (any more)
_LOOSE = re.compile(
    r"""(?<![\w\\"'-])\\{0,3}["']?([A-Za-z@][\w-]{1,40})\\{0,3}["']?\s{0,3}[:=]\s{0,3}"""
    r"""(?:\\{0,3}["']([^"'\\\n]{1,120})\\{0,3}["']|(\d[\d.]{0,24})(?![\w.]))"""
)
_QUOTES = frozenset("\"'\\")
_IDENTIFIER = re.compile(r"_|[a-z][A-Z]")
_MAX_KEY_CHARS = 128
_MAX_LOOSE = 64
"""Pairs of one text that are read as fields."""

_JSON_START = re.compile(r"[{\[]\s{0,8}[\"{]")
_SSE_PREFIX = ("data:", "event:")
_CODE_SPACE = re.compile(r"\W+|\s+")
_HTTP_STATUS = range(400, 600)
_DECODER = json.JSONDecoder()


def decode(body: object) -> object:
    """The body as decoded JSON or as text; bytes and text are cut to MAX_BODY first. Never raises."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        try:
            body = bytes(body[: MAX_BODY + 1]).decode("utf-8", "replace")
        except (TypeError, ValueError, NotImplementedError):  # a memoryview of no bytes
            return None
    if not isinstance(body, str):
        return body
    cut = body[:MAX_BODY]
    if len(body) > MAX_BODY or not cut.lstrip(" \t\r\n\ufeff").startswith(("{", "[", '"')):
        return cut
    decoded = _decode_json(cut.lstrip(" \t\r\n\ufeff"))
    return cut if decoded is None else decoded[0]


def _decode_json(text: str) -> tuple[object, int] | None:
    """The JSON value at the start of ``text`` and the index behind it; None if there is none."""
    try:
        return _DECODER.raw_decode(text)
    except (ValueError, RecursionError):  # ValueError also: an integer of more than 4,300 digits
        return None


def gather(body: object, now: float) -> Evidence:
    """Everything that a decoded body says. ``now``: seconds since the epoch."""
    walk = _Walk(now)
    with suppress(Exception):  # a mapping of somebody else's may raise anything; what was found until then counts
        walk.value("", body, 0)
    evidence = walk.evidence
    # Two spaces part what stood apart, so that no phrase is found across the seam.
    evidence.words = "  ".join([*map(words_of, evidence.texts), *map(words_of, evidence.names)])
    return evidence


@lru_cache(maxsize=1024)
def _snake_case(key: str) -> str:
    """ "errorCode" and "error-code" as "error_code". Cached: servers repeat themselves."""
    return words_of(key).strip().replace(" ", "_")


class _Walk:
    """One walk: the budget that is left, and what was found so far."""

    def __init__(self, now: float) -> None:
        self.evidence = Evidence()
        self._now = now
        self._nodes = MAX_NODES
        self._text = MAX_TOTAL_TEXT

    def value(self, key: str, value: object, depth: int) -> None:
        """Take in one value that stood under ``key`` (snake case)."""
        self._nodes -= 1
        if self._nodes < 0 or depth > MAX_DEPTH:
            return
        if isinstance(value, str):
            self._string(key, value, depth)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            self._number(key, value)
        elif isinstance(value, Mapping):
            self._mapping(value, depth)
        elif isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
            for item in value[:MAX_NODES]:
                self.value(key, item, depth + 1)

    def _mapping(self, mapping: Mapping[object, object], depth: int) -> None:
        waits: list[tuple[float, bool]] = []
        for raw_key, value in islice(mapping.items(), MAX_NODES):
            if not isinstance(raw_key, str):
                continue
            key = _snake_case(raw_key[:_MAX_KEY_CHARS])
            if key in _HEADERS_KEYS and isinstance(value, Mapping):
                self.evidence.header_maps.append(normalise(value))
                continue
            name = read_field_name(raw_key[:_MAX_KEY_CHARS])
            if name and (wait := field_wait(name, value, self._now)):
                waits.append(wait)
            elif not _NOISE_KEY.search(key) or key in _NAME_KEYS or key in _TYPE_KEYS:
                self.value(key, value, depth + 1)
        self._waits(waits)

    def _waits(self, waits: list[tuple[float, bool]]) -> None:
        """A length of time needs no clock, so a date beside it in the same object adds only doubt."""
        lengths = [seconds for seconds, dated in waits if not dated]
        self.evidence.durations += lengths
        if not lengths:
            self.evidence.resets_in += [seconds for seconds, _ in waits]

    def _string(self, key: str, value: str, depth: int) -> None:
        text = value[:MAX_TEXT]
        if key in _LIMIT_KEYS | _USED_KEYS | _REQUESTED_KEYS and text[:1].isdigit() and len(text) < 20:
            try:
                self._number(key, float(text.replace(",", "")))
            except ValueError:
                return
            return
        if key in _NAME_KEYS:
            self.evidence.names.append(text[:200])
        if key in _CODE_KEYS or key in _TYPE_KEYS:
            self._code(key, text)
            return
        if key not in _NAME_KEYS:
            self._prose(text, depth)

    def _code(self, key: str, text: str) -> None:
        if text.isdecimal() and len(text) == 3:
            self._number(key, int(text))
            return
        code = _CODE_SPACE.sub("_", words_of(text[:120])).strip("_")
        (self.evidence.codes if key in _CODE_KEYS else self.evidence.types).append(code)
        if " " in text and len(self.evidence.texts) < MAX_TEXTS:  # a sentence under "type" or "reason"
            self.evidence.texts.append(text)

    def _number(self, key: str, value: float) -> None:
        if not 0 <= value < 1e18:
            return
        if key in _STATUS_KEYS and value in _HTTP_STATUS:
            self.evidence.statuses.append(int(value))
        elif key in _CODE_KEYS:
            self.evidence.codes.append(str(int(value)))
        for keys, numbers in (
            (_LIMIT_KEYS, self.evidence.limits),
            (_USED_KEYS, self.evidence.used),
            (_REQUESTED_KEYS, self.evidence.requested),
        ):
            if key in keys:
                numbers.append(value)

    def _prose(self, text: str, depth: int) -> None:
        """A sentence; JSON inside it is walked as such, and what only looks like it is read pair by pair."""
        self._text -= len(text)
        if self._text < 0 or len(self.evidence.texts) >= MAX_TEXTS or not text.strip():
            return
        start = _JSON_START.search(text) if "{" in text else None
        inner = _decode_json(text[start.start() :]) if start and depth < MAX_DEPTH else None
        if start and inner and isinstance(inner[0], (Mapping, list)):
            self.value("", inner[0], depth + 1)
            text = f"{text[: start.start()]} {text[start.start() + inner[1] :]}"
        elif "=" in text or ":" in text:
            self._loose(text)
        if text.strip() and text not in self.evidence.texts:
            self.evidence.texts.append(text)

    def _loose(self, text: str) -> None:
        waits: list[tuple[float, bool]] = []
        for count, pair in enumerate(_LOOSE.finditer(text)):
            if count >= _MAX_LOOSE:
                break
            raw_key, value = pair[1], pair[2] or pair[3]
            key = _snake_case(raw_key)
            # An unquoted "retry-after: 30" is prose, and ``message`` reads it; "retryDelay: 10" is a field.
            is_field = pair[0][0] in _QUOTES or "=" in pair[0] or _IDENTIFIER.search(raw_key)
            name = read_field_name(raw_key) if is_field else None
            if name:
                if wait := field_wait(name, value, self._now):
                    waits.append(wait)
            elif pair[2] and (key in _CODE_KEYS or key in _TYPE_KEYS) and " " not in value:
                self._code(key, value)
            elif pair[3] and key in _STATUS_KEYS and value.isdecimal():
                self._number(key, int(value))
            elif key in _NAME_KEYS:
                self.evidence.names.append(value)
        self._waits(waits)
