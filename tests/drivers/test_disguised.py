"""Throttles with status 200, whose whole body is the refusal, over sockets with the real SDK."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import openai
import pydantic
import pytest

from otel_ratelimit.testing import Fault, Reply, ThrottlingServer, throttle_reply
from tests.drivers.conftest import MESSAGES, Caller, chat, needs_responses
from tests.drivers.test_streams import collect, create
from tests.telemetry_probe import Probe

Instrumented = Callable[..., Probe]

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

DELAY = 0.15
TEXT = "Rate limit reached. Please try again in 150ms."
ERROR = {"code": 429, "message": TEXT}
IN_BODY = Reply(json={"error": ERROR, "user_id": "u"})
IN_CHOICE = Reply(
    json={
        "id": "gen-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "error", "message": {"role": "assistant", "content": ""}, "error": ERROR}],
    }
)  # fmt: skip
FAILED = Reply(
    json={
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": [], "tools": [], "status": "failed",
        "parallel_tool_calls": True, "tool_choice": "auto", "error": {"code": "rate_limit_exceeded", "message": TEXT},
    }
)  # fmt: skip
BARE = Reply(json={"error": {"code": 429, "message": "Rate limit exceeded"}}, headers={"retry-after-ms": "150"})


def respond(client: Any) -> Any:
    return client.responses.create(model="gpt-4o", input="Say hello.")


def embed(client: Any) -> Any:
    return client.embeddings.create(model="text-embedding-3-small", input="Say hello.")


def raw(client: Any) -> Any:
    return client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES)


class Answer(pydantic.BaseModel):
    """What the model is asked for."""

    answer: str


def parsed(client: Any) -> Any:
    return client.chat.completions.parse(model="gpt-4o", messages=MESSAGES, response_format=Answer)


CALLS = {
    "an error in the body": (IN_BODY, chat),
    "an error in a choice": (IN_CHOICE, chat),
    "a failed response": (FAILED, respond),
    "embeddings": (IN_BODY, embed),
    "a raw response": (IN_BODY, raw),
    "a raw response with the error in a choice": (IN_CHOICE, raw),
    "parsed into a model": (IN_BODY, parsed),
    "only the head tells when": (BARE, chat),
}


def recovered(probe: Probe, server: ThrottlingServer, throttles: int = 1) -> None:
    """Counted once, by the server and in all that we tell."""
    assert (server.counts.throttled, server.counts.succeeded) == (throttles, 1)
    assert probe.total("otel_ratelimit.throttles", http_response_status_code=200) == throttles
    assert probe.names() == {"rate_limited": 1, "throttle": throttles, "wait": throttles, "retry": throttles}
    assert probe.total("otel_ratelimit.give_ups") == 0


@needs_responses
@pytest.mark.feature("a 200 whose body is a throttle is waited for")
@pytest.mark.parametrize("call", CALLS)
def test_it_is_waited_for(caller: Caller, server: ThrottlingServer, instrumented: Instrumented, call: str) -> None:
    """As long as it says, and the caller has the answer to the second attempt."""
    probe = instrumented(buffer=0.01)
    reply, action = CALLS[call]
    server.script([reply])
    began = time.monotonic()
    answer = caller(server, action)
    assert time.monotonic() - began >= DELAY
    assert "error" not in str(getattr(answer, "text", ""))
    assert getattr(answer, "error", None) is None
    recovered(probe, server)


def test_after_it_and_before_it(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """In one call with a 429 and a broken connection."""
    probe = instrumented(buffer=0.01)
    server.script([throttle_reply(0.05), IN_BODY, Fault.reset(), IN_CHOICE])
    assert caller(server, chat).choices[0].message.content
    assert server.counts.requests == 5
    assert probe.total("otel_ratelimit.throttles") == server.counts.throttled == 3


@needs_responses
@pytest.mark.parametrize(
    "call", ["an error in the body", "an error in a choice", "a failed response", "a raw response"]
)
@pytest.mark.parametrize(
    ("settings", "options", "reason"),
    [({"max_wait": 0.05}, {}, "budget_exceeded"), ({}, {"max_retries": 0}, "retries_disabled")],
    ids=["budget", "max_retries=0"],
)
def test_at_the_end_the_caller_has_what_the_sdk_made_of_it(
    server: ThrottlingServer, instrumented: Instrumented, call: str, settings: Any, options: Any, reason: str
) -> None:
    """The object with the error in it, as without us: programs that know such gateways look for it."""
    reply, action = CALLS[call]
    caller = Caller("sync")
    server.script([reply])
    alone = caller(server, action, max_retries=0)
    probe = instrumented(**settings)
    server.script([reply])
    answer = caller(server, action, **options)
    assert type(answer) is type(alone)
    if hasattr(alone, "to_dict"):
        assert answer.to_dict() == alone.to_dict() == reply.json
    else:
        assert answer.http_response.json() == reply.json
    assert server.counts.requests == 2
    assert probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason=reason) == 1
    assert probe.total("otel_ratelimit.throttles") == 1


@pytest.mark.parametrize(("action", "kind"), [(parsed, TypeError), (embed, ValueError)], ids=["parse", "embeddings"])
def test_at_the_end_the_sdk_stumbles_as_without_us(
    server: ThrottlingServer, instrumented: Instrumented, action: Any, kind: type[Exception]
) -> None:
    """``parse`` reads choices that are not there, and embeddings miss their data."""
    caller = Caller("sync")
    server.script([IN_BODY] * 2)
    with pytest.raises(kind) as alone:
        caller(server, action)
    instrumented(max_wait=0.05)
    with pytest.raises(kind) as raised:
        caller(server, action)
    assert str(raised.value) == str(alone.value)
    assert server.counts.requests == 2


def test_in_observe_mode(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """Counted, and handed over."""
    probe = instrumented(mode="observe")
    server.script([IN_BODY])
    assert caller(server, chat).to_dict() == IN_BODY.json
    assert server.counts.requests == 1
    assert probe.total("otel_ratelimit.throttles") == 1
    assert probe.names()["throttle"] == 1


NOT_ASKED = {
    "another error": (Reply(json={"error": {"code": 400, "message": "Your prompt is too long."}}), chat),
    "a job that failed": (FAILED, lambda client: client.responses.retrieve("resp_1")),
    "in the background": (
        FAILED,
        lambda client: client.responses.create(model="gpt-4o", input="Say hello.", background=True),
    ),
    "a batch": (
        Reply(json={"id": "b", "object": "batch", "errors": {"data": [{"code": "rate_limit_exceeded", "message": TEXT}]}}),
        lambda client: client.batches.retrieve("b"),
    ),
    "words of the model": (
        Reply(
            json={
                "id": "c", "object": "chat.completion", "created": 1, "model": "m", "code": 200,
                "choices": [{
                    "index": 0, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": '{"error": {"code": 429, "message": "rate limit"}}'},
                }],
            }
        ),
        chat,
    ),
    "words of the model, raw": (
        Reply(
            json={
                "choices": [{"message": {"role": "assistant", "content": '{"error": {"code": 429}} too many requests'}}],
                "error": None,
            }
        ),
        raw,
    ),
}  # fmt: skip


@needs_responses
@pytest.mark.parametrize("case", NOT_ASKED)
def test_what_is_none(server: ThrottlingServer, instrumented: Instrumented, case: str) -> None:
    """Errors that no wait mends, jobs that failed before, and what a model writes about throttles: one request."""
    probe = instrumented()
    reply, action = NOT_ASKED[case]
    server.script([reply])
    Caller("sync")(server, action)
    assert server.counts.requests == 1
    assert probe.names() == {}
    assert probe.total("otel_ratelimit.throttles") == 0


@pytest.mark.parametrize("api", ["chat", pytest.param("responses", marks=needs_responses)])
def test_a_stream_was_asked_for(caller: Caller, server: ThrottlingServer, instrumented: Instrumented, api: str) -> None:
    """The refusal comes as a whole body all the same: the SDK finds no event in it, and its caller would have an empty stream."""
    expected = len(caller(server, collect(caller, lambda client: create(client, api)))[0])
    server.script([IN_BODY])
    assert caller(server, collect(caller, lambda client: create(client, api)))[0] == []
    probe = instrumented(buffer=0.01)
    server.script([IN_BODY])
    before = server.counts.throttled
    assert len(caller(server, collect(caller, lambda client: create(client, api)))[0]) == expected
    assert probe.total("otel_ratelimit.throttles") == server.counts.throttled - before == 1
    server.script([IN_BODY] * 20)
    with_little = caller(server, collect(caller, lambda client: create(client, api, timeout=5)), max_retries=0)
    assert with_little[0] == []


AZURE: tuple[dict[str, Any], ...] = (
    {
        "type": "response.created",
        "sequence_number": 0,
        "response": {**FAILED.json, "status": "in_progress", "error": None},
    },
    {"type": "response.failed", "sequence_number": 1, "response": {**FAILED.json, "error": None}},
    {"type": "error", "sequence_number": 2, "code": "rate_limit_exceeded", "message": TEXT, "param": None},
)


@needs_responses
def test_a_failure_that_does_not_say_of_what(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """Azure's ``response.failed`` has no error, and the event after it has: one throttle, and a clean stream."""
    expected = [event.type for event in caller(server, collect(caller, lambda client: create(client, "responses")))[0]]
    probe = instrumented(buffer=0.01)
    server.script([Reply(events=AZURE)])
    events, _ = caller(server, collect(caller, lambda client: create(client, "responses")))
    assert [event.type for event in events] == expected
    assert probe.total("otel_ratelimit.throttles") == 1
    assert probe.recoveries() == {"rate_limited": 1, "throttle": 1, "retry": 1}


@needs_responses
def test_a_failure_that_was_none_of_a_limit(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """Nothing is lost of it, and nothing is sent again: whether another event follows, none, or the budget is over."""
    instrumented(max_wait=0.05)
    other = {
        "type": "error",
        "sequence_number": 2,
        "code": "server_error",
        "message": "Something broke.",
        "param": None,
    }
    events: Any
    for events in ((*AZURE[:2], other), AZURE[:2], AZURE):
        server.script([Reply(events=events)])
        before = server.counts.requests
        got, _ = caller(server, collect(caller, lambda client: create(client, "responses")))
        assert [event.type for event in got] == [event["type"] for event in events]
        assert server.counts.requests == before + 1


@pytest.mark.parametrize(
    "headers", [{"retry-after-ms": "300"}, {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "300ms"}]
)
def test_the_head_around_a_refused_stream_tells_when(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented, headers: dict[str, str]
) -> None:
    """The event says no time; the head of its 200 does."""
    probe = instrumented(buffer=0.01, pacing=False)
    error = {"error": {"code": "rate_limit_exceeded", "type": "tokens", "message": "Rate limit reached."}}
    server.script([Reply(events=(error,), headers=headers)])
    began = time.monotonic()
    assert caller(server, collect(caller, lambda client: create(client, "chat")))[0]
    assert time.monotonic() - began >= 0.3
    assert (probe.only("throttle").attributes or {})["otel_ratelimit.hint.delay"] == 0.3


def test_a_page_of_html_with_nothing_left(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """A gateway's 503 whose headers say that the limit is used up, and when it is back."""
    probe = instrumented(buffer=0.01)
    headers = {
        "content-type": "text/html",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "200ms",
    }
    page = b"<html><head><title>503 Service Unavailable</title></head><body>Service Unavailable</body></html>"
    server.script([Reply(status=503, body=page, headers=headers)] * 4)
    assert caller(server, chat, max_retries=1).choices
    assert probe.total("otel_ratelimit.throttles", http_response_status_code=503) == 4


def test_explain_says_the_same() -> None:
    """For each body above: a throttle there is a throttle here."""
    import json

    from otel_ratelimit._commands.explain.meaning import explain
    from otel_ratelimit._commands.explain.paste import read

    for name, (reply, _) in CALLS.items():
        head = "".join(f"{key}: {value}\n" for key, value in reply.headers.items())
        text = f"HTTP/1.1 200 OK\ncontent-type: application/json\n{head}\n{json.dumps(reply.json)}"
        assert len(explain(read(text))[0]) == 1, name


def test_strict_validation(server: ThrottlingServer, instrumented: Instrumented) -> None:
    """The SDK raises its own error where it is told to validate; that is seen through too."""
    probe = instrumented(buffer=0.01)
    server.script([IN_BODY])
    assert Caller("sync")(server, chat, _strict_response_validation=True).choices
    recovered(probe, server)
    server.script([Reply(json={"choices": 3})])
    with pytest.raises(openai.APIResponseValidationError):
        Caller("sync")(server, chat, _strict_response_validation=True)
