"""Limits as servers keep them: a token bucket, a fixed window, a sliding log. Seconds and amounts in, truth out.

Each refuses exactly what does not fit, and knows how long it is until the same request would fit if nothing else came.
Times are handed in and never run backward. What is said of a limit, and how, is decided elsewhere (``wording``).
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

TOLERANCE = 1e-6
"""Of an amount: a request that comes exactly when it fits must not be refused for the last bit of a float."""


class Limit(Protocol):
    """What may be used within ``window`` seconds."""

    capacity: float
    window: float

    def fits(self, now: float, cost: float) -> bool:
        """Whether ``cost`` may be used now."""

    def charge(self, now: float, cost: float) -> None:
        """Use ``cost``, whether it fits or not."""

    def delay(self, now: float, cost: float) -> float:
        """Seconds until ``cost`` fits; infinite where it never does."""

    def used(self, now: float) -> float:
        """What is used at present."""

    def reset(self, now: float) -> float:
        """Seconds until nothing is used any more."""

    def resize(self, now: float, factor: float) -> None:
        """The limit becomes another one."""


class Bucket:
    """Refilled continuously: ``capacity`` within ``window``."""

    def __init__(self, capacity: float, window: float) -> None:
        self.capacity = capacity
        self.window = window
        self._level = capacity
        self._at = 0.0

    @property
    def rate(self) -> float:
        return self.capacity / self.window

    def _advance(self, now: float) -> None:
        self._level = min(self.capacity, self._level + self.rate * (now - self._at))
        self._at = now

    def fits(self, now: float, cost: float) -> bool:
        self._advance(now)
        return cost <= self._level + TOLERANCE

    def charge(self, now: float, cost: float) -> None:
        self._advance(now)
        self._level -= cost

    def delay(self, now: float, cost: float) -> float:
        self._advance(now)
        if cost > self.capacity + TOLERANCE:
            return math.inf
        return max(cost - self._level, 0.0) / self.rate

    def used(self, now: float) -> float:
        self._advance(now)
        return self.capacity - self._level

    def reset(self, now: float) -> float:
        return self.used(now) / self.rate

    def resize(self, now: float, factor: float) -> None:
        self._advance(now)
        self.capacity *= factor
        self._level *= factor


class FixedWindow:
    """A counter that starts anew every ``window`` seconds, the first time after ``phase``."""

    def __init__(self, capacity: float, window: float, phase: float = 0.0) -> None:
        self.capacity = capacity
        self.window = window
        self._phase = phase
        self._number = -1
        self._used = 0.0

    def _advance(self, now: float) -> None:
        number = math.floor((now - self._phase) / self.window + 1e-9)
        if number > self._number:
            self._number = number
            self._used = 0.0

    def _left(self, now: float) -> float:
        """Seconds of the present window that are left."""
        return self._phase + (self._number + 1) * self.window - now

    def fits(self, now: float, cost: float) -> bool:
        self._advance(now)
        return self._used + cost <= self.capacity + TOLERANCE

    def charge(self, now: float, cost: float) -> None:
        self._advance(now)
        self._used += cost

    def delay(self, now: float, cost: float) -> float:
        if cost > self.capacity + TOLERANCE:
            return math.inf
        return 0.0 if self.fits(now, cost) else self._left(now)

    def used(self, now: float) -> float:
        self._advance(now)
        return self._used

    def reset(self, now: float) -> float:
        self._advance(now)
        return self._left(now)

    def resize(self, now: float, factor: float) -> None:
        self.capacity *= factor


class SlidingWindow:
    """A log: what was used counts for ``window`` seconds from its own time on."""

    def __init__(self, capacity: float, window: float) -> None:
        self.capacity = capacity
        self.window = window
        self._log: deque[tuple[float, float]] = deque()
        self._used = 0.0

    def _advance(self, now: float) -> None:
        while self._log and self._log[0][0] + self.window <= now + 1e-9:
            self._used -= self._log.popleft()[1]
        if not self._log:
            self._used = 0.0

    def fits(self, now: float, cost: float) -> bool:
        self._advance(now)
        return self._used + cost <= self.capacity + TOLERANCE

    def charge(self, now: float, cost: float) -> None:
        self._advance(now)
        self._log.append((now, cost))
        self._used += cost

    def delay(self, now: float, cost: float) -> float:
        self._advance(now)
        if cost > self.capacity + TOLERANCE:
            return math.inf
        used = self._used
        wait = 0.0
        for at, amount in self._log:
            if used + cost <= self.capacity + TOLERANCE:
                break
            used -= amount
            wait = at + self.window - now
        return wait

    def used(self, now: float) -> float:
        self._advance(now)
        return self._used

    def reset(self, now: float) -> float:
        self._advance(now)
        return self._log[-1][0] + self.window - now if self._log else 0.0

    def resize(self, now: float, factor: float) -> None:
        self.capacity *= factor


def limit_of(kind: str, capacity: float, window: float, phase: float = 0.0) -> Limit:
    """A limit by the name of its kind: ``"bucket"``, ``"fixed"`` or ``"sliding"``."""
    if kind == "bucket":
        return Bucket(capacity, window)
    if kind == "fixed":
        return FixedWindow(capacity, window, phase)
    return SlidingWindow(capacity, window)
