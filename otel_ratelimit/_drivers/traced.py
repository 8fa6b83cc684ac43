"""What one call tells telemetry: its attempts, and its end. The trace is made at the first disturbance.

Owns the moments that durations are counted from. Decides nothing.
"""

from __future__ import annotations

from otel_ratelimit import _guard
from otel_ratelimit._core.events import CallOutcome, GiveUpReason
from otel_ratelimit._drivers.runtime import Runtime
from otel_ratelimit._telemetry.instruments import SubjectAttributes
from otel_ratelimit._telemetry.trace import CallTrace


class TracedCall:
    """One call, as telemetry sees it.

    Attributes:
        runtime, subject: where it belongs, and what it is called.
        began: when it began.
        ended: whether telemetry has its end.
        listens: whether there is more to do with an answer than to keep it.
    """

    runtime: Runtime
    subject: SubjectAttributes
    began: float
    ended = False
    listens = False
    _trace: CallTrace | None
    _attempt_began: float
    _wait_began = 0.0

    @_guard.contained("telemetry", lambda _self, _now, _status, _error_type: None)
    def _attempt_ended(self, now: float, status: int | None, error_type: str | None) -> None:
        attributes = self.subject.attempt(status, error_type)
        self.runtime.instruments.attempt_duration.record(now - self._attempt_began, attributes)
        if self._trace is not None:
            self._trace.retry_ended(status, error_type)

    def _end(
        self, now: float, outcome: CallOutcome | None, reason: GiveUpReason | None, error_type: str | None
    ) -> None:
        self.ended = True
        self._end_telemetry(now, outcome, reason, error_type)

    @_guard.contained("telemetry", lambda _self, _now, _outcome, _reason, _error_type: None)
    def _end_telemetry(
        self, now: float, outcome: CallOutcome | None, reason: GiveUpReason | None, error_type: str | None
    ) -> None:
        context = None
        if reason is not None:
            self._traced()
        if self._trace is not None and outcome is not None:
            self._trace.wait_ended(now - self._wait_began)
            context = self._trace.finish(outcome, reason, error_type)
        self.runtime.instruments.call_duration.record(now - self.began, self.subject.call(outcome), context)

    def _traced(self) -> CallTrace:
        if self._trace is None:
            age = self.runtime.clock.monotonic() - self.began
            self._trace = CallTrace(self.runtime.instruments, self.subject, age)
            self.listens = True
        return self._trace
