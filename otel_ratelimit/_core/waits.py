"""Where the time of one wait went: what the server asked for, what was added to it, the queue, a backoff.

Owns the arithmetic alone. The parts are taken in the order in which they hold a call back: first the server's time, then the
buffer behind it, then the queue; so they add up to the wait, and what the queue took is never counted as the server's wish.
"""

from __future__ import annotations

from typing import NamedTuple

from otel_ratelimit._core.events import WaitReason


class WaitParts(NamedTuple):
    """Seconds.

    Attributes:
        hint: of the delay that the server asked for.
        buffer: of what is added to that: buffer, jitter, and the floor under repeated delays.
        queued: for the call's turn, and for the processor after that.
        backoff: of a delay that the server did not name: ours, or that of the SDK's own loop.
    """

    hint: float = 0.0
    buffer: float = 0.0
    queued: float = 0.0
    backoff: float = 0.0

    def plus(self, other: WaitParts) -> WaitParts:
        """Part by part."""
        return WaitParts(self[0] + other[0], self[1] + other[1], self[2] + other[2], self[3] + other[3])


def split_wait(seconds: float, reason: WaitReason, hint: float | None, delay: float | None) -> WaitParts:
    """The parts of a wait that took ``seconds``.

    Args:
        seconds: how long it took.
        reason: why it began.
        hint: what was left of the server's delay when it began; None where it named none.
        delay: what was left then of the delay that was decided, buffer included; None where there was none (a wait for the
            turn alone), or where only the SDK knows it.
    """
    seconds = max(seconds, 0.0)
    if reason == "admission":
        return WaitParts(queued=seconds)
    if delay is None:
        # The SDK's own sleep. It keeps to a server's delay up to a bound of its own; beyond that it sleeps what it likes.
        asked = hint if hint is not None and 0.0 <= hint <= seconds else 0.0
        return WaitParts(hint=asked, backoff=seconds - asked)
    decided = min(max(delay, 0.0), seconds)
    if hint is None:
        return WaitParts(backoff=decided, queued=seconds - decided)
    asked = min(max(hint, 0.0), decided)
    return WaitParts(hint=asked, buffer=decided - asked, queued=seconds - decided)
