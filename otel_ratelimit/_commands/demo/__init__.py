"""``otel-ratelimit demo``: real SDK calls against a real throttling server on loopback, without and with the plugin."""

from __future__ import annotations

import argparse
from pathlib import Path

from otel_ratelimit._commands.output import complain

HELP = "real calls against a throttling server on this machine, without and with otel_ratelimit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--file",
        type=Path,
        default=Path("otel-ratelimit-demo.json"),
        help="where the traces go as OTLP JSON, unless OTEL_EXPORTER_OTLP_ENDPOINT is set (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """0 if every call with the plugin was answered."""
    try:
        from otel_ratelimit._commands.demo.command import demo  # noqa: PLC0415 - needs the extra
    except ModuleNotFoundError as error:
        complain(f"otel-ratelimit demo needs {error.name}: pip install 'otel-ratelimit[demo]'")
        return 1
    return demo(options.file)
