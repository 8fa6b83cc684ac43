"""One call's place in an admission, and the states of its life.

Owns :class:`Ticket` and its states. Written by the admission and, where it says so, by the queue; what a call has taken of the
limits is its reservation, which belongs to the limiters.

===========  ======================  =========  =========  =========  ======
state        join                    admit      settle     requeue    leave
===========  ======================  =========  =========  =========  ======
NEW          WAITING or IN_FLIGHT                                     GONE
WAITING                              IN_FLIGHT                        GONE
IN_FLIGHT                                       SETTLED    WAITING    GONE
SETTLED                                                    WAITING    GONE
GONE                                                                  GONE
===========  ======================  =========  =========  =========  ======

A step that is not in the table does nothing. (A call that is requeued while in flight is settled first, as lost.)
"""

from __future__ import annotations

import math
from typing import Final

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.limiters.limiter import Reservation
from otel_ratelimit._core.policy import Priority

NEW: Final = -1
WAITING: Final = 0
IN_FLIGHT: Final = 1
SETTLED: Final = 2
GONE: Final = 3


class Ticket:
    """One call's place: waiting, in flight, or done.

    Attributes:
        number: order of arrival.
        cost, priority: of the call.
        state: see above.
        arrived: when it came.
        queued_at: when it came, or was last put back into the queue.
        wake_at: the time that it was last told to ask again at; ``math.inf``: when woken.
        collected: whether its caller knows that it is admitted, and has sent it.
        reservation: of its last attempt; None before the first.
        amounts: what it takes, as it was priced when it was queued.
        refused_by: the latest request of all that had left when it was put back into the queue; -1 where it was not.
        yields: calls of its priority that go before it once its time has come.
        not_before: the time before which it may not go; None where it has none. Written by the queue once it is queued.
        position: requests and tokens that ever joined its priority before and with it. Written by the queue.
    """

    # What has a value here is the call's own once it is changed; most calls change little of it. (A constructor would cost each
    # call more than all that it sets.)
    number: int
    cost: Cost
    priority: Priority
    state = NEW
    wake_at = -math.inf
    collected = True
    yields = 0
    reservation: Reservation | None = None
    not_before: float | None = None
    amounts: Amounts
    arrived: float
    position: tuple[float, float]
    queued_at: float
    refused_by: int

    @property
    def admitted(self) -> bool:
        """Whether its turn has come and it holds a permit."""
        return self.state == IN_FLIGHT
