"""The grammar against wordings built by combination: lengths, phrases, dates, headers, fields; and what is no wait.

The sentences are composed here, the real ones are in ``tests/data``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_ratelimit._core.parsing import parse_stream_event, parse_throttle
from otel_ratelimit._core.parsing.limits import _plain_duration, read_limits
from otel_ratelimit._core.parsing.zones import offset_of
from otel_ratelimit._core.throttle import Throttle

NOW = 1_791_036_000
"""2026-10-03 14:00:00 UTC, a Saturday."""


def _asked(message: str) -> float | None:
    """The delay that a 429 with this message asks for."""
    answer = parse_throttle(429, {}, {"error": {"message": f"Rate limit exceeded. {message}"}}, now=NOW)
    assert answer is not None
    return answer.delay


LENGTHS: list[tuple[str, float | None]] = [
    ("250 ms", 0.25), ("250ms", 0.25), ("250 milliseconds", 0.25), ("1 millisecond", 0.001), ("250 msecs", 0.25),
    ("1,200 ms", 1.2), ("1200 millis", 1.2), ("250 µs", 0.00025),
    ("5 s", 5), ("5s", 5), ("5 sec", 5), ("5 sec.", 5), ("5secs", 5), ("5 second", 5), ("5 seconds", 5),
    ("5-seconds", 5), ("5.5 seconds", 5.5), ("1,200 seconds", 1200), (".5 seconds", 0.5),
    ("0 seconds", 0), ("0.0s", 0), ("5", 5), ("12.5", 12.5),
    ("2 m", 120), ("2m", 120), ("2 min", 120), ("2 min.", 120), ("2 mins", 120), ("2 minutes", 120), ("1.5 minutes", 90),
    ("2 minute(s)", 120), ("2 Minutes", 120), ("3 h", 10_800), ("3 hr", 10_800), ("3 hrs", 10_800), ("3 hours", 10_800),
    ("2 d", 172_800), ("2 days", 172_800), ("1 week", 604_800), ("2 weeks", 1_209_600),
    ("1 hour and 5 minutes", 3900), ("1h2m3s", 3723), ("1h 2m 3s", 3723), ("1 h 2 min 3 s", 3723), ("00:01:30", 90),
    ("PT1M30S", 90), ("P1D", 86_400), ("P1DT2H", 93_600), ("PT0.5S", 0.5), ("2 minutes, 3 seconds", 123),
    ("2 minutes 3 seconds", 123), ("2 minutes, and 3 seconds", 123),
    ("1 minute & 30 seconds", 90), ("1 minute + 30 seconds", 90),
    ("1 day, 2 hours, 3 minutes, and 4 seconds", 93_784), ("1d2h3m4s", 93_784), ("1min30s", 90), ("1 hr. 30 min.", 5400),
    ("about 5 seconds", 5), ("approximately 5 minutes", 300), ("~5s", 5), ("≈ 5 s", 5), ("at least 5 seconds", 5),
    ("another 30 seconds", 30), ("up to 30 seconds", 30), ("less than 30 seconds", 30), ("<5s", 5), ("5 more seconds", 5),
    ("a minute", 60), ("under a minute", 60), ("an hour", 3600), ("one minute", 60), ("thirty seconds", 30),
    ("half a minute", 30),
    ("'5' minutes", 300), ("`5` seconds", 5), ("**5** seconds", 5), ("[5] seconds", 5), ('"5" minutes', 300),
    ("30 (seconds)", 30),
    ("45 seconds (2026-10-03T14:00:45Z)", 45), ("5 Sekunden", 5),
    ("1,5 Sekunden", 1.5), ("1,50 s", 1.5), ("1,234.5 s", 1234.5), ("5秒", 5), ("5 segundos", 5),
    ("a few seconds", None), ("1 month", None), ("1e3 ms", None), ("-5 seconds", None), ("5 attempts", None), ("01:30", None),
]  # fmt: skip


@pytest.mark.parametrize(("written", "seconds"), LENGTHS)
def test_lengths(written: str, seconds: float | None) -> None:
    """Each way to write a length, in several sentences."""
    for frame in ("Please try again in {}.", "retry after {}", "Resets in {}.", "Please wait {} before retrying"):
        assert _asked(frame.format(written)) == (pytest.approx(seconds) if seconds is not None else None), frame


PHRASES = """
Please try again in {}.|Try again in {}|try your request again in {}|Please retry in {}|Retry after {}.
Please retry your request after {}.|retry-after: {}|Retry-After={}|Wait {} before retrying.|Please wait {}|wait for {}
You must wait {} before making another request|You need to wait at least {} before your next request
Rate limit resets in {}|Your limit will reset in {}.|Quota will be reset after {}.|Limit reset in: {}|Available again in {}
Will be available in {}|Access will be restored in {}|Back off for {}|back off {} before retrying|please come back in {}
Check back in {}|Requests will resume in {}|Quota will be replenished in {}|Cool down for {}|Cooldown: {}
Cooling down, {} remaining|Time until reset: {}|{} until reset|{} remaining until reset|Next request allowed in {}
You can send the next request in {}|In {}, try again.|After {} you can try again|Suggested retry after {}
Estimated wait time: {}|Blocked for {}|You have been temporarily blocked for {}|You are rate limited for {}
you have been timed out for {}|Please try sending your message again in {}|try again later ({})|Try again: {}
Rate limited. ({} left)|Please pause for {}|Hold off for {}|Retry delay: {}|Please delay {} before the next call
Expected available in {}|refreshes in {}|renews in {}|Unlocks in {}|limit clears in {}|please resubmit in {}
resend your request after {}|Retryable after {}|try once more in {}|Give it {} and try again|Please allow {} before retrying
(retry in {})|"retry after {}"|Try again in {}…|Please try again in approximately {}|Wait time is {}
"""


@pytest.mark.parametrize("phrase", [phrase for line in PHRASES.split("\n") for phrase in line.split("|") if phrase])
def test_phrases(phrase: str) -> None:
    """Each way to ask for a wait."""
    for written, seconds in (("17 seconds", 17), ("17s", 17), ("1m5s", 65)):
        assert _asked(phrase.format(written)) == seconds


NO_WAITS = """
Rate limit: 5 requests per 60 seconds.|Limit is 5 requests every 60 seconds|10 requests / 60 s allowed|window of 1 minute
The request timed out after 600 seconds.|Timeout waiting for response: 30s|request timeout of 600 seconds|processed in 3 s
Retried 3 times over 30 seconds|Your token expires in 3600 seconds.|We waited 30 seconds for a slot|The window is 60 seconds
Queue wait exceeded 30 seconds|waited 30s in queue, max wait 60s|Max retries exceeded after 30 seconds|in the last 60 seconds
over the past 24 hours|You made 300 requests in 60 seconds|You can make 60 requests per 1 minute and 1000 per 1 day
average over 5 minutes|cache TTL 300 seconds|connection reset by peer after 5 seconds|Retry 3 of 5 failed|error 1015
Reset your API key within 24 hours|Reset password in 5 minutes|Requests older than 60 seconds are dropped|Uptime 3 days
no retry within 5 attempts|limited to 3 requests in 10 seconds|5-hour limit|24-hour limit reached|Created 2026-10-03T15:00:00Z
at 2026-10-03T14:30:00Z the limit was reached|Try again later. Our engineer on call answers within 30 minutes.
try again later (error 503, after 3 attempts, 12 seconds)|Please try again later. Average response time is 30 seconds.
"""


@pytest.mark.parametrize("text", [text for line in NO_WAITS.split("\n") for text in line.split("|") if text])
def test_windows_budgets_and_history_are_no_waits(text: str) -> None:
    """Seconds that ask for nothing."""
    assert _asked(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("resets at 5pm (UTC)", 3 * 3600),
        ("Resets at midnight UTC.", 10 * 3600),
        ("try again at 14:30 GMT", 1800),
        ("Try again at 13:00 UTC", 23 * 3600),
        ("available again at 9:30 AM EDT", 23.5 * 3600),
        ("It resets Oct 5 at 9am UTC", 43 * 3600),
        ("limit resets Oct 1, 2:00 PM UTC", 363 * 86_400),
        ("You can access API after 2026-Oct-03 14:10:00+0000 UTC", 600),
        ("retry after Saturday, 03-Oct-26 14:00:30 GMT", 30),
        ("resets at 17:00:30 CEST", 3630),
        ("resets at 8am Pacific time", 3600),
        ("Your limit will reset at 5pm (Europe/Rome).", 3600),
        ("resets 12am (Asia/Seoul)", 3600),
        ("renews at 8:30 PM (UTC+5:30)", 3600),
        ("try again at 15:00 +00:00", 3600),
        ("resets at midnight (America/New_York)", 14 * 3600),
        ("limit reached at 13:59 UTC", None),
        ("resets 3pm (Mars/Olympus)", None),
        ("resets 3pm", None),
        ("try again at 5:33 PM", None),
        ("resets at 25:00 UTC", None),
    ],
)
def test_times_of_day(text: str, seconds: float | None) -> None:
    """A time with a zone means its next occurrence; without one it says nothing that can be used."""
    assert _asked(text) == seconds


@pytest.mark.parametrize(
    ("zone", "at", "hours"),
    [
        ("america/los_angeles", datetime(2026, 3, 8, 1, 59), -8),
        ("america/los_angeles", datetime(2026, 3, 8, 2, 0), -7),
        ("pacific time", datetime(2026, 11, 1, 1, 59), -7),
        ("et", datetime(2026, 11, 1, 2, 0), -5),
        ("europe/berlin", datetime(2026, 3, 29, 1, 59), 1),
        ("europe/berlin", datetime(2026, 3, 29, 2, 0), 2),
        ("europe/london", datetime(2026, 10, 25, 2, 59), 1),
        ("europe/london", datetime(2026, 10, 25, 3, 0), 0),
        ("asia/kolkata", datetime(2026, 7, 1), 5.5),
        ("utc+8", datetime(2026, 7, 1), 8),
        ("-05:30", datetime(2026, 7, 1), -5.5),
        ("pdt", datetime(2026, 1, 1), -7),
        ("mars/olympus", datetime(2026, 1, 1), None),
        (None, datetime(2026, 1, 1), None),
    ],
)
def test_zones(zone: str | None, at: datetime, hours: float | None) -> None:
    """Summer time begins and ends on the days that the two rules name; a zone that is not known is none."""
    assert offset_of(zone, at) == (None if hours is None else hours * 3600)


HEADERS: list[tuple[Any, float | None, str | None]] = [
    ({"retry-after": "Sat, 03 Oct 2026 14:00:30 GMT"}, 30, "retry-after-date"),
    ({"retry-after": "Saturday, 03-Oct-26 14:00:30 GMT"}, 30, "retry-after-date"),
    ({"retry-after": "Sat Oct  3 14:00:30 2026"}, 30, "retry-after-date"),
    ({"retry-after": "2026-10-03T16:00:30+02:00"}, 30, "retry-after-date"),
    ({"retry-after": "1791036030"}, 30, "retry-after-date"),
    ({"retry-after": "1791036030000"}, 30, "retry-after-date"),
    ({"retry-after": "20 seconds"}, 20, "retry-after"),
    ({"retry-after": "1m30s"}, 90, "retry-after"),
    ({"retry-after": "PT30S"}, 30, "retry-after"),
    ({"retry-after": '"20"'}, 20, "retry-after"),
    ({"retry-after": "20;comment"}, 20, "retry-after"),
    ({"retry-after": "20, 30"}, 30, "retry-after"),
    ({"retry-after": "20s, 30s"}, 30, "retry-after"),
    ({"retry-after": "Sat, 03 Oct 2026 14:00:30 GMT, Sat, 03 Oct 2026 14:00:40 GMT"}, 40, "retry-after-date"),
    ({"retry-after": ["20", "30"]}, 30, "retry-after"),
    ({"retry-after": 20.5}, 20.5, "retry-after"),
    ({b"Retry-After": b"20"}, 20, "retry-after"),
    ([("Retry-After", "20"), ("retry-after", "30")], 30, "retry-after"),
    ({"retry-after-ms": "1500ms"}, 1.5, "retry-after-ms"),
    ({"retry-after-ms": "1500, 2500"}, 2.5, "retry-after-ms"),
    ({"x-rate-limit-retry-after-milliseconds": "4500"}, 4.5, "retry-after-ms"),
    ({"x-ms-retry-after-ms": "700"}, 0.7, "retry-after-ms"),
    ({"x-ms-retry-after": "7"}, 7, "retry-after"),
    ({"retry_after": "7"}, 7, "retry-after"),
    ({"x-retry-in": "1.5s"}, 1.5, "retry-after"),
    ({"x-ratelimit-reset-minutes": "3"}, 180, "x-ratelimit-reset"),
    ({"x-ratelimit-reset-at": "2026-10-03T14:00:30Z"}, 30, "x-ratelimit-reset"),
    ({"rate-limit-reset": "30"}, 30, "ratelimit"),
    ({"ratelimit": "limit=10; remaining=0; reset=7"}, 7, "ratelimit"),
    ({"retry-after": "soon"}, None, None),
    ({"retry-after": "1e1"}, None, None),
    ({"retry-after": None}, None, None),
    ({"retry-after": "5, soon"}, None, None),
    ({"retry-after": ["\ud800"] * 99}, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "seconds", "source"), HEADERS)
def test_headers(headers: Any, seconds: float | None, source: str | None) -> None:
    """Each form of a value, each name, and each kind of mapping."""
    answer = parse_throttle(429, headers, None, now=NOW)
    assert answer is not None
    assert (answer.delay, answer.source) == (seconds, source)


@pytest.mark.parametrize(
    ("headers", "window", "limit"),
    [
        ({"x-ratelimit-limit": "10, 10;w=60", "x-ratelimit-remaining": "0"}, "minute", 10),
        ({"x-ratelimit-limit": "10, 10;w=60, 1000;w=3600", "x-ratelimit-reset": "5"}, "minute", 10),
        ({"ratelimit-limit": "5", "ratelimit-remaining": "0",
          "x-ratelimit-limit-minute": "5", "x-ratelimit-remaining-minute": "0"}, "minute", 5),
        ({"x-ratelimit-limit-tokens": "60000", "x-ratelimit-remaining-tokens": "-200"}, None, 60_000),
        ({"x-ratelimit-limit-tokens": "60000", "x-ratelimit-remaining-tokens": "-1", "x-ratelimit-limit-req-day": "5",
          "x-ratelimit-remaining-req-day": "0"}, "day", 5),
        ({"ratelimitbysize-limit": "500000", "ratelimitbysize-remaining": "0"}, None, 500_000),
    ],
)  # fmt: skip
def test_windows_and_sizes_in_headers(headers: dict[str, str], window: str | None, limit: float) -> None:
    """A window beside the size, or in a second description of the same limit; and what buckets read of it."""
    answer = parse_throttle(429, headers, None, now=NOW)
    assert answer is not None
    assert (answer.window, answer.limit) == (window, limit)
    assert any(reading.limit == limit for reading in read_limits(headers, now=NOW))


FIELDS = """
rate_limit_reset=1791036020 rateLimitResetAt=1791036020 limit_resets_at=1791036020 next_reset=1791036020 reset_after=20
retry_after_sec=20 retryAfterSecs=20 cooldownUntil=1791036020 blocked_until=1791036020 throttled_until=1791036020000
seconds_until_reset=20 time_until_reset_ms=20000 wait_ms=20000 waitTime=20 backoff_ms=20000 retry_delay_ms=20000
next_available=1791036020 next_request_allowed_at=1791036020 nextAccessTime=1791036020 unlock_at=1791036020
time_remaining=20 secondsRemaining=20 X-RateLimit-Reset=1791036020 retry_after_millis=20000
"""
NO_FIELDS = """
max_retry_after=20 retries=3 timeout_seconds=600 window_seconds=60 period=60 interval=60 elapsed_ms=300 created=1791036020
expires_at=1791036020 token_expires_in=3600 reset_count=2 retry_limit=5 wait_limit=60 max_wait=60 limit_window=60 latency=20
last_reset=1791036020 default_retry_after=20 queue_wait_seconds=20 reset_interval=20 retry_attempt_after=20 remaining=20
"""


@pytest.mark.parametrize("pair", FIELDS.split() + NO_FIELDS.split())
def test_names_of_fields(pair: str) -> None:
    """Names that mean a wait, and names with the same words that do not."""
    name, _, value = pair.partition("=")
    answer = parse_throttle(429, {}, {"error": {"message": "limited", name: float(value)}}, now=NOW)
    assert answer is not None
    assert answer.delay == (20 if pair in FIELDS.split() else None)


REFUSED = {"code": "rate_limit_exceeded", "message": "Rate limit reached. Try again in 7s"}


@pytest.mark.parametrize(
    "event",
    [
        {"object": "error", "message": "Rate limited. Try again in 7s", "type": "rate_limited", "code": "1300"},
        'data: {"object":"error","message":"Too many requests, retry in 7s","type":"TooManyRequests","code":429}\n\n',
        [{"error": {"code": 429, "message": "Please retry in 7s", "status": "RESOURCE_EXHAUSTED"}}],
        {"event": "thread.run.failed", "data": {"object": "thread.run", "last_error": REFUSED}},
        {
            "type": "response.done",
            "response": {"status": "failed", "status_details": {"type": "failed", "error": REFUSED}},
        },
        {"id": "x", "choices": None, "error": {"message": "Rate limit exceeded, retry in 7 s", "code": 429}},
        {"type": "error", "status": 429, "error": {"message": "limited"}, "headers": {"Retry-After": ["7"]}},
        b'event: error\ndata: {"type":"error","error":{"type":"rate_limit_error","message":"Try again in 7 seconds"}}\n\n',
    ],
)
def test_events_that_refuse(event: object) -> None:
    """Each envelope of an error inside a stream."""
    answer = parse_stream_event(event, now=NOW)
    assert answer is not None
    assert answer.delay == 7


@pytest.mark.parametrize(
    "event",
    [
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens",
            "type": "BadRequestError",
            "code": 400,
        },
        {"error": {"code": 502, "message": "Provider returned error"}},
        {
            "error": {"code": "server_error", "message": "Provider disconnected"},
            "choices": [{"finish_reason": "error"}],
        },
        {
            "type": "response.incomplete",
            "response": {"incomplete_details": {"reason": "max_output_tokens"}, "error": None},
        },
        {
            "type": "response.done",
            "response": {"status": "completed", "output": [{"transcript": "rate limit, retry in 5s"}]},
        },
        {"type": "rate_limits.updated", "rate_limits": [{"name": "requests", "remaining": 0, "reset_seconds": 60}]},
        {
            "event": "thread.run.failed",
            "data": {"last_error": {"code": "server_error", "message": "Something went wrong."}},
        },
        {"event": "thread.run.completed", "data": {"object": "thread.run", "last_error": None}},
        {"type": "content_block_delta", "delta": {"text": "rate limit exceeded, try again in 5s"}},
        "data: [DONE]\n\n",
        ": keep-alive\n\n",
    ],
)
def test_events_that_do_not(event: object) -> None:
    """Successes, reports and other failures."""
    assert parse_stream_event(event, now=NOW) is None


OTHER_FAILURES = [
    (400, "This model's maximum context length is 8192 tokens. However, you requested 10000 tokens. Try again in 5 seconds"),
    (400, "Token limit exceeded: 9000 > 8000"), (400, "Your request exceeded model token limit: 8192"),
    (400, "too many tokens: total number of tokens in the prompt exceeds the limit of 4081"), (422, "max_tokens limit exceeded"),
    (400, "Too many images in request. The limit is 20"), (400, "thinking budget exceeded max_tokens"),
    (400, "Rate limits are not supported for this endpoint"), (401, "Rate limit exceeded"), (404, "Rate limit reached"),
    (403, "Your IP is not allowed. Try again in 5 minutes"), (403, "Content policy violation; retry in 10s"),
    (413, "payload too large, limit 10 requests"), (500, "Internal error, retry after 5 seconds"),
    (500, "Request timed out after 30s; retry in 5s"), (502, "Bad gateway. Try again in 30 seconds"),
    (503, "The service is under maintenance. Try again in 30 minutes"), (504, "Upstream timeout after 60 seconds"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "message"), OTHER_FAILURES)
def test_other_failures(status: int, message: str) -> None:
    """Seconds and limits in the text of what is no throttle."""
    assert parse_throttle(status, {}, {"error": {"message": message}}, now=NOW) is None


@given(now=st.one_of(st.floats(), st.integers(), st.just(10**400), st.text(max_size=3)))
@example(now=253_402_300_800.0)
@example(now=-62_135_596_801.0)
def test_any_clock(now: Any) -> None:
    """A clock that no calendar holds does no harm."""
    for text in (
        "resets at midnight UTC",
        "resets Feb 29 at 9am (UTC+14:00)",
        "until 29-Feb-27 01:01:01 GMT",
        "until 2026-10-03",
    ):
        answer = parse_throttle(429, {"x-ratelimit-reset": "2026-10-03T14:00:30Z"}, text, now=now)
        assert answer is not None
        assert answer.delay is None or answer.delay >= 0


@pytest.mark.parametrize(
    "text",
    ["Wait time: 1 minute", "Estimated wait time: 5 minutes", "cooldown period of 1 minute", "Cool down period 30 seconds",
     "Please retry in 1 minute", "Try again in 24 hours", "Resets in 1 day", "wait a minute"],
)  # fmt: skip
def test_waits_are_no_windows(text: str) -> None:
    """A wait of a minute does not make the limit one per minute."""
    answer = parse_throttle(429, {}, {"error": {"message": text}}, now=NOW)
    assert answer is not None
    assert answer.delay is not None
    assert answer.window is None


MONEY_IS_SPOKEN_OF = """
You can increase your rate limit by adding a payment method to your account at https://platform.openai.com/account/billing.
Add credits to raise your limits.|Upgrade to a paid plan for higher limits.|Purchase credits to unlock higher rate limits
Your rate limit is reduced while you have less than $5.0 in credit.|Free tier users are limited to 10 requests per minute
You are on the free trial and limited to 3 RPM.|You have hit the rate limit of your subscription plan
Your account is limited to 10 requests per minute|Insufficient capacity, please retry|Payment is not required
Free credits temporarily have rate limits in place. Purchase credits at https://example.com
"""


@pytest.mark.parametrize("text", [text for line in MONEY_IS_SPOKEN_OF.split("\n") for text in line.split("|") if text])
def test_money_in_the_text_of_a_throttle(text: str) -> None:
    """Offers are no bills."""
    answer = parse_throttle(429, {}, {"error": {"message": text}})
    assert answer is not None
    assert answer.retryable
    assert answer.kind != "quota"


def test_long_values_are_not_remembered() -> None:
    """The cache holds what servers repeat, not what a hostile one makes up."""
    before = _plain_duration.cache_info().currsize
    read_limits({"x-ratelimit-limit-tokens": "5", "x-ratelimit-reset-tokens": "9" * 60_000})
    assert _plain_duration.cache_info().currsize == before


def test_the_words_decide_about_a_quota_code() -> None:
    """Gateways put OpenAI's code for "no money" on an overload."""
    full = {"error": {"message": "当前分组上游负载已饱和", "code": "insufficient_quota"}}
    assert parse_throttle(429, {}, full) == Throttle(kind="overload")
