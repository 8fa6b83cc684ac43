"""What happens to a stream until its first content reaches the caller, as a generator of commands; after that, what is counted.

As long as nothing of the stream has reached the caller, a throttle in it is what a 429 is to another call.
:meth:`Opening.prelude` yields what to do (pull an event, read a body, close, send again) and is sent what came of it: the two
pumps of ``streams`` carry that out, and decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from otel_ratelimit import _guard
from otel_ratelimit._core.events import Deliver, GiveUp
from otel_ratelimit._core.opening import MAX_HELD, is_bookkeeping
from otel_ratelimit._core.parsing import parse_stream_event, parse_throttle
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._drivers import openai_sdk
from otel_ratelimit._drivers.session import Step

if TYPE_CHECKING:
    from otel_ratelimit._drivers.streams import StreamSession


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


# --- what the pumps are asked to do, and are sent the result of ----------------------------------------------------


@dataclass(slots=True)
class Pull:
    """The next event of ``source``; :data:`ENDED` where there is none."""

    source: Any


@dataclass(slots=True)
class ReadWhole:
    """Read all of the response's body."""

    response: Any


@dataclass(slots=True)
class Close:
    """Close ``source``, and the stream with its connection."""

    source: Any


@dataclass(slots=True)
class SendAgain:
    """Carry the call on from ``step``; its result is another answer."""

    step: Step
    refusal: Exception


Command = Pull | ReadWhole | Close | SendAgain

ENDED: Final = object()


class Opening:
    """One stream, until its first content reaches the caller.

    Attributes:
        stream: the caller's.
        source: the SDK's own generator over the present answer.
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
        "source",
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
        self.source: Any = None
        self.held: list[Any] = []
        self.error: Exception | None = None
        self.opened = not session.may_resend

    def prelude(self) -> Generator[Command, Any, None]:
        """The stream until its first content: yields a command, is sent its result, or its exception is thrown in."""
        if not self.opened:
            # Until its first event the generator takes the response from the stream, and shall have one of its own.
            self.stream.response = openai_sdk.twin_of(self._response)
        self.source = self._source_of()
        try:
            while not self.opened:
                refusal = yield from self._first_refusal()
                if refusal is not None:
                    yield from self._another(refusal)
        finally:
            if not self.opened:
                self._abandoned()

    def _first_refusal(self) -> Generator[Command, Any, Exception | None]:
        """One event, or a body that is no stream; the refusal that it is, if it is one."""
        whole = self._whole()
        try:
            event = yield Pull(self.source) if whole is None else ReadWhole(whole)
        except Exception as error:
            return self._broke(error)
        if whole is not None:
            return self._came_whole()
        if event is ENDED:
            self._ended()
            return None
        return self._arrived(event)

    def _another(self, refusal: Exception) -> Generator[Command, Any, None]:
        """Another attempt after a refusal before any content; without one the caller has everything as it would have come."""
        self._counted = True
        throttle = _throttle_in(refusal, self._response)
        assert throttle is not None
        step = self.session.refused(refusal, throttle, False)
        if not isinstance(step, (Deliver, GiveUp)):
            yield Close(self.source)
        try:
            answer = yield SendAgain(step, refusal)
        except Exception as error:
            if error is not refusal:
                raise
            self._given_up(refusal)
            return
        self.held.clear()
        self._counted = self._looked = False
        openai_sdk.adopt(self.stream, self._response, answer)
        self.source = self._source_of()

    @_guard.contained("stream", lambda self, event: self._release(event))
    def _arrived(self, event: Any) -> Exception | None:
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
    def _whole(self) -> Any:
        """The response, once, where its body is no stream: to be read before the SDK looks for events in it. Else None."""
        looked, self._looked = self._looked, True
        return None if looked or not openai_sdk.is_small_json(self._response) else self._response

    @_guard.contained("stream", lambda _self: None)
    def _came_whole(self) -> Exception | None:
        """That body has been read: returned if it is a refusal."""
        body = openai_sdk.body_of(self._response)
        if body is None or parse_throttle(200, self._response.headers, body) is None:
            return None
        return RefusedByBody(body)

    @_guard.contained("stream", lambda self, error: self._fail(error))
    def _broke(self, error: Exception) -> Exception | None:
        """An exception before any content: returned if it is a refusal."""
        self.stream.response = self._response
        if _throttle_in(error, self._response) is not None:
            return error
        self._fail(error)
        return None

    def _ended(self) -> None:
        """Nothing is held back any longer."""
        self.opened = True
        self.stream.response = self._response
        self.session.opened(None)

    def _given_up(self, refusal: Exception) -> None:
        """No further attempt: the caller has everything as it would have come without us."""
        self.opened = True
        if isinstance(refusal, RefusedByBody):
            return
        if isinstance(refusal, RefusedByEvent):
            self.held.append(refusal.event)
        else:
            self.error = refusal

    def _abandoned(self) -> None:
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
        self._ended()

    def _fail(self, error: Exception) -> None:
        self.opened = True
        self.error = error
        self.session.opened(error)
