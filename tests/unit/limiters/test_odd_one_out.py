"""A call that is refused again and again while others are served."""

from __future__ import annotations

from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.limiters.limiter import Reservation
from otel_ratelimit._core.limiters.odd_one_out import OddOneOut


class Calls:
    """Requests in order; each call's attempts carry on what the attempt before taught."""

    def __init__(self) -> None:
        self.odd = OddOneOut()
        self.latest = 0

    def send(self, previous: Reservation | None = None) -> Reservation:
        reservation = Reservation.after(Cost(1.0, 1.0), previous)
        self.latest += 1
        reservation.sequence = self.latest
        return reservation

    def serve(self) -> None:
        self.odd.served(self.send())

    def refuse(self, previous: Reservation | None = None) -> tuple[Reservation, bool]:
        reservation = self.send(previous)
        return reservation, self.odd.refused(reservation, self.latest)


def refused_twice(calls: Calls) -> Reservation:
    """A call that was refused two times, others served in between."""
    first, alone = calls.refuse()
    assert not alone
    calls.serve()
    second, alone = calls.refuse(first)
    assert not alone
    return second


def test_the_third_refusal_in_a_row_is_its_own_where_another_call_was_served_meanwhile() -> None:
    """And so are those that follow it, with no other call to compare with."""
    calls = Calls()
    second = refused_twice(calls)
    calls.serve()
    third, alone = calls.refuse(second)
    assert alone
    assert calls.refuse(third)[1]


def test_where_none_was_served_meanwhile_it_is_the_pace() -> None:
    """What had left before the refusal says nothing: the room may have gone since."""
    calls = Calls()
    earlier = calls.send()
    second = refused_twice(calls)
    calls.odd.served(earlier)
    assert not calls.refuse(second)[1]


def test_where_another_call_was_refused_meanwhile_it_is_the_pace() -> None:
    """Whether or not one was served as well. Once the others are served again, it is the odd one."""
    calls = Calls()
    second = refused_twice(calls)
    calls.serve()
    calls.refuse()
    third, alone = calls.refuse(second)
    assert not alone
    calls.serve()
    fourth, alone = calls.refuse(third)
    assert alone
    calls.refuse()
    assert not calls.refuse(fourth)[1]
