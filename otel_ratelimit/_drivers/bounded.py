"""The body of a refusal, read within bounds.

The SDK closes a refused stream unread before it tries again; to learn the delay we have its body read. A server whose error
has no end must not turn that into a call without one, or into memory without end. So whatever ends the reading (the end of
the body, a bound, a broken connection, an encoding that cannot be decoded), what has come by then is the body, and the SDK
makes its exception of that.

Owns the bounds and the way of reading. Knows httpx and httpx2 responses; decides nothing.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

import anyio

from otel_ratelimit._drivers.openai_sdk import body_of

MAX_BYTES: Final = 1 << 20
"""As they come and as they are decoded, all together. The parser looks at 64 KiB; more than this was never an error message."""

MAX_SECONDS: Final = 5.0
"""From the head to the end of the body; an error message takes one round trip."""

MOST_BUFFERED: Final = 1000
"""Parts that may have come already when a reading is abandoned."""

MAX_ENCODINGS: Final = 5
"""One within the other; httpx2 takes no more either. A body of more is not read."""

_SLICES: Final = {"GZipDecoder": 256, "DeflateDecoder": 256}
"""Bytes that are handed to a decoder at a time where it returns all that they become (httpx; those of httpx2 stop at 1 MiB
by themselves). Deflate makes 1,032 bytes of one at most, and needs its first two together. Of the others a byte at a time: one
ends at most one block, of 16 MiB (Brotli, RFC 7932, section 9.2) or 128 KiB (Zstandard, RFC 8878, section 3.1.1.2.4)."""


def bound_reading(response: Any, monotonic: Callable[[], float]) -> None:
    """Have ``read`` and ``aread`` of an unread response end after MAX_BYTES or MAX_SECONDS, with what there is by then.

    httpx and httpx2 read through ``iter_bytes`` and ``aiter_bytes``; a body that has been read is left alone.
    """
    if body_of(response) is not None or getattr(response, "is_stream_consumed", True):
        return
    reading = _Reading(response, monotonic)
    response.iter_bytes, response.aiter_bytes = reading.parts, reading.parts_later


class _Reading:
    """Of one response."""

    def __init__(self, response: Any, monotonic: Callable[[], float]) -> None:
        self._response = response
        self._monotonic = monotonic
        self._end = monotonic() + MAX_SECONDS
        self._bytes = 0

    def parts(self, *_: Any, **__: Any) -> Iterator[bytes]:
        """In place of ``iter_bytes``."""
        response = self._response
        try:
            decoders = self._begin()
            with _hurried(response, self._left):
                for raw in response.iter_raw():
                    yield from self._decoded(decoders, self._counted(raw))
                    if self._over():
                        return
            yield from self._rest(decoders)
        except Exception:  # noqa: S110 - what there is by then is the body
            pass
        finally:
            with contextlib.suppress(Exception):
                response.close()

    async def parts_later(self, *_: Any, **__: Any) -> AsyncIterator[bytes]:
        """In place of ``aiter_bytes``."""
        response = self._response
        raw_parts: Any = None
        try:
            decoders = self._begin()
            raw_parts = response.aiter_raw()
            while not self._over():
                raw = None
                with anyio.move_on_after(self._left()):  # ended before anything is yielded, as cancel scopes must be
                    raw = await anext(raw_parts, b"")
                if raw is None:
                    return
                if not raw:
                    break
                for part in self._decoded(decoders, self._counted(raw)):
                    yield part
            else:
                return
            for part in self._rest(decoders):
                yield part
        except Exception:  # noqa: S110 - the same
            pass
        finally:
            with contextlib.suppress(Exception):
                if raw_parts is not None and self._over():
                    await _abandon(raw_parts)
                await response.aclose()

    def _begin(self) -> Sequence[Any]:
        """Give the response its own methods back, and take its decoders, the outermost first."""
        for name in ("iter_bytes", "aiter_bytes"):
            self._response.__dict__.pop(name, None)
        decoder = self._response._get_content_decoder()
        if type(decoder).__name__ == "IdentityDecoder":
            return ()
        decoders = getattr(decoder, "children", (decoder,))
        if len(decoders) > MAX_ENCODINGS:
            raise ValueError("too many encodings")
        return decoders

    def _left(self) -> float:
        return self._end - self._monotonic()

    def _over(self) -> bool:
        return self._bytes >= MAX_BYTES or self._left() <= 0.0

    def _counted(self, part: bytes) -> bytes:
        """As much of it as the bound leaves."""
        room = max(MAX_BYTES - self._bytes, 0)
        self._bytes += len(part)
        return part[:room]

    def _decoded(self, decoders: Sequence[Any], data: bytes) -> Iterator[bytes]:
        """What the decoders make of it, one after the other, as far as the bounds go."""
        if not decoders:
            yield data
            return
        for part in _steps(decoders[0], data):
            yield from self._decoded(decoders[1:], self._counted(part))
            if self._over():
                return

    def _rest(self, decoders: Sequence[Any]) -> Iterator[bytes]:
        """What decoders have kept to themselves."""
        for index, decoder in enumerate(decoders):
            rest = decoder.flush()
            for part in (rest,) if isinstance(rest, bytes) else rest:
                yield from self._decoded(decoders[index + 1 :], self._counted(part))


async def _abandon(raw_parts: AsyncIterator[bytes]) -> None:
    """End a reading in its middle, from the inside: closed from the outside, the HTTP client leaves the generators within to the
    garbage collector, of which trio warns.
    """
    for _ in range(MOST_BUFFERED):
        raw = None
        with anyio.move_on_after(0.0):
            raw = await anext(raw_parts, b"")
        if not raw:
            return


def _steps(decoder: Any, data: bytes) -> Iterator[bytes]:
    """What a decoder makes of it, in steps of bounded size."""
    if inspect.isgeneratorfunction(decoder.decode):
        yield from decoder.decode(data)
        return
    size = _SLICES.get(type(decoder).__name__, 1)
    for start in range(0, len(data), size):
        yield decoder.decode(data[start : start + size])


@contextlib.contextmanager
def _hurried(response: Any, left: Callable[[], float]) -> Iterator[None]:
    """Let no read from the network last longer than what is ``left``, in seconds.

    By the connection's own ``read``, since bytes may come for ever without one of the body among them. Only of this thread:
    when the body ends, the connection may be another one's already. Not over HTTP/2, where a read that fails ends the other
    calls of the connection with it: there the time is looked at whenever a part of the body has come.
    """
    stream = response.extensions.get("network_stream")
    if stream is None or response.http_version == "HTTP/2":
        yield
        return
    read, ours = stream.read, threading.get_ident()

    def hurried(max_bytes: int, timeout: float | None = None) -> Any:
        if threading.get_ident() != ours:
            return read(max_bytes, timeout)
        seconds = left()
        if seconds <= 0.0:
            raise TimeoutError
        return read(max_bytes, seconds if timeout is None else min(timeout, seconds))

    with contextlib.suppress(AttributeError):  # a stream of another kind, which takes no attributes
        stream.read = hurried
    try:
        yield
    finally:
        if getattr(stream, "__dict__", {}).get("read") is hurried:
            del stream.read
