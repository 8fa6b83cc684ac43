"""The body of a refusal, read within bounds.

The SDK closes a refused stream unread before it tries again; to learn the delay we have its body read. A server whose error
has no end must not turn that into a call without one, or into memory without end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from otel_ratelimit._drivers.openai_sdk import body_of

MAX_BYTES: Final = 1 << 20
"""As they come, so compressed perhaps. The parser looks at 64 KiB; more than this was never an error message."""

MAX_SECONDS: Final = 5.0
"""From the head to the end of the body; an error message takes one round trip."""


def bound_reading(response: Any, monotonic: Callable[[], float]) -> None:
    """Have ``read`` and ``aread`` of an unread response end after MAX_BYTES or MAX_SECONDS, with what there is by then.

    httpx and httpx2 read through ``iter_raw`` and ``aiter_raw``; a body that has been read is left alone.
    """
    if body_of(response) is not None or getattr(response, "is_stream_consumed", True):
        return
    iter_raw, aiter_raw = response.iter_raw, response.aiter_raw
    end = monotonic() + MAX_SECONDS

    def bounded(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        total = 0
        for part in iter_raw(*args, **kwargs):
            yield part
            total += len(part)
            if total > MAX_BYTES or monotonic() > end:
                response.close()
                return

    async def bounded_async(*args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        total = 0
        async for part in aiter_raw(*args, **kwargs):
            yield part
            total += len(part)
            if total > MAX_BYTES or monotonic() > end:
                await response.aclose()
                return

    response.iter_raw, response.aiter_raw = bounded, bounded_async
