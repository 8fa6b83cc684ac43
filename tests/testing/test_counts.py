"""The server's own counts and records, exact under concurrent calls."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from otel_ratelimit.testing import (
    Limit,
    Reply,
    ThrottlingServer,
)
from tests.testing.conftest import MESSAGES, Caller, chat, frozen, needs_responses


def fan_out(server: ThrottlingServer, flavour: str, calls: int) -> Counter[int]:
    """So many calls at once; how many got which status."""

    def status(error: openai.APIStatusError | None) -> int:
        return 200 if error is None else error.status_code

    if flavour == "threads":
        with (
            openai.OpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client,
            ThreadPoolExecutor(calls) as pool,
        ):

            def one(_: int) -> int:
                try:
                    chat(client, max_tokens=100)
                except openai.APIStatusError as error:
                    return status(error)
                return status(None)

            return Counter(pool.map(one, range(calls)))

    async def main() -> Counter[int]:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client:

            async def one() -> int:
                try:
                    await chat(client, max_tokens=100)
                except openai.APIStatusError as error:
                    return status(error)
                return status(None)

            return Counter(await asyncio.gather(*(one() for _ in range(calls))))

    return asyncio.run(main())


@pytest.mark.parametrize("flavour", ["threads", "tasks"])
def test_counts_are_exact_under_64_concurrent_calls(flavour: str) -> None:
    """Room for 40 of 64: the server's count and the callers' own agree, and all 64 were there at once."""
    limits = [Limit("tokens", 4000), Limit("requests", 1000)]
    with ThrottlingServer(limits, latency=2.0, throttled_latency=2.0, clock=frozen) as server:
        seen = fan_out(server, flavour, 64)
        counts = server.counts
        assert seen == {200: 40, 429: 24}
        assert counts.statuses == seen
        assert (counts.requests, counts.succeeded, counts.throttled) == (64, 40, 24)
        assert counts.paths == {"/v1/chat/completions": 64}
        assert counts.peak_concurrency == 64
        assert Counter(request.status for request in server.requests) == seen


@needs_responses
def test_calls_one_after_the_other_are_never_concurrent(server: ThrottlingServer) -> None:
    """Also on one connection, and with streams: an answer that has ended is not there any more."""
    with openai.OpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client:
        for _ in range(20):
            chat(client)
            list(chat(client, stream=True))
            list(client.responses.create(model="gpt-4o", input="hi", stream=True))
    assert server.counts.peak_concurrency == 1
    assert server.counts.succeeded == 60


def test_what_is_remembered_of_a_request(caller: Caller, server: ThrottlingServer) -> None:
    """Enough to hold a replay against its original, byte for byte."""
    caller(server, lambda client: chat(client, extra_query={"a": "b"}, extra_headers={"X-Mine": "1"}))
    (request,) = server.requests
    assert (request.method, request.path, request.status) == ("POST", "/v1/chat/completions", 200)
    assert request.headers["x-mine"] == "1"
    assert request.headers["authorization"] == "Bearer test"
    assert request.json == {"messages": MESSAGES, "model": "gpt-4o"}
    assert request.body is not None
    assert request.size == len(request.body)
    assert request.sha256 == hashlib.sha256(request.body).hexdigest()


def test_wait_for_returns_once_the_requests_are_answered(server: ThrottlingServer) -> None:
    """Not when they arrive; and not for ever."""
    server.script([Reply.ok(before=0.2)])
    began = time.monotonic()
    thread = threading.Thread(target=lambda: Caller("sync")(server, chat))
    thread.start()
    server.wait_for(1)
    assert time.monotonic() - began >= 0.2
    thread.join()
    server.wait_for(1)
    with pytest.raises(TimeoutError, match=r"1 of 2 requests after 0\.02 s"):
        server.wait_for(2, timeout=0.02)
