"""What holds for a block of code rather than for the program: context variables of a caller's block, and of a call."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from otel_ratelimit._core.policy import Policy, Priority

if TYPE_CHECKING:
    from otel_ratelimit._drivers.session import Session

block_policy: Final[ContextVar[Policy | None]] = ContextVar("otel_ratelimit_policy", default=None)
"""The policy of the enclosing ``otel_ratelimit.use(...)`` block."""

block_priority: Final[ContextVar[Priority | None]] = ContextVar("otel_ratelimit_priority", default=None)
"""The priority of the enclosing ``otel_ratelimit.priority(...)`` block."""

current: Final[ContextVar[Session | None]] = ContextVar("otel_ratelimit_session", default=None)
"""The call that the SDK is working on in this context; how the hooks below ``request`` find it."""


def restore(session: Session, outer: Session | None) -> None:
    """Undo ``current.set(session)``, also in another context: a coroutine that is dropped ends wherever it is collected, in the
    middle of another call perhaps, which is left alone.
    """
    present = current.get()
    if present is None or present is session or present.ended:
        current.set(outer)
