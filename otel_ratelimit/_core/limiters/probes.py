"""When a limit that is believed to have no room is asked nevertheless.

Owns the times of probes: calls that go although the limiters, as far as is known, have no room for them; one at a time. Knows no
limit, queue or clock.

What is known of a limit is a hypothesis: limits are raised, quotas bought, a day's limit is reset, another tenant leaves, a
gateway has other deployments. Only the server knows, and only a request makes it tell. So while callers wait for a turn that is
far away, one of them goes early now and then. A probe that is refused renews the evidence and doubles the time to the next one,
so a limit that is known well is disturbed a handful of times. One that is served lets two more go at once, and so on (slow
start, RFC 5681), until one is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.limiters.limiter import Cause, Diagnosis, Reservation
from otel_ratelimit._core.limiters.traffic import Traffic


@dataclass(frozen=True, slots=True)
class ProbeTuning:
    """The numbers of probes.

    Attributes:
        guessed, counted: seconds without evidence after which the first probe goes: where the turn rests on a pace that was
            guessed or on a delay that another call was told; and where it was counted by the server's own numbers. Each refused
            probe doubles them. A turn that comes no more than that after the probe is simply waited for.
            Measured: with 1 s for both, mixtures of calls of 200 to 20,000 tokens are refused 0.8 times a call instead of 0.01
            (simulation, "mix"); with 1 s where it was guessed, 0.1 to 0.2 times instead of 0.03 (the same, bare 429). With 5 s
            where it was counted a lone caller of calls of a quarter of the limit is refused once, with 15 s never.
        calls: calls that go by the server's own numbers between two that go early, with the evidence fresh; each that is refused
            multiplies it by ``rarer``. The first two of a run of 600 at one limit are refused, the third is not reached.
        rarer: see there.
        longest: seconds. A minute at most passes between probes while callers ask, however long the server said.
        most_allowed: probes that may go at once, at most.
    """

    guessed: float = 3.0
    counted: float = 15.0
    calls: float = 25.0
    seconds: float = 15.0
    rarer: float = 4.0
    longest: float = 60.0
    most_allowed: int = 64


TUNED: Final = ProbeTuning()


class Probes:
    """The probes of one account's limits.

    Attributes:
        evidence_at: when the last request left, or the last answer that says something of limits came.
        fleet_early_at: when a call went early in any process of the same fleet: it asked for all of them.
    """

    __slots__ = (
        "_allowed",
        "_doubled",
        "_early_at",
        "_early_by",
        "_on_early",
        "_pending",
        "_pending_at",
        "_rarer",
        "_refused_by",
        "_traffic",
        "_tuning",
        "evidence_at",
        "fleet_early_at",
    )

    def __init__(self, traffic: Traffic, tuning: ProbeTuning = TUNED) -> None:
        self.evidence_at = self.fleet_early_at = -math.inf
        self._traffic = traffic
        self._tuning = tuning
        self._allowed = 0
        self._doubled = 1.0
        self._early_at = -math.inf
        self._early_by = -1
        """The latest request that had left when the last call went early, or when one first had to wait."""
        self._on_early = False
        """Whether those that may go at once do so because one that went early was served."""
        self._rarer = 1.0
        self._refused_by = -1
        self._pending: set[Reservation] = set()
        self._pending_at = -math.inf

    def ready(self, at: float, now: float, *, counted: bool) -> float:
        """When a call may go whose turn would come at ``at``, later than ``now``. ``counted``: whether the turn rests on the
        server's own numbers.
        """
        if self._allowed > 0:
            return now
        tuning = self._tuning
        interval = min((tuning.counted if counted else tuning.guessed) * self._doubled, tuning.longest)
        early = max(self.evidence_at + interval, self.busy_until(), now)
        return early if at - early > interval else at

    def early(self, now: float) -> bool:
        """Whether a call may go early against the server's own numbers, however fresh they are."""
        latest, tuning = self._traffic.latest, self._tuning
        if self._early_by < 0:
            self._early_by, self._early_at = latest, now  # a burst that has just emptied the limit is no time to ask
        due = (
            latest - self._early_by >= tuning.calls * self._rarer
            or now - self._early_at >= tuning.seconds * self._rarer
        )
        return due and not self._pending and now - self.fleet_early_at >= tuning.seconds

    def busy_until(self) -> float:
        """When the answer of the probe that is on its way is given up; minus infinity where none is."""
        return self._pending_at + self._tuning.longest if self._pending else -math.inf

    def take(self, now: float, reservation: Reservation) -> None:
        """A probe leaves."""
        if self._allowed > 0:
            reservation.early = self._on_early  # one leads to the next
        self._allowed = max(self._allowed - 1, 0)
        self._pending.add(reservation)
        self._pending_at = now
        if reservation.early:
            self._early_by, self._early_at = reservation.sequence, now

    def settle(self, reservation: Reservation, attempt: Attempt, diagnosis: Diagnosis) -> None:
        """The answer of a probe."""
        self._pending.discard(reservation)
        if diagnosis.cause is Cause.SERVED:  # there was room
            self._doubled = 1.0
            self._on_early = reservation.early
            if reservation.sequence > self._refused_by:
                self._allowed = min(self._allowed + 2, self._tuning.most_allowed)
        elif attempt.throttle is not None and attempt.throttle.retryable:  # there was none
            self._allowed = 0
            if reservation.sequence <= self._refused_by:
                return  # it left together with one that was refused: says the same thing
            self._refused_by = self._traffic.latest
            if reservation.early:
                self._rarer *= self._tuning.rarer
            else:
                self._doubled = min(2.0 * self._doubled, self._tuning.longest)

    def stop(self) -> None:
        """No more go at once on what was served."""
        self._allowed = 0

    def cancel(self, reservation: Reservation) -> None:
        """A probe ended in a way that says nothing of the limit."""
        self._pending.discard(reservation)

    def rewind(self, now: float) -> None:
        """The clock was set back to ``now``."""
        self._pending_at = min(self._pending_at, now)
        self._early_at = min(self._early_at, now)
        self.evidence_at = min(self.evidence_at, now)
        self.fleet_early_at = min(self.fleet_early_at, now)
