"""Our own traffic: how much was let go, what of it is in flight, and how fast it flows.

Owns the counts that every limiter reads: sequence number, running totals, calls in flight, the measured rate. It is the one place
that changes them, by ``combined``'s hand: a permit taken, settled or cancelled. Knows no limit.
"""

from __future__ import annotations

import math
from typing import Final

from otel_ratelimit._core.amounts import NOTHING, Amounts
from otel_ratelimit._core.limiters.limiter import Reservation

RATE_TIME: Final = 10.0
"""Seconds over which the rate is measured, at least; twice that at most."""

LEAST_RATE_TIME: Final = 0.5
"""Seconds. A burst shorter than this is no rate."""

MOST_WORK: Final = 20.0
"""Usual calls that one call counts for at most: a guess from its size where the server counts something unknown."""


class Traffic:
    """What was let go.

    Attributes:
        latest: sequence number of the latest request.
        taken: running totals of all permits.
        returned: of these, what turned out not to be used.
        extra: usual calls by which the work exceeds the number of calls, see :attr:`work`.
        in_flight: reservations without an answer. One container is the only record of it, so an interrupt (KeyboardInterrupt)
            in the middle of a change cannot make two records differ.
        measure_at: when the present stretch has been measured for long enough.
    """

    __slots__ = (
        "_rate",
        "_since",
        "_since_sequence",
        "extra",
        "in_flight",
        "latest",
        "measure_at",
        "returned",
        "taken",
    )

    def __init__(self) -> None:
        self.latest = 0
        self.taken = NOTHING
        self.returned = NOTHING
        self.extra = 0.0
        self.in_flight: set[Reservation] = set()
        self.measure_at = -math.inf
        self._rate = 0.0
        self._since = -math.inf
        self._since_sequence = 0

    @property
    def work(self) -> float:
        """All calls in units of a usual one: each counts one, those behind an unknown limit by their size as well."""
        return self.latest + self.extra

    def typical(self, index: int) -> float:
        """What a call takes on average, in unit ``index`` of :class:`Amounts`."""
        return (self.taken[index] - self.returned[index]) / self.latest if self.latest else 0.0

    def work_of(self, amounts: Amounts) -> float:
        """A call in units of a usual one, where the server does not say what it counts: half by number, half by size."""
        typical = (self.taken[1] - self.returned[1]) / self.latest if self.latest else 0.0
        return 0.5 + 0.5 * min(amounts[1] / typical, MOST_WORK) if typical > 0 else 1.0

    def give_back(self, reservation: Reservation, first: int) -> None:
        """What a reservation took was not used, from unit ``first`` on."""
        unused = [0.0] * first + list(reservation.amounts[first:])
        self.returned = self.returned.plus(Amounts(*unused))

    def measure(self, now: float) -> None:
        """Another stretch begins with the latest call."""
        before = self.latest - 1
        self._rate = (before - self._since_sequence) / (now - self._since)
        self._since = now
        self._since_sequence = before
        self.measure_at = now + RATE_TIME

    def rate(self, now: float, pause: float = 0.0) -> float:
        """Calls a second of late; ``pause``: seconds that are added to the time that these took."""
        if pause > 0.0:
            return (self.latest - self._since_sequence) / (max(now - self._since, 0.0) + pause)
        elapsed = max(now - self._since, 0.0)
        recent = (self.latest - self._since_sequence) / max(elapsed, LEAST_RATE_TIME)
        return max(recent, self._rate if elapsed < 0.5 * RATE_TIME else 0.0, 1.0 / RATE_TIME)

    def rewind(self, now: float) -> None:
        """The clock was set back to ``now``."""
        self._since = min(self._since, now)
        self.measure_at = self._since + RATE_TIME
