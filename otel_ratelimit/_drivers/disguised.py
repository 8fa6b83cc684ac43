"""Throttles in the body of an answer with status 200: gateways put their upstream's refusal there, Responses objects fail so.

To the SDK such an answer is a success, and its caller gets an object with an error in it, or the exception of whoever reads an
answer that is not there. To us it is a throttle like any other: the call waits and is sent again. When the budget ends, the
caller gets just that object or exception. Only where an answer was asked for: reading a failed job anew does not mend it.

An undisturbed call pays for a few looks at its result's attributes; what is suspicious is parsed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import openai

from otel_ratelimit import _guard
from otel_ratelimit._core.parsing import parse_throttle
from otel_ratelimit._drivers import openai_sdk
from otel_ratelimit._drivers.openai_sdk import RefusedAnswer

if TYPE_CHECKING:
    from otel_ratelimit._drivers.session import Session

_ASKING: Final = frozenset(
    ("chat/completions", "completions", "responses", "embeddings", "moderations", "images/generations", "images/edits")
)
"""Paths that ask for an answer, each time anew."""

_SUSPICIOUS: Final = frozenset(("error", "errors", "Error", "base_resp", "message", "msg", "code", "status", "detail"))
"""Fields that no answer of these paths has (beside those that its model knows), and bodies of errors do."""

_ERROR_OBJECT: Final = re.compile(rb'"(?:error|errors|Error|base_resp)"\s{0,8}:\s{0,8}[{\["]')
"""In an answer that was not parsed. In the text of a model's answer quotation marks are escaped."""

_LOOKED_AT: Final = 1 << 16
"""Bytes of such an answer; as many as the parser reads."""

_PLAIN: Final = 256
"""Characters. A text that is longer is no error but a transcript."""


def refusal_in(session: Session, result: Any) -> RefusedAnswer | None:
    """The refusal that a result is; None for what is none, by far most."""
    fields = getattr(result, "__dict__", None)
    if fields is None:
        return _refusal(session, result, result) if type(result) is str and len(result) <= _PLAIN else None
    # Two looks at what the models do not know, without a step into another function: each call comes here.
    extra = getattr(result, "__pydantic_extra__", None)
    if not fields.get("error") and (not extra or _SUSPICIOUS.isdisjoint(extra)):
        choices = fields.get("choices")
        if choices:
            extra = getattr(choices[0], "__pydantic_extra__", None)
            if not extra or _SUSPICIOUS.isdisjoint(extra):
                return None
        elif "http_response" in fields:
            content = openai_sdk.body_of(fields["http_response"])
            suspicious = content is not None and _ERROR_OBJECT.search(content, 0, _LOOKED_AT)
            return _refusal(session, result, content) if suspicious else None
        else:
            return None
    return _refusal(session, result, result)


@_guard.contained("answer", lambda _session, error: error)
def seen_through(session: Session, error: Exception) -> Exception:
    """What an exception is to be taken for: the refusal, where the SDK stumbled over reading one in a 200; else itself."""
    stumbled = isinstance(error, openai.APIResponseValidationError) or not isinstance(error, openai.APIError)
    response = session.response
    if not stumbled or response is None or response is session._observed:
        return error
    return _refusal(session, None, openai_sdk.body_of(response)) or error


def _refusal(session: Session, answer: Any, body: object) -> RefusedAnswer | None:
    options = session.options
    if options.method.lower() != "post" or options.url.strip("/") not in _ASKING or openai_sdk.in_background(options):
        return None
    response = session.response
    if response is None or body is None or parse_throttle(200, response.headers, body) is None:
        return None
    return RefusedAnswer(answer, response, body)
