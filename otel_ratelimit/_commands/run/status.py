"""The status line: the last row of the terminal, below a scroll region that the program's own output stays in.

Written to standard error, only where that is a terminal and we are in its foreground. Each update is one write, and leaves
the cursor where it was.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Final

from otel_ratelimit._commands.run.figures import Figures
from otel_ratelimit._commands.run.process import in_foreground

_SAVE: Final = "\x1b7"
_RESTORE: Final = "\x1b8"
_SMALLEST: Final = 5
"""Rows. In a smaller terminal there is no room to spare."""


class StatusLine:
    """Drawn at the first ``show``, removed by ``close``."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._rows = 0

    def show(self, figures: Figures) -> None:
        """Draw it, or draw it anew."""
        if not in_foreground():
            return
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
        if rows < _SMALLEST:
            return
        out = ""
        if rows != self._rows:
            # A line feed first: the cursor may be in the row that is taken away.
            out += f"\n{_SAVE}\x1b[1;{rows - 1}r{_RESTORE}\x1b[1A"
            self._rows = rows
        text = line(figures, time.monotonic() - self._began)[: columns - 1]
        out += f"{_SAVE}\x1b[{rows};1H\x1b[2K\x1b[7m{text}\x1b[0m{_RESTORE}"
        sys.stderr.write(out)
        sys.stderr.flush()

    def close(self) -> None:
        """Give the row back."""
        if self._rows and in_foreground():
            sys.stderr.write(f"{_SAVE}\x1b[r\x1b[{self._rows};1H\x1b[2K{_RESTORE}")
            sys.stderr.flush()
        self._rows = 0


def line(figures: Figures, seconds: float) -> str:
    """What is throttled, who waits, how much is left."""
    parts = [
        f"{seconds:.0f} s",
        f"{figures.calls} calls",
        f"{figures.total('throttles').total()} throttled",
        f"{figures.waiting} waiting",
    ]
    gave_up = figures.total("give_ups").total()
    if gave_up:
        parts.append(f"{gave_up} gave up")
    parts += [
        f"{name}: {remaining:,.0f} of {limit:,.0f} {kind} left"
        for name, model in figures.models.items()
        for kind, (limit, remaining) in model.levels.items()
    ]
    return " otel-ratelimit  " + " | ".join(parts) + " "
