"""The state of one call while the SDK is at work on it: what the two pumps and the hooks share.

Carries the events of the SDK to the core and to the trace, and the core's commands back. No I/O, no waiting, and no
decision about rate limits. Whatever can fail here is contained: the call then goes on as the SDK alone would.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final

from otel_ratelimit import _guard
from otel_ratelimit._core import call
from otel_ratelimit._core.cost import estimate
from otel_ratelimit._core.events import (
    Admitted,
    BackOff,
    CallOutcome,
    Command,
    Deliver,
    Event,
    GiveUp,
    NotBefore,
    Outcome,
    Reserve,
    Send,
    Sleep,
    Verdict,
    Woken,
)
from otel_ratelimit._core.parsing import Readings
from otel_ratelimit._core.policy import Policy
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._drivers import errors, openai_sdk
from otel_ratelimit._drivers.bounded import bound_reading
from otel_ratelimit._drivers.disguised import refusal_in
from otel_ratelimit._drivers.notes import note
from otel_ratelimit._drivers.openai_sdk import Failure, RefusedAnswer
from otel_ratelimit._drivers.replay import NOTHING_TO_REWIND, Replay
from otel_ratelimit._drivers.runtime import Runtime
from otel_ratelimit._drivers.scope import block_priority
from otel_ratelimit._drivers.traced import TracedCall
from otel_ratelimit._stores.memory import Place

Step = Sleep | Send | BackOff | Deliver | GiveUp

_SEND: Final = Send(None)
_DELIVER: Final = Deliver()
_ADMITTED: Final = Admitted()


class Session(TracedCall):
    """One call of ``request``."""

    # What an undisturbed call never touches stays here, on the class; the first disturbance makes it the call's own. (What it
    # does look at is set by ``__init__``: the interpreter is slower to find it on the class.)
    _core: Generator[Command, Any, Verdict] | None = None
    response: Any = None
    _failure: Failure | None = None
    _observed: object = None
    _resends = 0  # by us, and by the SDK's own loop
    _sdk_retries = 0
    _numbered = False  # whether the present attempt carries a number of ours
    _backing_off = False
    _bypass = False
    _degraded = False
    _sleep_began = 0.0
    _delay_ends: float | None = None  # the delay that was decided, not the queue's answer
    ours = True  # code of ours is at work on it now: neither the SDK nor a wait
    released = False  # nothing is left to give back: ``left`` need not be called

    def __init__(self, runtime: Runtime, policy: Policy, client: Any, options: Any) -> None:
        self.policy = policy
        self.client = client
        self.options = options
        known = runtime.known(client, options)
        self.runtime = runtime
        self.subject = known.subject
        self._trace = None
        self.place = place = Place()
        simple = options.files is None and getattr(options, "content", None) is None
        self._replay = NOTHING_TO_REWIND if simple else Replay(options)
        self._cost = cost = estimate(options.url, options.json_data)
        self.began = self._attempt_began = now = runtime.clock.monotonic()
        # Last of all, so that a fault of ours cannot leave a reservation behind.
        paced = policy.pacing and policy.mode == "wait"
        fast = place.open(runtime.store, known.line, paced, cost, block_priority.get() or policy.priority, now)
        self.at_once = _SEND if fast else None  # the first step, where it is known already; else `start` tells

    @property
    def max_retries(self) -> int:
        """How often the SDK would send again; 0 where the caller wants no retries."""
        return int(self.options.get_max_retries(self.client.max_retries))

    @property
    def resends_throttles(self) -> bool:
        """Whether a throttle may be waited for at all."""
        return self.max_retries > 0 or self.policy.when_retries_disabled == "wait"

    # --- what the pumps call --------------------------------------------------------------------------------------

    @_guard.contained("start", lambda _self: _SEND)
    def start(self) -> Step:
        """The first step."""
        if self.policy.when_retries_disabled == "send" and self.max_retries == 0:
            self.place.wait_for_nobody()
        return (
            _SEND if type(answer := self._reserve(call.RESERVE_NOW, self.began)) is Admitted else self._advance(answer)
        )

    @_guard.contained("resend", lambda _self, arguments, keywords: (arguments, keywords))
    def resend_arguments(
        self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The arguments of ``request`` for sending again."""
        options = openai_sdk.resend_options(
            self.client,
            self.options,
            self._failure.response if self._failure is not None else None,
            max_retries=max(0, self.max_retries - self._sdk_retries),
            resends=self._resends,
        )
        self._numbered = options.headers is not self.options.headers
        return openai_sdk.with_options(arguments, keywords, options)

    @_guard.contained("failed", lambda self, error: self._as_the_sdk_would(error))
    def failed(self, error: Exception) -> Step:
        """The attempt ended with an exception of the SDK (or of the caller's own hooks in it)."""
        now = self.runtime.clock.monotonic()
        failure = self._failure = openai_sdk.read_failure(error)
        throttle = failure.throttle()
        self._attempt_ended(now, failure.status, failure.error_type)
        if throttle is not None and failure.response is not self._observed:
            self._refused(throttle, failure, now, slow_down=openai_sdk.says_slow_down(error))
        else:
            readings = tuple(Readings(failure.headers))
            self.place.settle(now, readings=readings, succeeded=False, rejected=failure.rejected)
        kind = None if throttle is not None else failure.kind
        allowed = self.resends_throttles  # positions are restored only where another attempt is possible at all
        may_resend = allowed if throttle is not None else (kind is not None and self.max_retries > 0)
        outcome = Outcome(
            at=now,
            throttle=throttle,
            failure=kind,
            sdk_retries=kind is not None and self._sdk_would_retry(failure),
            resent=self._resends > 0,
            allowed=allowed,
            refused=openai_sdk.refuses_retry(failure.headers),
            replayable=may_resend and self._replay.rewind(),
        )
        return self._advance(outcome)

    @_guard.contained("received", lambda _self, _result: None)
    def received(self, result: Any) -> RefusedAnswer | None:
        """The attempt returned: the call is over, unless the result is a refusal in an answer with status 200; then that."""
        refusal = refusal_in(self, result)
        if refusal is not None:
            return refusal
        runtime = self.runtime
        now = runtime.clock.monotonic()
        if not self.place.settle_fast(now):
            self._answered_well(now, result)
        response = self.response
        status = response.status_code if response is not None else None
        if self._trace is None:
            self.ended = True
            runtime.instruments.undisturbed(self.subject, status, now - self.began)
        else:
            self._attempt_ended(now, status, None)
            self._end(now, "recovered", None, None)
        self.released = True
        return None

    @_guard.contained("sleep", lambda _self, _sleep: None)
    def wait_began(self, sleep: Sleep) -> None:
        """The pump goes to sleep."""
        now = self._sleep_began
        cause = self._traced().last_throttle if sleep.reason != "admission" else self.place.cause
        if self._traced().wait_began(sleep.reason, now, max(0.0, sleep.until - now), cause, self._delay_ends):
            self._wait_began = now

    @_guard.contained("wait", lambda _self, _wake: True)
    def arm(self, wake: Callable[[], object]) -> bool:
        """Have ``wake`` called, from any thread, if the turn comes sooner; False if it has come already."""
        return self.place.arm(wake)

    @_guard.contained("wait", lambda _self: None)
    def disarm(self) -> None:
        """The pump is awake."""
        self.place.disarm()

    def seconds_until(self, moment: float) -> float:
        """What is left of a wait."""
        return moment - self.runtime.clock.monotonic()

    @_guard.contained("woke", lambda _self: _SEND)
    def woke(self) -> Step:
        """The pump woke up."""
        if self._degraded:
            return _SEND
        return self._advance(Woken(self.runtime.clock.monotonic() - self._sleep_began))

    def concluded(self, verdict: Verdict, error: Exception | None) -> Exception:
        """The call ends; returns what to raise: the SDK's own exception or, where nothing was sent, ours."""
        self._conclude(verdict, error)
        return error if error is not None else errors.turned_away(self, verdict)

    @_guard.contained("verdict", lambda _self, _verdict, _error: None)
    def _conclude(self, verdict: Verdict, error: Exception | None) -> None:
        now = self.runtime.clock.monotonic()
        error_type = self._failure.error_type if self._failure is not None else None
        if isinstance(verdict, Deliver):
            self._end(now, None if self._trace is None else "not_retryable", None, error_type)
            return
        outcome: CallOutcome = "not_retryable" if verdict.reason in ("quota", "request_too_large") else "gave_up"
        self._end(now, outcome, verdict.reason, error_type)
        if error is not None:
            openai_sdk.add_note(error, note(verdict, self._resends + 1, self._traced().parts))

    @_guard.contained("left", lambda _self: None)
    def left(self) -> None:
        """The pump leaves, by whatever way: gives back what the call had reserved. A call without an end was cancelled."""
        now = self.runtime.clock.monotonic()
        self.place.leave(now)
        if self._core is not None:
            self._core.close()
        if not self.ended:
            self._end(now, None if self._trace is None else "cancelled", None, None)

    def back_off_arguments(self) -> dict[str, Any]:
        """Arguments of the SDK's own ``_sleep_for_retry`` for a failure that its loop had handed over unseen."""
        return {
            "retries_taken": self._sdk_retries,
            "max_retries": self.max_retries,
            "options": self.options,
            "response": self._failure.response if self._failure is not None else None,
        }

    # --- what the hooks call --------------------------------------------------------------------------------------

    @_guard.contained("response", lambda _self, _keywords: None)
    def answered(self, keywords: dict[str, Any]) -> None:
        """A success has its head. Puts into the keywords of ``_process_response`` how often the request was sent again."""
        self.response = response = keywords["response"]
        if self._trace is not None:  # else nothing was sent again
            self._trace.retry_ended(response.status_code, None)
            keywords["retries_taken"] = max(self._resends, keywords.get("retries_taken", 0))

    @_guard.contained("should_retry", lambda _self, _response: False)
    def takes_over(self, response: Any) -> bool:
        """Whether the SDK's loop shall leave this failure to us."""
        if self._bypass:
            return False
        status = response.status_code
        if status in openai_sdk.OURS:
            bound_reading(response, self.runtime.clock.monotonic)
            return True
        if status < 500 and status not in openai_sdk.SDK_RETRIED:
            return False
        failure = openai_sdk.failure_of_response(response)
        return failure.body is not None and failure.throttle() is not None

    @_guard.contained("backoff", lambda _self, _response: None)
    def backoff_began(self, response: Any) -> None:
        """The SDK's own loop goes to sleep after a failure."""
        now = self.runtime.clock.monotonic()
        self._sdk_retries += 1
        if not self._backing_off:  # else `failed` has read it already
            error = sys.exc_info()[1]  # the SDK sleeps inside its except clause
            self._failure = openai_sdk.failure_in_loop(error, response)
            self._attempt_ended(now, self._failure.status, self._failure.error_type)
        self._wait_began = self._sleep_began = now
        cause = self._traced().last_throttle if response is not None and response is self._observed else None
        self._traced().wait_began("backoff", now, None, cause)

    @_guard.contained("backoff", lambda _self, _options: None)
    def backoff_ended(self, options: Any) -> None:
        """The SDK's own loop sends again, with a copy of these options."""
        now = self.runtime.clock.monotonic()
        self._traced().wait_ended(now - self._wait_began)
        if not self._backing_off:
            self._sent_again(now)
            if self._numbered:
                openai_sdk.number_attempt(options, self._resends)
            failure = self._failure
            observed = failure is not None and failure.response is not None and failure.response is self._observed
            kind = "throttle" if observed else (failure.kind if failure is not None else None)
            self._traced().retry_began(kind or "server_error", self._resends)

    def _as_the_sdk_would(self, error: Exception) -> Step:
        """After a fault of ours: the SDK alone would have slept and retried what its loop had left to us."""
        taken_over = getattr(error, "status_code", None) in openai_sdk.OURS and not self._bypass
        if self._degraded or not taken_over or self._sdk_retries >= self.max_retries:
            return _DELIVER
        # By hand: what failed may be the reading of the error.
        response = getattr(error, "response", None)
        self._failure = Failure(None, getattr(error, "status_code", None), type(error).__name__, {}, None, response)
        self._degraded = self._bypass = self._backing_off = True
        return BackOff()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _advance(self, event: Event) -> Step:
        """Send an event to the core; carry out what needs no waiting; return the next step for the pump."""
        core = self._core or self._made_late(event)
        try:
            command = core.send(event)
            while isinstance(command, Reserve):
                self._delay_ends = command.not_before
                command = core.send(self._reserve(command, self.runtime.clock.monotonic()))
        except StopIteration as stop:
            verdict: Verdict = stop.value
            return verdict
        self._backing_off = isinstance(command, BackOff)
        if isinstance(command, Sleep):
            self._sleep_began = self.runtime.clock.monotonic()
        elif isinstance(command, Send):
            now = self.runtime.clock.monotonic()
            if self._trace is not None:
                self._trace.wait_ended(now - self._wait_began)
            if command.reason is None:
                self._attempt_began = now
                self.place.sent(now)
            else:
                self._sent_again(now)
                self._traced().retry_began(command.reason, self._resends)
        return command

    def _sent_again(self, now: float) -> None:
        self._attempt_began = now
        self._resends += 1
        self.place.sent(now)

    def _made_late(self, event: Event) -> Generator[Command, Any, Verdict]:
        """The core's generator, at the point where it waits for ``event``: an undisturbed call gets along without it."""
        timeout = openai_sdk.timeout_of(self.client, self.options)
        self._core = core = call.run(self.policy, timeout, self.max_retries, self.runtime.clock.random)
        next(core)
        if isinstance(event, Outcome):
            core.send(_ADMITTED)  # the turn that it had at once
        return core

    def _reserve(self, command: Reserve, now: float) -> Admitted | NotBefore:
        priority = block_priority.get() or self.policy.priority
        return self.place.reserve(self._cost, priority, command.not_before, now, as_probe=command.as_probe)

    def _refused(self, throttle: Throttle, failure: Failure, now: float, *, slow_down: bool = False) -> None:
        """A throttle arrived, by whatever way: it is traced, and the limits learn from it."""
        self._throttled(throttle, failure, now)
        self.place.settle(
            now,
            readings=tuple(Readings(failure.headers)),
            throttle=throttle,
            slow_down=slow_down,
            succeeded=False,
            cause=self._traced().last_throttle,
        )

    def _throttled(self, throttle: Throttle, failure: Failure, now: float) -> None:
        assert failure.status is not None
        self._traced().throttled(throttle, failure.status, failure.error_type, now - self._attempt_began, now)
        self._observed = failure.response
        errors.remember(self, throttle, failure, now)

    def _sdk_would_retry(self, failure: Failure) -> bool:
        """The SDK's own word on a failure that its loop handed over although it is no throttle."""
        if failure.response is None or failure.status not in openai_sdk.OURS or self._sdk_retries >= self.max_retries:
            return False
        self._bypass = True
        try:
            return bool(self.client._should_retry(failure.response))
        finally:
            self._bypass = False

    def _answered_well(self, now: float, result: Any) -> None:
        readings = () if self.response is None else Readings(self.response.headers)
        self.place.settle(now, readings=readings, succeeded=True, used_tokens=openai_sdk.used_tokens(result))
