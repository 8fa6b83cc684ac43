"""Lines for a person: in colour where ``rich`` is installed and the stream is a terminal, plain text anywhere else.

The words are the same in both; a style only adds colour, so nothing is lost in a pipe, a log or a screen reader.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TextIO

Style = Literal["", "heading", "good", "warning", "bad", "faint"]

_COLOURS: Final = {"heading": "bold", "good": "green", "warning": "yellow", "bad": "bold red", "faint": "dim"}
_WIDEST: Final = 110
"""Characters. Longer lines are hard to read."""


@dataclass(frozen=True, slots=True)
class Line:
    """One paragraph. ``hang`` is how far its second and later rows are moved in where it has to be wrapped."""

    text: str = ""
    style: Style = ""
    hang: int = 0


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), indent: int = 2) -> list[Line]:
    """Rows in columns, two blanks between them; the columns in ``right`` are set flush right."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(
            Line((" " * indent + "  ".join(cells)).rstrip(), hang=indent + sum(widths[:-1]) + 2 * len(widths[1:]))
        )
    return lines


def show(lines: Iterable[Line], stream: TextIO | None = None) -> None:
    """Write the lines; to standard output unless told otherwise."""
    stream = sys.stdout if stream is None else stream
    width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)
    console = _console(stream)
    for line in lines:
        rows = _wrapped(line, width) if stream.isatty() else [line.text]
        for row in rows:
            if console is None or not line.style:
                stream.write(row + "\n")
            else:
                console.print(row, style=_COLOURS[line.style], markup=False, highlight=False, soft_wrap=True)
    stream.flush()


def counted(number: int, thing: str) -> str:
    """``1 call``, ``2 calls``."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def complain(message: str) -> None:
    """One line on standard error."""
    sys.stderr.write(message + "\n")


def _wrapped(line: Line, width: int) -> list[str]:
    if len(line.text) <= width:
        return [line.text]
    indent = len(line.text) - len(line.text.lstrip())
    hang = " " * max(indent, line.hang)
    return textwrap.wrap(
        line.text.lstrip(), width, initial_indent=" " * indent, subsequent_indent=hang, break_on_hyphens=False
    ) or [""]


def _console(stream: TextIO):  # type: ignore[no-untyped-def]  # rich is an extra
    if not stream.isatty():
        return None
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        return None
    return Console(file=stream)
