"""What logs, gateways and encodings do to a response does not change what it means: every row of every corpus, transformed."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from otel_ratelimit._core.parsing import parse_stream_event, parse_throttle
from otel_ratelimit._core.throttle import Throttle
from tests.unit.parsing.test_response import ROWS

NOW = 1_791_036_000
"""For rows that name no clock."""

CAMEL_IN_PROSE = frozenset(
    {"more-github-models-003", "wide-github-models-002", "wide-spark-001", "service-d-antigravity-001"}
)
"""Their messages hold names in camel case, which another case takes apart for good."""


def _text(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)


def _cased(body: Any, change: Callable[[str], str]) -> Any:
    """The sentences in another case; codes and names are as the server writes them."""
    if isinstance(body, dict):
        sentences = ("message", "msg", "detail", "error_msg")
        return {
            key: change(value) if key in sentences and isinstance(value, str) else _cased(value, change)
            for key, value in body.items()
        }
    return [_cased(one, change) for one in body] if isinstance(body, list) else body


BODIES: dict[str, Callable[[Any], Any]] = {
    "as text": _text,
    "nested": lambda body: {"error": {"error": body}} if not isinstance(body, str) else body,
    "under detail": lambda body: {"detail": body},
    "under errors": lambda body: {"errors": [body]},
    "under a body of a response": lambda body: {"response": {"body": body}},
    "encoded twice": lambda body: json.dumps(_text(body)),
    "as text in a message": lambda body: {"error": {"message": _text(body)}},
    "as ASCII in a message": lambda body: {"error": {"message": body if isinstance(body, str) else json.dumps(body)}},
    "behind a prefix": lambda body: f"litellm.APIError: OpenAIException - {_text(body)}",
    "escaped for HTML": lambda body: html.escape(_text(body)),
    "cut at 1 kB": lambda body: _text(body)[:1024],
    "repr of bytes": lambda body: repr(_text(body).encode()),
    "repr of a dict": lambda body: repr(body) if not isinstance(body, str) else body,
    "repr behind a prefix": lambda body: f"Error: {body!r}" if not isinstance(body, str) else body,
    "indented": lambda body: json.dumps(body, indent=2) if not isinstance(body, str) else body,
    "upper case": lambda body: _cased(body, str.upper),
    "title case": lambda body: _cased(body, str.title),
    "lower case": lambda body: _cased(body, str.lower),
    "UTF-8": lambda body: _text(body).encode(),
    "UTF-8 with a mark": lambda body: _text(body).encode("utf-8-sig"),
    "UTF-16 with a mark": lambda body: _text(body).encode("utf-16"),
    "UTF-16 without a mark": lambda body: _text(body).encode("utf-16-le") if not isinstance(body, str) else body,
    "big-endian UTF-16": lambda body: _text(body).encode("utf-16-be") if not isinstance(body, str) else body,
    "GB18030": lambda body: _text(body).encode("gb18030"),
    "second line of NDJSON": lambda body: (
        f'{{"event": "start"}}\n{json.dumps(body)}\n' if not isinstance(body, str) else body
    ),
    "second server-sent event": lambda body: (
        f"event: ping\ndata: {{}}\n\nevent: error\ndata: {json.dumps(body)}\n\n" if not isinstance(body, str) else body
    ),
}
EVENTS: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "bytes": lambda event: _text(event).encode(),
    "ASCII": json.dumps,
    "a list": lambda event: [event],
    "a server-sent event": lambda event: f"event: error\ndata: {json.dumps(event)}\n\n",
    "upper case": lambda event: _cased(event, str.upper),
    "UTF-16": lambda event: _text(event).encode("utf-16"),
}


def _meaning(answer: Throttle | None) -> tuple[object, ...] | None:
    """Everything but where the delay stood, which a prefix may change from field to sentence."""
    if answer is None:
        return None
    sizes = (answer.limit, answer.used, answer.requested)
    return answer.delay, answer.retryable, answer.kind, answer.window, answer.window_seconds, *sizes


@cache
def _untransformed() -> dict[str, Throttle | None]:
    """What each row means as it is."""
    return {
        row["id"]: parse_throttle(row["status"], row["headers"], row["body"], now=row.get("now", NOW)) for row in ERRORS
    }


ERRORS = [row for row in ROWS if row["stream_event"] is None and row["body"] is not None and row["status"] != 200]


@pytest.mark.parametrize("name", BODIES)
def test_a_transformed_body_means_the_same(name: str) -> None:
    """One transformation, over every row with a body: no row's meaning changes."""
    changed = []
    for row in ERRORS:
        if name.endswith(" case") and row["id"] in CAMEL_IN_PROSE:
            continue
        try:
            body = BODIES[name](row["body"])
        except UnicodeEncodeError:  # a lone surrogate has no bytes
            continue
        now = row.get("now", NOW)
        plain = _untransformed()[row["id"]]
        other = parse_throttle(row["status"], row["headers"], body, now=now)
        if _meaning(plain) != _meaning(other):
            changed.append((row["id"], plain, other))
    assert not changed


@pytest.mark.parametrize("name", EVENTS)
def test_a_transformed_event_means_the_same(name: str) -> None:
    """The same for events in a stream."""
    changed = []
    for row in (row for row in ROWS if isinstance(row["stream_event"], dict)):
        now = row.get("now", NOW)
        plain = parse_stream_event(row["stream_event"], now=now)
        other = parse_stream_event(EVENTS[name](row["stream_event"]), now=now)
        if _meaning(plain) != _meaning(other):
            changed.append((row["id"], plain, other))
    assert not changed


def test_a_response_relayed_in_an_event_is_a_throttle_too() -> None:
    """Gateways put the error of an upstream 429 into a stream that was answered with 200."""
    for row in ERRORS:
        if row["status"] == 429:
            event = {"error": {"code": 429, "message": _text(row["body"])}}
            assert parse_stream_event(event, now=row.get("now", NOW)) is not None, row["id"]
