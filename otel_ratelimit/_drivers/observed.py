"""Observe mode: a call that is left to the SDK alone, and watched. What we would have done is worked out and shown, not done.

The SDK's own loop keeps all its retries, throttles too. Each of its attempts is counted in the buckets as one that went
whatever they said, so that they know the limit as well as in the other mode.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from otel_ratelimit import _guard
from otel_ratelimit._core import call
from otel_ratelimit._core.events import Command, Event, GiveUp, Send, Verdict
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._drivers import openai_sdk
from otel_ratelimit._drivers.notes import observed_note
from otel_ratelimit._drivers.openai_sdk import Failure
from otel_ratelimit._drivers.session import Session, Step
from otel_ratelimit._drivers.streams import StreamSession
from otel_ratelimit._telemetry.trace import CallTrace

_SEND = Send(None)


class ObservedSession(Session):
    """One call of ``request`` that nothing is done about."""

    _throttles = 0
    _last: Throttle | None = None
    _foreseen = 0.0  # seconds, after the last

    @_guard.contained("start", lambda _self: _SEND)
    def start(self) -> Step:
        """Send, at once."""
        self._watch(self.began)
        return _SEND

    @_guard.contained("backoff", lambda _self, _options: None)
    def backoff_ended(self, options: Any) -> None:
        """The SDK's own loop sends again."""
        self._watch(self.runtime.clock.monotonic())
        super().backoff_ended(options)

    @_guard.contained("should_retry", lambda _self, _response: False)
    def takes_over(self, response: Any) -> bool:
        """Nothing; but a throttle that the SDK's loop is about to deal with is noted."""
        failure = openai_sdk.failure_of_response(response)
        throttle = failure.throttle()
        if throttle is not None:
            self._refused(throttle, failure, self.runtime.clock.monotonic())
        return False

    def _throttled(self, throttle: Throttle, failure: Failure, now: float) -> None:
        self._throttles += 1
        foreseen = call.foreseen_delay(throttle, self.policy, self._throttles, self.runtime.clock.random())
        self._last, self._foreseen = throttle, foreseen
        self._traced().foresee("throttled" if throttle.delay is not None else "backoff", foreseen)
        super()._throttled(throttle, failure, now)

    @_guard.contained("verdict", lambda _self, _verdict, _error: None)
    def _conclude(self, verdict: Verdict, error: Exception | None) -> None:
        """The same, with a note that says what would have been."""
        super()._conclude(verdict, None)
        if error is not None and isinstance(verdict, GiveUp):
            timeout = openai_sdk.timeout_of(self.client, self.options)
            words = observed_note(
                self._last,
                self._resends + 1,
                allowed=self.max_retries > 0 or self.policy.when_retries_disabled == "wait",
                foreseen=self._foreseen,
                budget=self.policy.budget(timeout, self.max_retries).longest,
            )
            openai_sdk.add_note(error, words)

    def _traced(self) -> CallTrace:
        trace = super()._traced()
        trace.observed = True
        return trace

    def _watch(self, now: float) -> None:
        self._reserve(call.RESERVE_NOW, now)
        if self.place.held > 0:
            self._traced().foresee("admission", self.place.held)

    def _made_late(self, _event: Event) -> Generator[Command, Any, Verdict]:
        core = self._core = call.observe()
        core.send(None)
        return core


class ObservedStreamSession(ObservedSession, StreamSession):
    """The same of a call that asked for a stream."""
