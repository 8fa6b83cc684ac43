"""The border of a call, over sockets with the real SDK: whatever a server says, no program is worse off than without us.

The worlds as a whole are in ``tests/benchmarks/no_harm``; here is what each rule at the border promises, one by one.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Literal

import openai
import pytest

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit.testing import Limit, Reply, ThrottlingServer, answers, throttle_reply
from tests.drivers.conftest import MESSAGES, Caller, chat
from tests.helpers.eventually import eventually
from tests.telemetry_probe import Probe, notes

Instrumented = Callable[..., Probe]

DAY = {"retry-after": "86400"}
CLOSED = Reply(
    status=429, headers=DAY, json={"error": {"message": "Rate limit exceeded.", "code": "rate_limit_exceeded"}}
)
"""A refusal that would close the limit for a day, and says nothing else."""


NEVER = 350_000
"""Tokens of a call that the server never serves."""


def chat_with(client: Any, model: str, **options: Any) -> Any:
    return client.chat.completions.create(model=model, messages=MESSAGES, **options)


# --- a closed limit is asked ------------------------------------------------------------------------------------------


def test_a_delay_of_a_day_closes_nothing_for_the_next_call(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """The refused call fails at once, as with the SDK alone; the next one asks, is served, and the limit is open again."""
    instrumented()
    server.script([CLOSED])

    def first(client: Any) -> Any:
        return chat(client)

    with pytest.raises(openai.RateLimitError) as raised:
        caller(server, first)
    assert raised.value.response.headers["retry-after"] == "86400"
    assert server.counts.requests == 1
    for _ in range(3):
        assert caller(server, chat).choices
    assert server.counts.throttled == 1


def test_many_callers_of_a_closed_limit_ask_one_at_a_time(instrumented: Instrumented) -> None:
    """While the limit stays closed one request at a time goes out for all of them; its answer is the others' end."""
    instrumented()
    with (
        ThrottlingServer(script=[CLOSED] * 200) as server,
        openai.OpenAI(base_url=server.base_url, api_key="test", max_retries=1) as client,
    ):
        with pytest.raises(openai.RateLimitError):
            chat(client)
        errors: list[BaseException] = []

        def call() -> None:
            try:
                chat(client)
            except openai.RateLimitError as error:
                errors.append(error)

        threads = [threading.Thread(target=call) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(errors) == 20
        sent = server.counts.requests - 1
        assert 1 <= sent < 20
        assert server.counts.peak_concurrency == 1
        unsent = [error for error in errors if isinstance(error, otel_ratelimit.AdmissionTimeoutError)]
        assert len(unsent) == 20 - sent
        assert not any("would come in 0.000 s" in str(error) for error in unsent)


def test_a_limit_that_opens_early_is_open_for_all(instrumented: Instrumented) -> None:
    """Closed for a day, but served again at the second question: all that wait are served then, and nobody waits for a day."""
    instrumented()
    with (
        ThrottlingServer(script=[CLOSED, CLOSED]) as server,
        openai.OpenAI(base_url=server.base_url, api_key="test") as client,
    ):
        with pytest.raises(openai.RateLimitError):
            chat(client)
        answered: list[Any] = []
        failed: list[BaseException] = []

        def call() -> None:
            try:
                answered.append(chat(client))
            except openai.RateLimitError as error:
                failed.append(error)

        for _ in range(3):  # the first of these rounds asks, and is refused by the second reply of the script
            threads = [threading.Thread(target=call) for _ in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        assert len(answered) >= 20
        assert server.counts.throttled == 2


# --- one call that can never be served ---------------------------------------------------------------------------------


class PickyHandler(BaseHTTPRequestHandler):
    """Serves everybody but one, who is refused and not told why or for how long; and says that there is room for all of them."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[bool]] = []
    """Of each request, whether it was one of those."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        never = request.get("max_tokens") == NEVER
        self.asked.append(never)
        error = {"message": "Rate limit exceeded.", "code": "rate_limit_exceeded"}
        body = json.dumps({"error": error} if never else answers.completion(request)).encode()
        self.send_response(429 if never else 200)
        self.send_header("content-type", "application/json")
        for name, value in (("limit", "440000"), ("remaining", "427000"), ("reset", "1.7s")):
            self.send_header(f"x-ratelimit-{name}-tokens", value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """To nowhere."""


def test_a_call_that_can_never_be_served_lets_the_others_go_first(instrumented: Instrumented) -> None:
    """Were it the first again each time that it comes back, twenty others would see it refused six times before they are done."""
    instrumented(max_wait=20.0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), PickyHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="test") as client:
        asked = PickyHandler.asked
        asked.clear()
        for _ in range(60):
            chat(client)

        def never() -> None:
            with pytest.raises(openai.RateLimitError):
                chat(client, max_tokens=NEVER)

        odd = threading.Thread(target=never)
        odd.start()
        eventually(lambda: asked.count(True) >= 6)
        before = asked.count(True)
        threads = [threading.Thread(target=chat, args=(client,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert asked.count(False) == 80
        assert asked.count(True) - before <= 3
        odd.join(60)
    server.shutdown()
    server.server_close()


# --- max_retries=0 ----------------------------------------------------------------------------------------------------


def test_a_call_without_retries_is_sent_at_once_while_others_wait(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """A fallback chain of two models: the first is throttled for 60 s, and its caller has the second one's answer at once."""
    probe = instrumented()
    server.script([throttle_reply(delay=60.0), throttle_reply(delay=60.0)])

    def chain(client: Any) -> Any:
        if not caller.asynchronous:
            for model in ("gpt-4o", "gpt-4o", "gpt-4o-mini"):
                try:
                    return chat_with(client, model)
                except openai.RateLimitError:
                    continue
            raise AssertionError("no model answered")

        async def go() -> Any:
            for model in ("gpt-4o", "gpt-4o", "gpt-4o-mini"):
                try:
                    return await chat_with(client, model)
                except openai.RateLimitError:
                    continue
            raise AssertionError("no model answered")

        return go()

    answer = caller(server, chain, max_retries=0)
    assert answer.model == "gpt-4o-mini"
    assert server.counts.requests == 3
    assert probe.total("otel_ratelimit.wait.duration") == 0
    assert probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason="retries_disabled") == 2


def test_without_retries_and_with_wait_a_call_is_treated_as_any_other(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """For frameworks that set 0 and loop themselves."""
    probe = instrumented(when_retries_disabled="wait")
    server.script([throttle_reply(delay=0.3), throttle_reply(delay=0.3)])
    assert caller(server, chat, max_retries=0).choices
    assert probe.names() == {"rate_limited": 1, "throttle": 2, "wait": 2, "retry": 2}


def test_without_retries_and_with_pace_a_call_takes_its_turn_and_is_sent_once(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """It waits before it is sent; what the server says then goes to the caller."""
    probe = instrumented(when_retries_disabled="pace")
    server.script([throttle_reply(delay=0.4), Reply(), throttle_reply(delay=0.05)])

    def two(client: Any) -> Any:
        if not caller.asynchronous:
            with pytest.raises(openai.RateLimitError):
                chat(client)
            return chat(client)

        async def go() -> Any:
            with pytest.raises(openai.RateLimitError):
                await chat(client)
            return await chat(client)

        return go()

    assert caller(server, two, max_retries=0).choices
    assert probe.total("otel_ratelimit.wait.duration") == 1
    with pytest.raises(openai.RateLimitError):
        caller(server, chat, max_retries=0)


# --- the budget -------------------------------------------------------------------------------------------------------


def test_a_short_timeout_does_not_cut_the_servers_delay(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """``timeout=1`` and a delay of 1.5 s: the SDK alone waits and succeeds, so do we."""
    instrumented()
    server.script([throttle_reply(delay=1.5, retry_after=True)])
    assert caller(server, lambda client: chat(client.with_options(timeout=1.0))).choices
    assert server.counts.requests == 2


def test_tiny_delays_again_and_again_use_the_whole_budget(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """The growing pause is ours, and the note says so; the call ends when its budget does, and not before."""
    instrumented(max_wait=2.5)
    server.script([throttle_reply(delay=0.01)] * 50)
    with pytest.raises(openai.RateLimitError) as raised:
        caller(server, chat)
    (note,) = notes(raised.value)
    assert "(budget 2.5 s, next wait 0.0" in note
    assert "pauses of our own, which grow with each refusal" in note
    waited = float(note.partition(" s of waiting")[0].rpartition(" ")[2])
    assert waited > 2.4


# --- backoffs that nobody needs ---------------------------------------------------------------------------------------


def test_headers_that_show_room_end_a_backoff(instrumented: Instrumented) -> None:
    """Three bare refusals of a second, then a server that is idle: what its headers say ends the pace that was learned.

    Sixty calls took 245 s by that pace. A server that is idle answers them in the time that the calls themselves take.
    """
    instrumented()
    cold = Reply(status=429, headers={"retry-after": "1"}, json={"error": {"message": "Too many requests."}})
    with (
        ThrottlingServer([Limit("tokens", 200_000)], script=[cold] * 3, latency=0.02) as server,
        openai.OpenAI(base_url=server.base_url, api_key="test") as client,
    ):
        began = time.monotonic()
        waiting = [60]
        lock = threading.Lock()

        def call() -> None:
            while True:
                with lock:
                    if not waiting[0]:
                        return
                    waiting[0] -= 1
                chat(client)

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert server.counts.succeeded == 60
        assert server.counts.throttled == 3
        assert time.monotonic() - began < 60


# --- turns that are early by a hair -----------------------------------------------------------------------------------


def test_a_lone_caller_is_never_refused_twice_for_one_call(instrumented: Instrumented) -> None:
    """Calls one after the other under a known bucket: the turn carries the margin that arithmetic and network need."""
    probe = instrumented()
    limit = Limit("tokens", 12_000, used=11_000)  # 200 a second: a call of 100 each half second
    with ThrottlingServer([limit]) as server, openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        for _ in range(20):
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=100)
        assert server.counts.throttled <= 2
    counts = [(span.attributes or {})["otel_ratelimit.throttle.count"] for span in probe.spans("rate_limited")]
    assert all(isinstance(count, int) and count <= 1 for count in counts)


def test_the_setting_is_told_to_policy() -> None:
    """All three values, and an error that names them."""
    values: tuple[Literal["send", "pace", "wait"], ...] = ("send", "pace", "wait")
    for value in values:
        assert Policy(when_retries_disabled=value).when_retries_disabled == value
    with pytest.raises(otel_ratelimit.ConfigurationError, match="send, pace, wait"):
        Policy(when_retries_disabled="never")  # type: ignore[arg-type]


def test_what_is_switched_off_for_the_program_stays_so_in_every_block(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """Whoever runs a program can switch the plugin off, whatever policies its blocks have."""
    probe = instrumented(mode="off")
    server.script([throttle_reply(delay=60.0, retry_after=False)])
    with otel_ratelimit.use(Policy(max_wait=120.0)):
        assert caller(server, chat).choices  # by the SDK's own backoff, of a second
    assert probe.spans() == []
    assert probe.total("otel_ratelimit.call.duration") == 0


def test_a_day_that_is_used_up_fails_as_fast_as_with_the_sdk_alone(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """By the message's numbers the next turn comes in seven minutes, by the header in a day: the server's answer, each time."""
    probe = instrumented()
    message = "Rate limit reached for gpt-4o on requests per day (RPD): Limit 200, Used 200, Requested 1."
    body = {"error": {"code": "rate_limit_exceeded", "message": message}}
    server.script([Reply(status=429, headers=DAY, json=body)] * 3)
    for _ in range(3):
        with pytest.raises(openai.RateLimitError):
            caller(server, chat)
    assert server.counts.requests == 3
    assert probe.total("otel_ratelimit.wait.duration") == 0
    assert caller(server, chat).choices
