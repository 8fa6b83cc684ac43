"""Throttles inside of a stream that was answered with 200.

As long as nothing of the stream has reached the caller, a throttle in it is what a 429 is to another call: the call waits
and is sent again, by the same pump and core, under the same budget, and the caller's iterator goes on with the new answer.
Bookkeeping events are held back meanwhile (``_core.opening`` tells which); the first content is handed on at once, with
them before it. After that the stream only passes through, and a throttle in it is counted.

To the call itself the answer's head is the end, as ever: an undisturbed stream costs it nothing, and one that nobody reads
leaves nothing open. A throttle reopens the call; all of its waiting and resending then happens inside the caller's one
request for the next event, in whatever thread, task or context that is. Decides nothing about rate limits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from opentelemetry import context as otel_context

from otel_ratelimit import _guard
from otel_ratelimit._core.events import Deliver, Outcome
from otel_ratelimit._core.opening import FAILURES
from otel_ratelimit._core.policy import Policy
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._drivers import aio, openai_sdk, sync
from otel_ratelimit._drivers.openai_sdk import Failure, RefusedAnswer
from otel_ratelimit._drivers.prelude import ENDED, Close, Command, Opening, Pull, ReadWhole
from otel_ratelimit._drivers.runtime import Runtime
from otel_ratelimit._drivers.session import Session, Step
from otel_ratelimit._telemetry import names
from otel_ratelimit._telemetry.callbacks import block_callbacks
from otel_ratelimit._telemetry.trace import CallTrace

_DELIVER = Deliver()

Sending = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]
"""The wrapped ``request`` and the caller's arguments to it."""


class StreamSession(Session):
    """A call that asked for a stream: it can be taken up again after its answer's head came."""

    listens = True

    def __init__(self, runtime: Runtime, policy: Policy, client: Any, options: Any, sending: Sending) -> None:
        self.sending = sending
        self.claimed = False
        self._context = otel_context.get_current()
        self._callbacks = block_callbacks.get()
        self._handed_over = False
        self._reopened = False
        super().__init__(runtime, policy, client, options)

    @property
    def may_resend(self) -> bool:
        """Whether a refusal inside of the stream can lead to another attempt at all; else nothing is held back."""
        return self.policy.mode == "wait" and self.resends_throttles and not openai_sdk.in_background(self.options)

    def answered(self, keywords: dict[str, Any]) -> None:
        """The same; and lets the stream that is made of this response, now or later, find the call."""
        super().answered(keywords)
        self._attach(keywords)

    @_guard.contained("stream", lambda _self, _keywords: None)
    def _attach(self, keywords: dict[str, Any]) -> None:
        openai_sdk.attach(keywords["response"], self)

    @_guard.contained("received", lambda _self, _result: None)
    def received(self, result: Any) -> RefusedAnswer | None:
        """The answer's head is here. A call that was reopened goes on until its stream has content."""
        if not self._reopened:
            refusal = super().received(result)
            self._handed_over = refusal is None
            return refusal
        now = self.runtime.clock.monotonic()
        self._answered_well(now, result)
        self._attempt_ended(now, None if self.response is None else self.response.status_code, None)
        self._handed_over = True
        return None

    def left(self) -> None:
        """The pump leaves. A stream that was handed over holds nothing, and the core's generator may be needed again."""
        if not self._handed_over:
            super().left()

    @_guard.contained("stream", lambda _self, _error, _throttle, _delivered: _DELIVER)
    def refused(self, error: Exception, throttle: Throttle, delivered: bool) -> Step:
        """The stream turned out to be a throttle; ``delivered``: after content had reached the caller."""
        now = self.runtime.clock.monotonic()
        if not self._reopened:
            self._reopened, self.ended, self.released = True, False, False
            told = self._trace is not None  # it waited for its turn, say: a first span of it has ended
            age = now - self.began
            self._trace = CallTrace(
                self.runtime.instruments, self.subject, age, self._context, again=told, callbacks=self._callbacks
            )
        self._handed_over = False
        self._failure = Failure(None, 200, names.ERROR_IN_STREAM, {}, None, error)
        self._refused(throttle, self._failure, now, slow_down=openai_sdk.says_slow_down(error))
        allowed = self.resends_throttles
        outcome = Outcome(
            at=now,
            throttle=throttle,
            resent=self._resends > 0,
            allowed=allowed,
            replayable=allowed and not delivered and self._replay.rewind(),
            delivered=delivered,
        )
        return self._advance(outcome)

    @_guard.contained("stream", lambda _self, _error: None)
    def opened(self, error: Exception | None) -> None:
        """The stream has content, or its end, or an ``error`` that is no throttle. By far most calls have ended before."""
        if self.ended:
            return
        now = self.runtime.clock.monotonic()
        if error is None:
            self._end(now, "recovered", None, None)
        else:
            self._end(now, "not_retryable", None, type(error).__name__)

    @_guard.contained("stream", lambda _self: None)
    def abandoned(self) -> None:
        """The caller was cancelled, or interrupted, while it waited for the first content."""
        if not self.ended:
            self._end(self.runtime.clock.monotonic(), "cancelled", None, None)


def read(opening: Opening) -> Iterator[Any]:
    """What a caller of ``Stream`` iterates instead of the SDK's own generator."""
    _open(opening)
    yield from opening.held
    if opening.error is not None:
        raise opening.take_error()
    try:
        if not opening.typed:
            yield from opening.source
        else:
            for event in opening.source:
                if getattr(event, "type", None) in FAILURES:
                    opening.failed_late(event)
                yield event
    except Exception as error:
        opening.failed_late(error)
        raise


def _open(opening: Opening) -> None:
    """Pump the prelude."""
    prelude = opening.prelude()
    try:
        command = next(prelude)
        while True:
            try:
                result = _carry_out(opening, command)
            except Exception as error:
                command = prelude.throw(error)
            else:
                command = prelude.send(result)
    except StopIteration:  # of the prelude: what is carried out raises none
        return
    finally:
        prelude.close()


def _carry_out(opening: Opening, command: Command) -> Any:
    if isinstance(command, Pull):
        return next(command.source, ENDED)
    if isinstance(command, ReadWhole):
        return openai_sdk.read_whole(command.response)
    if isinstance(command, Close):
        command.source.close()
        opening.stream.close()  # which the generator does not do in older SDKs
        return None
    return sync.request(opening.session, *opening.session.sending, step=command.step, error=command.refusal)


async def read_async(opening: Opening) -> AsyncIterator[Any]:
    """The same as ``read``, awaited."""
    try:
        await _open_async(opening)
        for event in opening.held:
            yield event
        if opening.error is not None:
            raise opening.take_error()
        try:
            async for event in opening.source:
                if opening.typed and getattr(event, "type", None) in FAILURES:
                    opening.failed_late(event)
                yield event
        except Exception as error:
            opening.failed_late(error)
            raise
    finally:
        if opening.source is not None:
            await opening.source.aclose()


async def _open_async(opening: Opening) -> None:
    """The same as ``_open``, awaited."""
    prelude = opening.prelude()
    try:
        command = next(prelude)
        while True:
            try:
                result = await _carry_out_async(opening, command)
            except Exception as error:
                command = prelude.throw(error)
            else:
                command = prelude.send(result)
    except StopIteration:
        return
    finally:
        prelude.close()


async def _carry_out_async(opening: Opening, command: Command) -> Any:
    """The same as ``_carry_out``, awaited."""
    if isinstance(command, Pull):
        return await anext(command.source, ENDED)
    if isinstance(command, ReadWhole):
        return await openai_sdk.read_whole_async(command.response)
    if isinstance(command, Close):
        await command.source.aclose()
        await opening.stream.close()
        return None
    return await aio.request(opening.session, *opening.session.sending, step=command.step, error=command.refusal)
