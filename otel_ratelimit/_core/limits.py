"""Whether a call may go now, by all that is known of one server's limits.

Owns the decision: a call has to fit every ledger and every gate. Knows no queue and no order: it is asked about one call at
a time. What is known comes from answers (``learning``).

*Calm.* While all ledgers stand above half, nothing that an answer says can matter yet, and no arithmetic is done: a
call only adds to the totals, up to which that is certain, and a reading that shows more than half is passed over.
"""

from __future__ import annotations

import math
from typing import Final

from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.learning import CALM, NOBODY, Learning
from otel_ratelimit._core.queue import Needs, Ticket

CALM_ERROR: Final = 0.01
"""Share of a ledger that may flow past the brim while nobody looks: what is lost there must not be counted as left, or a burst
after a pause would be let go with half as much again as there is."""

OVERSIZED: Final = 1.01
"""Times a limit that a call takes at most which is larger than that limit."""

OVERSIZED_APART: Final = 1.0
"""Seconds between calls that seem larger than a limit. They go at once, because only the server can say so for sure
(and its "request too large" is the caller's answer), but one at a time: an estimate that is too high says it of all."""

MOST_WORK: Final = 20.0
"""A call counts for no more than so many usual ones where nobody says what is counted."""


class Limits(Learning):
    """All limits of one (server, credential, project, model)."""

    __slots__ = ()

    def needs(self, cost: Cost, exact: float | None = None) -> Needs:
        """What a call takes of each unit; ``exact``: its tokens, where the server named them.

        One that is larger than a limit takes hardly more than that limit: there is no more that it could take.
        """
        tokens = self.tariff.tokens(cost) if exact is None else exact
        needs = [cost.requests, tokens, cost.input, cost.output]
        for entry in self.book.entries:
            most = OVERSIZED * entry.ledger.limit
            needs[entry.unit] = min(needs[entry.unit], most)
        return (needs[0], needs[1], needs[2], needs[3])

    def reserve_calmly(self, ticket: Ticket, now: float) -> bool:
        """:meth:`reserve`, if the call surely leaves all ledgers above half; False: nothing was done. By far the usual call:
        its steps stand in one place, because a step into another function costs more than the step."""
        calm = self.calm
        if calm is NOBODY or now > self.calm_until:
            return False
        cost = ticket.cost
        inputs, outputs, requests = cost
        tokens = self.tariff.tokens(cost)
        spent = self.spent
        spent = (spent[0] + requests, spent[1] + tokens, spent[2] + inputs, spent[3] + outputs)
        if spent[0] > calm[0] or spent[1] > calm[1] or spent[2] > calm[2] or spent[3] > calm[3]:
            return False
        self.spent = ticket.spent = spent
        ticket.needs = (requests, tokens, inputs, outputs)
        gates = self.gates
        ticket.sent = gates.sent = sent = gates.sent + 1
        gates.flying.add(ticket)
        if now > gates.measure_at:
            gates.measure(sent, now)
        ticket.sent_at = self.news_at = now
        ticket.levels = None
        return True

    def when(self, needs: Needs, held: Needs | None, now: float) -> float:
        """The earliest time at which a call that takes ``needs`` may go, as far as that is known; ``now``: at once; inf: after an
        answer. ``held``: what is kept for others beside it; None if nothing."""
        at = now
        spent = self.spent
        for entry in self.book.entries:
            unit = entry.unit
            ledger = entry.ledger
            need = needs[unit]
            if need > ledger.limit:
                at = max(at, self._oversized_at + OVERSIZED_APART)
                continue
            if held is not None:
                need += held[unit]
            at = max(at, ledger.ready(now, spent[unit], min(need, ledger.capacity), self.gates.sent))
        gates = self.gates
        if gates.gated or not gates.known:
            at = max(at, gates.when(self._work_of(needs), now))
        return max(at, now)

    def counts(self, needs: Needs, at: float, now: float) -> bool:
        """Whether the turn of such a call at ``at``, as :meth:`when` has it, rests on numbers of the server's, not on a gate."""
        gates = self.gates
        return not ((gates.gated or not gates.known) and gates.when(self._work_of(needs), now) >= at)

    def reserve(self, ticket: Ticket, needs: Needs, now: float, *, probes: bool = False) -> None:
        """The call goes: its share of every limit is taken. ``probes``: although there is no room."""
        ticket.forced = probes
        if probes:
            self.probe.sent(ticket.number, now)
        spent = self.spent
        self.spent = ticket.spent = spent = (
            spent[0] + needs[0], spent[1] + needs[1], spent[2] + needs[2], spent[3] + needs[3],
        )  # fmt: skip
        gates = self.gates
        ticket.sent = sent = gates.count(ticket, now)
        ticket.needs = needs
        ticket.sent_at = self.news_at = now
        calm = now <= self.calm_until and self._is_calm(spent)
        if not calm and gates.gated:
            gates.take(self._work_of(needs), now)
        elif not calm and gates.known:
            self._find_calm(now)
            calm = self._is_calm(spent)
        if calm:
            ticket.levels = None
            return
        ticket.work = gates.work
        ticket.levels = levels = []
        for entry in self.book.entries:
            ledger = entry.ledger
            levels.append((ledger, ledger.level(now, spent[entry.unit], sent)))
            if needs[entry.unit] > ledger.limit:
                self._oversized_at = now

    def expected(
        self, needs: Needs, requests: float, tokens: float, now: float, refused: int = -1, *, guesses: bool
    ) -> float:
        """When a call is expected to go if ``requests`` and ``tokens`` go first, itself included. ``refused``: the latest request
        that had left when it was refused: up to that one, each may have been served before it, and need not be waited for.
        ``guesses``: count limits whose window is one; that is good enough to sleep by, not to give up by."""
        share = tokens / needs[1] if needs[1] > 0 else requests
        total = (requests, tokens, needs[2] * share, needs[3] * share)
        at = self.gates.expected(requests, now)
        for entry in self.book.entries if guesses else self.book.sure:
            ledger = entry.ledger
            at_best = ledger.sent < refused
            level = ledger.level_at_best(now) if at_best else ledger.level(now, self.spent[entry.unit], self.gates.sent)
            missing = total[entry.unit] + ledger.floor(needs[entry.unit]) - level
            if missing > 0:
                at = max(at, now + ledger.refill_time(missing, now))
        return at

    def _is_calm(self, spent: Needs) -> bool:
        calm = self.calm
        return spent[0] <= calm[0] and spent[1] <= calm[1] and spent[2] <= calm[2] and spent[3] <= calm[3]

    def _find_calm(self, now: float) -> None:
        calm = [math.inf, math.inf, math.inf, math.inf]
        self.calm_until = math.inf
        for entry in self.book.entries:
            unit, ledger = entry.unit, entry.ledger
            spent = self.spent[unit]
            room = ledger.level(now, spent, self.gates.sent) - CALM * ledger.capacity
            calm[unit] = min(calm[unit], spent + room if room > 0 else -math.inf)
            if ledger.rate > 0:
                self.calm_until = min(self.calm_until, now + CALM_ERROR * ledger.capacity / ledger.rate)
        self.calm = (calm[0], calm[1], calm[2], calm[3])

    def _work_of(self, needs: Needs) -> float:
        """The call in units of a usual one, where nobody says what is counted: half by number, half by size."""
        typical = self._typical(1)
        return 0.5 + 0.5 * min(needs[1] / typical, MOST_WORK) if typical > 0 else 1.0
