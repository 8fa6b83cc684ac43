"""A server that is a function: the real SDK over an in-process transport, with answers by script."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import openai

from otel_ratelimit.testing import answers

try:
    import httpx2 as httpx
except ImportError:  # openai before 3.0
    import httpx  # type: ignore[no-redef,import-not-found,unused-ignore]

Answer = Callable[[], Any]
HEADERS = {"content-type": "application/json"}


def reply(status: int, body: bytes, headers: Mapping[str, str] | list[tuple[bytes, bytes]] | None = None) -> Answer:
    """An answer of these parts."""
    return lambda: httpx.Response(status, content=body, headers=headers or HEADERS)


def throttle(seconds: float) -> Answer:
    """A 429 that names its delay."""
    body = {
        "error": {"message": f"Rate limit reached. Please try again in {seconds:.3f}s.", "code": "rate_limit_exceeded"}
    }
    return reply(429, json.dumps(body).encode())


def fail(status: int) -> Answer:
    """A failure that is no throttle."""
    return reply(status, b"{}")


def ok(headers: Mapping[str, str] | None = None) -> Answer:
    """The plainest success."""
    return reply(200, json.dumps(answers.chat({"messages": []})).encode(), headers)


class Scripted:
    """Gives one answer after the other, the last one for ever, and counts the requests. Its awaits are real ones."""

    def __init__(self, *script: Answer) -> None:
        self._script = list(script)
        self.requests = 0

    def answer(self) -> Any:
        self.requests += 1
        return (self._script.pop(0) if len(self._script) > 1 else self._script[0])()

    def __call__(self, _request: Any) -> Any:
        return self.answer()

    async def later(self, _request: Any) -> Any:
        await anyio.sleep(0)
        response = self.answer()
        await anyio.sleep(0)
        return response


def client(server: Scripted, **options: Any) -> openai.OpenAI:
    """A synchronous client of it."""
    http = httpx.Client(transport=httpx.MockTransport(server))
    return openai.OpenAI(**{"base_url": "http://127.0.0.1/v1", "api_key": "test", "http_client": http, **options})


def asynchronous_client(server: Scripted, **options: Any) -> openai.AsyncOpenAI:
    """An asynchronous client of it."""
    http = httpx.AsyncClient(transport=httpx.MockTransport(server.later))
    return openai.AsyncOpenAI(**{"base_url": "http://127.0.0.1/v1", "api_key": "test", "http_client": http, **options})
