"""Who may send when: all callers of one server, credential, project and model in one process.

Owns the meeting of the queue and the limits: a call enters, is admitted as soon as every limit has room for it, and its
answer corrects what is known. Knows no clock, lock, thread or event loop: ``now`` (seconds on a monotonic clock) is
an argument, the caller holds a lock around each method, sleeps, and wakes whom :meth:`Admission.take_wakes` names.

The shape is one timer for the whole queue. Only the call whose turn it is sleeps until a time; when that comes, as many
calls are admitted as fit, in order, and woken. So nothing storms, nothing is polled, and the order does not depend
on who wakes up first. The others are told a time too, later than their turn is expected: if the one in front is lost
without leaving (its thread was killed), somebody else finds the queue standing and moves it on.

The life of a ticket: ``join`` -> (``check`` until it answers None) -> send -> ``settle`` -> ``leave``, or
``requeue`` and ``check`` again. ``leave`` is harmless at any time and ends every life.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from otel_ratelimit._core.book import Reading
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.gates import COLD_CALLS, COLD_DOUBLING, Gates
from otel_ratelimit._core.learning import NOBODY
from otel_ratelimit._core.limits import Limits
from otel_ratelimit._core.policy import Priority
from otel_ratelimit._core.queue import GONE, IN_FLIGHT, SETTLED, WAITING, Needs, Queue, Ticket
from otel_ratelimit._core.throttle import Throttle

LEAST_SLEEP: Final = 0.001
"""Seconds. Nobody is told to come back sooner: a timer is no finer, and rounding must not make a caller spin."""

LOST: Final = 2.0
"""Seconds after its expected turn at which a call that is not next looks after the queue by itself."""

LONGEST_SLEEP: Final = 60.0
"""Seconds after which a call that is not next looks again in any case."""

LOOK_AGAIN: Final = 0.05
"""Seconds between two looks at headers while all is calm. Our own calls are counted meanwhile; half of a limit that refills
over a minute is not used up by others in a twentieth of a second."""

CLOCK_SLACK: Final = 1.0
"""Seconds by which time may run backwards unnoticed: two threads that read the clock before they took the lock."""


class Gauge(NamedTuple):
    """What a ledger holds, for telemetry: units of ``kind``; ``window`` in seconds, None if unknown; ``reset``: seconds until it
    is full again if nothing more is taken."""

    kind: str
    scope: str
    window: float | None
    limit: float
    remaining: float
    reset: float


class Admission:
    """All callers of one limit in one process. Not thread-safe; never blocks; every method takes the present.

    Attributes:
        cause: what was handed to the ``settle`` that last closed a gate, None before; for span links.
    """

    __slots__ = ("_curious", "_limits", "_now", "_number", "_queue", "_wakes", "cause")

    def __init__(
        self,
        *,
        cold_calls: int = COLD_CALLS,
        cold_doubling: float = COLD_DOUBLING,
        limits: Limits | None = None,
    ) -> None:
        """
        Args:
            cold_calls: calls that go at once before the first answer.
            cold_doubling: seconds in which their number doubles.
            limits: what is known of the server; None for nothing yet.
        """
        self.cause: object | None = None
        self._limits = Limits(Gates(cold_calls, cold_doubling)) if limits is None else limits
        self._queue = Queue()
        self._wakes: list[Ticket] = []
        self._curious: list[Ticket] = []
        self._number = 0
        self._now = float("-inf")

    # --- the life of a call -------------------------------------------------------------------------------------------

    def enter(self, now: float, cost: Cost, priority: Priority) -> Ticket:
        """:meth:`ticket` and :meth:`join` in one, where no interrupt can come between the two."""
        ticket = self.ticket(cost, priority)
        self.join(ticket, now)
        return ticket

    def ticket(self, cost: Cost, priority: Priority) -> Ticket:
        """A call's place, not taken yet. Whoever is interrupted while it is taken can give it back, by this."""
        self._number = number = self._number + 1
        return Ticket(cost, priority, number)

    def join_calmly(self, ticket: Ticket, now: float) -> bool:
        """:meth:`join`, if nobody waits and every limit surely has more than enough room: by far the usual call. False: it may
        be so or not, nothing was done."""
        limits = self._limits
        if self._queue.waiting or limits.calm is NOBODY or now < self._now:
            return False
        if not limits.reserve_calmly(ticket, now):
            return False
        self._now = ticket.arrived = ticket.since = now
        ticket.state = IN_FLIGHT
        return True

    def join(self, ticket: Ticket, now: float) -> None:
        """A call takes its place. ``ticket.admitted`` is True at once if nobody waits and every limit has room."""
        if self.join_calmly(ticket, now):
            return
        self._arrive(now)
        ticket.arrived = ticket.since = now
        limits = self._limits
        ticket.needs = needs = limits.needs(ticket.cost)
        if not self._queue.waiting:
            at, probes = self._ready(needs, None, now)
            if at <= now:
                limits.reserve(ticket, needs, now, probes=probes)
                ticket.state = IN_FLIGHT
                return
        ticket.state = WAITING
        ticket.collected = False
        self._queue.join(ticket)
        self._pump(now)
        ticket.collected = ticket.state == IN_FLIGHT

    def watch(self, ticket: Ticket, now: float) -> float:
        """A call that goes at once, whatever the limits say; what it takes is counted all the same.

        Returns for how many seconds it would have been held: 0 if it fits now, and also where only the next answer can tell.
        """
        self._arrive(now)
        ticket.arrived = ticket.since = now
        limits = self._limits
        held = 0.0
        if not limits.reserve_calmly(ticket, now):
            needs = limits.needs(ticket.cost)
            at = limits.when(needs, None, now)
            held = at - now if at < math.inf else 0.0
            limits.reserve(ticket, needs, now, probes=held > 0)
        ticket.state = IN_FLIGHT
        return held

    def check(self, ticket: Ticket, now: float) -> float | None:
        """None if the call is admitted; else the time before which asking again is pointless, unless woken earlier."""
        if ticket.state == WAITING:
            self._arrive(now)
            if ticket.number not in self._queue.waiting:  # an interrupt took the one who was about to let it go
                self._queue.join(ticket)
            self._pump(now)
            if ticket.state == WAITING:
                if ticket.told <= now:
                    ticket.told = min(max(self.turn(ticket, now, guesses=True), now) + LOST, now + LONGEST_SLEEP)
                return ticket.told
        ticket.collected = True
        return None

    def probe(self, ticket: Ticket, now: float) -> float | None:
        """The call goes although there is no room: None. Else a probe is on its way: the time before which asking again is
        pointless, unless woken earlier, by the answer of that one at the latest."""
        if ticket.state == WAITING:
            self._arrive(now)
            busy_until = self._limits.probe.busy_until()
            if now < busy_until:
                self._curious.append(ticket)
                return min(ticket.told, busy_until)
            self._queue.remove(ticket)
            self._limits.reserve(ticket, ticket.needs, now, probes=True)
            ticket.state = IN_FLIGHT
        ticket.collected = True
        return None

    def closed_until(self, ticket: Ticket) -> tuple[float | None, bool]:
        """Until when the server told the call to stay away that it refused last, None where it has refused none, or a larger one;
        and whether that was since this call came, or came back."""
        limits = self._limits
        if limits.closed_until == -math.inf or limits.closed_size > ticket.needs[1]:
            return None, False
        return limits.closed_until, limits.closed_at >= ticket.since

    def settle_calmly(self, ticket: Ticket, now: float) -> bool:
        """An attempt was answered well, and that is all that it can teach: it left when all was calm, nobody waits, and
        headers were looked at just now. False: it may be so or not, nothing was done, call :meth:`settle`."""
        limits = self._limits
        if (
            ticket.state != IN_FLIGHT
            or ticket.levels is not None
            or limits.calm is NOBODY
            or not 0.0 <= now - limits.looked_at < LOOK_AGAIN
            or self._queue.waiting
        ):
            return False
        ticket.state = SETTLED
        limits.gates.flying.discard(ticket)
        return True

    def settle(
        self,
        ticket: Ticket,
        now: float,
        *,
        readings: Iterable[Reading] = (),
        throttle: Throttle | None = None,
        succeeded: bool,
        rejected: bool = False,
        used_tokens: float | None = None,
        slow_down: bool = False,
        cause: object = None,
    ) -> None:
        """An attempt was answered, or failed: learns from it and frees its place in flight.

        Args:
            ticket: of the call; must be admitted, otherwise nothing happens. (A throttle may also come late, when the
            attempt was settled as a success: inside of the stream that it answered with.)
            now: the present.
            readings: what the response's headers said of limits.
            throttle: the refusal, if it was one.
            succeeded: whether the server did the work.
            rejected: whether it did none, because something was wrong with the request (a 4xx that is no throttle).
            used_tokens: total tokens that a success reported, None if it did not.
            slow_down: the refusal's code was ``slow_down``: traffic grew too fast.
            cause: opaque; kept as :attr:`cause` if this answer closes a gate.
        """
        limits = self._limits
        if ticket.state == IN_FLIGHT:
            ticket.state = SETTLED
            limits.gates.flying.discard(ticket)
        elif ticket.state != SETTLED or throttle is None:
            return
        if ticket.forced:
            self._probe_ended()
        # The clock may have been set back since: nothing counts from a time that is yet to come.
        ticket.sent_at = min(ticket.sent_at, now)
        if throttle is not None:
            self._arrive(now)
            limits.learn_refusal(
                ticket, now, readings, throttle, slow_down=slow_down, waiting=bool(self._queue.waiting)
            )
            if throttle.retryable:
                self.cause = cause
        elif not succeeded or not limits.nothing_new(ticket, readings, now):
            self._arrive(now)
            waiting = bool(self._queue.waiting)
            limits.learn(
                ticket, now, readings, succeeded=succeeded, rejected=rejected, used=used_tokens, waiting=waiting,
            )  # fmt: skip
        if self._queue.waiting:
            self._arrive(now)
            self._pump(now)

    def requeue(self, ticket: Ticket, now: float, not_before: float) -> None:
        """A call that is to be sent again goes to the front of its priority; it may not go before ``not_before``."""
        if ticket.state == IN_FLIGHT:
            self.settle(ticket, now, succeeded=False)
        if ticket.state != SETTLED:
            return
        self._arrive(now)
        ticket.state = WAITING
        ticket.collected = False
        ticket.told = -math.inf
        ticket.since = now
        ticket.last_sent = self._limits.gates.sent
        ticket.needs = self._limits.needs(ticket.cost, ticket.exact)
        ticket.not_before = now if ticket.ignores_reset or not not_before > now else not_before
        self._limits.gates.stay_closed(ticket.not_before, now)
        self._queue.join(ticket)
        self._pump(now)

    def leave(self, ticket: Ticket, now: float) -> None:
        """The call is over, at whatever stage: what it held and did not use is given back. Harmless when repeated.

        A call that was sent and then cancelled stays charged, because the server has charged it.
        """
        ticket.state = GONE
        limits = self._limits
        if ticket in limits.gates.flying:
            if ticket.forced:
                self._probe_ended()
            if ticket.collected:
                limits.lost(ticket)
            else:
                limits.give_back(ticket)
            limits.gates.flying.discard(ticket)
        elif not self._queue.remove(ticket):
            return
        if self._queue.waiting:
            self._arrive(now)
            self._pump(now)

    def turn(self, ticket: Ticket, now: float, *, guesses: bool = False) -> float:
        """When the call is expected to go; ``now`` if at once. ``guesses``: see :meth:`Limits.expected`."""
        if ticket.state != WAITING:
            return now
        requests, tokens = self._queue.ahead(ticket)
        if ticket.not_before is None:
            return self._limits.expected(ticket.needs, requests, tokens, now, guesses=guesses)
        expected = self._limits.expected(ticket.needs, requests, tokens, now, ticket.last_sent, guesses=guesses)
        return max(expected, ticket.not_before)

    def take_wakes(self) -> list[Ticket]:
        """The waiting calls whose time has come, or has come nearer, since the last call of this method."""
        if not self._wakes:
            return _NOBODY
        wakes, self._wakes = self._wakes, []
        return wakes

    def gauges(self, now: float) -> list[Gauge]:
        """What every ledger holds now."""
        limits = self._limits
        found = []
        for entry in limits.book.entries:
            ledger = entry.ledger
            level = ledger.level(now, limits.spent[entry.unit], limits.gates.sent)
            reset = max(ledger.capacity - level, 0.0) / ledger.rate if ledger.rate > 0 else 0.0
            found.append(Gauge(ledger.kind, ledger.scope, ledger.window, ledger.limit, max(level, 0.0), reset))
        return found

    @property
    def last_used(self) -> float:
        """The latest moment that was handed in; minus infinity before the first."""
        return self._now

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._queue.waiting)

    @property
    def in_flight(self) -> int:
        """Calls that were admitted and not answered yet."""
        return self._limits.gates.in_flight

    # --- whose turn it is ---------------------------------------------------------------------------------------------

    def _pump(self, now: float) -> None:
        """Admit whoever fits, in order; tell the one whose turn is next, and those who hold a place, when to come."""
        queue = self._queue
        limits = self._limits
        while queue.waiting:
            ticket, holders = queue.next(now)
            held: Needs | None = None
            for other in holders:
                self._tell(other, max(now if other.not_before is None else other.not_before, now + LEAST_SLEEP))
                mine = other.needs
                held = mine if held is None else (
                    held[0] + mine[0], held[1] + mine[1], held[2] + mine[2], held[3] + mine[3],
                )  # fmt: skip
            if ticket is None:
                return
            # Priced anew: what was learned since it came may have changed its price. (The queue's own account, which only
            # `turn` reads, goes on with the price at which it came.)
            needs = limits.needs(ticket.cost, ticket.exact)
            at, probes = self._ready(needs, held, now)
            if at > now:
                self._tell(ticket, max(at, now + LEAST_SLEEP))
                return
            queue.serve(ticket)
            limits.reserve(ticket, needs, now, probes=probes)
            ticket.state = IN_FLIGHT
            self._wakes.append(ticket)

    def _ready(self, needs: Needs, held: Needs | None, now: float) -> tuple[float, bool]:
        """When the call that is next may go, and whether it goes although the limits have no room for it then."""
        limits = self._limits
        at = limits.when(needs, held, now)
        if at <= now:
            return at, False
        early = limits.probe.ready(at, now, limits.news_at, counted=limits.counts(needs, at, now))
        return early, early < at

    def _probe_ended(self) -> None:
        self._wakes += self._curious
        self._curious.clear()

    def _tell(self, ticket: Ticket, at: float) -> None:
        if at < ticket.told:
            self._wakes.append(ticket)
        ticket.told = at

    def _arrive(self, now: float) -> None:
        if now < self._now:
            self._clock_went_back(now)
        self._now = now

    def _clock_went_back(self, now: float) -> None:
        seconds = self._now - now
        if seconds > CLOCK_SLACK:
            self._limits.rewind(now, seconds)
            self._queue.rewind(seconds)


_NOBODY: Final[list[Ticket]] = []
