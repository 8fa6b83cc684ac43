"""Random interleavings of calls, throttles, cancellations, priorities and failures, through the pure core.

A model server beside the core keeps its own bucket. What must hold at every step: no reservation is lost or made twice, the
order of a priority is kept, nobody is told a time that never comes, no wake is lost, and no call goes for which a server that
has said what is left has no room, but for a probe now and then; and in the end all are served.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.parsing.limits import LimitReading
from otel_ratelimit._core.policy import PRIORITIES
from otel_ratelimit._core.queueing.admission import LONGEST_SLEEP, LOST, Admission
from otel_ratelimit._core.queueing.queue import WEIGHTS
from otel_ratelimit._core.queueing.ticket import GONE, IN_FLIGHT, SETTLED, WAITING, Ticket
from otel_ratelimit._core.throttle import Throttle

LATENCY = 0.05

MARGIN = 0.01
"""Share of the limit that a call may lack after all, where the server has told of its limit: it rounds what it tells."""


class Call:
    """A caller: its ticket, when it looks again, and when its request left."""

    def __init__(self, ticket: Ticket, tokens: float) -> None:
        self.ticket = ticket
        self.tokens = tokens
        self.wakes_at = math.inf
        self.sent_at: float | None = None
        self.refused: float | None = None
        self.readings: tuple[LimitReading, ...] = ()


class Interplay(RuleBasedStateMachine):
    """The callers of one limit, on a clock that the rules move."""

    @initialize(
        limit=st.sampled_from([600.0, 6000.0, 600_000.0]),
        headers=st.booleans(),
        numbers=st.booleans(),
        seed=st.integers(0, 2**16),
    )
    def begin(self, limit: float, headers: bool, numbers: bool, seed: int) -> None:
        self.now = 1000.0
        self.limit = limit
        self.headers = headers
        self.numbers = numbers
        self.random = random.Random(seed)
        self.admission = Admission()
        self.level = limit
        self.filled_at = self.now
        self.calls: list[Call] = []
        self.sent = 0
        self.served = 0
        self.refusals = 0
        self.told = False

    # --- the server ---------------------------------------------------------------------------------------------------

    def take(self, tokens: float) -> float | None:
        """None if the server serves it; else seconds until it would."""
        rate = self.limit / 60.0
        self.level = min(self.limit, self.level + (self.now - self.filled_at) * rate)
        self.filled_at = self.now
        if tokens <= self.level + 1e-6:
            self.level -= tokens
            return None
        return (tokens - self.level) / rate

    def readings(self) -> tuple[LimitReading, ...]:
        """What the server says in the headers of its answer: how things stood when the request came."""
        if not self.headers:
            return ()
        reset = (self.limit - self.level) / (self.limit / 60.0)
        return (LimitReading("tokens", "", None, self.limit, math.floor(self.level), round(reset, 3)),)

    # --- the callers --------------------------------------------------------------------------------------------------

    @rule(share=st.floats(0.001, 0.2), priority=st.sampled_from(PRIORITIES))
    def enter(self, share: float, priority: Any) -> None:
        tokens = math.ceil(share * self.limit)
        ticket = self.admission.enter(self.now, Cost(input=0.0, output=float(tokens)), priority)
        call = Call(ticket, tokens)
        self.calls.append(call)
        self.look(call)
        self.wake()

    def look(self, call: Call) -> None:
        """The caller asks whether it may go, and goes or sleeps."""
        at = self.admission.check(call.ticket, self.now)
        if at is None:
            assert call.ticket.state == IN_FLIGHT
            assert call.sent_at is None, "one turn, sent twice"
            if call.ticket.not_before is not None:
                assert call.ticket.not_before <= self.now
            call.wakes_at = math.inf
            call.sent_at = self.now
            self.sent += 1
            call.refused = self.take(call.tokens)
            call.readings = self.readings()
            reservation = call.ticket.reservation
            assert reservation is not None
            if self.told and call.refused and not reservation.early:  # that one asks whether there is more than it says
                assert call.refused <= MARGIN * 60.0, "more than the server allows"
        else:
            assert at > self.now, "told to come at once, and not let in"
            assert at <= self.now + LONGEST_SLEEP + 60.0 + LOST or at == math.inf
            call.wakes_at = at

    def wake(self) -> None:
        """Those whom the admission names look again, as the store would have them."""
        while wakes := self.admission.take_wakes():
            of = {call.ticket: call for call in self.calls}
            for call in [of[ticket] for ticket in wakes if ticket in of]:  # in the order in which they were let go
                if call.sent_at is None and call.ticket.state in (WAITING, IN_FLIGHT):
                    self.look(call)

    def in_flight(self) -> list[Call]:
        return [call for call in self.calls if call.sent_at is not None and call.ticket.state == IN_FLIGHT]

    @precondition(lambda self: self.calls and self.in_flight())
    @rule(which=st.integers(0, 1000), failed=st.integers(0, 9))
    def answer(self, which: int, failed: int) -> None:
        flying = self.in_flight()
        self.answer_one(flying[which % len(flying)], failed == 0)

    def answer_one(self, call: Call, failed: bool = False) -> None:
        assert call.sent_at is not None
        self.now = max(self.now, call.sent_at + LATENCY)
        if failed:
            self.admission.settle(call.ticket, Attempt(self.now, succeeded=False))
        elif call.refused is None:
            self.admission.settle(call.ticket, Attempt(self.now, readings=call.readings, succeeded=True))
            self.told = self.told or self.headers
            self.served += 1
        else:
            self.refusals += 1
            used, limit = self.limit - self.level, self.limit
            delay = math.floor(call.refused * 1000) / 1000
            throttle = Throttle(delay, "body-message", "tokens", "minute")
            if self.numbers:
                throttle = replace(throttle, limit=limit, used=used, requested=call.tokens)
            self.admission.settle(
                call.ticket, Attempt(self.now, readings=call.readings, throttle=throttle, succeeded=False), cause=call
            )
            self.told = self.told or self.headers
            call.sent_at = None
            self.admission.requeue(call.ticket, self.now, self.now + delay + 0.025)
            self.look(call)
            self.wake()
            return
        self.admission.leave(call.ticket, self.now)
        self.calls.remove(call)
        self.wake()

    @precondition(lambda self: self.calls)
    @rule(which=st.integers(0, 1000))
    def cancel(self, which: int) -> None:
        call = self.calls.pop(which % len(self.calls))
        self.admission.leave(call.ticket, self.now)
        self.admission.leave(call.ticket, self.now)  # harmless when repeated
        self.wake()

    @rule(seconds=st.floats(0.0, 5.0))
    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = [call for call in self.calls if call.wakes_at <= end and call.ticket.state in (WAITING, IN_FLIGHT)]
            if not due:
                break
            first = min(due, key=lambda call: call.wakes_at)
            self.now = max(self.now, first.wakes_at)
            self.look(first)
            self.wake()
        self.now = max(self.now, end)

    # --- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def reservations_are_kept(self) -> None:
        """As many in flight and waiting as there are callers that hold a turn or wait for one."""
        if not hasattr(self, "calls"):
            return
        states = [call.ticket.state for call in self.calls]
        assert self.admission.in_flight == states.count(IN_FLIGHT)
        assert self.admission.waiting == states.count(WAITING)
        assert GONE not in states
        assert SETTLED not in states
        assert not [call for call in self.calls if call.ticket.state == IN_FLIGHT and call.sent_at is None], (
            "a lost wake"
        )

    @invariant()
    def somebody_will_come(self) -> None:
        """Where calls wait, one of them has a time, or an answer is awaited."""
        if hasattr(self, "calls") and self.admission.waiting:
            times = [call.wakes_at for call in self.calls if call.ticket.state == WAITING]
            assert min(times) < math.inf or self.in_flight()

    @invariant()
    def order_is_kept(self) -> None:
        """Inside a priority, those that were never throttled wait in the order in which they came."""
        if not hasattr(self, "calls"):
            return
        for priority in WEIGHTS:
            waiting = [
                call.ticket.number
                for call in self.calls
                if call.ticket.state == WAITING and call.ticket.priority == priority and call.ticket.not_before is None
            ]
            assert waiting == sorted(waiting)
            queued = list(self.admission.queue._lanes[priority].back)
            assert queued == waiting

    def teardown(self) -> None:
        """Left alone, everybody is served, without the server refusing much."""
        if not hasattr(self, "calls"):
            return
        deadline = self.now + 3600.0
        rounds = 0
        while self.calls:
            rounds += 1
            assert self.now < deadline, "somebody waits for ever"
            assert rounds < 20_000
            flying = self.in_flight()
            if flying:
                self.answer_one(flying[0])
            else:
                self.time_passes(max(0.0, min(call.wakes_at for call in self.calls) - self.now))
        assert (self.admission.in_flight, self.admission.waiting) == (0, 0)


Interplay.TestCase.settings = settings(
    max_examples=40, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
TestInterplay = Interplay.TestCase
