"""Starting and stopping, with connections open too: bounded in time, nothing left behind, quiet."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from otel_ratelimit.testing import (
    ThrottlingServer,
)
from otel_ratelimit.testing import server as server_module
from tests.helpers.eventually import eventually
from tests.testing.conftest import Caller, chat


def servers_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "throttling-server"]


def test_without_being_started_it_has_no_address() -> None:
    """The error says what to do; before the start, and after the stop."""
    server = ThrottlingServer()
    with pytest.raises(RuntimeError, match=r"not running: use it as a context manager, or call start\(\)"):
        _ = server.base_url
    with server:
        assert server.base_url == f"http://127.0.0.1:{server.port}/v1"
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.port


def test_a_port_that_is_taken() -> None:
    """The operating system's own error, nothing left open, and a start later on works."""
    with ThrottlingServer() as first:
        second = ThrottlingServer(port=first.port)
        before = servers_threads()
        with pytest.raises(OSError, match="in use"):
            second.start()
        assert servers_threads() == before
        with pytest.raises(RuntimeError, match="not running"):
            _ = second.port
    with second:
        assert Caller("sync")(second, chat).choices


def test_starting_twice_and_stopping_twice(server: ThrottlingServer) -> None:
    """The one is a mistake, the other harmless; what was counted stays, and goes on after a restart."""
    with pytest.raises(RuntimeError, match="runs already"):
        server.start()
    Caller("sync")(server, chat)
    server.stop()
    server.stop()
    server.start()
    Caller("sync")(server, chat)
    assert server.counts.requests == 2


def test_stopping_with_idle_connections(plain: ThrottlingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that keeps its connection open holds nobody up, and nothing is left."""
    monkeypatch.setattr(server_module, "GRACE", 60.0)  # what a request in flight would be given
    before = servers_threads()
    server = ThrottlingServer()
    server.start()
    with openai.OpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client:
        chat(client)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 30.0
        with pytest.raises(openai.APIConnectionError):
            chat(client)
    assert servers_threads() == before
    assert plain.base_url


@pytest.mark.parametrize("state", ["waiting for its answer", "half sent"])
def test_stopping_with_a_request_in_flight(state: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its connection is broken after a second; no thread is left, and no traceback on the log."""
    before = servers_threads()
    server = ThrottlingServer(latency=60.0)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        body = b"" if state == "half sent" else b"{}"
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n" + body)
        eventually(lambda: bool(server._server and server._server.server_state.tasks))
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 30.0  # of 60
        assert connection.recv(10) == b""
    assert servers_threads() == before
    assert server.counts.requests == 0
    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


def test_a_request_in_flight_has_a_second_to_end() -> None:
    """What is nearly done is answered."""
    server = ThrottlingServer(latency=0.4)
    server.start()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(Caller("sync"), server, chat)
        eventually(lambda: server.counts.peak_concurrency == 1)
        server.stop()
        assert answer.result().choices


def test_a_client_that_hangs_up_while_it_sends(server: ThrottlingServer, caplog: pytest.LogCaptureFixture) -> None:
    """Half a request is none; and the log is quiet about it."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 200\r\n\r\n{")
        eventually(lambda: bool(server._server and server._server.server_state.tasks))
    eventually(lambda: not (server._server and server._server.server_state.tasks))
    assert server.counts.requests == 0
    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []
