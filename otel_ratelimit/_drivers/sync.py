"""Pumps one synchronous call: sends through the SDK, waits for an alarm. Decides nothing. Its twin is ``aio``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from otel_ratelimit._core.events import BackOff, Send, Sleep
from otel_ratelimit._drivers import loops
from otel_ratelimit._drivers.disguised import seen_through
from otel_ratelimit._drivers.openai_sdk import RefusedAnswer
from otel_ratelimit._drivers.scope import current
from otel_ratelimit._drivers.session import Session, Step
from otel_ratelimit._stores.alarm import Alarm


def request(
    session: Session,
    wrapped: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    step: Step | None = None,
    error: Exception | None = None,
) -> Any:
    """Carry one call of ``SyncAPIClient.request`` to its end; or on from ``step``, where its stream failed with ``error``."""
    outer = current.get()
    try:
        current.set(session)
        if step is None:
            step = session.at_once or session.start()
        while True:
            if isinstance(step, Send):
                if step.reason is not None:
                    args, kwargs = session.resend_arguments(args, kwargs)
                try:
                    session.ours = False
                    result = wrapped(*args, **kwargs)
                    session.ours = True
                except Exception as raised:
                    session.ours = True
                    error = raised
                    step = session.failed(seen_through(session, raised))
                    continue
                refusal = session.received(result)
                if refusal is None:
                    return result
                error = refusal
                step = session.failed(refusal)
            elif isinstance(step, Sleep):
                session.wait_began(step)
                _wait(session, step.until)
                step = session.woke()
            elif isinstance(step, BackOff):
                session.ours = False
                session.client._sleep_for_retry(**session.back_off_arguments())
                session.ours = True
                step = session.woke()
            else:
                error = session.concluded(step, error)
                if type(error) is RefusedAnswer:
                    return error.answer
                raise error
    finally:
        try:
            session.ours = True
            if not session.released:
                session.left()
        finally:
            current.set(outer)
            session.ours = False
        error = None  # an exception that holds its own frame would only be freed by the cycle collector


def _wait(session: Session, until: float) -> None:
    """Sleep until then, or until the place is woken."""
    loops.settle_closed()
    alarm = Alarm()
    if session.arm(alarm.wake):
        seconds = session.seconds_until(until)
        if seconds > 0:
            session.ours = False
            alarm.sleep(seconds)
            session.ours = True
    session.disarm()
