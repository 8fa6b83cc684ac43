"""The pytest plugin: the fixture ``throttling_server``, and a cap on waits for test-suites that mock the API.

Loaded by every pytest run where the package is installed, so a module by itself: the package, which it would otherwise be in,
takes a sixth of a second. Imports nothing of it before it is used.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from otel_ratelimit.testing import ThrottlingServer

_VARIABLE = "OTEL_RATELIMIT_MAX_WAIT"
_MARKER = "otel_ratelimit_max_wait"
_HELP = "the most seconds that a call may wait for rate limits, in every test; the marker of this name says it for one"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option, also as an ini setting."""
    group = parser.getgroup("otel_ratelimit")
    try:
        group.addoption("--otel-ratelimit-max-wait", metavar="SECONDS", type=float, default=None, help=_HELP)
    except ValueError:  # added already: the run has loaded this plugin by both of its names
        return
    parser.addini(_MARKER, _HELP, default="")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, for ``--strict-markers``; check the cap."""
    config.addinivalue_line(
        "markers", "throttling_server(*args, **kwargs): arguments of ThrottlingServer for the fixture throttling_server"
    )
    config.addinivalue_line(
        "markers", f"{_MARKER}(seconds): the most that a call may wait for rate limits in this test"
    )
    _of_run(config)


@pytest.hookimpl(hookwrapper=True)  # the older form: a newer one would stop the test runs of whoever has pytest 7
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Cap the waits of the test and of its fixtures."""
    marker = item.get_closest_marker(_MARKER)
    seconds = _of_run(item.config) if marker is None else _checked(marker.args[0] if marker.args else None)
    if seconds is None:
        yield
        return
    with _capped(seconds):
        yield


def _of_run(config: pytest.Config) -> float | None:
    option = config.getoption("--otel-ratelimit-max-wait")
    value = config.getini(_MARKER) if option is None else option
    return None if value == "" else _checked(value)


def _checked(value: object) -> float:
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise pytest.UsageError(f"{_MARKER} must be a number of seconds, finite and not negative; got {value!r}")
    return seconds


@contextmanager
def _capped(seconds: float) -> Iterator[None]:
    """For what is instrumented meanwhile from the environment, and for what is instrumented already."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = f"{seconds:g}"
    runtime, policy = _runtime(), None
    if runtime is not None:
        policy = runtime.policy
        least = seconds if policy.max_wait is None else min(policy.max_wait, seconds)
        runtime.policy = dataclasses.replace(policy, max_wait=least)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before
        if runtime is not None:
            runtime.policy = policy


def _runtime() -> Any:
    """What calls run by, where the program has instrumented by now; None else."""
    module = sys.modules.get("otel_ratelimit._instrumentor")
    hooks = getattr(module, "RateLimitInstrumentor", None) and module.RateLimitInstrumentor._hooks  # type: ignore[union-attr]
    return None if hooks is None else hooks.runtime


@pytest.fixture
def throttling_server(request: pytest.FixtureRequest) -> Iterator[ThrottlingServer]:
    """A running ``ThrottlingServer``, one for each test; its arguments come from the nearest marker ``throttling_server``."""
    from otel_ratelimit.testing import ThrottlingServer  # noqa: PLC0415 - most test runs never use it

    marker = request.node.get_closest_marker("throttling_server")
    with ThrottlingServer(*marker.args, **marker.kwargs) if marker else ThrottlingServer() as server:
        yield server
