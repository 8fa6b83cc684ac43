"""The estimate of one token bucket: its level now, by what the server last said and what was taken since.

Owns level, refill rate, capacity and window of one limit, and how the server's words correct them. Knows no other limit and no
queue; time is an argument everywhere.

The model fits OpenAI's own numbers to the millisecond (23 of 23 messages seen): a bucket holds ``limit`` and is refilled at
``limit / window``, continuously. Some rules carry the rest.

*Anchor.* The server's words are about the moment at which that request arrived; its answer brings them seconds later, out of
order. The estimate counts from the latest-sent request whose answer has come: plus the refill since then, minus what was taken
since then. An answer to an earlier request says nothing that the anchor does not include.

*Drain.* What the level loses between two anchors beyond our own calls is other clients' use of the same limit. An EWMA of it is
subtracted from the refill rate, so the estimate stays right between answers as well.

*Capacity.* A bucket may hold less than its limit: the refill of ``depth`` seconds. Two readings of a header tell (``infer``).

*Full again.* A header that names a reset time says when the limit is full again. It is full by then whatever it is, a refilled
bucket or a new fixed window, so a wrong guess about the window costs no more than that time.

*Fixed.* A window that starts anew at its end is refilled all at once, then, and not before (``tracked`` tells it from a bucket).
Where nobody speaks of it again, it is full once more a window after that: it must not hold calls for ever.

*Margin.* A call goes while the bucket is expected to hold at least ``margin`` after it. The margin is the worst recent error of
such a prediction; it fades. It delays a whole run once, by margin / rate; each refusal that it avoids would cost a round trip and
an entry in the request limit. Fading by 1/64 an answer: 2.8 % refused; by 1/256: 0.9 %, and 0.05 % more time (200,000 TPM,
600 calls of 1,500 +- 15 %; ``python -m tests.benchmarks.simulation``).

*Probing.* A server without headers speaks only when it refuses: an estimate that is too low would never be found out. So each
answer that says nothing of the limit lowers the margin, by the square of their number and by the uncertainty of the charge
model, below zero in the end; the refusal that follows teaches the sum over all calls since the last one. (``Requested`` of
refused calls alone is biased: calls that cost more than expected are refused more often, which had the charge model 2 to 11 % too
high in five simulated runs.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from otel_ratelimit._core.buckets.charge import ChargeModel
from otel_ratelimit._core.buckets.infer import DEFAULT_WINDOW, WINDOW_TOLERANCE

MIN_LIMIT: Final = 1e-6
MAX_LIMIT: Final = 1e15
"""No limit is smaller or larger; keeps every product and quotient of level, rate and time finite."""

QUANTUM: Final = 1.0
"""Seconds of refill that a "quantized" limit holds: OpenAI may enforce 60,000 a minute as 1,000 a second
(platform.openai.com, rate limits guide)."""


@dataclass(frozen=True, slots=True)
class BucketTuning:
    """The numbers of the estimate; ``python -m tests.benchmarks.simulation --without RULE`` measures what each is worth.

    Attributes:
        margin_cap: share of the limit that the margin takes at most; larger bursts of others cannot be planned around.
        margin_of_capacity: share of what the bucket can hold that the margin takes at most. Where that is only a second's refill,
            more of it lying idle makes the bucket run over between two calls: "enforced per second" of the simulation takes 1.016
            of the bound without, 1.012 with it.
        margin_memory: share of the margin that fades with each anchor: the worst of some hundred answers is left.
        silent_memory: share of it that fades with each answer that says nothing of the limit.
        boundary: seconds of refill that stay in the bucket beside the margin. How long a request travels differs by milliseconds
            (by 1 to 4 on loopback, where the first one also makes the connection). The default of ``Policy.buffer``. A run is
            delayed once by that much.
        probe_calls: silent answers after which one typical call is dared beyond the estimate; quadratic from there.
        exact_probe_calls: the same, where charges are known exactly (requests; tokens whose usage tells).
        drain_time: seconds of the drain's EWMA: a shorter one follows single calls, a longer one lags behind.
        drain_hold: seconds after an anchor for which the drain is believed to go on. Every wait stays finite that way.
        most_drain: share of the refill that the drain takes at most.
        overfull: times its capacity that the server must report to show that the capacity was believed too small.
    """

    margin_cap: float = 0.1
    margin_of_capacity: float = 0.35
    margin_memory: float = 1.0 / 256
    silent_memory: float = 1.0 / 1024
    boundary: float = 0.025
    probe_calls: float = 80.0
    exact_probe_calls: float = 200.0
    drain_time: float = 4.0
    drain_hold: float = 10.0
    most_drain: float = 0.9
    overfull: float = 1.2


TUNED: Final = BucketTuning()


class Bucket:
    """One limit, as far as it is known. ``taken`` arguments are running totals of our permits in this limit's unit.

    Attributes:
        kind, scope: what it limits ("tokens", "requests", ...) and whose it is ("" or "project").
        limit: its size as the server names it.
        capacity: units that it holds when full: the limit, or the refill of ``depth`` seconds.
        depth: seconds of refill that can be saved up; None where it is the whole limit.
        burst: units that it holds at least, however short ``depth`` is.
        window: seconds in which an empty one is full again; None while that is not known.
        rate: units a second that it is refilled by.
        fixed: it is a window that starts anew at its end: nothing is refilled before.
        full_at: when it is full again, by the server's word; inf where it gave none.
        drain: units a second that other clients take of it, as measured.
        margin: units that are expected to be left over before a call goes.
        silent: answers without a word about this limit since the anchor.
        sequence: sequence number of the request whose answer is the anchor; -1 before the first.
        tuning: see :class:`BucketTuning`.
    """

    __slots__ = (
        "_anchored_at", "_bias", "_exact", "_full_since", "_level", "_taken", "_typical", "burst", "capacity",
        "depth", "drain", "fixed", "full_at", "kind", "limit", "margin", "rate", "scope", "sequence", "silent", "tuning",
        "window",
    )  # fmt: skip

    def __init__(self, kind: str, scope: str, limit: float, window: float | None, tuning: BucketTuning = TUNED) -> None:
        self.kind = kind
        self.scope = scope
        self.tuning = tuning
        self.limit = 0.0
        self.burst = 0.0
        self.depth: float | None = None
        self.capacity = 0.0
        self.window: float | None = None
        self.rate = 0.0
        self.drain = 0.0
        self.fixed = False
        self.margin = 0.0
        self.silent = 0
        self.sequence = -1
        self._typical = 0.0
        self._exact = True
        self._bias = 0.0
        self._level = 0.0
        self._anchored_at = -math.inf
        self.full_at = math.inf
        self._taken = 0.0
        self._full_since = -1
        """The latest request that had left when the bucket was last believed full; -1: not since the anchor."""
        self.resize(limit, window)

    # --- what the bucket is -------------------------------------------------------------------------------------------

    def resize(self, limit: float, window: float | None) -> None:
        """The server named its limit, or its window is known now (None: as before)."""
        self.limit = min(max(limit, 0.0), MAX_LIMIT)
        if window is not None:
            self.window = window
        rate = self.limit / (self.window or DEFAULT_WINDOW)
        self.capacity = self.limit if self.depth is None else min(max(rate * self.depth, self.burst), self.limit)
        self.margin = min(self.margin, self._most_margin())
        if rate != self.rate:
            self.rate = rate
            self.drain = min(self.drain, self.tuning.most_drain * rate)

    def enforce_per_second(self, least: float) -> None:
        """It refused while most of its limit was left: it enforces a second's share (or ``least`` units)."""
        self.hold(QUANTUM, least)

    def hold(self, depth: float | None, least: float = 0.0) -> None:
        """It can save up the refill of ``depth`` seconds, but no less than ``least`` units; None: its whole limit."""
        self.depth = depth
        self.burst = least
        self.resize(self.limit, None)

    def reshape(self, window: float, depth: float) -> None:
        """It is another bucket than was thought. What looked like others' use, or like errors, was that mistake."""
        self.drain = 0.0
        self.margin = 0.0
        self.resize(self.limit, window)
        self.hold(None if depth >= window else depth)

    def fix(self, window: float) -> None:
        """It is a window of that many seconds that starts anew at its end."""
        self.reshape(window, window)
        self.fixed = True

    def explains(self, remaining: float, reset: float, grain: float) -> bool:
        """Whether a bucket of this size and rate shows ``remaining`` units and ``reset`` seconds (to ``grain``) until full."""
        if self.rate <= 0:
            return False
        expected = (self.capacity - remaining) / self.rate
        return abs(expected - reset) <= grain + 1.0 / self.rate + WINDOW_TOLERANCE * max(expected, reset)

    # --- what it holds ------------------------------------------------------------------------------------------------

    def level(self, now: float, taken: float, latest: int) -> float:
        """Units left at ``now`` when ``taken`` was taken in all, the last of it by request ``latest``."""
        if self.fixed and now >= self._renewed_at():
            self._begin_window(now, taken)
        elapsed = now - self._anchored_at
        level = self._level - (taken - self._taken)
        if elapsed > 0:
            if not self.fixed or self.full_at == math.inf:
                level += elapsed * self.rate - min(elapsed, self.tuning.drain_hold) * self.drain
            if now >= self.full_at:
                level = max(level, self.capacity - (taken - self._taken))
        if level >= self.capacity:
            # Full: further refill is lost, so counting starts anew here; and others cannot be taking much.
            self.drain *= self.tuning.drain_time / (max(elapsed, 0.0) + self.tuning.drain_time)
            level = self._level = self.capacity
            self._anchored_at = now
            self._taken = taken
            self._full_since = latest
        return level

    def _renewed_at(self) -> float:
        """When the window is over that follows the one whose end was told: whatever was taken by then, and when, is past."""
        return self.full_at + (self.window or DEFAULT_WINDOW)

    def _begin_window(self, now: float, taken: float) -> None:
        """Another one has begun at the latest now. Which of our calls since the anchor it counts is not known."""
        window = self.window or DEFAULT_WINDOW
        self.full_at += (1.0 + (now - self._renewed_at()) // window) * window
        self._level, self._taken, self._anchored_at = self.capacity, taken, now

    def level_at_best(self, now: float) -> float:
        """Units left at ``now`` if all that has left by now was dealt with before the request that the anchor is of."""
        return min(self._level + max(now - self._anchored_at, 0.0) * self.rate, self.capacity)

    def reserve(self, need: float) -> float:
        """Units that must be left after a call of ``need`` for it to go now."""
        reserve = self.margin + self.tuning.boundary * self.rate
        if self.silent:
            reserve -= self.dared()
        room = self.capacity - need
        return reserve if reserve < room else room

    def dared(self) -> float:
        """Units that are dared beyond the estimate after so many silent answers."""
        calls = self.tuning.exact_probe_calls if self._exact else self.tuning.probe_calls
        return self._bias * self.silent + self._typical * (self.silent / calls) ** 2

    def ready(self, now: float, taken: float, need: float, latest: int) -> float:
        """The time at which a call of ``need`` units may go; ``now`` or earlier means at once."""
        missing = need + self.reserve(need) - self.level(now, taken, latest)
        if missing <= 0:
            return now
        if self.fixed and self.full_at <= now:
            return self._renewed_at() + self.tuning.boundary
        at = now + self.refill_time(missing, now)
        if (
            (self.fixed or self.full_at < at)
            and now < self.full_at < math.inf
            and self.capacity - (taken - self._taken) >= need
        ):
            return self.full_at + self.tuning.boundary
        return at

    def refill_time(self, missing: float, now: float) -> float:
        """Seconds from ``now`` until ``missing`` units have been refilled."""
        held = max(self._anchored_at + self.tuning.drain_hold - now, 0.0)
        net = self.rate - self.drain
        if missing <= held * net:
            return missing / net
        return held + (missing - held * net) / self.rate if self.rate > 0 else math.inf

    # --- what the server says -----------------------------------------------------------------------------------------

    def anchor(
        self,
        remaining: float,
        *,
        sent_at: float,
        taken: float,
        sequence: int,
        now: float,
        taken_now: float,
        uncharged: float = 0.0,
        charge: ChargeModel | None = None,
        full_at: float = math.inf,
    ) -> None:
        """The server said that ``remaining`` units were left when request ``sequence``, sent at ``sent_at``, had been dealt with.

        Args:
            remaining, sent_at, sequence: see above.
            taken: the running total with that request's permit.
            now, taken_now: the present, and the running total now.
            uncharged: of that request's own permit, what was not charged.
            charge: learns from a long silence what our calls really took; None where that is known otherwise.
            full_at: when the limit is full again, by the server's word; inf where it gave none.
        """
        if sequence <= self.sequence:
            return
        silent, self.silent = self.silent, 0
        remaining = min(max(remaining, -self.limit), self.limit)
        if remaining > self.tuning.overfull * self.capacity:
            self.hold(None)
        elapsed = sent_at - self._anchored_at
        if (
            not self.fixed
            and self.sequence >= 0
            and elapsed > 0
            and self._full_since < self.sequence
            and remaining < self.limit
        ):
            lost = self._level + elapsed * self.rate - remaining
            ours = taken - self._taken - uncharged
            if silent and charge is not None:
                charge.learn_sum(ours, lost, silent)
            else:
                self._learn_drain(lost - ours, elapsed)
        self.sequence = sequence
        if self._full_since > sequence:
            # It was believed full after this request had left. Only an answer that says less than is believed counts.
            since = max(now - sent_at, 0.0)
            if remaining + since * self.rate - (taken_now - taken) >= self.level(now, taken_now, sequence):
                return
        self._level = remaining
        self._anchored_at = sent_at
        self.full_at = full_at
        self._taken = taken
        self._full_since = -1

    def _learn_drain(self, lost: float, elapsed: float) -> None:
        """``lost`` units went to others in ``elapsed`` seconds."""
        # Others take no more than the refill for long: more than that is the order in which a burst of ours arrived.
        found = min(max(lost / elapsed, -self.rate), self.rate)
        self.drain += (found - self.drain) * elapsed / (elapsed + self.tuning.drain_time)
        self.drain = min(max(self.drain, 0.0), self.tuning.most_drain * self.rate)

    def pass_over(self, typical: float, deviation: float, bias: float) -> None:
        """A request was served, and the answer said nothing about this limit.

        Args:
            typical: units that a call takes.
            deviation: units by which a single call's charge deviates from its permit; 0 where charges are exact.
            bias: units by which the mean charge may differ from the mean permit.
        """
        self.silent += 1
        self._typical = typical
        self._exact = deviation == 0.0
        self._bias = bias
        self.margin *= 1.0 - self.tuning.silent_memory

    def judge(self, error: float) -> None:
        """The prediction that a request went by was off by ``error`` units (negative: less was left)."""
        if self.silent:
            error -= self.dared()
        self.margin = min(max(self.margin * (1.0 - self.tuning.margin_memory), -error), self._most_margin())

    def _most_margin(self) -> float:
        return min(self.tuning.margin_cap * self.limit, self.tuning.margin_of_capacity * self.capacity)

    def give_back(self, amount: float, sequence: int) -> None:
        """Request ``sequence`` was charged ``amount`` units less than its permit."""
        if sequence > self.sequence:  # otherwise the anchor already says what the server did with it
            self._level += amount

    def rewind(self, now: float) -> None:
        """The clock was set back to ``now``: the anchor cannot lie in the future."""
        self._anchored_at = min(self._anchored_at, now)
        self.full_at = math.inf
