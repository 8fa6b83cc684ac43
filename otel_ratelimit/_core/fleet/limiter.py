"""The limits of a process that belongs to a fleet: the lease while there is one, its own limiters otherwise.

Owns the rule by which calls go between two exchanges. It wraps the process's own limiters (``combined``) and answers the same
questions (``permits``). Knows no queue, Redis or thread: what is told to the fleet and comes back is ``member``'s; the rule that
shares a limit out is ``_stores/allocation.lua``.

*Leases.* The fleet hands out amounts, not permissions: so many requests and tokens, as totals up to which this process
may go. So what is done between a report and its answer is counted against the new lease by itself, and what a lease leaves
unused goes back with the next report. Far from the limit a lease is a slice ahead, and a call is one comparison;
near it, a lease is exactly what those calls need whose turn it is, in order of arrival over the fleet.

*Several.* A lease is a part of one bucket. Where several stand behind the address (``limiters.several``), none is handed out that
means anything: each process finds its rate by itself. One that has found out tells the others by the next exchange.

*Alone.* No call ever waits for the fleet itself for longer than :data:`BOUND`. If by then no answer came (the exchange failed, or
the thread that makes it does not get to run), the process goes on by its own limiters, which have learned from every answer all
along. Where a queue stood in the fleet when it was lost, a process keeps to the part of the refill that its own calls were of
that queue (``lease.Portion``): so the others have theirs, although they cannot be asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from otel_ratelimit._core.amounts import NEVER, Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.buckets.estimate import TUNED as BUCKETS_TUNED
from otel_ratelimit._core.buckets.infer import DEFAULT_WINDOW
from otel_ratelimit._core.buckets.tracked import Tracked
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.fleet.lease import Lease, Portion
from otel_ratelimit._core.fleet.messages import MOST_BUCKETS, Finding, Word
from otel_ratelimit._core.limiters.combined import CombinedLimiter
from otel_ratelimit._core.limiters.limiter import Reservation
from otel_ratelimit._core.limiters.permits import Level, Turn
from otel_ratelimit._core.limiters.retry_after import Evidence
from otel_ratelimit._core.limiters.tracked import SHORT
from otel_ratelimit._core.limiters.traffic import Traffic

BOUND: Final = 0.05
"""Seconds that a call waits for the fleet's answer at most."""

FIRST_CALLS: Final = 1
"""Calls that go before the fleet has answered for the first time: a program's first call does not wait for Redis."""

HOLD: Final = 10.0
"""Seconds for which a process keeps to what it found out itself of several buckets, whatever the others have found. By then these
have looked at their own calls, too, and no two processes tell each other in turn what neither finds."""

STARTS: Final = 4.0
"""Times what several buckets allow together that all processes of a fleet start from together: a large one must not storm. A rate
that is too low is found out more slowly than one that is too high: three deployments, messages only, 8 processes take 1.39 of the
bound with 4, 1.61 with 2, and 1.37 where each starts as if it were alone (fleet deployments, seeds 911 to 913)."""

LONG: Final = 3600.0
"""Seconds. Windows from here on are named apart: a header may speak of the day and the minute under one name."""


class _Said:
    """What the server said last of one bucket."""

    __slots__ = ("error", "judged", "lease", "level", "sent_at", "taken", "tracked")

    def __init__(self, tracked: Tracked) -> None:
        self.tracked = tracked
        self.sent_at = -math.inf
        self.level = 0.0
        self.taken = 0.0
        self.lease: tuple[float, str] | None = None
        """The fleet's total at which that request had been handed its share, and the epoch it is of."""
        self.error = 0.0
        self.judged = 0


class FleetLimiter:
    """Whether a call of a fleet's process may go. Answers what ``permits.Permits`` asks.

    Attributes:
        own: the process's own limiters.
        lease: what the fleet handed out; None where it has not answered, or not lately.
        alone: whether the fleet cannot be reached (or has not been asked yet).
        asked_at: since when an exchange is wanted; inf while none is.
        began_at: since when one is under way; the same.
        answers, silent: answers, and those among them that did not speak of every limit.
        probes: calls that went against the fleet's word.
        on_probe: told how such a call ended: True served, False refused, None otherwise.
    """

    __slots__ = (
        "_ask", "_early_at", "_held_at", "_portion", "_probed", "_probing", "_said", "_several_at", "_welcome", "alone",
        "answers", "asked_at", "began_at", "lease", "on_probe", "own", "probes", "silent",
    )  # fmt: skip

    def __init__(self, own: CombinedLimiter, ask: Callable[[], object]) -> None:
        """``ask``: called, at any time, when an exchange is wanted soon. Must return at once."""
        self.own = own
        own.tracked.observer = self._observe
        own.grant(NEVER)
        self._ask = ask
        self._portion: Portion | None = None
        self._said: dict[str, _Said] = {}
        self._welcome = FIRST_CALLS
        self._several_at = -math.inf
        """When it was found out, or turned out wrong, that there are several buckets; by whomever."""
        self._early_at = -math.inf
        """When a call went early here."""
        self._held_at = -math.inf
        """When a call was served last while there were."""
        self._probing = False
        self._probed: Reservation | None = None
        self.probes = 0
        self.on_probe: Callable[[bool | None], object] = lambda _served: None
        self.lease: Lease | None = None
        self.alone = False
        self.asked_at = math.inf
        self.began_at = math.inf
        self.answers = 0
        self.silent = 0

    # --- may a call go ------------------------------------------------------------------------------------------------

    def ask(self, now: float) -> None:
        """Something happened that the fleet should hear of soon, or an answer is needed."""
        if self.asked_at > now:
            self.asked_at = now
            self._ask()

    def answer_by(self) -> float:
        """When the fleet must have answered, or it is done without."""
        due = self.lease.due if self.lease is not None else math.inf
        return min(self.asked_at, self.began_at, due) + BOUND

    def decides(self, now: float) -> bool:
        """Whether the fleet decides at present, rather than our own limiters."""
        if self.own.tracked.buckets.several:
            return False
        if self.lease is None:
            if self.alone:
                return False
            self.ask(now)
            if self._welcome > 0:
                return False
        return now < self.answer_by()

    def amounts(self, cost: Cost, requested: float | None = None) -> Amounts:
        return self.own.amounts(cost, requested)

    def ready(self, now: float, amounts: Amounts, held: Amounts | None) -> Turn:
        own = self.own
        counted, others = self._counted(now, amounts, held)
        return own.turn(now, amounts, counted, others, self._worth_asking)

    def _worth_asking(self, now: float, amounts: Amounts) -> bool:
        """As ``TrackedBuckets.worth_asking``, by the estimate of whoever decides."""
        own, lease = self.own, self.lease
        if lease is None or not self.decides(now):
            return own.tracked.worth_asking(now, amounts)
        taken = own.traffic.taken.plus(amounts)
        for tracked in own.tracked.buckets.holding:
            need, name = amounts[tracked.index], name_of(tracked)
            if own.tracked.tells_something(tracked, need):
                after = lease.expected_level(name, taken, now)
                if after is not None and max(lease.answer.flows[name].reserve, 0.0) - after > SHORT * need:
                    return True
        return False

    def room_at(self, now: float, amounts: Amounts) -> float:
        return max(self._counted(now, amounts, None))

    def _counted(self, now: float, amounts: Amounts, held: Amounts | None) -> tuple[float, float]:
        """When the numbers let a call go, the fleet's or our own, and when the limiters do that hold without numbers."""
        own, lease = self.own, self.lease
        others = own.others_ready(now, amounts)
        if not self.decides(now):
            at = own.tracked.ready(now, amounts, held)
            if self._portion is not None:
                at = max(at, self._portion.ready(now, own.traffic.taken, amounts))
            return at, others
        if lease is None or not lease.covers(own.traffic.taken, amounts):
            return self.answer_by(), now
        oversized = amounts.tokens > 0 and own.tracked.oversized(amounts)
        return own.tracked.ready(now, amounts, None) if oversized else now, others

    def expected(self, now: float, amounts: Amounts, ahead: Amounts, refused_by: int = -1, *, guesses: bool) -> float:
        lease = self.lease
        if lease is None or now >= self.answer_by() or self.own.tracked.buckets.several:
            return self.own.expected(now, amounts, ahead, refused_by, guesses=guesses)
        return max(lease.expected(now, ahead), self.own.others_expected(now, ahead))

    def begins_to_wait(self, now: float) -> None:
        if not self.alone:
            self.ask(now)

    # --- permits ------------------------------------------------------------------------------------------------------

    def take_fast(self, now: float, reservation: Reservation) -> bool:
        if not self.own.take_fast(now, reservation):
            return False
        reservation.source = lease = self.lease
        if lease is not None and lease.runs_low(self.own.traffic.taken):
            self.ask(now)
        return True

    def take(
        self, now: float, amounts: Amounts, reservation: Reservation, *, probe: bool = False, early: bool = False
    ) -> None:
        own = self.own
        reservation.source = lease = self.lease
        own.predicts = lease is None  # else it is not our own buckets' predictions that let it go
        own.take(now, amounts, reservation, probe=probe, early=early)
        if lease is None:
            self._welcome -= 1
            if self._probing:
                self._probing = False
                self._probed = reservation
                self.probes += 1
            if not self.alone:
                self.ask(now)
        elif lease.answer.ahead and lease.runs_low(own.traffic.taken):
            self.ask(now)
        if reservation.early:
            self._early_at = now
            if lease is not None:  # that it is served shows what the fleet believes to be wrong
                expected = [
                    (one.bucket, lease.expected_level(name_of(one), reservation.taken, now))
                    for one in own.tracked.buckets.holding
                ]
                reservation.predictions = [(bucket, after) for bucket, after in expected if after is not None]

    def settle_fast(self, now: float, reservation: Reservation) -> bool:
        return reservation is not self._probed and self.own.settle_fast(now, reservation)

    def settle(self, reservation: Reservation, attempt: Attempt, *, waiting: bool) -> None:
        if reservation is self._probed:
            self._probed = None
            self.on_probe(False if attempt.throttle is not None else True if attempt.succeeded else None)
        before = self.own.tracked.buckets.several
        self.own.settle(reservation, attempt, waiting=waiting)
        several = self.own.tracked.buckets.several
        if several != before:
            self._several_at = attempt.at
            if several:
                self.ask(attempt.at)  # the others should know
        if several and attempt.succeeded:
            self._held_at = attempt.at
        if attempt.throttle is None:
            self.answers += 1
            if attempt.succeeded and any(one.bucket.silent for one in self.own.tracked.buckets.tracked):
                self.silent += 1
        elif attempt.throttle.retryable and not self.alone:
            self.ask(attempt.at)  # the others should stop, too

    def abandon(self, reservation: Reservation) -> None:
        self.own.abandon(reservation)

    def cancel(self, reservation: Reservation) -> None:
        self.own.cancel(reservation)

    # --- what the server said -----------------------------------------------------------------------------------------

    def _observe(self, reservation: Reservation, tracked: Tracked, level: float, after: float, sent_at: float) -> None:
        """The server said that ``level`` was left of a bucket; ``after``: that, or what would have been had it served the
        call.
        """
        name = name_of(tracked)
        said = self._said.get(name)
        if said is None:
            said = self._said[name] = _Said(tracked)
        said.tracked = tracked
        lease: Lease | None = reservation.source
        if lease is not None:
            expected = lease.expected_level(name, reservation.taken, sent_at)
            if expected is not None and expected < BUCKETS_TUNED.margin_cap * tracked.bucket.limit:
                said.judged += 1
                said.error = min(said.error, after - expected)
        if sent_at > said.sent_at:
            said.sent_at = sent_at
            said.level = level
            said.taken = reservation.taken[tracked.index]
            said.lease = None
            if lease is not None:
                said.lease = (lease.mark_of(tracked.index, reservation.taken), lease.answer.epoch)

    def words(self, now: float) -> dict[str, Word]:
        """What is to be told of the server's words, by the name of the bucket."""
        told: dict[str, Word] = {}
        known = self.own.tracked.buckets.tracked
        self._said = {name: said for name, said in self._said.items() if said.tracked in known}
        for name, said in self._said.items():
            bucket, index = said.tracked.bucket, said.tracked.index
            mark, epoch = said.lease if said.lease is not None else (None, "")
            word = Word(
                index, bucket.limit, bucket.window or DEFAULT_WINDOW, bucket.capacity, said.level,
                max(now - said.sent_at, 0.0), self.own.traffic.taken[index] - said.taken, said.error, said.judged, mark, epoch,
            )  # fmt: skip
            if word.tellable and len(told) < MOST_BUCKETS:
                told[name] = word
            said.error, said.judged = 0.0, 0
        return told

    def finding(self, now: float) -> Finding | None:
        """What is to be told of several buckets behind one address: that a call was served here as if there were. Not of buckets
        that differ in size: the rate of one process is cut too deeply there (decision 85), and all of them would be.
        """
        buckets = self.own.tracked.buckets
        several = next((one for one in buckets.tracked if one.several), None)
        if several is None or self._held_at < self._several_at or buckets.sizes_of_all(several):
            return None
        return Finding(subject_of(several), max(now - self._held_at, 0.0))

    def hear_of_several(self, name: str, at: float) -> None:
        """A call was served at ``at`` in another process as if there were several: not each needs refusals to find that out."""
        if at <= self._several_at + HOLD:
            return
        for tracked in self.own.tracked.buckets.holding:
            if subject_of(tracked) == name:
                self._several_at = at
                self.own.tracked.buckets.doubt(tracked)
                return

    def since_early(self, now: float) -> float | None:
        """Seconds since a call went early here; None where none did."""
        return now - self._early_at if self._early_at > -math.inf else None

    def hear_of_early(self, at: float) -> None:
        """In some process of the fleet a call went early at ``at``: the server was asked for all of them."""
        self.own.probes.fleet_early_at = max(self.own.probes.fleet_early_at, at)

    # --- the lease ----------------------------------------------------------------------------------------------------

    def install(self, lease: Lease | None, now: float, *, alone: bool) -> None:
        """A lease came; or none does: ``alone`` tells whether the fleet is out of reach, or was left."""
        if lease is not None or not alone:
            self._portion = None
        elif self.lease is not None:
            self._portion = Portion(self.lease, self.own.traffic.taken, now)
        self.lease = lease
        self.alone = alone
        self._probing = False
        if lease is not None:
            self.own.part = min(STARTS / max(lease.answer.live, 1.0), 1.0)
            self.own.grant(lease.until if lease.answer.ahead else NEVER)
        else:
            self.own.grant(None if alone else NEVER)
            if not alone:
                self._welcome = FIRST_CALLS

    def probe(self, now: float) -> None:
        """Let one call go by our own limiters, although the fleet answers: it has let none go for too long."""
        self.install(None, now, alone=False)
        self._probing = True

    # --- the rest -----------------------------------------------------------------------------------------------------

    @property
    def traffic(self) -> Traffic:
        return self.own.traffic

    @property
    def evidence(self) -> Evidence | None:
        return self.own.evidence

    @property
    def probe_busy_until(self) -> float:
        return self.own.probe_busy_until

    def levels(self, now: float) -> list[Level]:
        return self.own.levels(now)

    def rewind(self, now: float, seconds: float) -> None:
        self.own.rewind(now, seconds)
        for said in self._said.values():
            said.sent_at = min(said.sent_at, now)
        self._several_at -= seconds
        self._held_at -= seconds
        self._early_at -= seconds
        self.asked_at -= seconds
        self.began_at -= seconds
        if self.lease is not None:
            self.lease.rewind(seconds)


def subject_of(tracked: Tracked) -> str:
    """What a bucket limits, and whose: those of which this is the same are several together, or none is."""
    return f"{tracked.bucket.kind}/{tracked.bucket.scope}"


def name_of(tracked: Tracked) -> str:
    """What the fleet calls a bucket: the same in all processes, also while one does not know the window yet."""
    bucket = tracked.bucket
    window = f"{bucket.window:g}" if bucket.window is not None and bucket.window >= LONG else ""
    return f"{bucket.kind}/{bucket.scope}/{window}/{'quantized' if bucket.burst > 0 else ''}"
