"""A real Redis (or Valkey) of our own: on a free port or a socket, without a disk, ended by its process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import redis

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
MISSING = "no redis-server or valkey-server is installed (Debian: apt-get install redis-server)"


HIGHEST_PORT = 55_535
"""A node of a cluster also listens 10,000 ports above its own, and ends at once where there is none."""


def free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            if port <= HIGHEST_PORT:
                return port


class RedisServer:
    """A server that can be killed, stopped and started again, always empty.

    Args:
        arguments: further ones for its command line.
    """

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        self.directory = tempfile.mkdtemp(prefix="otel-ratelimit-redis-")
        self.socket = str(Path(self.directory) / "redis.sock")
        self.arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """A client to look inside with, given over to the caller."""
        return redis.Redis(port=self.port, decode_responses=True)

    def start(self) -> None:
        assert PROGRAM is not None, MISSING
        self.process = subprocess.Popen(
            [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.socket, "--save", "",
             "--appendonly", "no", "--dir", self.directory, *self.arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 20.0
        while time.monotonic() < deadline:
            try:
                with self.client() as client:
                    client.ping()
                return
            except (redis.exceptions.AuthenticationError, redis.exceptions.ResponseError):
                return  # it wants a password: it is there
            except redis.exceptions.ConnectionError:
                time.sleep(0.02)
        raise TimeoutError("redis-server did not start")

    def kill(self) -> None:
        """Gone at once, as in a crash."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def freeze(self) -> None:
        """It holds its connections open and answers nothing."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
