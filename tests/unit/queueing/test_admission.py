"""The queue over the limits: order, exactness, fairness, and what never may happen whatever is done in whatever order."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.buckets.estimate import BucketTuning
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.limiters.combined import CombinedLimiter
from otel_ratelimit._core.limiters.rate import Rate
from otel_ratelimit._core.limiters.tuning import Tuning
from otel_ratelimit._core.parsing.limits import LimitReading
from otel_ratelimit._core.policy import Priority
from otel_ratelimit._core.queueing.admission import Admission
from otel_ratelimit._core.queueing.ticket import IN_FLIGHT, Ticket
from otel_ratelimit._core.throttle import LimitKind, Throttle, ThrottleSource

CALL = Cost(input=1_000.0)


EXACT = Tuning(buckets=BucketTuning(boundary=0.0))
"""Times are worked out by hand here; what is left over for clocks and the network has a test of its own."""


def make() -> Admission:
    return Admission(CombinedLimiter(EXACT))


def rate_of(admission: Admission) -> Rate:
    """The trial rate of an admission made here."""
    assert isinstance(admission.limits, CombinedLimiter)
    return admission.limits._rate


def tokens(remaining: float, limit: float = 60_000.0, reset: float | None = None) -> tuple[LimitReading, ...]:
    return (LimitReading("tokens", "", "minute", limit, remaining, reset),)


def refusal(used: float, requested: float = 1_000.0, limit: float = 60_000.0, **rest: Any) -> Throttle:
    delay = max(0.0, (used + requested - limit) / (limit / 60))
    return Throttle(
        delay=delay,
        source="body-message",
        kind="tokens",
        window="minute",
        window_seconds=60.0,
        limit=limit,
        used=used,
        requested=requested,
        **rest,
    )


def emptied(now: float = 0.0) -> Admission:
    """60,000 a minute, so 1,000 (one call) a second, and nothing left at ``now``."""
    admission = make()
    ticket = admission.enter(now, CALL, "normal")
    admission.settle(ticket, Attempt(now, readings=tokens(0), succeeded=True))
    admission.leave(ticket, now)
    return admission


def serve(admission: Admission, waiting: list[Ticket], now: float, until: float) -> list[tuple[float, Ticket]]:
    """Let time pass as a driver would: each sleeps until it was told, or is woken. Returns who went when."""
    went = []
    told = {ticket: admission.check(ticket, now) for ticket in waiting}
    while told:
        for ticket in admission.take_wakes():
            if ticket in told:
                told[ticket] = now
        ticket = min(told, key=lambda one: told[one] if told[one] is not None else now)  # type: ignore[arg-type, return-value]
        at = told[ticket]
        now = max(now, at if at is not None else now)
        if now > until:
            break
        told[ticket] = admission.check(ticket, now)
        if told[ticket] is None:
            went.append((now, ticket))
            del told[ticket]
    return went


def test_a_call_that_no_limit_is_near_passes_at_once() -> None:
    """Nothing known, or plenty left."""
    admission = make()
    ticket = admission.enter(0.0, CALL, "normal")
    assert ticket.admitted
    admission.settle(ticket, Attempt(1.0, readings=tokens(59_000), succeeded=True))
    assert all(admission.enter(1.0, CALL, "normal").admitted for _ in range(20))
    assert admission.take_wakes() == []


def test_each_goes_exactly_when_its_cost_has_flown_in_and_in_order() -> None:
    """One call a second."""
    admission = emptied()
    waiting = [admission.enter(0.0, CALL, "normal") for _ in range(5)]
    went = serve(admission, waiting, 0.0, 10.0)
    assert [ticket for _, ticket in went] == waiting
    assert [at for at, _ in went] == pytest.approx([1, 2, 3, 4, 5], abs=0.01)


def test_only_the_first_has_a_timer() -> None:
    """The others are told a time after their turn is expected: they are woken before."""
    admission = emptied()
    waiting = [admission.enter(0.0, CALL, "normal") for _ in range(50)]
    times = [admission.check(ticket, 0.0) for ticket in waiting]
    assert times[0] == pytest.approx(1.0)
    assert all(time is not None and time >= turn + 1 for turn, time in enumerate(times[1:], 2))
    assert admission.check(waiting[0], 1.0) is None
    assert admission.take_wakes()[-1] is waiting[1]


def test_a_lost_caller_does_not_stop_the_queue() -> None:
    """The one in front never comes back and never leaves: those behind look after it in time."""
    admission = emptied()
    _lost, *others = [admission.enter(0.0, CALL, "normal") for _ in range(4)]
    went = serve(admission, others, 0.0, 30.0)
    assert len(went) == 3
    assert went[-1][0] < 10


def test_a_refused_call_goes_to_the_front_but_not_before_its_time() -> None:
    """It was there first; meanwhile its place is kept and nobody takes what it waits for."""
    admission = emptied()
    first, second = (admission.enter(0.0, CALL, "normal") for _ in range(2))
    assert admission.check(first, 1.0) is None
    admission.settle(first, Attempt(1.06, throttle=refusal(used=59_500), succeeded=False), cause="span")
    admission.requeue(first, 1.06, 1.7)
    assert admission.cause == "span"
    assert admission.check(first, 1.06) == 1.7
    went = serve(admission, [first, second], 1.06, 10.0)
    assert [ticket for _, ticket in went] == [first, second]
    # 500 were left at 1.0 s: the first fits at 1.5 s, the second at 2.5 s; plus the margin of 500 that the refusal taught,
    # and a little for the drain that it seems to show
    assert went[0][0] == pytest.approx(2.0, abs=0.15)
    assert went[1][0] - went[0][0] == pytest.approx(1.0, abs=0.15)


def test_a_refused_call_looks_again_when_its_delay_is_over_whatever_it_waits_for_beside() -> None:
    """Another one is in flight, and no more may be: its answer comes while the refused call may not go yet, and wakes nobody."""
    admission = make()
    other, ticket = (admission.enter(0.0, CALL, "normal") for _ in range(2))
    admission.settle(ticket, Attempt(0.1, throttle=Throttle(kind="concurrency", delay=1.0), succeeded=False))
    admission.requeue(ticket, 0.1, 1.1)
    told = admission.check(ticket, 0.1)
    admission.settle(other, Attempt(0.5, succeeded=True))
    admission.leave(other, 0.5)
    assert ticket not in admission.take_wakes()
    assert told == 1.1
    assert admission.check(ticket, 1.1) is None


def test_a_small_call_does_not_overtake_a_large_one() -> None:
    """Else the large one would wait for ever."""
    admission = emptied()
    large = admission.enter(0.0, Cost(input=8_000.0), "normal")
    small = [admission.enter(0.0, Cost(input=100.0), "normal") for _ in range(20)]
    went = serve(admission, [large, *small], 0.0, 100.0)
    assert went[0][1] is large
    assert went[0][0] == pytest.approx(8.0, abs=0.1)


def test_priorities_and_no_starvation() -> None:
    """Interactive before normal before batch, and each of them moves."""
    admission = emptied()
    kinds: list[Priority] = ["batch", "normal", "interactive"]
    waiting = {kind: [admission.enter(0.0, CALL, kind) for _ in range(150)] for kind in kinds}
    went = serve(admission, [ticket for group in waiting.values() for ticket in group], 0.0, 150.5)
    counts = {kind: sum(ticket.priority == kind for _, ticket in went) for kind in kinds}
    assert counts["interactive"] > 120
    assert counts["normal"] > 10
    assert counts["batch"] >= 2


def test_a_new_interactive_call_goes_before_those_that_wait() -> None:
    """However long the others have been there."""
    admission = emptied()
    waiting = [admission.enter(0.0, CALL, "normal") for _ in range(10)]
    assert len(serve(admission, waiting, 0.0, 3.5)) == 3
    urgent = admission.enter(3.5, CALL, "interactive")
    assert serve(admission, [*waiting[3:], urgent], 3.5, 4.5)[0][1] is urgent


def test_a_cancelled_caller_gives_its_place_back() -> None:
    """In the queue: those behind move up and are woken. Admitted but not sent yet: the reservation is free again."""
    admission = emptied()
    first, second, third = (admission.enter(0.0, CALL, "normal") for _ in range(3))
    assert admission.check(second, 0.0) is not None
    admission.leave(first, 0.5)
    admission.leave(first, 0.5)
    assert second in admission.take_wakes()
    assert admission.check(third, 1.0) is not None  # somebody else's timer: second is admitted on the way
    assert second.admitted
    admission.leave(second, 1.0)
    assert admission.check(third, 1.0) is None
    assert admission.waiting == 0


def test_who_waits_is_priced_anew() -> None:
    """The charge model learned since the call came: 1,000 became 2,000, and it waits two seconds."""
    admission = emptied()
    first = admission.enter(0.0, CALL, "normal")
    second = admission.enter(0.0, CALL, "normal")
    assert admission.check(first, 1.0) is None
    admission.settle(first, Attempt(1.0, throttle=refusal(used=60_000, requested=2_000.0), succeeded=False))
    admission.leave(first, 1.0)
    at = admission.check(second, 1.0)
    assert at is not None
    assert at >= 3.0


def test_a_turn_is_told_in_advance() -> None:
    """The hundredth in line goes in a hundred seconds; its budget can say so at once."""
    admission = emptied()
    waiting = [admission.enter(0.0, CALL, "normal") for _ in range(100)]
    assert admission.turn(waiting[0], 0.0) == pytest.approx(1, abs=0.01)
    assert admission.turn(waiting[99], 0.0) == pytest.approx(100, abs=0.1)
    assert admission.turn(admission.enter(0.0, CALL, "interactive"), 0.0) == pytest.approx(1, abs=0.1)


def test_a_request_larger_than_the_limit_does_not_wait_for_ever() -> None:
    """It is sent, because only the server can say so for sure, and what it says ends the call."""
    admission = emptied()
    giant = admission.enter(0.0, Cost(input=100_000.0), "normal")
    assert giant.admitted
    refused = Throttle(kind="tokens", limit=60_000, requested=100_000, retryable=False)
    admission.settle(giant, Attempt(0.06, throttle=refused, succeeded=False))
    admission.leave(giant, 0.06)
    following = admission.enter(0.06, CALL, "normal")
    assert admission.check(following, 0.06) == pytest.approx(1.0, abs=0.01)


def test_an_old_word_is_doubted_once_a_minute() -> None:
    """The day is used up, for hours. Calls are told so at once; but one a minute asks the server, who may know better."""
    admission = make()
    ticket = admission.enter(0.0, CALL, "normal")
    day = LimitReading("tokens", "", "day", 86_400.0, 0.0, 86_400.0)
    admission.settle(ticket, Attempt(0.0, readings=[day], succeeded=True))
    told = admission.enter(1.0, Cost(input=10_000.0), "normal")
    assert not told.admitted
    assert admission.turn(told, 1.0) == pytest.approx(10_000, rel=0.01)
    admission.leave(told, 1.0)
    probe, other = (admission.enter(61.0, Cost(input=10_000.0), "normal") for _ in range(2))
    assert probe.admitted
    assert not other.admitted


def test_a_reset_time_is_no_instruction_where_a_bucket_knows() -> None:
    """Headers only: full in 60 s, but the call fits in one."""
    admission = emptied()
    ticket = admission.enter(0.0, CALL, "normal")
    assert admission.check(ticket, 1.0) is None
    full = Throttle(delay=59.5, source="x-ratelimit-reset", kind="tokens")
    admission.settle(ticket, Attempt(1.06, readings=tokens(500, reset=59.5), throttle=full, succeeded=False))
    admission.requeue(ticket, 1.06, 60.5)
    at = admission.check(ticket, 1.06)
    assert at is not None
    assert at < 3


def test_a_bare_429_with_a_delay_closes_the_gate_for_all() -> None:
    """What one of them learned, the others share."""
    admission = make()
    ticket = admission.enter(0.0, CALL, "normal")
    admission.settle(ticket, Attempt(0.1, throttle=Throttle(delay=5.0, source="retry-after"), succeeded=False))
    admission.requeue(ticket, 0.1, 5.15)
    other = admission.enter(0.2, CALL, "normal")
    assert not other.admitted
    assert admission.turn(other, 0.2) >= 5.1
    went = serve(admission, [ticket, other], 0.2, 60.0)
    assert {who for _, who in went} == {ticket, other}
    assert all(5.1 < at < 12 for at, _ in went)


def test_an_overload_lowers_the_number_in_flight() -> None:
    """And an answer lets the next one go."""
    admission = make()
    out = [admission.enter(0.0, CALL, "normal") for _ in range(10)]
    admission.settle(out[0], Attempt(0.1, throttle=Throttle(kind="overload"), succeeded=False))
    admission.leave(out[0], 0.1)
    waiting = admission.enter(0.2, CALL, "normal")
    assert not waiting.admitted
    for ticket in out[1:3]:
        admission.settle(ticket, Attempt(0.3, succeeded=True))
    assert waiting.admitted
    assert waiting in admission.take_wakes()


def test_an_overload_that_is_over_in_135_milliseconds_is_no_matter_of_calls_in_flight() -> None:
    """What the server calls it says little: it counts time, so the next call need not wait for an answer of those in flight."""
    admission = make()
    out = [admission.enter(0.0, CALL, "normal") for _ in range(4)]
    admission.settle(out[3], Attempt(0.1, throttle=Throttle(kind="overload", delay=0.135), succeeded=False))
    admission.requeue(out[3], 0.1, 0.235)
    ((at, _),) = serve(admission, [out[3]], 0.1, 10.0)
    assert 0.235 <= at < 1.0
    assert admission.in_flight == 4


@pytest.mark.parametrize(
    ("delay", "source"),
    [(None, None), (0.0, "retry-after"), (1.0, "retry-after"), (60.0, "retry-after"), (59.3, "retry-after-date")],
)
def test_an_overload_that_names_whole_seconds_may_be_one_of_calls_in_flight(
    delay: float | None, source: ThrottleSource | None
) -> None:
    """A habit of the server's, often, and no account of anything. The fraction of a date is the clock's."""
    admission = make()
    out = [admission.enter(0.0, CALL, "normal") for _ in range(4)]
    admission.settle(out[3], Attempt(0.1, throttle=Throttle(delay, source, "overload"), succeeded=False))
    assert not admission.enter(0.2, CALL, "normal").admitted
    admission.settle(out[0], Attempt(0.3, succeeded=True))
    assert admission.waiting == 0


def test_slow_down_keeps_the_level() -> None:
    """Ten a second before, ten a second after."""
    admission = make()
    now = 0.0
    for _ in range(200):
        ticket = admission.enter(now, CALL, "normal")
        admission.settle(ticket, Attempt(now, succeeded=True))
        now += 0.1
    ticket = admission.enter(now, CALL, "normal")
    admission.settle(ticket, Attempt(now, throttle=Throttle(kind="overload"), slow_down=True, succeeded=False))
    waiting = [admission.enter(now, CALL, "normal") for _ in range(50)]
    went = serve(admission, waiting, now, now + 4.0)
    assert 35 <= len(went) <= 45


def test_the_clock_may_jump() -> None:
    """A laptop that slept for a day has full buckets; a clock that goes back stops nobody."""
    admission = emptied()
    waiting = [admission.enter(0.0, CALL, "normal") for _ in range(40)]
    for ticket in waiting[:20]:
        assert admission.check(ticket, 86_400.0) is None
    assert all(ticket.admitted for ticket in waiting)
    admission = emptied(now=1_000_000.0)
    ticket = admission.enter(1_000_000.0, CALL, "normal")
    at = admission.check(ticket, 1_000.0)
    assert at is not None
    assert at <= 1_001.1
    assert admission.check(ticket, 1_001.1) is None


@pytest.mark.parametrize("known", [False, True], ids=["bare", "numbers"])
def test_the_clock_may_be_set_back_during_a_call(known: bool) -> None:
    """The answer belongs to a request that left, by the new clock, an hour from now: nobody waits for that hour."""
    admission = make()
    now = 10_000.0
    tickets = [admission.enter(now, CALL, "normal") for _ in range(5)]
    now -= 3_600.0
    for ticket in tickets:
        words = tokens(0, reset=60.0) if known else []
        admission.settle(ticket, Attempt(now, readings=words, throttle=Throttle(kind="tokens"), succeeded=False))
        admission.requeue(ticket, now, now + 0.5)
    went = serve(admission, tickets, now, now + 60.0)
    assert {who for _, who in went} == set(tickets)


def test_far_below_the_limit_nothing_is_remembered_and_nobody_waits() -> None:
    """A hundred thousand calls leave no trace."""
    admission = make()
    for number in range(100_000):
        now = number * 0.1
        ticket = admission.enter(now, Cost(input=10.0), "normal")
        assert ticket.admitted
        admission.settle(ticket, Attempt(now, readings=tokens(59_000), succeeded=True, used_tokens=10))
        admission.leave(ticket, now)
    assert admission.in_flight == admission.waiting == 0
    assert len(admission.levels(0.0)) == 1


@settings(max_examples=150, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.data())
def test_whatever_happens_nothing_is_lost_and_nobody_waits_for_ever(data: st.DataObject) -> None:
    """Random interleavings of everything that a driver does, with a clock that jumps and a server that lies."""
    admission = make()
    alive: list[Ticket] = []
    settled: list[Ticket] = []
    now = 0.0
    number = st.one_of(st.floats(), st.floats(0, 1e5), st.sampled_from([0.0, 1e300, -1.0]))
    kinds: st.SearchStrategy[LimitKind] = st.sampled_from(
        ["tokens", "requests", "overload", "unknown", "concurrency", "images", "input_tokens"]
    )
    for _ in range(data.draw(st.integers(1, 60))):
        now += data.draw(st.sampled_from([0.0, 0.01, 0.5, 3.0, 70.0, 90_000.0, -0.001, -4_000.0]))
        action = data.draw(st.integers(0, 6))
        if action <= 1 or not alive:
            cost = Cost(data.draw(st.floats(0, 1e12)), data.draw(st.floats(0, 1e5)))
            alive.append(admission.enter(now, cost, data.draw(st.sampled_from(["interactive", "normal", "batch"]))))
            continue
        ticket = alive[data.draw(st.integers(0, len(alive) - 1))]
        if action == 2:
            at = admission.check(ticket, now)
            assert at is None or at > now or math.isinf(at)
        elif action == 3:
            was = ticket.admitted
            reading = LimitReading(data.draw(kinds), "", None, data.draw(number), data.draw(number), data.draw(number))
            throttle = None
            if data.draw(st.booleans()):
                throttle = Throttle(
                    delay=data.draw(st.one_of(st.none(), number)), source="body-message", kind=data.draw(kinds),
                    window="minute", window_seconds=60.0, limit=data.draw(number), used=data.draw(number),
                    requested=data.draw(number),
                    retryable=data.draw(st.booleans()),
                )  # fmt: skip
            attempt = Attempt(
                now, throttle is None, readings=[reading], throttle=throttle, used_tokens=data.draw(number),
                slow_down=data.draw(st.booleans()),
            )  # fmt: skip
            admission.settle(ticket, attempt)
            if was:
                settled.append(ticket)
        elif action == 4:
            admission.requeue(ticket, now, data.draw(st.one_of(st.just(now + 1), st.floats(0, 1e4))))
        elif action == 5:
            admission.leave(ticket, now)
            alive.remove(ticket)
        else:
            assert admission.turn(ticket, now) >= now or not ticket.admitted
            admission.take_wakes()
            admission.levels(now)
        assert admission.in_flight == sum(one.admitted for one in alive)
        assert admission.waiting == sum(one.state == 0 for one in alive)
    # Then the server falls silent but answers: everybody still gets through, in finite time.
    rounds = 0
    while admission.waiting or admission.in_flight:
        rounds += 1
        assert rounds < 2_000
        for ticket in alive:
            if ticket.admitted:
                admission.check(ticket, now)
                admission.settle(ticket, Attempt(now, succeeded=True))
                admission.leave(ticket, now)
            elif ticket.state == 0:
                at = admission.check(ticket, now)
                assert at is None or at > now
        waits = [at for ticket in alive if ticket.state == 0 and (at := admission.check(ticket, now)) is not None]
        own = [now if ticket.not_before is None else ticket.not_before for ticket in alive]
        answer_awaited = admission.in_flight > 0  # then a call may wait for just that, as long as it takes
        assert all(at <= max(now + 60.01, *own) or (math.isinf(at) and answer_awaited) for at in waits)
        now = max([now, *filter(math.isfinite, waits)])
    assert admission.in_flight == 0


@pytest.mark.parametrize("steady", [1, 100], ids=["a pause", "steady calls"])
def test_what_flowed_past_a_full_bucket_is_not_there_for_a_burst(steady: int) -> None:
    """60 calls fit into it, however long it was full before; none of them waits for the answer of another."""
    admission = make()
    first = admission.enter(0.0, CALL, "normal")
    admission.settle(first, Attempt(0.0, readings=tokens(59_000, reset=1.0), succeeded=True))
    admission.leave(first, 0.0)
    for number in range(steady):
        now = 1.0 + number * 0.5  # half of what flows in
        call = admission.enter(now, Cost(output=250.0), "normal")
        admission.settle(call, Attempt(now, readings=tokens(59_750, reset=0.25), succeeded=True))
        admission.leave(call, now)
    burst = [admission.enter(100.0, CALL, "normal") for _ in range(100)]
    assert sum(call.admitted for call in burst) == 60


def test_buckets_that_are_wrong_again_and_again_are_not_believed_alone() -> None:
    """The header shows plenty, and every answer is a refusal: a storm, but for the rate that is found by trial."""
    admission = make()
    now, sent = 0.0, 0
    while now < 60.0:
        ticket = admission.enter(now, CALL, "normal")
        if not ticket.admitted:
            at = admission.check(ticket, now)
            assert at is not None
            admission.leave(ticket, now)
            now = max(at, now + 0.01)
            continue
        sent += 1
        now += 0.06
        # what is left is always just what the bucket takes for too little, and a second later it expects plenty
        admission.settle(
            ticket,
            Attempt(now, readings=tokens(500, limit=6_000_000), throttle=Throttle(kind="tokens"), succeeded=False),
        )
    assert sent < 100


def test_the_trial_rate_is_dropped_once_the_buckets_are_right_again() -> None:
    """It held beside them only for as long as they were not to be believed."""
    admission = make()
    now = 0.0
    for refused in [True] * 8 + [False] * 200:
        ticket = admission.enter(now, CALL, "normal")
        while not ticket.admitted:
            now = max(admission.check(ticket, now) or now, now + 0.01)
        now += 0.06
        throttle = Throttle(kind="tokens") if refused else None
        level = 500 if refused else 5_000_000
        admission.settle(
            ticket, Attempt(now, readings=tokens(level, limit=6_000_000), throttle=throttle, succeeded=not refused)
        )
        admission.leave(ticket, now)
        now += 1.0
    assert not rate_of(admission).on


def test_watched_calls_go_at_once_and_are_told_what_waiting_would_have_taken() -> None:
    """Nobody is held, every call is counted, and the time that it would have been held is exact."""
    admission = emptied()
    held = []
    for _ in range(3):
        ticket = admission.ticket(CALL, "normal")
        held.append(admission.watch(ticket, 0.0))
        assert ticket.admitted
    assert held == pytest.approx([1.0, 2.0, 3.0], abs=0.01)
    assert admission.waiting == 0
    assert admission.in_flight == 3


def test_a_watched_call_far_from_the_limit_would_not_have_been_held() -> None:
    """Observe mode shows nothing where there is nothing to show."""
    admission = make()
    ticket = admission.ticket(CALL, "normal")
    seconds = admission.watch(ticket, 0.0)
    admission.settle(ticket, Attempt(1.0, readings=tokens(59_000), succeeded=True))
    assert seconds == 0.0
    assert admission.watch(admission.ticket(CALL, "normal"), 1.0) == 0.0


def closed(size: float) -> Admission:
    """A limit that was closed for a day by the refusal of a call of ``size`` tokens, at 1 s."""
    admission = make()
    ticket = admission.enter(0.0, Cost(input=size), "normal")
    admission.settle(ticket, Attempt(1.0, throttle=Throttle(delay=86_400.0, source="retry-after"), succeeded=False))
    admission.leave(ticket, 1.0)
    return admission


def test_a_refusal_is_no_evidence_against_a_call_that_came_later_or_is_smaller() -> None:
    """It may have been about the size: the servers that say 86,400 s for what never fits serve smaller calls meanwhile."""
    admission = make()
    waiting = [admission.enter(0.0, Cost(input=size), "normal") for size in [1_000.0] * 24 + [500.0, 1_000.0]]
    admission.settle(waiting[0], Attempt(1.0, throttle=Throttle(delay=86_400.0, source="retry-after"), succeeded=False))
    smaller, same = waiting[-2:]
    assert not smaller.admitted
    assert admission.closed_until(smaller) == (None, False)
    assert admission.closed_until(same) == (86_401.0, True)
    later = admission.enter(2.0, CALL, "normal")
    assert admission.closed_until(later) == (86_401.0, False)


def test_a_closed_limit_is_asked_ever_more_seldom_but_once_a_minute() -> None:
    """While callers wait one goes after 3 s, then after 6, 12, 24, 48, 60 and 60: each is refused, and the time doubles."""
    admission = closed(1_000.0)
    now = last = 1.0
    gaps: list[float] = []
    ticket = admission.enter(now, CALL, "normal")
    while len(gaps) < 7:
        at = admission.check(ticket, now)
        if at is not None:
            now = at
            continue
        gaps.append(round(now - last, 3))
        last = now
        admission.settle(ticket, Attempt(now, throttle=Throttle(delay=86_400.0, source="retry-after"), succeeded=False))
        admission.leave(ticket, now)
        ticket = admission.enter(now, CALL, "normal")
    assert gaps == [3.0, 6.0, 12.0, 24.0, 48.0, 60.0, 60.0]


def test_one_probe_at_a_time_and_two_for_each_that_is_served() -> None:
    """While the answer of one is out, no other goes; served, it lets two go, those four; refused, none."""
    admission = closed(1_000.0)
    waiting = [admission.enter(1.0, CALL, "normal") for _ in range(40)]
    went = serve(admission, waiting, 1.0, 50.0)
    assert len(went) == 1
    first = went[0][1]
    assert went[0][0] == pytest.approx(4.0)
    admission.settle(first, Attempt(50.0, succeeded=True))
    assert sum(ticket.admitted for ticket in waiting) >= 2


def test_a_success_that_left_after_the_refusal_opens_the_gate() -> None:
    """And one that had left before it does not."""
    admission = make()
    before, refused = (admission.enter(0.0, CALL, "normal") for _ in range(2))
    admission.settle(refused, Attempt(1.0, throttle=Throttle(delay=600.0, source="retry-after"), succeeded=False))
    admission.settle(before, Attempt(1.5, succeeded=True))
    held = admission.enter(2.0, CALL, "normal")
    assert not held.admitted
    assert admission.turn(held, 2.0) > 600.0
    went = serve(admission, [held], 2.0, 10.0)
    assert [who for _, who in went] == [held]
    admission.settle(held, Attempt(10.0, succeeded=True))
    assert admission.turn(admission.enter(10.0, CALL, "normal"), 10.0) < 30.0


def test_the_refusal_of_a_probe_says_nothing_against_the_pace_and_that_of_a_call_that_never_fits_neither() -> None:
    """What went out of turn, and what is larger than all that is served, and refused again and again: the others go on."""
    admission = make()
    first = [admission.enter(0.0, CALL, "normal") for _ in range(10)]
    for ticket in first:
        admission.settle(ticket, Attempt(0.1, throttle=Throttle(), succeeded=False))
        admission.leave(ticket, 0.1)
    rate = rate_of(admission).rate
    probe = admission.ticket(CALL, "normal")
    assert admission.watch(probe, 0.2) > 0.0
    admission.settle(probe, Attempt(0.3, throttle=Throttle(), succeeded=False))
    assert rate_of(admission).rate == rate
    now = 1.0
    large = admission.ticket(Cost(input=50_000.0), "normal")
    admission.join(large, now)
    for _ in range(6):
        small = admission.ticket(CALL, "normal")
        admission.watch(small, now)
        admission.settle(small, Attempt(now + 0.1, succeeded=True))
        while admission.check(large, now) is not None:
            now += 1.0
        admission.settle(large, Attempt(now, throttle=Throttle(), succeeded=False))
        rates = rate_of(admission).rate
        admission.requeue(large, now, now + 1.0)
    assert rates > 0.2 * rate


def sequence(ticket: Ticket) -> int:
    """Of the ticket's last request."""
    assert ticket.reservation is not None
    return ticket.reservation.sequence


def test_a_call_that_is_refused_again_and_again_lets_more_and_more_others_go_first() -> None:
    """One after its second refusal that no bucket explains, four after its third: it may be the only one that is refused."""
    admission = make()
    odd = admission.enter(0.0, CALL, "normal")
    others = [admission.enter(0.0, CALL, "normal") for _ in range(200)]
    now, order = 1.0, []
    for refusals in range(1, 6):
        admission.settle(odd, Attempt(now, throttle=Throttle(), succeeded=False))
        gone = max(sequence(ticket) for ticket in (odd, *others) if ticket.reservation is not None)
        admission.requeue(odd, now, now)
        went: list[Ticket] = []
        while odd.state != IN_FLIGHT:
            now += 10.0
            for ticket in (odd, *others):
                admission.check(ticket, now)
            for ticket in [one for one in others if one.state == IN_FLIGHT]:
                went.append(ticket)
                others.remove(ticket)
                admission.settle(ticket, Attempt(now, succeeded=True))
                admission.leave(ticket, now)
        turn = sequence(odd)
        order.append((refusals, sum(gone < sequence(ticket) < turn for ticket in went)))
    assert order[1:] == [(2, 1), (3, 4), (4, 16), (5, 64)]


def test_whoever_yields_goes_at_once_where_nobody_else_is_there() -> None:
    """There is no other one to compare with."""
    admission = make()
    ticket = admission.enter(0.0, CALL, "normal")
    for _ in range(4):
        admission.settle(ticket, Attempt(1.0, throttle=Throttle(), succeeded=False))
        admission.requeue(ticket, 1.0, 1.0)
        at = admission.check(ticket, 1.0)
        if at is not None:
            assert at < 60.0
            assert admission.check(ticket, at) is None
    admission.leave(ticket, 2.0)
    assert admission.queue.next(100.0) == (None, None)
