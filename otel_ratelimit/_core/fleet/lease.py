"""What a fleet has handed to one of its processes, and the part of the refill that a process keeps to when the fleet is lost.

Owns the arithmetic of :class:`Lease` and :class:`Portion`. Knows no queue, no Redis and no limiter.
"""

from __future__ import annotations

import math
from typing import Final

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.fleet.messages import Answer

COVERED: Final = 0.5
"""Share of a call's tokens that a lease must still hold: what a call costs is an estimate, and may have changed since it was
reported. What was used beyond a lease is counted at the next exchange."""

ROUNDING: Final = 1e-6
"""Units that sums of floats may be wrong by."""

RENEWED: Final = 0.5
"""Share of a slice from whose use on the next one is asked for."""

PORTION_GROWS: Final = 10.0
"""Seconds in which the part of the refill that a process takes while it is alone grows by itself once: others may have less to do
by then, or may be gone."""


class Lease:
    """What the fleet has handed to this process. Totals are of ``Traffic.taken``; times are local.

    Attributes:
        answer: as the fleet gave it.
        at: when it came.
        base: totals when the report was made.
        until: totals up to which calls may go.
        due: when the next exchange is due.
        ours: what waited here when the report was made.
    """

    __slots__ = ("_renewal", "answer", "at", "base", "due", "ours", "until")

    def __init__(self, answer: Answer, base: Amounts, ours: Amounts, at: float, due: float) -> None:
        self.answer = answer
        self.at = at
        self.base = base
        self.until = base.plus(answer.lease)
        self.due = due
        self.ours = ours
        self._renewal = (base.requests + RENEWED * answer.lease.requests, base.tokens + RENEWED * answer.lease.tokens)

    def runs_low(self, taken: Amounts) -> bool:
        """Whether so much of a slice is used that the next one should be asked for."""
        return taken[0] > self._renewal[0] or taken[1] > self._renewal[1]

    def covers(self, taken: Amounts, amounts: Amounts) -> bool:
        """Whether a call of ``amounts`` may go when ``taken`` was taken."""
        until = self.until
        return taken[0] + amounts[0] <= until[0] + ROUNDING and all(
            taken[index] + COVERED * amounts[index] <= until[index] + ROUNDING for index in (1, 2, 3)
        )

    def mark_of(self, index: int, taken: Amounts) -> float:
        """The fleet's total when this process had taken ``taken``."""
        return self.answer.mark[index] + taken[index] - self.base[index]

    def expected_level(self, name: str, taken: Amounts, at: float) -> float | None:
        """What the fleet expects a bucket to hold at ``at`` after ``taken``; None where it does not know the bucket."""
        flow = self.answer.flows.get(name)
        if flow is None:
            return None
        return flow.level - (taken[flow.counts] - self.base[flow.counts]) + flow.rate * max(at - self.at, 0.0)

    def expected(self, now: float, ahead: Amounts) -> float:
        """When a call is expected to go if ``ahead`` of this process goes first, itself included. First come first served over
        the fleet: as large a part of the others' calls is ahead as of ours.
        """
        at = now
        for flow in self.answer.flows.values():
            ours = self.ours[flow.counts]
            part = min(ahead[flow.counts] / ours, 1.0) if ours > 0 else 1.0
            needed = ahead[flow.counts] + part * self.answer.others[flow.counts]
            missing = needed + max(flow.reserve, 0.0) - flow.level - flow.rate * (now - self.at)
            if missing > 0 and flow.rate > 0:
                at = max(at, now + missing / flow.rate)
        return at

    def rewind(self, seconds: float) -> None:
        """The clock was set back by ``seconds``."""
        self.at -= seconds
        self.due -= seconds


class Portion:
    """The part of the refill that a process keeps to when its fleet is lost while calls wait in it.

    Args:
        lease: the last one.
        taken: our totals.
        now: when it was lost.
    """

    __slots__ = ("_at", "_parts")

    def __init__(self, lease: Lease, taken: Amounts, now: float) -> None:
        self._at = now
        self._parts: list[tuple[int, float, float]] = []
        """Index, our total that might go at once, and units a second."""
        for index, level, rate, reserve, _ in lease.answer.flows.values():
            others, ours = lease.answer.others[index], lease.ours[index]
            if others > 0:
                part = max(ours / (ours + others), 1.0 / max(lease.answer.live, 1.0))
                left = max(level + rate * max(now - lease.at, 0.0) - max(reserve, 0.0), 0.0)
                self._parts.append((index, taken[index] + part * left, max(part * rate, 1e-9)))

    def ready(self, now: float, taken: Amounts, amounts: Amounts) -> float:
        """The time at which a call fits into it; ``now`` or earlier: at once."""
        at = now
        for index, until, rate in self._parts:
            seconds = (taken[index] + amounts[index] - until) / rate
            if amounts[index] > 0 and seconds > 0:
                # seconds = t + t^2 / (2 PORTION_GROWS), the integral of a rate that grows
                t = PORTION_GROWS * (math.sqrt(1.0 + 2.0 * seconds / PORTION_GROWS) - 1.0)
                at = max(at, self._at + t)
        return at
