"""An asyncio event loop on virtual time: it never sleeps, it sets its clock forward to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")


STEP: Final = 1e-9
"""Seconds that each turn of the loop takes at least: a timer that rounding has set to the present must see time move."""


class _Selector(selectors.DefaultSelector):
    """Instead of blocking until a timer is due, it moves the clock there."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("nothing is left to wait for: the run is stuck")
        self.now += max(timeout, STEP)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its ``time`` is virtual; whatever sleeps by it takes no time at all. Threads and sockets have no place in it."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run to the end on this loop, and close it."""
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
