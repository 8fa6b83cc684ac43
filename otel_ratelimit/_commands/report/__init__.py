"""From an OTLP JSON file to one self-contained HTML page: timeline of the calls, tokens left, waits."""

from __future__ import annotations

import argparse
from pathlib import Path

from otel_ratelimit._commands.output import complain

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
    """0 if the page was written, 1 if the file has nothing of otel_ratelimit, 2 if it cannot be read."""
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
        complain(f"otel-ratelimit report: {options.file} is no OTLP JSON: {error}")
        return 2
    if not recording.calls:
        complain(
            f"otel-ratelimit report: {options.file} has {recording.spans} spans, none of them of otel_ratelimit: a call that"
            " was neither throttled nor kept waiting makes none"
        )
        return 1
    try:
        output.write_text(
            page.render(recording, options.file.name), "utf-8", "replace"
        )  # JSON can hold half a character
    except OSError as error:
        complain(f"otel-ratelimit report: cannot write {error.filename}: {error.strerror}")
        return 2
    complain(f"{len(recording.calls)} calls, {sum(call.throttles for call in recording.calls)} throttles: {output}")
    return 0
