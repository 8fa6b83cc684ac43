"""Pumps one asynchronous call, on asyncio or trio: the same as ``sync``, awaited. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import sniffio

from otel_ratelimit._core.events import BackOff, Send, Sleep
from otel_ratelimit._drivers.disguised import refusal_in, seen_through
from otel_ratelimit._drivers.openai_sdk import RefusedAnswer
from otel_ratelimit._drivers.scope import current
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
                refusal = refusal_in(session, result)
                if refusal is None:
                    session.succeeded(result)
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
            current.set(outer)
            session.ours = False
        error = None  # an exception that holds its own frame would only be freed by the cycle collector


async def _wait(session: Session, until: float) -> None:
    """Sleep until then, or until the place is woken, by whatever thread."""
    event = anyio.Event()
    if session.arm(_from_any_thread(event.set)):
        seconds = session.seconds_until(until)
        if seconds > 0:
            session.ours = False
            with anyio.move_on_after(seconds):
                await event.wait()
            session.ours = True
    session.disarm()


def _from_any_thread(function: Callable[[], object]) -> Callable[[], object]:
    """``function``, to be run soon by the running event loop. (anyio's own way back into the loop blocks its caller.)"""
    if sniffio.current_async_library() == "trio":
        import trio  # noqa: PLC0415 - only where it is running already

        token = trio.lowlevel.current_trio_token()
        return lambda: token.run_sync_soon(function)
    loop = asyncio.get_running_loop()
    return lambda: loop.call_soon_threadsafe(function)
