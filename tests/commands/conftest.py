"""How the commands are run here: in a process of their own, as a user runs them, or in this one where that proves the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_ratelimit.__main__ import main

Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """``otel-ratelimit ARGUMENTS`` in ``tmp_path``, in a process of its own, with nothing of OpenTelemetry in its environment."""

    def run(*arguments: str | Path, stdin: str | None = None, **environment: str) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "otel_ratelimit", *map(str, arguments)],
            env={**os.environ, "PYTHONWARNINGS": "default", "COLUMNS": "200", **environment},
            cwd=tmp_path,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The same in this process: status, standard output, standard error."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
