"""read_limits: what the headers of any response say of the limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ratelimit._core.parsing import parse_throttle
from otel_ratelimit._core.parsing.families import read_name
from otel_ratelimit._core.parsing.limits import MAX_LIMIT, LimitReading, read_limits
from tests.helpers.work import python_calls

OPENAI = {
    "x-ratelimit-limit-requests": "5000",
    "x-ratelimit-limit-tokens": "160000",
    "x-ratelimit-remaining-requests": "4999",
    "x-ratelimit-remaining-tokens": "159976",
    "x-ratelimit-reset-requests": "12ms",
    "x-ratelimit-reset-tokens": "6m0s",
}
OPENAI_READINGS = {
    LimitReading("requests", "", None, 5000, 4999, 0.012),
    LimitReading("tokens", "", None, 160000, 159976, 360),
}
NAMES = st.one_of(st.sampled_from(list(OPENAI)), st.text(max_size=20))


class _Headers:
    """As httpx.Headers: a raw list of bytes."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.raw = [(name.encode(), value.encode()) for name, value in headers.items()]


@pytest.mark.parametrize(
    "headers",
    [OPENAI, _Headers(OPENAI), list(OPENAI.items()), {name.title(): value.encode() for name, value in OPENAI.items()}],
)
def test_openai(headers: object) -> None:
    """The two buckets, whatever the object that holds the headers."""
    assert set(read_limits(headers)) == OPENAI_READINGS
    assert set(read_limits(headers, now=0)) == OPENAI_READINGS


@pytest.mark.parametrize(
    ("headers", "reading"),
    [
        (
            {"x-ratelimit-limit-project-tokens": "1000000", "x-ratelimit-remaining-project-tokens": "998000"},
            LimitReading("tokens", "project", None, 1_000_000, 998_000, None),
        ),
        (
            {"x-ratelimit-limit-tokens_usage_based": "160000", "x-ratelimit-reset-tokens_usage_based": "9ms"},
            LimitReading("tokens", "usage_based", None, 160_000, None, 0.009),
        ),
        (
            {"x-ratelimit-limit-requests-day": "1000", "x-ratelimit-reset-requests-day": "33011.38"},
            LimitReading("requests", "", "day", 1000, None, 33011.38),
        ),
        (
            {"x-ratelimit-limit-tokens-minute": "60000", "x-ratelimit-remaining-tokens-minute": "0"},
            LimitReading("tokens", "", "minute", 60000, 0, None),
        ),
        (
            {"x-ratelimit-limit-req-minute": "720", "x-ratelimit-remaining-req-minute": "717"},
            LimitReading("requests", "", "minute", 720, 717, None),
        ),
        (
            {
                "anthropic-ratelimit-input-tokens-limit": "25000",
                "anthropic-ratelimit-input-tokens-remaining": "16000",
                "anthropic-ratelimit-input-tokens-reset": "2001-09-09T01:47:40Z",
            },
            LimitReading("input_tokens", "", None, 25000, 16000, 60),
        ),
        (
            {"x-ratelimit-limit-images": "5", "x-ratelimit-remaining-images": "4"},
            LimitReading("images", "", None, 5, 4, None),
        ),
        (
            {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "59", "x-ratelimit-reset": "1000000060"},
            LimitReading("requests", "", None, 60, 59, 60),
        ),
        (
            {"ratelimit": '"default";r=40;t=30', "ratelimit-policy": '"default";q=100;w=60'},
            LimitReading("requests", "", "minute", 100, 40, 30),
        ),
        ({"RateLimit": "limit=100, remaining=50, reset=5"}, LimitReading("requests", "", None, 100, 50, 5)),
        (
            {"ratelimit-limit": "100, 100;w=3600", "ratelimit-remaining": "50", "ratelimit-reset": "15"},
            LimitReading("requests", "", "hour", 100, 50, 15),
        ),
        (
            {"x-ratelimit-limit-requests": "10", "x-ratelimit-reset-requests": "0s"},
            LimitReading("requests", "", None, 10, None, 0),
        ),
    ],
)
def test_families(headers: dict[str, str], reading: LimitReading) -> None:
    """Each family that servers send."""
    if next(iter(headers)).lower().startswith("ratelimit"):
        reading = reading._replace(source="ratelimit")
    assert read_limits(headers, now=1_000_000_000) == (reading,)
    assert read_limits(_Headers(headers), now=1_000_000_000) == (reading,)


@pytest.mark.parametrize("value", ["", "-1", "0", "NaN", "inf", "1e300", "many", "9223372036854775807", "1e6", None, 5])
def test_a_limit_without_a_size_is_no_reading(value: Any) -> None:
    """Negative, zero, absurd and unreadable sizes."""
    assert read_limits({"x-ratelimit-limit-tokens": value, "x-ratelimit-remaining-tokens": "5"}) == ()


@pytest.mark.parametrize("value", ["", "-1", "NaN", "inf", "1e300", "soon", "-5s", "9" * 30])
def test_other_parts_that_say_nothing(value: str) -> None:
    """The size stays, the broken part is None."""
    headers = {
        "x-ratelimit-limit-tokens": "10",
        "x-ratelimit-remaining-tokens": value,
        "x-ratelimit-reset-tokens": value,
    }
    assert read_limits(headers, now=0) == (LimitReading("tokens", "", None, 10, None, None),)


@pytest.mark.parametrize(
    "name",
    [
        "x-ratelimit-tokens-query-cost",
        "x-ratelimit-type",
        "x-ratelimit-limit-policy",
        "x-ratelimit-over-limit",
        "content-length",
        "retry-after",
        "ratelimit-reset",
        "anthropic-ratelimit-unified-representative-claim",
        "x-codex-primary-window-minutes",
        "x" * 200,
    ],
)
def test_names_that_tell_of_no_limit(name: str) -> None:
    """Prices, policies, instructions."""
    assert read_name(name) is None


@pytest.mark.parametrize(
    ("headers", "readings"),
    [
        (
            {"x-ratelimit-limit-tokens": "200,000", "x-ratelimit-remaining-tokens": "1,500"},
            [("tokens", None, 200_000, 1500, None)],
        ),
        (
            {"x-ratelimit-limit-tokens": "10", "x-ratelimit-remaining-tokens": "-5"},
            [("tokens", None, 10, 0, None)],
        ),
        (
            {"x-ratelimit-limit-tokens": "10", "x-ratelimit-remaining-tokens": "-1"},
            [("tokens", None, 10, None, None)],
        ),
        (
            {"x-ratelimit-limit-tokens": "10", "x-ratelimit-reset-tokens-ms": "1500"},
            [("tokens", None, 10, None, 1.5)],
        ),
        (
            {
                "x-ratelimit-limit": "1, 15000", "x-ratelimit-remaining": "0, 14523", "x-ratelimit-reset": "1, 1419704",
                "x-ratelimit-policy": "1;w=1, 15000;w=2592000",
            },
            [("requests", "second", 1, 0, 1), ("requests", "month", 15_000, 14_523, 1_419_704)],
        ),
        (
            {"x-ratelimit-limit": "100", "x-ratelimit-policy": "100;w=60", "x-ratelimit-remaining": "7"},
            [("requests", "minute", 100, 7, None)],
        ),
        (
            {"x-ratelimit-limit": "10, 10;w=60, 1000;w=3600", "x-ratelimit-reset": "5"},
            [("requests", "minute", 10, None, 5)],
        ),
        (
            [("x-ratelimit-reset", "5"), ("x-ratelimit-limit", "100"), ("x-ratelimit-reset", "9")],
            [("requests", None, 100, None, 9)],
        ),
        (
            {"ratelimit": "limit=1,000, remaining=-3, reset=5"},
            [("requests", None, 1, 0, 5)],
        ),
    ],
)  # fmt: skip
def test_values_as_servers_write_them(headers: Any, readings: list[tuple[Any, ...]]) -> None:
    """Thousands, buckets that are overdrawn, units in a name, lists of several windows, doubled headers."""
    found = [(one.kind, one.window_name, one.limit, one.remaining, one.reset) for one in read_limits(headers, now=0)]
    assert found == readings


def test_what_binds_and_what_teaches_are_read_by_one_reader() -> None:
    """A refusal's headers and a success's say the same, whatever their form: the two views differ in what they leave out."""
    headers = {
        "x-ratelimit-limit-tokens": "200,000", "x-ratelimit-remaining-tokens": "-512", "x-ratelimit-reset-tokens": "12s",
        "x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "99", "x-ratelimit-reset-requests": "0",
    }  # fmt: skip
    tokens, requests = read_limits(headers, now=0)
    assert (tokens.limit, tokens.remaining, tokens.reset) == (200_000, 0, 12)
    assert requests.reset == 0  # teaches that the bucket is full, and asks for nothing
    answer = parse_throttle(429, headers, None, now=0)
    assert answer is not None
    assert (answer.kind, answer.limit, answer.delay) == ("tokens", 200_000, 12)


class _Broken:
    @property
    def raw(self) -> Any:
        raise RuntimeError


@pytest.mark.parametrize(
    "thing", [None, 5, object(), _Broken(), [1], [("a",)], {1: 2}, {"x-ratelimit-limit-tokens": object()}, "x", b"x"]
)
def test_foreign_objects(thing: Any) -> None:
    """Whatever is given, nothing is raised."""
    assert read_limits(thing) == ()


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.one_of(st.sampled_from(list(OPENAI)), st.text(max_size=20)),
        st.one_of(st.text(max_size=20), st.integers().map(str)),
        max_size=8,
    )
)
def test_any_headers(headers: dict[str, str]) -> None:
    """Readings are in range."""
    for reading in read_limits(headers):
        assert reading.limit is not None
        assert 0 < reading.limit <= MAX_LIMIT
        assert reading.remaining is None or 0 <= reading.remaining <= MAX_LIMIT
        assert reading.reset is None or reading.reset >= 0


def test_it_is_cheap() -> None:
    """A response of 30 headers costs few Python calls, and one more header that says nothing of a limit at most three."""
    others = {f"x-other-{index}": "value" for index in range(40)}
    plain, longer = _Headers({**OPENAI, **dict(list(others.items())[:20])}), _Headers({**OPENAI, **others})
    read_limits(plain)
    calls = python_calls(lambda: read_limits(plain))
    assert calls <= 60
    assert python_calls(lambda: read_limits(longer)) <= calls + 3 * 20
