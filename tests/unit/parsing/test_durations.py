"""Lengths of time and points in time, as services write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ratelimit._core.parsing.durations import MAX_DELAY, number, parse_duration, plausible_delay, tidy
from otel_ratelimit._core.parsing.evidence import Amounts
from otel_ratelimit._core.parsing.fields import field_wait, read_field_name
from otel_ratelimit._core.parsing.ietf import window_name
from otel_ratelimit._core.parsing.instants import Instant, epoch_seconds, moment, parse_instant, seconds_until
from otel_ratelimit._core.parsing.message import find_wait
from otel_ratelimit._core.parsing.numbers import find_amounts


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012),
        ("564ms", 0.564),
        ("20s", 20),
        ("1.5s", 1.5),
        ("6m0s", 360),
        ("1m26.4s", 86.4),
        ("1h2m3s", 3723),
        ("14h29m11.04s", 52151.04),
        ("160h20m10.725405548s", 577210.725405548),
        ("2 days", 172_800),
        ("1 minute and 30 seconds", 90),
        ("1 hour, 5 minutes", 3900),
        ("4 days 20 hours 9 minutes", 418_140),
        ("30 second(s)", 30),
        ("~30s", 30),
        ("1,234 seconds", 1234),
        ("PT1M30S", 90),
        ("P1DT2H", 93_600),
        ("00:12:34", 754),
        ("2.23:15:05", 256_505),
        ("5 分钟", 300),
        ("1小时2分", 3720),
        ("30 秒", 30),
        ("500毫秒", 0.5),
        ("30秒間", 30),
        ("30초", 30),
        ("30 секунд", 30),
        ("30 Sekunden", 30),
        ("250us", 0.00025),
        ("0s", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Each form, exactly."""
    assert parse_duration(text) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "5",
        "5x",
        "-5s",
        "5s later",
        "1s1s",
        "10m2h",
        "5 5s",
        "1e3s",
        "inf",
        "NaN",
        "PT",
        "P",
        "99:99",
        "12:34",
        "9" * 19 + "s",
        "1s" * 99,
    ],
)
def test_no_durations(text: str) -> None:
    """What is not a duration as a whole."""
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), (" 5 ", 5), ("+5", 5), ("0", 0), ("1.25", 1.25), ("1,000", 1000), ("1,234,567.5", 1_234_567.5)],
)
def test_numbers(text: str, value: float) -> None:
    """Plain decimals."""
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "-1", "1e9", "inf", "nan", "0x10", "1,00", "5s", "1.", "9" * 19, "1" * 200])
def test_no_numbers(text: str) -> None:
    """Negative, scientific, hexadecimal and endless ones say nothing."""
    assert number(text) is None


@pytest.mark.parametrize("value", [-1, -0.001, math.inf, -math.inf, math.nan, 1e300, MAX_DELAY + 1])
def test_implausible_delays(value: float) -> None:
    """No server means these."""
    assert plausible_delay(value) is None


@given(st.floats(min_value=0, max_value=MAX_DELAY))
def test_plausible_delays(value: float) -> None:
    """All else is kept to the nanosecond, whole numbers as ints."""
    delay = plausible_delay(value)
    assert delay is not None
    assert delay == pytest.approx(value, abs=1e-9)
    assert isinstance(tidy(value), int) == (round(value, 9) == int(round(value, 9)))


@pytest.mark.parametrize(
    ("text", "epoch", "zoned"),
    [
        ("2024-03-26T20:00:00Z", 1711483200, True),
        ("2026-09-13 22:36:33 +0800 CST", 1789310193, True),
        ("2026-09-13 22:36:33", 1789338993, False),
        ("2026-09-13T22:36:33.5-05:30", 1789358793.5, True),
        ("2025-08-01 at 00:00 UTC", 1754006400, True),
        ("2026-01-01", 1767225600, False),
        ("2025年12月6日 14:11:19", 1765030279, False),
        ("Fri, 29 Sep 2023 16:26:57 GMT", 1696004817, True),
        ("Sun Nov  6 08:49:37 1994", 784111777, True),
        ("October 28th, 2025 4:10 PM PDT", 1761693000, True),
        ("Oct 28, 2025", 1761609600, False),
        ("1775347200", 1775347200, True),
        ("1775347200000", 1775347200, True),
        ("1775347200000000", 1775347200, True),
    ],
)
def test_instants(text: str, epoch: float, zoned: bool) -> None:
    """Each form; checked against `date -d`."""
    assert parse_instant(text) == Instant(epoch, zoned)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2025-02-30",
        "2025-13-01",
        "0000-01-01",
        "2025-01-01T25:00Z",
        "12345",
        "1" * 25,
        "tomorrow 5",
        "x" * 200,
    ],
)
def test_no_instants(text: str) -> None:
    """Days that do not exist, and what is no date."""
    assert parse_instant(text) is None


def test_a_time_without_a_zone() -> None:
    """Beijing's for Chinese services, unless that is past and UTC is not."""
    clock = Instant(1_000_000_000, zoned=False)
    ahead = 8 * 3600
    assert seconds_until(clock, 1_000_000_000 - 60) == 60
    assert seconds_until(clock, 1_000_000_000 - ahead - 60, beijing=True) == 60
    assert seconds_until(clock, 1_000_000_000 - 60, beijing=True) == 60
    assert seconds_until(clock, 1_000_000_000, beijing=True) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("5", (5, False)),
        ("5s", (5, False)),
        ("1000000060", (60, True)),
        ("1000000060000", (60, True)),
        ("999999940", (999999940, False)),
        ("2001-09-09T01:47:40Z", (60, True)),
        ("2001-09-09T01:46:39Z", None),
        ("x", None),
    ],
)
def test_moments(text: str, answer: tuple[float, bool] | None) -> None:
    """Numbers, epochs, durations and dates in one field."""
    assert moment(text, 1_000_000_000) == answer


@pytest.mark.parametrize(("value", "seconds"), [(1e9, 1e9), (1.5e12, 1.5e9), (1e15, 1e9), (5.0, None), (1e11, None)])
def test_epochs(value: float, seconds: float | None) -> None:
    """Seconds, milliseconds and microseconds are told apart by size."""
    assert epoch_seconds(value) == seconds


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        (1, "second"),
        (60, "minute"),
        (3600, "hour"),
        (86400, "day"),
        (30 * 86400, "month"),
        (300, None),
        (0.5, None),
        (None, None),
    ],
)
def test_window_names(seconds: float | None, name: str | None) -> None:
    """Only windows that have a name get one."""
    assert window_name(seconds) == name


@pytest.mark.parametrize(
    ("key", "value", "seconds"),
    [
        ("retry_after", 12, 12),
        ("retryAfter", "12", 12),
        ("retryAfterMs", 2500, 2.5),
        ("retry_after_seconds", 0.5, 0.5),
        ("Retry-After", "20s", 20),
        ("retryDelay", "9s", 9),
        ("retryDelay", {"seconds": "9", "nanos": 500_000_000}, 9.5),
        ("resets_in_seconds", 13872, 13872),
        ("resets_at", 1_000_000_042, 42),
        ("resetsAt", 1_000_000_042_500, 42.5),
        ("quotaResetDelay", "373.801628ms", 0.373801628),
        ("quotaResetTimeStamp", "2001-09-09T01:47:40Z", 60),
        ("wait_seconds", 7, 7),
        ("cooldown_remaining", "40s", 40),
        ("estimated_time", 20.0, 20),
        ("next_available_at", "2001-09-09T01:47:40Z", 60),
    ],
)
def test_fields(key: str, value: object, seconds: float) -> None:
    """Names that mean a wait, with their units."""
    name = read_field_name(key)
    assert name is not None
    found = field_wait(name, value, 1_000_000_000)
    assert found is not None
    assert found[0] == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    "key",
    [
        "totalRetryDelay",
        "maxWaitMs",
        "retry_count",
        "reset_password_url",
        "last_reset_at",
        "delay",
        "retry",
        "after",
        "waiter",
        "x" * 99,
    ],
)
def test_fields_that_are_no_waits(key: str) -> None:
    """Budgets, counts and history."""
    assert read_field_name(key) is None


@pytest.mark.parametrize(
    "value", [None, True, [], {}, {"seconds": -1}, {"seconds": "x"}, -5, math.nan, 10**400, "soon", "-1", 999_999_942]
)
def test_field_values_that_are_no_waits(value: object) -> None:
    """Negative, absurd, past and unreadable."""
    name = read_field_name("retry_after")
    assert name is not None
    assert field_wait(name, value, 1_000_000_000) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please retry after 9 seconds.", 9),
        ("Please try\nagain in 1m26.4s.", 86.4),
        ("Retry-After: 30", 30),
        ("Wait at least 2 minutes.", 120),
        ("Resets in ~30s.", 30),
        ("cooldown of 60s", 60),
        ("Cooling down for another 25s", 25),
        ("In 30 seconds, try again.", 30),
        ("(reset after 2m 5s)", 125),
        ("Expected available in 1 second.", 1),
        ("请在 30 秒后重试", 30),
        ("请 5 分钟后再试", 300),
        ("30秒後にもう一度お試しください", 30),
        ("Повторите попытку через 20 секунд", 20),
        ("Bitte versuchen Sie es in 30 Sekunden erneut", 30),
        ("Veuillez réessayer dans 30 secondes", 30),
        ("Inténtelo de nuevo en 30 segundos", 30),
        ("Rate limit of 24 per 60s exceeded. Please wait 9 seconds before retrying.", 9),
        ("Try again in 60 seconds (upstream: retry after 9 seconds)", 60),
        ("Limit resets at: 2001-09-09 01:47:40 UTC", 60),
        ("您的限额将在 2001-09-09 09:47:40 重置。", 60),
        ("limit reached|1000000060", 60),
    ],
)
def test_sentences(text: str, seconds: float) -> None:
    """Words around a number make it a wait."""
    assert find_wait(text, 1_000_000_000) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("limit 30000, used 29937, requested 385.", Amounts(30000, 29937, 385)),
        ("limit 7000, used 0, requested ~12903.", Amounts(7000, 0, 12903)),
        ("(for limit gpt-4.1) limit 30,000, requested 37_313", Amounts(30000, None, 37313)),
        ("limit: 20 / min. current: 19 / min", Amounts(20, 19)),
        ("limit: 0/1min. current: 1/1min", Amounts(0, 1)),
        ("rate limit of 24 per 60s", Amounts(24)),
        ("limited to 1000 api calls / month", Amounts(1000)),
        ("the maximum rate limit for this model is 9.0 queries per minute", Amounts(9)),
        ("rate limit for your organization (a22cf6e6-a940) of 1,000,000 input tokens per minute", Amounts(1_000_000)),
        (
            "requests per second (actual/limit): 3/8, tokens per minute (actual/limit): 65605/16000",
            Amounts(16000, 65605),
        ),
        ("reached max request per minute(rpm): 3, please", Amounts(3)),
        ("limit reached (33/32)", Amounts(32, 33)),
        ("usage limit reached (0/0 used), resets", Amounts()),
        ("30k tpm limit 30k used 12k", Amounts(30000, 12000)),
        ("limit resets in 60 seconds; limit 60s", Amounts()),
        ("add 10 credits to unlock 1000 free model requests per day", Amounts()),
        ("gpt-4-32k, 2024-02-15, error 1302", Amounts()),
    ],
)
def test_amounts(text: str, amounts: Amounts) -> None:
    """Limit, used and requested, and numbers that are neither."""
    assert find_amounts(text) == amounts
