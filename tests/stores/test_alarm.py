"""What wakes a thread that sleeps, and that nothing thrown into the thread can break it."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

import pytest

from otel_ratelimit._stores.alarm import Alarm


def test_it_is_woken_once_for_any_number_of_wakes() -> None:
    """Before the sleep as well as in it; then it sleeps again."""
    alarm = Alarm()
    alarm.wake()
    alarm.wake()
    alarm.sleep(60.0)
    threading.Timer(0.05, alarm.wake).start()
    alarm.sleep(60.0)
    began = time.monotonic()
    alarm.sleep(0.05)
    alarm.sleep(-1.0)
    assert time.monotonic() - began >= 0.05


class _Interrupt(Exception):
    """Thrown into a thread, wherever it is."""


def _storm(one: Callable[[], object], over: Callable[[], bool]) -> None:
    while not over():
        try:
            while not over():
                one()
        except _Interrupt:
            continue


# It may also hit a thread before and after its work: Python tells of that by itself.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.timeout(60)
def test_exceptions_that_are_thrown_into_its_threads_stop_nobody() -> None:
    """Two threads sleep and wake while exceptions hit them; with ``threading.Event`` one of them soon waits for ever."""
    alarm = Alarm()
    ended = threading.Event()
    sleeper = threading.Thread(target=_storm, args=(lambda: alarm.sleep(0.001), ended.is_set), daemon=True)
    waker = threading.Thread(target=_storm, args=(alarm.wake, ended.is_set), daemon=True)
    for thread in (sleeper, waker):
        thread.start()
    for _ in range(1_000):
        for thread in (sleeper, waker):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Interrupt))
        time.sleep(0.0005)
    ended.set()
    for thread in (sleeper, waker):
        thread.join(20.0)
        assert not thread.is_alive()
