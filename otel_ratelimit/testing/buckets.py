"""The server's own limits: token buckets that refill continuously, with OpenAI's arithmetic. Pure: time is an argument.

The delay in a refusal is ``(used + requested - limit) / (limit / window)``, truncated to whole milliseconds, as recomputed
from real messages.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["requests", "tokens", "project_tokens"]


@dataclass(frozen=True)
class Limit:
    """One limit of the server.

    Args:
        kind: what it counts.
        amount: how much of it fits, which is also what a window refills.
        window: seconds in which an empty bucket is full again: 60 for a minute, 86400 for a day.
        used: how much of it is in use at the start.
        quantum: where set, the limit is enforced over so many seconds: no more than that share of it fits at once.
    """

    kind: Kind
    amount: float
    window: float = 60.0
    used: float = 0.0
    quantum: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("requests", "tokens", "project_tokens"):
            raise ValueError(f"Limit.kind must be requests, tokens or project_tokens; got {self.kind!r}")
        if not self.amount > 0 or not self.window > 0:
            raise ValueError("Limit.amount and Limit.window must be more than 0")


@dataclass(frozen=True)
class Refusal:
    """Why a request was refused: the limit, what was used of it, what was asked, and when to come back (seconds)."""

    limit: Limit
    used: int
    requested: int
    delay: float

    @property
    def too_large(self) -> bool:
        """Whether it never fits, however long one waits."""
        return self.requested > self.limit.amount


@dataclass(frozen=True)
class State:
    """What the headers say of one limit: what remains, and seconds until it is full again."""

    limit: Limit
    remaining: int
    reset: float


class _Bucket:
    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        share = 1.0 if limit.quantum is None else min(1.0, limit.quantum / limit.window)
        self.capacity: Final = limit.amount * share
        self.level = max(0.0, self.capacity - limit.used * share)
        self.at = now

    def refill(self, now: float) -> None:
        elapsed = max(0.0, now - self.at)
        self.level = min(self.capacity, self.level + elapsed * self.limit.amount / self.limit.window)
        self.at = max(self.at, now)


class Buckets:
    """All limits side by side: a request is admitted if it fits every one, and then charged to every one.

    Args:
        limits: the limits.
        now: seconds on any clock that goes forward; later arguments are on the same one.
        charge_refused: whether a refused request counts against the request limit, as at OpenAI.
    """

    def __init__(self, limits: Iterable[Limit], now: float, *, charge_refused: bool = True) -> None:
        self._buckets = [_Bucket(limit, now) for limit in limits]
        self._charge_refused = charge_refused

    def admit(self, now: float, tokens: int) -> Refusal | None:
        """Charge a request of so many tokens; or say why not."""
        worst: Refusal | None = None
        for bucket in self._buckets:
            bucket.refill(now)
            requested = 1 if bucket.limit.kind == "requests" else tokens
            missing = requested - bucket.level
            if missing > 1e-9:
                delay = math.floor(missing / (bucket.limit.amount / bucket.limit.window) * 1000 + 1e-6) / 1000
                used = round(bucket.capacity - bucket.level)
                refusal = Refusal(bucket.limit, used, requested, delay)
                if worst is None or refusal.too_large or (delay > worst.delay and not worst.too_large):
                    worst = refusal
        for bucket in self._buckets:
            if bucket.limit.kind == "requests" and (worst is None or self._charge_refused):
                bucket.level = max(bucket.level - 1, 0.0) if worst is not None else bucket.level - 1
            elif worst is None:
                bucket.level -= tokens
        return worst

    def take(self, now: float, kind: Kind, amount: float) -> None:
        """Somebody else uses a part of the limit."""
        for bucket in self._buckets:
            bucket.refill(now)
            if bucket.limit.kind == kind:
                bucket.level = max(0.0, bucket.level - amount)

    def change(self, now: float, limit: Limit) -> None:
        """Replace the limit of the same kind and window by another size, keeping the share that is left."""
        for index, bucket in enumerate(self._buckets):
            if (bucket.limit.kind, bucket.limit.window) == (limit.kind, limit.window):
                bucket.refill(now)
                changed = _Bucket(limit, now)
                changed.level = changed.capacity * bucket.level / bucket.capacity
                self._buckets[index] = changed
                return
        self._buckets.append(_Bucket(limit, now))

    def states(self, now: float) -> list[State]:
        """What remains of each limit."""
        found = []
        for bucket in self._buckets:
            bucket.refill(now)
            rate = bucket.limit.amount / bucket.limit.window
            found.append(State(bucket.limit, math.floor(bucket.level + 1e-9), (bucket.capacity - bucket.level) / rate))
        return found
