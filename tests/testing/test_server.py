"""The running server under the real SDK: its limits and its script."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from otel_ratelimit.testing import (
    AZURE,
    BARE,
    HEADERS_ONLY,
    MESSAGE_ONLY,
    Dialect,
    Limit,
    Reply,
    ThrottlingServer,
    throttle_reply,
)
from otel_ratelimit.testing.answers import TEXT
from tests.testing.conftest import MESSAGES, Caller, chat, frozen, refusal


def test_a_throttle_as_the_sdk_raises_it(caller: Caller) -> None:
    """Message, code, type, body and headers of a real one: Limit 30000, Used 29937, Requested 385, 644 ms."""
    limits = [Limit("tokens", 30_000, used=29_937), Limit("requests", 500)]
    with ThrottlingServer(limits, clock=frozen) as server:
        error = refusal(caller, server, max_tokens=385)
    assert (error.status_code, error.code, error.type) == (429, "rate_limit_exceeded", "tokens")
    assert isinstance(error.body, dict)
    assert "Limit 30000, Used 29937, Requested 385. Please try again in 644ms." in error.body["message"]
    headers = error.response.headers
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("1", "644")
    assert headers["x-ratelimit-limit-tokens"] == "30000"
    assert headers["x-ratelimit-remaining-tokens"] == "63"
    assert headers["x-ratelimit-reset-tokens"] == "59.874s"
    assert headers["x-ratelimit-remaining-requests"] == "499"
    assert error.request_id is not None
    assert error.request_id.startswith("req_")


def test_the_headers_of_a_success(caller: Caller) -> None:
    """What is left after it: 385 tokens and one request less."""
    with ThrottlingServer([Limit("tokens", 30_000), Limit("requests", 60)], clock=frozen) as server:
        raw = caller(
            server,
            lambda client: client.chat.completions.with_raw_response.create(
                model="gpt-4o", messages=MESSAGES, max_tokens=385
            ),
        )
    told = {name: value for name, value in raw.headers.items() if name.startswith("x-ratelimit")}
    assert told == {
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "29615",
        "x-ratelimit-reset-tokens": "770ms",
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
    }
    assert "retry-after" not in raw.headers


@pytest.mark.parametrize(
    ("dialect", "limits_told", "delay_told", "words"),
    [
        (MESSAGE_ONLY, False, False, "Please try again in 644ms."),
        (HEADERS_ONLY, True, False, "Too Many Requests"),
        (BARE, False, False, "Too Many Requests"),
        (AZURE, True, True, "Please retry after 1 second."),
        (Dialect(message="no-delay"), True, True, "Requested 385. Visit"),
    ],
    ids=["message-only", "headers-only", "bare", "azure", "no-delay"],
)
def test_dialects(dialect: Dialect, limits_told: bool, delay_told: bool, words: str) -> None:
    """Each tells just what it says it does."""
    with ThrottlingServer([Limit("tokens", 30_000, used=29_937)], clock=frozen, dialect=dialect) as server:
        error = refusal(Caller("sync"), server, max_tokens=385)
    headers = error.response.headers
    assert any(name.startswith("x-ratelimit") for name in headers) == limits_told
    assert ("retry-after" in headers, "retry-after-ms" in headers) == (delay_told, delay_told)
    assert words in error.message


def test_a_request_that_is_too_large_gets_no_delay(caller: Caller) -> None:
    """Neither in words nor in headers, since no wait helps."""
    with ThrottlingServer([Limit("tokens", 1000)]) as server:
        error = refusal(caller, server, max_tokens=1001)
    assert "Request too large" in error.message
    assert "try again" not in error.message
    assert "retry-after" not in error.response.headers


def test_limits_can_be_changed_and_used_by_others(caller: Caller) -> None:
    """``take`` empties one, ``set_limit`` resizes or adds one, between two requests."""
    with ThrottlingServer([Limit("tokens", 1000)], clock=frozen) as server:
        server.take("tokens", 950)
        assert "Used 950, Requested 100." in refusal(caller, server, max_tokens=100).message
        server.set_limit(Limit("tokens", 100_000))
        assert caller(server, lambda client: chat(client, max_tokens=100)).choices
        server.set_limit(Limit("requests", 10, used=10))
        assert "Limit 10, Used 10, Requested 1." in refusal(caller, server).message
        with pytest.raises(ValueError, match="no limit of kind 'project_tokens'"):
            server.take("project_tokens", 1)


def test_a_limit_refills_by_the_servers_own_clock(caller: Caller) -> None:
    """A test that moves the clock waits for nothing."""
    now = 50.0
    with ThrottlingServer([Limit("tokens", 600, used=600)], clock=lambda: now) as server:
        assert "try again in 10s" in refusal(caller, server, max_tokens=100).message
        now += 10.0
        assert caller(server, lambda client: chat(client, max_tokens=100)).choices
        assert [request.time for request in server.requests] == [50.0, 60.0]


def test_uploads_and_lists_cost_a_request_and_no_tokens(caller: Caller) -> None:
    """Only what has a JSON body is taken for tokens."""
    with ThrottlingServer([Limit("tokens", 100, used=100), Limit("requests", 2)], clock=frozen) as server:
        caller(server, lambda client: client.files.create(file=("a", b"x" * 10_000), purpose="batch"))
        caller(server, lambda client: client.models.retrieve("gpt-4o"))
        with pytest.raises(openai.RateLimitError, match="requests per min"):
            caller(server, lambda client: client.models.retrieve("gpt-4o"))


def test_the_script_is_used_up_in_order_and_then_the_limits_rule(caller: Caller) -> None:
    """Scripted answers are not charged: the one token limit is whole when they are used up."""
    script = [throttle_reply(0.5), Reply(status=500), Reply.ok(), Reply(status=503, json={"error": {"message": "no"}})]
    with ThrottlingServer([Limit("tokens", 100)], script=script, clock=frozen) as server:
        statuses = []
        for _ in range(6):
            try:
                caller(server, lambda client: chat(client, max_tokens=100))
                statuses.append(200)
            except openai.APIStatusError as error:
                statuses.append(error.status_code)
        assert statuses == [429, 500, 200, 503, 200, 429]
        assert [request.status for request in server.requests] == statuses
        server.script([Reply(status=500), Reply(status=500)])
        server.script([Reply.ok()])  # replaces what was left
        assert caller(server, chat).choices
        refusal(caller, server)


def test_a_reply_is_sent_as_it_is(caller: Caller, server: ThrottlingServer) -> None:
    """Status, headers, object or bytes."""
    server.script(
        [
            Reply(status=418, json={"error": {"message": "short and stout"}}, headers={"X-Pot": "tea"}),
            Reply(status=502, body=b"<html>Bad Gateway</html>", headers={"content-type": "text/html"}),
        ]
    )
    with pytest.raises(openai.APIStatusError) as raised:
        caller(server, chat)
    assert (raised.value.status_code, raised.value.response.headers["x-pot"]) == (418, "tea")
    assert raised.value.body == {"message": "short and stout"}
    with pytest.raises(openai.InternalServerError) as internal:
        caller(server, chat)
    assert internal.value.response.text == "<html>Bad Gateway</html>"
    assert internal.value.response.headers["content-type"] == "text/html"


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (500, openai.InternalServerError, "The server had an error"),
        (503, openai.InternalServerError, "The server had an error"),
        (429, openai.RateLimitError, "Too Many Requests"),
        (401, openai.AuthenticationError, "Unauthorized"),
        (499, openai.APIStatusError, "Error"),
    ],
)
def test_a_bare_status(server: ThrottlingServer, status: int, error: type[Exception], words: str) -> None:
    """Worded by itself, and without a hint of a delay."""
    server.script([Reply(status=status)])
    with pytest.raises(error, match=words):
        Caller("sync")(server, chat)
    assert server.counts.statuses == {status: 1}
    assert server.counts.throttled == (status == 429)


def test_a_scripted_2xx_is_the_ordinary_answer(caller: Caller, server: ThrottlingServer) -> None:
    """With its own status and headers."""
    server.script([Reply(status=201, headers={"x-mine": "yes"})])
    raw = caller(server, lambda client: client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES))
    assert (raw.http_response.status_code, raw.headers["x-mine"]) == (201, "yes")
    assert raw.parse().choices[0].message.content == TEXT


@pytest.mark.parametrize(
    "arguments",
    [{"json": {}, "body": b""}, {"events": ()}, {"status": 100}, {"status": 600}, {"events": ({},), "json": 1}],
)
def test_a_reply_that_cannot_be_is_refused(arguments: dict[str, Any]) -> None:
    """When it is made, and not by a broken answer later."""
    with pytest.raises(ValueError, match="Reply"):
        Reply(**arguments)
