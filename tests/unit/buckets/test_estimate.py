"""The arithmetic of one limit, against OpenAI's own numbers and values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ratelimit._core.buckets.estimate import Bucket, BucketTuning

TUNING = BucketTuning(boundary=0.0)
"""Times are worked out by hand here; what is left over for clocks and the network has a test of its own."""


def bucket_of(kind: str, scope: str, limit: float, window: float) -> Bucket:
    return Bucket(kind, scope, limit, window, TUNING)


def say(bucket: Bucket, level: float, *, at: float, taken: float, sequence: int, now: float, taken_now: float) -> None:
    """The server said that ``level`` was left when request ``sequence`` had been dealt with."""
    bucket.anchor(level, sent_at=at, taken=taken, sequence=sequence, now=now, taken_now=taken_now)


def test_a_burst_that_arrives_in_another_order_is_no_drain() -> None:
    """Two of many that left at once: what the server had counted in between says nothing of what others take."""
    bucket = bucket_of("tokens", "", 200_000, 60)
    say(bucket, 190_000, at=0.0, taken=1_500, sequence=1, now=1.0, taken_now=96_000)
    say(bucket, 110_000, at=0.001, taken=3_000, sequence=2, now=1.1, taken_now=96_000)
    assert bucket.drain < 0.001 * bucket.rate


def test_drain_fades_while_the_bucket_is_full() -> None:
    """Nobody can be taking much then."""
    bucket = bucket_of("tokens", "", 60_000, 60)
    say(bucket, 59_000, at=0.0, taken=0, sequence=1, now=0.1, taken_now=0)
    bucket.drain = TUNING.most_drain * bucket.rate
    for sent in range(2, 12):
        at = 30.0 * sent
        bucket.level(at, 0, sent)
        say(bucket, 59_000, at=at, taken=0, sequence=sent, now=at, taken_now=0)
    assert bucket.drain < 0.01 * bucket.rate


def test_a_call_waits_exactly_until_it_fits() -> None:
    """Limit 200000, Used 198337, Requested 1831: (198337 + 1831 - 200000) / (200000 / 60) = 50.4 ms."""
    bucket = bucket_of("tokens", "", 200_000, 60)
    say(bucket, 200_000 - 198_337, at=10.0, taken=0, sequence=1, now=10.06, taken_now=0)
    assert bucket.ready(10.0, 0, 1831, 1) == pytest.approx(10.0504)
    assert bucket.ready(10.06, 0, 1831, 1) == 10.06


def test_a_late_answer_counts_once() -> None:
    """Two calls of 1,000; the answer to the second says 150,000; the first one's, later, says 151,000: nothing new."""
    bucket = bucket_of("tokens", "", 200_000, 86_400)
    say(bucket, 150_000, at=1.0, taken=2_000, sequence=2, now=2.0, taken_now=2_000)
    assert bucket.level(1.0, 2_000, 2) == 150_000
    say(bucket, 151_000, at=0.9, taken=1_000, sequence=1, now=5.0, taken_now=2_000)
    assert bucket.level(1.0, 2_000, 2) == 150_000


def test_what_was_sent_since_is_taken_off() -> None:
    """An answer to request 1 (sent at 0) at 2 s, with 3,000 more reserved since: 100,000 + 2 * 3,333.3 - 3,000."""
    bucket = bucket_of("tokens", "", 200_000, 60)
    say(bucket, 100_000, at=0.0, taken=1_000, sequence=1, now=2.0, taken_now=4_000)
    assert bucket.level(2.0, 4_000, 3) == pytest.approx(103_666.67, abs=0.01)


def test_refill_is_lost_while_full() -> None:
    """A bucket that was full for an hour holds its limit and no more."""
    bucket = bucket_of("tokens", "", 6_000, 60)
    assert bucket.level(3_600.0, 0, 0) == 6_000
    assert bucket.level(3_600.0, 6_000, 1) == 0
    assert bucket.level(3_601.0, 6_000, 1) == 100


def test_a_bucket_that_shows_more_than_it_was_thought_to_hold_holds_its_limit() -> None:
    """Believed to be enforced by the second, 1,000 of 60,000; a header shows 30,000 left: twenty calls of 1,000 fit at once."""
    bucket = bucket_of("tokens", "", 60_000, 60)
    bucket.enforce_per_second(500)
    assert bucket.capacity == 1_000
    say(bucket, 1_100, at=0.0, taken=0, sequence=1, now=0.1, taken_now=0)  # refill while the answer travels
    assert bucket.capacity == 1_000
    say(bucket, 30_000, at=1.0, taken=0, sequence=2, now=1.1, taken_now=0)
    assert [bucket.ready(1.1, 1_000.0 * sent, 1_000, 2 + sent) for sent in range(20)] == [1.1] * 20


def test_others_are_seen_as_drain() -> None:
    """Readings 5 s apart show 50 a second less than refill and our own 0: after some time that is taken off the rate."""
    bucket = bucket_of("tokens", "", 6_000, 60)
    level = 5_000.0
    for step in range(1, 12):
        level += 5 * (100 - 50)
        say(bucket, level - 3_000, at=5.0 * step, taken=0, sequence=step, now=5.0 * step + 1, taken_now=0)
    assert bucket.drain == pytest.approx(50, abs=1)
    assert bucket.refill_time(200, 55.0) == pytest.approx(4, abs=0.1)
    assert bucket.refill_time(1_500, 55.0) == pytest.approx(10 + 10, abs=0.3)  # after 10 s, others are supposed gone


def test_the_margin_follows_the_worst_error_and_is_capped() -> None:
    """Only errors downward widen it; a tenth of the limit is the most."""
    bucket = bucket_of("tokens", "", 10_000, 60)
    bucket.judge(+500)
    assert bucket.margin == 0
    bucket.judge(-300)
    bucket.judge(-10)
    assert bucket.margin == pytest.approx(300, rel=0.01)
    bucket.judge(-1e300)
    assert bucket.margin == TUNING.margin_cap * 10_000


def test_silence_makes_bold() -> None:
    """Without a word the bucket dares more and more, so that a belief that is too low is found out."""
    bucket = bucket_of("tokens", "", 200_000, 60)
    say(bucket, 0, at=0.0, taken=0, sequence=1, now=0.06, taken_now=0)
    waits = []
    for calls in (0, 200, 400, 800):
        while bucket.silent < calls:
            bucket.pass_over(1_500, 0, 0)
        waits.append(bucket.ready(0.0, 0, 1_500, 1))
    assert waits == sorted(waits, reverse=True)
    assert waits[0] == pytest.approx(0.45)
    assert waits[1] == 0.0


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(1, 3_000)), min_size=1, max_size=120),
    st.floats(3_000, 50_000),
    st.sampled_from([1.0, 60.0]),
)
def test_told_the_truth_it_never_admits_more_than_the_limit(
    calls: list[tuple[float, float]], limit: float, window: float
) -> None:
    """In any stretch of time no more than a full bucket and its refill is let go: the server's own bucket never runs dry."""
    bucket = bucket_of("tokens", "", limit, window)
    server = limit
    now = at = taken = 0.0
    for sent, (gap, need) in enumerate(calls, 1):
        now = max(now + gap, bucket.ready(now + gap, taken, need, sent - 1))
        now = max(now, bucket.ready(now, taken, need, sent - 1))
        server = min(limit, server + (now - at) * limit / window)
        at = now
        assert server >= need * (1 - 1e-6) - 1e-3
        server -= need
        taken += need
        if sent % 3 == 0:
            say(bucket, server, at=now, taken=taken, sequence=sent, now=now, taken_now=taken)


def fixed_window() -> Bucket:
    """Ten requests in five seconds, all of them gone, and the window ends at 5.0."""
    bucket = bucket_of("requests", "", 10, 5)
    bucket.fix(5.0)
    bucket.anchor(0.0, sent_at=1.0, taken=10, sequence=10, now=1.1, taken_now=10, full_at=5.0)
    return bucket


def test_a_fixed_window_that_nobody_speaks_of_again_holds_no_call_for_ever() -> None:
    """Ten more went after its end, and no answer says what is left (a gateway sends them to another deployment): a window later
    it is another one in any case."""
    bucket = fixed_window()
    assert bucket.ready(2.0, 10, 1, 10) == 5.0
    assert bucket.ready(5.5, 19, 1, 19) == 5.5
    assert bucket.ready(5.5, 20, 1, 20) == 10.0
    assert bucket.ready(9.9, 20, 1, 20) == 10.0
    assert bucket.ready(10.0, 20, 1, 20) == 10.0
    assert bucket.ready(10.0, 30, 1, 30) == 15.0
    assert bucket.ready(1_000.0, 30, 1, 30) == 1_000.0
    assert bucket.ready(1_000.0, 40, 1, 40) <= 1_010.0


def test_a_fixed_window_whose_end_is_not_known_is_refilled_meanwhile() -> None:
    """The clock was set back, or an answer named no time: it must not stay empty for ever."""
    bucket = fixed_window()
    bucket.rewind(0.5)
    assert bucket.ready(0.5, 10, 1, 10) == pytest.approx(1.0)
    assert bucket.ready(60.0, 10, 10, 10) == 60.0
