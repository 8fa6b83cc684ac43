"""What a fleet has handed to one of its processes, and the rule by which calls go in between.

Owns :class:`Lease` and :class:`FleetLimits`, the limits of a process that belongs to a fleet. Knows no queue, Redis or
thread: what is told to the fleet and comes back is ``fleet``, the rule that shares a limit out is ``_stores/ledger.lua``.

*Leases.* The fleet hands out amounts, not permissions: so many requests and tokens, as totals up to which this process
may go. So what is done between a report and its answer is counted against the new lease by itself, and what a lease leaves
unused goes back with the next report. Far from the limit a lease is a slice ahead, and a call is one comparison;
near it, a lease is exactly what those calls need whose turn it is, in order of arrival over the fleet.

*Alone.* No call ever waits for the fleet itself for longer than :data:`BOUND`: if by then no answer came (the exchange
failed, or the thread that makes it does not get to run), the process goes on by its own ledgers, which have learned from every
answer all along. Where a queue stood in the fleet when it was lost, a process keeps to the part of the refill that its own calls
were of that queue (:class:`Portion`): so the others have theirs, although nobody can ask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from otel_ratelimit._core.answer import MOST_LEDGERS, tellable
from otel_ratelimit._core.book import Entry, Reading
from otel_ratelimit._core.gates import Gates
from otel_ratelimit._core.learning import NOBODY
from otel_ratelimit._core.ledger import MARGIN_CAP
from otel_ratelimit._core.limits import Limits
from otel_ratelimit._core.queue import Needs, Ticket
from otel_ratelimit._core.windows import DEFAULT_WINDOW

BOUND: Final = 0.05
"""Seconds that a call waits for the fleet's answer at most."""

FIRST_CALLS: Final = 1
"""Calls that go before the fleet has answered for the first time: a program's first call does not wait for Redis."""

COVERED: Final = 0.5
"""Share of a call's tokens that a lease must still hold: what a call costs is an estimate, and may have changed since it was
reported. What was used beyond a lease is counted at the next exchange."""

PORTION_GROWS: Final = 10.0
"""Seconds in which the part of the refill that a process takes while it is alone grows by itself once: others may have less to do
by then, or may be gone."""

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
        live: processes in the fleet.
    """

    __slots__ = ("at", "base", "calm", "due", "epoch", "levels", "live", "low", "mark", "others", "ours", "until")

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
        self.live: float = answer["live"]


class Portion:
    """The part of the refill that a process keeps to when its fleet is lost while calls wait in it.

    Args:
        lease: the last one.
        spent: our totals.
        now: when it was lost.
    """

    __slots__ = ("_at", "_parts")

    def __init__(self, lease: Lease, spent: Needs, now: float) -> None:
        self._at = now
        self._parts: list[tuple[int, float, float]] = []
        """Unit, our total that might go at once, and units a second."""
        for unit, level, rate, floor, _ in lease.levels.values():
            if lease.others[unit] > 0:
                part = max(lease.ours[unit] / (lease.ours[unit] + lease.others[unit]), 1.0 / max(lease.live, 1.0))
                left = max(level + rate * max(now - lease.at, 0.0) - max(floor, 0.0), 0.0)
                self._parts.append((unit, spent[unit] + part * left, max(part * rate, 1e-9)))

    def ready(self, spent: Needs, needs: Needs, now: float) -> float:
        """The time at which a call fits into it; ``now`` or earlier: at once."""
        at = now
        for unit, until, rate in self._parts:
            seconds = (spent[unit] + needs[unit] - until) / rate
            if needs[unit] > 0 and seconds > 0:
                # seconds = t + t^2 / (2 PORTION_GROWS), the integral of a rate that grows
                t = PORTION_GROWS * (math.sqrt(1.0 + 2.0 * seconds / PORTION_GROWS) - 1.0)
                at = max(at, self._at + t)
        return at


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
        dared: the call that went last against the fleet's word, until it is settled; ``dares``: how many did.
        succeeded, silent: answers, and those among them that did not speak of every limit.
    """

    __slots__ = (
        "_ask",
        "_daring",
        "_portion",
        "_said",
        "_welcome",
        "alone",
        "asked_at",
        "began_at",
        "dared",
        "dares",
        "lease",
        "silent",
        "succeeded",
    )

    def __init__(self, gates: Gates, ask: Callable[[], object]) -> None:
        super().__init__(gates)
        self._ask = ask
        self._portion: Portion | None = None
        self._said: dict[str, _Said] = {}
        self._welcome = FIRST_CALLS
        self._daring = False
        self.dared: Ticket | None = None
        self.dares = 0
        self.lease: Lease | None = None
        self.alone = False
        self.asked_at = math.inf
        self.began_at = math.inf
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
            at = super().when(needs, held, now)
            return at if self._portion is None else max(at, self._portion.ready(self.spent, needs, now))
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

    def reserve_calmly(self, ticket: Ticket, now: float) -> bool:
        if not super().reserve_calmly(ticket, now):
            return False
        ticket.lease = lease = self.lease
        if lease is not None and (self.spent[1] > lease.low[1] or self.spent[0] > lease.low[0]):
            self.ask(now)
        return True

    def reserve(self, ticket: Ticket, needs: Needs, now: float, *, probes: bool = False) -> None:
        super().reserve(ticket, needs, now, probes=probes)
        ticket.lease = lease = self.lease
        if lease is None:
            self._welcome -= 1
            if self._daring:
                self._daring = False
                self.dared = ticket
                self.dares += 1
            if not self.alone:
                self.ask(now)
            return
        if ticket.levels is not None:
            ticket.levels = []  # it was not let go by what our own ledgers expect, so its answer says nothing of their errors
        if lease.calm and (self.spent[1] > lease.low[1] or self.spent[0] > lease.low[0]):
            self.ask(now)

    def expected(
        self, needs: Needs, requests: float, tokens: float, now: float, refused: int = -1, *, guesses: bool
    ) -> float:
        lease = self.lease
        if lease is None or now >= self.answer_by():
            return super().expected(needs, requests, tokens, now, refused, guesses=guesses)
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
        rejected: bool = False,
        used: float | None,
        waiting: bool,
    ) -> None:
        super().learn(ticket, now, readings, succeeded=succeeded, rejected=rejected, used=used, waiting=waiting)
        self.succeeded += 1
        if succeeded and any(entry.ledger.silent for entry in self.book.entries):
            self.silent += 1

    def _anchor(
        self, ticket: Ticket, entry: Entry, level: float, now: float, after: float, *, full_at: float = math.inf
    ) -> None:
        super()._anchor(ticket, entry, level, now, after, full_at=full_at)
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
                "since": self.spent[unit] - said.spent,
                "error": said.error,
                "judged": said.judged,
            }
            if not tellable(told[name]) or len(told) > MOST_LEDGERS:
                del told[name]
            elif said.lease is not None:
                told[name]["mark"] = said.lease.mark[unit] + said.spent - said.lease.base[unit]
                told[name]["epoch"] = said.lease.epoch
            said.error, said.judged = 0.0, 0
        return told

    # --- the lease ----------------------------------------------------------------------------------------------------

    def install(self, lease: Lease | None, now: float, *, alone: bool) -> None:
        """A lease came; or none does: ``alone`` tells whether the fleet is out of reach, or was left."""
        if lease is not None or not alone:
            self._portion = None
        elif self.lease is not None:
            self._portion = Portion(self.lease, self.spent, now)
        self.lease = lease
        self.alone = alone
        self._daring = False
        self.calm = lease.until if lease is not None and lease.calm else NOBODY
        self.calm_until = math.inf  # it is a slice that nobody else can take
        if lease is None and not alone:
            self._welcome = FIRST_CALLS

    def dare(self, now: float) -> None:
        """Let one call go by our own ledgers, although the fleet answers: it has let none go for too long."""
        self.install(None, now, alone=False)
        self._daring = True

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
    return f"{ledger.kind}/{ledger.scope}/{window}/{'quantized' if ledger.burst > 0 else ''}"
