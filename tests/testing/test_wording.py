"""What the server says, dialect by dialect, letter by letter; and that the package's own parser understands it."""

from __future__ import annotations

import pytest

from otel_ratelimit import parse_throttle
from otel_ratelimit.testing import AZURE, BARE, HEADERS_ONLY, MESSAGE_ONLY, OPENAI, Dialect, Limit, throttle_reply
from otel_ratelimit.testing.buckets import Refusal, State
from otel_ratelimit.testing.wording import (
    duration,
    limit_headers,
    refusal_body,
    refusal_message,
    retry_after_headers,
)

HELP = "Visit https://platform.openai.com/account/rate-limits to learn more."
TPM = Refusal(Limit("tokens", 30_000), used=29_937, requested=385, delay=0.644)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),  # as Go prints it, and as OpenAI's headers say of a full bucket
        (0.0009, "0s"),
        (0.001, "1ms"),
        (0.564, "564ms"),
        (0.9999, "999ms"),
        (1.0, "1s"),
        (1.25, "1.25s"),
        (10.0, "10s"),
        (60.0, "1m0s"),
        (69.696, "1m9.696s"),
        (360.0, "6m0s"),
        (432.0, "7m12s"),
        (3600.0, "1h0m0s"),
        (14 * 3600 + 29 * 60 + 11.04, "14h29m11.04s"),
        (86_400.0, "24h0m0s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """Milliseconds below a second, then seconds with what is needed of three digits, then minutes and hours."""
    assert duration(seconds) == text


def test_the_message_of_a_token_limit() -> None:
    """OpenAI's own, with its numbers."""
    assert refusal_message(TPM, "gpt-4o", OPENAI) == (
        "Rate limit reached for gpt-4o in organization org-test on tokens per min (TPM): "
        f"Limit 30000, Used 29937, Requested 385. Please try again in 644ms. {HELP}"
    )
    assert refusal_body(TPM, "gpt-4o", OPENAI)["error"] | {"message": ""} == {
        "message": "",
        "type": "tokens",
        "param": None,
        "code": "rate_limit_exceeded",
    }


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (Limit("requests", 3), "on requests per min (RPM): "),
        (Limit("requests", 200, 86_400), "on requests per day (RPD): "),
        (Limit("tokens", 200, 86_400), "on tokens per day (TPD): "),
        (Limit("project_tokens", 200), "on tokens per min (TPM): "),
        (Limit("tokens", 200, 1), "on tokens per sec (TPS): "),
        (Limit("tokens", 200, 3600), "on tokens per hour (TPH): "),
        (Limit("tokens", 200, 10), "on tokens per 10 seconds: "),
    ],
)
def test_every_limit_is_named_with_its_window(limit: Limit, words: str) -> None:
    """An odd window in seconds, rather than as a minute that it is not."""
    assert words in refusal_message(Refusal(limit, 1, 1, 1.0), "gpt-4o", OPENAI)


def test_a_request_that_is_too_large() -> None:
    """No Used and no delay, since no wait helps."""
    refusal = Refusal(Limit("tokens", 30_000), used=0, requested=40_000, delay=20.0)
    message = refusal_message(refusal, "gpt-4o", OPENAI)
    assert message == (
        "Request too large for gpt-4o in organization org-test on tokens per min (TPM): Limit 30000, Requested 40000. "
        f"The input or output tokens must be reduced in order to run successfully. {HELP}"
    )
    quantum = Refusal(Limit("tokens", 30_000, quantum=6.0), used=0, requested=4_000, delay=2.0)
    assert "Limit 3000, Requested 4000." in refusal_message(quantum, "gpt-4o", OPENAI)


def test_the_other_dialects() -> None:
    """No delay, Azure's words, no words."""
    assert refusal_message(TPM, "gpt-4o", Dialect(message="no-delay")).endswith(
        f"Limit 30000, Used 29937, Requested 385. {HELP}"
    )
    assert refusal_body(TPM, "gpt-4o", AZURE) == {
        "error": {
            "code": "429",
            "message": "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have "
            "exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after 1 second.",
        }
    }
    calls = Refusal(Limit("requests", 6), used=6, requested=1, delay=8.2)
    assert "exceeded call rate limit" in refusal_message(calls, "gpt-4o", AZURE)
    assert refusal_message(calls, "gpt-4o", AZURE).endswith("Please retry after 9 seconds.")
    assert refusal_body(TPM, "gpt-4o", BARE) == {
        "error": {"message": "Too Many Requests", "type": None, "param": None, "code": None}
    }


def test_what_each_preset_tells() -> None:
    """Headers on every answer, a delay in the headers of a refusal, a delay in its words."""
    told = {
        name: (dialect.headers, dialect.retry_after, dialect.message)
        for name, dialect in {
            "OPENAI": OPENAI,
            "MESSAGE_ONLY": MESSAGE_ONLY,
            "HEADERS_ONLY": HEADERS_ONLY,
            "BARE": BARE,
            "AZURE": AZURE,
        }.items()
    }
    assert told == {
        "OPENAI": (True, True, "openai"),
        "MESSAGE_ONLY": (False, False, "openai"),
        "HEADERS_ONLY": (True, False, "bare"),
        "BARE": (False, False, "bare"),
        "AZURE": (True, True, "azure"),
    }


def test_headers_of_limits() -> None:
    """OpenAI's names; of a minute's and a day's limit of one kind, the day's is shown."""
    states = [
        State(Limit("tokens", 1_500_000, 86_400), 1_478_342, 1247.458),
        State(Limit("tokens", 30_000), 29_000, 2.0),
        State(Limit("requests", 500), 499, 0.12),
        State(Limit("project_tokens", 600), 600, 0.0),
    ]
    assert limit_headers(states) == {
        "x-ratelimit-limit-tokens": "1500000",
        "x-ratelimit-remaining-tokens": "1478342",
        "x-ratelimit-reset-tokens": "20m47.458s",
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-project-tokens": "600",
        "x-ratelimit-remaining-project-tokens": "600",
        "x-ratelimit-reset-project-tokens": "0s",
    }


def test_headers_of_a_delay() -> None:
    """Whole seconds rounded up, so that nobody comes too early; milliseconds exactly."""
    assert retry_after_headers(0.564) == {"retry-after": "1", "retry-after-ms": "564"}
    assert retry_after_headers(2.0) == {"retry-after": "2", "retry-after-ms": "2000"}


@pytest.mark.parametrize("window", [1.0, 10.0, 60.0, 3600.0, 86_400.0])
@pytest.mark.parametrize("dialect", [OPENAI, MESSAGE_ONLY, Dialect(message="no-delay")])
def test_the_packages_own_parser_reads_every_number(dialect: Dialect, window: float) -> None:
    """What the server means is what the other side understands."""
    refusal = Refusal(Limit("tokens", 30_000, window), used=29_937, requested=385, delay=1.25)
    throttle = parse_throttle(429, {}, refusal_body(refusal, "gpt-4o", dialect))
    assert throttle is not None
    assert (throttle.limit, throttle.used, throttle.requested) == (30_000, 29_937, 385)
    assert throttle.delay == (None if dialect.message == "no-delay" else 1.25)
    assert throttle.kind == "tokens"
    assert throttle.retryable


def test_a_scripted_throttle() -> None:
    """Its delay in its words, and in its headers if asked for."""
    reply = throttle_reply(0.564)
    assert reply.json["error"]["message"].endswith("Please try again in 564ms.")
    assert reply.headers == {}
    assert throttle_reply(1.5, retry_after=True, status=503).headers == {"retry-after": "2", "retry-after-ms": "1500"}
    assert throttle_reply(kind="requests").json["error"]["type"] == "requests"
