"""The store of a fleet: the same as in memory, with every admission a member of the fleet that shares its limit in Redis.

Owns the wiring: which admission is made, the thread that exchanges for it, what happens at a fork and at the end. The
rules are in ``_core.fleet`` and ``allocation.lua``; the memory store's lock guards everything here as well.
"""

from __future__ import annotations

import atexit
import secrets
import weakref
from collections.abc import Callable

from otel_ratelimit._core.fleet.member import Member
from otel_ratelimit._core.policy import Policy
from otel_ratelimit._core.queueing.admission import Admission
from otel_ratelimit._stores.memory import Account, MemoryStore
from otel_ratelimit._stores.redis_client import FAILURE_KINDS, Script, payer_of
from otel_ratelimit._stores.redis_courier import Courier


def settings_of(policy: Policy) -> str:
    """The settings that decide how a limit is shared, and so should be alike in all of a fleet."""
    return f"pacing={policy.pacing}, buffer={policy.buffer:g}, max_backoff={policy.max_backoff:g}"


class RedisStore(MemoryStore):
    """The store of one process of a fleet. Opens nothing before the first call, and nothing in a thread of the caller's.

    Args:
        url: of the Redis or Valkey, valid.
        random: draws from [0, 1); spreads the returns of a fleet to a store that was lost.
        clock: monotonic seconds, the one that calls are timed with.
        settings: see :func:`settings_of`.
        encode, decode: see ``fleet.member.Member``.
    """

    def __init__(
        self,
        url: str,
        *,
        random: Callable[[], float],
        clock: Callable[[], float],
        settings: str,
        encode: Callable[[object], str],
        decode: Callable[[str], object],
    ) -> None:
        self._script = Script(url)
        self._clock = clock
        self._settings = settings
        self._encode = encode
        self._decode = decode
        self._count: Callable[[str, int], object] = lambda _kind, _times: None
        self._random = random
        super().__init__()
        self._courier = self._new_courier()
        close = weakref.WeakMethod(self.close)
        atexit.register(lambda: (method := close()) and method())

    def payer(self, credential: object, *others: str) -> bytes:
        return payer_of(credential, *others)

    def count_failures(self, count: Callable[[str, int], object]) -> None:
        self._count = count
        for kind in FAILURE_KINDS:
            count(kind, 0)

    def close(self) -> None:
        self._courier.stop()

    def _new_courier(self) -> Courier:
        # Another process after a fork: a name of its own, and no thread yet.
        return Courier(
            self, self._script, secrets.token_hex(8), clock=self._clock, random=self._random,
            count=lambda kind: self._count(kind, 1),
        )  # fmt: skip

    def _forget(self) -> None:
        super()._forget()
        self._script.forget()
        self._courier = self._new_courier()

    def _new_admission(self, account: Account) -> Admission:
        courier = self._courier
        member = Member(ask=courier.ask, settings=self._settings, encode=self._encode, decode=self._decode)
        courier.add(member, account)
        return member.admission

    def _drop(self, admission: Admission) -> None:
        self._courier.drop(admission)
