"""The real SDK, without the package's hooks: synchronous and asynchronous, never retrying."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import openai
import pytest

from otel_ratelimit.testing import ThrottlingServer

MESSAGES: list[Any] = [{"role": "user", "content": "Say hello."}]

httpx: Any = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])
"""The HTTP library that the installed SDK uses: httpx, or httpx2 from openai 3 on."""


class Caller:
    """Runs one action with a client of its flavour; the action returns the call (or its awaitable)."""

    def __init__(self, flavour: str) -> None:
        self.asynchronous = flavour != "sync"

    def __call__(self, server: ThrottlingServer, action: Callable[[Any], Any], **options: Any) -> Any:
        options = {"base_url": server.base_url, "api_key": "test", "max_retries": 0, **options}
        if not self.asynchronous:
            with openai.OpenAI(**options) as client:
                return action(client)

        async def main() -> Any:
            async with openai.AsyncOpenAI(**options) as client:
                return await action(client)

        return anyio.run(main)

    def events(self, server: ThrottlingServer, action: Callable[[Any], Any], **options: Any) -> list[Any]:
        """All that a stream yields before its end."""

        def read(client: Any) -> Any:
            if not self.asynchronous:
                return list(action(client))

            async def collect() -> list[Any]:
                return [event async for event in await action(client)]

            return collect()

        found: list[Any] = self(server, read, **options)
        return found


def chat(client: Any, **options: Any) -> Any:
    """The plainest call there is."""
    return client.chat.completions.create(model="gpt-4o", messages=MESSAGES, **options)


def strict(answer: Any) -> Any:
    """The answer again, checked against its own type: the SDK parses leniently and would take anything."""
    return type(answer).model_validate(answer.to_dict())


def responses_are_broken() -> bool:
    try:
        importlib.import_module("openai.resources.responses")
    except ImportError:
        return True
    return False


needs_responses = pytest.mark.skipif(
    responses_are_broken(), reason="client.responses of openai 1.99.0 cannot be imported; 1.99.1 mended it"
)


def frozen() -> float:
    """A clock that stands still, so that nothing refills."""
    return 1000.0


def refusal(caller: Caller, server: ThrottlingServer, **options: Any) -> openai.RateLimitError:
    with pytest.raises(openai.RateLimitError) as raised:
        caller(server, lambda client: chat(client, **options))
    return raised.value


@pytest.fixture(params=["sync", "async"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param)


@pytest.fixture
def server() -> Iterator[ThrottlingServer]:
    with ThrottlingServer() as server:
        yield server


@pytest.fixture(scope="session")
def plain() -> Iterator[ThrottlingServer]:
    """One server without limits for all tests that change nothing of it."""
    with ThrottlingServer() as server:
        yield server
