"""Who may send when: all callers of one server, credential, project and model in one process.

Owns the meeting of the queue and the limits: a call joins, is admitted as soon as every limit has room for it, and its answer
corrects what is known. Knows no clock, lock, thread or event loop: ``now`` (seconds on a monotonic clock) is an argument; the
caller holds a lock around each method, sleeps, and wakes whom :meth:`Admission.take_wakes` names.

One timer serves the whole queue. Only the call at the head sleeps until a time; when that comes, as many calls are admitted as
fit, in order, and woken. So nothing storms, nothing is polled, and the order does not depend on who wakes up first. The others
are told a time too, later than their turn is expected: if the caller at the head is lost without leaving (its thread was killed),
another one finds the queue standing and moves it on.

The life of a ticket is the table in ``ticket``: ``join`` -> (``check`` until it answers None) -> send -> ``settle`` -> ``leave``,
or ``requeue`` and ``check`` again. ``leave`` is harmless at any time and ends every life.
"""

from __future__ import annotations

import itertools
import math
from typing import Final

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.limiters.combined import CombinedLimiter
from otel_ratelimit._core.limiters.limiter import Reservation
from otel_ratelimit._core.limiters.permits import Level, Permits
from otel_ratelimit._core.policy import Priority
from otel_ratelimit._core.queueing.queue import Queue
from otel_ratelimit._core.queueing.ticket import GONE, IN_FLIGHT, SETTLED, WAITING, Ticket

LEAST_SLEEP: Final = 0.001
"""Seconds. No caller is told to come back sooner: a timer is no finer, and rounding must not make a caller spin."""

LOST: Final = 2.0
"""Seconds after its expected turn at which a call that is not at the head looks after the queue by itself."""

LONGEST_SLEEP: Final = 60.0
"""Seconds after which a call that is not at the head looks again in any case."""

YIELDED: Final = 4
"""A call that was refused twice, with no bucket that shows why, lets another one go first: whether that one is served shows
whether all are refused, or this one alone (``odd_one_out``). With each further refusal it lets so many times as many go first.
Measured: with twice as many, bare refusals of mixed sizes (simulation, "mix, bare 429") take 1.020 of the bound, with four times
1.013, without the rule 1.017."""

MOST_YIELDED: Final = 4
"""The power of :data:`YIELDED` that is never exceeded: 256 calls go first at most."""

CLOCK_SLACK: Final = 1.0
"""Seconds by which time may run backwards unnoticed: two threads that read the clock before they took the lock."""


class Admission:
    """All callers of one limit in one process. Not thread-safe; never blocks; every method takes the present.

    Attributes:
        limits: what is known of the server's limits.
        queue: who waits. Read it; only the admission changes it.
        numbers: of the tickets, in order of arrival.
        cause: what was handed to the ``settle`` of the last refusal, None before; for span links.
    """

    __slots__ = ("_awaiting_probe", "_now", "_wakes", "cause", "limits", "numbers", "queue")

    def __init__(self, limits: Permits | None = None) -> None:
        """``limits``: None for nothing known yet."""
        self.cause: object | None = None
        self.limits: Permits = CombinedLimiter() if limits is None else limits
        self.queue = Queue()
        self._wakes: list[Ticket] = []
        self._awaiting_probe: list[Ticket] = []
        """Those that would go as a probe, if none were on its way."""
        self.numbers = itertools.count(1)
        self._now = -math.inf

    # --- the life of a call -------------------------------------------------------------------------------------------

    def enter(self, now: float, cost: Cost, priority: Priority) -> Ticket:
        """:meth:`ticket` and :meth:`join` in one, where no interrupt can come between the two."""
        ticket = self.ticket(cost, priority)
        self.join(ticket, now)
        return ticket

    def ticket(self, cost: Cost, priority: Priority) -> Ticket:
        """A call's place, not taken yet. Whoever is interrupted while it is taken can give it back, by this."""
        ticket = Ticket()
        ticket.cost, ticket.priority, ticket.number = cost, priority, next(self.numbers)
        return ticket

    def join_fast(self, ticket: Ticket, now: float) -> bool:
        """:meth:`join`, if no call waits and every limit surely has more than enough room: by far the usual call. False: it may
        be so or not; nothing was done.
        """
        if self.queue.waiting or now < self._now:
            return False
        ticket.reservation = reservation = Reservation()
        reservation.cost = ticket.cost
        if not self.limits.take_fast(now, reservation):
            return False
        self._now = ticket.arrived = ticket.queued_at = now
        ticket.state = IN_FLIGHT
        return True

    def join(self, ticket: Ticket, now: float) -> None:
        """A call takes its place. ``ticket.admitted`` is True at once if no call waits and every limit has room."""
        if self.join_fast(ticket, now):
            return
        self.arrive(now)
        ticket.arrived = ticket.queued_at = now
        ticket.amounts = amounts = self.limits.amounts(ticket.cost)
        if not self.queue.waiting:
            turn = self.limits.ready(now, amounts, None)
            if turn.at <= now:
                self._admit(ticket, now, amounts, probe=turn.probe, early=turn.early)
                return
        ticket.state = WAITING
        ticket.collected = False
        ticket.refused_by = -1
        self.queue.join(ticket)
        self._pump(now)
        ticket.collected = ticket.state == IN_FLIGHT
        if ticket.state == WAITING and self.queue.first(ticket.priority) is ticket:
            self.limits.begins_to_wait(now)

    def watch(self, ticket: Ticket, now: float) -> float:
        """A call that goes at once, whatever the limits say; what it takes is counted all the same.

        Returns for how many seconds it would have been held: 0 if it fits now, and also where only the next answer can tell.
        """
        self.arrive(now)
        ticket.arrived = ticket.queued_at = now
        held = 0.0
        ticket.reservation = reservation = Reservation()
        reservation.cost = ticket.cost
        if self.limits.take_fast(now, reservation):
            ticket.state = IN_FLIGHT
        else:
            amounts = self.limits.amounts(ticket.cost)
            at = self.limits.room_at(now, amounts)
            held = max(at - now, 0.0) if at < math.inf else 0.0
            self._admit(ticket, now, amounts, probe=held > 0)
        return held

    def check(self, ticket: Ticket, now: float) -> float | None:
        """None if the call is admitted; else the time before which asking again is pointless, unless woken earlier."""
        if ticket.state == WAITING:
            self.arrive(now)
            if ticket.number not in self.queue.waiting:  # an interrupt took the caller that was about to let it go
                if ticket.reservation in self.limits.traffic.in_flight:
                    ticket.state = IN_FLIGHT
                else:
                    self.queue.join(ticket)
            self._pump(now)
            if ticket.state == WAITING:
                if ticket.wake_at <= now:
                    expected = max(self.turn(ticket, now, guesses=True), now)
                    ticket.wake_at = min(expected + LOST, now + LONGEST_SLEEP)
                return ticket.wake_at
        ticket.collected = True
        return None

    def probe(self, ticket: Ticket, now: float) -> float | None:
        """The call goes although there is no room: None. Else a probe is on its way: the time before which asking again is
        pointless, unless woken earlier, by the answer of that one at the latest.
        """
        if ticket.state == WAITING:
            self.arrive(now)
            busy_until = self.limits.probe_busy_until
            if now < busy_until:
                self._awaiting_probe.append(ticket)
                return min(ticket.wake_at, busy_until)
            self.queue.remove(ticket)
            self._admit(ticket, now, ticket.amounts, probe=True)
        ticket.collected = True
        return None

    def closed_until(self, ticket: Ticket) -> tuple[float | None, bool]:
        """Until when the server told the call to stay away that it refused last, None where it has refused none, or a larger one;
        and whether that was since this call came, or came back.
        """
        evidence = self.limits.evidence
        if evidence is None or evidence.tokens > ticket.amounts.tokens:
            return None, False
        return evidence.until, evidence.at >= ticket.queued_at

    def settle_fast(self, ticket: Ticket, now: float) -> bool:
        """An attempt was answered well, and that is all that it can teach: no call waits, and every limit is far. False: it may
        be so or not; nothing was done, call :meth:`settle`.
        """
        reservation = ticket.reservation
        if ticket.state != IN_FLIGHT or reservation is None or self.queue.waiting:
            return False
        if not self.limits.settle_fast(now, reservation):
            return False
        ticket.state = SETTLED
        return True

    def settle(self, ticket: Ticket, attempt: Attempt, *, cause: object = None) -> None:
        """An attempt was answered, or failed: learns from it and frees its place in flight.

        Args:
            ticket: of the call; must be admitted, otherwise nothing happens. (A throttle may also come late, when the
                attempt was settled as a success: inside of the stream that it answered with.)
            attempt: what the answer said.
            cause: opaque; kept as :attr:`cause` if the answer is a refusal that waiting helps.
        """
        reservation = ticket.reservation
        if reservation is None or ticket.state not in (IN_FLIGHT, SETTLED):
            return
        if ticket.state == SETTLED and attempt.throttle is None:
            return
        ticket.state = SETTLED
        now = attempt.at
        self.arrive(now)
        self.limits.settle(reservation, attempt, waiting=bool(self.queue.waiting))
        if attempt.throttle is not None and attempt.throttle.retryable:
            self.cause = cause
        self._move_on(now, reservation)

    def requeue(self, ticket: Ticket, now: float, not_before: float) -> None:
        """A call that is to be sent again goes to the front of its priority; it may not go before ``not_before``."""
        if ticket.state == IN_FLIGHT:
            self.settle(ticket, Attempt(now, succeeded=False))
        reservation = ticket.reservation
        if ticket.state != SETTLED or reservation is None:
            return
        self.arrive(now)
        ticket.state = WAITING
        ticket.collected = False
        ticket.queued_at = now
        ticket.refused_by = self.limits.traffic.latest
        ticket.amounts = self.limits.amounts(ticket.cost, reservation.requested)
        ticket.yields = YIELDED ** min(reservation.unexplained - 2, MOST_YIELDED) if reservation.unexplained > 1 else 0
        ticket.not_before = now if reservation.reset_known or not not_before > now else not_before
        ticket.wake_at = max(ticket.not_before, now + LEAST_SLEEP)
        self.queue.join(ticket)
        self._pump(now)

    def leave(self, ticket: Ticket, now: float) -> None:
        """The call is over, at whatever stage: what it held and did not use is given back. Harmless when repeated.

        A call that was sent and then cancelled stays charged, because the server has charged it.
        """
        ticket.state = GONE
        reservation = ticket.reservation
        if reservation is not None and reservation in self.limits.traffic.in_flight:
            if ticket.collected:
                self.limits.abandon(reservation)
            else:
                self.limits.cancel(reservation)
        elif self.queue.remove(ticket):
            reservation = None
        else:
            return
        self._move_on(now, reservation)

    # --- what others read ---------------------------------------------------------------------------------------------

    def turn(self, ticket: Ticket, now: float, *, guesses: bool = False) -> float:
        """When the call is expected to go; ``now`` if at once. ``guesses``: see ``TrackedBuckets.expected_for``."""
        if ticket.state != WAITING:
            return now
        ahead = ticket.amounts.ahead_of(*self.queue.ahead(ticket))
        expected = self.limits.expected(now, ticket.amounts, ahead, ticket.refused_by, guesses=guesses)
        return expected if ticket.not_before is None else max(expected, ticket.not_before)

    def take_wakes(self) -> list[Ticket]:
        """The waiting calls whose time has come, or has come nearer, since the last call of this method."""
        if not self._wakes:
            return _NO_WAKES
        wakes, self._wakes = self._wakes, []
        return wakes

    def levels(self, now: float) -> list[Level]:
        """What every bucket holds now."""
        return self.limits.levels(now)

    @property
    def last_used(self) -> float:
        """The latest moment that was handed in; minus infinity before the first."""
        return self._now

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self.queue.waiting)

    @property
    def in_flight(self) -> int:
        """Calls that were admitted and not answered yet."""
        return len(self.limits.traffic.in_flight)

    # --- whose turn it is ---------------------------------------------------------------------------------------------

    def look_again(self, now: float) -> None:
        """Something changed what is known of the limits: let go whoever fits."""
        self.arrive(now)
        self._pump(now)

    def _pump(self, now: float) -> None:
        """Admit whoever fits, in order; tell those whose turn or whose own time is next when to come."""
        queue, limits = self.queue, self.limits
        while queue.waiting:
            ticket, held = queue.next(now)
            if ticket is None:
                return
            # Priced anew: what was learned since it came may have changed its price. (The queue's own account, which only
            # `turn` reads, goes on with the price at which it came.)
            reservation = ticket.reservation
            amounts = limits.amounts(ticket.cost, None if reservation is None else reservation.requested)
            turn = limits.ready(now, amounts, held)
            if turn.at > now:
                self._tell(ticket, max(turn.at, now + LEAST_SLEEP))
                return
            queue.serve(ticket)
            self._admit(ticket, now, amounts, probe=turn.probe, early=turn.early)
            self._wakes.append(ticket)

    def _admit(self, ticket: Ticket, now: float, amounts: Amounts, *, probe: bool, early: bool = False) -> None:
        """The call's turn has come: a permit for it."""
        ticket.reservation = reservation = Reservation.after(ticket.cost, ticket.reservation)
        self.limits.take(now, amounts, reservation, probe=probe, early=early)
        ticket.state = IN_FLIGHT

    def _move_on(self, now: float, ended: Reservation | None) -> None:
        """An attempt ended, or a call left the queue: whoever waited for that may go."""
        if ended is not None and ended.probe and self._awaiting_probe:
            self._wakes += self._awaiting_probe
            self._awaiting_probe.clear()
        if self.queue.waiting:
            self.arrive(now)
            self._pump(now)

    def _tell(self, ticket: Ticket, at: float) -> None:
        if at < ticket.wake_at:
            self._wakes.append(ticket)
        ticket.wake_at = at

    def arrive(self, now: float) -> None:
        """Time passed; where it went back, everything that is dated by it goes back with it."""
        if now < self._now:
            self._clock_went_back(now)
        self._now = now

    def _clock_went_back(self, now: float) -> None:
        seconds = self._now - now
        if seconds > CLOCK_SLACK:
            self.limits.rewind(now, seconds)
            self.queue.rewind(seconds)


_NO_WAKES: Final[list[Ticket]] = []
