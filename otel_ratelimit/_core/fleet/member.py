"""One process's membership of a fleet: what it reports, and what it does with the answer.

Owns the exchange (:meth:`Member.report`, :meth:`Member.accept`, :meth:`Member.fail`) for one admission and its limiter. Knows no
Redis, socket or thread: a store carries reports there and answers back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from otel_ratelimit._core.amounts import NOTHING, Amounts
from otel_ratelimit._core.fleet.lease import Lease
from otel_ratelimit._core.fleet.limiter import FleetLimiter
from otel_ratelimit._core.fleet.messages import Answer, Report, Waiter
from otel_ratelimit._core.limiters.combined import CombinedLimiter
from otel_ratelimit._core.queueing.admission import Admission
from otel_ratelimit._core.queueing.queue import WEIGHTS

HEARTBEAT: Final = 1.0
"""Seconds between two exchanges at most, while calls are made."""

IDLE_HEARTBEAT: Final = 5.0
"""The same, while none are."""

MISSED: Final = 3.0
"""Heartbeats after which the fleet gives a process up."""

DORMANT: Final = 300.0
"""Seconds without a call after which a process leaves the fleet by itself."""

STARVED: Final = 60.0
"""Seconds for which calls wait and the fleet lets none of them go, after which one goes by what this process knows itself: a
fleet's word is an estimate, too. Longer than ``allocation.lua`` holds a whole fleet by an old word of the server (PATIENCE), so
in a sound fleet it is not needed; where many wait for little, it costs one call a minute of each process."""

SOONEST: Final = 0.25
"""Seconds between two of those at least. Each that the server answers well says that the fleet is wrong, and the next comes in a
quarter of the time; one that is throttled says that it is right."""

LEAST: Final = 0.002
BEHIND: Final = 0.01
"""Seconds until the next exchange at least, however soon the fleet wants it. Both as in ``allocation.lua``."""

FRUITLESS: Final = 16
"""Exchanges in a row that let no call go, after which ``BEHIND`` counts instead of ``LEAST``."""

SHARED_CLOSURE: Final = 10.0
"""Seconds after a refusal for which its delay keeps the other processes away as well. A delay of a day that one call was told
would close the limit for all of them, also for those that start later, and without any of them having asked."""

MOST_REPORTED: Final = 16
"""Waiting calls of a priority that a report names."""

FLOW_TIME: Final = 2.0
"""Seconds of the EWMA of what flows: two heartbeats, which is what a slice should last for."""

LEAST_FLOW_TIME: Final = 0.1
"""Seconds. A stretch shorter than this is no flow."""


class Member:
    """One admission's place in the fleet that shares its limit.

    Args:
        ask: called with the member, at any time, when an exchange is wanted soon. Must return at once.
        settings: what should be alike in all of the fleet.
        encode, decode: a cause (see ``Admission.settle``) to text and back; the text may come from elsewhere.
        own: the process's own limiters; None for nothing known yet.

    Attributes:
        admission: the calls.
        limiter: their limits.
    """

    def __init__(
        self,
        *,
        ask: Callable[[Member], object],
        settings: str = "",
        encode: Callable[[object], str] = lambda _cause: "",
        decode: Callable[[str], object] = lambda _text: None,
        own: CombinedLimiter | None = None,
    ) -> None:
        self.limiter = FleetLimiter(CombinedLimiter() if own is None else own, lambda: ask(self))
        self.limiter.on_probe = self._probe_ended
        self.admission = Admission(self.limiter)
        self._settings = settings
        self._encode = encode
        self._decode = decode
        self._base = NOTHING
        self._told_cause: object = None
        """The cause that the fleet knows from us, or that we know from it."""
        self._heard_cause = ""
        self._reported: set[int] = set()
        self._waits = NOTHING
        self._active_at = -math.inf
        self._flow = NOTHING
        self._flow_at = -math.inf
        self._flow_taken = NOTHING
        self._moved_at = -math.inf
        self._moved_to = 0.0
        self._granted = 0.0
        self._patience = STARVED
        self._fruitless = 0

    # --- the exchange -------------------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When the next exchange is due; inf: when asked for."""
        limiter = self.limiter
        return min(limiter.lease.due if limiter.lease is not None else math.inf, limiter.asked_at)

    def report(self, now: float, *, leaving: bool = False) -> Report:
        """What the fleet is to be told. The exchange has begun; ``accept`` or ``fail`` follows."""
        limiter, queue, traffic = self.limiter, self.admission.queue, self.limiter.traffic
        limiter.asked_at = math.inf
        limiter.began_at = now
        self._base = traffic.taken
        self._measure(now)
        self._reported.clear()
        lanes: list[tuple[Waiter, ...]] = []
        for priority in WEIGHTS:
            lane = []
            for ticket in queue.ready(priority, MOST_REPORTED, now):
                self._reported.add(ticket.number)
                requested = None if ticket.reservation is None else ticket.reservation.requested
                lane.append(Waiter(max(now - ticket.arrived, 0.0), limiter.amounts(ticket.cost, requested)))
            lanes.append(tuple(lane))
        waits = self._waits = self._all_that_waits(lanes)
        typical = self._typical_call(lanes)
        flow = 2.0 * self.heartbeat(now)
        want = Amounts(*(max(flow * self._flow[i], 2.0 * typical[i]) + waits[i] for i in range(4)))
        return Report(
            epoch=limiter.lease.answer.epoch if limiter.lease is not None else "",
            used=traffic.taken.minus(traffic.returned),
            answers=limiter.answers,
            silent=limiter.silent,
            known=limiter.own.known,
            words=limiter.words(now),
            lanes=tuple(lanes),
            waits=waits,
            held=queue.held,
            want=want,
            typical=typical,
            closed=self._closed(now),
            cause=self._new_cause(),
            live=MISSED * self.heartbeat(now),
            settings=self._settings,
            leaving=leaving,
            several=limiter.finding(now),
            early=limiter.since_early(now),
        )

    def accept(self, wire: object, now: float) -> str | None:
        """The fleet answered: the lease holds from now on, and whoever fits goes.

        Returns:
            The settings of others, where they are not ours.

        Raises:
            AnswerError: it is none; nothing was done.
        """
        answer = Answer.of(wire)
        limiter, admission = self.limiter, self.admission
        admission.arrive(now)
        limiter.began_at = math.inf
        limiter.install(Lease(answer, self._base, self._waits, now, self._next_exchange(answer, now)), now, alone=False)
        if self._starves(now):
            limiter.probe(now)
        if answer.several is not None:
            limiter.hear_of_several(answer.several.name, now - answer.several.age)
        if answer.early is not None:
            limiter.hear_of_early(now - answer.early)
        self._take_cause(answer.cause)
        admission.look_again(now)
        for priority in WEIGHTS:
            first = admission.queue.first(priority)
            if first is not None and first.number not in self._reported:
                limiter.ask(now)  # it came while the exchange was under way, or behind those that were named
        return answer.settings

    def fail(self, now: float) -> None:
        """The fleet is out of reach: until the next ``accept`` our own limiters decide."""
        self.admission.arrive(now)
        self._over(now, alone=True)
        self.admission.look_again(now)

    def sleeps(self, now: float) -> bool:
        """Whether no call was made for so long that the fleet should be left (and none waits)."""
        self._measure(now)
        return not self.admission.queue.waiting and now - self._active_at > DORMANT

    def leave_fleet(self, now: float) -> None:
        """The fleet was told that we leave it: the next call joins it anew."""
        self.admission.arrive(now)
        self._over(now, alone=False)

    def heartbeat(self, now: float) -> float:
        """Seconds between exchanges while nothing happens: longer, the longer nothing has."""
        return min(max(HEARTBEAT, 0.5 * (now - self._active_at)), IDLE_HEARTBEAT)

    def _over(self, now: float, *, alone: bool) -> None:
        self.limiter.asked_at = self.limiter.began_at = math.inf
        self.limiter.install(None, now, alone=alone)

    def _next_exchange(self, answer: Answer, now: float) -> float:
        """When the next exchange is due: as the fleet wants it; where a throttled call may come back, then."""
        queue = self.admission.queue
        if not queue.waiting:
            return now + self.heartbeat(now)
        soonest = LEAST if self._fruitless < FRUITLESS else BEHIND
        due = now + max(min(answer.again, HEARTBEAT), soonest)
        back = queue.next_return()
        return due if back is None else min(due, max(back, now + 0.001))

    # --- causes -------------------------------------------------------------------------------------------------------

    def _new_cause(self) -> str:
        """What caused the last refusal, where the fleet does not know it yet."""
        cause = self.admission.cause
        if cause is self._told_cause:
            return ""
        self._told_cause = cause
        return self._encode(cause)

    def _take_cause(self, text: str) -> None:
        """What caused the fleet's last refusal; it may have been another process's call."""
        if not text or text == self._heard_cause:
            return
        self._heard_cause = text
        if text != self._encode(self.admission.cause):
            cause = self._decode(text)
            if cause:
                self.admission.cause = self._told_cause = cause

    # --- starvation ---------------------------------------------------------------------------------------------------

    def _starves(self, now: float) -> bool:
        """Whether calls have been waiting, and none went, for longer than a fleet is believed."""
        limiter = self.limiter
        sent = limiter.traffic.taken.requests
        self._fruitless += 1
        if sent > self._moved_to or not self._reported:
            if sent - limiter.probes > self._granted or not self._reported:
                self._patience, self._fruitless = STARVED, 0
            self._moved_at, self._moved_to, self._granted = now, sent, sent - limiter.probes
        return now - self._moved_at >= self._patience

    def _probe_ended(self, served: bool | None) -> None:
        """A call that went against the fleet's word was answered."""
        if served:
            self._patience = max(self._patience / 4.0, SOONEST)
        elif served is False:
            self._patience = STARVED

    # --- what is reported ---------------------------------------------------------------------------------------------

    def _closed(self, now: float) -> float:
        """Seconds for which the others are told to stay away: what the server said to one of our calls, but not for long."""
        own = self.limiter.own
        if own.closed_until <= now or own.evidence is None:
            return 0.0
        return max(min(own.closed_until, own.evidence.at + SHARED_CLOSURE) - now, 0.0)

    def _all_that_waits(self, lanes: list[tuple[Waiter, ...]]) -> Amounts:
        """All calls that wait: requests and tokens are known; the others in the proportion of the calls that are named."""
        requests, tokens = self.admission.queue.waits()
        named = NOTHING
        for lane in lanes:
            for waiter in lane:
                named = named.plus(waiter.amounts)
        share = requests / named.requests if named.requests > 0 else 0.0
        return Amounts(requests, tokens, share * named.input, share * named.output)

    def _typical_call(self, lanes: list[tuple[Waiter, ...]]) -> Amounts:
        traffic = self.limiter.traffic
        if traffic.latest:
            return Amounts(*(taken / traffic.latest for taken in traffic.taken))
        for lane in lanes:
            if lane:
                return lane[0].amounts
        return Amounts(1.0)

    def _measure(self, now: float) -> None:
        """What flows, by unit and second, over the last seconds."""
        taken = self.limiter.traffic.taken
        if taken.requests > self._flow_taken.requests or self.admission.queue.waiting:
            self._active_at = now
        elapsed = now - self._flow_at
        if elapsed == math.inf:
            self._flow_at, self._flow_taken = now, taken
        elif elapsed >= LEAST_FLOW_TIME:
            share = min(elapsed / FLOW_TIME, 1.0)
            self._flow = Amounts(
                *(
                    flow + share * ((taken[i] - self._flow_taken[i]) / elapsed - flow)
                    for i, flow in enumerate(self._flow)
                )
            )
            self._flow_at, self._flow_taken = now, taken
