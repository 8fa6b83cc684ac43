"""Pumps one asynchronous call, on asyncio or trio: the same as ``sync``, awaited. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import sniffio

from otel_ratelimit._core.events import BackOff, Send, Sleep
from otel_ratelimit._drivers import loops
from otel_ratelimit._drivers.disguised import seen_through
from otel_ratelimit._drivers.openai_sdk import RefusedAnswer
from otel_ratelimit._drivers.scope import current, restore
from otel_ratelimit._drivers.session import Session, Step


async def request(
    session: Session,
    wrapped: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    step: Step | None = None,
    error: Exception | None = None,
) -> Any:
    """Carry one call of ``AsyncAPIClient.request`` to its end; or on from ``step``, where its stream failed with ``error``."""
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
                    result = await wrapped(*args, **kwargs)
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
                await _wait(session, step.until)
                step = session.woke()
            elif isinstance(step, BackOff):
                session.ours = False
                await session.client._sleep_for_retry(**session.back_off_arguments())
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
            restore(session, outer)
            session.ours = False
        error = None  # an exception that holds its own frame would only be freed by the cycle collector


async def _wait(session: Session, until: float) -> None:
    """Sleep until then, or until the place is woken, by whatever thread."""
    loops.settle_closed()
    event = anyio.Event()
    if sniffio.current_async_library() == "trio":
        import trio  # noqa: PLC0415 - only where it is running already

        token = trio.lowlevel.current_trio_token()
        await _sleep(session, until, event, lambda: token.run_sync_soon(event.set))
        return
    loop = asyncio.get_running_loop()
    try:
        loops.wait_began(loop, session)
        await _sleep(session, until, event, lambda: _wake(loop, event.set))
    finally:
        loops.wait_ended(loop, session)


async def _sleep(session: Session, until: float, event: anyio.Event, wake: Callable[[], object]) -> None:
    """``wake``: sets the event soon, from any thread; anyio's own way back into the loop would block its caller."""
    if session.arm(wake):
        seconds = session.seconds_until(until)
        if seconds > 0:
            session.ours = False
            with anyio.move_on_after(seconds):
                await event.wait()
            session.ours = True
    session.disarm()


def _wake(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:  # it was closed meanwhile: nobody there has a use for the turn
        loops.settle_closed()
