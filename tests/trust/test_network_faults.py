"""Broken networks and servers: the call ends as it does with the SDK alone, in as many connections."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import openai
import pytest
from openai import _base_client

import otel_ratelimit
from otel_ratelimit import Policy
from tests.drivers.conftest import MESSAGES, Caller, chat
from tests.telemetry_probe import Probe
from tests.trust.broken_server import (
    Behaviour,
    BrokenServer,
    answers_with,
    drips,
    endless,
    ends_before_head,
    half_json,
    head,
    ok,
    reset_after_head,
    reset_before_head,
    reset_in_head,
    throttled,
    truncated,
)

Broken = Callable[..., BrokenServer]


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own backoff begins at 20 ms instead of 500."""
    monkeypatch.setattr(_base_client, "INITIAL_RETRY_DELAY", 0.02)


Instrumented = Callable[..., Probe]


def end_of(caller: Caller, server: Any, action: Any = chat, **options: Any) -> tuple[str, object]:
    """How a call ends: the type of what it returns or raises, and the status if there is one."""
    try:
        answer = caller(server, action, **options)
    except Exception as error:
        return type(error).__name__, getattr(error, "status_code", None)
    return type(answer).__name__, None


def as_the_sdk_alone(
    caller: Caller, broken: Broken, script: list[Behaviour], action: Any = chat, **options: Any
) -> tuple[str, object]:
    """Make the call twice, without us and with us; both must end alike. Returns how."""
    ends = []
    for ours in (False, True):
        if ours:
            otel_ratelimit.instrument(policy=Policy())
        server = broken(*script)
        ends.append((end_of(caller, server, action, **options), server.connections))
    assert ends[0] == ends[1]
    return ends[1][0]


@pytest.mark.parametrize(
    "fault",
    [reset_before_head, reset_in_head, reset_after_head, ends_before_head, truncated],
    ids=["reset before the head", "reset in the head", "reset after the head", "end before the head", "truncated body"],
)
def test_a_connection_that_breaks(fault: Behaviour, caller: Caller, broken: Broken) -> None:
    """Once: tried again, by the SDK. For ever: its own exception after its own number of tries."""
    assert as_the_sdk_alone(caller, broken, [fault, ok]) == ("ChatCompletion", None)
    otel_ratelimit.uninstrument()
    end, _ = as_the_sdk_alone(caller, broken, [fault], max_retries=1)
    assert end == "APIConnectionError"


def test_json_that_ends_in_the_middle(caller: Caller, broken: Broken) -> None:
    """A whole response whose JSON is half: whatever the SDK makes of it."""
    as_the_sdk_alone(caller, broken, [half_json])


def test_connection_refused(caller: Caller, broken: Broken) -> None:
    """Nobody listens."""
    ends = []
    for ours in (False, True):
        if ours:
            otel_ratelimit.instrument(policy=Policy())
        server = broken(ok)
        server.close()
        ends.append(end_of(caller, server, max_retries=1))
    assert ends[0] == ends[1] == ("APIConnectionError", None)


def test_a_tls_error(caller: Caller, broken: Broken) -> None:
    """TLS is spoken to a server that does not."""

    class Tls:
        def __init__(self, server: BrokenServer) -> None:
            self.base_url = server.base_url.replace("http://", "https://")

    def not_tls(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    ends = []
    for ours in (False, True):
        if ours:
            otel_ratelimit.instrument(policy=Policy())
        ends.append(end_of(caller, Tls(broken(not_tls)), max_retries=1))
    assert ends[0] == ends[1] == ("APIConnectionError", None)
    assert ssl.OPENSSL_VERSION


def test_a_head_that_drips(caller: Caller, broken: Broken, instrumented: Instrumented) -> None:
    """Slow loris, longer than the read timeout in all, but never between two bytes: it is waited for."""
    instrumented()
    slow = drips(head("200 OK", 0) + b"", 1.0)
    whole = answers_with("200 OK", b"{}")
    server = broken(slow, whole)
    end_of(caller, server, timeout=openai.Timeout(0.5), max_retries=0)
    assert server.connections == 1


def test_a_server_that_is_silent(caller: Caller, broken: Broken) -> None:
    """The read timeout, its retry, its exception."""

    def silent(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    end, _ = as_the_sdk_alone(caller, broken, [silent], timeout=0.3, max_retries=1)
    assert end == "APITimeoutError"


def test_a_redirect(caller: Caller, broken: Broken) -> None:
    """Followed, and the answer is the other server's."""
    target = broken(ok)
    moved = answers_with("307 Temporary Redirect", b"", f"location: {target.base_url}/chat/completions")
    assert as_the_sdk_alone(caller, broken, [moved]) == ("ChatCompletion", None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # trio: the SDK's own stream generators
@pytest.mark.parametrize(
    ("piece", "least"), [(b"x" * 65536, 0), (b"x", 0)], ids=["as fast as it can", "one byte at a time"]
)
def test_a_429_with_an_endless_body(
    piece: bytes, least: int, caller: Caller, broken: Broken, instrumented: Instrumented
) -> None:
    """A stream is asked for, so that nobody has read the body yet: neither for ever nor into memory."""
    instrumented(max_backoff=0.05)
    server = broken(endless("429 Too Many Requests", piece, 30.0), ok)

    def action(client: Any) -> Any:
        return client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)

    began = time.monotonic()
    caller(server, action)
    assert time.monotonic() - began < 15.0
    assert server.connections == 2


def test_a_server_that_restarts_during_a_wait(caller: Caller, broken: Broken, instrumented: Instrumented) -> None:
    """The connection of the first attempt is gone when the wait is over; another is made."""
    probe = instrumented()
    first = broken(answers_with("429 Too Many Requests", b"{}", "retry-after-ms: 900"))
    second: list[BrokenServer] = []

    def restart() -> None:
        while not first.connections:
            time.sleep(0.01)
        time.sleep(0.2)
        first.close()
        second.append(BrokenServer(ok, port=first.port))

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        assert caller(first, chat).choices
    finally:
        thread.join()
        second[0].close()
    assert second[0].connections == 1
    assert probe.names()["throttle"] == 1


@pytest.mark.parametrize("jump", [-3600.0, 86_400.0], ids=["back an hour", "forward a day"])
def test_a_clock_that_is_set_during_a_wait(
    jump: float, caller: Caller, broken: Broken, instrumented: Instrumented, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waits go by the monotonic clock: they neither end early nor last for a day."""
    probe = instrumented()
    server = broken(answers_with("429 Too Many Requests", b"{}", "retry-after-ms: 400"), ok)
    original, original_ns = time.time, time.time_ns
    offset = [0.0]
    monkeypatch.setattr(time, "time", lambda: original() + offset[0])
    monkeypatch.setattr(time, "time_ns", lambda: original_ns() + int(offset[0] * 1e9))

    def set_clock() -> None:
        while not server.connections:
            time.sleep(0.005)
        time.sleep(0.1)
        offset[0] = jump

    thread = threading.Thread(target=set_clock)
    thread.start()
    began = time.monotonic()
    assert caller(server, chat).choices
    assert 0.4 <= time.monotonic() - began < 10.0
    thread.join()
    assert probe.names()["retry"] == 1
    assert probe.total("otel_ratelimit.request.waiting") == 0


@pytest.mark.parametrize("kind", ["asyncio.timeout", "asyncio.wait_for", "anyio.fail_after", "anyio.move_on_after"])
def test_nested_timeouts(kind: str, broken: Broken, instrumented: Instrumented) -> None:
    """A deadline of the program's own cuts a wait at once, and is told from everything else."""
    import asyncio

    if kind == "asyncio.timeout" and not hasattr(asyncio, "timeout"):
        pytest.skip("from Python 3.11 on")
    probe = instrumented()
    server = broken(answers_with("429 Too Many Requests", b"{}", "retry-after: 30"))

    async def main() -> str:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="test") as client:
            with anyio.fail_after(20):  # the outer one, which must not fire
                try:
                    if kind == "asyncio.timeout":
                        async with vars(asyncio)["timeout"](1.5):  # the type checker looks from Python 3.10
                            await chat(client)
                    elif kind == "asyncio.wait_for":
                        await asyncio.wait_for(chat(client), 1.5)
                    elif kind == "anyio.fail_after":
                        with anyio.fail_after(1.5):
                            await chat(client)
                    else:
                        with anyio.move_on_after(1.5) as scope:
                            await chat(client)
                        return "moved on" if scope.cancelled_caught else "no end"
                except (TimeoutError, asyncio.TimeoutError):
                    return "timeout"
        return "no end"

    began = time.monotonic()
    assert anyio.run(main) in ("timeout", "moved on")
    assert time.monotonic() - began < 10.0
    assert (probe.only("rate_limited").attributes or {})["otel_ratelimit.outcome"] == "cancelled"
    assert probe.total("otel_ratelimit.request.waiting") == 0


def test_throttles_between_broken_connections(caller: Caller, broken: Broken, instrumented: Instrumented) -> None:
    """Both kinds in one call, each by its own rules."""
    probe = instrumented()
    server = broken(reset_before_head, throttled, reset_after_head, throttled, ok)
    with contextlib.suppress(openai.APIConnectionError):
        assert caller(server, chat).choices
    assert server.connections == 5
    assert probe.names()["throttle"] == 2 == probe.total("otel_ratelimit.throttles")
