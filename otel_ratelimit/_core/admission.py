"""Who may send when: all callers of one server, credential, project and model in one process.

Owns the meeting of queue, ledgers and gates: a call enters, is admitted as soon as every limit has room for it, and its answer
corrects what is known. Knows no clock, lock, thread or event loop: ``now`` (seconds on a monotonic clock) is an argument, the
caller holds a lock around each method, sleeps, and wakes whom :meth:`Admission.take_wakes` names.

The shape is one timer for the whole queue. Only the call whose turn it is sleeps until a time; when that comes, as many
calls are admitted as fit, in order, and woken. So nothing storms, nothing is polled, and the order does not depend on who
wakes up first. The others are told a time too, later than their turn is expected: if the one in front is lost without
leaving (its thread was killed), somebody else finds the queue standing and moves it on.

A call has to fit every gate: each ledger of the book (the numbers that the server names), the pacer (bare 429s), the crowd
(overload), the ramp (``slow_down``) and, before anything is known of the server, the cold start.

*Cold start.* Twenty calls go at once, then the number doubles every 50 ms until the first answer. Whoever is far below the limit
loses 84 ms once if it starts 64 at a time; a limit that is reached by the first calls throttles the first few of
500 and not all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from otel_ratelimit._core.book import UNITS, Book, Entry, Reading
from otel_ratelimit._core.cost import Cost, Tariff
from otel_ratelimit._core.ledger import MARGIN_CAP
from otel_ratelimit._core.pacer import Crowd, Pacer, Ramp
from otel_ratelimit._core.policy import Priority
from otel_ratelimit._core.queue import GONE, IN_FLIGHT, SETTLED, WAITING, Needs, Queue, Ticket
from otel_ratelimit._core.throttle import Throttle

COLD_CALLS: Final = 20
COLD_DOUBLING: Final = 0.05
"""Calls that go at once before the first answer, and seconds in which their number doubles after that."""

LEAST_SLEEP: Final = 0.001
"""Seconds. Nobody is told to come back sooner: a timer is no finer, and rounding must not make a caller spin."""

LOST = 2.0
"""Seconds after its expected turn at which a call that is not next looks after the queue by itself."""

LONGEST_SLEEP: Final = 60.0
"""Seconds after which a call that is not next looks again in any case."""

RATE_TIME: Final = 10.0
"""Seconds over which the rate of our own calls is measured."""

OVERSIZED_APART: Final = 1.0
"""Seconds between calls that seem larger than a limit. They go at once, because only the server can say so for sure (and
its "request too large" is the caller's answer), but one at a time, because an estimate that is too high says it of all."""


UNKNOWN_SHORTAGE: Final = 0.1
"""Share of a refused call's expected cost that was missing at least, where the numbers do not show that any was: costs
vary by some 15 % from call to call."""


class Gauge(NamedTuple):
    """What a ledger holds, for telemetry: units of ``kind``; ``window`` in seconds, None if unknown."""

    kind: str
    scope: str
    window: float | None
    limit: float
    remaining: float


class Admission:
    """All callers of one limit in one process. Not thread-safe; never blocks; every method takes the present."""

    def __init__(self, *, random: Callable[[], float], cold_calls: int = COLD_CALLS, cold_doubling: float = COLD_DOUBLING) -> None:
        """
        Args:
            random: draws from [0, 1). (Nothing here needs it yet: exact turns do not collide.)
            cold_calls: calls that go at once before the first answer.
            cold_doubling: seconds in which their number doubles.
        """
        self.cause: object | None = None
        """What was handed to the ``settle`` that last closed a gate; for span links."""
        self.tariff = Tariff()
        self._random = random
        self._cold_calls = cold_calls
        self._cold_doubling = cold_doubling
        self._cold_since: float | None = None
        self._answered = False
        self._book = Book()
        self._pacer = Pacer()
        self._crowd = Crowd()
        self._ramp = Ramp()
        self._gated = False
        self._closed_until = -math.inf
        self._queue = Queue()
        self._wakes: list[Ticket] = []
        self._number = 0
        self._sent = 0
        self._spent = [0.0, 0.0, 0.0, 0.0]
        self._work = 0.0
        self._in_flight = 0
        self._now = -math.inf
        self._oversized_at = -math.inf
        self._rate = 0.0
        self._rate_at = 0.0

    # --- the life of a call -------------------------------------------------------------------------------------------

    def enter(self, now: float, cost: Cost, priority: Priority) -> Ticket:
        """A call takes its place. ``ticket.admitted`` is True at once if nobody waits and every limit has room."""
        if now < self._now:
            self._clock_went_back(now)
        self._now = now
        self._number += 1
        ticket = Ticket(cost, priority, self._number)
        ticket.needs = needs = self._needs(ticket)
        if not self._queue.size and self._when(ticket, needs, now) <= now:
            ticket.collected = True
            self._admit(ticket, needs, now)
            return ticket
        self._queue.join(ticket)
        self._pump(now)
        ticket.collected = ticket.state == IN_FLIGHT
        return ticket

    def check(self, ticket: Ticket, now: float) -> float | None:
        """None if the call is admitted; else the time before which asking again is pointless, unless woken earlier."""
        if ticket.state == WAITING:
            if now < self._now:
                self._clock_went_back(now)
            self._now = now
            self._pump(now)
        if ticket.state == WAITING:
            if ticket.told <= now:
                turn = self.turn(ticket, now)
                ticket.told = min(turn + LOST, now + LONGEST_SLEEP)
            return ticket.told
        ticket.collected = True
        return None

    def settle(
        self,
        ticket: Ticket,
        now: float,
        *,
        readings: Iterable[Reading] = (),
        throttle: Throttle | None = None,
        succeeded: bool,
        used_tokens: float | None = None,
        slow_down: bool = False,
        cause: object = None,
    ) -> None:
        """An attempt was answered, or failed: learns from it and frees its place in flight.

        Args:
            readings: what the response's headers said of limits.
            throttle: the refusal, if it was one.
            succeeded: whether the server did the work.
            used_tokens: total tokens that a success reported, None if it did not.
            slow_down: the refusal's code was ``slow_down``: traffic grew too fast.
            cause: opaque; kept as :attr:`cause` if this answer closes a gate.
        """
        if ticket.state != IN_FLIGHT:
            return
        if now < self._now:
            self._clock_went_back(now)
        self._now = now
        ticket.state = SETTLED
        told: list[Entry] = []
        refused = throttle is not None and throttle.retryable
        if throttle is not None:
            self._take_requested(ticket, throttle)
        for reading in readings:
            self._take_reading(ticket, reading, now, refused, told)
        if refused and throttle is not None:
            self._take_numbers(ticket, throttle, now, told)
        if throttle is not None:
            if refused:
                self._close(ticket, throttle, now, told, slow_down)
                self.cause = cause
            for entry in self._book.entries:
                if entry.unit and entry not in told:
                    entry.ledger.give_back(ticket.needs[entry.unit], ticket.sent)  # refused work is not charged
        elif succeeded:
            for entry in self._book.entries:
                if entry not in told:
                    typical = self._typical(entry.unit)
                    stray = typical * self.tariff.stray if entry.unit else 0.0
                    entry.ledger.pass_over(typical, stray, stray / self.tariff.certainty)
            if used_tokens is not None:
                self._take_usage(ticket, used_tokens)
            if self._gated:
                self._pacer.passed(ticket.sent, now, self._queue.size > 0)
                self._crowd.passed(ticket.sent, self._in_flight)
        self._in_flight -= 1
        self._answered = self._answered or succeeded or throttle is not None
        if self._queue.size:
            self._pump(now)

    def requeue(self, ticket: Ticket, now: float, not_before: float) -> None:
        """A refused call goes back to the front of its priority; it may not go before ``not_before``."""
        if ticket.state == IN_FLIGHT:
            self.settle(ticket, now, succeeded=False)
        if ticket.state != SETTLED:
            return
        ticket.state = WAITING
        ticket.collected = False
        ticket.needs = self._needs(ticket)
        # A reset time says when the bucket is full: no instruction, where a ledger knows when the call fits.
        ticket.not_before = now if ticket.was_reset_time or not not_before > now else not_before
        ticket.told = -1.0
        self._queue.join(ticket)
        self._pump(now)

    def leave(self, ticket: Ticket, now: float) -> None:
        """The call is over, at whatever stage: what it held and did not use is given back. Harmless when repeated.

        A call that was sent and then cancelled stays charged, since the server has charged it.
        """
        state, ticket.state = ticket.state, GONE
        if state == WAITING:
            self._queue.remove(ticket)
        elif state == IN_FLIGHT:
            self._in_flight -= 1
            if not ticket.collected:
                for entry in self._book.entries:
                    entry.ledger.give_back(ticket.needs[entry.unit], ticket.sent)
        else:
            return
        if self._queue.size:
            self._now = max(now, self._now)
            self._pump(self._now)

    def turn(self, ticket: Ticket, now: float) -> float:
        """When the call is expected to go; ``now`` if at once."""
        if ticket.state != WAITING:
            return now
        requests, tokens = self._queue.ahead(ticket)
        own = ticket.needs
        share = tokens / own[1] if own[1] > 0 else requests
        at = max(now, self._closed_until if ticket.not_before is None else ticket.not_before)
        for entry in self._book.entries:
            ledger = entry.ledger
            need = (requests, tokens, own[2] * share, own[3] * share)[entry.unit]
            level = ledger.level(now, self._spent[entry.unit], self._sent)
            missing = need - level + ledger.floor(own[entry.unit])
            if missing > 0:
                at = max(at, now + ledger.refill_time(missing, now))
        if self._pacer.on:
            at = max(at, now + (requests - 1.0) / self._pacer.rate)
        return at

    def take_wakes(self) -> list[Ticket]:
        """The waiting calls whose time has come, or has come nearer, since the last call of this method."""
        wakes, self._wakes = self._wakes, []
        return wakes

    def gauges(self, now: float) -> list[Gauge]:
        """What every ledger holds now."""
        found = []
        for entry in self._book.entries:
            ledger = entry.ledger
            level = ledger.level(now, self._spent[entry.unit], self._sent)
            found.append(Gauge(ledger.kind, ledger.scope, ledger.window, ledger.limit, max(level, 0.0)))
        return found

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return self._queue.size

    @property
    def in_flight(self) -> int:
        """Calls that were admitted and not answered yet."""
        return self._in_flight

    # --- whose turn, and when -----------------------------------------------------------------------------------------

    def _needs(self, ticket: Ticket) -> Needs:
        cost = ticket.cost
        tokens = ticket.exact
        if tokens is None:
            tokens = self.tariff.tokens(cost)
        return (cost.requests, tokens, cost.input, cost.output)

    def _typical(self, unit: int) -> float:
        return self._spent[unit] / self._sent if self._sent else 0.0

    def _when(self, ticket: Ticket, needs: Needs, now: float) -> float:
        """The earliest time at which ``needs`` pass every gate, as far as that is known; ``now`` means at once."""
        at = now
        sent = self._sent
        for entry in self._book.entries:
            unit = entry.unit
            ledger = entry.ledger
            spent = self._spent[unit]
            need = needs[unit]
            if need > ledger.capacity:
                if ticket.needs[unit] > ledger.limit:
                    at = max(at, self._oversized_at + OVERSIZED_APART)
                    continue
                need = ledger.capacity
            ready = ledger.ready(now, spent, need, sent)
            if ready > at:
                at = ready
        if not self._answered:
            at = max(at, self._cold(now))
        if self._gated:
            at = max(at, self._gates(ticket, now))
        return at

    def _cold(self, now: float) -> float:
        if self._cold_since is None:
            self._cold_since = now
        if self._sent < self._cold_calls:
            return now
        return self._cold_since + self._cold_doubling * math.log2((self._sent + 1) / self._cold_calls)

    def _gates(self, ticket: Ticket, now: float) -> float:
        at = self._closed_until
        work = self._work_of(ticket)
        if self._pacer.on:
            at = max(at, self._pacer.ready(now, self._work, work))
        if self._ramp.on:
            at = max(at, self._ramp.ready(now, self._work, work))
        if self._in_flight >= self._crowd.most:
            return math.inf  # until a settle
        return at

    def _work_of(self, ticket: Ticket) -> float:
        """The call in units of a usual one, where nobody says what is counted: half by number, half by size."""
        typical = self._typical(1)
        return 0.5 + 0.5 * min(ticket.needs[1] / typical, 20.0) if typical > 0 else 1.0

    def _admit(self, ticket: Ticket, needs: Needs, now: float) -> None:
        spent = self._spent
        self._work += self._work_of(ticket) if self._gated else 1.0
        spent[0] += needs[0]
        spent[1] += needs[1]
        spent[2] += needs[2]
        spent[3] += needs[3]
        self._sent = sent = self._sent + 1
        self._in_flight += 1
        ticket.state = IN_FLIGHT
        ticket.needs = needs
        ticket.sent = sent
        ticket.sent_at = now
        ticket.work = self._work
        ticket.spent = (spent[0], spent[1], spent[2], spent[3])
        ticket.levels = levels = []
        for entry in self._book.entries:
            ledger = entry.ledger
            levels.append(ledger.level(now, spent[entry.unit], sent))
            if needs[entry.unit] > ledger.limit:
                self._oversized_at = now
        elapsed = now - self._rate_at
        if elapsed > 0:
            self._rate *= math.exp(-elapsed / RATE_TIME)
            self._rate_at = now
        self._rate += 1.0 / RATE_TIME

    def _pump(self, now: float) -> None:
        """Admit whoever fits, in order; tell the one whose turn is next, and those who hold a place, when to come."""
        queue = self._queue
        while queue.size:
            ticket, held = queue.next(now)
            for other in held:
                assert other.not_before is not None
                self._tell(other, max(other.not_before, now + LEAST_SLEEP))
            if ticket is None:
                return
            needs = ticket.needs = self._renew(ticket)
            if held:
                beside = needs
                for other in held:
                    beside = tuple(mine + yours for mine, yours in zip(beside, other.needs, strict=True))  # type: ignore[assignment]
                at = self._when(ticket, beside, now)
            else:
                at = self._when(ticket, needs, now)
            if at > now:
                self._tell(ticket, max(at, now + LEAST_SLEEP))
                return
            queue.serve(ticket)
            self._admit(ticket, needs, now)
            self._wakes.append(ticket)

    def _renew(self, ticket: Ticket) -> Needs:
        # What waits in the back is on the queue's account as it came in; only the throttled are priced anew.
        return self._needs(ticket) if ticket.not_before is not None else ticket.needs

    def _tell(self, ticket: Ticket, at: float) -> None:
        if at < ticket.told:
            self._wakes.append(ticket)
        ticket.told = at

    # --- what answers teach -------------------------------------------------------------------------------------------

    def _take_reading(self, ticket: Ticket, reading: Reading, now: float, refused: bool, told: list[Entry]) -> None:
        entry = self._book.for_reading(
            reading, need=ticket.needs, spent=ticket.spent, sent_at=ticket.sent_at, sent=ticket.sent
        )
        if entry is None or entry in told:
            return
        told.append(entry)
        assert reading.remaining is not None
        ledger = entry.ledger
        level = float(reading.remaining)
        # Costs are estimates: twice the expected one is still "not enough left" as the reason of a refusal.
        entry.short = refused and level < 2.0 * ticket.needs[entry.unit] + ledger.margin
        if reading.reset is not None and ledger.window is not None and 0 <= reading.reset <= ledger.window:
            # Remaining is cut to whole units; the time until full is finer where units are few (300 RPM: 0.2 s each).
            level = min(max(level, ledger.limit - ledger.rate * reading.reset), level + 0.999)
        self._anchor(ticket, entry, level, now, self._after_refusal(ticket, entry, level) if entry.short else level)

    def _take_requested(self, ticket: Ticket, throttle: Throttle) -> None:
        ticket.was_reset_time = False
        requested = throttle.requested
        if requested is not None and throttle.kind == "tokens" and 0 <= requested < math.inf:
            self.tariff.learn(ticket.cost, requested)
            ticket.exact = float(requested)

    def _take_numbers(self, ticket: Ticket, throttle: Throttle, now: float, told: list[Entry]) -> None:
        if throttle.limit is None or throttle.used is None or not 0 <= throttle.used <= 2.0 * throttle.limit:
            return
        level = throttle.limit - throttle.used
        need = ticket.needs[UNITS.get(throttle.kind, 0)]
        entry = self._book.for_message(throttle.kind, throttle.limit, throttle.window, level, need, told)
        if entry is None:
            return
        entry.short = True
        if entry not in told:
            told.append(entry)
            self._anchor(ticket, entry, level, now, self._after_refusal(ticket, entry, level))

    def _after_refusal(self, ticket: Ticket, entry: Entry, level: float) -> float:
        """What would have been left had the refused call been served: below nothing, by how much only a message tells."""
        need = ticket.needs[entry.unit]
        if entry.unit == 1 and ticket.exact is not None:
            need = ticket.exact
        return min(level - need, -UNKNOWN_SHORTAGE * need)

    def _anchor(self, ticket: Ticket, entry: Entry, level: float, now: float, after: float) -> None:
        """``level``: what the server had when it had dealt with the call; ``after``: what it had after it, or would have."""
        ledger = entry.ledger
        spent = ticket.spent[entry.unit]
        learns = self.tariff if entry.unit == 1 and not self.tariff.usage_tells else None
        if entry in self._book.entries[: len(ticket.levels)]:  # else the ledger is younger than the call
            expected = ticket.levels[self._book.entries.index(entry)]
            if expected < MARGIN_CAP * ledger.limit:  # far from the limit no error matters, and they are larger there
                ledger.judge(after - expected)
        ledger.anchor(
            level, ticket.sent_at, spent, ticket.sent, now=now, spent_now=self._spent[entry.unit], tariff=learns
        )  # fmt: skip

    def _take_usage(self, ticket: Ticket, used: float) -> None:
        if not 0 < used < math.inf:
            return
        self.tariff.typical = self.tariff.typical + 0.05 * (used - self.tariff.typical) if self.tariff.typical else used
        if ticket.exact is not None:
            self.tariff.learn_usage(used, ticket.exact)
            return
        charged = self.tariff.charge_of_usage(used)
        if charged is None:
            return
        self.tariff.learn(ticket.cost, charged)
        for entry in self._book.entries:
            if entry.unit == 1:
                entry.ledger.give_back(ticket.needs[1] - charged, ticket.sent)

    def _close(self, ticket: Ticket, throttle: Throttle, now: float, told: list[Entry], slow_down: bool) -> None:
        """A refusal: if no ledger explains it, a gate has to."""
        if slow_down:
            self._ramp.slow_down(ticket.sent, now, self._work, self._sent, self._measured(now))
            self._gated = True
            return
        if throttle.kind in ("overload", "concurrency"):
            self._crowd.overloaded(ticket.sent, self._in_flight, self._sent)
            self._gated = True
            return
        for entry in told:
            if entry.short:
                ticket.was_reset_time = throttle.source == "x-ratelimit-reset"
                return
        until = now
        if throttle.delay is not None and 0 <= throttle.delay < math.inf:
            until = now + throttle.delay
            self._closed_until = max(self._closed_until, until)
        self._gated = True
        self._pacer.refused(
            ticket.sent_at, ticket.work - 1.0, ticket.sent,
            now=now, spent_now=self._work, last_sent=self._sent, measured=self._measured(now), until=until,
        )  # fmt: skip

    def _measured(self, now: float) -> float:
        return max(self._rate * math.exp(-max(now - self._rate_at, 0.0) / RATE_TIME), 1.0 / RATE_TIME)

    def _clock_went_back(self, now: float) -> None:
        back = self._now - now
        if back < 1.0:  # two threads that read the clock before they took the lock
            return
        for entry in self._book.entries:
            entry.ledger.rewind(now)
        self._pacer.rewind(now)
        self._ramp.rewind(now)
        self._queue.rewind(back)
        self._closed_until = min(self._closed_until, now + max(0.0, self._closed_until - self._now))
        self._oversized_at = min(self._oversized_at, now)
        self._rate_at = min(self._rate_at, now)
        if self._cold_since is not None:
            self._cold_since = min(self._cold_since, now)
