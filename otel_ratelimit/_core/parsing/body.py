"""A walk over a decoded error body, which puts every string, code and number where it belongs.

Owns the shapes of bodies: nested envelopes, arrays, JSON inside strings, Python's repr of a dict in a log line, half a
JSON document, google.rpc details, headers relayed inside. Judges nothing. The work is bounded in nodes, depth and
characters, whatever comes; bytes are the business of ``decoding``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice

from otel_ratelimit._core.parsing.decoding import decode_json, decode_python, from_bytes_repr, unescaped
from otel_ratelimit._core.parsing.durations import number
from otel_ratelimit._core.parsing.evidence import Amounts, Evidence
from otel_ratelimit._core.parsing.fields import field_wait, read_field_name
from otel_ratelimit._core.parsing.headers import normalise
from otel_ratelimit._core.parsing.kinds import ADDRESS, words_of
from otel_ratelimit._core.parsing.message import MAX_TEXT

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
_AMOUNT_KEYS = {
    "limit": "limit", "quota_value": "limit", "quota_limit_value": "limit", "max_limit": "limit", "rate_limit": "limit",
    "current_limit": "limit", "concurrency_limit": "limit",
    "used": "used", "current": "used", "current_usage": "used", "usage": "used", "consumed": "used",
    "current_concurrency": "used",
    "requested": "requested", "requested_tokens": "requested",
}  # fmt: skip
_MAX_AMOUNT_CHARS = 20
_MAX_NAME_CHARS = 200
_NOISE_KEY = re.compile(
    r"(?:^|_)(?:id|ids|url|urls|uri|link|links|href|model|models|provider|object|timestamp|created|param|user|trace|stack|domain"
    r"|traceback|dimensions|docs|documentation|hint|remedy|choices|messages|input|output|prompt|metric_labels|service|consumer)(?:$|_)"
)
_HEADERS_KEYS = frozenset({"headers", "response_headers"})
# "key": "value", 'key': 12, \"key\": \"v\" and key=value inside a text that is no JSON (any more)
_LOOSE = re.compile(
    r"""(?<![\w\\"'-])\\{0,3}["']?([A-Za-z@][\w-]{1,40})\\{0,3}["']?\s{0,3}[:=]\s{0,3}"""
    r"""(?:\\{0,3}["']([^"'\\\n]{1,120})\\{0,3}["']"""
    r"""|(\d{4}-\d\d-\d\d[Tt][\d:.]{5,18}(?:[Zz]|[+-]\d\d:?\d\d)?|\d[\d.]{0,24}(?![\w.:/-])))"""
)
_ERROR_KEYS = frozenset({"message", "errorCode", "error_code", "errorMessage"})
_BYTES_BEGIN = re.compile(r"""\bb(?:'[{\[][^\n]{0,4000}|"[{\[][^\n]{0,4000})""")
_QUOTES = frozenset("\"'\\")
_IDENTIFIER = re.compile(r"_|[a-z][A-Z]")
_MAX_KEY_CHARS = 128
_MAX_LOOSE = 64
"""Pairs of one text that are read as fields."""

_JSON_START = re.compile(r"[{\[]\s{0,8}[\"'{]")
_CODE_SPACE = re.compile(r"\W+|\s+")
_HTTP_STATUS = range(400, 600)


def gather(body: object, now: float) -> Evidence:
    """Everything that a decoded body says. ``now``: seconds since the epoch."""
    walk = _Walk(now)
    with suppress(Exception):  # a mapping of somebody else's may raise anything; what was found until then counts
        walk.value("", body, 0)
    evidence = walk.evidence
    # Two spaces part what stood apart, so that no phrase is found across the seam. An address is no sentence.
    plain = [ADDRESS.sub(" ", text) for text in evidence.texts]
    evidence.words = "  ".join(map(words_of, plain + evidence.names))
    evidence.links = words_of(" ".join(link for text in evidence.texts for link in ADDRESS.findall(text)))
    return evidence


@lru_cache(maxsize=1024)
def _snake_case(key: str) -> str:
    """Turn "errorCode" and "error-code" into "error_code". Cached: servers repeat themselves."""
    return words_of(key).strip().replace(" ", "_")


class _Walk:
    """One walk: the budget that is left, and what was found so far."""

    def __init__(self, now: float) -> None:
        self.evidence = Evidence()
        self._now = now
        self._nodes = MAX_NODES
        self._text = MAX_TOTAL_TEXT
        self._amounts: dict[str, float] = {}
        """Numbers of the object that is being read: they belong together."""

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
        if mapping.get("exceeded") is False:  # one limit of a list, and not the one that refused
            return
        waits: list[tuple[float, bool]] = []
        outer, self._amounts = self._amounts, {}
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
            elif not _is_noise(key, value):
                self.value(key, value, depth + 1)
        self._waits(waits)
        if self._amounts:
            self.evidence.amounts.append(Amounts(**self._amounts))
        self._amounts = outer

    def _waits(self, waits: list[tuple[float, bool]]) -> None:
        """A length of time needs no clock, so a date beside it in the same object adds only doubt."""
        lengths = [seconds for seconds, dated in waits if not dated]
        self.evidence.durations += lengths
        if not lengths:
            self.evidence.resets_in += [seconds for seconds, _ in waits]

    def _string(self, key: str, value: str, depth: int) -> None:
        text = unescaped(value[:MAX_TEXT])
        if key in _AMOUNT_KEYS and text[:1].isdigit() and len(text) < _MAX_AMOUNT_CHARS:
            amount = number(text)
            if amount is not None:
                self._number(key, amount)
            return
        if key in _CODE_KEYS or key in _TYPE_KEYS or key in _NAME_KEYS:
            text = ADDRESS.sub(" ", text).strip()  # an address is no code (RFC 9457 has one under "type")
            if text:
                self._name(key, text)
            return
        self._prose(text, depth)

    def _name(self, key: str, text: str) -> None:
        """A code, a type, the name of a limit."""
        if key in _NAME_KEYS:
            self.evidence.names.append(text[:_MAX_NAME_CHARS])
        if key not in _CODE_KEYS and key not in _TYPE_KEYS:
            return
        if text.isdecimal() and len(text) == 3:
            self._number(key, int(text))
            return
        code = _CODE_SPACE.sub("_", words_of(text[:_MAX_KEY_CHARS])).strip("_")
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
        if role := _AMOUNT_KEYS.get(key):
            self._amounts.setdefault(role, value)

    def _prose(self, text: str, depth: int) -> None:
        """A sentence; JSON inside it is walked as such, and what only looks like it is read pair by pair."""
        self._text -= len(text)
        if self._text < 0 or len(self.evidence.texts) >= MAX_TEXTS or not text.strip():
            return
        if "b'" in text or 'b"' in text:
            text = _BYTES_BEGIN.sub(lambda found: from_bytes_repr(found[0]), text)
        inner = _json_in(text) if "{" in text and depth < MAX_DEPTH else None
        if inner:
            value, begin, end = inner
            self.value("", value, depth + 1)
            text = f"{text[:begin]} {text[end:]}"
        elif "=" in text or ":" in text:
            self._loose(text)
        if text.strip() and text not in self.evidence.texts:
            self.evidence.texts.append(text)

    def _loose(self, text: str) -> None:
        waits: list[tuple[float, bool]] = []
        for pair in islice(_LOOSE.finditer(text), _MAX_LOOSE):
            raw_key, value = pair[1], pair[2] or pair[3]
            # An unquoted "retry-after: 30" is prose, and ``message`` reads it; "retryDelay: 10" is a field.
            is_field = pair[0][0] in _QUOTES or "=" in pair[0] or _IDENTIFIER.search(raw_key)
            name = read_field_name(raw_key) if is_field else None
            if name is None:
                self._loose_name(_snake_case(raw_key), value, quoted=pair[2] is not None)
            elif wait := field_wait(name, value, self._now):
                waits.append(wait)
        self._waits(waits)

    def _loose_name(self, key: str, value: str, *, quoted: bool) -> None:
        """A code, a status or the name of a limit in a text."""
        if quoted and (key in _CODE_KEYS or key in _TYPE_KEYS):
            if " " not in value and "://" not in value:
                self._name(key, value)
        elif not quoted and key in _STATUS_KEYS and value.isdecimal():
            self._number(key, int(value))
        elif key in _NAME_KEYS:
            self.evidence.names.append(value)


def _is_noise(key: str, value: object) -> bool:
    """Whether a field tells nothing of the failure: an identifier, a link, what was asked."""
    if not _NOISE_KEY.search(key) or key in _NAME_KEYS or key in _TYPE_KEYS or key.endswith(("_message", "_msg")):
        return False
    return not _is_list_of_errors(value)


def _is_list_of_errors(value: object) -> bool:
    """Whether a value under a name that mostly holds noise ("messages") is a list of errors."""
    if not isinstance(value, list) or not value or not isinstance(value[0], Mapping):
        return False
    return "role" not in value[0] and not _ERROR_KEYS.isdisjoint(value[0])


def _json_in(text: str) -> tuple[object, int, int] | None:
    """The first object or array that a text contains, as JSON or as Python prints it, and from where to where it stands."""
    start = _JSON_START.search(text)
    if start is None:
        return None
    begin = start.start()
    inner = decode_json(text[begin:]) or (decode_python(text[begin:]) if "'" in text else None)
    if inner is None or not isinstance(inner[0], (Mapping, list)):
        return None
    return inner[0], begin, begin + inner[1]
