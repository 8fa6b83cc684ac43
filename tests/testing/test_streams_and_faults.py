"""What goes wrong on purpose: streams that are throttles, broken connections, latency."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import openai
import pytest

from otel_ratelimit.testing import (
    Fault,
    Limit,
    Reply,
    ThrottlingServer,
)
from tests.testing.conftest import MESSAGES, Caller, chat, frozen, httpx, needs_responses, refusal


@pytest.mark.parametrize("after_content", [False, True])
def test_a_chat_stream_that_turns_out_to_be_a_throttle(
    caller: Caller, server: ThrottlingServer, after_content: bool
) -> None:
    """The SDK raises in the middle of it; the server counts a throttle and no success."""
    server.script([Reply.stream_throttle(delay=1.25, api="chat", after_content=after_content)])
    got: list[str] = []

    def read(client: Any) -> Any:
        if not caller.asynchronous:
            got.extend(chunk.choices[0].delta.content for chunk in chat(client, stream=True))
            return None

        async def collect() -> None:
            async for chunk in await chat(client, stream=True):
                got.append(chunk.choices[0].delta.content)  # noqa: PERF401 - what came before the error counts

        return collect()

    with pytest.raises(openai.APIError, match=r"Please try again in 1\.25s\.") as raised:
        caller(server, read)
    assert raised.value.code == "rate_limit_exceeded"
    assert got == ["Hel"] * after_content
    assert (server.counts.throttled, server.counts.succeeded, server.counts.statuses) == (1, 0, {200: 1})


@needs_responses
@pytest.mark.parametrize("after_content", [False, True])
def test_a_responses_stream_that_turns_out_to_be_a_throttle(
    caller: Caller, server: ThrottlingServer, after_content: bool
) -> None:
    """The SDK hands the failure on as the last event."""
    server.script([Reply.stream_throttle(delay=0.5, after_content=after_content)])
    events = caller.events(server, lambda client: client.responses.create(model="gpt-4o", input="hi", stream=True))
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        *["response.output_text.delta"] * after_content,
        "response.failed",
    ]
    assert events[-1].response.error.code == "rate_limit_exceeded"
    assert "Please try again in 500ms." in events[-1].response.error.message
    assert (server.counts.throttled, server.counts.succeeded) == (1, 0)


def test_a_scripted_stream(caller: Caller, server: ThrottlingServer) -> None:
    """Of one's own events, closed as chat streams are."""
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choice = {"index": 0, "delta": {"content": "mine"}, "finish_reason": None}
    server.script([Reply(events=({**chunk, "choices": [choice]},))])
    (found,) = caller.events(server, lambda client: chat(client, stream=True))
    assert found.choices[0].delta.content == "mine"
    assert server.counts.succeeded == 1


@needs_responses
def test_a_throttle_instead_of_a_stream(caller: Caller) -> None:
    """Limits hold for streams as for anything else; a stream that is let through carries the headers too."""
    with ThrottlingServer([Limit("tokens", 100)], clock=frozen) as server:
        raw = caller(
            server,
            lambda client: client.responses.with_raw_response.create(
                model="gpt-4o", input="hi", max_output_tokens=100, stream=True
            ),
        )
        assert raw.headers["content-type"].startswith("text/event-stream")
        assert raw.headers["x-ratelimit-remaining-tokens"] == "0"
        refusal(caller, server, stream=True)


def test_a_stream_that_nobody_reads_to_its_end(caller: Caller, server: ThrottlingServer) -> None:
    """The client hangs up after the first chunk; the server goes on with the next request."""

    def read(client: Any) -> Any:
        if not caller.asynchronous:
            with chat(client, stream=True) as stream:
                return next(iter(stream))

        async def first() -> Any:
            async with await chat(client, stream=True) as stream:
                return await stream.__anext__()

        return first()

    assert caller(server, read).choices[0].delta.role == "assistant"
    assert caller(server, chat).choices
    assert (server.counts.succeeded, server.counts.peak_concurrency) == (2, 1)


@pytest.mark.parametrize("fault", [Fault.reset(), Fault.reset_after_head(), Fault.truncate(), Fault.reset(before=0.01)])
def test_faults(caller: Caller, server: ThrottlingServer, fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    """The SDK sees a broken connection, the server counts a request without a status, and says nothing on the log."""
    server.script([fault])
    with pytest.raises(openai.APIConnectionError):
        caller(server, chat)
    assert caller(server, chat).choices
    counts = server.counts
    assert (counts.requests, counts.succeeded, counts.statuses) == (2, 1, {0: 1, 200: 1})
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


@pytest.mark.parametrize(("kind", "head"), [("reset", b""), ("reset_after_head", b"HTTP/1.1 200"), ("truncate", b"{")])
def test_where_a_fault_breaks_the_connection(server: ThrottlingServer, kind: Any, head: bytes) -> None:
    """Before the head, after it, or within the body."""
    server.script([Fault(kind)])
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        received = b""
        while part := connection.recv(4096):
            received += part
    assert head in received
    assert bool(received) == (kind != "reset")
    assert received.endswith(b'{"id": "chat') == (kind == "truncate")


def test_latency(caller: Caller) -> None:
    """A number or a draw of one for what is let through, another for what is refused, a reply's own for a script."""
    draws = iter([0.03, 0.06])
    with ThrottlingServer(
        [Limit("requests", 2)], latency=lambda: next(draws), throttled_latency=0.09, clock=frozen
    ) as server:
        caller(server, lambda client: timed(caller, client))  # the first call of a client imports a lot
        assert 0.06 <= caller(server, lambda client: timed(caller, client)) < 5
        assert 0.09 <= caller(server, lambda client: timed(caller, client)) < 5
        server.script([Reply.ok(before=0.12)])
        assert 0.12 <= caller(server, lambda client: timed(caller, client)) < 5


def timed(caller: Caller, client: Any) -> Any:
    """Seconds that a call takes, refused or not."""
    began = time.monotonic()
    if caller.asynchronous:

        async def call() -> float:
            with contextlib.suppress(openai.RateLimitError):
                await chat(client)
            return time.monotonic() - began

        return call()
    with contextlib.suppress(openai.RateLimitError):
        chat(client)
    return time.monotonic() - began


def test_a_plain_call_is_quick(plain: ThrottlingServer) -> None:
    """A few milliseconds for the round trip over a kept connection; with Nagle's algorithm on it would be over 40."""
    body = {"model": "gpt-4o", "messages": MESSAGES}
    with httpx.Client() as client:
        times = []
        for _ in range(40):
            began = time.perf_counter()
            client.post(f"{plain.base_url}/chat/completions", json=body)
            times.append(time.perf_counter() - began)
    assert min(times) < 0.035


def test_a_client_that_gave_up_is_answered_by_nobody(caller: Caller, server: ThrottlingServer) -> None:
    """Its request counts, as one without a status."""
    server.script([Reply.ok(before=0.3)])
    with pytest.raises(openai.APITimeoutError):
        caller(server, lambda client: chat(client, timeout=0.1))
    server.wait_for(1)
    assert (server.counts.statuses, server.counts.succeeded) == ({0: 1}, 0)
