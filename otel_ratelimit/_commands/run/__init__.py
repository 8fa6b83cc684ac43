"""Run a program unchanged, see live what is throttled and who waits, and read at the end what it cost. Needs no Collector."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "run a program unchanged, with a live status line and a summary at the end"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--observe", action="store_true", help="only look: the program behaves as it would without")
    parser.add_argument(
        "--no-status",
        action="store_true",
        help="no status line; there is none anyway where standard error is no terminal",
    )
    parser.add_argument(
        "--file", type=Path, help="leave the traces here as OTLP JSON, for otel-ratelimit report or Jaeger"
    )
    parser.add_argument(
        "--local",
        action="store_true",
        help="against a throttling server on this machine instead of the real API: needs no key and costs nothing",
    )
    parser.add_argument(
        "--tokens-per-minute", type=float, default=20_000, metavar="N", help="its token limit (default: %(default)s)"
    )
    parser.add_argument(
        "--requests-per-minute", type=float, default=500, metavar="N", help="its request limit (default: %(default)s)"
    )
    parser.add_argument(
        "--latency", type=float, default=0.2, metavar="S", help="its answers' latency in seconds (default: %(default)s)"
    )
    parser.add_argument(
        "program", nargs=argparse.REMAINDER, metavar="-- PROGRAM ...", help="what to run, with its arguments"
    )


def run(options: argparse.Namespace) -> int:
    """The program's own exit status; 126 or 127 where it cannot be started, as a shell has it."""
    from otel_ratelimit._commands.run.command import run_program  # noqa: PLC0415 - only this command needs it

    return run_program(options)
