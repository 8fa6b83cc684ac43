"""What limiters share: their protocol, the reservation that one call's attempt holds, and the diagnosis of an answer.

A call that goes takes its amounts from every limiter, and holds one reservation. Its answer is diagnosed once
(``combined``), and each limiter settles the reservation by that diagnosis. A call that was never sent cancels its reservation. So
every reservation is settled, cancelled, or in flight.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from otel_ratelimit._core.amounts import NOTHING, Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.buckets.estimate import Bucket
from otel_ratelimit._core.buckets.tracked import Tracked
from otel_ratelimit._core.cost import Cost


class Reservation:
    """What one attempt of a call has taken. Made by the admission, which must know it before anything is taken (an interrupt may
    come at any point); written by limiters only.

    Attributes:
        cost: the call's, as estimated from its body.
        amounts: what was taken.
        taken_at: when; an answer may date the request's departure later (``Attempt.sent_at``).
        sequence: sequence number of the request, from 1.
        taken: running totals of all permits, with this one.
        work: the same in usual calls, see ``Traffic.work``.
        predictions: what each bucket was expected to hold after it; None: it went by the fast path, far from every limit.
        probe: it went although the limits were believed to have no room.
        early: it is a probe that went although the evidence was fresh.
        requested: tokens that the server named for this call, None if it did not.
        refusals: how often the call has been refused by now, this attempt included.
        unexplained: how many of them no bucket showed a reason for.
        refused_by: the latest request that had left at the last of those that was put down to all calls; -1 where none was.
        reset_known: the delay of its refusal was a reset time, and a bucket knows better when the call fits.
        source: what let it go: None for the process's own estimate, else the fleet's lease.
    """

    # What has a value here is the attempt's own once it is changed; most attempts change little of it. (A constructor would cost
    # each call more than all that it sets.)
    cost: Cost
    amounts = taken = NOTHING
    taken_at: float
    sequence = 0
    work: float
    predictions: list[tuple[Bucket, float]] | None = None
    probe = early = False
    requested: float | None = None
    refusals = unexplained = 0
    refused_by = -1
    reset_known = False
    source: Any = None

    @classmethod
    def after(cls, cost: Cost, previous: Reservation | None) -> Reservation:
        """An empty one. ``previous``: of the same call's attempt before."""
        reservation = cls()
        reservation.cost = cost
        if previous is not None:
            reservation.requested, reservation.refusals = previous.requested, previous.refusals
            reservation.unexplained, reservation.refused_by = previous.unexplained, previous.refused_by
        return reservation


class Cause(enum.Enum):
    """What an answer says about limits."""

    SERVED = enum.auto()
    """The server did the work: there was room."""
    REJECTED = enum.auto()
    """The request was wrong; no work was done."""
    LOST = enum.auto()
    """It failed in a way that says nothing of limits, and may have been charged."""
    EXHAUSTED = enum.auto()
    """Refused, and a tracked bucket shows why."""
    ONE_OF_SEVERAL = enum.auto()
    """Refused by one of several buckets behind one address: says nothing of the others, and binds this call alone."""
    UNEXPLAINED = enum.auto()
    """Refused, and no tracked bucket shows why."""
    TOO_MANY_AT_ONCE = enum.auto()
    """Refused for what was in flight: overload, or a limit of concurrency."""
    GREW_TOO_FAST = enum.auto()
    """Refused for the growth of traffic (``slow_down``)."""
    ITS_OWN = enum.auto()
    """Refused for what this one call is: money, or its size. Says nothing of other calls."""


class Diagnosis(NamedTuple):
    """One answer, judged once for all limiters.

    Attributes:
        cause: see :class:`Cause`.
        reported: the buckets that the answer spoke of, and what it said was left of each.
        waiting: whether other calls wait, so that the limits are really used.
        delay: seconds for which the server wants no call, None where it did not say.
        trusted: the buckets are believed again, or headers show room: a rate that was found by trial is needed no longer.
        several: usual calls a second that several buckets behind one address refill together at least, where the tracked ones are
            some of those; None where they are not.
    """

    cause: Cause
    reported: Mapping[Tracked, float]
    waiting: bool
    delay: float | None = None
    trusted: bool = False
    several: float | None = None


class Limiter(Protocol):
    """One kind of limit. Not thread-safe; never blocks; every method takes the present.

    Attributes:
        on: whether it can hold a call back at present. ``combined`` asks only those that are on.
    """

    on: bool

    def ready(self, now: float, amounts: Amounts, held: Amounts | None) -> float:
        """The earliest time at which a call that takes ``amounts`` may go: ``now`` or earlier: at once; inf: after an answer.
        ``held``: what is kept for other calls beside it; None if nothing.
        """

    def take(self, now: float, reservation: Reservation) -> None:
        """A call goes."""

    def settle(self, reservation: Reservation, attempt: Attempt, diagnosis: Diagnosis) -> None:
        """Its answer came."""

    def cancel(self, reservation: Reservation) -> None:
        """It was never sent."""

    def expected(self, now: float, ahead: Amounts) -> float:
        """When a call is expected to go if ``ahead`` goes first, itself included."""

    def rewind(self, now: float, seconds: float) -> None:
        """The clock was set back to ``now``, by ``seconds``."""
