"""Sync and async callers, and a server that misbehaves by script."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from otel_ratelimit import _guard
from tests.drivers.conftest import Caller, instrumented, probe, server
from tests.trust.broken_server import BrokenServer

__all__ = ["broken", "caller", "contained_faults", "instrumented", "probe", "server"]


@pytest.fixture(params=["sync", "asyncio"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param)


@pytest.fixture
def broken() -> Iterator[Callable[..., BrokenServer]]:
    """Starts servers that play a script, connection by connection."""
    servers: list[BrokenServer] = []

    def start(*script: Callable[..., None]) -> BrokenServer:
        servers.append(BrokenServer(*script))
        return servers[-1]

    yield start
    for one in servers:
        one.close()


@pytest.fixture
def contained_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at a user's: faults of ours are contained, not raised."""
    monkeypatch.setattr(_guard, "raise_faults", False)
    _guard._reported.clear()
