"""What an admission asks of limits, whoever answers: the process's own limiters, or a fleet's around them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.limiters.limiter import Reservation
from otel_ratelimit._core.limiters.retry_after import Evidence
from otel_ratelimit._core.limiters.traffic import Traffic


class Turn(NamedTuple):
    """When a call may go (``now`` or earlier: at once; inf: after an answer), and whether it goes as a probe then. ``early``: as
    one that goes although the evidence is fresh.
    """

    at: float
    probe: bool
    early: bool = False


class Level(NamedTuple):
    """What a bucket holds, for telemetry: units of ``kind``; ``window`` in seconds, None if unknown; ``reset``: seconds until it
    is full again if nothing more is taken.
    """

    kind: str
    scope: str
    window: float | None
    limit: float
    remaining: float
    reset: float


class Permits(Protocol):
    """What an admission needs to know of limits: ``combined.CombinedLimiter``, or a fleet's limiter around it."""

    def amounts(self, cost: Cost, requested: float | None = None) -> Amounts: ...
    def ready(self, now: float, amounts: Amounts, held: Amounts | None) -> Turn: ...
    def room_at(self, now: float, amounts: Amounts) -> float: ...
    def take_fast(self, now: float, reservation: Reservation) -> bool: ...
    def take(
        self, now: float, amounts: Amounts, reservation: Reservation, *, probe: bool = False, early: bool = False
    ) -> None: ...
    def settle_fast(self, now: float, reservation: Reservation) -> bool: ...
    def settle(self, reservation: Reservation, attempt: Attempt, *, waiting: bool) -> None: ...
    def abandon(self, reservation: Reservation) -> None: ...
    def cancel(self, reservation: Reservation) -> None: ...
    def expected(
        self, now: float, amounts: Amounts, ahead: Amounts, refused_by: int = -1, *, guesses: bool
    ) -> float: ...
    def begins_to_wait(self, now: float) -> None: ...
    def rewind(self, now: float, seconds: float) -> None: ...
    @property
    def traffic(self) -> Traffic: ...
    @property
    def evidence(self) -> Evidence | None: ...
    @property
    def probe_busy_until(self) -> float: ...
    def levels(self, now: float) -> list[Level]: ...
