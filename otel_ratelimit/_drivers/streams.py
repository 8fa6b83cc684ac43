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
from otel_ratelimit._core.events import Deliver, GiveUp, Outcome
from otel_ratelimit._core.opening import FAILURES, MAX_HELD, is_bookkeeping
from otel_ratelimit._core.parsing import parse_stream_event, parse_throttle
from otel_ratelimit._core.policy import Policy
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._drivers import aio, openai_sdk, sync
from otel_ratelimit._drivers.openai_sdk import Failure
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

    @_guard.contained("succeeded", lambda _self, _result: None)
    def succeeded(self, result: Any) -> None:
        """The answer's head is here. A call that was reopened goes on until its stream has content."""
        if self._reopened:
            now = self.runtime.clock.monotonic()
            self._answered_well(now, result)
            self._attempt_ended(now, None if self.response is None else self.response.status_code, None)
        else:
            super().succeeded(result)
        self._handed_over = True

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
        self._throttled(throttle, self._failure, now)
        self.place.settle(
            now,
            throttle=throttle,
            slow_down=openai_sdk.says_slow_down(error),
            succeeded=False,
            cause=self._traced().last_throttle,
        )
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


class RefusedByEvent(Exception):
    """Carries an event that says "throttled" through the pump, as the SDK's exceptions go. Never reaches the caller."""

    def __init__(self, event: object) -> None:
        super().__init__()
        self.event = event


class RefusedByBody(RefusedByEvent):
    """The same of a body that is no stream at all; the SDK finds no event in it."""


def _throttle_in(failure: Exception, response: Any) -> Throttle | None:
    """What an event or exception says, and the head of the 200 around it: its ``Retry-After`` counts where it is a throttle."""
    if isinstance(failure, RefusedByEvent):
        return parse_stream_event(failure.event, headers=response.headers)
    body = openai_sdk.error_in_stream(failure)
    return None if body is None else parse_stream_event({"error": body}, headers=response.headers)


class Opening:
    """One stream, until its first content reaches the caller; shared by the two iterators below.

    Attributes:
        stream: the caller's.
        held: events that the caller is to have next.
        error: what the caller is to have after them.
        opened: whether nothing is held back any longer.
        typed: whether failures come as events too, not only as exceptions.
    """

    __slots__ = (
        "_counted",
        "_looked",
        "_response",
        "_source_of",
        "error",
        "held",
        "opened",
        "session",
        "stream",
        "typed",
    )

    def __init__(self, session: StreamSession, stream: Any, source_of: Callable[[], Any]) -> None:
        self.session = session
        self.stream = stream
        self._source_of = source_of
        self._response = stream.response
        self._counted = self._looked = False
        self.typed = openai_sdk.has_typed_events(session.options)
        self.held: list[Any] = []
        self.error: Exception | None = None
        self.opened = not session.may_resend

    def source(self) -> Any:
        """The SDK's own generator over the answer to the first attempt. Until its first event it takes the response from the
        stream, and shall have one that nobody else has."""
        if not self.opened:
            self.stream.response = openai_sdk.twin_of(self._response)
        return self._source_of()

    @_guard.contained("stream", lambda self, event: self._release(event))
    def arrived(self, event: Any) -> Exception | None:
        """An event before any content: it is held back, or opens the stream, or is returned as a refusal."""
        self.stream.response = self._response
        if is_bookkeeping(event) and len(self.held) < MAX_HELD:
            self.held.append(event)
        elif parse_stream_event(event, headers=self._response.headers) is not None:
            return RefusedByEvent(event)
        else:
            self._release(event)
        return None

    @_guard.contained("stream", lambda _self: None)
    def whole(self) -> Any:
        """The response, once, where its body is no stream: to be read before the SDK looks for events in it. Else None."""
        looked, self._looked = self._looked, True
        return None if looked or not openai_sdk.is_small_json(self._response) else self._response

    @_guard.contained("stream", lambda _self: None)
    def came_whole(self) -> Exception | None:
        """That body has been read: returned if it is a refusal."""
        body = openai_sdk.body_of(self._response)
        if body is None or parse_throttle(200, self._response.headers, body) is None:
            return None
        return RefusedByBody(body)

    @_guard.contained("stream", lambda self, error: self._fail(error))
    def broke(self, error: Exception) -> Exception | None:
        """An exception before any content: returned if it is a refusal."""
        self.stream.response = self._response
        if _throttle_in(error, self._response) is not None:
            return error
        self._fail(error)
        return None

    def ended(self) -> None:
        """Nothing is held back any longer."""
        self.opened = True
        self.stream.response = self._response
        self.session.opened(None)

    def refused(self, refusal: Exception) -> Step:
        """The core's word on a refusal before any content."""
        self._counted = True
        throttle = _throttle_in(refusal, self._response)
        assert throttle is not None
        return self.session.refused(refusal, throttle, False)

    def given_up(self, refusal: Exception) -> None:
        """No further attempt: the caller has everything as it would have come without us."""
        self.opened = True
        if isinstance(refusal, RefusedByBody):
            return
        if isinstance(refusal, RefusedByEvent):
            self.held.append(refusal.event)
        else:
            self.error = refusal

    def replaced(self, answer: Any) -> Any:
        """Another attempt was answered: the caller's stream goes on with it. Returns the SDK's generator over it."""
        self.held.clear()
        self._counted = self._looked = False
        openai_sdk.adopt(self.stream, self._response, answer)
        return self._source_of()

    def abandoned(self) -> None:
        """The caller waits for the first content no longer."""
        self.stream.response = self._response
        self.session.abandoned()

    def take_error(self) -> Exception:
        """The error, not kept here: it would keep the frame that raises it."""
        error, self.error = self.error, None
        assert error is not None
        return error

    @_guard.contained("stream", lambda _self, _failure: None)
    def failed_late(self, failure: object) -> None:
        """An exception, or an event of a type in ``FAILURES``, after content. Counted once, however many events tell of it."""
        refusal = failure if isinstance(failure, Exception) else RefusedByEvent(failure)
        throttle = None if self._counted else _throttle_in(refusal, self._response)
        if throttle is not None:
            self._counted = True
            step = self.session.refused(refusal, throttle, True)
            if isinstance(step, (Deliver, GiveUp)):  # as it always is: nothing can be taken back
                self.session.concluded(step, refusal)

    def _release(self, event: Any) -> None:
        self.held.append(event)
        self.ended()

    def _fail(self, error: Exception) -> None:
        self.opened = True
        self.error = error
        self.session.opened(error)


def read(opening: Opening) -> Iterator[Any]:
    """What a caller of ``Stream`` iterates instead of the SDK's own generator."""
    source = opening.source()
    try:
        while not opening.opened:
            refusal: Exception | None = None
            try:
                whole = opening.whole()
                event = next(source) if whole is None else openai_sdk.read_whole(whole)
            except StopIteration:
                opening.ended()
            except Exception as error:
                refusal = opening.broke(error)
            else:
                refusal = opening.arrived(event) if whole is None else opening.came_whole()
            if refusal is not None:
                source = _another(opening, source, refusal)
    finally:
        if not opening.opened:
            opening.abandoned()
    yield from opening.held
    if opening.error is not None:
        raise opening.take_error()
    try:
        if not opening.typed:
            yield from source
        else:
            for event in source:
                if getattr(event, "type", None) in FAILURES:
                    opening.failed_late(event)
                yield event
    except Exception as error:
        opening.failed_late(error)
        raise


def _another(opening: Opening, source: Any, refusal: Exception) -> Any:
    """The SDK's generator over another attempt's answer; the old one where there is none to be."""
    step = opening.refused(refusal)
    if not isinstance(step, (Deliver, GiveUp)):
        source.close()
        opening.stream.close()  # which the generator does not do in older SDKs
    try:
        answer = sync.request(opening.session, *opening.session.sending, step=step, error=refusal)
    except Exception as error:
        if error is not refusal:
            raise
        opening.given_up(refusal)
        return source
    return opening.replaced(answer)


async def read_async(opening: Opening) -> AsyncIterator[Any]:
    """The same as ``read``, awaited."""
    source = opening.source()
    try:
        try:
            while not opening.opened:
                refusal: Exception | None = None
                try:
                    whole = opening.whole()
                    event = await (anext(source) if whole is None else openai_sdk.read_whole_async(whole))
                except StopAsyncIteration:
                    opening.ended()
                except Exception as error:
                    refusal = opening.broke(error)
                else:
                    refusal = opening.arrived(event) if whole is None else opening.came_whole()
                if refusal is not None:
                    source = await _another_async(opening, source, refusal)
        finally:
            if not opening.opened:
                opening.abandoned()
        for event in opening.held:
            yield event
        if opening.error is not None:
            raise opening.take_error()
        try:
            async for event in source:
                if opening.typed and getattr(event, "type", None) in FAILURES:
                    opening.failed_late(event)
                yield event
        except Exception as error:
            opening.failed_late(error)
            raise
    finally:
        await source.aclose()


async def _another_async(opening: Opening, source: Any, refusal: Exception) -> Any:
    """The same as ``_another``, awaited."""
    step = opening.refused(refusal)
    if not isinstance(step, (Deliver, GiveUp)):
        await source.aclose()
        await opening.stream.close()
    try:
        answer = await aio.request(opening.session, *opening.session.sending, step=step, error=refusal)
    except Exception as error:
        if error is not refusal:
            raise
        opening.given_up(refusal)
        return source
    return opening.replaced(answer)
