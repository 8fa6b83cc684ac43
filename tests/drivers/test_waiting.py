"""The main job, over sockets with the real SDK: throttled calls wait what the server asked, and succeed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import openai
import pytest

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit.testing import Fault, Reply, ThrottlingServer, throttle_reply
from tests.drivers.conftest import MESSAGES, Caller, chat
from tests.telemetry_probe import Probe, notes, parent_id, span_id

Instrumented = Callable[..., Probe]


def retry_counts(server: ThrottlingServer) -> list[str | None]:
    return [request.headers.get("x-stainless-retry-count") for request in server.requests]


@pytest.mark.feature("a 429 is waited for")
def test_a_429_with_a_delay_in_its_message_and_then_a_200(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """The best known example: 564 ms, one throttle, one wait, one retry, and the server counted one 429."""
    probe = instrumented()
    caller(server, chat)  # the SDK imports some of itself at the first call
    server.script([throttle_reply(delay=0.564)])
    began = time.monotonic()
    answer = caller(server, chat)
    took = time.monotonic() - began
    assert answer.choices[0].message.content
    assert took >= 0.564
    assert server.counts.throttled == 1
    assert probe.names() == {"rate_limited": 1, "throttle": 1, "wait": 1, "retry": 1}
    call = probe.only("rate_limited")
    for word in ("throttle", "wait", "retry"):
        assert parent_id(probe.only(word)) == span_id(call)
    assert call.attributes is not None
    assert call.attributes["otel_ratelimit.outcome"] == "recovered"
    wait = probe.only("wait")
    assert wait.attributes is not None
    planned = wait.attributes["otel_ratelimit.wait.planned"]
    assert isinstance(planned, float)
    assert 0 < planned <= 0.65  # what was decided; how long it took is the machine's affair too
    refused, resent = probe.only("throttle").end_time, probe.only("retry").start_time
    assert refused is not None
    assert resent is not None
    assert resent - refused >= 0.564e9
    assert probe.total("otel_ratelimit.throttles") == 1
    assert probe.total("otel_ratelimit.retries") == 1
    assert probe.total("otel_ratelimit.wait.duration") == 1


def test_an_undisturbed_call_makes_no_span(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """Two histogram points are all that it leaves."""
    probe = instrumented()
    caller(server, chat)
    assert probe.spans() == []
    assert probe.total("otel_ratelimit.attempt.duration", http_response_status_code=200) == 1
    assert probe.total("otel_ratelimit.call.duration") == 1


def test_the_retry_count_is_told_to_the_server_and_to_the_caller(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """Over our retries and the SDK's own, numbered through."""
    instrumented()
    server.script([throttle_reply(delay=0.01), Reply(status=500), throttle_reply(delay=0.01)])
    raw = caller(
        server, lambda client: client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES)
    )
    assert retry_counts(server) == ["0", "1", "2", "3"]
    assert raw.retries_taken == 3


def test_a_header_that_the_caller_set_is_left_alone(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """Set, or omitted, by ``extra_headers``: the SDK's own rule, kept."""
    instrumented()
    server.script([throttle_reply(delay=0.01)])
    caller(server, lambda client: chat(client, extra_headers={"x-stainless-retry-count": "seven"}))
    assert retry_counts(server) == ["seven", "seven"]
    server.script([throttle_reply(delay=0.01)])
    omit = openai.Omit()
    caller(server, lambda client: chat(client, extra_headers={"x-stainless-retry-count": omit}))
    assert retry_counts(server)[-2:] == [None, None]


def test_every_attempt_is_built_afresh(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """A token provider is asked again for each attempt, so that a token that expired during the wait is no trouble."""
    if tuple(int(part) for part in openai.__version__.split(".")[:2]) < (1, 106):
        pytest.skip("api_key takes a function from openai 1.106 on")
    instrumented()
    server.script([throttle_reply(delay=0.01)])
    tokens = iter(["first", "second"])

    async def provide() -> str:
        return next(tokens)

    caller(server, chat, api_key=provide if caller.asynchronous else lambda: next(tokens))
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer first", "Bearer second"]


# Under trio the SDK's own stream leaves two of its generators to the garbage collector; without us too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("raw", [False, True])
def test_a_stream_that_is_refused_is_opened_again(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented, raw: bool
) -> None:
    """A 429 instead of a stream: its body is read although nothing asked for it, and the stream that follows is whole."""
    probe = instrumented()
    server.script([throttle_reply(delay=0.05)])

    def read(client: Any) -> Any:
        create = client.chat.completions.with_raw_response.create if raw else client.chat.completions.create
        if not caller.asynchronous:
            stream = create(model="gpt-4o", messages=MESSAGES, stream=True)
            return [chunk.object for chunk in (stream.parse() if raw else stream)]

        async def collect() -> list[str]:
            stream = await create(model="gpt-4o", messages=MESSAGES, stream=True)
            return [chunk.object async for chunk in (stream.parse() if raw else stream)]

        return collect()

    chunks = caller(server, read)
    assert set(chunks) == {"chat.completion.chunk"}
    assert probe.only("throttle").attributes["otel_ratelimit.hint.delay"] == 0.05  # type: ignore[index]
    assert probe.recoveries() == {"rate_limited": 1, "throttle": 1, "retry": 1}


@pytest.mark.feature("with_streaming_response")
def test_with_streaming_response(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """The raw bytes of the answer that counts, and the truth about how often it was asked for."""
    instrumented()
    server.script([throttle_reply(delay=0.05)])

    def read(client: Any) -> Any:
        manager = client.chat.completions.with_streaming_response.create(model="gpt-4o", messages=MESSAGES)
        if not caller.asynchronous:
            with manager as response:
                return response.retries_taken, b"".join(response.iter_bytes())

        async def collect() -> Any:
            async with manager as response:
                return response.retries_taken, b"".join([part async for part in response.iter_bytes()])

        return collect()

    retries, body = caller(server, read)
    assert retries == 1
    assert b"chat.completion" in body


def test_each_page_is_a_call_of_its_own(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """A throttle on the second page waits there; the pages numbered 0, 0, 1 in their own retries."""
    probe = instrumented()

    def read(client: Any) -> Any:
        if not caller.asynchronous:
            first = client.files.list(limit=2)
            server.script([throttle_reply(delay=0.02)])
            return [item.id for item in first.get_next_page().data]

        async def collect() -> list[str]:
            first = await client.files.list(limit=2)
            server.script([throttle_reply(delay=0.02)])
            return [item.id for item in (await first.get_next_page()).data]

        return collect()

    assert caller(server, read)
    assert retry_counts(server) == ["0", "0", "1"]
    assert probe.only("rate_limited").name == "rate_limited files"


def test_a_delay_over_the_budget_is_raised_at_once(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """What does not fit is not waited for, and a note says so. (The delay would take the test's whole time.)"""
    probe = instrumented(max_wait=5.0)
    server.script([throttle_reply(delay=300.0)])
    with pytest.raises(openai.RateLimitError) as raised:
        caller(server, chat)
    (note,) = notes(raised.value)
    assert note.startswith("otel_ratelimit: gave up after 1 attempt and 0.000 s of waiting (budget 5 s, next wait 300")
    assert probe.names() == {"rate_limited": 1, "throttle": 1}
    assert probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason="budget_exceeded") == 1


def test_the_sdks_own_exception_goes_up_unchanged(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """Same type, body, code and response as without us, for a quota that no wait refills."""
    instrumented()
    body = {
        "error": {
            "message": "You exceeded your current quota.",
            "type": "insufficient_quota",
            "code": "insufficient_quota",
        }
    }
    server.script([Reply(status=429, json=body)])
    with pytest.raises(openai.RateLimitError) as raised:
        caller(server, chat)
    assert raised.value.code == "insufficient_quota"
    assert raised.value.body == body["error"]
    assert raised.value.response.status_code == 429
    assert server.counts.requests == 1


def test_max_retries_0_is_respected(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """The caller said once; the throttle is still seen."""
    probe = instrumented()
    server.script([throttle_reply(delay=0.01)])
    with pytest.raises(openai.RateLimitError):
        caller(server, chat, max_retries=0)
    assert server.counts.requests == 1
    assert probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason="retries_disabled") == 1


def test_x_should_retry_false_is_obeyed(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """The server's last word, which the SDK obeys too."""
    probe = instrumented()
    reply = throttle_reply(delay=0.01)
    server.script([Reply(status=429, json=reply.json, headers={"x-should-retry": "false"})])
    with pytest.raises(openai.RateLimitError):
        caller(server, chat)
    assert server.counts.requests == 1
    assert probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason="server_refused") == 1


@pytest.mark.feature("5xx, timeouts and lost connections keep the SDK's rules")
def test_other_failures_keep_the_sdks_rules(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """A 500 is retried twice, by the SDK, and is no throttle; but it is seen."""
    probe = instrumented()
    server.script([Reply(status=500), Reply(status=500), Reply(status=500)])
    with pytest.raises(openai.InternalServerError):
        caller(server, chat)
    assert server.counts.requests == 3
    assert probe.names() == {"rate_limited": 1, "wait": 2, "retry": 2}
    assert probe.total("otel_ratelimit.retries", otel_ratelimit_retry_reason="server_error") == 2
    assert probe.total("otel_ratelimit.throttles") == 0
    assert probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason="retries_exhausted") == 1


def test_a_plain_503_is_no_throttle(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """A server that is down says nothing of load: two retries, as ever, and not ten minutes of patience."""
    probe = instrumented()
    server.script([Reply(status=503, body=b"<html>Service Unavailable</html>")] * 3)
    with pytest.raises(openai.InternalServerError):
        caller(server, chat)
    assert server.counts.requests == 3
    assert probe.total("otel_ratelimit.throttles") == 0
    assert probe.total("otel_ratelimit.retries", otel_ratelimit_retry_reason="server_error") == 2


def test_a_503_that_says_overloaded_is_waited_for(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """More often than the SDK's two retries would: the budget is time."""
    probe = instrumented(max_backoff=0.05)
    body = {"error": {"message": "The model is overloaded. Please try again later.", "code": "server_is_overloaded"}}
    server.script([Reply(status=503, json=body)] * 4)
    assert caller(server, chat).choices
    assert server.counts.requests == 5
    assert probe.total("otel_ratelimit.throttles", otel_ratelimit_limit_kind="overload") == 4


def test_a_lost_connection_is_retried_by_the_sdk_and_seen(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """Its reason is told apart from a throttle's."""
    probe = instrumented()
    server.script([Fault.reset(), throttle_reply(delay=0.02)])
    assert caller(server, chat).choices
    assert probe.total("otel_ratelimit.retries", otel_ratelimit_retry_reason="connection") == 1
    assert probe.total("otel_ratelimit.retries", otel_ratelimit_retry_reason="throttle") == 1
    assert probe.recoveries() == {"rate_limited": 1, "throttle": 1, "retry": 2}


@pytest.mark.feature("observe mode")
def test_observe_mode_changes_nothing_and_shows_everything(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """The SDK's two retries and no more; every throttle, wait and retry is there all the same."""
    probe = instrumented(mode="observe")
    server.script([throttle_reply(delay=0.02)] * 3)
    with pytest.raises(openai.RateLimitError):
        caller(server, chat)
    assert server.counts.throttled == 3
    assert probe.names() == {"rate_limited": 1, "throttle": 3, "wait": 2, "retry": 2}
    assert probe.total("otel_ratelimit.throttles") == 3
    assert retry_counts(server) == ["0", "1", "2"]
    # three delays of 0.02 s and their buffers, and the floor of a call that is throttled again
    planned = (probe.spans("rate_limited")[0].attributes or {})["otel_ratelimit.wait.planned"]
    assert planned == pytest.approx(0.045 + 0.1 + 0.2, abs=0.01)


def test_a_policy_for_one_block(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """``use`` holds inside its block, in tasks that it starts too, and no longer."""
    instrumented()
    server.script([throttle_reply(delay=0.2)])
    with otel_ratelimit.use(Policy(max_wait=0.1)), pytest.raises(openai.RateLimitError):
        caller(server, chat)
    server.script([throttle_reply(delay=0.2)])
    assert caller(server, chat).choices


def test_the_idempotency_key_is_kept_over_attempts(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """Where the SDK sends one (its header is set on the client), our attempts carry the same."""
    instrumented()
    server.script([throttle_reply(delay=0.01), throttle_reply(delay=0.01)])

    def with_header(client: Any) -> Any:
        client._idempotency_header = "Idempotency-Key"
        return chat(client)

    caller(server, with_header)
    keys = {request.headers["idempotency-key"] for request in server.requests}
    assert len(server.requests) == 3
    assert len(keys) == 1
