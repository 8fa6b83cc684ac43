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

from otel_ratelimit._commands.exports import SIGNALS, lines_of
from otel_ratelimit._commands.output import Line, complain, counted, show
from otel_ratelimit._commands.run import LATENCY, REQUESTS, TOKENS, child, process, summary
from otel_ratelimit._commands.run.figures import Figures, plain
from otel_ratelimit._commands.run.folder import UNSENT, Folder, GoneError
from otel_ratelimit._commands.run.status import StatusLine

BOOTSTRAP: Final = Path(__file__).parent / "bootstrap"

_LENT: Final = (
    Line(
        "  The program does not instrument itself: without `otel-ratelimit run` none of its calls would wait.", hang=4
    ),
    Line("  To keep it: import otel_ratelimit.auto  # noqa: F401", hang=4),
)


def run_program(options: argparse.Namespace) -> int:
    """Run it and tell what happened."""
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    wrong = "nothing to run: otel-ratelimit run -- python app.py" if not program else _wrong(options)
    problem = wrong or _lacking(options)
    if problem:
        complain(f"otel-ratelimit run: {problem}")
        return 2 if wrong else 1
    directory = tempfile.mkdtemp(prefix="otel-ratelimit-run-")
    folder = Folder(directory)
    try:
        if options.file:
            folder.inside("spans").make()
        began = time.monotonic()
        status = _run(options, program, directory, folder)
        if options.file:
            with _complaining(options.file):
                _write_traces(folder.inside("spans"), options.file)
        if options.json:
            with _complaining(options.json):
                reports = len(folder.names(".json"))
                document = summary.as_json(_read(folder), time.monotonic() - began, reports, status)
                options.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
        gave_up = _gave_up(folder) if options.fail_on_give_up else 0
        if status == 0 and gave_up:
            complain(
                f"otel-ratelimit run: exit status 1, because {counted(gave_up, 'call')} gave up (--fail-on-give-up)"
            )
            status = 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return process.end_as(status)


def _run(options: argparse.Namespace, program: list[str], directory: str, folder: Folder) -> int:
    line = StatusLine()

    def tick() -> None:
        if not options.no_status:
            with contextlib.suppress(Exception):  # no terminal, a folder full of nonsense: the program goes on
                line.show(_read(folder))

    began = time.monotonic()
    with process.held_back() as before, _server(options) as server:
        environment = _environment(options, directory, server)
        tick()  # so that the program never sees a row that it is about to lose
        try:
            status = process.execute(program, environment, before, tick)
        except OSError as error:
            complain(f"otel-ratelimit run: cannot run {program[0]}: {error.strerror}")
            return 126 if isinstance(error, PermissionError) else 127
        finally:
            with contextlib.suppress(OSError):
                line.close()
        seconds = time.monotonic() - began
        with contextlib.suppress(Exception):  # whatever it is, the status is the program's
            told = [*_last_words(folder, seconds), *_unsent(folder)]
            if server is not None:
                told.append(Line(_served(server.counts)))
            show(told, sys.stderr)
    return status


def _served(counts: Any) -> str:
    return (
        f"  the local server counted {counted(counts.requests, 'request')}: {counts.succeeded} answered,"
        f" {counts.throttled} throttled"
    )


@contextlib.contextmanager
def _complaining(target: Path) -> Iterator[None]:
    """A file that cannot be written in the end costs that file, and a line."""
    try:
        yield
    except (OSError, RecursionError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        complain(f"otel-ratelimit run: cannot write {target}: {reason}")


def _wrong(options: argparse.Namespace) -> str | None:
    """What makes no sense in the options, so that no hour of work is lost at its end."""
    for option in ("file", "json"):
        target = getattr(options, option)
        if target and not target.absolute().parent.is_dir():
            return f"--{option}: there is no folder {target.parent}"
        if target and target.is_dir():
            return f"--{option}: {target} is a folder; name a file in it"
    of_the_server = ("tokens_per_minute", "requests_per_minute", "latency", "refuse")
    given = [name for name in of_the_server if getattr(options, name) is not None]
    if given and not options.local:
        option = given[0].replace("_", "-")
        return (
            f"--{option} is of the local server, and the real API has limits of its own: add --local, or leave it out"
        )
    return None


def _lacking(options: argparse.Namespace) -> str | None:
    """The extra that would have to be installed."""
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
    from otel_ratelimit.testing import Limit, ThrottlingServer, throttle_reply  # noqa: PLC0415 - needs the extra testing

    limits = [
        Limit("tokens", options.tokens_per_minute or TOKENS),
        Limit("requests", options.requests_per_minute or REQUESTS),
    ]
    with ThrottlingServer(limits, latency=LATENCY if options.latency is None else options.latency) as server:
        server.script([throttle_reply(delay=1.0)] * (options.refuse or 0))
        yield server


def _environment(options: argparse.Namespace, directory: str, server: Any) -> dict[str, str]:
    environment = dict(os.environ)
    path = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{BOOTSTRAP}{os.pathsep}{path}" if path else str(BOOTSTRAP)
    environment[child.DIRECTORY] = directory
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


def _read(folder: Folder) -> Figures:
    figures = Figures()
    for name in folder.names(".json"):
        with contextlib.suppress(OSError, ValueError, RecursionError):  # not what the library writes
            figures.merge(json.loads(folder.read(name)))
    return figures


def _gave_up(folder: Folder) -> int:
    """Calls, as far as is known: the last words say where the folder is gone."""
    with contextlib.suppress(OSError):
        return _read(folder).total("give_ups").total()
    return 0


def _last_words(folder: Folder, seconds: float) -> list[Line]:
    try:
        reports = len(folder.names(".json"))
    except GoneError:
        return [Line("otel-ratelimit: no figures: the program has removed the folder for them.", "warning")]
    if reports:
        told = summary.of(_read(folder), seconds, reports)
        return [*told, *_LENT] if folder.names(child.LENT) else told
    lacking = set()
    for name in folder.names(".missing"):
        with contextlib.suppress(OSError, ValueError):
            lacking.add(plain(folder.read(name)))
    if lacking:
        who = ", ".join(sorted(lacking))
        return [Line(f"otel-ratelimit: no figures: otel-ratelimit is not installed for {who}", "warning")]
    if folder.names(".python"):
        return [Line("otel-ratelimit: the program made no call through the openai package.", "faint")]
    return [
        Line(
            "otel-ratelimit: no figures: no Python was started, or one with -I, -E or -S, which keeps others out.",
            "warning",
        )
    ]


def _unsent(folder: Folder) -> list[Line]:
    """What could not be exported, of all processes."""
    try:
        names = folder.names(UNSENT)
    except GoneError:
        return []  # the last words say so
    found: dict[str, str] = {}
    for name in names:
        with contextlib.suppress(OSError, ValueError, RecursionError):  # not what the library writes
            said = json.loads(folder.read(name))
            if isinstance(said, dict):
                found.update({signal: plain(said[signal]) for signal in SIGNALS if signal in said})
    return [Line(f"  {line}", "warning") for line in lines_of(found, os.environ)]


def _write_traces(folder: Folder, target: Path) -> None:
    """One OTLP JSON object of what the processes left, line by line."""
    document: dict[str, list[Any]] = {"resourceSpans": [], "resourceMetrics": []}
    for name in folder.names(".jsonl"):
        with contextlib.suppress(OSError, ValueError):
            for line in folder.read(name).splitlines():
                with contextlib.suppress(ValueError, RecursionError):  # the last line of a killed process
                    found = json.loads(line)
                    for key in document.keys() & (found if isinstance(found, dict) else {}).keys():
                        if isinstance(found[key], list):
                            document[key] += found[key]
    target.write_text(json.dumps(document), "utf-8")
    complain(f"  traces: {target} (otel-ratelimit report {target})")
