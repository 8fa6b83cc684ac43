"""All that can hold a call back and is no ledger: what is done where the server names no numbers.

Owns the cold start, the pacer (bare 429s), the crowd (overload), the ramp (``slow_down``) and the time before which
the server wants nobody; and the measure of our own traffic that they start from. Knows no ledger and no queue.

*Cold start.* Two dozen calls go at once, then their number doubles every 50 ms until the first answer. A program far
below the limit that starts 64 calls at a time loses 71 ms once with the last of them (0.2 % of a run of 14 s); one
that starts 500 at a limit of twenty is refused the first few and not all. Measured (calls at once; loss of a 14 s
run of 64 at a time; refusals of 200 at a time where 13 fit): all 0.0 %, 187; 64 0.0 %, 138; 32 0.1 %, 65; 24 0.2 %,
48; 16 0.3 %, 28; 8 0.5 %, 24.
"""

from __future__ import annotations

import math
from typing import Final

from otel_ratelimit._core.pacer import Crowd, Pacer, Ramp
from otel_ratelimit._core.queue import Ticket

COLD_CALLS: Final = 24
COLD_DOUBLING: Final = 0.05
"""Calls that go at once before the first answer, and seconds in which their number doubles after that."""

RATE_TIME: Final = 10.0
"""Seconds over which the rate of our own calls is measured, at least; twice that at most."""

LONGEST_BUFFER: Final = 1.0
"""Seconds by which the refused call's own buffer and jitter may keep the gate closed beyond the server's time."""

LEAST_RATE_TIME: Final = 0.5
"""Seconds. A burst shorter than this is no rate."""

CLOSED_BUFFER: Final = 0.05
"""Seconds after the time that the server named at which others than the refused call come: delays are cut to a millisecond
or a second, and the refused call's own buffer (``Policy.buffer``) lets it come no earlier either."""


class Gates:
    """Everything but the numbers.

    Attributes:
        known: whether the server has named a limit, or answered often without; until then the cold start holds.
        gated: whether any gate but the cold start has ever closed; until then none is asked.
        sent: calls that were let go, ever; the sequence number of the latest.
        flying: of these, the ones that were not answered yet: the only word on it, wherever an interrupt came.
        measure_at: when the present stretch of our own traffic has been measured for long enough.
        refused_by: the latest request that had left when the server last refused one for a reason that no ledger knows.
        work: what they amount to, in usual calls, counted by size as well since a gate closed.
    """

    __slots__ = (
        "_answers",
        "_closed_until", "_cold_calls", "_cold_doubling", "_cold_since", "_crowd", "_mark_at", "_mark_sent", "_rate",
        "extra", "flying", "gated", "known", "measure_at", "pacer", "ramp", "refused_by", "sent",
    )  # fmt: skip

    def __init__(self, cold_calls: int, cold_doubling: float) -> None:
        self.known = False
        self.gated = False
        self.sent = 0
        self.flying: set[Ticket] = set()
        self.refused_by = -1
        self.extra = 0.0
        self.pacer = Pacer()
        self.ramp = Ramp()
        self._crowd = Crowd()
        self._closed_until = -math.inf
        self._cold_calls = max(cold_calls, 1)
        self._cold_doubling = cold_doubling
        self._cold_since: float | None = None
        self._answers = 0
        self._rate = 0.0
        self._mark_at = -math.inf
        self._mark_sent = 0
        self.measure_at = -math.inf

    @property
    def closed_until(self) -> float:
        """The time before which the server wants nobody."""
        return self._closed_until

    @property
    def in_flight(self) -> int:
        return len(self.flying)

    @property
    def work(self) -> float:
        return self.sent + self.extra

    def when(self, work: float, now: float) -> float:
        """The earliest time at which a call of ``work`` units may go; ``now``: at once; inf: after an answer."""
        at = now
        if not self.known:
            at = max(at, self._cold(now))
        if self.gated:
            if self.in_flight >= self._crowd.most:
                return math.inf
            at = max(at, self._closed_until)
            if self.pacer.on:
                at = max(at, self.pacer.ready(now, work))
            if self.ramp.on:
                at = max(at, self.ramp.ready(now, work))
        return at

    def expected(self, requests: float, now: float) -> float:
        """When a call is expected to go if ``requests`` go first, itself included."""
        at = max(now, self._closed_until)
        for gate in (self.pacer, self.ramp):
            if gate.on:
                at = max(at, gate.ready(now, requests))
        return at

    def count(self, ticket: Ticket, now: float) -> int:
        """One more is let go; returns its sequence number."""
        self.sent = sent = self.sent + 1
        self.flying.add(ticket)
        if now > self.measure_at:
            self.measure(sent, now)
        return sent

    def measure(self, sent: int, now: float) -> None:
        """Another stretch of our own traffic begins with call ``sent``."""
        self._rate = (sent - 1 - self._mark_sent) / (now - self._mark_at)
        self._mark_at = now
        self._mark_sent = sent - 1
        self.measure_at = now + RATE_TIME

    def take(self, work: float, now: float) -> None:
        """What is let go amounts to ``work``; only asked for while gated."""
        self.extra += work - 1.0
        if self.pacer.on:
            self.pacer.take(now, work)
        if self.ramp.on:
            self.ramp.take(now, work)

    def served(self, sent: int, now: float, *, waiting: bool) -> None:
        """Request ``sent`` was served; ``waiting``: others would have liked to go, so the rate is really used."""
        self.pacer.passed(sent, now, waiting)
        self._crowd.passed(sent, self.in_flight)

    def answered(self, *, told: bool) -> None:
        """An answer that was no refusal; ``told``: it named limits. Else it takes a few: a refusal may name them yet."""
        self._answers += 1
        self.known = self.known or told or self._answers >= self._cold_calls

    def slow_down(self, sent: int, now: float) -> None:
        """Request ``sent`` was told that traffic grew too fast."""
        self.gated = True
        self.ramp.slow_down(sent, now, self.sent, self._measured(now))

    def overloaded(self, sent: int) -> None:
        """Request ``sent``, answered by now, met a server that could not bear what was in flight."""
        self.gated = True
        self._crowd.overloaded(sent, self.in_flight + 1, self.sent)

    def refused(
        self, sent: int, sent_at: float, before: float, now: float, delay: float | None, *, alone: bool, forced: bool
    ) -> None:
        """Request ``sent`` was refused for a reason that no ledger knows.

        Args:
            sent, sent_at: of the request.
            before: units of work that were let go before it.
            now: the present.
            delay: seconds for which the server wants nobody, None where it did not say.
            alone: nobody else is waiting.
            forced: it went although its turn had not come; so it says nothing against the present rate.
        """
        self.gated = True
        self.refused_by = self.sent
        until = now
        if delay is not None and 0 <= delay < math.inf:
            until = now + delay
            self._closed_until = max(self._closed_until, until + CLOSED_BUFFER)
        if forced and self.pacer.on:
            return
        self.pacer.refused(
            sent_at, before, sent, now=now, spent_now=self.work, last_sent=self.sent,
            measured=self._measured(now), until=until, alone=alone and self.in_flight == 0,
        )  # fmt: skip

    def open(self) -> None:
        """A request that left after the last refusal was served: the time that it named is over."""
        self._closed_until = -math.inf

    def stay_closed(self, not_before: float, now: float) -> None:
        """The refused call comes back at ``not_before``, a buffer after the server's time; nobody comes before it."""
        if now < self._closed_until < not_before:
            self._closed_until = min(not_before, self._closed_until + LONGEST_BUFFER)

    def rewind(self, now: float, seconds: float) -> None:
        """The clock was set back to ``now``, by ``seconds``."""
        self.pacer.rewind(now)
        self.ramp.rewind(now)
        self._closed_until -= seconds
        self._mark_at = min(self._mark_at, now)
        self.measure_at = self._mark_at + RATE_TIME
        if self._cold_since is not None:
            self._cold_since = min(self._cold_since, now)

    def _cold(self, now: float) -> float:
        if self._cold_since is None:
            self._cold_since = now
        if self.sent < self._cold_calls:
            return now
        return self._cold_since + self._cold_doubling * math.log2((self.sent + 1) / self._cold_calls)

    def _measured(self, now: float) -> float:
        """Calls a second of late."""
        elapsed = max(now - self._mark_at, 0.0)
        recent = (self.sent - self._mark_sent) / max(elapsed, LEAST_RATE_TIME)
        return max(recent, self._rate if elapsed < 0.5 * RATE_TIME else 0.0, 1.0 / RATE_TIME)
