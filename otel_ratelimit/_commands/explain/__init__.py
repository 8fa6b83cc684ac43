"""Paste a 429 (curl -i output, a traceback, a JSON error, log lines): which limit, how long, whether to retry, what helps."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path

from otel_ratelimit._commands.output import complain, show

HELP = "paste a 429 (curl output, traceback, JSON, log) and read what it means"

MAX_INPUT = 16 * 1024 * 1024
"""Characters that are read of a file or of standard input: the end of a longer log is what matters at night."""

_LIKE_A_PATH = re.compile(r"[\w./~-]{1,200}\.(?:log|txt|json|jsonl|out|err)\Z")
"""A word that is no file but was meant as one: better an error than "no throttle in this text"."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "what",
        nargs="*",
        metavar="FILE or TEXT",
        help="a file, or the text itself; nothing or - reads standard input (end it with Ctrl-D)",
    )
    parser.add_argument("--json", action="store_true", help="for programs: one JSON object for each kind of throttle")


def run(options: argparse.Namespace) -> int:
    """0 if a throttle was found, 1 if not, 2 if there was nothing to read."""
    # Imported here: the parser of the command line alone needs none of it.
    from otel_ratelimit._commands.explain import lines, meaning, own, paste  # noqa: PLC0415

    try:
        text = _read(options.what)
    except OSError as error:
        complain(f"otel-ratelimit explain: cannot read {error.filename}: {error.strerror}")
        return 2
    if not text.strip():
        complain("otel-ratelimit explain: nothing to read: give a file, the text itself, or pipe it in")
        return 2
    text, told = own.take_out(text)
    found, other = meaning.explain(paste.read(text))
    if options.json:
        for told_of in [one.as_json() for one in found] + [one.as_json() for one in told]:
            sys.stdout.write(json.dumps(told_of) + "\n")
    else:
        show(lines.of(found, other, told))
    return 0 if found or told else 1


def _read(what: list[str]) -> str:
    if not what or what == ["-"]:
        if sys.stdin.isatty():
            complain("Paste the error, then press Ctrl-D on a line of its own.")
        return sys.stdin.buffer.read().decode("utf-8", "replace")[-MAX_INPUT:]
    if len(what) == 1 and (os.path.isfile(what[0]) or _LIKE_A_PATH.match(what[0])):
        return Path(what[0]).read_text("utf-8", "replace")[-MAX_INPUT:]
    return " ".join(what)
