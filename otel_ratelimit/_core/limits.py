"""What is known of one server's limits: whether a call may go now, and what its answer teaches.

Owns the ledgers of the book (the numbers that the server names), the tariff, and the gates (all the rest): a call
has to fit every one of them. Knows no queue and no order: it is asked about one call at a time.

*Calm.* While all ledgers stand above half, nothing that an answer says can matter yet, and no arithmetic is done: a
call only adds to the totals, up to which that is certain, and a reading that shows more than half is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from otel_ratelimit._core.book import UNITS, Book, Entry, Reading
from otel_ratelimit._core.cost import Cost, Tariff
from otel_ratelimit._core.gates import Gates
from otel_ratelimit._core.ledger import MARGIN_CAP
from otel_ratelimit._core.queue import Needs, Ticket
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._core.trust import Trust

CALM: Final = 0.5
"""Share of a ledger above which nothing is near."""

CALM_ERROR: Final = 0.01
"""Share of a ledger that may flow past the brim while nobody looks: what is lost there must not be counted as left, or a burst
after a pause would be let go with half as much again as there is."""

OVERSIZED_APART: Final = 1.0
"""Seconds between calls that seem larger than a limit. They go at once, because only the server can say so for sure
(and its "request too large" is the caller's answer), but one at a time: an estimate that is too high says it of all."""

UNKNOWN_SHORTAGE: Final = 0.1
"""Share of a refused call's expected cost that was missing at least, where the numbers do not show that any was: costs
vary by some 15 % from call to call."""

PATIENCE: Final = 60.0
"""Seconds. Where the next call would have to wait for longer than this and nothing was sent for as long, one is: limits are
raised, quotas bought, and a client that believes an old word for hours fails calls that the server would have served. It
costs a refusal a minute at most, and the one who is refused has the server's own answer at once."""

MOST_WORK: Final = 20.0
"""A call counts for no more than so many usual ones where nobody says what is counted."""

QUICKEST_FADES: Final = 1.01
"""Factor by which the quickest refusal of late is forgotten with each further one: networks change."""

NOBODY: Final = (-math.inf, -math.inf, -math.inf, -math.inf)


class Limits:
    """All limits of one (server, credential, project, model).

    Attributes:
        tariff: how the server charges for tokens.
        book: the ledgers.
        gates: what is no ledger; counts the calls.
        trust: whether the ledgers are believed alone.
        spent: what was reserved of each unit, ever.
        calm: for each unit, the total of reservations up to which every ledger surely stands above half;
        calm_until: and the time up to which the ledgers need not be looked at.
        looked_at: when headers were last read while all was calm.
    """

    __slots__ = (
        "_last_at", "_oversized_at", "_quickest", "book", "calm", "calm_until", "gates", "looked_at", "spent", "tariff", "trust",
    )  # fmt: skip

    def __init__(self, gates: Gates) -> None:
        self.tariff = Tariff()
        self.book = Book()
        self.gates = gates
        self.calm: Needs = NOBODY
        self.calm_until = math.inf
        self.spent: Needs = (0.0, 0.0, 0.0, 0.0)
        self._oversized_at = -math.inf
        self._last_at = -math.inf
        self.looked_at = -math.inf
        self._quickest = math.inf
        self.trust = Trust()

    # --- may it go, and when ------------------------------------------------------------------------------------------

    def needs(self, cost: Cost, exact: float | None = None) -> Needs:
        """What a call takes of each unit; ``exact``: its tokens, where the server named them."""
        tokens = self.tariff.tokens(cost) if exact is None else exact
        return (cost.requests, tokens, cost.input, cost.output)

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
        gates.in_flight += 1
        if now > gates.measure_at:
            gates.measure(sent, now)
        ticket.sent_at = self._last_at = now
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
        if at > now + PATIENCE:
            at = min(at, self._last_at + PATIENCE)
        return max(at, now)

    def reserve(self, ticket: Ticket, needs: Needs, now: float) -> None:
        """The call goes: its share of every limit is taken."""
        spent = self.spent
        self.spent = ticket.spent = spent = (
            spent[0] + needs[0], spent[1] + needs[1], spent[2] + needs[2], spent[3] + needs[3],
        )  # fmt: skip
        gates = self.gates
        ticket.sent = sent = gates.count(now)
        ticket.needs = needs
        ticket.sent_at = self._last_at = now
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

    def give_back(self, ticket: Ticket) -> None:
        """The call was never sent: its share is free again."""
        for entry in self.book.entries:
            entry.ledger.give_back(ticket.needs[entry.unit], ticket.sent)
        self.calm = NOBODY

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

    def _typical(self, unit: int) -> float:
        return self.spent[unit] / self.gates.sent if self.gates.sent else 0.0

    # --- what answers teach -------------------------------------------------------------------------------------------

    def nothing_new(self, ticket: Ticket, readings: Iterable[Reading], now: float) -> bool:
        """Whether a success teaches nothing: it left when all was calm, and its headers show that all is."""
        if ticket.levels is not None or self.calm is NOBODY:
            return False
        self.looked_at = now
        slots = self.book.slots
        for reading in readings:
            entry = slots.get((reading.kind, reading.scope, reading.window_name))
            remaining = reading.remaining
            if entry is None or remaining is None or entry.ledger.limit != reading.limit:
                return False
            if remaining < CALM * entry.ledger.capacity:
                return False
        return True

    def learn(
        self,
        ticket: Ticket,
        now: float,
        readings: Iterable[Reading],
        *,
        succeeded: bool,
        used: float | None,
        waiting: bool,
    ) -> None:
        """An answer that was no refusal."""
        self.calm = NOBODY
        told: dict[Entry, float] = {}
        for reading in readings:
            self._take_reading(ticket, reading, now, told, refused=False)
        self.gates.answered(told=bool(told))
        if not succeeded:
            return
        for entry in self.book.entries:
            if entry not in told:
                typical = self._typical(entry.unit)
                stray = typical * self.tariff.stray if entry.unit else 0.0
                entry.ledger.pass_over(typical, stray, stray / self.tariff.certainty)
        if used is not None and 0 < used < math.inf:
            self._take_usage(ticket, used)
        if self.trust.tried and self.trust.right(ticket.sent):
            self.gates.pacer.on = False
        if self.gates.gated:
            self.gates.served(ticket.sent, now, waiting=waiting)

    def learn_refusal(
        self,
        ticket: Ticket,
        now: float,
        readings: Iterable[Reading],
        throttle: Throttle,
        *,
        slow_down: bool,
        waiting: bool,
    ) -> None:
        """A refusal; one that waiting cannot help teaches only what its headers say."""
        self.calm = NOBODY
        self.gates.known = True
        self._date(ticket, now)
        told: dict[Entry, float] = {}
        requested = throttle.requested
        if requested is not None and throttle.kind == "tokens" and 0 <= requested < math.inf:
            self.tariff.learn_requested(ticket.cost, requested)
            ticket.exact = float(requested)
        for reading in readings:
            self._take_reading(ticket, reading, now, told, refused=throttle.retryable)
        if throttle.retryable:
            self._take_numbers(ticket, throttle, now, told)
            self._close(ticket, throttle, now, told, slow_down=slow_down, waiting=waiting)
        for entry in self.book.entries:
            if entry.unit and entry not in told:
                entry.ledger.give_back(ticket.needs[entry.unit], ticket.sent)  # refused work is not charged

    def _date(self, ticket: Ticket, now: float) -> None:
        """When a refused request reached the server: not before the quickest refusal's way back ago.

        A request may wait for a processor or a connection after its turn; what flows in meanwhile must not count once more.
        """
        way = now - ticket.sent_at
        if way > 0:
            self._quickest = min(self._quickest * QUICKEST_FADES, way)
            ticket.sent_at = max(ticket.sent_at, now - self._quickest)

    def _take_reading(
        self, ticket: Ticket, reading: Reading, now: float, told: dict[Entry, float], *, refused: bool
    ) -> None:
        sent_at = ticket.sent_at
        entry = self.book.for_reading(reading, need=ticket.needs, spent=ticket.spent, sent_at=sent_at, sent=ticket.sent)
        remaining = reading.remaining
        if entry is None or remaining is None or entry in told:
            return
        ledger = entry.ledger
        level = told[entry] = float(remaining)
        # Costs are estimates: twice the expected one is still "not enough left" as the reason of a refusal.
        entry.short = refused and level < 2.0 * ticket.needs[entry.unit] + ledger.margin
        if reading.reset is not None and ledger.window is not None and 0 <= reading.reset <= ledger.window:
            # Remaining is cut to whole units; the time until full is finer where units are few (300 RPM: 0.2 s each).
            level = min(max(level, ledger.capacity - ledger.rate * reading.reset), level + 0.999)
        self._anchor(ticket, entry, level, now, self._after_refusal(ticket, entry, level) if entry.short else level)

    def _take_numbers(self, ticket: Ticket, throttle: Throttle, now: float, told: dict[Entry, float]) -> None:
        """ "Limit, Used, Requested" of a message: the level, to the unit, at the moment of the refusal."""
        if throttle.limit is None or throttle.used is None or not 0 <= throttle.used <= 2.0 * throttle.limit:
            return
        level = throttle.limit - throttle.used
        need = ticket.needs[UNITS.get(throttle.kind, 0)]
        entry = self.book.for_message(
            throttle.kind, throttle.limit, throttle.window_seconds, level=level, need=need, told=told,
            sent_at=ticket.sent_at, last_sent=self.gates.sent, spent=self.spent,
        )  # fmt: skip
        if entry is None:
            return
        entry.short = True
        if entry not in told:
            told[entry] = level
            self._anchor(ticket, entry, level, now, self._after_refusal(ticket, entry, level))

    def _after_refusal(self, ticket: Ticket, entry: Entry, level: float) -> float:
        """What would have been left had the refused call been served: below nothing; only a message tells how far."""
        need = ticket.needs[entry.unit]
        if entry.unit == 1 and ticket.exact is not None:
            need = ticket.exact
        return min(level - need, -UNKNOWN_SHORTAGE * need)

    def _anchor(self, ticket: Ticket, entry: Entry, level: float, now: float, after: float) -> None:
        """``level``: what was left when the server had dealt with the call; ``after``: that, or would have been."""
        ledger = entry.ledger
        for predicted, expected in ticket.levels or ():
            # Far from the limit no error matters, and they are larger there.
            if predicted is ledger and expected < MARGIN_CAP * ledger.limit:
                ledger.judge(after - expected)
        unit = entry.unit
        learns = self.tariff if unit == 1 and not self.tariff.usage_tells else None
        ledger.anchor(
            level, sent_at=ticket.sent_at, spent=ticket.spent[unit], sent=ticket.sent,
            now=now, spent_now=self.spent[unit], refused=ticket.needs[unit] if unit and entry.short else 0.0, tariff=learns,
        )  # fmt: skip

    def _take_usage(self, ticket: Ticket, used: float) -> None:
        tariff = self.tariff
        tariff.seen(used)
        if ticket.exact is not None:
            tariff.learn_usage(used, ticket.exact)
            return
        charged = tariff.charge_of_usage(used)
        if charged is not None:
            tariff.learn(ticket.cost, charged)
            for entry in self.book.entries:
                if entry.unit == 1:
                    entry.ledger.give_back(ticket.needs[1] - charged, ticket.sent)

    def _close(
        self,
        ticket: Ticket,
        throttle: Throttle,
        now: float,
        told: dict[Entry, float],
        *,
        slow_down: bool,
        waiting: bool,
    ) -> None:
        """If no ledger explains the refusal, a gate has to."""
        ticket.ignores_reset = False
        if slow_down:
            self.gates.slow_down(ticket.sent, now)
            return
        if throttle.kind in ("overload", "concurrency"):
            self.gates.overloaded(ticket.sent)
            return
        # A reset time says when the bucket is full: no instruction, where a ledger knows when the call fits.
        explained = any(entry.short for entry in told)
        ticket.ignores_reset = explained and throttle.source == "x-ratelimit-reset"
        had_room = not ticket.forced and (ticket.levels is None or bool(ticket.levels))
        if not explained or (had_room and self.trust.surprised(ticket.sent, self.gates.sent)):
            delay = None if ticket.ignores_reset else throttle.delay
            before = (ticket.sent if ticket.levels is None else ticket.work) - 1.0
            self.gates.refused(ticket.sent, ticket.sent_at, before, now, delay, alone=not waiting)

    def rewind(self, now: float, seconds: float) -> None:
        """The clock was set back to ``now``, by ``seconds``."""
        for entry in self.book.entries:
            entry.ledger.rewind(now)
        self.gates.rewind(now, seconds)
        self._oversized_at = min(self._oversized_at, now)
        self._last_at = min(self._last_at, now)
        self.looked_at = -math.inf
        self.calm = NOBODY
