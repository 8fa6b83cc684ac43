"""Which bucket a header or a message is about."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.buckets.estimate import Bucket
from otel_ratelimit._core.buckets.identify import Buckets
from otel_ratelimit._core.buckets.tracked import Call, Tracked

CALL = Amounts(1.0, 1_500.0)


@dataclass(frozen=True)
class Reading:
    kind: str = "tokens"
    scope: str = ""
    window_name: str | None = None
    limit: float = 200_000.0
    remaining: float | None = 0.0
    reset: float | None = None


def call(sequence: int = 1, at: float = 0.0, *, taken: Amounts = Amounts(), latest: int = 0) -> Call:  # noqa: B008
    """A request that left at ``at``."""
    return Call(CALL, at, sequence, taken, latest, taken)


def say(bucket: Bucket, level: float, *, at: float, sequence: int, now: float) -> None:
    bucket.anchor(level, sent_at=at, taken=0.0, sequence=sequence, now=now, taken_now=0.0)


def message(
    buckets: Buckets, limit: float, window: float | None = 60.0, level: float = 0.0, of: Call | None = None,
    reported: dict[Tracked, float] | None = None,
) -> Tracked:  # fmt: skip
    """A refusal's message."""
    tracked = buckets.of_message("tokens", limit, window, level=level, reported=reported or {}, call=of or call())
    assert tracked is not None
    return tracked


def header(buckets: Buckets, reading: Reading, of: Call | None = None) -> Tracked:
    """A header of an answer."""
    tracked = buckets.of_reading(reading, of or call())
    assert tracked is not None
    return tracked


def test_a_header_of_a_shallow_bucket_is_understood() -> None:
    """10,000 a minute enforced as 166 a second: what it took for others' use is forgotten, and it holds a second's refill."""
    buckets = Buckets()

    def read(sequence: int, remaining: float, reset: float) -> Bucket:
        reading = Reading(kind="requests", limit=10_000, remaining=remaining, reset=reset)
        return header(buckets, reading, call(sequence, float(sequence))).bucket

    bucket = read(1, 156, 0.064)
    bucket.drain = 100.0
    assert read(2, 115, 0.31) is bucket
    assert bucket.drain == 0.0
    assert bucket.capacity == pytest.approx(166.7, abs=1.0)
    assert bucket.rate == pytest.approx(166.7, abs=0.1)
    assert read(3, 100, 0.4) is bucket
    assert bucket.capacity == pytest.approx(166.7, abs=1.0)
    say(bucket, 9_000, at=4.0, sequence=4, now=4.1)
    assert bucket.capacity == 10_000  # more than it can hold: it was not so shallow after all


def test_a_message_and_a_header_of_one_limit_share_a_bucket() -> None:
    """Same kind and size, and the levels agree."""
    buckets = Buckets()
    tracked = header(buckets, Reading(remaining=500, reset=59.85))
    assert message(buckets, 200_000, level=400) is tracked
    assert len(buckets.tracked) == 1


def test_a_header_of_the_day_is_not_the_limit_that_refuses() -> None:
    """1,500,000 a day in the header, 200,000 a minute in the message: two buckets."""
    buckets = Buckets()
    day = header(buckets, Reading(limit=1_500_000, remaining=1_478_342, reset=1247.458))
    minute = message(buckets, 200_000, level=10, reported={day: 1_478_342})
    assert [tracked.bucket.window for tracked in buckets.tracked] == [86_400, 60]
    assert day is not minute


def test_a_refusal_beside_a_header_that_shows_plenty_is_a_second_bucket() -> None:
    """Enforced per second: both say 200,000 a minute, one has 196,000 left and the other nothing."""
    buckets = Buckets()
    shown = header(buckets, Reading(remaining=196_000, reset=1.2))
    say(shown.bucket, 196_000, at=0, sequence=1, now=0.06)
    hidden = message(buckets, 200_000, level=100, reported={shown: 196_000})
    assert hidden is not shown
    assert hidden.bucket.capacity == pytest.approx(200_000 / 60)


def test_a_header_that_shows_more_than_refill_can_have_brought_is_a_second_bucket() -> None:
    """The message spoke of the header's bucket; a second later the header shows half of the limit, where a sixtieth flowed in."""
    buckets = Buckets()
    shown = header(buckets, Reading(remaining=500))
    assert message(buckets, 200_000, level=100, of=call(1, 0.0, latest=1)) is shown
    assert header(buckets, Reading(remaining=100_000), call(2, 1.0, latest=2)) is not shown
    assert len(buckets.tracked) == 2


def test_a_header_that_shows_what_refill_has_brought_is_about_the_same_bucket() -> None:
    """Half a minute after the refusal half of the limit is there: for a lone caller that waited for it, say."""
    buckets = Buckets()
    shown = header(buckets, Reading(remaining=500))
    assert message(buckets, 200_000, level=100, of=call(1, 0.0, latest=1)) is shown
    assert header(buckets, Reading(remaining=100_000), call(2, 30.0, latest=2)) is shown
    assert len(buckets.tracked) == 1


def test_a_limit_that_changes_keeps_its_bucket() -> None:
    """A tier upgrade in mid-flight: same header, four times the size, four times the rate."""
    buckets = Buckets()
    before = header(buckets, Reading(remaining=0, reset=60.0))
    after = header(buckets, Reading(limit=800_000, remaining=700_000, reset=7.5), call(2, 1.0))
    assert after is before
    assert after.bucket.rate == pytest.approx(800_000 / 60)


def test_buckets_are_bounded() -> None:
    """A server that names a new limit with every answer does not fill the memory."""
    buckets = Buckets()
    for number in range(1, 1000):
        header(buckets, Reading(scope=str(number % 50), limit=number, remaining=0, reset=60.5))
        message(buckets, number * 7)
    assert len(buckets.tracked) <= 8
    assert len(buckets.slots) <= 8


numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 1e6), st.sampled_from([1e300, -1.0, 0.0])
)


@given(st.lists(st.tuples(numbers, numbers, numbers, st.booleans()), max_size=20))
def test_hostile_numbers_leave_a_bucket_that_answers(steps: list[tuple[float, float, float, bool]]) -> None:
    """Whatever a header or message says, the level is a number within the limit and every wait is no NaN."""
    buckets = Buckets()
    for sequence, (limit, remaining, reset, by_message) in enumerate(steps, 1):
        at = float(sequence)
        taken = Amounts(at, at, at, at)
        one = call(sequence, at, taken=taken, latest=sequence)
        if by_message:
            tracked = buckets.of_message("tokens", limit, 60.0, level=0.0, reported={}, call=one)
        else:
            tracked = buckets.of_reading(Reading(limit=limit, remaining=remaining, reset=reset), one)
        if tracked is None:
            continue
        bucket = tracked.bucket
        if not by_message:
            bucket.anchor(remaining, sent_at=at, taken=at, sequence=sequence, now=at + 1, taken_now=at + 1)
        assert -bucket.limit - 100 <= bucket.level(at + 1, at, sequence) <= bucket.limit
        assert bucket.ready(at + 1, at, min(10.0, bucket.limit), sequence) >= at + 1
        assert not math.isnan(bucket.drain + bucket.margin)
