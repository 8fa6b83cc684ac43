"""The pytest fixture ``throttling_server``. Loaded by every pytest run where the package is installed, so a module by itself: the
package, which it would otherwise be in, takes a sixth of a second. Imports nothing until the fixture is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from otel_ratelimit.testing import ThrottlingServer


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, for ``--strict-markers``."""
    config.addinivalue_line(
        "markers", "throttling_server(*args, **kwargs): arguments of ThrottlingServer for the fixture throttling_server"
    )


@pytest.fixture
def throttling_server(request: pytest.FixtureRequest) -> Iterator[ThrottlingServer]:
    """A running ``ThrottlingServer``, one for each test; its arguments come from the nearest marker ``throttling_server``."""
    from otel_ratelimit.testing import ThrottlingServer  # noqa: PLC0415 - most test runs never use it

    marker = request.node.get_closest_marker("throttling_server")
    with ThrottlingServer(*marker.args, **marker.kwargs) if marker else ThrottlingServer() as server:
        yield server
