"""How long a limit's window is: inferred from readings, named by messages, and revised where a first guess was wrong."""

from __future__ import annotations

import pytest

from otel_ratelimit import parse_throttle
from otel_ratelimit._core.amounts import Amounts
from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.buckets.identify import Buckets
from otel_ratelimit._core.buckets.infer import shallow_of, slope_of, window_of
from otel_ratelimit._core.buckets.tracked import Call, Tracked
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.parsing.limits import LimitReading
from otel_ratelimit._core.queueing.admission import Admission


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "window"),
    [
        (1_500_000, 1_478_342, 20 * 60 + 47.458, 86_400),  # seen live: a tokens header that describes the day
        (10_000, 9_999, 0.006, 60),  # one request of 10,000 a minute: 6 ms
        (10_000, 9_999, 8.64, 86_400),  # one of 10,000 a day
        (200_000, 198_500, 0.45, 60),
        (200_000, 100_000, 30.0, 60),  # whole seconds: rounded to the second for all we know
        (3_600, 1_800, 1800.0, 3600),
        (300, 299, 0.2, 60),
        (200_000, 200_000, 0.0, None),  # full: says nothing
        (200_000, 198_500, None, None),
        (60, 59, 1.0, None),  # 1 s, give or take one: a second's limit, or a minute's
        (150_000, 149_984, 360.0, None),  # the documentation's own sample, which is made up
        (300, 200, 15.123, 45.369),  # no usual window, but a plausible one
        (100, 50, 1e300, None),
        (100, 101, 1.0, None),
    ],
)
def test_the_window_is_inferred(limit: float, remaining: float, reset: float | None, window: float | None) -> None:
    """Reset is the time until full, so limit * reset / missing is the window, within what rounding allows."""
    assert window_of(limit, remaining, reset) == (None if window is None else pytest.approx(window))


@pytest.mark.parametrize(
    ("limit", "first", "second", "shape"),
    [
        (
            10_000,
            (0, 1.0),
            (50, 0.7),
            (60, 1.0),
        ),  # 10,000 a minute of which a second's share can be saved up, and no limit
        (10_000, (0, 1.0), (5_000, 0.5), (1, 1.0)),  # a second: both show 0 and 1 s when empty
        (200_000, (10_000, 57.0), (190_000, 3.0), (60, 60)),
        (1_500_000, (1_478_342, 1247.458), (1_400_000, 5760.0), (86_400, 86_400)),
        (10_000, (160, 0.040), (163, 0.022), None),  # rounding could have made it anything
        (200_000, (10_000, 60.0), (50_000, 60.0), None),  # not the time until full
        (200_000, (10_000, 45.0), (50_000, 57.0), None),
    ],
)
def test_two_readings_tell_window_and_depth(
    limit: float, first: tuple[float, float], second: tuple[float, float], shape: tuple[float, float] | None
) -> None:
    """What is missing until full grows by the refill rate; the order of the two does not matter."""
    grain = 0.001 if (first[1] % 1) or (second[1] % 1) else 1.0
    for one, other in ((first, second), (second, first)):
        found = slope_of(one, other, limit, grain)
        assert found == (None if shape is None else pytest.approx(shape, rel=0.05))


@pytest.mark.parametrize(
    ("limit", "first", "second", "depth"),
    [
        (10_000, (160, 0.040), (163, 0.022), 1.0),
        (1_000_000, (16_665, 0.0), (16_660, 0.0), 1.0),  # full, though it shows a sixtieth of the limit
        (200_000, (10_000, 57.0), (9_000, 57.3), None),  # a minute's bucket holds a minute
        (1_500_000, (1_478_342, 1247.458), (1_478_000, 1267.2), None),
        (1_000, (400, 5.0), (200, 5.0), None),  # they do not agree
    ],
)
def test_a_bucket_that_stays_nearly_full_shows_its_depth(
    limit: float, first: tuple[float, float], second: tuple[float, float], depth: float | None
) -> None:
    """What is left and what is missing, in seconds of refill, add up to the same: far less than the minute."""
    found = shallow_of(first, second, limit, 0.001)
    assert found == (None if depth is None else pytest.approx((60.0, depth), rel=0.05))


CALL = Call(Amounts(1.0), 0.0, 1, Amounts(), 0, Amounts())


def read(buckets: Buckets, remaining: float, reset: float, limit: float = 40.0) -> Tracked:
    tracked = buckets.of_reading(LimitReading("requests", "", None, limit, remaining, reset), CALL)
    assert tracked is not None
    return tracked


def refuse(buckets: Buckets, window: float | None, limit: float = 40.0) -> Tracked:
    tracked = buckets.of_message("requests", limit, window, level=0.0, reported={}, call=CALL)
    assert tracked is not None
    return tracked


def test_readings_that_fit_two_shapes_are_told_apart_by_one_further_away() -> None:
    """40 in 4 s, or 40 a minute of which 4 s can be saved up: an empty bucket shows the same. The slower is believed, but surely
    of nothing, until one shows more than four could ever be left."""
    buckets = Buckets()
    read(buckets, 0, 4.0)
    tracked = read(buckets, 0, 4.0)
    assert (tracked.bucket.window, tracked.bucket.depth) == (60.0, 4.0)
    assert tracked.ambiguous
    for remaining in (39, 35, 30):
        tracked = read(buckets, remaining, (40 - remaining) / 10 - 0.001)
    assert tracked.bucket.window == pytest.approx(4.0, rel=0.02)
    assert tracked.bucket.capacity == 40
    assert not tracked.ambiguous


def test_a_small_bucket_of_a_minute_is_no_longer_ambiguous_once_another_reading_fits() -> None:
    """Two left and 1 s until full: of 40 in 4 s it would be 3.8 s."""
    buckets = Buckets()
    read(buckets, 0, 3.999)
    assert read(buckets, 0, 3.999).ambiguous
    tracked = read(buckets, 2, 1.0)
    assert tracked.bucket.window == 60.0
    assert tracked.bucket.depth == pytest.approx(4.0, abs=0.01)
    assert not tracked.ambiguous


def test_a_window_that_the_server_named_is_not_measured_away() -> None:
    """Its header counts down to the end of a fixed window, as it happens in step with what is left."""
    buckets = Buckets()
    tracked = read(buckets, 39, 0.1)
    assert refuse(buckets, 60.0) is tracked
    for remaining in (30, 20, 10):
        assert read(buckets, remaining, (40 - remaining) / 10 + 0.001).bucket.window == 60.0


def test_a_message_and_a_header_of_one_window_of_ten_seconds_share_a_bucket() -> None:
    """The one is exact, the other was measured to 3 %."""
    buckets = Buckets()
    for remaining in (39, 20, 4):
        tracked = read(buckets, remaining, (40 - remaining) / 4 + 0.011)
    assert tracked.bucket.window == pytest.approx(10.0, rel=0.03)
    assert refuse(buckets, 10.0) is tracked
    assert tracked.bucket.window == 10.0
    assert len(buckets.tracked) == 1


@pytest.mark.parametrize(("window", "turn"), [(None, 0.0), ("minute", 100 * 60 / 40)])
def test_no_call_gives_up_by_a_guess(window: str | None, turn: float) -> None:
    """Forty of something, and none left: a hundred wait by the minute that it most likely is, but who says that it is one?"""
    admission = Admission()
    call = Cost(10.0)
    first = admission.enter(0.0, call, "normal")
    reading = LimitReading("requests", "", window, 40.0, 0.0, None)  # type: ignore[arg-type]
    admission.settle(first, Attempt(0.0, readings=[reading], succeeded=True))
    waiting = [admission.enter(0.0, call, "normal") for _ in range(100)]
    asked = admission.check(waiting[0], 0.0)
    assert asked is not None
    assert asked >= 1.4
    assert admission.turn(waiting[-1], 0.0) == pytest.approx(turn, abs=3.0)
    last = admission.check(waiting[-1], 0.0)
    assert last is not None
    assert last > 30.0  # a guess will do to sleep by: not all hundred look after the queue every other second


@pytest.mark.parametrize(
    ("text", "window", "seconds"),
    [
        ("Rate limit reached on requests per min (RPM): Limit 3, Used 3, Requested 1.", "minute", 60.0),
        ("Rate limit reached on requests per 10 seconds: Limit 40, Used 40, Requested 1.", "second", 10.0),
        ("Rate limit exceeded: 5 requests per 2 hours", "hour", 7200.0),
        ("Rate limit exceeded: 24 requests per 60s", "minute", 60.0),
        ("Usage limit reached for 5 hour. Try again later.", "hour", 18_000.0),
        ("Too many requests this month: rate limit", "month", 2_592_000.0),
        ("Rate limit reached.", None, None),
    ],
)
def test_a_message_tells_how_long_its_window_is(text: str, window: str | None, seconds: float | None) -> None:
    """Also of a length that is no single unit: taken for a second, a limit per ten would be run at ten times its rate."""
    throttle = parse_throttle(429, {}, {"error": {"message": text}})
    assert throttle is not None
    assert (throttle.window, throttle.window_seconds) == (window, seconds)


def test_a_header_tells_how_long_its_window_is() -> None:
    """By its name."""
    throttle = parse_throttle(
        429, {"x-ratelimit-limit-requests-day": "50", "x-ratelimit-remaining-requests-day": "0"}, None
    )
    assert throttle is not None
    assert (throttle.window, throttle.window_seconds) == ("day", 86_400.0)
