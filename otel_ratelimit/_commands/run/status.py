"""The status line: what is throttled, who waits and until when, how much is left.

Written to standard error, only where that is a terminal and we are in its foreground.
"""

from __future__ import annotations

import time
from typing import Final

from otel_ratelimit._commands.output import counted
from otel_ratelimit._commands.run.figures import Figures
from otel_ratelimit._commands.run.process import in_foreground
from otel_ratelimit._commands.run.terminal import SMALLEST, LastRow

NAME: Final = "otel-ratelimit"
WITH_NAME: Final = 60
"""Columns. Narrower ones are left to the figures."""

SEPARATOR: Final = " | "


class StatusLine:
    """Drawn at the first ``show``, removed by ``close``."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._row = LastRow()

    def show(self, figures: Figures) -> None:
        """Draw it, or draw it anew."""
        if not in_foreground():
            return
        columns, rows = self._row.size()
        if rows >= SMALLEST:
            self._row.draw(line(figures, time.monotonic() - self._began, columns - 1, time.time()), rows)

    def close(self) -> None:
        """Give the row back."""
        self._row.close()


def line(figures: Figures, seconds: float, width: int, now: float) -> str:
    """As much as fits; where there is little room who waits is shown rather than what was throttled, and so on.

    Args:
        figures: of all processes.
        seconds: since the program began.
        width: columns.
        now: seconds since the epoch, for the next turn.
    """
    waiting = f"{figures.waiting} waiting"
    if figures.waiting and figures.next_turn > now:
        waiting += f", next turn in {figures.next_turn - now:.1f} s"
    gave_up = figures.total("give_ups").total()
    # In the order in which they are shown; the number is how dispensable each is where there is no room.
    parts = [
        (4, f"{seconds:.0f} s"),
        (3, counted(figures.calls, "call")),
        (1, f"{figures.total('throttles').total()} throttled"),
        (0, waiting),
        *([(2, f"{gave_up} gave up")] if gave_up else []),
        *(
            (5, f"{name}: {remaining:,.0f} of {limit:,.0f} {kind} left")
            for name, kind, limit, remaining in _levels(figures)
        ),
    ]
    title = f" {NAME}  " if width >= WITH_NAME else " "
    room = width - len(title) - 1
    shown: set[int] = set()
    for index, (_, text) in sorted(enumerate(parts), key=lambda part: part[1][0]):
        taken = len(text) + (len(SEPARATOR) if shown else 0)
        if taken > room and shown:
            break
        shown.add(index)
        room -= taken
    return (title + SEPARATOR.join(text for index, (_, text) in enumerate(parts) if index in shown) + " ")[:width]


def _levels(figures: Figures) -> list[tuple[str, str, float, float]]:
    """What is left of each limit, the least first: that is the one that is waited for."""
    found = [
        (name, kind, limit, remaining)
        for name, model in figures.models.items()
        for kind, (limit, remaining) in model.levels.items()
    ]
    return sorted(found, key=lambda level: level[3] / level[2] if level[2] else 0.0)
