"""Bytes and text of a body to decoded JSON, or to the text that it is.

Owns character sets (UTF-8, UTF-16 with and without a byte order mark, GB18030), the framing of several documents in one
body (lines of JSON, server-sent events), and the escapes of JSON that was cut off. Knows nothing of what a body means.
The work is bounded: only MAX_BODY bytes or characters are looked at.
"""

from __future__ import annotations

import ast
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
"""Bytes whose zeros tell UTF-16 without a mark: every second byte of its Latin letters and of JSON's signs is 0."""
_FEW_ZEROS: Final = 3
"""Zeros in one half of the sample, and for each in the other half, that are no sign yet: Chinese has some in either."""

_ENTITIES: Final = (
    ("&quot;", '"'), ("&#34;", '"'), ("&#39;", "'"), ("&#x27;", "'"), ("&apos;", "'"), ("&nbsp;", " "), ("&lt;", "<"),
    ("&gt;", ">"), ("&amp;", "&"),
)  # fmt: skip
_BLANK: Final = " \t\r\n\ufeff"
_JSON_BEGINS: Final = ("{", "[", '"')
_FIELD: Final = re.compile(r"\s{0,4}(?:data|event|id|retry):")
_ESCAPE: Final = re.compile(r"\\{1,2}u([0-9a-fA-F]{4})")
_SIGN: Final = re.compile(r"[{}\[\]'\"]")
_QUOTED: Final = {
    "'": re.compile(r"[^'\\]*(?:\\.[^'\\]*)*'", re.DOTALL),
    '"': re.compile(r'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL),
}
"""The rest of a string behind its opening quote."""
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
    if "&quot;" in text or "&#" in text or "&lt;" in text:
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
        if sample[first::2].count(0) > _FEW_ZEROS + _FEW_ZEROS * sample[1 - first :: 2].count(0):
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


def decode_python(text: str) -> tuple[object, int] | None:
    """The dict or list at the start of ``text`` as Python prints it, and the index behind it; None if there is none."""
    end = closing(text)
    if end is None:
        return None
    try:
        return ast.literal_eval(text[:end]), end
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def closing(text: str) -> int | None:
    """The index behind the bracket that closes the one which ``text`` begins with, quotes minded."""
    depth = 0
    position = 0
    while found := _SIGN.search(text, position):
        sign = found[0]
        position = found.end()
        if sign in "'\"":
            closed = _QUOTED[sign].match(text, position)
            if closed is None:
                return None
            position = closed.end()
        else:
            depth += 1 if sign in "{[" else -1
            if depth == 0:
                return position
    return None


def documents(text: str) -> list[object]:
    """The JSON values of a text that has one in each line (NDJSON) or in each frame (server-sent events)."""
    lines = (line.strip(_BLANK) for line in text[:MAX_BODY].splitlines())
    data = (line[len("data:") :].lstrip() if line.startswith("data:") else line for line in lines)
    candidates = [line for line in data if line.startswith(("{", "["))][:_MAX_DOCUMENTS]
    return [decoded[0] for line in candidates if (decoded := decode_json(line)) is not None]


def unescaped(text: str) -> str:
    r"""Text with its ``\uXXXX`` read, as they stand in JSON that was cut off, or that was encoded twice."""
    return _ESCAPE.sub(_character, text) if "\\u" in text else text


def _character(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return found[0] if code in _SURROGATES else chr(code)
