"""HTTP/2, where the caller's own client has it: many calls on one connection, and the end of the connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import openai
import pytest

from otel_ratelimit.testing import Limit, ThrottlingServer, throttle_reply
from tests.drivers.conftest import MESSAGES, chat
from tests.telemetry_probe import Probe

hypercorn = pytest.importorskip("hypercorn.asyncio")
pytest.importorskip("h2")
try:
    import httpx2 as httpx
except ImportError:  # openai before 3.0
    import httpx  # type: ignore[no-redef,import-not-found,unused-ignore]

from hypercorn.config import Config  # noqa: E402 - once it is known to be there

Instrumented = Callable[..., Probe]


class Http2Server:
    """The throttling application behind a server that speaks HTTP/2 (``ThrottlingServer``'s own does not)."""

    def __init__(self, *limits: Limit) -> None:
        self.app = ThrottlingServer(limits, latency=0.02).app
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Serve; on leaving, say goodbye on every connection."""
        config = Config()
        config.bind = [f"127.0.0.1:{self.port}"]
        config.graceful_timeout = 1.0
        loop = asyncio.new_event_loop()
        stop = asyncio.Event()

        async def serve() -> None:
            await hypercorn.serve(self.app, config, shutdown_trigger=stop.wait, mode="asgi")

        thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
        thread.start()
        self._await_listener()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(10.0)
            assert not thread.is_alive()
            loop.close()

    def _await_listener(self) -> None:
        end = time.monotonic() + 10.0
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.01)
            else:
                return

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@pytest.fixture
def server() -> Iterator[Http2Server]:
    server = Http2Server()
    with server.running():
        yield server


def test_a_throttled_call(server: Http2Server, instrumented: Instrumented) -> None:
    """Waited for and sent again, over HTTP/2 both times."""
    probe = instrumented()
    server.app.script([throttle_reply(0.05)])
    http = httpx.Client(http1=False, http2=True)
    with openai.OpenAI(base_url=server.base_url, api_key="test", http_client=http) as client:
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES)
    assert raw.http_response.http_version == "HTTP/2"
    assert raw.retries_taken == 1
    assert raw.parse().choices
    assert probe.recoveries() == {"rate_limited": 1, "throttle": 1, "retry": 1}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_many_calls_on_one_connection(backend: str, instrumented: Instrumented) -> None:
    """Refusals and answers come interleaved on one connection; all calls are done, each counted once."""
    probe = instrumented()
    server = Http2Server(Limit("tokens", 60_000, used=59_000))  # ten fit at once, ten a second after that

    async def send(client: openai.AsyncOpenAI) -> None:
        await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=100)

    async def main() -> None:
        http = httpx.AsyncClient(http1=False, http2=True)
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="test", http_client=http) as client:
            await send(client)
            async with anyio.create_task_group() as tasks:
                for _ in range(24):
                    tasks.start_soon(send, client)

    with server.running():
        anyio.run(main, backend=backend)
    counts = server.app.counts
    assert counts.succeeded == 25
    assert probe.total("otel_ratelimit.attempt.duration") == counts.requests
    assert probe.total("otel_ratelimit.throttles") == counts.throttled
    assert probe.total("otel_ratelimit.call.duration") == 25


def test_the_server_says_goodbye_during_a_wait(instrumented: Instrumented) -> None:
    """The connection is gone when the wait is over; the call goes out on another."""
    probe = instrumented()
    server = Http2Server()
    server.app.script([throttle_reply(1.0)])
    answers: list[Any] = []
    http = httpx.Client(http1=False, http2=True)
    with openai.OpenAI(base_url=server.base_url, api_key="test", http_client=http) as client:
        caller = threading.Thread(target=lambda: answers.append(chat(client)))
        with server.running():
            caller.start()
            end = time.monotonic() + 10.0
            while not server.app.counts.throttled and time.monotonic() < end:
                time.sleep(0.01)
        with server.running():
            caller.join(20.0)
    assert answers
    assert Counter(request.status for request in server.app.requests) == {429: 1, 200: 1}
    assert probe.names()["throttle"] == 1
