"""The status line: what stands in it at every width, and what becomes of the terminal's last row."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path

import pytest

from otel_ratelimit._commands.run.figures import Figures
from otel_ratelimit._commands.run.status import line

NOW = 1_000_000.0
MODEL = {"gen_ai.request.model": "gpt-4o"}

SHORT = " otel-ratelimit  8 s | 1 call | 3 throttled | 2 waiting, next turn in 1.2 s "


def busy() -> Figures:
    """One call has ended, two wait, a limit is nearly used up and another is not."""
    figures = Figures()
    figures.add("call_duration", 1.0, MODEL, NOW)
    figures.add("throttles", 3, {**MODEL, "otel_ratelimit.limit.kind": "tokens"}, NOW)
    figures.add("waiting", 2, MODEL, NOW)
    figures.of("gpt-4o").next_turn = NOW + 1.24
    figures.level("gpt-4o", "requests", 500, 450)
    figures.level("gpt-4o", "tokens", 20_000, 120)
    return figures


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (30, " 2 waiting, next turn in 1.2 s "),
        (39, " 2 waiting, next turn in 1.2 s "),
        (79, SHORT),
        (
            119,
            f"{SHORT}| gpt-4o: 120 of 20,000 tokens left ",
        ),
        (
            159,
            f"{SHORT}| gpt-4o: 120 of 20,000 tokens left | gpt-4o: 450 of 500 requests left ",
        ),
    ],
)
def test_what_fits(width: int, text: str) -> None:
    """The waits stay longest; of the limits the one that has least left comes first."""
    assert line(busy(), 8.4, width, NOW) == text[:width]


def test_no_width_is_too_small() -> None:
    """It is cut, never wrapped."""
    for width in range(1, 200):
        assert len(line(busy(), 8.4, width, NOW)) <= width


def test_a_turn_that_is_over_is_none() -> None:
    """And a program that does nothing yet says so in words that agree."""
    assert "next turn" not in line(busy(), 8.4, 119, NOW + 2)
    assert line(Figures(), 0.4, 79, NOW) == " otel-ratelimit  0 s | 0 calls | 0 throttled | 0 waiting "


def test_the_turns_of_processes_are_one() -> None:
    """The nearest counts."""
    total = Figures()
    for turn in (5.0, 0.0, 3.0):
        one = Figures()
        one.of("gpt-4o").next_turn = turn
        total.merge(one.as_json())
    assert total.next_turn == 3.0


class Terminal:
    """``otel-ratelimit run`` on a terminal of its own, 24 rows and 80 columns."""

    def __init__(self, program: Path) -> None:
        self.shown = b""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            while os.get_terminal_size(0).lines != 24:  # until the test has set it
                time.sleep(0.01)
            os.execv(
                sys.executable, [sys.executable, "-m", "otel_ratelimit", "run", "--", sys.executable, str(program)]
            )
        self.resize(24)

    def resize(self, rows: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))

    def rows(self) -> int:
        rows, *_ = struct.unpack("HHHH", fcntl.ioctl(self.terminal, termios.TIOCGWINSZ, bytes(8)))
        return int(rows)

    def read_until(self, wanted: bytes) -> None:
        """Read on until something has been shown; fails after a minute."""
        end = time.monotonic() + 60
        while wanted not in self.shown:
            assert time.monotonic() < end, self.shown
            self.read(0.1)

    def read(self, seconds: float) -> None:
        """What is shown within so many seconds, if anything."""
        if select.select([self.terminal], [], [], seconds)[0]:
            with contextlib.suppress(OSError):  # the other side has closed it
                self.shown += os.read(self.terminal, 65536)

    def end(self) -> int:
        """Wait for it; the exit status."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            self.read(0.05)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("it does not end")


SIZES = """
import os, signal, sys, time
print("rows", os.get_terminal_size().lines, flush=True)
signal.signal(signal.SIGWINCH, lambda *_: print("resized", os.get_terminal_size().lines, flush=True))
sys.stdin.readline()
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(SIZES)
    return path


def test_the_program_is_told_one_row_less(program: Path) -> None:
    """From its start, and after the window was resized; in the end the terminal has what it had."""
    terminal = Terminal(program)
    terminal.read_until(b"rows 23")
    assert terminal.rows() == 23
    terminal.resize(40)
    terminal.read_until(b"resized 39")
    terminal.read_until(b"\x1b[40;1H")
    os.write(terminal.terminal, b"\n")
    assert terminal.end() == 0
    assert terminal.rows() == 40
    assert terminal.shown.rindex(b"\x1b[r") > terminal.shown.rindex(b"\x1b[1;39r")


def test_the_scroll_region_is_set_again_and_again(program: Path) -> None:
    """Programs reset it (``reset``, editors when they end); with the next draw it is back."""
    terminal = Terminal(program)
    terminal.read_until(b"rows 23")
    end = time.monotonic() + 60
    while len(re.findall(rb"\x1b\[1;23r\x1b\[24;1H", terminal.shown)) < 4:
        assert time.monotonic() < end
        terminal.read(0.1)
    os.write(terminal.terminal, b"\n")
    assert terminal.end() == 0


def test_the_row_is_given_back_when_we_are_killed(program: Path) -> None:
    """SIGKILL leaves no last word; the terminal has its rows again and no scroll region, and the program goes on."""
    terminal = Terminal(program)
    terminal.read_until(b"rows 23")
    os.kill(terminal.pid, signal.SIGKILL)
    terminal.read_until(b"\x1b[r\x1b[24;1H")
    assert terminal.rows() == 24
    assert terminal.end() == -signal.SIGKILL
    os.write(terminal.terminal, b"\n")
