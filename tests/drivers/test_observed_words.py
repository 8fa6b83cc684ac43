"""Observe mode in words: what was done, which is nothing, and what would have been; never a budget of 0 s."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import openai
import pytest

from otel_ratelimit.testing import Reply, ThrottlingServer, throttle_reply
from tests.drivers.conftest import Caller, chat
from tests.telemetry_probe import Probe, notes

Instrumented = Callable[..., Probe]

QUOTA = Reply(status=429, json={"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}})


@pytest.mark.parametrize(
    ("replies", "options", "attempts", "would"),
    [
        ([throttle_reply(delay=0.01)] * 3, {}, "3 attempts", r"have waited 0\.\d{3} s and sent it again"),
        (
            [throttle_reply(delay=0.01)],
            {"max_retries": 0},
            "1 attempt",
            "have raised it as well, because of max_retries=0",
        ),
        ([throttle_reply(delay=30.0)], {"max_retries": 0}, "1 attempt", "have raised it as well"),
        ([QUOTA] * 3, {"max_retries": 1}, "2 attempts", "have failed at once: waiting does not help"),
        (
            [throttle_reply(delay=0.01), throttle_reply(delay=700.0)],
            {"max_retries": 1},
            "2 attempts",
            r"have given up at once: 7\d\d\.\d{3} s do not fit the budget of 600 s",
        ),
    ],
)
def test_a_note_says_what_would_have_been(
    caller: Caller,
    instrumented: Instrumented,
    caplog: pytest.LogCaptureFixture,
    replies: list[Reply],
    options: dict[str, Any],
    attempts: str,
    would: str,
) -> None:
    """One sentence on the SDK's own exception, and one line in the log that begins with the mode."""
    instrumented(mode="observe")
    with (
        caplog.at_level(logging.INFO, logger="otel_ratelimit"),
        ThrottlingServer(script=replies) as server,
        pytest.raises(openai.RateLimitError) as raised,
    ):
        caller(server, chat, **options)
    (note,) = notes(raised.value)
    assert re.fullmatch(
        r"otel_ratelimit \(observe mode\): "
        rf'the SDK gave up after {attempts}, and nothing was changed; mode "wait" would {would}.*',
        note,
    )
    said = [record.getMessage() for record in caplog.records]
    assert said
    assert all(line.startswith("observe mode: ") for line in said), said
    assert "budget 0 s" not in note + "".join(said)
    assert any(re.search(r"the SDK gave chat gpt-4o up after \d throttles? \(retries_\w+\)", line) for line in said)
