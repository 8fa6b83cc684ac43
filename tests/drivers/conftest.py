"""One body of tests for three drivers: the synchronous client, and the asynchronous one on asyncio and on trio."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit.testing import ThrottlingServer
from tests.telemetry_probe import Probe

MESSAGES: list[Any] = [{"role": "user", "content": "Say hello."}]


def has_responses() -> bool:
    """Whether ``client.responses`` can be imported: in openai 1.99.0 it cannot, 1.99.1 mended it."""
    try:
        import openai.resources.responses  # noqa: F401
    except ImportError:
        return False
    return True


needs_responses = pytest.mark.skipif(not has_responses(), reason="client.responses of openai 1.99.0 cannot be imported")


class Caller:
    """Runs one action with a client of its flavour; the action returns the call (or its awaitable)."""

    def __init__(self, flavour: str) -> None:
        self.flavour = flavour
        self.asynchronous = flavour != "sync"

    def __call__(self, server: Any, action: Callable[[Any], Any], **options: Any) -> Any:
        options = {"base_url": server.base_url, "api_key": "test", **options}
        if not self.asynchronous:
            with openai.OpenAI(**options) as client:
                return action(client)

        async def main() -> Any:
            async with openai.AsyncOpenAI(**options) as client:
                return await action(client)

        return anyio.run(main, backend=self.flavour)


def chat(client: Any, **options: Any) -> Any:
    """The plainest call there is."""
    return client.chat.completions.create(model="gpt-4o", messages=MESSAGES, **options)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note which rows of the table of supported features this run proved; ``tests.support`` makes the table."""
    if report.when == "call" or report.skipped:
        for name, value in report.user_properties:
            if name == "feature" and isinstance(value, (list, tuple)):
                feature, flavour = value
                _proved.setdefault(feature, {}).setdefault(flavour, []).append(report.outcome)


def pytest_runtest_setup(item: pytest.Item) -> None:
    marker = item.get_closest_marker("feature")
    if marker is not None:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        alone = "asyncio" if parameters.get("asynchronous") or "cancelling" in item.name else "sync"
        flavour = parameters.get("caller", alone)
        item.user_properties.append(("feature", (marker.args[0], flavour)))


def pytest_sessionfinish() -> None:
    directory = os.environ.get("SUPPORT_RECORD")
    if directory:
        path = Path(directory) / f"{openai.__version__}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        before = json.loads(path.read_text())["features"] if path.exists() else {}  # a part may be run again by itself
        record = {"openai": openai.__version__, "python": platform.python_version(), "features": {**before, **_proved}}
        path.write_text(json.dumps(record))


_proved: dict[str, dict[str, list[str]]] = {}


@pytest.fixture(params=["sync", "asyncio", "trio"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param)


@pytest.fixture
def probe() -> Iterator[Probe]:
    probe = Probe()
    yield probe
    probe.shutdown()


@pytest.fixture
def instrumented(probe: Probe) -> Callable[..., Probe]:
    """Instrument with a policy; the probe sees what comes out."""

    def instrument(**settings: Any) -> Probe:
        otel_ratelimit.instrument(
            policy=Policy(**settings),
            tracer_provider=probe.tracer_provider,
            meter_provider=probe.meter_provider,
        )
        return probe

    return instrument


@pytest.fixture
def server() -> Iterator[ThrottlingServer]:
    with ThrottlingServer() as server:
        yield server
