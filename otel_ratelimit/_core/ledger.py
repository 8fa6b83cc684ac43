"""What one limit of a server holds right now, as far as we can tell: the arithmetic of a single limit.

Owns level, refill, size and window of one limit and how they are corrected by what the server says. Knows no queue, no
priorities and no other limit; time is an argument everywhere.

The model is the one that OpenAI's own numbers fit to the millisecond (in 23 of 23 messages seen): a bucket that holds
``limit`` and is refilled continuously at ``limit / window``. Five rules carry the rest.

*Anchors.* Every word of the server is about the moment at which *that* request arrived, and comes back when its answer
does, seconds later and out of order. So a ledger keeps one anchor: what the server said at the send of the latest-sent
request that was answered, and counts from there: what was reserved since then, and what was refilled. An answer to
a request sent earlier than the anchor's holds nothing that the anchor does not include, and is not counted a second
time.

*Drain.* What the level loses between two anchors beyond our own calls is others' use of the same key. It is taken off
the refill rate as long as it lasts, so the prediction stays right between answers as well.

*Depth.* What it holds when full may be less than its limit. A header tells units left and seconds until full; two of them
tell the refill rate and so the window, and what it holds (``windows.slope_of``, ``windows.shallow_of``).

*Full again.* Where a header says in how many seconds the limit is full again, it is full by then, whatever it is: a bucket
that has been refilled, or a fixed window that starts anew. So a window that was guessed wrong costs no more than that time.

*Margin.* A call is let go while the ledger expects at least ``margin`` to be left; margin is the worst by which such a
prediction was wrong lately, slowly fading. It delays the whole run once, by margin / rate, while each refusal that
it avoids would cost a round trip and an entry in the request limit. Fading by 1/64 an answer: 2.8 % refused; by
1/256: 0.9 %, and 0.05 % more time (200,000 TPM, 600 calls of 1,500 +- 15 % in the simulation).

*Silence.* Where the server speaks only when it refuses (no headers), nobody would ever tell that a belief is too
low. So the margin first grows with the root of the silent answers, as the error of their sum does, and then sinks
with their square, below zero in the end, and at once as far as the tariff is in doubt: each refusal then teaches the
sum over all calls since the last one. (The ``Requested`` of refused calls alone would not do: those that cost more
than expected are refused more often, which had the tariff 2 to 11 % too high in five simulated runs.)
"""

from __future__ import annotations

import math
from typing import Final

from otel_ratelimit._core.cost import Tariff
from otel_ratelimit._core.windows import DEFAULT_WINDOW, WINDOW_TOLERANCE

MARGIN_CAP: Final = 0.1
"""Share of the limit that margin may take at most. Beyond it, others' bursts cannot be planned around anyway."""

MOST_MARGIN: Final = 0.35
"""Share of what can be saved up that margin may take at most, where that is only a second's refill: with more of it lying
idle the bucket runs over between two calls."""

MARGIN_MEMORY: Final = 1.0 / 256
"""Share of the margin that fades with each anchor: what is left is the worst of some hundred answers."""

SILENT_MEMORY: Final = 1.0 / 1024
"""Share of it that fades with each answer that says nothing, and so does not show whether it is still needed."""

BOUNDARY: Final = 0.025
"""Seconds of refill that are left over beside the margin. What a server says of a moment is dated to when its request left,
and how long a request travels differs by milliseconds (by 1 to 4 on loopback, where the first one also makes the connection). The
same as ``Policy.buffer``, which a refused call adds. Delays a run once by that much. (In a fleet the way through Redis stands
in for it.)"""

RESERVE_CALLS: Final = 40
"""Silent answers after which the reserve grows no more: by then it is time to find out."""

STRAYS: Final = 1.0
"""Standard deviations of the error that silence may hide, kept in reserve."""

EXACT_PROBE_CALLS: Final = 200.0
PROBE_CALLS: Final = 80.0
"""Silent answers (no reading) after which a ledger dares one typical call beyond its belief; quadratic from there. Where
costs are exact (requests; tokens whose usage tells), only others and changes of the limit are left to find out."""

DRAIN_TIME: Final = 4.0
"""Seconds over which the drain by others is averaged: shorter follows noise of single calls, longer lags behind."""

QUANTUM: Final = 1.0
"""Seconds of refill that a bucket holds which is "quantized": OpenAI may enforce 60,000 a minute as 1,000 a second."""

WHOLE: Final = 0.97
"""Share of the limit from which on a measured capacity is the limit itself."""

OVERFULL: Final = 1.2
"""Times its capacity that a ledger must be told to hold to learn that it was thought too small."""

DRAIN_HOLD: Final = 10.0
"""Seconds after an anchor for which the drain is believed to go on: who hears nothing supposes that others have
stopped, and finds out. Every wait stays finite that way."""

MOST_DRAIN: Final = 0.9
"""Share of the refill that drain can take."""


MIN_LIMIT: Final = 1e-6
MAX_LIMIT: Final = 1e15
"""No limit is smaller or larger; keeps every product and quotient of level, rate and time finite."""


class Ledger:
    """One limit. ``spent`` arguments are running totals of reservations in this limit's unit, kept by the owner.

    Attributes:
        kind, scope: what it limits ("tokens", "requests", ...) and whose it is ("" or "project").
        limit: its size as the server names it.
        capacity: units that it holds when full: the limit, or the refill of ``depth`` seconds.
        depth: seconds of refill that can be saved up; None where it is the whole limit.
        burst: units that it holds at least, however short ``depth`` is.
        window: seconds in which an empty one is full again; None while that is not known.
        rate: units a second that it is refilled by.
        drain: units a second that others take of it, as measured.
        margin: units that are expected to be left over before a call is let go.
        silent: answers without a word about this limit since the anchor.
        sent: sequence number of the request whose answer is the anchor.
        told: units that this answer said were left.
        typical, stray, doubt: of a call, in units; see :meth:`pass_over`.
    """

    __slots__ = (
        "_at", "_full", "_full_at", "_level", "_spent", "burst", "capacity", "depth", "doubt", "drain", "kind", "limit", "margin",
        "rate", "scope", "sent", "silent", "stray", "told", "typical", "window",
    )  # fmt: skip

    def __init__(self, kind: str, scope: str, limit: float, window: float | None) -> None:
        self.kind = kind
        self.scope = scope
        self.limit = 0.0
        self.burst = 0.0
        self.depth: float | None = None
        self.capacity = 0.0
        self.window: float | None = None
        self.rate = 0.0
        self.drain = 0.0
        self.margin = 0.0
        self.silent = 0
        self.typical = 0.0
        self.stray = 0.0
        self.doubt = 0.0
        self.sent = -1
        self.told = math.inf
        self._level = 0.0
        self._at = -math.inf
        self._full_at = math.inf
        self._spent = 0.0
        self._full = -1
        self.resize(limit, window)

    def resize(self, limit: float, window: float | None) -> None:
        """The server named its limit, or its window is known now (None: as before)."""
        self.limit = min(max(limit, 0.0), MAX_LIMIT)
        if window is not None:
            self.window = window
        rate = self.limit / (self.window or DEFAULT_WINDOW)
        self.capacity = self.limit if self.depth is None else min(max(rate * self.depth, self.burst), self.limit)
        self.margin = min(self.margin, MOST_MARGIN * self.capacity)
        if rate != self.rate:
            self.rate = rate
            self.drain = min(self.drain, MOST_DRAIN * rate)

    def enforce_per_second(self, least: float) -> None:
        """It refused while most of its limit was left: it enforces a second's share (or ``least`` units)."""
        self.hold(QUANTUM, least)

    def hold(self, depth: float | None, least: float = 0.0) -> None:
        """It can save up the refill of ``depth`` seconds, but no less than ``least`` units; None: its whole limit."""
        self.depth = depth
        self.burst = least
        self.resize(self.limit, None)

    def reshape(self, window: float, depth: float) -> None:
        """It is another bucket than was thought: what was taken for others' use, or for errors, was that mistake."""
        self.drain = 0.0
        self.margin = 0.0
        self.resize(self.limit, window)
        self.hold(None if depth >= WHOLE * window else depth)

    def explains(self, remaining: float, reset: float, grain: float) -> bool:
        """Whether a bucket of this size and rate shows ``remaining`` units and ``reset`` seconds (to ``grain``) until full."""
        if self.rate <= 0:
            return False
        expected = (self.capacity - remaining) / self.rate
        return abs(expected - reset) <= grain + 1.0 / self.rate + WINDOW_TOLERANCE * max(expected, reset)

    def level(self, now: float, spent: float, sent: int) -> float:
        """Units left at ``now`` when ``spent`` was reserved in all, the last of it by request ``sent``."""
        since = now - self._at
        level = self._level - (spent - self._spent)
        if since > 0:
            level += since * self.rate - min(since, DRAIN_HOLD) * self.drain
            if now >= self._full_at:
                level = max(level, self.capacity - (spent - self._spent))
        if level >= self.capacity:
            # Full: what flows in from now on is lost, so counting starts anew here; and nobody can be taking much.
            self.drain *= DRAIN_TIME / (max(since, 0.0) + DRAIN_TIME)
            level = self._level = self.capacity
            self._at = now
            self._spent = spent
            self._full = sent
        return level

    def floor(self, need: float) -> float:
        """Units that must be left after a call of ``need`` for it to be let go now."""
        margin = self.margin + BOUNDARY * self.rate
        if self.silent:
            margin += self.allowance()
        room = self.capacity - need
        return margin if margin < room else room

    def allowance(self) -> float:
        """What silence adds to the margin: its root for the error of the sum, less its square for the need to know."""
        silent = self.silent
        probe = self.doubt * silent + self.typical * (silent / (PROBE_CALLS if self.stray else EXACT_PROBE_CALLS)) ** 2
        return STRAYS * self.stray * math.sqrt(min(silent, RESERVE_CALLS)) - probe

    def ready(self, now: float, spent: float, need: float, sent: int) -> float:
        """The time at which a call of ``need`` units may go; ``now`` or earlier means at once."""
        missing = need + self.floor(need) - self.level(now, spent, sent)
        if missing <= 0:
            return now
        at = now + self.refill_time(missing, now)
        if now < self._full_at < at and self.capacity - (spent - self._spent) >= need:
            return self._full_at + BOUNDARY
        return at

    def refill_time(self, missing: float, now: float) -> float:
        """Seconds from ``now`` until ``missing`` units have flown in."""
        held = max(self._at + DRAIN_HOLD - now, 0.0)
        net = self.rate - self.drain
        if missing <= held * net:
            return missing / net
        return held + (missing - held * net) / self.rate if self.rate > 0 else math.inf

    def anchor(
        self,
        told: float,
        *,
        sent_at: float,
        spent: float,
        sent: int,
        now: float,
        spent_now: float,
        refused: float = 0.0,
        tariff: Tariff | None = None,
        full_at: float = math.inf,
    ) -> None:
        """The server said that ``told`` units were left when request ``sent`` had been dealt with, sent at ``sent_at``.

        Args:
            told, sent_at, sent: see above.
            spent: the running total of reservations with that request's.
            now, spent_now: the present, and the running total now.
            refused: of that request's own reservation, what was not charged.
            tariff: learns from a long silence what our calls really took, None where that is known otherwise.
            full_at: when the limit is full again, by the server's word; inf where it gave none.
        """
        silent, self.silent = self.silent, 0
        told = min(max(told, -self.limit), self.limit)
        if sent <= self.sent:
            self._cap(told + max(now - sent_at, 0.0) * self.rate, now, spent_now)
            return
        if told > OVERFULL * self.capacity:
            self.hold(None)
        elapsed = sent_at - self._at
        if self.sent >= 0 and elapsed > 0 and self._full < self.sent and told < self.limit:
            lost = self._level + elapsed * self.rate - told
            ours = spent - self._spent - refused
            if silent and tariff is not None:
                tariff.learn_sum(ours, lost, silent)
            else:
                # Nobody takes more than flows in for long: more than that is the order in which a burst of ours arrived.
                found = min(max((lost - ours) / elapsed, -self.rate), self.rate)
                self.drain += (found - self.drain) * elapsed / (elapsed + DRAIN_TIME)
                self.drain = min(max(self.drain, 0.0), MOST_DRAIN * self.rate)
        self.sent = sent
        self.told = told
        if self._full > sent:
            # We believed it full after this request had left. Only an answer that says less than we believe counts.
            since = max(now - sent_at, 0.0)
            if told + since * self.rate - (spent_now - spent) >= self.level(now, spent_now, sent):
                return
        self._level = told
        self._at = sent_at
        self._full_at = full_at
        self._spent = spent
        self._full = -1

    def _cap(self, most: float, now: float, spent_now: float) -> None:
        """An answer to an earlier request than the last one that was heard of: no more than ``most`` can be left. It is less than
        was believed where a burst arrived in another order than it left."""
        if most < self.level(now, spent_now, max(self._full, self.sent)):
            self._level = most
            self._at = now
            self._spent = spent_now
            self._full = -1

    def level_at_best(self, now: float) -> float:
        """Units left at ``now`` if all that has left by now was dealt with before the request that the anchor is of."""
        return min(self._level + max(now - self._at, 0.0) * self.rate, self.capacity)

    def pass_over(self, typical: float, stray: float, doubt: float) -> None:
        """A request was served, and the answer said nothing about this limit.

        Args:
            typical: units that a call takes.
            stray: units by which what a single call takes strays from what was reserved for it.
            doubt: units by which what calls take on average may differ from what is reserved.
        """
        self.silent += 1
        self.typical = typical
        self.stray = stray
        self.doubt = doubt
        self.margin *= 1.0 - SILENT_MEMORY

    def judge(self, error: float) -> None:
        """The prediction that a request was let go by was off by ``error`` units (negative: less was left)."""
        if self.silent:
            error += self.allowance()
        self.margin = min(
            max(self.margin * (1.0 - MARGIN_MEMORY), -error), MARGIN_CAP * self.limit, MOST_MARGIN * self.capacity
        )

    def give_back(self, amount: float, sent: int) -> None:
        """Request ``sent`` was not charged after all, or ``amount`` less than reserved."""
        if sent > self.sent:  # otherwise the anchor already says what the server did with it
            self._level += amount

    def rewind(self, now: float) -> None:
        """The clock was set back to ``now``: nothing may lie in the future of it."""
        self._at = min(self._at, now)
        self._full_at = math.inf
