"""The application on a loopback socket, on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Final

import uvicorn

from otel_ratelimit.testing import wording
from otel_ratelimit.testing.app import Counts, Latency, Received, ThrottlingApp
from otel_ratelimit.testing.buckets import Kind, Limit
from otel_ratelimit.testing.replies import Fault, Reply
from otel_ratelimit.testing.wording import Dialect

START_TIMEOUT: Final = 10.0
STOP_TIMEOUT: Final = 10.0
"""Seconds; far more than either takes, so that a broken environment fails instead of hanging."""

GRACE: Final = 1.0
"""Seconds that requests in flight have to end when the server is stopped; their connections are broken then."""

POLL: Final = 0.002
"""Seconds between two looks at what another thread does."""


class ThrottlingServer:
    """An OpenAI-compatible server with real rate limits, for tests. A context manager.

    Args:
        limits: what it enforces, side by side; none at all by default.
        script: answers for the first requests, one each; then the limits rule.
        latency: seconds before an ordinary answer, or a function that draws them; scripted ones have their own.
        throttled_latency: seconds before a refusal.
        dialect: how it words its refusals, and whether it sends rate-limit headers.
        charge_refused: whether a refused request counts against the request limit, as at OpenAI.
        clock: the clock that the limits refill by, in seconds.
        port: 0 for any free one.

    Counts, requests, script and limits outlive ``stop()`` and go on with the next ``start()``.

    Example::

        with ThrottlingServer(limits=[Limit("tokens", 200_000)]) as server:
            client = openai.OpenAI(base_url=server.base_url, api_key="test")
            ...
            assert server.counts.throttled == 0
    """

    def __init__(
        self,
        limits: Iterable[Limit] = (),
        *,
        script: Sequence[Reply | Fault] = (),
        latency: Latency = 0.0,
        throttled_latency: float = 0.0,
        dialect: Dialect = wording.OPENAI,
        charge_refused: bool = True,
        clock: Callable[[], float] = time.monotonic,
        port: int = 0,
    ) -> None:
        self.app = ThrottlingApp(
            limits,
            script=script,
            latency=latency,
            throttled_latency=throttled_latency,
            dialect=dialect,
            charge_refused=charge_refused,
            clock=clock,
        )
        self._wanted_port = port
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> ThrottlingServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._socket is None:
            raise RuntimeError("the server is not running: use it as a context manager, or call start()")
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def base_url(self) -> str:
        """What to give to the client as ``base_url``."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def counts(self) -> Counts:
        """What it counted so far."""
        return self.app.counts

    @property
    def requests(self) -> list[Received]:
        """The requests that it answered, in that order; the last ten thousand."""
        return self.app.requests

    def script(self, replies: Iterable[Reply | Fault]) -> None:
        """Answer the coming requests with these, one each; then the limits rule again. What is left of an earlier script is
        dropped.
        """
        self.app.script(replies)

    def set_limit(self, limit: Limit) -> None:
        """Change the size of the limit of that kind and window, keeping the share in use; or add it."""
        self.app.set_limit(limit)

    def take(self, kind: Kind, amount: float) -> None:
        """Somebody else uses so much of a limit, as far as it is there.

        Raises:
            ValueError: the server has no limit of that kind.
        """
        self.app.take(kind, amount)

    def wait_for(self, requests: int, timeout: float = 10.0) -> None:
        """Return once so many requests have been answered since the server was made.

        Raises:
            TimeoutError: they have not been within ``timeout`` seconds.
        """
        end = time.monotonic() + timeout
        while self.counts.requests < requests:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.counts.requests} of {requests} requests after {timeout} s")
            time.sleep(POLL)

    def start(self) -> None:
        """Listen; returns once connections are accepted.

        Raises:
            RuntimeError: it runs already, or did not come up.
            OSError: the port is taken.
        """
        if self._thread is not None:
            raise RuntimeError("the server runs already")
        # With its protocol named: asyncio turns Nagle's algorithm off for such sockets only, and on it every answer,
        # sent as a head and a body, would take 40 ms (CPython's base_events._set_nodelay).
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._wanted_port))
            listener.listen(2048)
        except BaseException:
            listener.close()
            raise
        self._socket = listener
        # No access_log: it would go to the handlers of the program under test.
        config = uvicorn.Config(self.app, log_config=None, lifespan="off", http="h11", ws="none", access_log=False)
        self._server = server = _Server(config)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(server, listener)), name="throttling-server", daemon=True
        )
        self._thread.start()
        end = time.monotonic() + START_TIMEOUT
        while not server.started:
            if time.monotonic() > end or not self._thread.is_alive():
                self.stop()
                raise RuntimeError("the throttling server did not start")
            time.sleep(POLL)

    async def _serve(self, server: _Server, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        await server.serve([listener])

    def stop(self) -> None:
        """Stop listening, give open requests a second to end, break what is left, and join the thread. Harmless when it
        does not run.

        Raises:
            RuntimeError: the thread did not end.
        """
        thread, server, loop, listener = self._thread, self._server, self._loop, self._socket
        self._thread = self._server = self._loop = self._socket = None
        if server is not None:
            server.should_exit = True
        if thread is not None and server is not None:
            if loop is not None:
                with contextlib.suppress(RuntimeError):  # it has ended by itself
                    loop.call_soon_threadsafe(server.end)
            thread.join(GRACE)
            if thread.is_alive() and loop is not None:
                with contextlib.suppress(RuntimeError):  # the loop closed just now
                    loop.call_soon_threadsafe(_cancel_all, server)
            thread.join(STOP_TIMEOUT)
        if listener is not None:
            listener.close()
        if thread is not None and thread.is_alive():
            raise RuntimeError("the throttling server did not stop")


class _Server(uvicorn.Server):
    """uvicorn looks every 0.1 s whether it should end, and sits out as long again when it does: 0.2 s of every test with a server
    of its own. This one is told.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        """In the server's own loop: stop now."""
        self.should_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        """Until it is told to end; once a second the ``date`` of its answers moves on."""
        while not await self.on_tick(0):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ended.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Idle connections are closed, those in use once they are answered."""
        for server in self.servers:
            server.close()
        for one in sockets or []:
            one.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:
            await asyncio.sleep(POLL)


def _cancel_all(server: uvicorn.Server) -> None:
    """End every request in flight. uvicorn's own timeout would do the same and log it as an error, with tracebacks."""
    for task in server.server_state.tasks:
        task.cancel()
