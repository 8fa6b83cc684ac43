"""What answers teach of one server's limits.

Owns the ledgers of the book (the numbers that the server names), the tariff, the gates (all the rest), and how each answer
changes them. Knows no queue and no order, and does not decide whether a call may go (``limits``).

*Probes.* What was sent although there seemed to be no room, and was served, shows that there was some: it is charged to no
ledger that had none, and a gate that the server's own time had closed is open. Headers that show room end a backoff as well,
unless they have been wrong before (``trust``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from otel_ratelimit._core.book import UNITS, Book, Entry, Reading
from otel_ratelimit._core.cost import Tariff
from otel_ratelimit._core.gates import Gates
from otel_ratelimit._core.ledger import MARGIN_CAP
from otel_ratelimit._core.probe import Probe
from otel_ratelimit._core.queue import Needs, Ticket
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._core.trust import Trust

CALM: Final = 0.5
"""Share of a ledger above which nothing is near."""

UNKNOWN_SHORTAGE: Final = 0.1
"""Share of a refused call's expected cost that was missing at least, where the numbers do not show that any was: costs
vary by some 15 % from call to call."""

QUICKEST_FADES: Final = 1.01
"""Factor by which the quickest refusal of late is forgotten with each further one: networks change."""

LARGEST_FADES: Final = 0.99
"""Share of the largest served call's size that is kept with each call that is served: what was served long ago is no measure."""

NOBODY: Final = (-math.inf, -math.inf, -math.inf, -math.inf)


class Learning:
    """What is known of all limits of one (server, credential, project, model).

    Attributes:
        tariff: how the server charges for tokens.
        book: the ledgers.
        gates: what is no ledger; counts the calls.
        trust: whether the ledgers are believed alone.
        probe: when a call goes although there is no room.
        spent: what was reserved of each unit, ever; returned: what of it turned out not to be charged.
        calm: for each unit, the total of reservations up to which every ledger surely stands above half;
        calm_until: and the time up to which the ledgers need not be looked at.
        largest: tokens of the largest call that was served of late.
        looked_at: when headers were last read while all was calm.
        closed_until: until when the server told the call to stay away that it refused last, minus infinity once a later one was
        served; closed_at: when it said so; closed_by: the latest request that had left then; closed_size: the tokens of that
        call. (A refusal may be about the call's size: it says nothing of smaller ones.)
        news_at: when the last request left, or the last answer that was learned from came.
    """

    __slots__ = (
        "_oversized_at", "_quickest", "book", "calm", "calm_until", "closed_at", "closed_by", "closed_size",
        "closed_until", "gates", "largest", "looked_at", "news_at", "probe", "returned", "spent", "tariff", "trust",
    )  # fmt: skip

    def __init__(self, gates: Gates) -> None:
        self.tariff = Tariff()
        self.book = Book()
        self.gates = gates
        self.calm: Needs = NOBODY
        self.calm_until = math.inf
        self.spent: Needs = (0.0, 0.0, 0.0, 0.0)
        self._oversized_at = -math.inf
        self.returned = [0.0, 0.0, 0.0, 0.0]
        self.news_at = -math.inf
        self.closed_at = self.closed_until = -math.inf
        self.closed_size = 0.0
        self.closed_by = -1
        self.largest = 0.0
        self.looked_at = -math.inf
        self._quickest = math.inf
        self.trust = Trust()
        self.probe = Probe()

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
        rejected: bool = False,
        used: float | None,
        waiting: bool,
    ) -> None:
        """An answer that was no refusal. ``rejected``: the server did no work, because something was wrong with the request."""
        self.calm = NOBODY
        told: dict[Entry, float] = {}
        for reading in readings:
            self._take_reading(ticket, reading, now, told, refused=False)
        if succeeded or rejected or told:
            self.news_at = now
        if succeeded or told:
            self.gates.answered(told=bool(told))
        if not succeeded:
            if rejected:
                self._uncharge(ticket, 1, told)  # as a request it counts: failed ones do, says OpenAI's documentation
                self._return(ticket, 1)
            self.lost(ticket)
            return
        self._open(ticket, told)
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
        self.news_at = now
        self.gates.known = True
        self._date(ticket, now)
        told: dict[Entry, float] = {}
        requested = throttle.requested
        if requested is not None and throttle.kind == "tokens" and 0 <= requested < math.inf:
            self.tariff.learn_requested(ticket.cost, requested)
            ticket.exact = float(requested)
        for reading in readings:
            self._take_reading(ticket, reading, now, told, refused=throttle.retryable)
        ticket.refusals += 1
        if throttle.retryable:
            self.closed_at = now
            self.closed_size = ticket.needs[1]
            self.closed_by = self.gates.sent
            self.closed_until = now if throttle.delay is None else now + throttle.delay
            self._take_numbers(ticket, throttle, now, told)
            self._close(ticket, throttle, now, told, slow_down=slow_down, waiting=waiting)
        self._uncharge(ticket, 1, told)  # refused work is not charged
        if not ticket.forced:
            return
        if throttle.retryable:
            self.probe.refused(ticket.number)
        else:
            self.probe.lost(ticket.number)

    def _open(self, ticket: Ticket, told: dict[Entry, float]) -> None:
        """A call was served: what was believed to stand in its way does not, or no longer."""
        gates = self.gates
        self.trust.served()
        self.largest = max(LARGEST_FADES * self.largest, ticket.needs[1])
        if ticket.forced:
            self.probe.served(ticket.number)
            self._uncharge(ticket, 0, told)  # a ledger that had no room for it was not charged, or there was more
        if ticket.sent > self.closed_by:
            self.closed_until = -math.inf
        if gates.gated and ticket.sent > gates.refused_by:
            gates.open()
            shows_room = all(level > CALM * entry.ledger.capacity for entry, level in told.items())
            if gates.pacer.on and told and shows_room and self.trust.believes_headers():
                gates.pacer.on = False

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
        after = self._after_refusal(ticket, entry, level) if entry.short else level
        self._anchor(ticket, entry, level, now, after, full_at=entry.full_at(reading.reset, sent_at))

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

    def _anchor(
        self, ticket: Ticket, entry: Entry, level: float, now: float, after: float, *, full_at: float = math.inf
    ) -> None:
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
            full_at=full_at,
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
        if not explained and self._is_its_own_fault(ticket):
            return
        had_room = not ticket.forced and (ticket.levels is None or bool(ticket.levels))
        if not explained or (had_room and self.trust.surprised(ticket.sent, self.gates.sent)):
            delay = None if ticket.ignores_reset else throttle.delay
            before = (ticket.sent if ticket.levels is None else ticket.work) - 1.0
            self.gates.refused(
                ticket.sent, ticket.sent_at, before, now, delay, alone=not waiting, forced=ticket.forced,
            )  # fmt: skip

    # --- what turns out not to be charged ------------------------------------------------------------------------------

    def give_back(self, ticket: Ticket) -> None:
        """The call was never sent: its share is free again."""
        self._uncharge(ticket, 0, {})
        self._return(ticket, 0)
        self.calm = NOBODY
        if ticket.forced:
            self.probe.lost(ticket.number)

    def lost(self, ticket: Ticket) -> None:
        """The call was sent, and its answer will not be heard of. It stays charged: the server may have done the work."""
        if ticket.forced:
            self.probe.lost(ticket.number)

    def _uncharge(self, ticket: Ticket, first: int, told: dict[Entry, float]) -> None:
        """What the call had reserved was not charged, from unit ``first`` on. ``told``: ledgers that know it already."""
        for entry in self.book.entries:
            if entry.unit >= first and entry not in told:
                entry.ledger.give_back(ticket.needs[entry.unit], ticket.sent)

    def _return(self, ticket: Ticket, first: int) -> None:
        for unit in range(first, 4):
            self.returned[unit] += ticket.needs[unit]

    def _typical(self, unit: int) -> float:
        return (self.spent[unit] - self.returned[unit]) / self.gates.sent if self.gates.sent else 0.0

    def _is_its_own_fault(self, ticket: Ticket) -> bool:
        """Whether a call that was refused more than once is larger than any that is served meanwhile: then it may well be
        larger than the limit, and its refusals say nothing of the pace at which the others may go."""
        return ticket.refusals > 1 and ticket.needs[1] > self.largest > 0.0

    def rewind(self, now: float, seconds: float) -> None:
        """The clock was set back to ``now``, by ``seconds``."""
        for entry in self.book.entries:
            entry.ledger.rewind(now)
        self.gates.rewind(now, seconds)
        self._oversized_at = min(self._oversized_at, now)
        self.news_at = min(self.news_at, now)
        self.closed_at = min(self.closed_at, now)
        self.closed_until -= seconds
        self.probe.rewind(now)
        self.looked_at = -math.inf
        self.calm = NOBODY
