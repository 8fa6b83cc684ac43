"""The command line: ``otel-ratelimit``, also ``python -m otel_ratelimit``."""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import shutil
import sys
from collections.abc import Sequence

from otel_ratelimit._commands import demo, doctor, explain, report
from otel_ratelimit._commands import run as run_program
from otel_ratelimit._commands.output import complain
from otel_ratelimit._version import __version__

COMMANDS = {"demo": demo, "run": run_program, "explain": explain, "report": report, "doctor": doctor}


def parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = argparse.ArgumentParser(
        prog="otel-ratelimit", description="Rate limits of the OpenAI API: waited for, and seen."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="{" + ",".join(COMMANDS) + "}")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.HELP, description=command.__doc__))
    return parser


def _meant(words: Sequence[str]) -> str:
    """What somebody wanted who typed a first word that is no command."""
    word = words[0]
    if word.endswith(".py") or shutil.which(word):
        program = ["python", *words] if word.endswith(".py") else words
        return f"to run a program: otel-ratelimit run -- {shlex.join(program)}"
    if word.endswith((".json", ".jsonl")):
        return f"for a page of it: otel-ratelimit report {shlex.quote(word)}"
    close = difflib.get_close_matches(word.lower(), COMMANDS, 1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(COMMANDS)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 failed, 2 wrong usage, 130 Ctrl-C; ``run``: the program's)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        complain(f"otel-ratelimit: {words[0]!r} is no command; {_meant(words)}")
        return 2
    options = parser().parse_args(words)
    if options.command is None:
        parser().print_help()
        return 0
    try:
        status: int = COMMANDS[options.command].run(options)
        return status
    except KeyboardInterrupt:
        complain("stopped")
        return 130
    except BrokenPipeError:  # `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
