"""Who is next: first come first served, whoever was throttled first of all, priorities by share.

Owns the order of the waiting calls. Knows no limit and does not decide whether a call fits: it names the one whose turn
it is, and what is promised to those who were throttled and may not come back yet.

*No overtaking.* Inside a priority the one in front is next, whatever its size: were small calls let past a large one
that does not fit yet, they would take what it waits for, again and again.

*Priorities by share* (stride scheduling, Waldspurger and Weihl 1995). Each priority has a weight; while several have
calls waiting, the one that has had least for its weight is next. A priority that had nothing waiting starts level
with the others, so an interactive call that comes goes first, and a batch that waits behind steady interactive
traffic still moves: one in 65.

*The throttled.* A call that comes back has a time of its own before which it may not go. Until then its place is held:
others pass only if they fit beside it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, Final

from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.ledger import Ledger
from otel_ratelimit._core.policy import Priority

WEIGHTS: Final[dict[Priority, float]] = {"interactive": 64.0, "normal": 8.0, "batch": 1.0}

NEW: Final = -1
WAITING: Final = 0
IN_FLIGHT: Final = 1
SETTLED: Final = 2
GONE: Final = 3

Needs = tuple[float, float, float, float]
"""Requests, tokens, input tokens, output tokens."""


class Ticket:
    """One call's place: waiting, in flight, or done. Belongs to the admission that made it; only read it.

    Attributes:
        arrived: when it entered.
        admitted: whether its turn has come and its share of every limit is reserved.
        collected: whether its caller knows that it is admitted, and has sent it.
        exact: tokens that the server named for it.
        refusals: how often it was refused.
        since: when it entered, or was last put back into the queue.
        forced: it went although there was no room for it: a refusal surprises nobody.
        ignores_reset: the delay of its last refusal was a reset time, and a ledger knows better.
        last_sent: the latest request of all that had left when it was put back into the queue.
        lease: what the fleet had handed out when it was admitted (``lease.Lease``); None where there is no fleet.
        levels: what was expected to be left of each limit after it; None if all was calm.
        told: the time that it was last told to ask again at; ``math.inf``: when woken.
    """

    __slots__ = ("arrived", "collected", "cost", "exact", "forced", "ignores_reset", "last_sent", "lease", "levels", "mark",
                 "needs", "not_before", "number", "priority", "refusals", "sent", "sent_at", "since", "spent", "state", "told",
                 "work")  # fmt: skip

    def __init__(self, cost: Cost, priority: Priority, number: int) -> None:
        self.cost = cost
        self.priority = priority
        self.number = number
        self.state = NEW
        self.told = -math.inf
        self.collected = True
        self.exact: float | None = None
        self.forced = False
        self.refusals = 0
        self.ignores_reset = False
        self.not_before: float | None = None

    # Set by whom they concern: the queue (mark), the limits at admission (the others).
    mark: tuple[float, float]
    needs: Needs
    sent: int
    last_sent: int
    sent_at: float
    spent: Needs
    work: float
    levels: list[tuple[Ledger, float]] | None
    arrived: float
    since: float
    lease: Any

    @property
    def admitted(self) -> bool:
        return self.state == IN_FLIGHT


class _Lane:
    """The waiting calls of one priority."""

    __slots__ = ("back", "entered", "front", "passed", "served", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.passed = 0.0
        self.front: list[Ticket] = []
        """Those that were throttled, by first arrival."""
        self.back: OrderedDict[int, Ticket] = OrderedDict()
        self.entered = [0.0, 0.0]
        self.served = [0.0, 0.0]
        """Requests and tokens that ever joined the back and left it: their difference is what waits."""


class Queue:
    """The waiting calls of one admission.

    Attributes:
        waiting: all of them, by number. What is not in here does not wait, wherever an interrupt left it.
    """

    __slots__ = ("_clock", "_lanes", "waiting")

    def __init__(self) -> None:
        self._lanes = {priority: _Lane(weight) for priority, weight in WEIGHTS.items()}
        self._clock = 0.0
        self.waiting: dict[int, Ticket] = {}

    def __iter__(self) -> Iterator[Ticket]:
        for lane in self._lanes.values():
            yield from lane.front
            yield from lane.back.values()

    def join(self, ticket: Ticket) -> None:
        """To the back of its priority; to the front, by first arrival, if it has a time of its own."""
        lane = self._lanes[ticket.priority]
        if not lane.front and not lane.back:
            lane.passed = max(lane.passed, self._clock)
        self.waiting[ticket.number] = ticket
        if ticket.not_before is not None:
            index = len(lane.front)
            while index and lane.front[index - 1].number > ticket.number:
                index -= 1
            lane.front.insert(index, ticket)
            return
        lane.entered[0] += ticket.needs[0]
        lane.entered[1] += ticket.needs[1]
        ticket.mark = (lane.entered[0], lane.entered[1])
        lane.back[ticket.number] = ticket

    def remove(self, ticket: Ticket) -> bool:
        """Out of the queue, whether its turn came or it gave up. False where it was not in it; harmless when repeated."""
        if ticket.number not in self.waiting:
            return False
        lane = self._lanes[ticket.priority]
        if ticket.not_before is not None and ticket in lane.front:
            lane.front.remove(ticket)
            ticket.not_before = None
        elif lane.back.pop(ticket.number, None) is not None:
            lane.served[0] += ticket.needs[0]
            lane.served[1] += ticket.needs[1]
            if not lane.back:  # the sums begin anew: rounding, or an interrupt, may have left something in them
                lane.entered[:] = lane.served[:] = (0.0, 0.0)
        del self.waiting[ticket.number]
        return True

    def serve(self, ticket: Ticket) -> None:
        """Its turn came: out of the queue, and on the account of its priority."""
        self.remove(ticket)
        lane = self._lanes[ticket.priority]
        self._clock = lane.passed
        lane.passed += 1.0 / lane.weight

    def next(self, now: float) -> tuple[Ticket | None, list[Ticket]]:
        """Whose turn it is, and those whose place is held meanwhile. None: nobody may go yet, only places are held."""
        best: _Lane | None = None
        best_ticket: Ticket | None = None
        held: list[Ticket] = []
        for lane in self._lanes.values():
            candidate: Ticket | None = None
            for ticket in lane.front:
                if ticket.not_before is None or ticket.not_before <= now:
                    candidate = ticket
                    break
                held.append(ticket)
            if candidate is None and lane.back:
                candidate = next(iter(lane.back.values()))
            if candidate is not None and (best is None or lane.passed < best.passed):
                best, best_ticket = lane, candidate
        return best_ticket, held

    def ahead(self, ticket: Ticket) -> tuple[float, float]:
        """Requests and tokens that are served before this waiting call is done, itself included."""
        requests, tokens = ticket.needs[0], ticket.needs[1]
        for priority, lane in self._lanes.items():
            if priority == ticket.priority:
                for other in lane.front:
                    if other is not ticket and (ticket.not_before is None or other.number < ticket.number):
                        requests += other.needs[0]
                        tokens += other.needs[1]
                if ticket.not_before is None:
                    requests += ticket.mark[0] - lane.served[0] - ticket.needs[0]
                    tokens += ticket.mark[1] - lane.served[1] - ticket.needs[1]
                break  # lower priorities take a small share only
            requests += lane.entered[0] - lane.served[0]
            tokens += lane.entered[1] - lane.served[1]
        return requests, tokens

    def first(self, priority: Priority) -> Ticket | None:
        """Who came first of those of a priority that were not throttled."""
        return next(iter(self._lanes[priority].back.values()), None)

    def ready(self, priority: Priority, most: int, now: float) -> list[Ticket]:
        """The first ``most`` calls of a priority that may go as soon as there is room, in order."""
        lane = self._lanes[priority]
        found = [ticket for ticket in lane.front if ticket.not_before is None or ticket.not_before <= now]
        return list(islice(chain(found, lane.back.values()), most))

    def held(self, now: float) -> list[Ticket]:
        """Those that were throttled and may not come back yet."""
        return [
            ticket
            for lane in self._lanes.values()
            for ticket in lane.front
            if ticket.not_before is not None and ticket.not_before > now
        ]

    def waits(self) -> tuple[float, float]:
        """Requests and tokens of all that wait."""
        requests = tokens = 0.0
        for lane in self._lanes.values():
            requests += lane.entered[0] - lane.served[0] + sum(ticket.needs[0] for ticket in lane.front)
            tokens += lane.entered[1] - lane.served[1] + sum(ticket.needs[1] for ticket in lane.front)
        return requests, tokens

    def rewind(self, seconds: float) -> None:
        """The clock was set back by ``seconds``: so are the times that waiting calls hold."""
        for ticket in self:
            ticket.told -= seconds
            if ticket.not_before is not None:
                ticket.not_before -= seconds
