"""The server's own limits: token buckets that refill continuously, with OpenAI's arithmetic. Pure: time is an argument.

The delay in a refusal is ``(used + requested - limit) / (limit / window)``, truncated to whole milliseconds, as recomputed
from real messages. A refused request is charged to the request limit before its delay is worked out: then a program that
comes back after the delay finds room, and the messages read as OpenAI's do ("Limit 3, Used 3, Requested 1 ... 20s").
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

Kind = Literal["requests", "tokens", "project_tokens"]

TOLERANCE: Final = 1e-6
"""Units of a limit (or milliseconds of a delay) that rounding of floating-point numbers may cost; far below one."""


@dataclass(frozen=True)
class Limit:
    """One limit of the server.

    Args:
        kind: what it counts.
        amount: how much of it fits, which is also what a window refills.
        window: seconds in which an empty bucket is full again: 60 for a minute, 86400 for a day.
        used: how much of it is in use at the start.
        quantum: where set, the limit is enforced over so many seconds: no more than that share of it fits at once. The
            headers and the numbers of a message go on speaking of the whole limit, so a refusal may come while plenty
            of it seems to be left, as OpenAI's documentation warns; the delay is right all the same.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    kind: Kind
    amount: float
    window: float = 60.0
    used: float = 0.0
    quantum: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"Limit.kind must be one of {', '.join(get_args(Kind))}; got {self.kind!r}")
        for name, value in (("amount", self.amount), ("window", self.window), ("quantum", self.quantum)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"Limit.{name} must be more than 0 and finite; got {value!r}")
        if not 0 <= self.used < math.inf:
            raise ValueError(f"Limit.used must be 0 or more and finite; got {self.used!r}")

    @property
    def share(self) -> float:
        """The part of ``amount`` that fits at once: all of it, but for a quantum."""
        return 1.0 if self.quantum is None else min(1.0, self.quantum / self.window)

    @property
    def rate(self) -> float:
        """What is refilled in a second."""
        return self.amount / self.window


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
        return self.requested > self.limit.amount * self.limit.share + TOLERANCE


@dataclass(frozen=True)
class State:
    """What the headers say of one limit: what remains, and seconds until it is full again."""

    limit: Limit
    remaining: int
    reset: float


class _Bucket:
    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        self.capacity: Final = limit.amount * limit.share
        self.level = max(0.0, self.capacity - limit.used * limit.share)
        self.at = now

    def refill(self, now: float) -> None:
        elapsed = max(0.0, now - self.at)
        self.level = min(self.capacity, self.level + elapsed * self.limit.rate)
        self.at = max(self.at, now)

    def lacks(self, amount: int) -> float:
        return amount - self.level

    def charge(self, amount: float) -> None:
        self.level = max(0.0, self.level - amount)

    def refuse(self, requested: int) -> Refusal:
        delay = math.floor(self.lacks(requested) / self.limit.rate * 1000 + TOLERANCE) / 1000
        return Refusal(self.limit, round(self.capacity - self.level), requested, delay)


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
        """Charge a request of so many tokens; or say why not, by the limit that holds it up longest."""
        costs = [(bucket, 1 if bucket.limit.kind == "requests" else tokens) for bucket in self._buckets]
        for bucket in self._buckets:
            bucket.refill(now)
        short = [(bucket, cost) for bucket, cost in costs if bucket.lacks(cost) > TOLERANCE]
        for bucket, cost in costs:
            if not short or (self._charge_refused and bucket.limit.kind == "requests"):
                bucket.charge(cost)
        refusals = [bucket.refuse(cost) for bucket, cost in short]
        return max(refusals, key=lambda refusal: (refusal.too_large, refusal.delay), default=None)

    def take(self, now: float, kind: Kind, amount: float) -> None:
        """Somebody else uses a part of every limit of that kind, as far as it is there.

        Raises:
            ValueError: there is no such limit.
        """
        found = [bucket for bucket in self._buckets if bucket.limit.kind == kind]
        if not found:
            raise ValueError(f"the server has no limit of kind {kind!r}")
        for bucket in found:
            bucket.refill(now)
            bucket.charge(amount)

    def change(self, now: float, limit: Limit) -> None:
        """Replace the limit of the same kind and window by another size, keeping the share that is left; or add it."""
        for index, bucket in enumerate(self._buckets):
            if (bucket.limit.kind, bucket.limit.window) == (limit.kind, limit.window):
                bucket.refill(now)
                changed = _Bucket(limit, now)
                changed.level = changed.capacity * bucket.level / bucket.capacity
                self._buckets[index] = changed
                return
        self._buckets.append(_Bucket(limit, now))

    def states(self, now: float) -> list[State]:
        """What remains of each limit, as the headers say it."""
        found = []
        for bucket in self._buckets:
            bucket.refill(now)
            used = bucket.capacity - bucket.level
            remaining = math.floor(bucket.limit.amount - used + TOLERANCE)
            found.append(State(bucket.limit, remaining, used / bucket.limit.rate))
        return found
