"""The last row of the terminal, taken from the program and given back.

The program is told that the terminal has one row less (``TIOCSWINSZ``), so that editors, pagers and dashboards leave the last one
alone; a scroll region keeps ordinary output out of it, set anew with each draw, since programs reset it. A small process of its
own gives the row back if we are killed: nobody else would, and the shell would go on with a row too few.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from typing import Final

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = termios = None  # type: ignore[assignment]

SAVE: Final = "\x1b7"
RESTORE: Final = "\x1b8"

SMALLEST: Final = 5
"""Rows. In a smaller terminal there is no room to spare."""

_KEEPER: Final = """
import fcntl, os, signal, struct, sys, termios
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGTTOU"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
if not os.read(0, 1):
    size = bytearray(fcntl.ioctl(2, termios.TIOCGWINSZ, bytes(8)))
    rows = struct.unpack_from("H", size)[0] + 1
    struct.pack_into("H", size, 0, rows)
    fcntl.ioctl(2, termios.TIOCSWINSZ, bytes(size))
    os.write(2, f"\\x1b7\\x1b[r\\x1b[{rows};1H\\x1b[2K\\x1b8".encode())
"""
"""Reads one byte; gets none if the other end of its pipe was closed by the system."""


class LastRow:
    """Taken at the first ``draw``; ``close`` gives it back."""

    def __init__(self) -> None:
        self._told = 0  # rows that the program is told; 0 while nothing is taken
        self._keeper: subprocess.Popen[bytes] | None = None

    def size(self) -> tuple[int, int]:
        """Columns and rows as the terminal really has them.

        Raises:
            OSError: standard error is no terminal any longer.
        """
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
        return columns, rows + 1 if rows == self._told else rows

    def draw(self, text: str, rows: int) -> None:
        """Write the text into the last of so many rows, and leave the cursor where it was; one write."""
        first = ""
        if (
            rows - 1 != self._told
        ):  # at the beginning, and after the window was resized, which tells the program the whole of it
            # A line feed first: the cursor may be in the row that is taken away.
            first = "\n\x1b[1A" if not self._told else ""
            self._tell(rows - 1)
            self._told = rows - 1
            self._watch()
        region = f"\x1b[1;{rows - 1}r"
        sys.stderr.write(f"{first}{SAVE}{region}\x1b[{rows};1H\x1b[2K\x1b[7m{text}\x1b[0m{RESTORE}")
        sys.stderr.flush()

    def close(self) -> None:
        """Give the row back, and let the keeper go."""
        if self._told:
            with contextlib.suppress(OSError):
                _, rows = self.size()
                if rows == self._told + 1:  # else the window was resized meanwhile: it is told its size already
                    self._tell(rows)
                sys.stderr.write(f"{SAVE}\x1b[r\x1b[{rows};1H\x1b[2K{RESTORE}")
                sys.stderr.flush()
        self._told = 0
        if self._keeper is not None and self._keeper.stdin is not None:
            with contextlib.suppress(OSError):
                self._keeper.stdin.write(b".")
                self._keeper.stdin.close()
            self._keeper.wait()
            self._keeper = None

    def _tell(self, rows: int) -> None:
        if termios is None:
            return
        with contextlib.suppress(OSError):
            size = bytearray(fcntl.ioctl(sys.stderr.fileno(), termios.TIOCGWINSZ, bytes(8)))
            struct.pack_into("H", size, 0, rows)
            fcntl.ioctl(sys.stderr.fileno(), termios.TIOCSWINSZ, bytes(size))

    def _watch(self) -> None:
        if self._keeper is None and termios is not None:
            with contextlib.suppress(OSError):
                command = [sys.executable, "-I", "-S", "-c", _KEEPER]
                self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 - our own lines
