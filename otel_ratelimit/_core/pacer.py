"""A rate where the server names no numbers, and a number of callers where it is the server that is overloaded.

Owns two gates that stay open until something is refused without a reason that a ledger could count: :class:`Pacer` (a
bare 429) and :class:`Crowd` (503, 529, "overloaded"). Knows no queue; time is an argument.

*Pacer.* Additive increase and multiplicative decrease, but around what was measured: between two refusals the server
let through what it refills, so (calls let through) / (time between them) is its rate, ever more exact the longer it
took. A refusal therefore does not cut blindly to a fixed share: the new rate is the measured one, no less than half
of the old one and a little below it. It only counts if the refused request was sent under the present rate. Growth
needs the rate to be really used, is quick up to the rate that failed last and slow beyond it (the shape of CUBIC,
RFC 9438).

*Crowd.* An overloaded server does not refill anything: what it can bear is a number of requests at a time. The same
rule on the number in flight: one cut per generation of requests, one more per full round without a refusal.
"""

from __future__ import annotations

import math
from typing import Final

FIRST_CUT: Final = 0.2
"""Share of the measured rate to start from at the first refusal. What was measured then is mostly the burst from a full
bucket, far above the refill, so the first steps search by halving."""

MOST_CUT: Final = 0.5
"""Share of the rate that a refusal leaves at least."""

DEEPEST_CUT: Final = 0.5
CUT_CALLS: Final = 10.0
"""A refusal takes at least 50 % / (1 + calls since the last refusal / 10) off, measured or not: refusals that come
close together say that the rate is far too high, one after a hundred calls that it is a little too high."""

RECOVERY_CALLS: Final = 60.0
"""Calls in which a rate returns to the one that was refused last."""

PROBE_GROWTH: Final = 0.0004
"""Growth per call beyond that, compounding with the calls since the last refusal. Excess adds up to one call after some
forty, so that about one call in forty is the probe that is refused."""

MODEST_RATE: Final = 2.0
"""Calls a second: where next to nothing was sent, what was measured says nothing, and the first pace is no slower than this
or than the server's own hint (so that a lone call that was told 564 ms is back after 564 ms)."""

LONE_PATIENCE: Final = 10.0
"""Times the server's own hint that a call which is alone is held for at most: it storms nothing, and one that is refused
whatever its pace must not be held for longer and longer."""

LEAST_RATE: Final = 1.0 / 300
"""Calls a second. Every wait stays finite: nobody asks less often than once in five minutes because of this gate."""

BURST_TIME: Final = 1.0
"""Seconds of rate that may be saved up while nobody wants to send."""

PACER_MEMORY: Final = 900.0
"""Seconds without a refusal after which the pacer is off again."""


class Pacer:
    """Units a second (a unit is a call of usual size) that may be sent; off until the first refusal."""

    __slots__ = ("_at", "_burst", "_cut", "_growth", "_last_at", "_last_spent", "_level", "_refused_rate", "_since",
                 "on", "rate")  # fmt: skip

    def __init__(self) -> None:
        self.on = False
        self.rate = math.inf
        self._level = 0.0
        self._at = 0.0
        self._burst = 1.0
        self._cut = -1
        self._growth = 0.0
        self._since = 0.0
        self._refused_rate = math.inf
        self._last_at = -math.inf
        self._last_spent = 0.0

    def ready(self, now: float, need: float) -> float:
        """The time at which a call of ``need`` units may go; ``now`` or earlier means at once."""
        level = self._level + max(now - self._at, 0.0) * self.rate
        return now if level >= need else now + (need - level) / self.rate

    def take(self, now: float, need: float) -> None:
        """A call of ``need`` units goes. What was saved up beyond a burst is lost."""
        level = self._level + max(now - self._at, 0.0) * self.rate
        self._level = min(level, max(need, self._burst)) - need
        self._at = now

    def refused(
        self, sent_at: float, spent: float, sent: int, *, now: float, spent_now: float, last_sent: int,
        measured: float, until: float, alone: bool,
    ) -> None:  # fmt: skip
        """A request was refused and nothing explains it.

        Args:
            sent_at: when it was sent.
            spent: units sent up to it, itself not included.
            sent: its sequence number.
            now: the present.
            spent_now: units sent by now.
            last_sent: the latest sequence number.
            measured: units a second that were let through of late.
            alone: nobody else is in flight or waiting.
            until: when the server said that something may come again; ``now`` where it did not say.
        """
        if not self.on:
            self.on = True
            self._refused_rate = max(measured, MODEST_RATE)
            self.rate = max(FIRST_CUT * measured, min(MODEST_RATE, 1.0 / max(until - now, 1e-9)), LEAST_RATE)
        elif sent > self._cut:
            elapsed = sent_at - self._last_at
            passed = spent - self._last_spent + 0.5
            found = passed / elapsed if elapsed > 0 else 0.0
            self._refused_rate = self.rate
            least = 1.0 - DEEPEST_CUT / (1.0 + passed / CUT_CALLS)
            self.rate = max(min(max(found, MOST_CUT * self.rate), least * self.rate), LEAST_RATE)
        else:
            return
        self._growth = max(math.log(max(self._refused_rate / self.rate, 1.0)) / RECOVERY_CALLS, PROBE_GROWTH)
        self._since = 0.0
        self._cut = last_sent
        self._last_at = sent_at
        self._last_spent = spent
        self._level = 0.5 - (spent_now - spent)  # something between nothing and one call was left
        self._at = sent_at
        if alone:
            # It storms nothing: when its own hint or backoff is over, one call may go.
            if until > now:
                self.rate = max(self.rate, min(1.0 / (LONE_PATIENCE * (until - now)), MODEST_RATE))
            self._level = 1.0 - self.rate * (until - now)
            self._at = now
        self._burst = max(1.0, self.rate * max(BURST_TIME, until - now))

    def passed(self, sent: int, now: float, waiting: bool) -> None:
        """A request was let through."""
        if now - self._last_at > PACER_MEMORY:
            self.on = False
            return
        if sent <= self._cut or not waiting:
            return  # sent under an older rate, or the rate was not used up: teaches nothing about the present one
        self._since += 1.0
        growth = self._growth if self.rate < self._refused_rate else PROBE_GROWTH
        grown = self.rate * (1.0 + growth * (1.0 + self._since / 100.0))
        self.rate = min(grown, 1e6)

    def rewind(self, now: float) -> None:
        """The clock was set back to ``now``."""
        self._at = min(self._at, now)
        self._last_at = min(self._last_at, now)


CROWD_CUT: Final = 0.85
"""Share of the requests in flight that remains after an overload: CUBIC's factor, as botocore uses it."""


class Crowd:
    """Requests that may be in flight at a time; without bound until the first overload."""

    __slots__ = ("_cut", "_peak", "most")

    def __init__(self) -> None:
        self.most = math.inf
        self._cut = -1
        self._peak = 1.0

    def overloaded(self, sent: int, in_flight: int, last_sent: int) -> None:
        """Request ``sent`` met an overloaded server while ``in_flight`` were out, itself included."""
        if sent > self._cut:  # one cut per generation: the others of the same one say the same thing
            self._peak = min(self.most, float(in_flight))
            self.most = max(1.0, math.floor(CROWD_CUT * self._peak))
            self._cut = last_sent

    def passed(self, sent: int, in_flight: int) -> None:
        """A request was served."""
        if sent > self._cut and in_flight >= self.most - 1.0:
            self.most += 1.0 / self.most
            if self.most > 4.0 * self._peak + 16.0:  # far beyond what failed then: whatever it was, it is over
                self.most = math.inf


RAMP_GROWTH: Final = 1.5
RAMP_TIME: Final = 900.0
"""OpenAI's words: above a million tokens a minute, grow by at most 50 % in 15 minutes."""

RAMP_CUT: Final = 0.9
"""Share of the rate that stays when the ramp itself is told to slow down: too little growth costs minutes only."""


LIFTED: Final = 4.0
"""Times its start at which a ceiling is lifted."""


class Ramp:
    """A ceiling on how fast traffic may grow, after the server said ``slow_down``; off otherwise.

    The level that was reached is kept (the server does not mind it, it minds the growth); from there the ceiling
    rises by half in fifteen minutes, for as long as it matters: once it stands at four times the start it is lifted.
    """

    __slots__ = ("_at", "_cut", "_level", "_start", "_start_at", "on")

    def __init__(self) -> None:
        self.on = False
        self._start = 0.0
        self._start_at = 0.0
        self._level = 0.0
        self._at = 0.0
        self._cut = -1

    def rate(self, now: float) -> float:
        """Calls a second that are allowed at ``now``."""
        age = min(max(now - self._start_at, 0.0), 10.0 * RAMP_TIME)
        return max(self._start * math.pow(RAMP_GROWTH, age / RAMP_TIME), LEAST_RATE)

    def ready(self, now: float, need: float) -> float:
        """The time at which a call of ``need`` units may go; ``now`` or earlier means at once."""
        rate = self.rate(now)
        if rate > LIFTED * self._start:
            self.on = False
            return now
        level = self._level + max(now - self._at, 0.0) * rate
        return now if level >= need else now + (need - level) / rate

    def take(self, now: float, need: float) -> None:
        """A call of ``need`` units goes."""
        rate = self.rate(now)
        level = self._level + max(now - self._at, 0.0) * rate
        self._level = min(level, max(need, 1.0, rate * BURST_TIME)) - need
        self._at = now

    def slow_down(self, sent: int, now: float, last_sent: int, measured: float) -> None:
        """The server said that traffic grew too fast, to request ``sent``; ``measured``: units a second of late."""
        if sent <= self._cut:
            return
        self._start = RAMP_CUT * self.rate(now) if self.on else max(measured, LEAST_RATE)
        self.on = True
        self._start_at = self._at = now
        self._level = 0.0
        self._cut = last_sent

    def rewind(self, now: float) -> None:
        """The clock was set back to ``now``."""
        self._at = min(self._at, now)
        self._start_at = min(self._start_at, now)
