"""The cold start: how many calls go before the first answer.

Nothing is known of the limit yet, and a program may start hundreds of calls at once. Two dozen go at once, then their number
doubles every 50 ms until the first answer. A program far below the limit that starts 64 calls at a time loses 71 ms once with the
last of them (0.2 % of a run of 14 s); one that starts 500 at a limit of twenty is refused the first few and not all. Measured
(calls at once; loss of a 14 s run of 64 at a time; refusals of 200 at a time where 13 fit): all 0.0 %, 187; 64 0.0 %, 138; 32
0.1 %, 65; 24 0.2 %, 48; 16 0.3 %, 28; 8 0.5 %, 24.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.limiters.limiter import Cause, Diagnosis, Reservation
from otel_ratelimit._core.limiters.traffic import Traffic


@dataclass(frozen=True, slots=True)
class ColdStartTuning:
    """The numbers of the cold start.

    Attributes:
        calls: calls that go at once before the first answer; also the answers without a word of limits after which it is over.
        doubling: seconds in which their number doubles after that.
    """

    calls: int = 24
    doubling: float = 0.05


TUNED: Final = ColdStartTuning()


class ColdStart:
    """On until the server has named a limit, has refused a call, or has answered often without either."""

    __slots__ = ("_answers", "_since", "_traffic", "_tuning", "on")

    def __init__(self, traffic: Traffic, tuning: ColdStartTuning = TUNED) -> None:
        self.on = True
        self._traffic = traffic
        self._tuning = tuning
        self._since: float | None = None
        self._answers = 0

    def ready(self, now: float, amounts: Amounts, held: Amounts | None) -> float:
        if self._since is None:
            self._since = now
        gone, calls = self._traffic.latest, max(self._tuning.calls, 1)
        if gone < calls:
            return now
        return self._since + self._tuning.doubling * math.log2((gone + 1) / calls)

    def take(self, now: float, reservation: Reservation) -> None:
        pass

    def settle(self, reservation: Reservation, attempt: Attempt, diagnosis: Diagnosis) -> None:
        if attempt.throttle is not None or diagnosis.reported:
            self.on = False
        elif diagnosis.cause is Cause.SERVED:
            self._answers += 1
            self.on = self.on and self._answers < max(self._tuning.calls, 1)

    def cancel(self, reservation: Reservation) -> None:
        pass

    def expected(self, now: float, ahead: Amounts) -> float:
        return now  # it is over with the first answer

    def rewind(self, now: float, seconds: float) -> None:
        if self._since is not None:
            self._since = min(self._since, now)
