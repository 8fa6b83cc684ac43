"""Who may send when in one process of a fleet: an admission, what it reports and what it is told.

Owns what a process tells its fleet (:meth:`FleetAdmission.report`) and what it does with the answer
(:meth:`FleetAdmission.accept`). Knows no Redis, socket or thread: somebody else carries reports there and answers back, and
calls :meth:`FleetAdmission.fail` where that does not work. The limits that stand behind it are ``lease``.

*Ages, totals, states.* A report tells how long ago something was, never when, so no two clocks are compared; and it tells totals
and the present state, so that it can be repeated where nobody knows whether it arrived. Its parts, by unit (see ``queue.Needs``):

- ``used``: what this process has used, ever; ``answers``, ``silent``: answers it has had, and how many of them spoke of no limit.
- ``said``: by ledger, what the server said last: ``told`` left, ``age`` seconds ago (when the request was sent), and the fleet's
  total (``mark``) at which that request had been handed its share, or what this process used since then (``since``);
  ``error`` and ``judged``: the worst of so many predictions.
- ``lanes``: by priority, the first calls that wait: (seconds waited, and what each needs); ``waits``: all of them together;
  ``hold``: what is promised to throttled calls that may not come back yet.
- ``want``: what the next slice should hold; ``typical``: one call, without which a slice is of no use.
- ``closed``: seconds for which the server wants nobody, as far as that is shared; ``known``: whether the cold start is over.
- ``live``: seconds after which this process is given up; ``settings``: those that all of the fleet should have alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from otel_ratelimit._core.admission import Admission
from otel_ratelimit._core.answer import amount, judged
from otel_ratelimit._core.gates import COLD_CALLS, COLD_DOUBLING, Gates
from otel_ratelimit._core.lease import FleetLimits, Lease
from otel_ratelimit._core.queue import WAITING, WEIGHTS, Needs, Ticket
from otel_ratelimit._core.throttle import Throttle

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
fleet's word is an estimate, too. Longer than ``ledger.lua`` holds a whole fleet by an old word of the server (PATIENCE), so in
a sound fleet it is not needed; where many wait for little, it costs one call a minute of each process."""

SOONEST: Final = 0.25
"""Seconds between two of those at least. Each that the server answers well says that the fleet is wrong, and the next comes in a
quarter of the time; one that is throttled says that it is right."""

LEAST: Final = 0.002
BEHIND: Final = 0.01
"""Seconds until the next exchange at least, however soon the fleet wants it. Both as in ``ledger.lua``."""

FRUITLESS: Final = 16
"""Exchanges in a row that let no call go, after which ``BEHIND`` counts instead of ``LEAST``."""

SHARED_CLOSURE: Final = 10.0
"""Seconds after a refusal for which its delay keeps the other processes away as well. A delay of a day that one call was told
would close the limit for all of them, also for those that start later, and without any of them having asked."""

MOST_REPORTED: Final = 16
"""Waiting calls of a priority that a report names."""


class FleetAdmission(Admission):
    """All callers of one limit in one process of a fleet. To be used as ``Admission`` is; besides, somebody exchanges for it.

    Args:
        cold_calls, cold_doubling: see ``Admission``.
        ask: called, at any time, when an exchange is wanted soon. Must return at once.
        settings: what should be alike in all of the fleet.
        encode, decode: a cause (see ``Admission.settle``) to text and back; the text may come from elsewhere.
    """

    __slots__ = ("_active_at", "_base", "_cause", "_decode", "_encode", "_fleet", "_flow", "_flow_at", "_flow_spent",
                 "_fruitless", "_granted", "_moved_at", "_moved_to", "_patience", "_reported", "_settings", "_told_cause",
                 "_waits")  # fmt: skip

    def __init__(
        self,
        *,
        ask: Callable[[FleetAdmission], object],
        settings: str = "",
        encode: Callable[[object], str] = lambda _cause: "",
        decode: Callable[[str], object] = lambda _text: None,
        cold_calls: int = COLD_CALLS,
        cold_doubling: float = COLD_DOUBLING,
    ) -> None:
        self._fleet = FleetLimits(Gates(cold_calls, cold_doubling), lambda: ask(self))
        super().__init__(limits=self._fleet)
        self._settings = settings
        self._encode = encode
        self._decode = decode
        self._base: Needs = (0.0, 0.0, 0.0, 0.0)
        self._cause = ""
        self._told_cause = ""
        self._reported: set[int] = set()
        self._waits = [0.0, 0.0, 0.0, 0.0]
        self._active_at = -math.inf
        self._flow = [0.0, 0.0, 0.0, 0.0]
        self._flow_at = -math.inf
        self._flow_spent: Needs = (0.0, 0.0, 0.0, 0.0)
        self._moved_at = -math.inf
        self._moved_to = 0.0
        self._granted = 0.0
        self._patience = STARVED
        self._fruitless = 0

    # --- the life of a call -------------------------------------------------------------------------------------------

    def join(self, ticket: Ticket, now: float) -> None:
        super().join(ticket, now)
        if ticket.state == WAITING and not self._fleet.alone and self._queue.first(ticket.priority) is ticket:
            self._fleet.ask(now)

    def settle(self, ticket: Ticket, now: float, *, throttle: Throttle | None = None, **keywords: Any) -> None:
        fleet = self._fleet
        if ticket is fleet.dared:
            fleet.dared = None
            if throttle is not None:
                self._patience = STARVED
            elif keywords["succeeded"]:
                self._patience = max(self._patience / 4.0, SOONEST)
        super().settle(ticket, now, throttle=throttle, **keywords)
        if throttle is not None and throttle.retryable:
            self._cause = self._encode(self.cause)
            if not fleet.alone:
                fleet.ask(now)  # the others should stop, too

    # --- the exchange -------------------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When the next exchange is due; inf: when asked for."""
        fleet = self._fleet
        return min(fleet.lease.due if fleet.lease is not None else math.inf, fleet.asked_at)

    def report(self, now: float, *, leaving: bool = False) -> dict[str, Any]:
        """What the fleet is to be told. The exchange has begun; ``accept`` or ``fail`` follows."""
        fleet = self._fleet
        self._now = max(self._now, now)
        fleet.asked_at = math.inf
        fleet.began_at = now
        spent = self._base = fleet.spent
        self._measure(now, spent)
        queue = self._queue
        self._reported.clear()
        lanes: list[list[tuple[float, ...]]] = []
        for priority in WEIGHTS:
            first: list[tuple[float, ...]] = []
            for ticket in queue.ready(priority, MOST_REPORTED, now):
                self._reported.add(ticket.number)
                first.append((max(now - ticket.arrived, 0.0), *map(amount, fleet.needs(ticket.cost, ticket.exact))))
            lanes.append(first)
        hold = [0.0, 0.0, 0.0, 0.0]
        for ticket in queue.held(now):
            for unit in range(4):
                hold[unit] += ticket.needs[unit]
        named = [call for calls in lanes for call in calls]
        requests, tokens = queue.waits()
        share = requests / sum(call[1] for call in named) if named else 0.0
        waits = self._waits = [
            requests,
            tokens,
            share * sum(call[3] for call in named),
            share * sum(call[4] for call in named),
        ]
        typical = self._typical_call(lanes)
        gates = fleet.gates
        cause, self._cause = self._cause, ""
        return {
            "epoch": fleet.lease.epoch if fleet.lease is not None else "",
            "used": [amount(spent[unit] - fleet.returned[unit]) for unit in range(4)],
            "answers": fleet.succeeded,
            "silent": fleet.silent,
            "known": gates.known,
            "said": fleet.said(now),
            "lanes": lanes,
            "waits": [*map(amount, waits)],
            "hold": [*map(amount, hold)],
            "want": [amount(2.0 * max(self._flow[u] * self.heartbeat(now), typical[u]) + waits[u]) for u in range(4)],
            "typical": [*map(amount, typical)],
            "closed": self._closed(now),
            "cause": cause,
            "live": MISSED * self.heartbeat(now),
            "settings": self._settings,
            "leaving": leaving,
        }

    def accept(self, answer: Mapping[str, Any], now: float) -> str | None:
        """The fleet answered: the lease holds from now on, and whoever fits goes.

        Returns:
            The settings of others, where they are not ours.

        Raises:
            AnswerError: it is none; nothing was done.
        """
        answer = judged(answer)
        fleet = self._fleet
        self._arrive(now)
        soonest = LEAST if self._fruitless < FRUITLESS else BEHIND
        due = now + max(min(answer["again"], HEARTBEAT), soonest)
        if self._queue.waiting:
            for ticket in self._queue.held(now):
                due = min(due, max(now if ticket.not_before is None else ticket.not_before, now + 0.001))
        else:
            due = now + self.heartbeat(now)
        fleet.began_at = math.inf
        fleet.install(Lease(answer, self._base, self._waits, now, due), now, alone=False)
        if self._starves(now):
            fleet.dare(now)
        cause = answer["cause"]
        if cause and cause != self._told_cause:
            self._told_cause = cause
            if cause != self._encode(self.cause):
                self.cause = self._decode(cause) or self.cause
        self._pump(now)
        for priority in WEIGHTS:
            first = self._queue.first(priority)
            if first is not None and first.number not in self._reported:
                fleet.ask(now)  # it came while the exchange was under way, or behind those that were named
        return answer.get("other")

    def fail(self, now: float) -> None:
        """The fleet is out of reach: until the next ``accept`` our own ledgers decide."""
        self._arrive(now)
        self._done(now, alone=True)
        self._pump(now)

    def sleeps(self, now: float) -> bool:
        """Whether no call was made for so long that the fleet should be left (and nobody is waiting)."""
        self._measure(now, self._fleet.spent)
        return not self._queue.waiting and now - self._active_at > DORMANT

    def leave_fleet(self, now: float) -> None:
        """The fleet was told that we leave it: the next call joins it anew."""
        self._arrive(now)
        self._done(now, alone=False)

    def heartbeat(self, now: float) -> float:
        """Seconds between exchanges while nothing happens: longer, the longer nothing has."""
        return min(max(HEARTBEAT, 0.5 * (now - self._active_at)), IDLE_HEARTBEAT)

    def _closed(self, now: float) -> float:
        """Seconds for which the others are told to stay away: what the server said to one of our calls, but not for long."""
        fleet = self._fleet
        until = min(fleet.gates.closed_until, fleet.closed_at + SHARED_CLOSURE)
        return max(until - now, 0.0) if fleet.gates.gated else 0.0

    def _starves(self, now: float) -> bool:
        """Whether calls have been waiting, and none went, for longer than is believed to a fleet."""
        fleet = self._fleet
        sent = fleet.spent[0]
        self._fruitless += 1
        if sent > self._moved_to or not self._reported:
            if sent - fleet.dares > self._granted or not self._reported:
                self._patience, self._fruitless = STARVED, 0
            self._moved_at, self._moved_to, self._granted = now, sent, sent - fleet.dares
        return now - self._moved_at >= self._patience

    def _done(self, now: float, *, alone: bool) -> None:
        fleet = self._fleet
        fleet.asked_at = fleet.began_at = math.inf
        fleet.install(None, now, alone=alone)

    def _measure(self, now: float, spent: Needs) -> None:
        """What flows, by unit and second, over the last seconds."""
        if spent[0] > self._flow_spent[0] or self._queue.waiting:
            self._active_at = now
        elapsed = now - self._flow_at
        if elapsed == math.inf:
            self._flow_at, self._flow_spent = now, spent
        elif elapsed >= 0.1:
            share = min(elapsed / 2.0, 1.0)
            for unit in range(4):
                self._flow[unit] += share * ((spent[unit] - self._flow_spent[unit]) / elapsed - self._flow[unit])
            self._flow_at, self._flow_spent = now, spent

    def _typical_call(self, lanes: list[list[tuple[float, ...]]]) -> list[float]:
        fleet = self._fleet
        sent = fleet.gates.sent
        if sent:
            return [amount / sent for amount in fleet.spent]
        for calls in lanes:
            if calls:
                return list(calls[0][1:])
        return [1.0, 0.0, 0.0, 0.0]
