"""Starts the program and stays out of its way: its own standard streams, its own signals, its own exit status.

A signal that somebody sends to us is passed on. One from the terminal (Ctrl-C) has reached the program already, which is in
the same process group, and must not arrive twice: a second Ctrl-C means "now!" to many programs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

TICK: Final = 0.25
"""Seconds between two calls of ``tick``."""

_PASSED_ON: Final = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)
_RESTORED: Final = tuple(getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signal, name))
"""Python ignores these, and what is ignored would be inherited."""

EXACT: Final = hasattr(signal, "sigtimedwait") and hasattr(os, "posix_spawnp")
"""Whether the system tells who sent a signal (Linux and the BSDs but not macOS, not Windows)."""


@contextlib.contextmanager
def held_back() -> Iterator[Any]:
    """Hold the signals back that are to be passed on. Threads that are started inside inherit that, and so do not take them."""
    if not EXACT:
        yield None
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, signal.SIGCHLD})
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def execute(program: list[str], environment: Mapping[str, str], before: Any, tick: Callable[[], None]) -> int:
    """Run the program to its end, inside of ``held_back``, whose value is ``before``.

    Returns its exit status; the negative number of the signal that killed it.

    Raises:
        OSError: it could not be started.
    """
    if EXACT:
        return _watched(program, environment, before, tick)
    return _handled(program, environment, tick)


def _watched(program: list[str], environment: Mapping[str, str], before: Any, tick: Callable[[], None]) -> int:
    pid = os.posix_spawnp(program[0], program, environment, setsigmask=before, setsigdef=_RESTORED)
    while True:
        received = signal.sigtimedwait({*_PASSED_ON, signal.SIGCHLD}, TICK)
        # si_code: above 0 it comes from the kernel, here from the terminal; see sigaction(2).
        if received is not None and received.si_signo != signal.SIGCHLD and received.si_code <= 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, received.si_signo)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if received is None:
            tick()


def _handled(program: list[str], environment: Mapping[str, str], tick: Callable[[], None]) -> int:
    r"""Where nobody tells who sent a signal: Ctrl-C and Ctrl-\ count as the terminal's while we are in its foreground."""
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: object) -> None:
        from_terminal = number in (signal.SIGINT, getattr(signal, "SIGQUIT", None)) and in_foreground()
        if process is not None and not from_terminal:
            process.send_signal(number)

    earlier = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        with subprocess.Popen(program, env=environment) as process:  # noqa: S603 - what the user typed
            while True:
                try:
                    return process.wait(TICK)
                except subprocess.TimeoutExpired:
                    tick()
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def in_foreground() -> bool:
    """Whether the terminal, if standard error is one, is ours to write on."""
    if not sys.stderr.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (AttributeError, OSError):  # Windows; no controlling terminal
        return True


def end_as(status: int) -> int:
    """Exit as the program did: by the same signal, if one killed it, so that a shell or a supervisor sees no difference."""
    if status >= 0:
        return status
    number = -status
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # its core is enough
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(OSError, ValueError):  # SIGKILL and SIGSTOP take no handler
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
