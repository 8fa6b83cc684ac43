"""The command line: ``otel-ratelimit``, also ``python -m otel_ratelimit``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from otel_ratelimit._version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 failed, 2 wrong usage, 130 Ctrl-C)."""
    parser = argparse.ArgumentParser(
        prog="otel-ratelimit", description="Rate limits of the OpenAI API: waited for, and seen."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="real calls against a throttling server on this machine, without and with")
    demo.add_argument(
        "--file",
        type=Path,
        default=Path("otel-ratelimit-demo.json"),
        help="where the traces go as OTLP JSON, unless OTEL_EXPORTER_OTLP_ENDPOINT is set (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    try:
        from otel_ratelimit._demo.command import demo as run_demo  # noqa: PLC0415 - needs the extra
    except ModuleNotFoundError as error:
        print(f"otel-ratelimit demo needs {error.name}: pip install 'otel-ratelimit[demo]'", file=sys.stderr)  # noqa: T201
        return 1
    try:
        return run_demo(options.file)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)  # noqa: T201
        return 130


if __name__ == "__main__":
    sys.exit(main())
