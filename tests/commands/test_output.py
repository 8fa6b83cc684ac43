"""What a person sees: wrapped and coloured on a terminal, as it is anywhere else."""

from __future__ import annotations

import io
import sys

import pytest

from otel_ratelimit._commands.output import Line, show, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


LINES = [Line("a heading", "heading"), Line("  - " + "word " * 30, hang=4)]


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour, and rows no wider than it, the later ones moved in."""
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    show(LINES, terminal)
    heading, *rows = terminal.getvalue().splitlines()
    assert heading == "\x1b[1ma heading\x1b[0m"
    assert len(rows) > 3
    assert all(len(row) <= 40 for row in rows)
    assert rows[0].startswith("  - word")
    assert all(row.startswith("    word") for row in rows[1:])


def test_without_rich_it_is_the_same_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich is an extra."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    terminal = Terminal()
    show(LINES, terminal)
    assert terminal.getvalue().startswith("a heading\n  - word")
    assert "\x1b" not in terminal.getvalue()


def test_in_a_pipe_lines_stay_whole() -> None:
    """For grep."""
    pipe = io.StringIO()
    show(LINES, pipe)
    assert pipe.getvalue().splitlines() == [line.text for line in LINES]


def test_a_table_is_aligned() -> None:
    """Numbers flush right."""
    assert [line.text for line in table([("a", "1", "x"), ("bbb", "22", "")], right=(1,))] == [
        "  a     1  x",
        "  bbb  22",
    ]
    assert table([]) == []
