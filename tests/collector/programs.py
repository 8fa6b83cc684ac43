"""The real programs: where they are, and one of them as a process on free loopback ports."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

CONFIGURATION = Path(__file__).parent.parent.parent / "collector-config"

BUILT = ("collector", "jaeger", "phoenix", "prometheus3")
"""Programs that tools.sh keeps outside of the checkout."""

START_TIMEOUT = 240.0
STOP_TIMEOUT = 20.0
"""Seconds; far more than either takes."""


def find(name: str) -> str | None:
    """The path of a program: one of Debian's, or one of ``BUILT`` if it has been. None where it is not there."""
    if name in BUILT:
        found = subprocess.run(
            ["bash", str(CONFIGURATION / "tools.sh"), "find", name], capture_output=True, text=True, check=False
        )
        return found.stdout.strip() or None
    return shutil.which(name)


def missing(*names: str) -> str | None:
    """What to say of programs that are not there, and how to get them; None where all are."""
    lacking = [name for name in names if find(name) is None]
    if not lacking:
        return None
    steps = sorted({name if name in BUILT else "packages" for name in lacking})
    return f"not installed: {', '.join(lacking)} (bash collector-config/tools.sh {' and '.join(steps)})"


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def get(url: str, accept: str = "application/json") -> str:
    """The body of an answer."""
    request = urllib.request.Request(url, headers={"accept": accept})
    with urllib.request.urlopen(request, timeout=10) as response:
        text: str = response.read().decode()
        return text


def get_json(url: str) -> Any:
    """The body of an answer as an object."""
    return json.loads(get(url))


class Program:
    """A process that is ready once ``ready_url`` answers 200, and is ended by its own id. A context manager.

    Args:
        command: what to run; its first part is looked up with ``find``.
        log: a file that takes what it prints.
        ready_url: asked until it answers.
        environment: added to this process's own, less every ``OTEL`` and ``JAEGER`` variable of it.
    """

    def __init__(
        self, command: Sequence[str], log: Path, ready_url: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = command
        self.log = log
        self.ready_url = ready_url
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL", "JAEGER"))}
        self.environment = {
            **inherited,
            "OTEL_TRACES_SAMPLER": "always_off",
            **(environment or {}),
        }  # no traces of Jaeger's own
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Program:
        path = find(self.command[0])
        if path is None:
            raise FileNotFoundError(missing(self.command[0]))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [path, *self.command[1:]], stdout=log, stderr=subprocess.STDOUT, env=self.environment
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask it to end, and wait."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        end = time.monotonic() + START_TIMEOUT
        while self._process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError):
                get(self.ready_url)
                return
            time.sleep(0.05)
        tail = self.log.read_text(errors="replace")[-3000:]
        raise RuntimeError(f"{self.command[0]} did not become ready:\n{tail}")
