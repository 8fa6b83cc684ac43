"""The trace of one disturbed call: one object, used by both drivers, closed once.

An undisturbed call never makes one. The first throttle, wait or retry does, and dates the ``rate_limited`` span back to the
call's start. Spans and counters are written by the same line of code, so that they agree one to one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextvars import Token
from typing import Any, Final, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, UpDownCounter
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanContext,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from otel_ratelimit import _guard
from otel_ratelimit._core.events import CallOutcome, GiveUpReason, RetryReason, WaitReason
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._core.waits import WaitParts, split_wait
from otel_ratelimit._telemetry import names
from otel_ratelimit._telemetry.callbacks import Callbacks, ThrottleEvent, WaitEvent, block_callbacks, tell
from otel_ratelimit._telemetry.instruments import (
    Attributes,
    Instruments,
    SubjectAttributes,
    throttle_attributes,
    tightest,
)

_log: Final = logging.getLogger("otel_ratelimit")

_NANOSECONDS: Final = 1_000_000_000

_SUPPRESSING: Final = tuple(
    {"suppress_instrumentation", getattr(otel_context, "_SUPPRESS_INSTRUMENTATION_KEY", "")} - {""}
)
"""Keys of the context: the old one, and the one that OpenTelemetry uses now."""

_OF_GENAI: Final = ("gen_ai.", "openinference.span.kind", "llm.", "traceloop.")
"""How attributes begin by which a span of the conventions, of OpenInference or of Traceloop says that it is about a model."""


class _OpenWait(NamedTuple):
    """A wait that has not ended: its span, why it began, and what was left of the delays then."""

    span: Span
    reason: WaitReason
    hint: float | None
    delay: float | None


class CallTrace:
    """The spans, points and log records of one call that met a throttle, a wait or a retry.

    Args:
        instruments: where spans and points go.
        subject: what the call is about.
        age: seconds since the call began; its span is dated back by as much.
        parent: the context that the call was made in; None for the present one.
        callbacks: those of the block that the call was made in; None for the present one.
        again: whether the call has had such a span before: one of them stands for it, where nothing else does.
    """

    __slots__ = (
        "_callbacks",
        "_foreseen",
        "_hint_ends",
        "_instruments",
        "_open_wait",
        "_retry",
        "_root",
        "_root_context",
        "_subject",
        "_throttle",
        "_token",
        "_waited",
        "finished",
        "last_throttle",
        "observed",
        "parts",
        "retries",
        "throttles",
    )

    def __init__(
        self,
        instruments: Instruments,
        subject: SubjectAttributes,
        age: float,
        parent: Context | None = None,
        *,
        again: bool = False,
        callbacks: Callbacks | None = None,
    ) -> None:
        self._instruments = instruments
        self._subject = subject
        self._root = _started(
            instruments.tracer,
            _span_name(f"{names.SPAN_CALL} {subject.subject.operation}", subject.subject.model),
            {
                "context": parent,
                "attributes": subject.part if again or _is_genai(get_current_span(parent)) else subject.span,
                "start_time": _ago(age),
            },
        )
        self._root_context: Context = set_span_in_context(self._root)
        self._open_wait: _OpenWait | None = None
        self._retry: Span | None = None
        self._token: Token[Context] | None = None
        self._callbacks = (callbacks or block_callbacks.get() or instruments.callbacks).over(instruments.callbacks)
        self._throttle: Throttle | None = None  # the last one
        self._waited = 0.0
        self._foreseen = 0.0
        self._hint_ends: float | None = None
        self.parts = WaitParts()
        self.throttles = 0
        self.retries = 0
        self.finished = False
        self.observed = False  # observe mode: what is logged says so
        self.last_throttle: SpanContext | None = None

    def throttled(self, throttle: Throttle, status: int, error_type: str, age: float, now: float) -> None:
        """A response asked to slow down; its request was sent ``age`` seconds ago. ``now`` is of the clock of ``wait_began``."""
        self.throttles += 1
        self._hint_ends = None if throttle.delay is None else now + throttle.delay
        attributes: Attributes = {
            **self._subject.part,
            names.THROTTLED: True,
            names.STATUS_CODE: status,
            names.ERROR_TYPE: error_type,
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
        _ended(span)
        self.last_throttle = span.get_span_context()
        points = throttle_attributes(self._subject, throttle.kind, throttle.source, status)
        _counted(self._instruments.throttles, 1, points, set_span_in_context(span))
        self._throttle = throttle
        if self._callbacks.on_throttle is not None:
            subject = self._subject.subject
            event = ThrottleEvent(throttle, status, self.throttles, subject.operation, subject.model, subject.address)
            tell("on_throttle", self._callbacks.on_throttle, event)

    def foresee(self, reason: WaitReason, seconds: float) -> None:
        """Observe mode: a wait of ``seconds`` that this call would have had."""
        if seconds > 0:
            self._foreseen += seconds
            _log.info("observe mode: %s would wait %.3f s (%s)", self._what(), seconds, reason)

    def wait_began(
        self,
        reason: WaitReason,
        now: float,
        planned: float | None,
        cause: SpanContext | None,
        delay_ends: float | None = None,
    ) -> bool:
        """The call waits.

        Args:
            reason: why.
            now: the present, on the caller's clock.
            planned: seconds that it means to take; None where only the SDK knows.
            cause: the throttle that made it necessary; None for none.
            delay_ends: when the delay that was decided is over, server's time and buffer or backoff; None for none.

        Returns False where it waits already: its turn has moved, and the wait goes on.
        """
        if self._open_wait is not None:
            self._tell_wait(reason, planned, cause, again=True)
            return False
        attributes: Attributes = {**self._subject.part, names.WAIT_REASON: reason}
        if planned is not None:
            attributes[names.WAIT_PLANNED] = planned
        links = [Link(cause)] if cause is not None and cause.is_valid else []
        hint = self._hint_ends - now if cause is not None and self._hint_ends is not None else None
        delay = delay_ends - now if delay_ends is not None else None
        self._open_wait = _OpenWait(self._start(names.SPAN_WAIT, attributes, links=links), reason, hint, delay)
        _counted(self._instruments.waiting, 1, self._subject.base, None)
        if planned is not None:
            _log.info("%s waits %.3f s (%s)", self._what(), planned, reason)
        self._tell_wait(reason, planned, cause)
        return True

    def _tell_wait(
        self, reason: WaitReason, planned: float | None, cause: SpanContext | None, *, again: bool = False
    ) -> None:
        if self._instruments.turns is not None:
            self._instruments.turns(self, self._subject.subject.model, planned)
        on_wait = self._callbacks.on_wait
        if on_wait is None:
            return
        subject = self._subject.subject
        throttle = None if reason == "admission" or cause is None else self._throttle
        kind: str | None = throttle.kind if throttle is not None else None
        if reason == "admission":  # the limit of which the least is left
            levels = tightest(level for level in self._instruments.levels() if level[0] is self._subject)
            kind = min(((left / limit, of) for _, of, limit, left in levels if limit), default=(0.0, None))[1]
        of_call = (subject.operation, subject.model, subject.address)
        tell("on_wait", on_wait, WaitEvent(planned, reason, kind, *of_call, throttle, again))

    def wait_ended(self, seconds: float) -> None:
        """The wait is over; it took ``seconds``. Nothing happens where none was open."""
        if self._open_wait is None:
            return
        span, reason, hint, delay = self._open_wait
        self._open_wait = None
        self._waited += seconds
        parts = split_wait(seconds, reason, hint, delay)
        self.parts = self.parts.plus(parts)
        _described(span, dict(zip(_PARTS, parts, strict=True)))
        if self._instruments.turns is not None:
            self._instruments.turns(self, self._subject.subject.model, None)
        _ended(span)
        base, context = self._subject.base, set_span_in_context(span)
        _counted(self._instruments.waiting, -1, base, None)
        _recorded(self._instruments.wait_duration, seconds, {**base, names.WAIT_REASON: reason}, context)
        for part, its_seconds in zip(parts._fields, parts, strict=True):
            if its_seconds > 0:
                _counted(self._instruments.wait_time, its_seconds, {**base, names.WAIT_PART: part}, context)

    def retry_began(self, reason: RetryReason, resend_count: int) -> None:
        """The request goes out again; until ``retry_ended`` its span is the current one, so that HTTP spans nest in it."""
        self.retry_ended(None, None)
        self.retries += 1
        self._retry = self._start(
            names.SPAN_RETRY,
            {**self._subject.part, names.RESEND_COUNT: resend_count, names.RETRY_REASON: reason},
        )
        context = set_span_in_context(self._retry)
        _counted(self._instruments.retries, 1, {**self._subject.base, names.RETRY_REASON: reason}, context)
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
        _ended(self._retry)
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
        if self._foreseen:
            self._root.set_attribute(names.WAIT_PLANNED, self._foreseen)
        if reason is not None:
            self._root.set_attribute(names.GIVE_UP_REASON, reason)
            attributes = {**self._subject.base, names.GIVE_UP_REASON: reason}
            _counted(self._instruments.give_ups, 1, attributes, self._root_context)
            what, times = self._what(), f"{self.throttles} throttle{'' if self.throttles == 1 else 's'}"
            if self.observed:
                _log.warning(
                    "observe mode: the SDK gave %s up after %s (%s); it would have waited %.3f s in all",
                    what,
                    times,
                    reason,
                    self._foreseen,
                )
            else:
                # With max_retries=0 it is the way of the program, which has a plan of its own: no warning for each refusal.
                level = logging.INFO if reason == "retries_disabled" else logging.WARNING
                _log.log(level, "%s gave up after %s and %.3f s of waiting (%s)", what, times, self._waited, reason)
        if error_type is not None:
            self._root.set_attribute(names.ERROR_TYPE, error_type)
            self._root.set_status(Status(StatusCode.ERROR))
        _ended(self._root)
        return self._root_context

    def _what(self) -> str:
        """The call, as a log record names it."""
        return _span_name(self._subject.subject.operation, self._subject.subject.model)

    def _start(self, name: str, attributes: Attributes, *, age: float = 0.0, links: Sequence[Link] = ()) -> Span:
        name = _span_name(name, self._subject.subject.model)
        what = {"context": self._root_context, "attributes": attributes, "links": links, "start_time": _ago(age)}
        return _started(self._instruments.tracer, name, what)


# A processor, an exporter or a meter of the program may raise. Each such fault is contained by itself, so that it costs one
# span or point and neither the rest of them nor the wait.


@_guard.contained("span", lambda *_: INVALID_SPAN)
def _started(tracer: Tracer, name: str, what: dict[str, Any]) -> Span:
    token = _lift_suppression()
    try:
        return tracer.start_span(name, **what)
    finally:
        if token is not None:
            otel_context.detach(token)


@_guard.contained("span", lambda *_: None)
def _described(span: Span, attributes: Attributes) -> None:
    span.set_attributes(attributes)


@_guard.contained("span", lambda _span: None)
def _ended(span: Span) -> None:
    token = _lift_suppression()
    try:
        span.end()
    finally:
        if token is not None:
            otel_context.detach(token)


def _lift_suppression() -> Token[Context] | None:
    """Take the mark that suppresses other instrumentations off the present context for a moment.

    Logfire's ``instrument_openai`` sets it around each call, so that no second instrumentation records the same call; its tracer
    then starts no span, and its processors pass none on. A throttle and a wait are no second record: they would only be lost.

    Returns what restores the context, None where nothing was suppressed.
    """
    context = None
    for key in _SUPPRESSING:
        if otel_context.get_value(key, context):
            context = otel_context.set_value(key, False, context)
    return None if context is None else otel_context.attach(context)


@_guard.contained("metric", lambda *_: None)
def _counted(counter: Counter | UpDownCounter, amount: float, attributes: Attributes, context: Context | None) -> None:
    counter.add(amount, attributes, context)


@_guard.contained("metric", lambda *_: None)
def _recorded(histogram: Histogram, amount: float, attributes: Attributes, context: Context | None) -> None:
    histogram.record(amount, attributes, context)


_PARTS: Final = (names.WAIT_HINT, names.WAIT_BUFFER, names.WAIT_QUEUED, names.WAIT_BACKOFF)
"""In the order of ``WaitParts``."""


@_guard.contained("span", lambda _parent: False)
def _is_genai(parent: Span) -> bool:
    """Whether the caller's span is about a model, so that ours would be counted beside it. Only what the SDK's own spans show."""
    attributes = getattr(parent, "attributes", None)
    return isinstance(attributes, Mapping) and any(str(name).startswith(_OF_GENAI) for name in attributes)


def _span_name(name: str, model: str | None) -> str:
    return f"{name} {model}" if model else name


def _ago(seconds: float) -> int:
    """Nanoseconds since the epoch, ``seconds`` before now."""
    return time.time_ns() - int(seconds * _NANOSECONDS)
