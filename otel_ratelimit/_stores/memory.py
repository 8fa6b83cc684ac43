"""The limits of this process: one ``Admission`` for each account and model, behind one lock.

Owns the lock, the registry of keys, the waking of waiters and what happens at a fork. Decides nothing: whose turn it is, is
``_core.admission``'s business. The lock is held for microseconds, and never across I/O, a sleep or a callback of anybody
else.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from otel_ratelimit._core.admission import Admission
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.events import Admitted, NotBefore
from otel_ratelimit._core.hints.limits import LimitReading
from otel_ratelimit._core.policy import Priority
from otel_ratelimit._core.queue import IN_FLIGHT, SETTLED, Ticket
from otel_ratelimit._core.throttle import Throttle

MAX_ACCOUNTS: Final = 1000
"""Admissions kept. Beyond it the one that was used longest ago goes, if nobody waits in it."""

_ADMITTED: Final = Admitted()
_NO_WAKES: Final[list[Callable[[], object]]] = []
_hash_key: Final = secrets.token_bytes(32)


class Account(NamedTuple):
    """Whose limit it is. ``payer`` is what the store makes of the credential (see its ``payer``): never the credential."""

    server: str
    payer: bytes
    model: str | None


class MemoryStore:
    """The store of one process. All methods may be called from any thread.

    Args:
        random: draws from [0, 1).
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._lock = threading.Lock()
        self._accounts: OrderedDict[Account, tuple[Admission, Any]] = OrderedDict()
        self._waiting: dict[Ticket, Place] = {}
        self._now = 0.0
        # A child has none of the parent's threads: nobody in its queues will ever come, and the lock may be held.
        forget = weakref.WeakMethod(self._forget)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (method := forget()) and method())

    def place(self, account: Account, label: Any, *, paced: bool = True) -> Place:
        """A place for one call. ``label`` is what the gauges of this account are shown under. A call that is not paced
        waits for nobody; the ledgers only watch it."""
        return Place(self, account, label, paced=paced)

    def payer(self, credential: object, *others: str) -> bytes:
        """Who pays, as an account names it: a keyed hash of the credential (or of whoever provides one) and what goes
        with it."""
        secret = credential if isinstance(credential, str) else f"provider {id(credential)}"
        digest = hashlib.blake2b(key=_hash_key, digest_size=16)
        for part in (secret, *others):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
        return digest.digest()

    def count_failures(self, count: Callable[[str, int], object]) -> None:
        """Have ``count`` called with the kind of each failure of the store, and how many; memory never fails."""

    def close(self) -> None:
        """The hooks are gone; what is still under way goes on."""

    def levels(self) -> Iterable[tuple[Any, str, float, float]]:
        """Label, kind, limit and what remains of it, for each limit that is known: of several of one kind, the tightest."""
        with self._lock:
            now = self._now
            found = [(label, admission.gauges(now)) for admission, label in self._accounts.values()]
        for label, gauges in found:
            for kind in ("tokens", "requests"):
                of_kind = [gauge for gauge in gauges if gauge.kind == kind]
                if of_kind:
                    tightest = min(of_kind, key=lambda gauge: gauge.remaining / gauge.limit)
                    yield label, kind, tightest.limit, tightest.remaining

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._accounts.clear()
        self._waiting.clear()

    def _admission(self, account: Account, label: Any) -> Admission:
        found = self._accounts.get(account)
        if found is not None:
            self._accounts.move_to_end(account)
            return found[0]
        while len(self._accounts) >= MAX_ACCOUNTS:
            oldest = next(
                (key for key, (one, _) in self._accounts.items() if not one.waiting and not one.in_flight), None
            )
            if oldest is None:
                break
            self._drop(self._accounts.pop(oldest)[0])
        admission = self._new_admission(account)
        self._accounts[account] = (admission, label)
        return admission

    def _new_admission(self, _account: Account) -> Admission:
        return Admission(random=self._random)

    def _drop(self, _admission: Admission) -> None:
        """It is kept no longer."""

    def _collect_wakes(self, admission: Admission, but: Place | None = None) -> list[Callable[[], object]]:
        """Under the lock: what is to be called after it."""
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
    comes from others."""

    _admission: Admission | None = None
    _ticket: Ticket | None = None
    _wake: Callable[[], object] | None = None
    _woken = False
    cause: Any = None
    """What the throttle that closed the gate was handed in with, also when that was another call's."""

    def __init__(self, store: MemoryStore, account: Account, label: Any, *, paced: bool) -> None:
        self._store = store
        self._paced = paced
        self._account = account
        self._label = label

    def reserve(self, cost: Cost, priority: Priority, not_before: float | None, now: float) -> Admitted | NotBefore:
        """Take a place, come back to it, or ask again; the answer is the turn or a time."""
        if not self._paced:
            return self._watch(cost, priority, not_before, now)
        store = self._store
        with store._lock:
            store._now = now
            ticket = self._ticket
            if ticket is None:
                admission = self._admission = store._admission(self._account, self._label)
                ticket = self._ticket = admission.enter(now, cost, priority)
                if ticket.state == IN_FLIGHT:
                    return _ADMITTED  # the hot path: nobody waits, every limit has room
            else:
                assert self._admission is not None
                admission = self._admission
                if ticket.state == SETTLED:
                    admission.requeue(ticket, now, now if not_before is None else not_before)
            at = admission.check(ticket, now)
            answer = _ADMITTED if at is None else NotBefore(now, at, admission.turn(ticket, now))
            if at is None:
                store._waiting.pop(ticket, None)
            else:
                store._waiting[ticket] = self
            self.cause = admission.cause
            wakes = self._collect_wakes()
        wake_all(wakes)
        return answer

    def _watch(self, cost: Cost, priority: Priority, not_before: float | None, now: float) -> Admitted | NotBefore:
        """The call's own delay is all that holds it; the ledgers count it all the same."""
        if not_before is not None and now < not_before:
            return NotBefore(now, not_before, not_before)
        with self._store._lock:
            self._store._now = now
            admission = self._admission = self._store._admission(self._account, self._label)
            self._ticket, self.held = admission.watch(now, cost, priority)
        return _ADMITTED

    def sent(self, now: float) -> None:
        """The request is built and about to leave: between its turn and here it may have waited for a processor."""
        ticket = self._ticket
        if ticket is not None and ticket.state == IN_FLIGHT:
            ticket.sent_at = now  # only read by this call's own settle

    def settle(
        self,
        now: float,
        *,
        readings: Iterable[LimitReading] = (),
        throttle: Throttle | None = None,
        slow_down: bool = False,
        succeeded: bool,
        used_tokens: float | None = None,
        cause: object = None,
    ) -> None:
        """The attempt was answered: the ledgers learn, and whoever fits now is woken."""
        if self._ticket is None or self._admission is None:
            return
        store = self._store
        with store._lock:
            store._now = now
            self._admission.settle(
                self._ticket,
                now,
                readings=readings,
                throttle=throttle,
                succeeded=succeeded,
                used_tokens=used_tokens,
                slow_down=slow_down,
                cause=cause,
            )
            wakes = self._collect_wakes()
        if wakes:
            wake_all(wakes)

    def leave(self, now: float) -> None:
        """Give back what is still held. Harmless when there is nothing."""
        ticket, self._ticket = self._ticket, None
        if ticket is None or self._admission is None or ticket.state == SETTLED:
            return  # by far the usual end: answered, and holding nothing
        with self._store._lock:
            self._store._waiting.pop(ticket, None)
            self._admission.leave(ticket, now)
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
        assert self._admission is not None
        return self._store._collect_wakes(self._admission, self)


def wake_all(wakes: Iterable[Callable[[], object]]) -> None:
    for wake in wakes:
        try:
            wake()
        except RuntimeError:  # the waiter's event loop is closed: it has no use for its turn, and its timer is gone too
            continue
