"""The time before which the server wants no call, and the evidence for it.

A refusal that no bucket explains closes the limit for all callers until the delay that it named is over. A success of a request
that left after that refusal opens it at once: only the server knows. The evidence is kept apart, for callers who would have to
wait longer than they may: until when was the call told to stay away that was refused last, and when was that said?
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.limiters.limiter import Cause, Diagnosis, Reservation
from otel_ratelimit._core.limiters.traffic import Traffic

BUFFER: Final = 0.025
"""Seconds after the time that the server named at which other calls than the refused one come, because delays are cut to whole
milliseconds (OpenAI); the default of ``Policy.buffer``, which holds the refused call."""


LONG: Final = 120.0
"""Seconds. The longest delay that the SDK alone sits out: a longer one is asked about again and again."""

CONTRADICTED: Final = 2
MOST_CONTRADICTED: Final = 4
"""Calls that were served within a time that another one had been told, less those that were refused, from which on a delay binds
the refused call alone; and as many as are counted."""

PROBED: Final = 0.15
"""Share of any other delay in which a probe may go. A probe that is refused waits for what it was told then: at the end of a
minute, a minute more, which is later than without us."""


class Evidence(NamedTuple):
    """What the server told the call that it refused last.

    Attributes:
        until: the time until which that call should stay away.
        at: when it was told so.
        tokens: the size of that call: the refusal may be about its size, and says nothing of smaller ones.
        latest: the latest request that had left by then.
    """

    until: float
    at: float
    tokens: float
    latest: int


class RetryAfter:
    """On while the server wants no call.

    Attributes:
        until: the time before which it wants none; minus infinity for none.
        evidence: see :class:`Evidence`; None once a later request was served.
    """

    __slots__ = (
        "_contradicted",
        "_probes_until",
        "_refused_by",
        "_told_by",
        "_told_tokens",
        "_told_until",
        "_traffic",
        "evidence",
        "on",
        "until",
    )

    def __init__(self, traffic: Traffic) -> None:
        self.on = False
        self.until = -math.inf
        self.evidence: Evidence | None = None
        self._traffic = traffic
        self._refused_by = -1
        self._probes_until = -math.inf
        self._told_until = -math.inf
        self._told_tokens = 0.0
        self._told_by = -1
        """The latest request that had left when a call was told to stay away until then."""
        self._contradicted = 0

    def ready(self, now: float, amounts: Amounts, held: Amounts | None) -> float:
        return self.until

    def take(self, now: float, reservation: Reservation) -> None:
        pass

    def settle(self, reservation: Reservation, attempt: Attempt, diagnosis: Diagnosis) -> None:
        throttle = attempt.throttle
        if throttle is not None and throttle.retryable:
            until = attempt.at if throttle.delay is None else attempt.at + throttle.delay
            self.evidence = Evidence(until, attempt.at, reservation.amounts.tokens, self._traffic.latest)
        self._weigh(reservation, attempt, diagnosis)
        if diagnosis.cause is Cause.UNEXPLAINED:
            self._refused_by = self._traffic.latest
            if diagnosis.delay is not None and 0 <= diagnosis.delay < math.inf and not (reservation.probe and self.on):
                # (A probe came before its time: a server that says the same to all tells nothing new.)
                self._close(attempt.at, diagnosis.delay, reservation.amounts.tokens)
        elif diagnosis.cause is Cause.SERVED:
            if self.evidence is not None and reservation.sequence > self.evidence.latest:
                self.evidence = None
            if self.on and self.is_later(reservation):
                self.on = False
                self.until = -math.inf

    def _close(self, now: float, delay: float, tokens: float) -> None:
        until = now + delay + BUFFER
        if until > self._told_until:
            self._told_until, self._told_by, self._told_tokens = until, self._traffic.latest, tokens
        if self._contradicted >= CONTRADICTED:
            return
        if until > self.until:
            self.until = until
            self._probes_until = until if delay > LONG else now + PROBED * delay
        self.on = True

    def _weigh(self, reservation: Reservation, attempt: Attempt, diagnosis: Diagnosis) -> None:
        """What became of a request that left after another one, no larger, had been told to stay away, before that time was
        over.
        """
        if reservation.sequence <= self._told_by or attempt.departed(reservation.taken_at) >= self._told_until:
            return
        if diagnosis.cause is Cause.SERVED and reservation.amounts.tokens >= self._told_tokens:
            self._contradicted = min(self._contradicted + 1, MOST_CONTRADICTED)
        elif diagnosis.cause is Cause.UNEXPLAINED:
            self._contradicted = max(self._contradicted - 1, 0)

    def may_be_probed(self, now: float) -> bool:
        """Whether a probe may go at ``now``."""
        return not self.on or now <= self._probes_until

    def is_later(self, reservation: Reservation) -> bool:
        """Whether a request left after the last refusal that no bucket explains."""
        return reservation.sequence > self._refused_by

    def cancel(self, reservation: Reservation) -> None:
        pass

    def expected(self, now: float, ahead: Amounts) -> float:
        return self.until

    def rewind(self, now: float, seconds: float) -> None:
        self.until -= seconds
        self._probes_until -= seconds
        self._told_until -= seconds
        if self.evidence is not None:
            self.evidence = self.evidence._replace(until=self.evidence.until - seconds, at=min(self.evidence.at, now))
