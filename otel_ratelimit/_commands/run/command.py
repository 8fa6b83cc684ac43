"""The parent's side: environment, program, status line, summary."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from otel_ratelimit._commands.exports import lines_of
from otel_ratelimit._commands.output import Line, complain, show
from otel_ratelimit._commands.run import child, process, summary
from otel_ratelimit._commands.run.figures import Figures
from otel_ratelimit._commands.run.status import StatusLine

BOOTSTRAP: Final = Path(__file__).parent / "bootstrap"


def run_program(options: argparse.Namespace) -> int:
    """Run it and tell what happened."""
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        complain("otel-ratelimit run: nothing to run: otel-ratelimit run -- python app.py")
        return 2
    problem = _problem(options)
    if problem:
        complain(f"otel-ratelimit run: {problem}")
        return 1
    directory = Path(tempfile.mkdtemp(prefix="otel-ratelimit-run-"))
    try:
        if options.file:
            (directory / "spans").mkdir()
        status = _run(options, program, directory)
        if options.file:
            try:
                _write_traces(directory / "spans", options.file)
            except OSError as error:
                complain(f"otel-ratelimit run: cannot write {options.file}: {error.strerror}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return process.end_as(status)


def _run(options: argparse.Namespace, program: list[str], directory: Path) -> int:
    line = StatusLine()

    def tick() -> None:
        if not options.no_status:
            with contextlib.suppress(OSError):  # the terminal has gone; the program has not
                line.show(_read(directory))

    began = time.monotonic()
    with process.held_back() as before, _server(options) as server:
        environment = _environment(options, directory, server)
        try:
            status = process.execute(program, environment, before, tick)
        except OSError as error:
            complain(f"otel-ratelimit run: cannot run {program[0]}: {error.strerror}")
            return 126 if isinstance(error, PermissionError) else 127
        finally:
            with contextlib.suppress(OSError):
                line.close()
        seconds = time.monotonic() - began
        told = [*_last_words(directory, seconds), *_unsent(directory)]
        if server is not None:
            told.append(Line(_served(server.counts)))
        with contextlib.suppress(OSError):
            show(told, sys.stderr)
    return status


def _served(counts: Any) -> str:
    return (
        f"  the local server counted {counts.requests} requests: {counts.succeeded} answered,"
        f" {counts.throttled} throttled"
    )


def _problem(options: argparse.Namespace) -> str | None:
    """Why it cannot even begin, so that no hour of work is lost at its end."""
    if options.file and not options.file.absolute().parent.is_dir():
        return f"--file: there is no folder {options.file.parent}"
    try:
        if options.local:
            import otel_ratelimit.testing  # noqa: PLC0415

            _ = otel_ratelimit.testing.ThrottlingServer
        if options.file:
            import opentelemetry.exporter.otlp.proto.common  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        extra, option = ("otlp", "--file") if "otlp" in str(error.name) else ("testing", "--local")
        return f"{option} needs {error.name}: pip install 'otel-ratelimit[{extra}]'"
    return None


@contextlib.contextmanager
def _server(options: argparse.Namespace) -> Iterator[Any]:
    if not options.local:
        yield None
        return
    from otel_ratelimit.testing import Limit, ThrottlingServer  # noqa: PLC0415 - needs the extra testing

    limits = [Limit("tokens", options.tokens_per_minute), Limit("requests", options.requests_per_minute)]
    with ThrottlingServer(limits, latency=options.latency) as server:
        yield server


def _environment(options: argparse.Namespace, directory: Path, server: Any) -> dict[str, str]:
    environment = dict(os.environ)
    path = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{BOOTSTRAP}{os.pathsep}{path}" if path else str(BOOTSTRAP)
    environment[child.DIRECTORY] = str(directory)
    if options.observe:
        environment["OTEL_RATELIMIT_MODE"] = "observe"
    if server is not None:
        environment["OPENAI_BASE_URL"] = server.base_url
        environment["OPENAI_API_KEY"] = environment["AZURE_OPENAI_API_KEY"] = "local"
        environment["AZURE_OPENAI_ENDPOINT"] = server.base_url.removesuffix("/v1")
        environment.setdefault("OPENAI_API_VERSION", "2024-10-21")
        # A proxy of the environment could not reach this machine's loopback.
        environment["NO_PROXY"] = ",".join(filter(None, (environment.get("NO_PROXY"), "127.0.0.1")))
    return environment


def _read(directory: Path) -> Figures:
    figures = Figures()
    for path in directory.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            figures.merge(json.loads(path.read_text("utf-8")))
    return figures


def _last_words(directory: Path, seconds: float) -> list[Line]:
    reports = len(list(directory.glob("*.json")))
    if reports:
        return summary.of(_read(directory), seconds, reports)
    lacking = sorted({path.read_text("utf-8") for path in directory.glob("*.missing")})
    if lacking:
        return [
            Line(f"otel-ratelimit: no figures: otel-ratelimit is not installed for {', '.join(lacking)}", "warning")
        ]
    if any(directory.glob("*.python")):
        return [Line("otel-ratelimit: the program made no call through the openai package.", "faint")]
    return [
        Line(
            "otel-ratelimit: no figures: no Python was started, or one with -I, -E or -S, which keeps others out.",
            "warning",
        )
    ]


def _unsent(directory: Path) -> list[Line]:
    """What could not be exported, of all processes."""
    found: dict[str, str] = {}
    for path in directory.glob(f"*{child.UNSENT}"):
        with contextlib.suppress(OSError, ValueError):
            found.update(json.loads(path.read_text("utf-8")))
    return [Line(f"  {line}", "warning") for line in lines_of(found, os.environ)]


def _write_traces(directory: Path, target: Path) -> None:
    """One OTLP JSON object of what the processes left, line by line."""
    document: dict[str, list[Any]] = {"resourceSpans": [], "resourceMetrics": []}
    for path in sorted(directory.glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            with contextlib.suppress(ValueError):  # the last line of a killed process
                for key, value in json.loads(line).items():
                    document[key] += value
    target.write_text(json.dumps(document), "utf-8")
    complain(f"  traces: {target} (otel-ratelimit report {target})")
