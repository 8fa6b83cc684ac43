"""What people paste -> responses: status, headers and body, as far as the text has them. Judges nothing.

Owns the shapes of pasted text: ``curl -i`` and ``curl -v``, Python tracebacks of the SDK and of what is built on it, JSON
errors, JSON and plain log lines, the SDK's own debug log. What a response means is ``meaning``'s business.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from otel_ratelimit._core.parsing.decoding import closing

MAX_DEPTH: Final = 4
"""Levels of text in JSON in text that are unwrapped: a log shipper's record around a log record around an error."""

_MOST_REPEATED: Final = 16
"""Values of one header that are kept."""

MAX_LITERAL: Final = 256 * 1024
"""Characters of a Python or JSON value inside a line: taking one apart costs many times its size in memory."""

_ANSI: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_STATUS_LINE: Final = re.compile(r"^(?:< )?HTTP/\d(?:\.\d)? (\d{3})(?: [^\n\"]*)?$")
_HEADER_LINE: Final = re.compile(r"^(?:< )?([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*)$")
_CURL_NOISE: Final = re.compile(r"^(?:[*>] ?|[{}] \[|  % Total|\s+Dload)")
_PYTHON_ERROR: Final = re.compile(r"Error code: (\d{3})(?: - )?")
_STATUS_IN_TEXT: Final = re.compile(
    r"(?:\bstatus(?:[ _-]?code)?|\bHTTP(?:/\d(?:\.\d)?)?|\bcode|\berror|\bstatus_code)[\"']?\s?[:=(]?\s?[\"']?(\d{3})\b"
    r"|\b(\d{3}) (?:Too Many Requests|Service Unavailable|Client Error|Server Error|Payment Required|Unauthorized)"
    r"|\" (\d{3}) ",
    re.IGNORECASE,
)
_REASON_PHRASE: Final = re.compile(r"\b(?:HTTP/\d(?:\.\d)? )?\d{3} Too Many Requests", re.IGNORECASE)
"""What every 429 is called by HTTP itself (RFC 6585): it says nothing of a limit on the number of requests."""
_HEADER_IN_TEXT: Final = re.compile(
    r"[\"']?\b((?:anthropic-|x-)?ratelimit(?:-[a-z0-9]+)*|x-rate-limit-[a-z0-9-]+|retry-after(?:-ms)?|x-should-retry)\b"
    r"[\"']?\s?[:=,]\s?b?(?:\"([^\"\n]{0,80})\"|'([^'\n]{0,80})'|([^\"',;}\)\s][^\"'}\)\n]{0,80}?)(?=[\"'}\),]|\s|$))",
    re.IGNORECASE,
)
_MAY_MATTER: Final = re.compile(
    r"error code|\b(?:429|529|503|402|413)\b|rate.?limit|too many requests|quota|retry.?after|overload|slow.?down|throttl"
    r"|billing|try again in",
    re.IGNORECASE,
)
_STATUS_KEYS: Final = ("status_code", "statusCode", "http_status", "http.response.status_code", "status")
_BODY_KEYS: Final = ("body", "response", "data", "content", "responseBody", "text")
_HEADER_KEYS: Final = ("headers", "response_headers", "responseHeaders")


@dataclass(frozen=True)
class Pasted:
    """One response, as far as the text had it.

    Attributes:
        status: None where no status was named.
        headers: lower-case names.
        body: decoded JSON, text, or None.
    """

    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None


def read(text: str) -> list[Pasted]:
    """Every response that the text may speak of, in order; the whole text as one where no part stands out."""
    text = _ANSI.sub("", text.replace("\r\n", "\n"))
    return list(_read(text, 0)) or [_from_line(text)]


def _read(text: str, depth: int) -> Iterator[Pasted]:
    lines = text.split("\n")
    if any(_STATUS_LINE.match(line) for line in lines):
        yield from _from_http(lines)
        return
    whole = _json(text)
    if isinstance(whole, (dict, list)):
        yield from _from_json(whole, depth)
        return
    for line in lines:
        if not _MAY_MATTER.search(line):
            continue
        record = _json(line)
        if isinstance(record, dict):
            yield from _from_json(record, depth)
        elif _PYTHON_ERROR.search(line):
            yield from _from_python(line)
        else:
            yield _from_line(line)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _from_http(lines: list[str]) -> Iterator[Pasted]:
    """``curl -i`` and ``curl -v``: a status line, headers, a blank line, a body; again for each response."""
    status: int | None = None
    headers: dict[str, list[str]] = {}
    body: list[str] = []
    in_head = False
    for line in [*lines, "HTTP/1.1 000 end"]:
        begins = _STATUS_LINE.match(line)
        if begins:
            if status is not None:
                yield Pasted(status, _joined(headers), _body("\n".join(body)))
            status, headers, body, in_head = int(begins[1]), {}, [], True
        elif in_head:
            header = _HEADER_LINE.match(line)
            if header:
                headers.setdefault(header[1].lower(), []).append(header[2].strip())
            elif line.strip() in ("", "<"):
                in_head = False
        elif not _CURL_NOISE.match(line):
            body.append(line)


def _joined(headers: Mapping[str, list[str]]) -> dict[str, str]:
    """A header that came more than once as one (RFC 9110, section 5.3); what nobody reads of thousands is left out."""
    return {name: ", ".join(values[:_MOST_REPEATED]) for name, values in headers.items()}


def _body(text: str) -> object:
    decoded = _json(text)
    return text.strip() or None if decoded is None else decoded


def _from_python(line: str) -> Iterator[Pasted]:
    """``openai.RateLimitError: Error code: 429 - {'error': {...}}``, wherever in a line it stands."""
    headers = _headers_in(line)
    found = list(_PYTHON_ERROR.finditer(line))
    for match, following in zip(found, [*found[1:], None], strict=True):
        rest = line[match.end() : following.start() if following else len(line)]
        literal = _literal(rest)
        yield Pasted(int(match[1]), headers, rest if literal is None else literal)


def _literal(text: str) -> object:
    """The Python or JSON value that the text begins with; None where it begins with none, or it is cut off."""
    text = text[:MAX_LITERAL].lstrip()
    end = closing(text) if text.startswith(("{", "[")) else None
    if end is None:
        return None
    # A log record in JSON escapes the quotes once more.
    for candidate in (text[:end], text[:end].replace('\\"', '"').replace("\\'", "'")):
        for parse in (ast.literal_eval, json.loads):
            try:
                value: object = parse(candidate)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
            return value
    return None


def _from_line(text: str) -> Pasted:
    """A line of a log: the status and the headers that it names, and itself as the body."""
    status = next((int(group) for match in _STATUS_IN_TEXT.finditer(text) for group in match.groups() if group), None)
    if status is not None and not 400 <= status < 600:
        status = None
    start = text.find("{")
    inner = _literal(text[start:]) if start >= 0 else None
    if isinstance(inner, dict) and "error" in inner:
        return Pasted(status, _headers_in(text), inner)
    # A header is told as one, and HTTP's own name of the status as none: the parser must not take them for sentences.
    rest = _HEADER_IN_TEXT.sub(" ", _REASON_PHRASE.sub("", text))
    return Pasted(status, _headers_in(text), rest)


def _headers_in(text: str) -> dict[str, str]:
    return {
        match[1].lower(): (match[2] or match[3] or match[4] or "").strip() for match in _HEADER_IN_TEXT.finditer(text)
    }


def _from_json(value: Any, depth: int) -> Iterator[Pasted]:
    """A JSON error, a response written as an object, or a log record that carries one of them in a string."""
    if depth >= MAX_DEPTH:
        return
    if isinstance(value, list):
        for item in value:
            yield from _from_json(item, depth + 1)
    elif isinstance(value, str):
        if _MAY_MATTER.search(value):
            yield from _read(value, depth + 1)
    elif isinstance(value, dict):
        response = _from_record(value)
        if response:
            yield response
        else:
            yield from _from_json(list(value.values()), depth)


def _from_record(record: Mapping[str, Any]) -> Pasted | None:
    """The response that an object is, or that it describes; None if it is none."""
    status = next((record[key] for key in _STATUS_KEYS if _is_status(record.get(key))), None)
    headers = next((_plain(record[key]) for key in _HEADER_KEYS if key in record), {})
    body = next((record[key] for key in _BODY_KEYS if key in record), None)
    if isinstance(body, str):
        body = _body(body)
    if (status is not None or headers) and body is not None:
        return Pasted(status, headers, body)
    if _is_error(record):
        return Pasted(status, headers, record)
    return Pasted(status, headers, None) if status is not None and headers else None


def _is_error(value: Mapping[str, Any]) -> bool:
    error = value.get("error")
    if isinstance(error, dict) or (isinstance(error, str) and "message" not in value):
        return True
    return isinstance(value.get("message"), str) and ("code" in value or "type" in value)


def _is_status(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 100 <= value < 600


def _plain(headers: Any) -> dict[str, str]:
    """Headers as an object, as pairs, or as an HTTP archive writes them."""
    if isinstance(headers, dict):
        return {str(name).lower(): str(value) for name, value in headers.items()}
    plain = {}
    for item in headers if isinstance(headers, list) else ():
        if isinstance(item, dict) and "name" in item and "value" in item:
            plain[str(item["name"]).lower()] = str(item["value"])
        elif isinstance(item, list) and len(item) == 2:
            plain[str(item[0]).lower()] = str(item[1])
    return plain
