"""Who may send when, where many processes share a limit: the admission of one process that belongs to a fleet.

Owns what a process tells its fleet (:meth:`FleetAdmission.report`), what it is told (:meth:`FleetAdmission.accept`), and the
rule by which calls go in between. Knows no Redis, socket or thread: somebody else carries reports there and answers
back, and calls :meth:`FleetAdmission.fail` where that does not work. The rule that shares a limit out is ``_stores/ledger.lua``.

*Leases.* The fleet hands out amounts, not permissions: so many requests and tokens, as totals up to which this process
may go. So what is done between a report and its answer is counted against the new lease by itself, and what a lease leaves
unused goes back with the next report. Far from the limit a lease is a slice ahead, and a call is one comparison;
near it, a lease is exactly what those calls need whose turn it is, in order of arrival over the fleet.

*Alone.* No call ever waits for the fleet itself for longer than :data:`BOUND`: if by then no answer came (the exchange failed, or the
thread that makes it does not get to run), the process goes on by its own ledgers, which have learned from every answer all along.

*Ages, totals, states.* A report tells how long ago something was, never when, so no two clocks are compared; and it tells totals
and the present state, so that it can be repeated where nobody knows whether it arrived. Its parts, by unit (see ``queue.Needs``):

- ``used``: what this process has used, ever; ``answers``, ``silent``: answers it has had, and how many of them spoke of no limit.
- ``said``: by ledger, what the server said last: ``told`` left, ``age`` seconds ago (when the request was sent), and the fleet's
  total (``mark``) at which that request had been handed its share; ``error`` and ``judged``: the worst of so many predictions.
- ``lanes``: by priority, the first calls that wait: (seconds waited, and what each needs); ``waits``: all of them together;
  ``hold``: what is promised to throttled calls that may not come back yet.
- ``want``: what the next slice should hold; ``typical``: one call, without which a slice is of no use.
- ``closed``: seconds for which the server wants nobody; ``known``: whether the cold start is over.
- ``live``: seconds after which this process is given up; ``settings``: those that all of the fleet should have alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from otel_ratelimit._core.admission import Admission
from otel_ratelimit._core.book import Entry, Reading
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.gates import COLD_CALLS, COLD_DOUBLING, Gates
from otel_ratelimit._core.ledger import DEFAULT_WINDOW, MARGIN_CAP
from otel_ratelimit._core.limits import NOBODY, Limits
from otel_ratelimit._core.policy import PRIORITIES, Priority
from otel_ratelimit._core.queue import WAITING, Needs, Ticket
from otel_ratelimit._core.throttle import Throttle

BOUND: Final = 0.05
"""Seconds that a call waits for the fleet's answer at most."""

HEARTBEAT: Final = 1.0
"""Seconds between two exchanges at most, while calls are made."""

IDLE_HEARTBEAT: Final = 5.0
"""The same, while none are."""

MISSED: Final = 3.0
"""Heartbeats after which the fleet gives a process up."""

DORMANT: Final = 300.0
"""Seconds without a call after which a process leaves the fleet by itself."""

FIRST_CALLS: Final = 2
"""Calls that go before the fleet has answered for the first time, so that a program's first call never waits for Redis."""

MOST_REPORTED: Final = 16
"""Waiting calls of a priority that a report names."""

COVERED: Final = 0.5
"""Share of a call's tokens that a lease must still hold: what a call costs is an estimate, and may have changed since it was
reported. What was used beyond a lease is counted at the next exchange."""

LONG: Final = 3600.0
"""Seconds. Windows from here on are named apart: a header may speak of the day and the minute under one name."""


class Lease:
    """What the fleet has handed to this process. Totals are of :attr:`Limits.spent`; times are local.

    Attributes:
        epoch: which life of the fleet's state this is of.
        at: when the answer came.
        base: totals when the report was made.
        until: totals up to which calls may go.
        low: totals from which on the next slice is asked for.
        mark: the fleet's own totals at ``base``.
        calm: whether it is a slice ahead.
        due: when the next exchange is due.
        levels: by ledger: unit, level at ``mark``, units a second flowing in, floor, capacity.
        others: by unit, what else waits in the fleet.
        ours: by unit, what waited here when the report was made.
    """

    __slots__ = ("at", "base", "calm", "due", "epoch", "levels", "low", "mark", "others", "ours", "until")

    def __init__(self, answer: Mapping[str, Any], base: Needs, ours: list[float], at: float, due: float) -> None:
        amount = answer["lease"]
        self.epoch: str = answer["epoch"]
        self.at = at
        self.base = base
        self.until: Needs = (
            base[0] + amount[0], base[1] + amount[1], base[2] + amount[2], base[3] + amount[3],
        )  # fmt: skip
        self.low = (base[0] + 0.5 * amount[0], base[1] + 0.5 * amount[1])
        self.mark: Needs = tuple(answer["mark"])
        self.calm: bool = answer["calm"]
        self.due = due
        self.levels: dict[str, tuple[int, float, float, float, float]] = answer["levels"]
        self.others: list[float] = answer["others"]
        self.ours = ours


class _Said:
    """What the server said last of one ledger."""

    __slots__ = ("entry", "error", "judged", "lease", "sent_at", "spent", "told")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.sent_at = -math.inf
        self.told = 0.0
        self.spent = 0.0
        self.lease: Lease | None = None
        self.error = 0.0
        self.judged = 0


class FleetLimits(Limits):
    """The limits of a process in a fleet: the lease while there is one, its own ledgers otherwise.

    Attributes:
        lease: what the fleet handed out; None where it has not answered, or not lately.
        alone: whether the fleet cannot be reached (or has not been asked yet).
        asked_at: since when an exchange is wanted; inf while none is.
        began_at: since when one is under way; the same.
        returned: what was reserved and never sent, by unit.
        succeeded, silent: answers, and those among them that did not speak of every limit.
    """

    __slots__ = ("_ask", "_said", "_welcome", "alone", "asked_at", "began_at", "lease", "returned", "silent", "succeeded")

    def __init__(self, gates: Gates, ask: Callable[[], object]) -> None:
        super().__init__(gates)
        self._ask = ask
        self._said: dict[str, _Said] = {}
        self._welcome = FIRST_CALLS
        self.lease: Lease | None = None
        self.alone = False
        self.asked_at = math.inf
        self.began_at = math.inf
        self.returned = [0.0, 0.0, 0.0, 0.0]
        self.succeeded = 0
        self.silent = 0

    # --- may it go, and when ------------------------------------------------------------------------------------------

    def ask(self, now: float) -> None:
        """Something happened that the fleet should hear of soon, or an answer is needed."""
        if self.asked_at > now:
            self.asked_at = now
            self._ask()

    def answer_by(self) -> float:
        """When the fleet must have answered, or it is done without."""
        due = self.lease.due if self.lease is not None else math.inf
        return min(self.asked_at, self.began_at, due) + BOUND

    def shares(self, now: float) -> bool:
        """Whether the fleet decides at present, rather than our own ledgers."""
        if self.lease is None:
            if self.alone:
                return False
            self.ask(now)
            if self._welcome > 0:
                return False
        return now < self.answer_by()

    def when(self, needs: Needs, held: Needs | None, now: float) -> float:
        if not self.shares(now):
            return super().when(needs, held, now)
        lease = self.lease
        if lease is None or not self._covered(lease.until, needs):
            return self.answer_by()
        at = now
        if needs[1] > 0 and self._oversized(needs):
            at = max(at, super().when(needs, None, now))
        if self.gates.gated or not self.gates.known:
            at = max(at, self.gates.when(self._work_of(needs), now))
        return at

    def _covered(self, until: Needs, needs: Needs) -> bool:
        spent = self.spent
        return (
            spent[0] + needs[0] <= until[0] + 1e-6
            and spent[1] + COVERED * needs[1] <= until[1] + 1e-6
            and spent[2] + COVERED * needs[2] <= until[2] + 1e-6
            and spent[3] + COVERED * needs[3] <= until[3] + 1e-6
        )

    def _oversized(self, needs: Needs) -> bool:
        return any(needs[entry.unit] > entry.ledger.limit for entry in self.book.entries)

    def reserve(self, ticket: Ticket, needs: Needs, now: float) -> None:
        super().reserve(ticket, needs, now)
        ticket.lease = lease = self.lease
        if lease is None:
            self._welcome -= 1
            if not self.alone:
                self.ask(now)
        elif lease.calm and (self.spent[1] > lease.low[1] or self.spent[0] > lease.low[0]):
            self.ask(now)

    def give_back(self, ticket: Ticket) -> None:
        super().give_back(ticket)
        for unit in range(4):
            self.returned[unit] += ticket.needs[unit]

    def expected(self, needs: Needs, requests: float, tokens: float, now: float) -> float:
        lease = self.lease
        if lease is None or now >= self.answer_by():
            return super().expected(needs, requests, tokens, now)
        share = tokens / needs[1] if needs[1] > 0 else requests
        total = (requests, tokens, needs[2] * share, needs[3] * share)
        at = self.gates.expected(requests, now)
        for unit, level, rate, floor, _ in lease.levels.values():
            # First come first served over the fleet: of the others' calls as large a part is ahead as of ours.
            part = min(total[unit] / lease.ours[unit], 1.0) if lease.ours[unit] > 0 else 1.0
            ahead = total[unit] + part * lease.others[unit]
            missing = ahead + max(floor, 0.0) - level - rate * (now - lease.at)
            if missing > 0 and rate > 0:
                at = max(at, now + missing / rate)
        return at

    def _find_calm(self, now: float) -> None:
        lease = self.lease
        if lease is None:
            if self.alone:
                super()._find_calm(now)
            return
        self.calm = lease.until if lease.calm else NOBODY

    # --- what answers teach -------------------------------------------------------------------------------------------

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
        super().learn(ticket, now, readings, succeeded=succeeded, used=used, waiting=waiting)
        self.succeeded += 1
        if succeeded and any(entry.ledger.silent for entry in self.book.entries):
            self.silent += 1

    def _anchor(self, ticket: Ticket, entry: Entry, level: float, now: float, after: float) -> None:
        super()._anchor(ticket, entry, level, now, after)
        name = name_of(entry)
        said = self._said.get(name)
        if said is None:
            said = self._said[name] = _Said(entry)
        said.entry = entry
        lease = ticket.lease
        unit = entry.unit
        if lease is not None and name in lease.levels:
            _, handed, rate, _, _ = lease.levels[name]
            expected = handed - (ticket.spent[unit] - lease.base[unit]) + rate * max(ticket.sent_at - lease.at, 0.0)
            if expected < MARGIN_CAP * entry.ledger.limit:
                said.judged += 1
                said.error = min(said.error, after - expected)
        if ticket.sent_at > said.sent_at:
            said.sent_at = ticket.sent_at
            said.told = level
            said.spent = ticket.spent[unit]
            said.lease = lease

    def said(self, now: float) -> dict[str, dict[str, Any]]:
        """What is to be told of the server's words, by the name of the ledger."""
        told: dict[str, dict[str, Any]] = {}
        entries = self.book.entries
        self._said = {name: said for name, said in self._said.items() if said.entry in entries}
        for name, said in self._said.items():
            ledger = said.entry.ledger
            unit = said.entry.unit
            told[name] = {
                "unit": unit + 1,
                "limit": ledger.limit,
                "window": ledger.window or DEFAULT_WINDOW,
                "capacity": ledger.capacity,
                "told": said.told,
                "age": max(now - said.sent_at, 0.0),
                "error": said.error,
                "judged": said.judged,
            }
            if said.lease is not None:
                told[name]["mark"] = said.lease.mark[unit] + said.spent - said.lease.base[unit]
                told[name]["epoch"] = said.lease.epoch
            said.error, said.judged = 0.0, 0
        return told

    # --- the lease ----------------------------------------------------------------------------------------------------

    def install(self, lease: Lease | None, *, alone: bool) -> None:
        """A lease came; or none does: ``alone`` tells whether the fleet is out of reach, or was left."""
        self.lease = lease
        self.alone = alone
        self.calm = lease.until if lease is not None and lease.calm else NOBODY
        if lease is None and not alone:
            self._welcome = FIRST_CALLS

    def rewind(self, now: float, seconds: float) -> None:
        super().rewind(now, seconds)
        for said in self._said.values():
            said.sent_at = min(said.sent_at, now)
        self.asked_at -= seconds
        self.began_at -= seconds
        if self.lease is not None:
            self.lease.at -= seconds
            self.lease.due -= seconds


def name_of(entry: Entry) -> str:
    """What the fleet calls a ledger: the same in all processes, also while one does not know the window yet."""
    ledger = entry.ledger
    window = f"{ledger.window:g}" if ledger.window is not None and ledger.window >= LONG else ""
    return f"{ledger.kind}/{ledger.scope}/{window}/{'quantized' if ledger.burst is not None else ''}"


class FleetAdmission(Admission):
    """All callers of one limit in one process of a fleet. To be used as ``Admission`` is; besides, somebody exchanges for it.

    Args:
        random, cold_calls, cold_doubling: see ``Admission``.
        ask: called, at any time, when an exchange is wanted soon. Must return at once.
        settings: what should be alike in all of the fleet.
        encode, decode: a cause (see ``Admission.settle``) to text and back; the text may come from elsewhere.
    """

    __slots__ = ("_active_at", "_base", "_cause", "_decode", "_encode", "_fleet", "_flow", "_flow_at", "_flow_spent",
                 "_reported", "_settings", "_told_cause", "_waits")  # fmt: skip

    def __init__(
        self,
        *,
        random: Callable[[], float],
        ask: Callable[[FleetAdmission], object],
        settings: str = "",
        encode: Callable[[object], str] = lambda _cause: "",
        decode: Callable[[str], object] = lambda _text: None,
        cold_calls: int = COLD_CALLS,
        cold_doubling: float = COLD_DOUBLING,
    ) -> None:
        self._fleet = FleetLimits(Gates(cold_calls, cold_doubling), lambda: ask(self))
        super().__init__(random=random, limits=self._fleet)
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

    # --- the life of a call -------------------------------------------------------------------------------------------

    def enter(self, now: float, cost: Cost, priority: Priority) -> Ticket:
        ticket = super().enter(now, cost, priority)
        if ticket.state == WAITING and self._queue.first(priority) is ticket:
            self._fleet.ask(now)
        return ticket

    def settle(self, ticket: Ticket, now: float, *, throttle: Throttle | None = None, **keywords: Any) -> None:
        super().settle(ticket, now, throttle=throttle, **keywords)
        if throttle is not None and throttle.retryable:
            self._cause = self._encode(self.cause)
            if not self._fleet.alone:
                self._fleet.ask(now)  # the others should stop, too

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
        for priority in PRIORITIES:
            first: list[tuple[float, ...]] = []
            for ticket in queue.ready(priority, MOST_REPORTED, now):
                self._reported.add(ticket.number)
                first.append((max(now - ticket.arrived, 0.0), *fleet.needs(ticket.cost, ticket.exact)))
            lanes.append(first)
        hold = [0.0, 0.0, 0.0, 0.0]
        for ticket in queue.held(now):
            for unit in range(4):
                hold[unit] += ticket.needs[unit]
        named = [call for calls in lanes for call in calls]
        requests, tokens = queue.waits()
        share = requests / sum(call[1] for call in named) if named else 0.0
        waits = self._waits = [requests, tokens, share * sum(call[3] for call in named), share * sum(call[4] for call in named)]
        typical = self._typical_call(lanes)
        gates = fleet.gates
        cause, self._cause = self._cause, ""
        return {
            "epoch": fleet.lease.epoch if fleet.lease is not None else "",
            "used": [spent[unit] - fleet.returned[unit] for unit in range(4)],
            "answers": fleet.succeeded,
            "silent": fleet.silent,
            "known": gates.known,
            "said": fleet.said(now),
            "lanes": lanes,
            "waits": waits,
            "hold": hold,
            "want": [2.0 * max(self._flow[u] * self.heartbeat(now), typical[u]) + waits[u] for u in range(4)],
            "typical": typical,
            "closed": max(gates.closed_until - now, 0.0) if gates.gated else 0.0,
            "cause": cause,
            "live": MISSED * self.heartbeat(now),
            "settings": self._settings,
            "leaving": leaving,
        }

    def accept(self, answer: Mapping[str, Any], now: float) -> str | None:
        """The fleet answered: the lease holds from now on, and whoever fits goes.

        Returns:
            The settings of others, where they are not ours.
        """
        fleet = self._fleet
        self._arrive(now)
        due = now + max(min(answer["again"], HEARTBEAT), 0.001)
        if self._queue.size:
            for ticket in self._queue.held(now):
                due = min(due, max(ticket.not_before or now, now + 0.001))
        else:
            due = now + self.heartbeat(now)
        fleet.began_at = math.inf
        fleet.install(Lease(answer, self._base, self._waits, now, due), alone=False)
        cause = answer["cause"]
        if cause and cause != self._told_cause:
            self._told_cause = cause
            if cause != self._encode(self.cause):
                self.cause = self._decode(cause) or self.cause
        self._pump(now)
        for priority in PRIORITIES:
            first = self._queue.first(priority)
            if first is not None and first.number not in self._reported:
                fleet.ask(now)  # it came while the exchange was under way, or behind those that were named
        return answer.get("other")

    def fail(self, now: float) -> None:
        """The fleet is out of reach: until the next ``accept`` our own ledgers decide."""
        self._arrive(now)
        self._done(alone=True)
        self._pump(now)

    def sleeps(self, now: float) -> bool:
        """Whether no call was made for so long that the fleet should be left (and nobody is waiting)."""
        return not self._queue.size and now - self._active_at > DORMANT

    def leave_fleet(self, now: float) -> None:
        """The fleet was told that we leave it: the next call joins it anew."""
        self._arrive(now)
        self._done(alone=False)

    def heartbeat(self, now: float) -> float:
        """Seconds between exchanges while nothing happens: longer, the longer nothing has."""
        return min(max(HEARTBEAT, 0.5 * (now - self._active_at)), IDLE_HEARTBEAT)

    def _done(self, *, alone: bool) -> None:
        fleet = self._fleet
        fleet.asked_at = fleet.began_at = math.inf
        fleet.install(None, alone=alone)

    def _measure(self, now: float, spent: Needs) -> None:
        """What flows, by unit and second, over the last seconds."""
        if spent[0] > self._flow_spent[0] or self._queue.size:
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
