"""Who is next: first come first served, whoever was throttled first of all, priorities by weighted fair share.

Owns the order of the waiting calls. Knows no limit and does not decide whether a call fits: it names the one whose turn it is,
and what is held for those who were throttled and may not come back yet. No operation walks the queue, so a call costs the same
however many wait.

*No overtaking.* Inside a priority the call at the head is next, whatever its size: were small calls let past a large one that
does not fit yet, they would take what it waits for, again and again.

*Weighted fair share* (stride scheduling, Waldspurger and Weihl 1995). Each priority has a weight; while several have calls
waiting, the one that has had least for its weight is next. A priority that had nothing waiting starts level with the others, so
an interactive call that comes goes first, and a batch that waits behind steady interactive traffic still moves: one in 65.

*The throttled.* A call that comes back has a time of its own before which it may not go. Until then its amounts are held: calls
that were never throttled pass only if they fit beside them. One that is refused again and again with no reason to be seen lets
one other call go before it, then four, then sixteen: it may be the only one that is refused.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict
from itertools import chain, islice
from typing import Final

from otel_ratelimit._core.amounts import NOTHING, Amounts
from otel_ratelimit._core.policy import Priority
from otel_ratelimit._core.queueing.ticket import Ticket

WEIGHTS: Final[dict[Priority, float]] = {"interactive": 64.0, "normal": 8.0, "batch": 1.0}


class _Lane:
    """The waiting calls of one priority."""

    __slots__ = (
        "back",
        "due",
        "due_heap",
        "joined",
        "left",
        "passed",
        "returning",
        "served",
        "throttled",
        "throttled_amounts",
        "weight",
        "yielding",
    )

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.passed = 0.0
        """Calls served over the weight."""
        self.back: OrderedDict[int, Ticket] = OrderedDict()
        """Those that were never throttled, by arrival."""
        self.joined = (0.0, 0.0)
        self.left = (0.0, 0.0)
        """Requests and tokens that ever joined the back and left it: their difference is what waits there."""
        self.throttled: list[int] = []
        """Numbers of those that were throttled, sorted."""
        self.throttled_amounts = NOTHING
        self.returning: list[tuple[float, int, Ticket]] = []
        """Heap of those that may not come back yet, by their time. Entries of calls that left stay until they are met."""
        self.due: set[int] = set()
        """Numbers of those whose time has come."""
        self.due_heap: list[tuple[int, Ticket]] = []
        """The same by arrival. Entries of calls that left stay until they are met."""
        self.served = 0
        """Calls that were served, ever."""
        self.yielding: list[tuple[int, int]] = []
        """Heap of the numbers of those whose time has come, and who let others go first, by the count of served calls at which
        they come. Entries of calls that left stay until they are met."""

    def first_due(self) -> Ticket | None:
        """Who came first of those whose time has come."""
        while self.due_heap:
            number, ticket = self.due_heap[0]
            if number in self.due:
                return ticket
            heapq.heappop(self.due_heap)
        return None

    def make_due(self, ticket: Ticket) -> None:
        """Its time has come."""
        self.due.add(ticket.number)
        heapq.heappush(self.due_heap, (ticket.number, ticket))

    def forget(self) -> None:
        """The sums begin anew where nothing is left of them: rounding, or an interrupt, may have left something in them."""
        if not self.back:
            self.joined = self.left = (0.0, 0.0)
        if not self.throttled:
            self.throttled_amounts = NOTHING
            self.returning.clear()
            self.due.clear()
            self.due_heap.clear()
            self.yielding.clear()


class Queue:
    """The waiting calls of one admission.

    Attributes:
        waiting: all of them, by number. What is not in here does not wait, wherever an interrupt left it.
        held: amounts of the throttled calls whose time has not come.
    """

    __slots__ = ("_clock", "_held", "_lanes", "held", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[int, Ticket] = {}
        self.held: Amounts = NOTHING
        self._held: dict[int, Amounts] = {}
        self._lanes = {priority: _Lane(weight) for priority, weight in WEIGHTS.items()}
        self._clock = 0.0

    def join(self, ticket: Ticket) -> None:
        """To the back of its priority; among the throttled, by first arrival, if it has a time of its own."""
        lane = self._lanes[ticket.priority]
        if not lane.throttled and not lane.back:
            lane.passed = max(lane.passed, self._clock)
        self.waiting[ticket.number] = ticket
        amounts = ticket.amounts
        if ticket.not_before is None:
            lane.joined = ticket.position = (lane.joined[0] + amounts.requests, lane.joined[1] + amounts.tokens)
            lane.back[ticket.number] = ticket
            return
        insort(lane.throttled, ticket.number)
        lane.throttled_amounts = lane.throttled_amounts.plus(amounts)
        heapq.heappush(lane.returning, (ticket.not_before, ticket.number, ticket))
        self._held[ticket.number] = amounts
        self.held = self.held.plus(amounts)

    def remove(self, ticket: Ticket) -> bool:
        """Out of the queue, whether its turn came or it gave up. False where it was not in it; harmless when repeated."""
        number = ticket.number
        if number not in self.waiting:
            return False
        lane = self._lanes[ticket.priority]
        amounts = ticket.amounts
        if lane.back.pop(number, None) is not None:
            lane.left = (lane.left[0] + amounts.requests, lane.left[1] + amounts.tokens)
        else:
            index = bisect_left(lane.throttled, number)
            if lane.throttled[index : index + 1] == [number]:
                del lane.throttled[index]
                lane.throttled_amounts = lane.throttled_amounts.minus(amounts)
            lane.due.discard(number)
            self._release(number)
            ticket.not_before = None
        lane.forget()
        del self.waiting[number]
        return True

    def _release(self, number: int) -> None:
        """Nothing is held for this call any longer."""
        amounts = self._held.pop(number, None)
        if amounts is not None:
            self.held = self.held.minus(amounts) if self._held else NOTHING

    def serve(self, ticket: Ticket) -> None:
        """Its turn came: out of the queue, and on the account of its priority."""
        lane = self._lanes[ticket.priority]
        self._clock = lane.passed
        lane.passed += 1.0 / lane.weight
        self.remove(ticket)
        lane.served += 1

    def next(self, now: float) -> tuple[Ticket | None, Amounts | None]:
        """Whose turn it is, and what is held beside it; None: no call may go yet, or nothing is held."""
        best: _Lane | None = None
        best_ticket: Ticket | None = None
        for lane in self._lanes.values():
            if not lane.throttled and not lane.back:
                continue
            if lane.returning:
                self._bring_back(lane, now)
            if lane.yielding:
                self._come_forward(lane)
            ticket = lane.first_due() if lane.due else None
            if ticket is None and lane.back:
                ticket = next(iter(lane.back.values()))
            if ticket is not None and (best is None or lane.passed < best.passed):
                best, best_ticket = lane, ticket
        # One that was throttled itself goes before those whose time has not come.
        throttled = best_ticket is not None and best_ticket.not_before is not None
        return best_ticket, None if throttled or not self._held else self.held

    def _bring_back(self, lane: _Lane, now: float) -> None:
        """Those whose time has come are held no longer: they are next."""
        while lane.returning and lane.returning[0][0] <= now:
            at, number, ticket = heapq.heappop(lane.returning)
            if self.waiting.get(number) is ticket and ticket.not_before == at:
                self._release(number)
                if ticket.yields:
                    heapq.heappush(lane.yielding, (lane.served + ticket.yields, number))
                else:
                    lane.make_due(ticket)

    def _come_forward(self, lane: _Lane) -> None:
        """Those that have let enough others go first; or the next one of them, where no other is there."""
        while lane.yielding and (lane.yielding[0][0] <= lane.served or not (lane.due or lane.back)):
            _, number = heapq.heappop(lane.yielding)
            ticket = self.waiting.get(number)
            if ticket is not None and number not in lane.due and number not in self._held:
                lane.make_due(ticket)

    def ahead(self, ticket: Ticket) -> tuple[float, float]:
        """Requests and tokens that are served before this waiting call is done, itself included. Those of throttled calls in
        the midst of others are their share of the whole.
        """
        requests = tokens = 0.0
        for priority, lane in self._lanes.items():
            mine = priority == ticket.priority
            if mine and ticket.not_before is not None:
                before = bisect_left(lane.throttled, ticket.number)
                share = before / len(lane.throttled) if lane.throttled else 0.0
                requests += ticket.amounts.requests + share * lane.throttled_amounts.requests
                tokens += ticket.amounts.tokens + share * lane.throttled_amounts.tokens
                break
            if mine:
                requests += ticket.position[0] - lane.left[0] + lane.throttled_amounts.requests
                tokens += ticket.position[1] - lane.left[1] + lane.throttled_amounts.tokens
                break  # lower priorities take a small share only
            requests += lane.joined[0] - lane.left[0]
            tokens += lane.joined[1] - lane.left[1]
        return requests, tokens

    # --- what a fleet is told -----------------------------------------------------------------------------------------

    def first(self, priority: Priority) -> Ticket | None:
        """Who came first of those of a priority that were not throttled."""
        return next(iter(self._lanes[priority].back.values()), None)

    def ready(self, priority: Priority, most: int, now: float) -> list[Ticket]:
        """The first ``most`` calls of a priority that may go as soon as there is room, in order."""
        lane = self._lanes[priority]
        self._bring_back(lane, now)
        self._come_forward(lane)
        due = (self.waiting[number] for number in heapq.nsmallest(most, lane.due))
        return list(islice(chain(due, lane.back.values()), most))

    def next_return(self) -> float | None:
        """When the next throttled call may come back; None where none is held."""
        times = [lane.returning[0][0] for lane in self._lanes.values() if lane.returning]
        return min(times, default=None)

    def waits(self) -> tuple[float, float]:
        """Requests and tokens of all that wait."""
        requests = tokens = 0.0
        for lane in self._lanes.values():
            requests += lane.joined[0] - lane.left[0] + lane.throttled_amounts.requests
            tokens += lane.joined[1] - lane.left[1] + lane.throttled_amounts.tokens
        return requests, tokens

    def rewind(self, seconds: float) -> None:
        """The clock was set back by ``seconds``: so are the times that waiting calls hold."""
        for ticket in self.waiting.values():
            ticket.wake_at -= seconds
            if ticket.not_before is not None:
                ticket.not_before -= seconds
        for lane in self._lanes.values():
            lane.returning = [(at - seconds, number, ticket) for at, number, ticket in lane.returning]
