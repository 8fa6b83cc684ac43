"""What a program is told while it happens: ``on_wait`` and ``on_throttle``, for a log line or a progress bar of its own.

``on_wait`` is called at the beginning of each ``wait`` span, and again where the call's turn moves meanwhile; ``on_throttle``
once for each ``throttle`` span; both in the thread or task of the call. An undisturbed call never comes here. What a callback
raises is logged once, by type only, and the call goes on.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from otel_ratelimit._core.events import WaitReason
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._core.words import duration

_log: Final = logging.getLogger("otel_ratelimit")


class WaitEvent(NamedTuple):
    """A call begins to wait, or its turn has moved. ``str()`` of it is a phrase: ``waiting 12 s for gpt-4o's tokens``.

    Attributes:
        seconds: how long it will wait, as far as is known now (a turn may come sooner, or later); None where only the SDK
            knows, which is the case for its own retries after a server error.
        reason: ``throttled`` (the server named a delay), ``backoff`` (it named none, or another failure), ``admission``
            (the call's turn has not come).
        kind: which limit it waits for: ``tokens``, ``requests``, …; None where that is not known.
        operation: ``chat``, ``embeddings``, …
        model: None where the request names none.
        server: the host.
        throttle: what the server said to this call, where it was throttled.
        again: True where the call waits already, and only its turn has moved; those with False are as many as ``wait`` spans.
    """

    seconds: float | None
    reason: WaitReason
    kind: str | None
    operation: str
    model: str | None
    server: str
    throttle: Throttle | None
    again: bool = False

    def __str__(self) -> str:
        long = "" if self.seconds is None else f" {duration(self.seconds)}"
        if self.reason == "backoff" and self.throttle is None:
            return f"waiting{long} to try {self.model or self.server} again"
        what = (self.kind or "unknown").replace("_", " ")
        if what in ("tokens", "requests", "input tokens", "output tokens", "images"):
            return f"waiting{long} for {self.model or self.server}'s {what}"
        return f"waiting{long} for {self.model or self.server}"


class ThrottleEvent(NamedTuple):
    """A response asked to slow down. ``str()`` of it is a phrase for a person: ``gpt-4o: 429, tokens per minute``.

    Attributes:
        throttle: what it said.
        status: the HTTP status; 200 for a throttle inside of a stream.
        throttles: how often this call has been throttled by now, 1 for the first time.
        operation: ``chat``, ``embeddings``, …
        model: None where the request names none.
        server: the host.
    """

    throttle: Throttle
    status: int
    throttles: int
    operation: str
    model: str | None
    server: str

    def __str__(self) -> str:
        what = self.throttle.kind.replace("_", " ")
        window = f" per {self.throttle.window}" if self.throttle.window else ""
        return f"{self.model or self.server}: {self.status}, {what}{window}"


OnWait = Callable[[WaitEvent], object]
OnThrottle = Callable[[ThrottleEvent], object]


class Callbacks(NamedTuple):
    """Of the program, or of a block."""

    on_wait: OnWait | None = None
    on_throttle: OnThrottle | None = None

    def over(self, outer: Callbacks | None) -> Callbacks:
        """These, and where one is None that of the enclosing block or program."""
        if outer is None:
            return self
        return Callbacks(self.on_wait or outer.on_wait, self.on_throttle or outer.on_throttle)


NOTHING: Final = Callbacks()

block_callbacks: Final[ContextVar[Callbacks | None]] = ContextVar("otel_ratelimit_callbacks", default=None)
"""Those of the enclosing ``otel_ratelimit.use(...)`` block."""


def check(name: str, callback: Any) -> None:
    """Raise TypeError unless ``callback`` is None or a plain callable: nothing here could await it."""
    if callback is None:
        return
    if not callable(callback):
        raise TypeError(f"{name} must be a function or None; got {type(callback).__name__}")
    if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(type(callback).__call__):
        raise TypeError(f"{name} must be a plain function; got a coroutine function, which would never be awaited")


def tell(name: str, callback: Callable[[Any], object], event: WaitEvent | ThrottleEvent) -> None:
    """Call it; what it raises stays here. A fault of the program's own, so our tests do not raise it either."""
    try:
        callback(event)
    except Exception as fault:
        with _reported_lock:
            key = (name, type(fault).__name__)
            if key in _reported:
                return
            _reported.add(key)
        _log.error("%s raised %s; the call goes on. This is logged once.", *key)


_reported: Final[set[tuple[str, str]]] = set()
_reported_lock: Final = threading.Lock()
