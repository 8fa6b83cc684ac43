"""When a server that is believed to have no room is asked nevertheless.

Owns the times of probes: calls that are sent although the limits, as they are believed, have no room for them; one at a time.
Knows no limit, queue or clock.

What is known of a limit is a hypothesis: limits are raised, quotas bought, a day's limit is reset, another tenant leaves, a
gateway has other deployments. Only the server knows, and only a request makes it tell. So while callers wait for a turn that is
far away, one of them goes early now and then. A probe that is refused renews the evidence and doubles the time to the next
one, so that a limit that is known well is disturbed a handful of times; one that is served lets two more go at once,
and so on (slow start, RFC 5681), until one is refused.
"""

from __future__ import annotations

import math
from typing import Final

GUESSED: Final = 3.0
COUNTED: Final = 15.0
"""Seconds without news of the server after which the first probe goes: where the turn rests on a pace that was guessed, or on a
delay that another call was told; and where it was counted by the server's own numbers. Each refused probe doubles them. A
turn that comes no more than that after the probe is simply waited for.

Measured: with 1 s for both, mixtures of calls of 200 to 20,000 tokens are refused 0.8 times a call instead of 0.01 (simulation,
"mix"); with 1 s where it was guessed, 0.1 to 0.2 times instead of 0.03 (the same, bare 429). With 5 s where it was counted a lone
caller of calls of a quarter of the limit is refused once, with 15 s never; ``tests/benchmarks/no_harm`` is the same."""

LONGEST_INTERVAL: Final = 60.0
"""Seconds. A minute at most passes between probes while callers ask, however long the server said."""

MOST_ALLOWED: Final = 64
"""Probes that may go at once, at most."""


class Probe:
    """The probes of one limit."""

    __slots__ = ("_allowed", "_doubled", "_pending", "_pending_at")

    def __init__(self) -> None:
        self._allowed = 0
        self._doubled = 1.0
        self._pending: set[int] = set()
        self._pending_at = -math.inf

    def ready(self, at: float, now: float, news_at: float, *, counted: bool) -> float:
        """When a call may go whose turn would come at ``at``, later than ``now``.

        Args:
            at: the turn.
            now: the present.
            news_at: when the last request left, or the last answer came.
            counted: whether the turn rests on the server's own numbers.
        """
        if self._allowed > 0:
            return now
        interval = min((COUNTED if counted else GUESSED) * self._doubled, LONGEST_INTERVAL)
        early = max(news_at + interval, self.busy_until(), now)
        return early if at - early > interval else at

    def busy_until(self) -> float:
        """When the answer of the probe that is on its way is given up; minus infinity where none is."""
        return self._pending_at + LONGEST_INTERVAL if self._pending else -math.inf

    def sent(self, number: int, now: float) -> None:
        """A probe leaves; ``number`` is the call's."""
        self._allowed = max(self._allowed - 1, 0)
        self._pending.add(number)
        self._pending_at = now

    def served(self, number: int) -> None:
        """A probe was served: there was room."""
        self._pending.discard(number)
        self._doubled = 1.0
        self._allowed = min(self._allowed + 2, MOST_ALLOWED)

    def refused(self, number: int) -> None:
        """A probe was refused: there was none."""
        self._pending.discard(number)
        self._doubled = min(2.0 * self._doubled, LONGEST_INTERVAL)
        self._allowed = 0

    def lost(self, number: int) -> None:
        """A probe ended in a way that says nothing of the limit."""
        self._pending.discard(number)

    def rewind(self, now: float) -> None:
        """The clock was set back to ``now``."""
        self._pending_at = min(self._pending_at, now)
