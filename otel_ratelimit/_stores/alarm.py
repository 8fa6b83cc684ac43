"""What wakes a thread that sleeps.

Owns one lock of C, held while there is nothing to wake for. ``threading.Event`` is Python code around a lock: an exception that
is thrown into a thread in the middle of it (Ctrl-C, a timeout by ``PyThreadState_SetAsyncExc``) leaves that lock taken, and then
all that wake or sleep by it stop for ever. Here nothing comes between the lock's being taken and its being given back.
"""

from __future__ import annotations

import contextlib
import threading


class Alarm:
    """For one sleeper, and for any number of threads that may wake it."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def sleep(self, seconds: float) -> None:
        """Until so many seconds have passed, or until it is woken; at once where it was woken since it last slept."""
        self._lock.acquire(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))

    def wake(self) -> None:
        """From any thread, at any time; twice is once."""
        with contextlib.suppress(RuntimeError):  # it is awake already
            self._lock.release()
