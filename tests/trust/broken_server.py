"""A loopback server below HTTP: each connection gets the next behaviour of a script, the last one for ever."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable

from otel_ratelimit.testing import answers

Behaviour = Callable[[socket.socket], None]

ANSWER = json.dumps(answers.chat({"messages": []})).encode()
THROTTLE = json.dumps(
    {"error": {"message": "Rate limit reached. Please try again in 20ms.", "code": "rate_limit_exceeded"}}
).encode()


class BrokenServer:
    """Listens on loopback until closed. ``connections`` counts what came."""

    def __init__(self, *script: Behaviour, port: int = 0) -> None:
        self._script = list(script)
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No more connections; those that are open end with their behaviour."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            behaviour = self._script.pop(0) if len(self._script) > 1 else self._script[0]
            self.connections += 1
            threading.Thread(target=self._play, args=(behaviour, connection), daemon=True).start()

    @staticmethod
    def _play(behaviour: Behaviour, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(20)
            behaviour(connection)


def read_request(connection: socket.socket) -> None:
    """Take the whole request: closing with bytes unread would be a reset."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)


def head(status: str, length: int | None, *headers: str) -> bytes:
    """The head of an answer after which the connection closes."""
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", "connection: close", *headers]
    if length is not None:
        lines.append(f"content-length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def answers_with(status: str, body: bytes, *headers: str) -> Behaviour:
    """A whole answer."""

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head(status, len(body), *headers) + body)

    return behave


def cut(data: bytes, *, reset: bool = True) -> Behaviour:
    """Send this much and no more; ``reset`` by RST, else by an orderly end."""

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(data)
        if reset:
            time.sleep(0.02)  # else the reset overtakes the data
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return behave


def drips(data: bytes, seconds: float) -> Behaviour:
    """The same bytes, one by one over so many seconds."""

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        for index in range(len(data)):
            connection.sendall(data[index : index + 1])
            time.sleep(seconds / len(data))

    return behave


def endless(status: str, piece: bytes, seconds: float) -> Behaviour:
    """A body that does not end (by itself: it does after so many seconds, so that a failing test ends too)."""

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head(status, None, "transfer-encoding: chunked"))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            if len(piece) < 1000:
                time.sleep(0.02)

    return behave


ok = answers_with("200 OK", ANSWER)
throttled = answers_with("429 Too Many Requests", THROTTLE)
reset_before_head = cut(b"")
reset_in_head = cut(b"HTTP/1.1 200 OK\r\ncontent-ty")
reset_after_head = cut(head("200 OK", 100))
ends_before_head = cut(b"", reset=False)
truncated = cut(head("200 OK", len(ANSWER)) + ANSWER[:40], reset=False)
half_json = answers_with("200 OK", ANSWER[:40])
