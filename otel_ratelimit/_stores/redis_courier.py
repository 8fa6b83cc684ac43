"""The one thread of a process that talks to Redis: carries reports there, brings leases back.

Owns the thread, the connection's ups and downs, and the order of exchanges. Decides nothing about limits. No call ever waits for
this thread for longer than ``_core.fleet.limiter.BOUND``, whatever happens to it: that rule is in the limiter.

While Redis cannot be reached every member is told so, and goes on alone; the first failure of an outage is one warning,
every one is counted; then it is tried again, after 0.1 s at first and about once a second in the end.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from otel_ratelimit import _guard
from otel_ratelimit._core.fleet.member import Member
from otel_ratelimit._core.queueing.admission import Admission
from otel_ratelimit._stores.alarm import Alarm
from otel_ratelimit._stores.memory import Account, MemoryStore, wake_all
from otel_ratelimit._stores.redis_client import Script, kind_of

_log: Final = logging.getLogger("otel_ratelimit")

FIRST_BACKOFF: Final = 0.1
MOST_BACKOFF: Final = 1.0
"""Seconds after a failed exchange until the next is tried; doubling, with jitter."""

WARN_AGAIN: Final = 60.0
"""Seconds within which a connection that comes and goes is warned of once."""

LONGEST_PAUSE: Final = 60.0
"""Seconds after which the thread looks around in any case."""

GOODBYE: Final = 0.25
"""Seconds that the end of the program waits for the fleet to be told."""


class Courier:
    """Exchanges for all members of one process.

    Args:
        store: whose lock guards the members.
        script: where the exchange happens.
        process: what the fleet calls this process.
        clock: monotonic seconds.
        random: draws from [0, 1).
        count: called with the kind of each failure.
    """

    def __init__(
        self,
        store: MemoryStore,
        script: Script,
        process: str,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        count: Callable[[str], object],
    ) -> None:
        self._store = store
        self._script = script
        self._process = process
        self._clock = clock
        self._random = random
        self._count = count
        self._alarm = Alarm()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._stopped = False
        self._accounts: dict[Member, Account] = {}
        self._asked: set[Member] = set()
        self._keys: dict[Member, list[str]] = {}
        """Of the members that are in the fleet, or on their way."""
        self._backoff = 0.0
        self._retry_at = 0.0
        self._warned_at: float | None = None
        self._down = False
        self._told_settings = False

    # --- what the store calls, from any thread ------------------------------------------------------------------------

    def add(self, member: Member, account: Account) -> None:
        """An account was seen for the first time."""
        self._accounts[member] = account

    def drop(self, admission: Admission) -> None:
        """It is kept no longer."""
        for member in [one for one in self._accounts if one.admission is admission]:
            del self._accounts[member]

    def ask(self, member: Member) -> None:
        """An exchange is wanted soon. Called under the store's lock: only leaves word."""
        if self._stopped:
            return
        self._asked.add(member)
        if self._thread is None:
            self._start()
        self._alarm.wake()

    def stop(self) -> None:
        """Tell the fleet goodbye, briefly, and end the thread."""
        self._stopped = True
        thread = self._thread
        if thread is not None:
            self._alarm.wake()
            thread.join(GOODBYE)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="otel_ratelimit-redis", daemon=True)
                with contextlib.suppress(RuntimeError):  # the interpreter is ending: the process goes on alone
                    thread.start()
                    self._thread = thread

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped:
            try:
                self._alarm.sleep(self._pause())
                self._round()
            except Exception as fault:
                self._failed(fault)
        try:
            self._say_goodbye()
        except Exception as fault:
            _guard.report("store", fault)

    def _pause(self) -> float:
        now = self._clock()
        if self._down:
            return max(self._retry_at - now, 0.0)
        due = min((member.due for member in list(self._keys)), default=now + LONGEST_PAUSE)
        return min(max(due - now, 0.0), LONGEST_PAUSE)

    def _round(self) -> None:
        """Exchange for whoever is due, or asked."""
        asked = []
        while self._asked:
            asked.append(self._asked.pop())
        for member in asked:
            account = self._accounts.get(member)
            if member not in self._keys and account is not None:
                self._keys[member] = self._script.keys_of(account)
        now = self._clock()
        if self._down:
            if now < self._retry_at:
                self._tell(lambda member, now: member.fail(now), asked)
                return
            for member in list(self._keys):
                if not self._exchange(member):
                    return
            self._down = False  # also where nobody is left to try it for
            return
        for member in list(self._keys):
            if (member in asked or member.due <= self._clock()) and not self._exchange(member):
                return

    def _exchange(self, member: Member) -> bool:
        """One round trip; False if it failed."""
        keys = self._keys[member]
        lock = self._store._lock
        with lock:
            now = self._clock()
            leaving = member.sleeps(now) or member not in self._accounts
            if leaving and self._down:  # nobody to tell
                member.leave_fleet(now)
                del self._keys[member]
                return True
            report = member.report(now, leaving=leaving)
        try:
            answer = self._script.run(keys, self._process, report.wire())
            other: str | None = None
            with lock:
                now = self._clock()
                if leaving:
                    member.leave_fleet(now)
                    del self._keys[member]
                else:
                    other = member.accept(answer, now)
                wakes = self._store._collect_wakes(member.admission)
        except Exception as error:
            self._failed(error)
            return False
        wake_all(wakes)
        self._worked()
        if other is not None and not self._told_settings:
            self._told_settings = True
            _log.warning(
                "this process shares limits through Redis with processes of other settings; each keeps its own"
                " (here: %s; there: %s)", report.settings, other,
            )  # fmt: skip
        return True

    def _say_goodbye(self) -> None:
        for member, keys in list(self._keys.items()):
            with self._store._lock:
                report = member.report(self._clock(), leaving=True)
            if not self._down:
                try:
                    self._script.run(keys, self._process, report.wire())
                except Exception:  # it will miss us soon
                    self._down = True
        self._tell(lambda member, now: member.fail(now), list(self._accounts))
        self._script.close()

    def _tell(self, what: Callable[[Member, float], Any], whom: list[Member]) -> None:
        for member in whom:
            with self._store._lock:
                what(member, self._clock())
                wakes = self._store._collect_wakes(member.admission)
            wake_all(wakes)

    # --- ups and downs ------------------------------------------------------------------------------------------------

    def _worked(self) -> None:
        self._backoff = 0.0
        if self._down:
            self._down = False
            _log.info("limits are shared through Redis again")

    def _failed(self, error: Exception) -> None:
        kind = kind_of(error)
        if kind == "internal":
            _guard.report("store", error)
        now = self._clock()
        if not self._down and (self._warned_at is None or now - self._warned_at > WARN_AGAIN):
            self._warned_at = now
            _log.warning(
                "Redis cannot be used (%s: %s); this process goes on with what it knows of its limits, and tries again",
                kind, type(error).__name__,
            )  # fmt: skip
        self._down = True
        self._backoff = min(max(2.0 * self._backoff, FIRST_BACKOFF), MOST_BACKOFF)
        self._retry_at = now + self._backoff * (0.5 + 0.5 * self._random())
        self._tell(lambda member, now: member.fail(now), list(self._keys))
        self._count(kind)
