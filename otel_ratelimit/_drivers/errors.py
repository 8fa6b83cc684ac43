"""What is raised for a call that was never sent, and what is kept of a refusal in order to raise it.

The SDK alone would have sent the call and raised the server's 429. So the exception is of that class, with a response and a body
to read, and says that nothing was sent. Owns which part of another call's refusal may be shown for that: what describes the
limit, and nothing that identifies or authorises the call that met it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import openai
from openai import _exceptions

from otel_ratelimit import _guard
from otel_ratelimit._core.events import GiveUp, Verdict
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._drivers import openai_sdk
from otel_ratelimit._drivers.notes import gauge_words, limit_words, queue_message, queue_note, refusal_words

if TYPE_CHECKING:
    from otel_ratelimit._drivers.openai_sdk import Failure
    from otel_ratelimit._drivers.session import Session
    from otel_ratelimit._stores.memory import Line

_httpx: Final[Any] = getattr(_exceptions, "httpx2", None) or getattr(_exceptions, "httpx", None)
"""The library whose responses the SDK's own exceptions carry: httpx2 since openai 3.0, httpx before."""

CODE: Final = "admission_timeout"

MAX_BODY: Final = 4096
"""Bytes of a refusal's body. A longer one is not kept: an error of a rate limit has a few hundred, and half of one is no JSON."""

MAX_HEADERS: Final = 32
MAX_VALUE: Final = 256
"""How many headers of a refusal are kept, and how many characters one may have."""

_SHOWN: Final = frozenset({"content-type", "date", "x-should-retry"})
"""Headers that are kept beside those that speak of a limit. What names the other call or opens anything (request ids, cookies,
``openai-organization``) is not."""

_NOWHERE: Final = "http://localhost/"


class Refusal(NamedTuple):
    """The last 429 of an account and model, as far as it is kept; ``at``: when, on the driver's monotonic clock."""

    at: float
    throttle: Throttle
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __repr__(self) -> str:
        return f"Refusal(at={self.at!r})"  # the body names the organisation, and reprs end in logs


class AdmissionTimeoutError(openai.RateLimitError, TimeoutError):
    """The turn of a call in the local queue would come after its budget; nothing was sent.

    It is a ``RateLimitError``, so that what was written for the SDK alone catches it. Raise ``Policy.max_wait``,
    lower the concurrency, or give the call a higher priority.

    Attributes:
        status_code: 429.
        code: ``"admission_timeout"``; no error of the server has it.
        response: the status, the body and the headers about limits of the last refusal under the same limit, where this process
            met one; else a stand-in. ``retry-after`` and ``retry-after-ms`` say in how long the turn would have come.
        body: the error object of that response, as in the SDK's own exceptions.
        request: method and URL of this call, without headers and body.
    """

    def __init__(self, message: str, *, response: Any = None, body: object = None) -> None:
        """What was not sent, and why.

        Args:
            message: the text.
            response, body: as of ``openai.APIStatusError``; where there is none, a stand-in.
        """
        super().__init__(message, response=_response({}, b"") if response is None else response, body=body)
        self.code = CODE

    def __reduce__(self) -> tuple[Any, ...]:
        """By what it is made of: the SDK's exceptions cannot be pickled or copied, but those who pass errors on do that."""
        response = self.response
        parts = (tuple(response.headers.items()), response.content, self.request.method, str(self.request.url))
        state = {name: value for name, value in self.__dict__.items() if name not in ("response", "request")}
        return _again, (type(self), self.message, parts), state


# It is looked up there when it is unpickled, and named so in tracebacks.
AdmissionTimeoutError.__module__ = "otel_ratelimit"


def _again(kind: type[AdmissionTimeoutError], message: str, parts: tuple[Any, ...]) -> AdmissionTimeoutError:
    headers, content, method, url = parts
    return kind(message, response=_response(dict(headers), content, method, url))


def _response(headers: Mapping[str, str], content: bytes, method: str = "POST", url: str = _NOWHERE) -> Any:
    return _httpx.Response(429, headers=headers, content=content, request=_httpx.Request(method, url))


@_guard.contained("refusal", lambda _session, _throttle, _failure, _now: None)
def remember(session: Session, throttle: Throttle, failure: Failure, now: float) -> None:
    """Keep what an :class:`AdmissionTimeoutError` of the same account and model may have to show. Of a 429 only: its class says
    that the status was one.
    """
    if failure.status != 429 or not throttle.retryable:
        return
    headers = []
    for raw_name, value in failure.headers.items():
        name = raw_name.lower()
        if (name in _SHOWN or "ratelimit" in name or "rate-limit" in name) and len(value) <= MAX_VALUE:
            headers.append((name, value))
    body = failure.body or b""
    kept = Refusal(now, throttle, tuple(headers[:MAX_HEADERS]), body if len(body) <= MAX_BODY else b"")
    _line(session).refusal = kept


def _line(session: Session) -> Line:
    return session.runtime.known(session.client, session.options).line


@_guard.contained("turned away", lambda _session, _verdict: AdmissionTimeoutError("nothing was sent"))
def turned_away(session: Session, verdict: Verdict) -> AdmissionTimeoutError:
    """What is raised where a call ends before anything was sent; only a give-up ends one there."""
    assert isinstance(verdict, GiveUp)
    now = session.runtime.clock.monotonic()
    line = _line(session)
    refusal: Refusal | None = line.refusal
    limit = limit_words(
        None if refusal is None else refusal_words(refusal.throttle, now - refusal.at),
        gauge_words(session.runtime.store.levels_of(line, now)),
    )
    message = queue_message(verdict, limit)
    headers = dict(refusal.headers) if refusal is not None else {"content-type": "application/json"}
    if verdict.asked is not None and math.isfinite(verdict.asked):
        headers["retry-after"] = str(max(1, math.ceil(verdict.asked)))
        headers["retry-after-ms"] = str(max(1, math.ceil(1000 * verdict.asked)))
    content = refusal.body if refusal is not None else b""
    if not content:
        shown = {"message": message, "type": "rate_limit_error", "param": None, "code": CODE}
        content = json.dumps({"error": shown}).encode()
        headers["content-type"] = "application/json"
    method, url = openai_sdk.target_of(session.client, session.options)
    error = AdmissionTimeoutError(message, response=_response(headers, content, method, url), body=_body(content))
    openai_sdk.add_note(error, queue_note(verdict, limit))
    return error


def _body(content: bytes) -> object:
    """As the SDK makes it: the error object of a JSON body, or the text."""
    text = content.decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return body.get("error", body) if isinstance(body, dict) else body
