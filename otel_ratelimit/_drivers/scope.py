"""What holds for a block of code rather than for the program: context variables, read when a call begins."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from otel_ratelimit._core.policy import Policy, Priority

block_policy: Final[ContextVar[Policy | None]] = ContextVar("otel_ratelimit_policy", default=None)
"""The policy of the enclosing ``otel_ratelimit.use(...)`` block."""

block_priority: Final[ContextVar[Priority | None]] = ContextVar("otel_ratelimit_priority", default=None)
"""The priority of the enclosing ``otel_ratelimit.priority(...)`` block."""
