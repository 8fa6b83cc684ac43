"""From an OTLP JSON file to one self-contained HTML page: timeline of the calls, tokens left, waits."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from otel_ratelimit._commands.output import complain, counted

HELP = "make an HTML page of a file of traces (OTLP JSON)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="what demo or run --file left, or what the Collector's file exporter writes (JSON lines)",
    )
    parser.add_argument(
        "--output", type=Path, help="where the page goes (default: FILE with .html instead of its ending)"
    )


def run(options: argparse.Namespace) -> int:
    """0 if the page was written, also where it says that nothing was throttled; 2 if the file cannot be read."""
    from otel_ratelimit._commands.report import otlp, page  # noqa: PLC0415 - only this command needs it

    output: Path = options.output or options.file.with_suffix(".html")
    if output == options.file:
        complain(f"otel-ratelimit report: {output} would be overwritten: name another with --output")
        return 2
    try:
        recording = otlp.read(options.file)
    except OSError as error:
        complain(f"otel-ratelimit report: cannot read {error.filename}: {error.strerror}")
        return 2
    except otlp.NotOTLPError as error:
        complain(f"otel-ratelimit report: {options.file} is no OTLP JSON: {error}{_expected(options.file)}")
        return 2
    try:
        output.write_text(
            page.render(recording, options.file.name), "utf-8", "replace"
        )  # JSON can hold half a character
    except OSError as error:
        complain(f"otel-ratelimit report: cannot write {error.filename}: {error.strerror}")
        return 2
    throttles = sum(call.throttles for call in recording.calls)
    said = (
        f"{counted(len(recording.calls), 'call')}, {counted(throttles, 'throttle')}"
        if recording.calls
        else "nothing was throttled"
    )
    complain(f"{said}: {output}")
    return 0


def _expected(file: Path) -> str:
    """What leads to a page, where the file is of another kind altogether: the program itself, most often."""
    if file.suffix in (".json", ".jsonl"):
        return ""
    program = str(file) if file.suffix == ".py" else "app.py"
    return (
        "\n  A page is made of traces that were written before, in two steps:\n"
        f"  otel-ratelimit run --file traces.json -- python {shlex.quote(program)}\n"
        "  otel-ratelimit report traces.json"
    )
