"""The server's arithmetic, against numbers from real messages and others worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ratelimit.testing.buckets import Buckets, Limit, Refusal, State

DAY = 86_400.0


def refused(buckets: Buckets, now: float, tokens: int) -> Refusal:
    refusal = buckets.admit(now, tokens)
    assert refusal is not None
    return refusal


@pytest.mark.parametrize(
    ("limit", "window", "used", "requested", "delay"),
    [
        (30_000, 60.0, 29_937, 385, 0.644),  # 322 over at 500 a second
        (300_000, 60.0, 286_751, 16_144, 0.579),  # 2,895 at 5,000
        (1_500_000, DAY, 1_485_066, 16_144, 69.696),  # 1,210 at 17.361: 1m9.696s
        (12_000, 60.0, 4_437, 9_854, 11.455),  # 2,291 at 200
        (250_000, 60.0, 250_000, 149_514, 35.883),  # 149,514 at 4,166.7: 35.88336, truncated
    ],
)
def test_the_delays_of_real_messages(limit: float, window: float, used: int, requested: int, delay: float) -> None:
    """(Used + Requested - Limit) / (Limit / window), truncated to milliseconds; and the message's own numbers come back."""
    buckets = Buckets([Limit("tokens", limit, window, used=used)], 100.0)
    refusal = refused(buckets, 100.0, requested)
    assert (refusal.used, refusal.requested, refusal.delay) == (used, requested, delay)
    assert not refusal.too_large


def test_the_hint_is_up_to_a_millisecond_early() -> None:
    """Truncated as OpenAI's is: 35.883 s is too soon, a millisecond later is not."""
    buckets = Buckets([Limit("tokens", 250_000, used=250_000)], 0.0)
    assert refused(buckets, 0.0, 149_514).delay == 35.883
    assert refused(buckets, 35.883, 149_514).delay == 0.0
    assert buckets.admit(35.884, 149_514) is None


def test_a_bucket_refills_continuously_and_no_further_than_full() -> None:
    """600 a minute are ten a second, from the first moment on; two minutes fill it once."""
    buckets = Buckets([Limit("tokens", 600)], 0.0)
    assert buckets.admit(0.0, 600) is None
    assert refused(buckets, 0.05, 1).delay == 0.05
    assert buckets.admit(0.1, 1) is None
    assert buckets.admit(120.1, 600) is None
    assert refused(buckets, 120.1, 1).delay == 0.1


def test_a_clock_that_goes_back_refills_nothing() -> None:
    """Nor does it take anything away."""
    buckets = Buckets([Limit("tokens", 600, used=600)], 10.0)
    assert refused(buckets, 5.0, 10).delay == 1.0
    assert buckets.admit(11.0, 10) is None


def test_a_request_must_fit_every_limit_and_is_charged_to_every_one() -> None:
    """The limit that holds it up longest is named; a refusal takes no tokens from any."""
    limits = [Limit("tokens", 600), Limit("project_tokens", 300), Limit("tokens", 86_400, DAY, used=86_000)]
    buckets = Buckets(limits, 0.0)
    assert buckets.admit(0.0, 100) is None
    assert [state.remaining for state in buckets.states(0.0)] == [500, 200, 300]
    refusal = refused(buckets, 0.0, 300)  # 100 over at 5 a second; the day's limit has just room for it
    assert (refusal.limit.kind, refusal.delay) == ("project_tokens", 20.0)
    assert [state.remaining for state in buckets.states(0.0)] == [500, 200, 300]
    refusal = refused(buckets, 60.0, 420 - 60 + 1)  # the day refills one a second: 360 there
    assert refusal.limit.kind == "project_tokens"
    assert refusal.too_large


def test_the_longest_delay_is_the_one_that_is_told() -> None:
    """Coming back after the shorter one would be refused by the other limit."""
    buckets = Buckets([Limit("requests", 60, used=60), Limit("tokens", 600, used=600)], 0.0)
    refusal = refused(buckets, 0.0, 50)
    assert (refusal.limit.kind, refusal.delay) == ("tokens", 5.0)


def test_refused_requests_are_charged_to_the_request_limit() -> None:
    """As at OpenAI: three refusals for want of tokens, and of five requests two are left."""
    buckets = Buckets([Limit("requests", 5), Limit("tokens", 100, used=100)], 0.0)
    for _ in range(3):
        assert refused(buckets, 0.0, 10).limit.kind == "tokens"
    assert buckets.states(0.0)[0].remaining == 2
    kept = Buckets([Limit("requests", 5), Limit("tokens", 100, used=100)], 0.0, charge_refused=False)
    refused(kept, 0.0, 10)
    assert kept.states(0.0)[0].remaining == 5


@pytest.mark.parametrize(("limit", "window", "delay"), [(3, 60.0, 20.0), (30, 60.0, 2.0), (200, DAY, 432.0)])
def test_a_refusal_by_the_request_limit_reads_as_openais(limit: int, window: float, delay: float) -> None:
    """ "Limit 3, Used 3, Requested 1 ... 20s", "Limit 30, Used 30, Requested 1 ... 2s": always a whole request's time,
    since the refused one was charged."""
    buckets = Buckets([Limit("requests", limit, window, used=limit - 0.5)], 0.0)
    refusal = refused(buckets, 0.0, 0)
    assert (refusal.used, refusal.requested, refusal.delay) == (limit, 1, delay)


def test_whoever_comes_back_after_the_delay_is_admitted() -> None:
    """Although the refusal itself was charged: a delay that did not know of it would be refused for ever."""
    buckets = Buckets([Limit("requests", 60, used=59.5)], 0.0)
    delay = refused(buckets, 0.0, 0).delay
    assert delay == 1.0
    assert buckets.admit(delay, 0) is None


def test_without_charging_the_request_limit_waits_for_the_missing_part_only() -> None:
    """Half a request is there, so half of one's time is missing."""
    buckets = Buckets([Limit("requests", 60, used=59.5)], 0.0, charge_refused=False)
    assert refused(buckets, 0.0, 0).delay == 0.5
    assert buckets.admit(0.5, 0) is None


def test_a_request_larger_than_the_limit_never_fits() -> None:
    """It is called too large, whatever other limit would hold it up longer; of exactly the limit's size it fits."""
    buckets = Buckets([Limit("requests", 1, DAY, used=1), Limit("tokens", 1000)], 0.0)
    refusal = refused(buckets, 0.0, 1001)
    assert (refusal.limit.kind, refusal.too_large) == ("tokens", True)
    assert Buckets([Limit("tokens", 1000)], 0.0).admit(0.0, 1000) is None


def test_a_quantum_lets_only_its_share_through_at_once() -> None:
    """60,000 a minute enforced by the second: 1,000 at once, refilled at the same speed; the headers speak of the minute."""
    buckets = Buckets([Limit("tokens", 60_000, quantum=1.0)], 0.0)
    assert buckets.admit(0.0, 1_000) is None
    assert buckets.states(0.0) == [State(Limit("tokens", 60_000, quantum=1.0), 59_000, 1.0)]
    refusal = refused(buckets, 0.0, 500)
    assert (refusal.used, refusal.delay, refusal.too_large) == (1_000, 0.5, False)
    assert buckets.admit(0.5, 500) is None
    assert buckets.admit(60.0, 1_000) is None
    assert refused(buckets, 60.0, 1_001).too_large  # or its sender would wait for ever


def test_a_limit_changed_in_mid_run_keeps_its_share_in_use() -> None:
    """A quarter used of 600 is a quarter used of 6,000, and it refills ten times as fast from then on."""
    buckets = Buckets([Limit("tokens", 600, used=150)], 0.0)
    buckets.change(0.0, Limit("tokens", 6_000))
    assert buckets.states(0.0)[0].remaining == 4_500
    assert buckets.states(5.0)[0].remaining == 5_000
    buckets.change(5.0, Limit("tokens", 60))
    assert buckets.states(5.0)[0].remaining == 50


def test_a_limit_of_another_window_is_added() -> None:
    """The old one stays."""
    buckets = Buckets([Limit("tokens", 600)], 0.0)
    buckets.change(0.0, Limit("tokens", 1000, DAY, used=990))
    assert [state.remaining for state in buckets.states(0.0)] == [600, 10]
    assert refused(buckets, 0.0, 11).limit.window == DAY


def test_somebody_else_uses_a_part() -> None:
    """No more than is there; and a kind that has no limit is a mistake of the test's author."""
    buckets = Buckets([Limit("tokens", 600), Limit("requests", 10)], 0.0)
    buckets.take(0.0, "tokens", 590)
    assert [state.remaining for state in buckets.states(0.0)] == [10, 10]
    buckets.take(0.0, "tokens", 10_000)
    assert refused(buckets, 0.0, 10).delay == 1.0
    with pytest.raises(ValueError, match="no limit of kind 'project_tokens'"):
        buckets.take(0.0, "project_tokens", 1)


def test_reset_is_the_time_until_full() -> None:
    """Not until a request fits: 300 of 600 used are full again in half a minute."""
    (state,) = Buckets([Limit("tokens", 600, used=300)], 0.0).states(0.0)
    assert (state.remaining, state.reset) == (300, 30.0)


def test_without_limits_everything_is_admitted() -> None:
    """Nothing to enforce, nothing to tell."""
    buckets = Buckets([], 0.0)
    assert buckets.admit(0.0, 10**9) is None
    assert buckets.states(0.0) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "images"}, "Limit.kind must be one of requests, tokens, project_tokens; got 'images'"),
        ({"amount": 0}, "Limit.amount must be more than 0 and finite; got 0"),
        ({"amount": float("nan")}, "Limit.amount"),
        ({"amount": float("inf")}, "Limit.amount"),
        ({"window": -1.0}, "Limit.window"),
        ({"quantum": 0.0}, "Limit.quantum"),
        ({"used": -1.0}, "Limit.used"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    """The error names the value."""
    with pytest.raises(ValueError, match=message):
        Limit(**{"kind": "tokens", "amount": 1.0, **arguments})


STEPS = st.lists(
    st.tuples(st.floats(0, 30, allow_nan=False), st.integers(1, 700), st.floats(0, 50)), min_size=1, max_size=60
)


@given(
    steps=STEPS,
    amount=st.integers(50, 5_000),
    window=st.sampled_from([1.0, 60.0, DAY]),
    quantum=st.sampled_from([None, 0.5, 10.0]),
    used=st.integers(0, 6_000),
    charge=st.booleans(),
)
def test_no_stretch_of_time_admits_more_than_the_limit_and_its_refill(
    steps: list[tuple[float, int, float]], amount: int, window: float, quantum: float | None, used: int, charge: bool
) -> None:
    """Whatever is asked when, and whatever others take meanwhile; and every delay leads to room, to the millisecond."""
    limit = Limit("tokens", amount, window, used=used, quantum=quantum)
    buckets = Buckets([limit, Limit("requests", 20)], 0.0, charge_refused=charge)
    now = 0.0
    admitted: list[tuple[float, int]] = []
    for pause, tokens, taken in steps:
        now += pause
        buckets.take(now, "tokens", taken)
        refusal = buckets.admit(now, tokens)
        if refusal is None:
            admitted.append((now, tokens))
        elif not refusal.too_large and refusal.limit.kind == "requests":
            now += refusal.delay + 0.001
            again = buckets.admit(now, 0)
            assert again is None
            admitted.append((now, 0))
    for first, (begin, _) in enumerate(admitted):
        total = 0
        for count, (end, tokens) in enumerate(admitted[first:], start=1):
            total += tokens
            assert total <= amount * limit.share + limit.rate * (end - begin) + 1e-3
            assert count <= 20 + 20 / 60 * (end - begin) + 1e-3
