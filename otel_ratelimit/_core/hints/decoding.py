"""Bytes and text of a body to decoded JSON, or to the text that it is.

Owns character sets (UTF-8, UTF-16 with and without a byte order mark, GB18030), the framing of several documents in one
body (lines of JSON, server-sent events), and the escapes of JSON that was cut off. Knows nothing of what a body means.
The work is bounded: only MAX_BODY bytes or characters are looked at.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Final

MAX_BODY: Final = 64 * 1024
"""Characters (or bytes) of a body that are decoded. Real errors have at most some thousands; a longer body is cut
here before it is decoded, and its head is read as text."""

_MAX_DOCUMENTS: Final = 16
"""Documents of one body that are read, where it has one in each line or frame."""

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_SAMPLE: Final = 64
"""Bytes whose zeros tell UTF-16 without a mark: nearly every second byte of Latin text in it is 0."""

_ENTITIES: Final = (
    ("&quot;", '"'), ("&#34;", '"'), ("&#39;", "'"), ("&#x27;", "'"), ("&apos;", "'"), ("&nbsp;", " "), ("&lt;", "<"),
    ("&gt;", ">"), ("&amp;", "&"),
)  # fmt: skip
_BLANK: Final = " \t\r\n\ufeff"
_JSON_BEGINS: Final = ("{", "[", '"')
_FIELD: Final = re.compile(r"\s{0,4}(?:data|event|id|retry):")
_ESCAPE: Final = re.compile(r"\\{1,2}u([0-9a-fA-F]{4})")
_DECODER: Final = json.JSONDecoder()
_SURROGATES: Final = range(0xD800, 0xE000)


def decode(body: object) -> object:
    """The body as decoded JSON, as a list of documents, or as text. Never raises."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        try:
            body = _text(bytes(body[: MAX_BODY + 1]))
        except (TypeError, ValueError, NotImplementedError):  # a memoryview of no bytes
            return None
    if not isinstance(body, str):
        return body
    cut = _unwrapped(body[:MAX_BODY])
    begin = cut.lstrip(_BLANK)
    if begin.startswith(_JSON_BEGINS):
        if len(body) > MAX_BODY:
            return cut
        decoded = decode_json(begin)
        if decoded is None:
            return unescaped(cut)
        if "\n" not in begin or not begin[decoded[1] :].strip():
            return decoded[0]
        return documents(begin) or decoded[0]
    if _FIELD.match(begin):
        return documents(begin) or unescaped(cut)
    return unescaped(cut)


def _unwrapped(text: str) -> str:
    """Text without what a log put around the characters: entities of HTML, Python's notation of bytes."""
    if "&quot;" in text or "&#" in text:
        for entity, character in _ENTITIES:
            text = text.replace(entity, character)
    return from_bytes_repr(text) if text.startswith(("b'", 'b"')) else text


def from_bytes_repr(text: str) -> str:
    """What ``b'...'`` stands for, also where its end was cut off; the same text where it is no such notation."""
    inner = text[2:-1] if text.endswith(text[1]) else text[2:]
    try:
        raw = inner.encode("latin-1").decode("unicode_escape").encode("latin-1")
    except UnicodeError:  # cut within an escape, or never bytes
        return inner
    return _text(raw)


def _text(raw: bytes) -> str:
    """Bytes as text by the byte order mark, by the zeros of UTF-16, as UTF-8, or as GB18030 (the superset of GBK)."""
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(name, "replace")
    sample = raw[:_SAMPLE]
    for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = sample[first::2].count(0)
        if zeros and zeros >= len(sample) // 4 and not sample[1 - first :: 2].count(0):
            return raw.decode(name, "replace")
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(raw)  # the last character may be cut
    except UnicodeDecodeError:
        pass
    try:
        return codecs.getincrementaldecoder("gb18030")().decode(raw)
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace")


def decode_json(text: str) -> tuple[object, int] | None:
    """The JSON value at the start of ``text`` and the index behind it; None if there is none."""
    try:
        return _DECODER.raw_decode(text)
    except (ValueError, RecursionError):  # ValueError also: an integer of more than 4,300 digits
        return None


def documents(text: str) -> list[object]:
    """The JSON values of a text that has one in each line (NDJSON) or in each frame (server-sent events)."""
    found: list[object] = []
    for line in text[:MAX_BODY].splitlines():
        stripped = line.strip(_BLANK)
        if stripped.startswith("data:"):
            stripped = stripped[len("data:") :].lstrip()
        if not stripped.startswith(("{", "[")):
            continue
        decoded = decode_json(stripped)
        if decoded is not None:
            found.append(decoded[0])
        if len(found) >= _MAX_DOCUMENTS:
            break
    return found


def unescaped(text: str) -> str:
    """Text with its ``\\uXXXX`` read, as they stand in JSON that was cut off, or that was encoded twice."""
    return _ESCAPE.sub(_character, text) if "\\u" in text else text


def _character(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return found[0] if code in _SURROGATES else chr(code)
