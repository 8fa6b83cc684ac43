"""Threads on a virtual clock: one runs at a time, the rest are parked, and time moves only when none can run.

Each thread has a baton (a real lock) and runs while it holds it. A thread that sleeps or waits puts its time of waking on a heap
and hands the baton to the thread whose time comes first; that time becomes the present. So a run is as deterministic as an event
loop's, and takes no time at all.

How code under test is brought onto this clock: the process that plays a world (a fork of its own, see ``processes``) replaces
``time.sleep``, by which the SDK waits between its retries, and the ``Alarm`` by which the plugin's synchronous driver waits
(``otel_ratelimit._drivers.sync``); the transport sleeps by :meth:`Scheduler.sleep`; the plugin's clock is handed in. Locks
stay real: a lock that is held while its holder waits would block for good here, and is no less wrong on a real clock.
"""

from __future__ import annotations

import _thread
import heapq
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from otel_ratelimit._drivers import sync

DRIVER: Any = sync

STEP = 1e-9
"""Seconds that each change of threads, and each look at the clock, takes at least: a wait that rounding has made too short must
see time move, as it does on a real clock."""

PATIENCE = 600.0
"""Real seconds after which a run is taken for blocked."""


class TimeIsUpError(BaseException):
    """The world has ended. No ``Exception``, so that the code under test passes it through, as it does a Ctrl-C."""


class _Slot:
    """One thread."""

    def __init__(self) -> None:
        self.baton = _thread.allocate_lock()
        self.baton.acquire()
        self.turn = 0


class Scheduler:
    """The clock, and whose turn it is."""

    def __init__(self, until: float) -> None:
        self.now = 0.0
        self._until = until
        self._wakeups: list[tuple[float, int, _Slot, int]] = []
        self._order = 0
        self._slots: list[_Slot] = []
        self._mine = threading.local()
        self._done = threading.Event()
        self._faults: list[BaseException] = []

    def time(self) -> float:
        """A look at the clock."""
        self.now += STEP
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self._park(self.now + max(seconds, 0.0))

    def run(self, functions: Sequence[Callable[[], None]]) -> None:
        """Run each in a thread of its own, to their ends."""
        self._slots = [_Slot() for _ in functions]
        for slot, function in zip(self._slots, functions, strict=True):
            self._wake(slot, 0.0)
            threading.Thread(target=self._main, args=(slot, function), daemon=True).start()
        real = time.sleep, DRIVER.Alarm
        time.sleep = self.sleep  # type: ignore[assignment]
        DRIVER.Alarm = partial(_Alarm, self)
        try:
            self._hand_over()
            if not self._done.wait(PATIENCE):
                raise RuntimeError("a thread is blocked on something real")
        finally:
            time.sleep, DRIVER.Alarm = real
        if self._faults:
            raise self._faults[0]

    def _main(self, slot: _Slot, function: Callable[[], None]) -> None:
        self._mine.slot = slot
        slot.baton.acquire()
        try:
            function()
        except TimeIsUpError:
            pass
        except BaseException as fault:
            self._faults.append(fault)
        self._slots.remove(slot)
        if self._slots:
            self._hand_over()
        else:
            self._done.set()

    def _wake(self, slot: _Slot, at: float) -> None:
        self._order += 1
        heapq.heappush(self._wakeups, (at, self._order, slot, slot.turn))

    def _hand_over(self) -> None:
        """Give the baton to the thread whose time comes first."""
        while self._wakeups:
            at, _, slot, turn = heapq.heappop(self._wakeups)
            if turn == slot.turn:  # else it has been woken otherwise since
                self.now = max(self.now + STEP, at)
                break
        else:
            slot = self._slots[0]  # every thread waits for another: the world ends for one after the other
            self.now = max(self.now, self._until + STEP)
        slot.turn += 1
        slot.baton.release()

    def _park(self, until: float | None) -> None:
        """Wait until then, or until something wakes this thread."""
        slot: _Slot = self._mine.slot
        if until is not None:
            self._wake(slot, until)
        self._hand_over()
        slot.baton.acquire()
        if self.now > self._until:
            raise TimeIsUpError


class _Alarm:
    """``otel_ratelimit._stores.alarm.Alarm`` on the virtual clock."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._woken = False
        self._waiting: list[_Slot] = []

    def wake(self) -> None:
        self._woken = True
        for slot in self._waiting:
            self._scheduler._wake(slot, self._scheduler.now)

    def sleep(self, seconds: float) -> None:
        if not self._woken:
            scheduler = self._scheduler
            slot: Any = scheduler._mine.slot
            self._waiting.append(slot)
            try:
                scheduler._park(scheduler.now + seconds)
            finally:
                self._waiting.remove(slot)
        self._woken = False
