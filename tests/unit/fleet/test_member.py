"""The admission of one process in a fleet, driven by hand: no Redis, no thread, no clock."""

from __future__ import annotations

import math
from typing import Any

import pytest

from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.fleet.limiter import BOUND
from otel_ratelimit._core.fleet.member import DORMANT, HEARTBEAT
from otel_ratelimit._core.fleet.member import Member as FleetMember
from otel_ratelimit._core.fleet.messages import AnswerError
from otel_ratelimit._core.parsing.limits import LimitReading
from otel_ratelimit._core.throttle import Throttle

COST = Cost(100.0, 0.0)


class Member(FleetMember):
    """Counts how often it asked for an exchange; the calls' methods are its admission's."""

    def __init__(self) -> None:
        self.asks = 0
        super().__init__(ask=self._count, encode=lambda cause: cause or "", decode=lambda text: f"from afar: {text}")  # type: ignore[arg-type, return-value]

    def _count(self, _member: object) -> None:
        self.asks += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.admission, name)


def answer(*lease: float, calm: bool = False, again: float = 1.0, **fields: Any) -> dict[str, Any]:
    if len(lease) == 2:
        lease = (*lease, lease[1], 0.0)  # the calls here are all input
    amounts = [*lease, 0.0, 0.0, 0.0, 0.0][:4]
    return {"epoch": "1", "lease": amounts, "calm": calm, "mark": [0.0] * 4, "again": again, "cause": "", "levels": {},
            "others": [0.0] * 4, "live": 1, **fields}  # fmt: skip


def reading(remaining: float, limit: float = 10_000.0) -> LimitReading:
    return LimitReading("tokens", "", "minute", limit, remaining, None)


def exchange(member: Member, now: float, reply: dict[str, Any]) -> dict[str, Any]:
    report = member.report(now).wire()
    member.accept(reply, now)
    return report


def test_the_first_call_does_not_wait_for_redis() -> None:
    """It goes at once; the second, which comes before the fleet has answered, waits for that."""
    member = Member()
    assert member.enter(0.0, COST, "normal").admitted
    assert member.asks == 1
    second = member.enter(0.001, COST, "normal")
    assert not second.admitted
    assert member.check(second, 0.001) == pytest.approx(BOUND)


def test_nobody_waits_for_the_fleet_itself_longer_than_the_bound() -> None:
    """Without any answer at all the local rule decides after 50 ms."""
    member = Member()
    member.enter(0.0, COST, "normal")
    second = member.enter(0.0, COST, "normal")
    assert member.check(second, BOUND - 0.001) is not None
    assert member.check(second, BOUND) is None


def test_the_bound_holds_for_a_fleet_that_falls_silent() -> None:
    """It had answered, and said to come again in a second: a call that asks in between waits 50 ms, not a second."""
    member = Member()
    member.enter(0.0, COST, "normal")
    exchange(member, 0.0, answer(again=1.0))
    call = member.enter(0.3, COST, "normal")
    assert member.check(call, 0.3) == pytest.approx(0.3 + BOUND)
    assert member.check(call, 0.3 + BOUND) is None


def test_far_from_the_limit_a_slice_is_enough() -> None:
    """No word with the fleet until half of the slice is gone."""
    member = Member()
    first = member.enter(0.0, COST, "normal")
    exchange(member, 0.0, answer(1e12, 1000.0, 1e12, 1e12, calm=True))
    member.settle(first, Attempt(0.01, readings=[reading(9900.0)], succeeded=True))
    asks = member.asks
    for _ in range(5):
        assert member.enter(0.1, COST, "normal").admitted
    assert member.asks == asks
    assert member.enter(0.1, COST, "normal").admitted
    assert member.asks == asks + 1


def test_near_the_limit_calls_go_as_granted() -> None:
    """Three wait, two are granted: the first two go."""
    member = Member()
    member.enter(0.0, COST, "normal")
    calls = [member.enter(0.0, COST, "normal") for _ in range(3)]
    report = exchange(member, 0.01, answer(2.0, 200.0))
    assert [len(lane) for lane in report["lanes"]] == [0, 3, 0]
    assert report["waits"][:2] == [3.0, 300.0]
    assert [call.admitted for call in calls] == [True, True, False]
    assert {ticket.number for ticket in member.take_wakes()} >= {calls[0].number, calls[1].number}


def test_a_call_that_costs_a_little_more_by_now_still_goes() -> None:
    """What it costs is an estimate; the fleet hears of the rest."""
    member = Member()
    member.enter(0.0, COST, "normal")
    call = member.enter(0.0, COST, "normal")
    exchange(member, 0.01, answer(1.0, 90.0))
    assert call.admitted
    assert member.report(0.02).wire()["used"][:2] == [2.0, 200.0]


def test_used_is_a_total_and_does_not_count_what_was_never_sent() -> None:
    """A call that was admitted and left before it was sent is given back."""
    member = Member()
    member.enter(0.0, COST, "normal")
    call = member.enter(0.0, COST, "normal")
    exchange(member, 0.01, answer(1.0, 100.0))
    assert call.admitted
    member.leave(call, 0.02)  # its caller was cancelled before it heard
    assert member.report(0.03).wire()["used"] == [1.0, 100.0, 100.0, 0.0]


def test_what_the_server_said_is_told_with_its_age_and_the_fleets_total() -> None:
    """The mark is the fleet's total when that request had been handed its share."""
    member = Member()
    member.enter(0.0, COST, "normal")
    call = member.enter(0.0, COST, "normal")
    member.report(0.0)
    member.accept(answer(1.0, 100.0) | {"mark": [50.0, 5000.0, 0.0, 0.0]}, 0.5)
    assert call.admitted
    member.settle(call, Attempt(2.5, readings=[reading(3000.0)], succeeded=True))
    (said,) = member.report(3.0).wire()["said"].values()
    assert said["told"] == 3000.0
    assert said["age"] == pytest.approx(2.5)
    assert said["mark"] == pytest.approx(5000.0 + 100.0)  # with its own share


def test_a_call_that_came_during_an_exchange_asks_for_another() -> None:
    """It was in no report, so nobody would come for it before the next heartbeat."""
    member = Member()
    member.enter(0.0, COST, "normal")
    member.enter(0.0, COST, "normal")
    member.report(0.0)
    member.enter(0.001, COST, "normal")
    assert member.asks == 2
    member.accept(answer(1.0, 100.0), 0.002)
    assert member.due <= 0.002
    member.report(0.002)
    member.enter(0.003, COST, "normal")
    member.accept(answer(1.0, 100.0), 0.004)
    assert member.asks == 3
    assert member.due <= 0.004


def test_an_interactive_call_behind_a_batch_asks_at_once() -> None:
    """The batch's turn may be far away; it is not behind it."""
    member = Member()
    member.enter(0.0, COST, "batch")
    member.enter(0.0, COST, "batch")
    exchange(member, 0.0, answer(again=1.0))
    asks = member.asks
    member.enter(0.1, COST, "batch")
    assert member.asks == asks
    member.enter(0.1, COST, "interactive")
    assert member.asks == asks + 1


def test_a_refusal_is_told_at_once_with_its_cause() -> None:
    """So that the others stop, and their waits can be linked to it."""
    member = Member()
    call = member.enter(0.0, COST, "normal")
    exchange(member, 0.0, answer(again=1.0))
    asks = member.asks
    refusal = Throttle(delay=2.0, source="retry-after")
    member.settle(call, Attempt(0.1, throttle=refusal, succeeded=False), cause="span 1")
    assert member.asks == asks + 1
    report = member.report(0.1).wire()
    assert report["cause"] == "span 1"
    assert 2.0 <= report["closed"] <= 2.1


def test_a_throttled_call_holds_its_place_and_comes_in_time() -> None:
    """Promised meanwhile, not waiting; the next exchange is due when it may come."""
    member = Member()
    call = member.enter(0.0, COST, "normal")
    exchange(member, 0.0, answer())
    member.settle(call, Attempt(0.1, throttle=Throttle(delay=0.5, source="retry-after"), succeeded=False))
    member.requeue(call, 0.1, 0.6)
    report = exchange(member, 0.1, answer())
    assert report["hold"][:2] == [1.0, 100.0]
    assert report["lanes"] == [[], [], []]
    assert member.due == pytest.approx(0.6)
    assert [len(lane) for lane in member.report(0.6).wire()["lanes"]] == [0, 1, 0]


def test_the_cause_of_another_process_is_linked_to() -> None:
    """Once: one's own newer cause is not replaced by an old one of others."""
    member = Member()
    exchange(member, 0.0, answer(cause="span 9"))
    assert member.cause == "from afar: span 9"
    member.admission.cause = "mine"
    exchange(member, 0.1, answer(cause="span 9"))
    assert member.cause == "mine"


def test_out_of_reach_the_own_buckets_decide() -> None:
    """And the lease is back with the next answer."""
    member = Member()
    first = member.enter(0.0, COST, "normal")
    exchange(member, 0.0, answer(again=1.0))
    member.settle(first, Attempt(0.1, readings=[reading(250.0)], succeeded=True))
    calls = [member.enter(0.2, COST, "normal") for _ in range(3)]
    member.report(0.2)
    member.fail(0.25)
    assert [call.admitted for call in calls] == [True, True, False]  # 250 left, and what flowed in
    assert member.asks
    exchange(member, 0.3, answer(1.0, 100.0))
    assert calls[2].admitted


def test_a_process_that_lost_its_fleet_keeps_to_its_part_of_the_queue() -> None:
    """A quarter of what waited was its own: it takes a quarter of what is left and flows in, and slowly more."""
    member = Member()
    member.enter(0.0, COST, "normal")
    calls = [member.enter(0.0, COST, "normal") for _ in range(20)]
    levels = {"tokens///": [1, 400.0, 100.0, 0.0, 6000.0]}
    exchange(member, 0.0, answer(levels=levels, others=[60.0, 6000.0, 0.0, 0.0], live=4))
    member.fail(0.0)
    assert sum(call.admitted for call in calls) == 1  # 100 of the 400 that were left
    gone = []
    for second in range(1, 21):
        member.check(calls[-1], float(second))
        gone.append(sum(call.admitted for call in calls))
    assert gone[:8] == [1, 1, 1, 2, 2, 2, 3, 3]  # 25 a second, growing by a tenth of that: 126, 155, 186, 220, 256, ...
    assert gone[-1] == 11  # 100 + 25 * (20 + 20 * 20 / 20) = 1,100
    exchange(member, 20.0, answer(20.0, 2000.0))
    assert all(call.admitted for call in calls)


def test_a_process_that_lost_a_fleet_without_a_queue_is_free() -> None:
    """Nobody waited: nothing is to be shared out."""
    member = Member()
    member.enter(0.0, COST, "normal")
    exchange(member, 0.0, answer(levels={"tokens///": [1, 100.0, 1.0, 0.0, 6000.0]}, live=100))
    member.fail(0.0)
    assert all(member.enter(0.1, COST, "normal").admitted for _ in range(10))


def test_answers_to_calls_that_the_fleet_let_go_do_not_judge_the_own_buckets() -> None:
    """They know nothing of what others use: a margin learned from that would hold the process back once it is alone."""
    member = Member()
    call = member.enter(0.0, COST, "normal")
    exchange(member, 0.0, answer())
    member.settle(call, Attempt(0.1, readings=[reading(500.0)], succeeded=True))
    call = member.enter(0.2, COST, "normal")
    exchange(member, 0.2, answer(1.0, 100.0))
    assert call.admitted
    member.settle(call, Attempt(0.3, readings=[reading(-400.0)], succeeded=True))
    (tracked,) = member.limiter.own.tracked.buckets.tracked
    assert tracked.bucket.margin == 0.0


def test_what_was_used_while_alone_is_told_afterwards() -> None:
    """Totals do not care who was listening."""
    member = Member()
    member.enter(0.0, COST, "normal")
    member.fail(0.0)
    for _ in range(4):
        assert member.enter(0.1, COST, "normal").admitted
    assert member.report(1.0).wire()["used"][:2] == [5.0, 500.0]


def test_an_idle_process_renews_less_often_and_leaves_in_the_end() -> None:
    """Its next call joins anew, and does not wait."""
    member = Member()
    member.enter(0.0, COST, "normal")
    assert not member.sleeps(0.0)
    exchange(member, 0.0, answer())
    exchange(member, 1.0, answer())
    assert member.due == pytest.approx(1.0 + HEARTBEAT)
    exchange(member, 100.0, answer())
    assert member.due == pytest.approx(105.0)
    assert not member.sleeps(DORMANT)
    assert member.sleeps(DORMANT + 1.0)
    member.report(DORMANT + 1.0, leaving=True)
    member.leave_fleet(DORMANT + 1.0)
    assert member.due == float("inf")
    assert member.enter(1000.0, COST, "normal").admitted


def test_the_expected_turn_counts_the_whole_fleets_queue() -> None:
    """First come first served over all processes: of what the others wait for, the part that came earlier is ahead."""
    member = Member()
    member.enter(0.0, COST, "normal")
    call = member.enter(0.0, COST, "normal")
    levels = {"tokens///": [1, 0.0, 10.0, 0.0, 600.0]}
    exchange(member, 0.0, answer(levels=levels, others=[9.0, 900.0, 0.0, 0.0]))
    assert member.turn(call, 0.0) == pytest.approx((100.0 + 900.0) / 10.0)


def test_the_clock_may_be_set_back() -> None:
    """Nothing waits for the old time to come again."""
    member = Member()
    member.enter(1000.0, COST, "normal")
    exchange(member, 1000.0, answer())
    call = member.enter(500.0, COST, "normal")
    at = member.check(call, 500.0)
    assert at is not None
    assert at < 502.0


def test_an_answer_that_is_none_changes_nothing() -> None:
    """A program of another version, or a broken server: an exception for the courier, and the process goes on alone."""
    member = Member()
    member.enter(0.0, COST, "normal")
    member.report(0.0)
    with pytest.raises(AnswerError):
        member.accept({}, 0.0)
    member.fail(0.0)
    assert member.enter(0.1, COST, "normal").admitted


def test_a_long_delay_that_one_call_was_told_closes_the_fleet_for_seconds_only() -> None:
    """A short one for as long as the server said; one of a day for ten seconds after the refusal, unless that is renewed."""
    member = Member()
    ticket = member.enter(0.0, COST, "normal")
    exchange(member, 0.0, answer(10.0, 1_000.0))
    member.settle(ticket, Attempt(1.0, throttle=Throttle(delay=86_400.0, source="retry-after"), succeeded=False))
    member.leave(ticket, 1.0)
    assert member.report(2.0).wire()["closed"] == pytest.approx(9.0)
    member.accept(answer(10.0, 1_000.0), 2.0)
    assert member.report(11.5).wire()["closed"] == 0.0


def test_where_several_deployments_answer_each_process_finds_its_own_part() -> None:
    """What is shared is the state of one bucket, and says nothing of their sum: sizes that return show that there are several,
    and the process goes by the rate that it finds by trial."""
    member = Member()
    sizes = (10_000.0, 30_000.0, 10_000.0, 30_000.0)
    for number, size in enumerate(sizes):
        now = 0.1 * number
        ticket = member.enter(now, COST, "normal")
        exchange(member, now, answer(10.0, 1_000.0))
        member.check(ticket, now)
        assert ticket.admitted
        attempt = Attempt(now + 0.05, succeeded=True, readings=(reading(0.5 * size, size),))
        member.settle(ticket, attempt)
    assert member.limits.own.tracked.buckets.several
    exchange(member, 1.0, answer(0.0, 0.0))
    assert member.limits.decides(1.0) is False
    admitted = [member.enter(1.0 + number, COST, "normal").admitted for number in range(3)]
    assert any(admitted)  # though the fleet hands out nothing


def several(member: Member, at: float, sizes: tuple[float, ...] = (10_000.0,) * 4) -> None:
    """More is left each time than one bucket can hold: the process finds out that there are several. Ends 0.35 s later."""
    for number, size in enumerate(sizes):
        now = at + 0.1 * number
        ticket = member.enter(now, COST, "normal")
        exchange(member, now, answer(10.0, 1_000.0))
        member.check(ticket, now)
        left = reading((0.1 + 0.2 * number) * size, size)
        member.settle(ticket, Attempt(now + 0.05, succeeded=True, readings=(left,)))


def knows_one(at: float = 0.0) -> Member:
    """A process that has seen one bucket."""
    member = Member()
    ticket = member.enter(at, COST, "normal")
    member.settle(ticket, Attempt(at + 0.05, succeeded=True, readings=(reading(5_000.0),)))
    return member


def test_that_there_are_several_is_told_and_believed() -> None:
    """A process that hears of it need not be refused to find it out; and tells of it once a call was served so."""
    finder, hearer = Member(), knows_one()
    several(finder, 0.0)
    told = finder.report(0.45).wire()["several"]
    assert told == ["tokens/", pytest.approx(0.1)]
    exchange(hearer, 0.5, answer(10.0, 1_000.0))
    assert not hearer.limits.own.tracked.buckets.several
    exchange(hearer, 1.0, answer(10.0, 1_000.0, several=told))
    assert hearer.limits.own.tracked.buckets.several
    assert hearer.report(1.1).wire()["several"] is None  # it knows no more than it was told
    ticket = hearer.enter(1.2, COST, "normal")
    assert ticket.admitted
    hearer.settle(ticket, Attempt(1.25, succeeded=True, readings=(reading(5_000.0),)))
    assert hearer.report(1.3).wire()["several"] == ["tokens/", pytest.approx(0.05)]


def test_of_several_that_differ_in_size_the_others_are_not_told() -> None:
    """The rate of one process is cut too deeply there; all of them would be."""
    finder = Member()
    several(finder, 0.0, (10_000.0, 30_000.0, 10_000.0, 30_000.0))
    assert finder.limits.own.tracked.buckets.several
    assert finder.report(0.45).wire()["several"] is None


def test_what_is_told_of_other_limits_than_ours_changes_nothing() -> None:
    hearer = knows_one()
    exchange(hearer, 0.5, answer(10.0, 1_000.0, several=["requests/", 0.1]))
    assert not hearer.limits.own.tracked.buckets.several


@pytest.mark.parametrize("told", ["tokens/", ["tokens/"], ["tokens/", -1.0], [1, 1.0], ["x" * 201, 1.0]])
def test_a_finding_of_another_shape_is_no_answer(told: Any) -> None:
    member = knows_one()
    with pytest.raises(AnswerError):
        exchange(member, 0.5, answer(10.0, 1_000.0, several=told))


@pytest.mark.parametrize(("later", "believed"), [(9.0, False), (11.0, True)])
def test_who_found_one_bucket_after_all_keeps_to_that_for_a_while(later: float, believed: bool) -> None:
    """Else processes would tell each other for ever what none of them finds."""
    member = Member()
    several(member, 0.0)
    member.limits.own._several._end()  # nearly all were refused
    ticket = member.enter(1.0, COST, "normal")
    ticket = ticket if ticket.admitted else member.enter(30.0, COST, "normal")
    found_at = 1.05
    member.limits.own._several._known = math.inf  # and nothing starts it again
    member.settle(ticket, Attempt(found_at, succeeded=True, readings=(reading(5_000.0),)))
    assert not member.limits.own.tracked.buckets.several
    exchange(member, found_at + later, answer(10.0, 1_000.0, several=["tokens/", 0.0]))
    assert member.limits.own.tracked.buckets.several is believed


def test_a_call_goes_early_against_the_fleets_word_too() -> None:
    """After 25 calls the first that waits asks the server; served, two more go at once."""
    member = knows_one()
    flows: dict[str, Any] = {"levels": {"tokens///": [1, 0.0, 100.0, 50.0, 10_000.0]}}
    for number in range(26):
        now = 0.1 + 0.01 * number
        exchange(member, now, answer(1.0, 100.0, **flows))
        ticket = member.enter(now, COST, "normal")
        assert ticket.admitted
        member.settle(ticket, Attempt(now + 0.005, succeeded=True))
    exchange(member, 0.5, answer(0.0, 0.0, **flows))
    first = member.enter(0.5, COST, "normal")  # a burst that has just emptied the limit is no time to ask
    assert not first.admitted
    member.limits.own.probes._early_by = 0
    member.check(first, 0.51)
    assert first.admitted
    assert first.reservation.early
    assert first.reservation.predictions == [
        (member.limits.own.tracked.buckets.holding[0].bucket, pytest.approx(-99.0))
    ]
    member.settle(first, Attempt(0.52, succeeded=True))
    assert [member.enter(0.53, COST, "normal").admitted for _ in range(3)] == [True, True, False]


def test_one_process_asks_for_the_whole_fleet() -> None:
    """Within 15 seconds of a call that went early elsewhere none does here; and its own are told with their age."""
    member = knows_one()
    flows: dict[str, Any] = {"levels": {"tokens///": [1, 0.0, 0.001, 50.0, 10_000.0]}}
    assert exchange(member, 0.1, answer(0.0, 0.0, **flows))["early"] is None
    exchange(member, 0.2, answer(0.0, 0.0, early=1.0, **flows))
    member.limits.own.probes._early_by, member.limits.own.probes._early_at = 0, -100.0
    ticket = member.enter(0.3, COST, "normal")
    for now, goes in ((13.0, False), (14.3, True)):
        exchange(member, now, answer(0.0, 0.0, **flows))
        assert (member.check(ticket, now + 0.001) is None) is goes
    assert ticket.reservation.early
    assert member.report(15.3).wire()["early"] == pytest.approx(1.0, abs=0.01)


def test_no_call_goes_early_where_the_fleet_only_has_not_answered_yet() -> None:
    """It holds enough, and will hand it out: there is nothing to ask the server."""
    member = knows_one()
    flows: dict[str, Any] = {"levels": {"tokens///": [1, 5_000.0, 100.0, 50.0, 10_000.0]}}
    exchange(member, 0.1, answer(0.0, 0.0, **flows))
    member.limits.own.probes._early_by, member.limits.own.probes._early_at = 0, -100.0
    assert not member.enter(0.11, COST, "normal").admitted


@pytest.mark.parametrize(("live", "part"), [(1, 1.0), (4, 1.0), (8, 0.5), (100, 0.04)])
def test_a_large_fleet_does_not_start_as_if_each_were_alone(live: int, part: float) -> None:
    """All of them start at once where one has found several; the rate of each is its part of what they allow."""
    rates = []
    for others in (1, live):
        hearer = knows_one()
        exchange(hearer, 1.0, answer(10.0, 1_000.0, several=["tokens/", 0.0], live=others))
        ticket = hearer.enter(1.1, COST, "normal")
        hearer.settle(ticket, Attempt(1.15, succeeded=True, readings=(reading(5_000.0),)))
        assert hearer.limits.own._several.on
        rates.append(hearer.limits.own._several._known)
    assert rates[1] == pytest.approx(part * rates[0])
