"""The limits of this process: one ``Admission`` for each account and model, behind one lock.

Owns the lock, the registry of keys, the waking of waiters and what happens at a fork. Decides nothing: whose turn it is, is
``_core.queueing``'s business. The lock is held for microseconds, and never across I/O, a sleep or a callback of anybody
else.

*Interrupted.* A signal handler or a finaliser may run in the middle of a change, in the thread that makes it, and make a call, or
end one. The lock knows its owner: such a call passes through as if uninstrumented, and what is ended is noted and given
back by whoever changes something next. An exception may end a change in the middle, too (KeyboardInterrupt): who waits
and who is in flight is therefore told by one container each, and whatever a call holds is given back when its place dies.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.buckets.infer import unit_of
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.events import Admitted, NotBefore
from otel_ratelimit._core.limiters.permits import Level
from otel_ratelimit._core.policy import Priority
from otel_ratelimit._core.queueing.admission import Admission
from otel_ratelimit._core.queueing.ticket import IN_FLIGHT, NEW, SETTLED, Ticket
from otel_ratelimit._core.throttle import Throttle

if TYPE_CHECKING:
    from otel_ratelimit._core.parsing.limits import LimitReading

MAX_ACCOUNTS: Final = 1000
"""Admissions kept. Beyond it those that were used longest ago go, a tenth of all, if nobody waits in them."""

_ADMITTED: Final = Admitted()
_NO_WAKES: Final[list[Callable[[], object]]] = []
_hash_key: Final = secrets.token_bytes(32)


class Account(NamedTuple):
    """Whose limit it is. ``payer`` is what the store makes of the credential (see its ``payer``): never the credential."""

    server: str
    payer: bytes
    model: str | None

    def __repr__(self) -> str:
        return "Account(...)"  # the server's URL may have a password in it, and reprs end in logs and tracebacks


class Line:
    """The callers of one account.

    Attributes:
        admission: who of them may send when.
        label: what the gauges of this account are shown under.
        dropped: whether the store has forgotten it; a call that comes later asks for another.
        refusal: what the drivers keep of the last refusal (see ``_drivers.errors``); None before there was one.
    """

    __slots__ = ("admission", "dropped", "label", "refusal")

    def __init__(self, admission: Admission, label: Any) -> None:
        self.admission = admission
        self.label = label
        self.dropped = False
        self.refusal: Any = None


class MemoryStore:
    """The store of one process. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._renew_lock()
        self._lines: dict[Account, Line] = {}
        self._waiting: weakref.WeakValueDictionary[Ticket, Place] = weakref.WeakValueDictionary()
        self._dropped: deque[tuple[Admission, Ticket]] = deque()
        self._now = 0.0
        # A child has none of the parent's threads: nobody in its queues will ever come, and the lock may be held.
        forget = weakref.WeakMethod(self._forget)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (method := forget()) and method())

    def _renew_lock(self) -> None:
        # Of C, so that no interrupt comes between taking it and the block that gives it back.
        self._lock = lock = threading.RLock()
        self.owned: Callable[[], bool] = lock._is_owned  # type: ignore[attr-defined]
        """Whether this thread is in the middle of a change: what runs now has interrupted it. (The lock's own function: each
        call asks.)"""

    def drop(self, admission: Admission, ticket: Ticket) -> None:
        """A place has died that held something: from a finaliser, at any time, in any thread."""
        self._dropped.append((admission, ticket))
        if not self.owned():
            with self._lock:
                self._take_dropped()

    def _take_dropped(self) -> None:
        """Under the lock: what was dropped is given back."""
        while self._dropped:
            admission, ticket = self._dropped.popleft()
            admission.leave(ticket, max(self._now, admission.last_used))

    def line(self, account: Account, label: Any) -> Line:
        """The line of this account, to be kept until it is dropped; ``label`` counts where it is new."""
        with self._lock:
            line = self._lines.get(account)
            if line is None:
                if len(self._lines) >= MAX_ACCOUNTS:
                    self._make_room()
                line = self._lines[account] = Line(self._new_admission(account), label)
            return line

    def place(self, line: Line, *, paced: bool = True) -> Place:
        """A place for one call. One that is not paced waits for nobody; the limiters only watch it."""
        place = Place()
        place._bind(self, line, paced)
        return place

    def payer(self, credential: object, *others: str) -> bytes:
        """Who pays, as an account names it: a keyed hash of the credential (or of whoever provides one) and what goes
        with it.
        """
        secret = credential if isinstance(credential, str) else f"provider {id(credential)}"
        digest = hashlib.blake2b(key=_hash_key, digest_size=16)
        for part in (secret, *others):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
        return digest.digest()

    def count_failures(self, count: Callable[[str, int], object]) -> None:
        """Have ``count`` called with the kind of each failure of the store, and how many; memory never fails."""

    def close(self) -> None:
        """The hooks are gone; what is still under way goes on."""

    def levels(self) -> Iterable[tuple[Any, str, str, float, float, float]]:
        """Label, kind, window, limit, what remains of it, and seconds until it is full, for each limit that is known: of several
        of one kind and window (a project's beside an organisation's) the tightest.
        """
        with self._lock:
            now = self._now
            found = [(line.label, line.admission.levels(now)) for line in self._lines.values()]
        for label, levels in found:
            tightest: dict[tuple[str, str], Level] = {}
            for gauge in levels:
                key = (gauge.kind, unit_of(gauge.window))
                known = tightest.get(key)
                if known is None or gauge.remaining / gauge.limit < known.remaining / known.limit:
                    tightest[key] = gauge
            for (kind, window), gauge in tightest.items():
                yield label, kind, window, gauge.limit, gauge.remaining, gauge.reset

    def levels_of(self, line: Line, now: float) -> list[Level]:
        """What is known of the limits of one account."""
        with self._lock:
            return line.admission.levels(now)

    def _forget(self) -> None:
        self._renew_lock()
        self._dropped.clear()
        for line in self._lines.values():
            line.dropped = True
        self._lines.clear()
        self._waiting.clear()

    def _make_room(self) -> None:
        """Sorted once for many, so that a program of ever new accounts does not pay for it at each."""
        idle = [
            (line.admission.last_used, account)
            for account, line in self._lines.items()
            if not line.admission.waiting and not line.admission.in_flight
        ]
        idle.sort(key=itemgetter(0))
        for _, account in idle[: MAX_ACCOUNTS // 10]:
            line = self._lines.pop(account)
            line.dropped = True
            self._drop(line.admission)

    def _new_admission(self, _account: Account) -> Admission:
        return Admission()

    def _drop(self, _admission: Admission) -> None:
        """It is kept no longer."""

    def _collect_wakes(self, admission: Admission, but: Place | None = None) -> list[Callable[[], object]]:
        """Under the lock: what is to be called after it."""
        if self._dropped:
            self._take_dropped()
        woken = admission.take_wakes()
        if not woken:
            return _NO_WAKES
        calls = []
        for ticket in woken:
            place = self._waiting.get(ticket)
            if place is None or place is but:
                continue
            if place._wake is None:
                place._woken = True  # it is on its way to sleep; `arm` will tell it not to
            else:
                calls.append(place._wake)
        return calls


class Place:
    """One call's place: waiting, in flight, answered, or given back. Used by one thread or task at a time; only ``wake``
    comes from others.
    """

    _ticket: Ticket | None = None
    _wake: Callable[[], object] | None = None
    _woken = False
    _sent_at: float | None = None
    cause: Any = None
    """What the throttle that closed the limit was handed in with, also when that was another call's."""

    _store: MemoryStore
    _admission: Admission
    _paced: bool

    def _bind(self, store: MemoryStore, line: Line, paced: bool) -> None:
        """Where it is, and whether it waits for its turn; if not, the limits only watch it."""
        self._store = store
        self._admission = line.admission
        self._paced = paced

    def __del__(self) -> None:
        ticket = self._ticket
        if ticket is not None and ticket.state != SETTLED:
            self._store.drop(self._admission, ticket)

    def open(  # noqa: PLR0917 - by position: keywords would cost each call more
        self, store: MemoryStore, line: Line, paced: bool, cost: Cost, priority: Priority, now: float
    ) -> bool:
        """A place where ``MemoryStore.place`` would make one, and take it where it is certain to be free: by far the usual call,
        in one step because each step costs it. False: it is not taken, :meth:`reserve` tells.
        """
        self._store = store
        self._admission = admission = line.admission
        self._paced = paced
        with store._lock:
            store._now = now
            self._ticket = ticket = Ticket()
            ticket.cost, ticket.priority, ticket.number = cost, priority, next(admission.numbers)
            return admission.join_fast(ticket, now)

    def wait_for_nobody(self) -> None:
        """From now on the limiters only watch this call; for one that waits already it is too late."""
        self._paced = False

    def reserve(
        self, cost: Cost, priority: Priority, not_before: float | None, now: float, *, as_probe: bool = False
    ) -> Admitted | NotBefore:
        """Take a place, come back to it, or ask again; the answer is the turn or a time. ``as_probe``: see ``Reserve``."""
        if not self._paced:
            return self._watch(cost, priority, not_before, now)
        store = self._store
        admission = self._admission
        if store.owned():
            return _ADMITTED
        with store._lock:
            store._now = now
            ticket = self._ticket
            if ticket is None:
                ticket = self._ticket = admission.ticket(cost, priority)
            if ticket.state == NEW:
                admission.join(ticket, now)
                if ticket.state == IN_FLIGHT:
                    return _ADMITTED
            elif ticket.state == SETTLED:
                admission.requeue(ticket, now, now if not_before is None else not_before)
            at = admission.check(ticket, now)
            if at is not None and as_probe:
                at = admission.probe(ticket, now)
            answer: Admitted | NotBefore = _ADMITTED
            if at is None:
                store._waiting.pop(ticket, None)
            else:
                store._waiting[ticket] = self
                answer = NotBefore(now, at, admission.turn(ticket, now), *admission.closed_until(ticket))
            self.cause = admission.cause
            wakes = self._collect_wakes()
        wake_all(wakes)
        return answer

    def _watch(self, cost: Cost, priority: Priority, not_before: float | None, now: float) -> Admitted | NotBefore:
        """The call's own delay is all that holds it; the limiters count it all the same."""
        if not_before is not None and now < not_before:
            return NotBefore(now, not_before, not_before)
        store = self._store
        if store.owned():
            return _ADMITTED
        with store._lock:
            store._now = now
            self._ticket = ticket = self._admission.ticket(cost, priority)
            self.held = self._admission.watch(ticket, now)
        return _ADMITTED

    def sent(self, now: float) -> None:
        """The request is built and about to leave: between its turn and here it may have waited for a processor."""
        self._sent_at = now

    def settle_fast(self, now: float) -> bool:
        """The attempt was answered well. True if that was all that it could teach; False: nothing was done, tell all."""
        ticket = self._ticket
        if ticket is None:
            return True
        with self._store._lock:
            return self._admission.settle_fast(ticket, now)

    def settle(
        self,
        now: float,
        *,
        readings: Iterable[LimitReading] = (),
        throttle: Throttle | None = None,
        slow_down: bool = False,
        succeeded: bool,
        rejected: bool = False,
        used_tokens: float | None = None,
        cause: object = None,
    ) -> None:
        """The attempt was answered: the limiters learn, and whoever fits now is woken."""
        store = self._store
        if self._ticket is None or store.owned():
            return
        with store._lock:
            store._now = now
            attempt = Attempt(
                now,
                succeeded,
                self._sent_at,
                readings,
                throttle,
                slow_down=slow_down,
                rejected=rejected,
                used_tokens=used_tokens,
            )
            self._sent_at = None
            self._admission.settle(self._ticket, attempt, cause=cause)
            wakes = self._collect_wakes()
        if wakes:
            wake_all(wakes)

    def leave(self, now: float) -> None:
        """Give back what is still held. Harmless when there is nothing."""
        ticket = self._ticket
        if ticket is None or ticket.state == SETTLED:
            return  # by far the usual end: answered, and holding nothing
        store = self._store
        if store.owned():
            store.drop(self._admission, ticket)
            self._ticket = None
            return
        with store._lock:
            store._waiting.pop(ticket, None)
            self._admission.leave(ticket, now)
            self._ticket = None
            wakes = self._collect_wakes()
        if wakes:
            wake_all(wakes)

    def arm(self, wake: Callable[[], object]) -> bool:
        """Have ``wake`` called (from any thread) when the turn comes sooner; False if it has come already."""
        with self._store._lock:
            woken, self._woken = self._woken, False
            self._wake = None if woken else wake
        return not woken

    def disarm(self) -> None:
        """No longer waiting."""
        with self._store._lock:
            self._wake = None
            self._woken = False

    def _collect_wakes(self) -> list[Callable[[], object]]:
        return self._store._collect_wakes(self._admission, self)


def wake_all(wakes: Iterable[Callable[[], object]]) -> None:
    for wake in wakes:
        try:
            wake()
        except RuntimeError:  # the waiter's event loop is closed: it has no use for its turn, and its timer is gone too
            continue
