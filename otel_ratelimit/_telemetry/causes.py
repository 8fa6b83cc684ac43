"""Span contexts as text: how a wait in one process links to a throttle that another one met."""

from __future__ import annotations

import re
from typing import Final

from opentelemetry.trace import SpanContext, TraceFlags

_CAUSE: Final = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")


def encode_cause(cause: object) -> str:
    """A span context as text, to be linked to from another process: trace, span, flags (W3C Trace Context, without version)."""
    if not isinstance(cause, SpanContext) or not cause.is_valid:
        return ""
    return f"{cause.trace_id:032x}-{cause.span_id:016x}-{int(cause.trace_flags):02x}"


def decode_cause(text: str) -> SpanContext | None:
    """The other way round; None if it is none."""
    if _CAUSE.match(text) is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in text.split("-"))
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return context if context.is_valid else None
