"""Waiting for what another thread or process is about to do: however long that takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio


def eventually(condition: Callable[[], object], patience: float = 60.0) -> None:
    """Return once it holds.

    Raises:
        AssertionError: it did not hold within ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.005)


async def eventually_beside(condition: Callable[[], object], patience: float = 60.0) -> None:
    """The same among tasks of one event loop."""
    with anyio.fail_after(patience):
        while not condition():
            await anyio.sleep(0.005)
