"""Refusals whose body has no end, comes late or never, or becomes gigabytes: bounded, and what is raised is the SDK's own.

The SDK alone closes a refused stream unread where it tries again, and reads all of it where it does not. ``python -m
tests.trust.bodies`` prints time and memory of the same attacks beside those of the SDK alone.
"""

from __future__ import annotations

import importlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest
from openai import _base_client

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit._drivers import bounded
from tests.drivers.conftest import Caller, chat
from tests.trust import bodies
from tests.trust.broken_server import BrokenServer, head, ok, read_request
from tests.trust.test_network_faults import as_the_sdk_alone

Broken = Callable[..., BrokenServer]


def libraries() -> list[str]:
    """What this SDK can send with; openai 3 takes a client of either."""
    if int(openai.__version__.split(".")[0]) < 3:
        return ["httpx"]
    return ["httpx2", "httpx"]


LIBRARIES = libraries()


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own backoff begins at 20 ms instead of 500."""
    monkeypatch.setattr(_base_client, "INITIAL_RETRY_DELAY", 0.02)


def refusal(flavour: str, library: str, server: BrokenServer, **options: Any) -> openai.RateLimitError:
    """The exception that a stream ends in."""
    http = importlib.import_module(library)
    common = {"base_url": server.base_url, "api_key": "test", "max_retries": 1, **options}
    if flavour == "sync":
        with (
            openai.OpenAI(**common, http_client=http.Client()) as client,
            pytest.raises(openai.RateLimitError) as caught,
        ):
            chat(client, stream=True)
        return caught.value

    async def main() -> openai.RateLimitError:
        async with openai.AsyncOpenAI(**common, http_client=http.AsyncClient()) as client:
            with pytest.raises(openai.RateLimitError) as caught:
                await chat(client, stream=True)
            return caught.value

    return anyio.run(main, backend=flavour)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory as Linux tells it")
@pytest.mark.parametrize("library", LIBRARIES)
def test_bombs(library: str) -> None:
    """128 MiB in a few bytes, in every encoding and in two at a time: the memory of a process does not grow by a quarter of that
    over all of them, while the SDK alone takes more than all of it for one."""
    attacks = [bodies.encoded(name, bodies.bomb(name, 128)) for name in bodies.ENCODINGS]
    found = bodies.measured(attacks, library, ours=True)
    assert [one["end"] for one in found] == ["RateLimitError (rate_limit_exceeded)"] * len(attacks)
    assert sum(one["mebibytes"] for one in found) < 64
    (alone,) = bodies.measured(attacks[:1], library, ours=False)
    assert alone["mebibytes"] > 128


@pytest.mark.parametrize("flavour", ["sync", "asyncio"])
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("encoding", [*bodies.ENCODINGS, "raw deflate", "identity"])
def test_honest_encodings(encoding: str, library: str, flavour: str, broken: Broken) -> None:
    """A compressed error is read as before: the exception says what it says with the SDK alone."""
    if (encoding, library) == ("zstd, br", "httpx"):
        pytest.skip("httpx raises DecodingError at the end of these two")
    body = bodies.ERROR if encoding == "identity" else bodies.bomb(encoding, 0)
    server = broken(bodies.encoded(encoding, body))
    alone = refusal(flavour, library, server, max_retries=0)
    otel_ratelimit.instrument(policy=Policy(max_wait=0.001))
    ours = refusal(flavour, library, server)
    assert (ours.message, ours.code, ours.body) == (alone.message, alone.code, alone.body)
    assert ours.response.content == alone.response.content == bodies.ERROR
    assert b"".join(ours.response.iter_bytes()) == bodies.ERROR  # its own methods are its own again


@pytest.mark.parametrize("flavour", ["sync", "asyncio", "trio"])
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", bodies.SLOW)
def test_bodies_that_come_late_or_never(
    name: str, library: str, flavour: str, broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read until the deadline and no longer, also where not one byte of the body comes; the servers would go on for a minute."""
    monkeypatch.setattr(bounded, "MAX_SECONDS", 0.3)
    monkeypatch.setattr(bodies, "lasts", 60.0)
    otel_ratelimit.instrument(policy=Policy(max_wait=0.001))
    began = time.monotonic()
    refusal(flavour, library, broken(bodies.SLOW[name]))
    assert time.monotonic() - began < 30.0


@pytest.mark.parametrize("body", ["stalls", "breaks_off"])
def test_a_body_that_cannot_be_read_costs_no_call(
    body: str, caller: Caller, broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK alone does not even look at it and tries again; the exception of a failed read must not be the call's end."""
    monkeypatch.setattr(bounded, "MAX_SECONDS", 0.3)
    monkeypatch.setattr(bodies, "lasts", 20.0)

    def streamed(client: Any) -> Any:
        return chat(client, stream=True)

    end, _ = as_the_sdk_alone(caller, broken, [getattr(bodies, body), ok], streamed)
    assert end in ("Stream", "AsyncStream")


def test_a_broken_encoding_costs_no_call(caller: Caller, broken: Broken) -> None:
    """The same for a body that is not what its header says, or ends in the middle."""

    def streamed(client: Any) -> Any:
        return chat(client, stream=True)

    for encoding in ("gzip", "deflate", "br", "zstd"):
        for wrong in (b"\xff" * 100, bodies.bomb(encoding, 0)[:-9]):
            otel_ratelimit.uninstrument()
            end, _ = as_the_sdk_alone(caller, broken, [bodies.encoded(encoding, wrong), ok], streamed)
            assert end in ("Stream", "AsyncStream")


@pytest.mark.parametrize("name", bodies.HEADS)
def test_heads(name: str, caller: Caller, broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that drips or has no end is the HTTP client's to bear: all is as with the SDK alone."""
    monkeypatch.setattr(bodies, "lasts", 0.6)
    end, _ = as_the_sdk_alone(caller, broken, [bodies.HEADS[name]], max_retries=1)
    assert end == "APIConnectionError"


def test_many_encodings(broken: Broken) -> None:
    """A thousand within each other, named in the header: not one is undone."""
    otel_ratelimit.instrument(policy=Policy(max_wait=0.001))
    server = broken(bodies.encoded(", ".join(["gzip"] * 1000), b"\0" * 100))
    assert refusal("sync", LIBRARIES[-1], server).body in ("", None)


def test_the_connection_is_as_before(broken: Broken) -> None:
    """Kept alive and used again, with a time limit of its own."""

    def twice(connection: socket.socket) -> None:
        for _ in range(2):
            read_request(connection)
            whole = head(bodies.REFUSED, len(bodies.ERROR)).replace(b"connection: close\r\n", b"")
            connection.sendall(whole + bodies.ERROR)

    otel_ratelimit.instrument(policy=Policy(max_wait=0.001, pacing=False))
    server = broken(twice)
    with openai.OpenAI(base_url=server.base_url, api_key="test", max_retries=1) as client:
        for _ in range(2):
            with pytest.raises(openai.RateLimitError) as caught:
                chat(client, stream=True)
            assert "read" not in vars(caught.value.response.extensions["network_stream"])
    assert server.connections == 1


def test_the_deadline_is_of_one_thread() -> None:
    """When a body ends, its connection may be another thread's before the deadline is taken off: that one reads undisturbed."""

    class Stream:
        def read(self, max_bytes: int, timeout: float | None = None) -> float | None:
            return timeout

    class Response:
        def __init__(self) -> None:
            self.extensions = {"network_stream": Stream()}
            self.http_version = "HTTP/1.1"

    response = Response()
    stream: Any = response.extensions["network_stream"]
    other: list[Any] = []
    with bounded._hurried(response, lambda: 2.0):
        assert stream.read(1, timeout=600) == 2.0
        thread = threading.Thread(target=lambda: other.append(stream.read(1, timeout=600)))
        thread.start()
        thread.join()
    assert other == [600]
    assert stream.read(1, timeout=600) == 600
    with bounded._hurried(response, lambda: 0.0), pytest.raises(TimeoutError):
        stream.read(1)
