"""All knowledge of the ``openai`` SDK: names of its seams, what its options and exceptions mean.

When the SDK moves, this file moves. Read against openai 1.99.0, 2.54.0, 3.0.0 and 3.54.0.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import openai
from openai._base_client import AsyncAPIClient, BaseClient, SyncAPIClient
from openai._streaming import AsyncStream, Stream
from openai._types import NotGiven

from otel_ratelimit._core.events import FailureReason
from otel_ratelimit._core.parsing import parse_throttle
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._drivers.operations import operation_of
from otel_ratelimit._drivers.providers import provider_of
from otel_ratelimit._telemetry import names
from otel_ratelimit._telemetry.instruments import Subject

SEAMS: Final[tuple[tuple[type, str], ...]] = (
    (SyncAPIClient, "request"),
    (AsyncAPIClient, "request"),
    (SyncAPIClient, "_process_response"),
    (AsyncAPIClient, "_process_response"),
    (SyncAPIClient, "_sleep_for_retry"),
    (AsyncAPIClient, "_sleep_for_retry"),
    (BaseClient, "_should_retry"),
    (Stream, "__stream__"),
    (AsyncStream, "__stream__"),
)
"""What the hooks wrap.

``request`` is the one way that every resource, Azure, raw and streaming responses, pagination and polling take. The
others are the SDK's own retry loop, which goes on handling all failures but throttles: ``_should_retry`` says no to a
throttle (so that it comes out of ``request`` as an exception, with its body read), ``_sleep_for_retry`` is observed,
``_process_response`` is the only place where a success still has its headers. An undisturbed call meets two of them.
``__stream__`` makes the iterator of every parsed stream, also of one that ``parse()`` makes of a raw response later.
"""

CLIENTS: Final[tuple[type, ...]] = (SyncAPIClient, AsyncAPIClient)
"""Where ``request`` is defined; no client class of the SDK has one of its own, though somebody may have put one there."""

REALTIME_MODULES: Final = ("openai.resources.realtime.realtime", "openai.resources.beta.realtime.realtime")
"""Where the SDK has its realtime connections; the second one alone before 1.107."""

OURS: Final = frozenset({429, 503, 529})
"""Statuses that the SDK's loop hands over unseen, since a streamed response has no body there yet: 429, and the overload
statuses of OpenAI (503) and Anthropic-like services (529)."""

NO_HEADERS: Final[type] = NotGiven
"""Type of ``headers`` in the options of a call that gave none."""

SDK_RETRIED: Final = frozenset({408, 409})
"""Statuses below 500 that the SDK's own rules retry."""

_RETRY_COUNT: Final = "x-stainless-retry-count"
"""The header in which the SDK tells the server how often this request was sent before; it keeps one that it is given."""

_SESSION: Final = "otel_ratelimit"
"""Key among a response's ``extensions``."""

_SMALL: Final = 1 << 16
"""Bytes; as many as the parser reads."""

_UNSAFE: Final = re.compile(r"[^\x21-\x7e]+")


class Failure(NamedTuple):
    """An exception of the SDK, read."""

    kind: FailureReason | None
    status: int | None
    error_type: str
    headers: Mapping[str, str]
    body: Any
    response: Any

    def __repr__(self) -> str:
        return f"Failure({self.kind}, {self.status})"  # headers and body are private, and reprs end in logs

    @property
    def rejected(self) -> bool:
        """Whether the server did no work because something is wrong with the request."""
        return self.kind is None and self.status is not None

    def throttle(self) -> Throttle | None:
        """The throttle that it is, if it is one."""
        return None if self.status is None else parse_throttle(self.status, self.headers, self.body)


class RefusedAnswer(Exception):
    """Carries an answer with status 200 that is a throttle through the pump, as exceptions go. Never reaches the caller.

    Attributes:
        answer: what the SDK made of it, for the caller.
        response, body: for the parser; the latter parsed, or as bytes or text.
    """

    def __init__(self, answer: Any, response: Any, body: Any) -> None:
        super().__init__()
        self.answer = answer
        self.response = response
        self.body = body


def read_failure(error: Exception) -> Failure:
    """Sort an exception that came out of ``request``."""
    name = type(error).__name__
    if type(error) is RefusedAnswer:
        return Failure(None, 200, names.ERROR_IN_STREAM, error.response.headers, error.body, error.response)
    if isinstance(error, openai.APIStatusError):
        return failure_of_response(error.response)
    if isinstance(error, openai.APITimeoutError):
        return Failure("timeout", None, name, {}, None, None)
    if isinstance(error, openai.APIConnectionError):
        return Failure("connection", None, name, {}, None, None)
    return Failure(None, None, name, {}, None, None)


def failure_of_response(response: Any) -> Failure:
    """Read a response with an error status, as far as it has been received."""
    status = response.status_code
    kind: FailureReason | None = "server_error" if status >= 500 or status in SDK_RETRIED else None
    return Failure(kind, status, str(status), response.headers, body_of(response), response)


def failure_in_loop(error: BaseException | None, response: Any) -> Failure:
    """Read what the SDK's own loop is about to retry: a response, or an httpx exception that it has not wrapped yet.

    httpx, httpx2 and aiohttp transports each have their own ``TimeoutException``; the name is what they share.
    """
    if response is not None:
        return failure_of_response(response)
    timed_out = any("Timeout" in base.__name__ for base in type(error).__mro__)
    name = "APITimeoutError" if timed_out else "APIConnectionError"
    return Failure("timeout" if timed_out else "connection", None, name, {}, None, None)


def body_of(response: Any) -> bytes | None:
    """The body if it has been read; None if not (httpx raises then)."""
    try:
        content = response.content
    except Exception:  # ResponseNotRead of httpx or httpx2, whichever this client uses
        return None
    return content if isinstance(content, bytes) else None


def is_small_json(response: Any) -> bool:
    """Whether the body is one JSON document that was made as a whole, as errors are, though a stream was asked for.

    A stream of unknown length may be announced as JSON too.
    """
    length = response.headers.get("content-length", "")
    kind = response.headers.get("content-type", "")
    return kind.startswith("application/json") and length.isdecimal() and len(length) < 6 and int(length) < _SMALL


def read_whole(response: Any) -> Any:
    """Read such a body; returns it, too. What fails there is raised as the SDK raises it."""
    try:
        return response.read()
    except Exception as error:
        raise openai.APIConnectionError(request=response.request) from error


async def read_whole_async(response: Any) -> Any:
    """The same, awaited."""
    try:
        return await response.aread()
    except Exception as error:
        raise openai.APIConnectionError(request=response.request) from error


def may_be_opened_again(options: Any) -> bool:
    """Whether the stream that a request asks for can be asked for again: what a GET resumes is over, and a run of the
    Assistants API has changed its thread.
    """
    return options.method.lower() == "post" and "threads" not in options.url


def in_background(options: Any) -> bool:
    """Whether the answer is made without the caller, who needs its id at once in order to come back to it."""
    body = options.json_data
    return isinstance(body, Mapping) and bool(body.get("background"))


def has_typed_events(options: Any) -> bool:
    """Whether a stream's failures come as events; elsewhere the SDK raises them."""
    return bool(options.url.rstrip("/").endswith("/responses"))


def attach(response: Any, session: object) -> None:
    """Let whoever makes a stream of this response, now or later, find the call."""
    response.extensions[_SESSION] = session


def attached(stream: Any) -> Any:
    """What was attached to the response that the stream is made of; None for nothing."""
    return stream.response.extensions.get(_SESSION)


def error_in_stream(error: Exception) -> object | None:
    """The error object that the SDK found in a stream and raised; None for all that it raises for other reasons."""
    return error.body if type(error) is openai.APIError else None


def twin_of(response: Any) -> Any:
    """Another object with the same state, for the SDK's generators to read from; see ``adopt``."""
    twin = object.__new__(type(response))
    twin.__dict__ = response.__dict__
    return twin


def adopt(stream: Any, kept: Any, answer: Any) -> None:
    """Let a stream go on with another answer, a stream itself or a raw response.

    The helpers above a stream, raw responses and callers ``kept`` its response, to close it and to read its headers. So that
    object becomes the new response, rather than being replaced by it. The generators that read the refused one close it
    when they are collected, at any time: they hold a twin, which parts from it here.
    """
    response = answer.http_response if hasattr(answer, "http_response") else answer.response
    kept.__dict__ = response.__dict__
    stream.response = response
    stream._decoder = stream._client._make_sse_decoder()


def private(instance: object, name: str) -> Any:
    """``self.__name`` of one of the SDK's classes; None where it has none."""
    return getattr(instance, f"_{type(instance).__name__}__{name}", None)


def refuses_retry(headers: Mapping[str, str]) -> bool:
    """Whether the server forbids to come back (OpenAI's own header, which the SDK obeys too)."""
    return headers.get("x-should-retry") == "false"


def timeout_of(client: Any, options: Any) -> float | None:
    """Seconds that the call may take by its own ``timeout``; None where it set none.

    Of an httpx ``Timeout`` the read part counts: the SDK's default is 600 s to read and 5 s to connect.
    """
    timeout = options.timeout
    if type(timeout).__name__ in ("NotGiven", "Omit"):
        timeout = client.timeout
    if timeout is None or (isinstance(timeout, (int, float)) and not isinstance(timeout, bool)):
        return timeout
    read = getattr(timeout, "read", None)
    return read if isinstance(read, (int, float)) else None


def resend_options(client: Any, options: Any, failed: Any, *, max_retries: int, resends: int) -> Any:
    """A copy of the options for sending again.

    Args:
        client, options: of the call.
        failed: the response to the attempt before, or the SDK's exception, which has its request as well; None for neither.
        max_retries: what is left of the SDK's own retries.
        resends: how often the call was sent again, this time included.
    """
    again = copy.copy(options)
    again.max_retries = max_retries
    key = client._idempotency_header
    request = getattr(failed, "request", None)
    if key and again.idempotency_key is None and request is not None:
        # Each call of ``request`` draws a key of its own, which it does not give away.
        again.idempotency_key = request.headers.get(key)
    headers = dict(options.headers) if isinstance(options.headers, Mapping) else {}
    if not any(name.lower() == _RETRY_COUNT for name in headers):
        headers[_RETRY_COUNT] = str(resends)
        again.headers = headers
    return again


def with_options(
    arguments: tuple[Any, ...], keywords: Mapping[str, Any], options: Any
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """The arguments of ``request`` with other options."""
    if "options" in keywords:
        return arguments, {**keywords, "options": options}
    return (arguments[0], options, *arguments[2:]), keywords


def number_attempt(options: Any, resends: int) -> None:
    """The same for an attempt of the SDK's own loop within a resend, where it counts from 0 again. Changes the options."""
    options.headers[_RETRY_COUNT] = str(resends)


def add_note(error: BaseException, note: str) -> None:
    """``error.add_note``, also on Python 3.10, where tracebacks do not show it but the attribute can be read."""
    if hasattr(error, "add_note"):
        error.add_note(note)
        return
    notes = getattr(error, "__notes__", None)
    error.__notes__ = [*(notes or ()), note]  # type: ignore[attr-defined]


def used_tokens(result: Any) -> float | None:
    """Total tokens that a parsed answer reports; None where it reports none (raw responses, streams, other kinds)."""
    usage = getattr(result, "usage", None)
    total = getattr(usage, "total_tokens", None)
    return float(total) if isinstance(total, int) else None


def says_slow_down(error: Exception) -> bool:
    """Whether the refusal means that traffic grew too fast, within the limits."""
    return "slow_down" in (getattr(error, "code", None), getattr(error, "type", None))


def target_of(client: Any, options: Any) -> tuple[str, str]:
    """Method and URL of a request that was never built, without what could be a credential in it."""
    url = client._prepare_url(options.url).copy_with(username=None, password=None, query=None, fragment=None)
    return options.method.upper(), str(url)


def subject_of(client: Any, options: Any) -> Subject:
    """What telemetry calls this request."""
    url = client.base_url
    host = (getattr(url, "host", None) or "").lower()
    port = getattr(url, "port", None) or {"https": 443, "http": 80}.get(getattr(url, "scheme", ""))
    return Subject(
        operation=operation_of(options.url),
        model=model_of(options),
        provider=provider_of(host, "azure" in type(client).__name__.lower()),
        address=host,
        port=port,
    )


def model_of(options: Any) -> str | None:
    """The request's model, made safe to show: printable, of bounded length; None where the request names none."""
    body = options.json_data
    model = body.get("model") if isinstance(body, Mapping) else None
    if not isinstance(model, str) or not model:
        return None
    return _UNSAFE.sub("?", model[: names.MAX_MODEL_LENGTH])
