"""Whether a refusal that no bucket explains is about the one call, rather than about what all of them send.

Some requests can never be served (larger than a limit that the server does not name, a feature that the account does not have),
and some servers say so by a bare 429. Such a call comes back for as long as it may. Were each of its refusals put down to the
pace, it would slow all others down to next to nothing: 43 calls that a window of a minute had room for took 470 s behind one
(``no_harm --only 3074``).

Owns the comparison with the others: a call that is refused for the third time, while what left since its last refusal was
served and no other one was refused, is the odd one out. That others are sent in between is the queue's part (``Ticket.yields``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from otel_ratelimit._core.limiters.limiter import Reservation


@dataclass(frozen=True, slots=True)
class OddOneOutTuning:
    """The number of the odd one out.

    Attributes:
        often: refusals of one call. Two, and others served in between, are chance where every second call is refused; if
            all are refused after all, the refusal of another call shows it.
    """

    often: int = 3


TUNED: Final = OddOneOutTuning()


class OddOneOut:
    """Which requests were served and refused last."""

    __slots__ = ("_refused", "_served", "_tuning")

    def __init__(self, tuning: OddOneOutTuning = TUNED) -> None:
        self._tuning = tuning
        self._served = -1
        """The latest request that was served."""
        self._refused = -1
        """The latest request of those refusals that were about all calls."""

    def served(self, reservation: Reservation) -> None:
        """A request was served."""
        self._served = max(self._served, reservation.sequence)

    def refused(self, reservation: Reservation, latest: int) -> bool:
        """A request was refused and no bucket shows why, ``latest`` being the last one sent. Whether it is about that call."""
        reservation.unexplained += 1
        if reservation.unexplained >= self._tuning.often and self._served > reservation.refused_by >= self._refused:
            return True  # and so it stays, until another one is refused
        reservation.refused_by = latest
        self._refused = max(self._refused, reservation.sequence)
        return False
