"""Connections to a Redis that read no more than an answer can hold, and no longer than an exchange may take.

redis-py reads what a server announces, half a gigabyte if it says so, and its time limit is for one read: a byte now and then
goes on for ever. Here both are counted from the request on. For single servers; redis-py makes those of Sentinel and Cluster by
itself.
"""

from __future__ import annotations

import time
from typing import Any, Final

from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

MOST_BYTES: Final = 1 << 18
"""After one request: four times the longest answer that is taken (``redis_client.MOST_ANSWER``), and what errors say."""


class _Measured:
    """A socket, measured from the last request on."""

    def __init__(self, sock: Any, seconds: float) -> None:
        self._sock = sock
        self._seconds = seconds
        self._bytes = 0
        self._end = time.monotonic() + seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, *arguments: Any) -> Any:
        self._bytes = 0
        self._end = time.monotonic() + self._seconds
        return self._sock.sendall(*arguments)

    def recv(self, *arguments: Any) -> Any:
        self._look()
        data = self._sock.recv(*arguments)
        self._bytes += len(data)
        return data

    def recv_into(self, *arguments: Any) -> Any:
        self._look()
        length = self._sock.recv_into(*arguments)
        self._bytes += length
        return length

    def _look(self) -> None:
        if self._bytes > MOST_BYTES:
            raise ConnectionError("the answer is too long")
        if time.monotonic() > self._end:
            raise TimeoutError("the answer takes too long")


def _measured(base: Any) -> Any:
    """A kind of connection of redis-py, measured."""

    def connect(self: Any) -> Any:
        sock = base._connect(self)
        return sock if self.socket_timeout is None else _Measured(sock, self.socket_timeout)

    return type(f"Measured{base.__name__}", (base,), {"_connect": connect})


KINDS: Final[dict[str, Any]] = {
    "redis": _measured(Connection),
    "rediss": _measured(SSLConnection),
    "unix": _measured(UnixDomainSocketConnection),
}
"""By the scheme of a URL."""
