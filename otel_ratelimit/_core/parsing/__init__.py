"""What a server says about a limit: one response, or one event in a stream, to one ``Throttle`` or None.

This package is pure: standard library, no I/O, no clock but the two public functions' default for ``now``, no state
but caches of names. It keeps no text of what it read, and logs nothing. The work is bounded whatever comes in: bytes,
(``decoding``), nodes and depth (``body``), characters of text (``message``), headers (``headers``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from otel_ratelimit._core.throttle import Throttle

if TYPE_CHECKING:
    from otel_ratelimit._core.parsing.limits import LimitReading

# What reads is imported when it is needed (by the drivers at the first call): its patterns take time to compile.

__all__ = ["Readings", "parse_stream_event", "parse_throttle"]

_STATUS_RANGE = range(100, 600)

_MAX_CLOCK = 1e12
"""Seconds. No clock shows more; NaN, infinity and endless integers are not below it either."""

_PLAIN_ERROR = r"(?i)\s{0,8}(?:error[: ]{1,3})?(?:error code: 1015|too many requests|rate limit(?:ed)?\b)"
_MAX_PLAIN_ERROR = 256
"""Characters. A 200 with a text body is an error only if it is as short as one and begins like one."""


def parse_throttle(
    status: int,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None,
    body: object,
    *,
    now: float | None = None,
) -> Throttle | None:
    """Read a response: is it a throttle, how long does the server ask to wait, what ran out, can waiting help?

    Args:
        status: The HTTP status. A 200 can be a throttle too, where its whole body is an error: an ``error`` object,
            ``choices[0].error``, a Responses object that failed. Its headers are read only then, and of them only
            instructions and limits that have nothing left.
        headers: Any mapping or pairs; names in any case; values may be bytes. Duplicates are joined by ", ".
        body: bytes, text, decoded JSON, an SDK model, or None. Only the first 64 KiB are decoded. A model that is a
            success (``choices`` without an error) costs two looks at its attributes.
        now: Seconds since the epoch, which dates are measured from. None: the response's own ``Date`` header, else
            the clock of this machine.

    Returns:
        A ``Throttle``, or None where the response is no throttle: a success, an authentication or context-length
        error, a plain server error, though its text may name seconds.

    Never raises, whatever it is given.
    """
    from otel_ratelimit._core.parsing.headers import normalise  # noqa: PLC0415
    from otel_ratelimit._core.parsing.response import read_response  # noqa: PLC0415

    code = status if isinstance(status, int) and status in _STATUS_RANGE else 0
    if 200 <= code < 300:
        return _disguised(headers, body, now)
    if code < 400:
        return None
    plain = normalise(headers)
    return read_response(code, plain, body, _clock(now, plain.get("date")))


def parse_stream_event(
    event: object, *, now: float | None = None, headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None
) -> Throttle | None:
    """Read one event of a stream, or one error object: the same answer as ``parse_throttle``, for what has no status.

    Args:
        event: Decoded JSON, JSON as text or bytes, server-sent events as text, or an SDK event (anything with
            ``to_dict`` or ``model_dump``).
        now: Seconds since the epoch; None: the ``Date`` of ``headers``, else the clock of this machine.
        headers: Those of the 200 that carries the stream. Where the event is a throttle they may tell the wait:
            `Retry-After`, or the reset of a limit that has nothing left.

    Never raises, whatever it is given.
    """
    from otel_ratelimit._core.parsing.events import error_of, plain_event  # noqa: PLC0415
    from otel_ratelimit._core.parsing.headers import normalise  # noqa: PLC0415
    from otel_ratelimit._core.parsing.response import read_response  # noqa: PLC0415

    try:
        error = error_of(plain_event(event))
    except Exception:  # somebody else's model or mapping may raise anything
        return None
    if error is None:
        return None
    plain = normalise(headers)
    return read_response(None, plain, error, _clock(now, plain.get("date")))


class Readings:
    """The limits in a response's headers (see ``limits.read_limits``), read only when somebody looks: while no limit is near,
    most answers tell nothing that matters.
    """

    __slots__ = ("_headers",)

    def __init__(self, headers: object) -> None:
        self._headers = headers

    def __iter__(self) -> Iterator[LimitReading]:
        from otel_ratelimit._core.parsing.limits import read_limits  # noqa: PLC0415

        return iter(read_limits(self._headers))


def _disguised(
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None, body: object, now: float | None
) -> Throttle | None:
    """A 200 whose body is an error: an error object, a server-sent one, or a short plain text."""
    from otel_ratelimit._core.parsing.decoding import decode  # noqa: PLC0415
    from otel_ratelimit._core.parsing.events import fields_of  # noqa: PLC0415

    decoded = decode(body)
    if isinstance(decoded, str):
        short = len(decoded) <= _MAX_PLAIN_ERROR and re.match(_PLAIN_ERROR, decoded)
        return parse_stream_event({"error": decoded}, now=now, headers=headers) if short else None
    fields = decoded if isinstance(decoded, Mapping) else fields_of(decoded)
    if fields.get("last_error"):
        return None  # a run of the Assistants API that failed: reading it again does not mend it
    return parse_stream_event(decoded, now=now, headers=headers)


def _clock(now: float | None, date: str | None) -> float:
    if isinstance(now, (int, float)) and abs(now) < _MAX_CLOCK:
        return now
    from otel_ratelimit._core.parsing.instants import parse_instant  # noqa: PLC0415

    sent = parse_instant(date) if date else None
    return sent.epoch if sent else time.time()
