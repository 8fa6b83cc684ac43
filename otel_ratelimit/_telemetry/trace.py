"""The trace of one disturbed call: one object, used by both drivers, closed once.

An undisturbed call never makes one. The first throttle, wait or retry does, and dates the ``rate_limited`` span back to the
call's start. Spans and counters are written by the same line of code, so that they agree one to one.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from contextvars import Token
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

from otel_ratelimit._core.events import CallOutcome, GiveUpReason, RetryReason, WaitReason
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._telemetry import names
from otel_ratelimit._telemetry.instruments import Attributes, Instruments, SubjectAttributes, throttle_attributes

_log: Final = logging.getLogger("otel_ratelimit")

_NANOSECONDS: Final = 1_000_000_000
_CAUSE: Final = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")


class CallTrace:
    """The spans, points and log records of one call that met a throttle, a wait or a retry.

    Args:
        instruments: where spans and points go.
        subject: what the call is about.
        age: seconds since the call began; its span is dated back by as much.
    """

    __slots__ = (
        "_instruments",
        "_open_wait",
        "_retry",
        "_root",
        "_root_context",
        "_subject",
        "_token",
        "_waited",
        "finished",
        "last_throttle",
        "retries",
        "throttles",
    )

    def __init__(self, instruments: Instruments, subject: SubjectAttributes, age: float) -> None:
        self._instruments = instruments
        self._subject = subject
        self._root = instruments.tracer.start_span(
            _span_name(names.SPAN_CALL, subject.subject.operation, subject.subject.model),
            attributes=subject.span,
            start_time=_ago(age),
        )
        self._root_context: Context = set_span_in_context(self._root)
        self._open_wait: tuple[Span, Attributes] | None = None
        self._retry: Span | None = None
        self._token: Token[Context] | None = None
        self._waited = 0.0
        self.throttles = 0
        self.retries = 0
        self.finished = False
        self.last_throttle: SpanContext | None = None

    def throttled(self, throttle: Throttle, status: int, age: float) -> None:
        """A response asked to slow down; its request was sent ``age`` seconds ago."""
        self.throttles += 1
        attributes: Attributes = {
            **self._subject.span,
            names.THROTTLED: True,
            names.STATUS_CODE: status,
            names.ERROR_TYPE: str(status),
            names.LIMIT_KIND: throttle.kind,
        }
        for name, value in (
            (names.LIMIT_WINDOW, throttle.window),
            (names.LIMIT_VALUE, throttle.limit),
            (names.LIMIT_USED, throttle.used),
            (names.LIMIT_REQUESTED, throttle.requested),
            (names.HINT_DELAY, throttle.delay),
            (names.HINT_SOURCE, throttle.source),
        ):
            if value is not None:
                attributes[name] = value
        span = self._start(names.SPAN_THROTTLE, attributes, age=age)
        span.set_status(Status(StatusCode.ERROR))
        span.end()
        self.last_throttle = span.get_span_context()
        points = throttle_attributes(self._subject, throttle.kind, throttle.source, status)
        self._instruments.throttles.add(1, points, set_span_in_context(span))

    def wait_began(self, reason: WaitReason, planned: float | None, cause: SpanContext | None) -> bool:
        """The call waits for ``planned`` seconds (None: only the SDK knows) because of the throttle ``cause``.

        Returns False where it waits already: its turn has moved, and the wait goes on.
        """
        if self._open_wait is not None:
            return False
        attributes: Attributes = {**self._subject.span, names.WAIT_REASON: reason}
        if planned is not None:
            attributes[names.WAIT_PLANNED] = planned
        links = [Link(cause)] if cause is not None and cause.is_valid else []
        self._open_wait = (self._start(names.SPAN_WAIT, attributes, links=links), {names.WAIT_REASON: reason})
        self._instruments.waiting.add(1, self._subject.base)
        if planned is not None:
            _log.info(
                "%s %s waits %.3f s (%s)", self._subject.subject.operation, self._subject.subject.model, planned, reason
            )
        return True

    def wait_ended(self, seconds: float) -> None:
        """The wait is over; it took ``seconds``. Nothing happens where none was open."""
        if self._open_wait is None:
            return
        span, attributes = self._open_wait
        self._open_wait = None
        self._waited += seconds
        span.end()
        self._instruments.waiting.add(-1, self._subject.base)
        self._instruments.wait_duration.record(seconds, {**self._subject.base, **attributes}, set_span_in_context(span))

    def retry_began(self, reason: RetryReason, resend_count: int) -> None:
        """The request goes out again; until ``retry_ended`` its span is the current one, so that HTTP spans nest in it."""
        self.retry_ended(None, None)
        self.retries += 1
        self._retry = self._start(
            names.SPAN_RETRY,
            {**self._subject.span, names.RESEND_COUNT: resend_count, names.RETRY_REASON: reason},
        )
        context = set_span_in_context(self._retry)
        self._instruments.retries.add(1, {**self._subject.base, names.RETRY_REASON: reason}, context)
        self._token = otel_context.attach(context)

    def retry_ended(self, status: int | None, error_type: str | None) -> None:
        """The resend was answered. Nothing happens where none was under way."""
        if self._retry is None:
            return
        if self._token is not None:
            otel_context.detach(self._token)
            self._token = None
        if status is not None:
            self._retry.set_attribute(names.STATUS_CODE, status)
        if error_type is not None:
            self._retry.set_attribute(names.ERROR_TYPE, error_type)
            self._retry.set_status(Status(StatusCode.ERROR))
        self._retry.end()
        self._retry = None

    def finish(self, outcome: CallOutcome, reason: GiveUpReason | None, error_type: str | None) -> Context:
        """The call ended. Later calls of this are ignored. Returns the context of the call's span, for exemplars."""
        if self.finished:
            return self._root_context
        self.finished = True
        self.wait_ended(0.0)
        self.retry_ended(None, None)
        self._root.set_attributes(
            {
                names.THROTTLED: self.throttles > 0,
                names.THROTTLE_COUNT: self.throttles,
                names.WAIT_TOTAL: self._waited,
                names.OUTCOME: outcome,
            }
        )
        if reason is not None:
            self._root.set_attribute(names.GIVE_UP_REASON, reason)
            attributes = {**self._subject.base, names.GIVE_UP_REASON: reason}
            self._instruments.give_ups.add(1, attributes, self._root_context)
            _log.warning(
                "%s %s gave up after %d throttles and %.3f s of waiting (%s)",
                self._subject.subject.operation,
                self._subject.subject.model,
                self.throttles,
                self._waited,
                reason,
            )
        if error_type is not None:
            self._root.set_attribute(names.ERROR_TYPE, error_type)
            self._root.set_status(Status(StatusCode.ERROR))
        self._root.end()
        return self._root_context

    def _start(self, name: str, attributes: Attributes, *, age: float = 0.0, links: Sequence[Link] = ()) -> Span:
        return self._instruments.tracer.start_span(
            _span_name(name, self._subject.subject.model),
            context=self._root_context,
            attributes=attributes,
            links=links,
            start_time=_ago(age),
        )


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


def _span_name(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)


def _ago(seconds: float) -> int:
    """Nanoseconds since the epoch, ``seconds`` before now."""
    return time.time_ns() - int(seconds * _NANOSECONDS)
