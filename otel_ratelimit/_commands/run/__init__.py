"""Run a program unchanged, see live what is throttled and who waits, and read at the end what it cost. Needs no Collector."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Final

HELP = "run a program unchanged, with a live status line and a summary at the end"

TOKENS: Final = 20_000
REQUESTS: Final = 500
LATENCY: Final = 0.2
LONGEST: Final = 3600.0
"""Seconds. A latency beyond it is a mistake of units."""


def amount(text: str) -> float:
    """A limit on the command line.

    Raises:
        argparse.ArgumentTypeError: it is no number above 0.
    """
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"a number above 0 is needed; got {text!r}")
    return number


def count(text: str) -> int:
    """A number of requests on the command line.

    Raises:
        argparse.ArgumentTypeError: it is no whole number from 0 to 1,000.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 4 or int(text) > 1000:
        raise argparse.ArgumentTypeError(f"a whole number from 0 to 1000 is needed; got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """A latency on the command line.

    Raises:
        argparse.ArgumentTypeError: it is no number of seconds from 0 to an hour.
    """
    number = _number(text)
    if not 0 <= number <= LONGEST:
        raise argparse.ArgumentTypeError(f"seconds from 0 to {LONGEST:.0f} are needed; got {text!r}")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


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
    for option, what, (default, unit) in (
        ("--tokens-per-minute", "its token limit", (TOKENS, "N")),
        ("--requests-per-minute", "its request limit", (REQUESTS, "N")),
    ):
        parser.add_argument(option, type=amount, metavar=unit, help=f"{what} (default: {default}); only with --local")
    parser.add_argument(
        "--latency",
        type=seconds,
        metavar="S",
        help=f"its answers' latency in seconds (default: {LATENCY}); only with --local",
    )
    parser.add_argument(
        "--refuse",
        type=count,
        metavar="N",
        help="it throttles the first N requests, whatever its limits, for a second each; only with --local",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures of the summary here as JSON, for CI"
    )
    parser.add_argument(
        "--fail-on-give-up",
        action="store_true",
        help="exit status 1 where the program's own is 0, but a call of it was given up",
    )
    parser.add_argument(
        "program", nargs=argparse.REMAINDER, metavar="-- PROGRAM ...", help="what to run, with its arguments"
    )


def run(options: argparse.Namespace) -> int:
    """The program's own exit status; 126 or 127 where it cannot be started, as a shell has it."""
    from otel_ratelimit._commands.run.command import run_program  # noqa: PLC0415 - only this command needs it

    return run_program(options)
