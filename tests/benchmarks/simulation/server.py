"""A server with OpenAI's arithmetic, on a virtual clock, that keeps its own count.

A continuously refilled bucket per limit (tokens, requests); a refused request still counts against the request limit; the delay
in a message is cut to whole milliseconds and a reset time is printed to the millisecond. What it *tells* of this is a
:class:`Dialect`: headers or not, of the minute or of the day, numbers in the message or not.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

from otel_ratelimit._core.throttle import LimitKind, Throttle


class Reading(NamedTuple):
    """Same shape as ``hints.limits.LimitReading``."""

    kind: str
    scope: str
    window_name: str | None
    limit: float
    remaining: float
    reset: float | None


@dataclass(frozen=True)
class Dialect:
    """What the server tells. ``headers``: "minute", "day" (only the day) or "none"; ``message``: "numbers", "delay" or "none"."""

    headers: str = "minute"
    message: str = "numbers"
    reset_grain: float = 0.001
    usage: bool = True


@dataclass(frozen=True)
class Limits:
    """What the server enforces. ``burst``: seconds of refill that the token and request buckets hold."""

    tpm: float = 200_000.0
    rpm: float = 10_000.0
    burst: float = 60.0
    schedule: tuple[tuple[float, float], ...] = ()
    """(time, tokens a minute) from then on."""


class Load:
    """What others take: a share of the refill, changing every ``period`` seconds."""

    def __init__(self, low: float, high: float, period: float, rng: random.Random) -> None:
        self.period = period
        self.shares = [rng.uniform(low, high) for _ in range(2000)]

    def integral(self, start: float, end: float) -> float:
        total = 0.0
        while start < end:
            index = int(start / self.period + 1e-9)
            stop = min(end, (index + 1) * self.period)
            total += self.shares[index] * (stop - start)
            if stop <= start:
                break
            start = stop
        return total


class Bucket:
    def __init__(self, per_minute: float, burst: float) -> None:
        self.limit = per_minute
        self.rate = per_minute / 60.0
        self.capacity = self.rate * burst
        self.level = self.capacity
        self.at = 0.0

    def advance(self, now: float, load: Load | None = None) -> None:
        gained = self.rate * (now - self.at)
        if load is not None:
            gained -= self.rate * load.integral(self.at, now)
        self.level = min(self.capacity, max(self.level + gained, 0.0))
        self.at = now

    def resize(self, per_minute: float, burst: float) -> None:
        share = self.level / self.capacity
        self.limit = per_minute
        self.rate = per_minute / 60.0
        self.capacity = self.rate * burst
        self.level = share * self.capacity


class Answer(NamedTuple):
    status: int
    readings: tuple[Reading, ...]
    throttle: Throttle | None
    after: float
    used: float | None


@dataclass
class Server:
    limits: Limits
    dialect: Dialect
    rng: random.Random
    load: Load | None = None
    errors: float = 0.0
    median: float = 1.5
    sigma: float = 0.4
    overload_above: int = 10**9
    served: int = 0
    throttled: int = 0
    throttle_times: list[float] = field(default_factory=list)
    busy: int = 0

    def __post_init__(self) -> None:
        self.tokens = Bucket(self.limits.tpm, self.limits.burst)
        self.requests = Bucket(self.limits.rpm, self.limits.burst)
        self.minute = Bucket(self.limits.tpm, 60.0)
        self.day = Bucket(self.limits.tpm * 50 / 1440, 86_400.0)
        self.day.limit = self.day.capacity
        self._changes = list(self.limits.schedule)

    def receive(self, now: float, charge: float) -> Answer:
        while self._changes and self._changes[0][0] <= now:
            at, tpm = self._changes.pop(0)
            self.tokens.advance(at, self.load)
            self.tokens.resize(tpm, self.limits.burst)
            self.minute.resize(tpm, 60.0)
        self.tokens.advance(now, self.load)
        self.requests.advance(now)
        self.day.advance(now)
        self.minute.advance(now)
        if self.busy >= self.overload_above:
            self.throttled += 1
            self.throttle_times.append(now)
            return Answer(503, (), Throttle(kind="overload"), 0.06, None)
        refused: Throttle | None = None
        if charge > self.tokens.capacity:
            refused = Throttle(kind="tokens", limit=self.tokens.limit, requested=charge, retryable=False)
        elif self.tokens.level < charge:
            refused = self._refusal("tokens", self.tokens, charge)
        elif self.requests.level < 1.0:
            refused = self._refusal("requests", self.requests, 1.0)
        self.requests.level = max(self.requests.level - 1.0, 0.0)
        if refused is not None:
            self.throttled += 1
            self.throttle_times.append(now)
            return Answer(429, self._headers(), refused, 0.06, None)
        self.tokens.level -= charge
        self.day.level -= charge
        self.minute.level = max(0.0, self.minute.level - charge)
        service = self.median * math.exp(self.sigma * self.rng.gauss(0.0, 1.0))
        if self.errors and self.rng.random() < self.errors:
            return Answer(500, self._headers(), None, service * self.rng.random(), None)
        self.served += 1
        return Answer(200, self._headers(), None, service, charge if self.dialect.usage else None)

    def _refusal(self, kind: LimitKind, bucket: Bucket, need: float) -> Throttle:
        if self.dialect.message == "none":
            if self.dialect.headers == "minute":
                # What the parser finds where nothing else is said: the time until full.
                full = self._grain((bucket.capacity - bucket.level) / bucket.rate)
                return Throttle(delay=full, source="x-ratelimit-reset", kind=kind)
            return Throttle()
        delay = math.floor((need - bucket.level) / bucket.rate * 1000.0) / 1000.0
        if self.dialect.message == "delay":
            return Throttle(delay=delay, source="retry-after-ms")
        return Throttle(
            delay=delay, source="body-message", kind=kind, window="minute", window_seconds=60.0, limit=bucket.limit,
            used=math.ceil(bucket.limit - bucket.level), requested=round(need),
        )  # fmt: skip

    def _grain(self, seconds: float) -> float:
        grain = self.dialect.reset_grain
        return math.ceil(seconds / grain) * grain if grain >= 1 else round(seconds / grain) * grain

    def _headers(self) -> tuple[Reading, ...]:
        if self.dialect.headers == "none":
            return ()
        requests = self.requests
        # A limit that is enforced over a second still shows itself as the minute's, as OpenAI's documentation warns.
        shown = self.dialect.headers
        own = self.limits.burst == 60.0 or shown == "bucket"
        tokens = self.day if shown == "day" else self.tokens if own else self.minute
        readings = []
        for kind, bucket in (("requests", requests), ("tokens", tokens)):
            reset = self._grain((bucket.capacity - bucket.level) / bucket.rate)
            readings.append(Reading(kind, "", None, bucket.limit, math.floor(bucket.level), reset))
        return tuple(readings)


def refill_time(
    total: float, capacity: float, rate: float, load: Load | None, schedule: tuple[tuple[float, float], ...]
) -> float:
    """The least time in which a full bucket can give ``total``, in steps where its refill changes."""
    if total <= capacity:
        return 0.0
    times = [at for at, _ in schedule]
    now, left, step = 0.0, total - capacity, 0.05
    while left > 0 and now < 1e6:
        index = bisect_right(times, now) - 1
        present = schedule[index][1] / 60.0 if index >= 0 else rate
        share = 1.0 - load.shares[int(now / load.period)] if load is not None else 1.0
        gain = present * share * step
        if gain >= left:
            return now + step * left / gain
        left -= gain
        now += step
    return now
