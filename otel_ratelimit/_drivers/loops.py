"""Event loops that are closed while calls wait in them.

Such a call neither goes on nor ends: its task is never resumed, and what holds its place in the queue holds the task too. So
each wait is noted with its loop, and whoever waits next, is woken, or collects metrics settles those whose loop is closed.

Each loop's own thread adds and removes its calls; other threads take away only what is of a closed loop. No lock is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_ratelimit import _guard

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from otel_ratelimit._drivers.session import Session

_waiting: Final[dict[AbstractEventLoop, dict[Session, None]]] = {}


def wait_began(loop: AbstractEventLoop, session: Session) -> None:
    """A call begins to wait in its loop."""
    _waiting.setdefault(loop, {})[session] = None


def wait_ended(loop: AbstractEventLoop, session: Session) -> None:
    """It waits no longer."""
    sessions = _waiting.get(loop)
    if sessions is not None:
        sessions.pop(session, None)
        if not sessions:
            _waiting.pop(loop, None)


@_guard.contained("loops", lambda: None)
def settle_closed() -> None:
    """Give back what is held by calls that wait in closed loops, and end them for telemetry: cancelled. From any thread."""
    for loop in list(_waiting):
        if loop.is_closed():
            for session in list(_waiting.pop(loop, ())):
                session.left()
