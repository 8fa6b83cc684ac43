"""``python -m tests.benchmarks.waiting``: what a call that waits costs, by how many wait with it.

A queue of so many calls before a limit that is used up. One more joins, asks twice when its turn comes, as a driver does, and
leaves; then a refused one is put back. Prints Python calls, which no machine changes, and microseconds, the least of many.
Neither should grow with the number that wait.
"""

from __future__ import annotations

import math
import time
from functools import partial

from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.parsing.limits import LimitReading
from otel_ratelimit._core.queueing.admission import Admission
from otel_ratelimit._core.throttle import Throttle
from tests.helpers.work import python_calls

COST = Cost(100.0, 900.0)
LIMIT = 60_000.0


def queue_of(waiting: int, refused: int = 0) -> Admission:
    """An admission before whose limit so many calls wait, of which some were refused."""
    admission = Admission()
    first = admission.enter(0.0, COST, "normal")
    empty = (LimitReading("tokens", "", "minute", LIMIT, 0.0, 60.0),)
    admission.settle(first, Attempt(0.1, True, readings=empty, used_tokens=1_000))
    admission.leave(first, 0.1)
    for _ in range(refused):
        put_back(admission, 0.1)
    for _ in range(waiting):
        admission.enter(0.2, COST, "normal")
    return admission


def put_back(admission: Admission, now: float) -> None:
    """A call that was sent all the same is refused, and waits for its time."""
    ticket = admission.ticket(COST, "normal")
    admission.watch(ticket, now)
    throttle = Throttle(20.0, "body-message", "tokens", "minute", LIMIT, LIMIT, 1_000)
    admission.settle(ticket, Attempt(now, False, throttle=throttle))
    admission.requeue(ticket, now, now + 20.0)


def waits(admission: Admission, now: float) -> None:
    """One more call joins, asks, is woken in vain, asks again, and is cancelled."""
    ticket = admission.enter(now, COST, "normal")
    for _ in range(2):
        admission.turn(ticket, now)
        admission.check(ticket, now)
    admission.leave(ticket, now)
    admission.take_wakes()


def main() -> None:
    """Print one line for each length of the queue."""
    print("calls waiting, refused of them: Python calls and microseconds of one more, of one that is put back")
    for waiting, refused in ((100, 0), (1_000, 100), (10_000, 1_000), (50_000, 5_000)):
        admission = queue_of(waiting, refused)
        joins, back = python_calls(partial(waits, admission, 0.3)), python_calls(partial(put_back, admission, 0.3))
        least, least_back = math.inf, math.inf
        for _ in range(200):
            began = time.perf_counter()
            waits(admission, 0.3)
            middle = time.perf_counter()
            put_back(admission, 0.3)
            least, least_back = min(least, middle - began), min(least_back, time.perf_counter() - middle)
        print(
            f"{waiting:7,} {refused:6,}: {joins:4} {least * 1e6:7.0f} us {back:5} {least_back * 1e6:7.0f} us",
            flush=True,
        )


if __name__ == "__main__":
    main()
