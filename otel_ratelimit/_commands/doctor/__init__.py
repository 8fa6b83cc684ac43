"""Check this environment: versions, hooks, settings, exporter, neighbours, Redis. Exit status 1 if something is broken."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

from otel_ratelimit._commands.output import Line, show
from otel_ratelimit._version import __version__

HELP = "check versions, hooks, settings, exporter and neighbours in this environment"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--json", action="store_true", help="for programs, and for bug reports; holds no key and no password"
    )
    parser.add_argument(
        "program",
        type=Path,
        nargs="?",
        metavar="PROGRAM",
        help="a Python file, or a folder: its source is read, not run, for whether it instruments",
    )


def run(options: argparse.Namespace) -> int:
    """0 if nothing is broken (warnings may be there), 1 otherwise."""
    from otel_ratelimit._commands.doctor.checkup import checkup  # noqa: PLC0415 - imports the SDKs

    checks = checkup(options.program)
    failures = sum(check.status == "failure" for check in checks)
    if options.json:
        document = {
            "otel_ratelimit": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "failures": failures,
            "checks": [check.as_json() for check in checks],
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return 1 if failures else 0
    area = ""
    for check in checks:
        if check.area != area:
            area = check.area
            show([Line(area, "heading")])
        show(check.lines())
    warnings = sum(check.status == "warning" for check in checks)
    said = f"{failures} broken, {warnings} to look at" if failures or warnings else "nothing to complain of"
    show([Line(), Line(said, "bad" if failures else "warning" if warnings else "good")])
    return 1 if failures else 0
