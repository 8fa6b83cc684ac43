"""Many calls under one limit, over sockets: all are answered, nobody storms, and every number agrees with the server's."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import openai
import pytest

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit.testing import (
    BARE,
    HEADERS_ONLY,
    MESSAGE_ONLY,
    OPENAI,
    Dialect,
    Limit,
    ThrottlingServer,
    throttle_reply,
)
from tests.drivers.conftest import MESSAGES, Caller, chat
from tests.helpers.eventually import eventually, eventually_beside
from tests.telemetry_probe import Probe, parent_id, span_id

Instrumented = Callable[..., Probe]

TOKENS = 100
CALLS = 120
RATE = 4000  # tokens a second
LIMIT = Limit("tokens", 60 * RATE, used=60 * RATE - 20 * TOKENS)
"""Twenty calls fit at once, forty a second after that: 120 calls take (120 - 20) / 40 = 2.5 s."""


def agree(probe: Probe, server: ThrottlingServer) -> None:
    """Spans, points and the server's own count, one to one."""
    counts = server.counts
    names = probe.names()
    assert names["throttle"] == counts.throttled == probe.total("otel_ratelimit.throttles")
    assert names["retry"] == probe.total("otel_ratelimit.retries")
    assert names["wait"] == probe.total("otel_ratelimit.wait.duration")
    assert probe.total("otel_ratelimit.attempt.duration") == counts.requests
    assert probe.total("otel_ratelimit.request.waiting") == 0


def send(client: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=TOKENS)


def third_throttles(probe: Probe) -> int:
    """Throttled answers to calls that had been throttled twice. A first one may be the cold start, a second one what was under
    way when that ended: both are a matter of how quick the machine is. From the third on it is the queue's doing: none of 120
    calls was seen to have one, with idle processors and with busy ones; where each waits for itself there are 17 to 83."""
    throttles = Counter(parent_id(span) for span in probe.spans("throttle"))
    return sum(times - 2 for times in throttles.values() if times > 2)


async def fan_out(server: ThrottlingServer, calls: int) -> None:
    async with (
        openai.AsyncOpenAI(base_url=server.base_url, api_key="test") as client,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(calls):
            tasks.start_soon(send, client)


@pytest.mark.parametrize(
    "dialect", [OPENAI, MESSAGE_ONLY, HEADERS_ONLY], ids=["openai", "message only", "headers only"]
)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_fan_out_of_tasks(backend: str, dialect: Dialect, instrumented: Instrumented) -> None:
    """120 at a time where 20 fit: all done, at no less than the limit's pace, with few throttles."""
    probe = instrumented()
    with ThrottlingServer([LIMIT], latency=0.05, dialect=dialect) as server:
        began = time.monotonic()
        anyio.run(fan_out, server, CALLS, backend=backend)
        took = time.monotonic() - began
        assert server.counts.succeeded == CALLS
        assert took >= 2.4
        agree(probe, server)
    assert third_throttles(probe) <= CALLS * 0.05


def test_threads_and_two_event_loops_share_one_queue(instrumented: Instrumented) -> None:
    """The same limit, from threads with the sync client and from two loops in two threads more, all at once."""
    probe = instrumented()
    with (
        ThrottlingServer([LIMIT], latency=0.05) as server,
        openai.OpenAI(base_url=server.base_url, api_key="test") as client,
        ThreadPoolExecutor(42) as pool,
    ):
        loops = [pool.submit(lambda: asyncio.run(fan_out(server, 40))) for _ in range(2)]
        calls = [pool.submit(send, client) for _ in range(40)]
        for future in (*loops, *calls):
            future.result(timeout=60)
        assert server.counts.succeeded == CALLS
        agree(probe, server)
    assert third_throttles(probe) <= CALLS * 0.05


def test_bare_429s(instrumented: Instrumented) -> None:
    """No header, no number, no delay: all are answered all the same."""
    probe = instrumented()
    with ThrottlingServer([LIMIT], latency=0.05, dialect=BARE) as server:
        anyio.run(fan_out, server, 60)
        assert server.counts.succeeded == 60
        agree(probe, server)


def test_waits_of_others_are_linked_to_the_throttle_that_caused_them(instrumented: Instrumented) -> None:
    """A call that was never throttled itself waits for its turn, and says because of whom."""
    probe = instrumented()
    rate = 500  # tokens a second: so slow that it is what holds the calls, and not the machine
    with ThrottlingServer([Limit("tokens", 60 * rate, used=60 * rate - 5 * TOKENS)], latency=0.05) as server:
        anyio.run(fan_out, server, 12)  # five fit; the others are throttled, and from then on the limit is known
        anyio.run(fan_out, server, 8)
    throttles = {span_id(span) for span in probe.spans("throttle")}
    waits = [
        span for span in probe.spans("wait") if (span.attributes or {})["otel_ratelimit.wait.reason"] == "admission"
    ]
    links = {link.context.span_id for span in waits for link in span.links}
    assert links
    assert links <= throttles


def test_interactive_calls_go_before_a_batch(instrumented: Instrumented) -> None:
    """Six interactive calls that come behind thirty of a batch are all through before many more of the batch are. (The limit is
    a slow one, so that it is what holds them, and not the machine.)"""
    rate = 600  # tokens a second
    instrumented()
    order: list[str] = []
    before = 0

    async def one(client: openai.AsyncOpenAI, level: Any) -> None:
        with otel_ratelimit.priority(level):
            await send(client)
        order.append(level)

    async def main(server: ThrottlingServer) -> None:
        nonlocal before
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="test") as client:
            await send(client)  # now the limit is known
            async with anyio.create_task_group() as tasks:
                for _ in range(30):
                    tasks.start_soon(one, client, "batch")
                await anyio.sleep(0.1)
                before = len(order)
                for _ in range(6):
                    tasks.start_soon(one, client, "interactive")

    with ThrottlingServer([Limit("tokens", 60 * rate, used=60 * rate - 5 * TOKENS)], latency=0.02) as server:
        anyio.run(main, server)
    last = max(index for index, level in enumerate(order) if level == "interactive")
    assert order[before : last + 1].count("batch") < 15


def test_an_unknown_priority_is_named() -> None:
    """With what is allowed."""
    with (
        pytest.raises(otel_ratelimit.ConfigurationError, match="interactive, normal, batch"),
        otel_ratelimit.priority("urgent"),  # type: ignore[arg-type]
    ):
        pass


def test_a_cancelled_call_gives_its_place_back(instrumented: Instrumented) -> None:
    """Cancelled in its wait: it passes at once, its span says so, and those behind it are served in time."""
    probe = instrumented()

    async def main(server: ThrottlingServer) -> None:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="test") as client:
            server.script([throttle_reply(30.0)])
            began = time.monotonic()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(chat, client)
                await eventually_beside(lambda: probe.spans("throttle"))
                await anyio.sleep(0.3)
                tasks.cancel_scope.cancel()
            assert time.monotonic() - began < 15.0  # of 30

    with ThrottlingServer() as server:
        anyio.run(main, server)
    call = probe.only("rate_limited")
    assert call.attributes is not None
    assert call.attributes["otel_ratelimit.outcome"] == "cancelled"
    assert call.attributes["otel_ratelimit.throttled"] is True
    assert probe.total("otel_ratelimit.request.waiting") == 0
    assert 0.2 < probe.points("otel_ratelimit.wait.duration")[0].sum < 15.0


def test_ctrl_c_in_a_wait_passes_at_once(instrumented: Instrumented) -> None:
    """KeyboardInterrupt in the sync driver's sleep goes straight up."""
    import signal

    probe = instrumented()
    with ThrottlingServer(script=[throttle_reply(30.0)]) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="test")

        def interrupt() -> None:
            eventually(lambda: probe.spans("throttle"))
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)

        interrupter = threading.Thread(target=interrupt)
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in a shell's background jobs
        interrupter.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            chat(client)
        signal.signal(signal.SIGINT, handler)
        assert time.monotonic() - began < 15.0  # of 30
        interrupter.join()
        client.close()
    assert (probe.only("rate_limited").attributes or {})["otel_ratelimit.outcome"] == "cancelled"


@pytest.mark.parametrize("settings", [{"max_wait": 0.3}])
def test_a_turn_beyond_the_budget_is_told_at_once_and_as_ours(settings: Any, instrumented: Instrumented) -> None:
    """The queue's error is told apart from the server's by its type, names what to set, and comes without waiting for the end."""
    probe = instrumented(**settings)
    slow = Limit("tokens", 6000, used=5800)  # a hundred tokens a second: one call of a hundred each second
    errors: list[Exception] = []

    async def one(client: openai.AsyncOpenAI) -> None:
        try:
            await send(client)
        except openai.OpenAIError as error:
            errors.append(error)

    async def main(server: ThrottlingServer) -> None:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="test") as client:
            await send(client)  # now the limit is known
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(one, client)

    with ThrottlingServer([slow], latency=0.05) as server:
        began = time.monotonic()
        anyio.run(main, server)
        assert time.monotonic() - began < 12.0  # all 20 would take 18
    ours = [error for error in errors if isinstance(error, otel_ratelimit.AdmissionTimeoutError)]
    assert ours
    assert all("Policy.max_wait" in str(error) for error in ours)
    assert all(isinstance(error, openai.RateLimitError) for error in errors)
    reason = "queue_budget_exceeded"
    assert probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason=reason) >= len(ours)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_fork_while_the_lock_is_held_does_not_hang_the_child(instrumented: Instrumented) -> None:
    """The child begins with a lock and a queue of its own, and its calls go through."""
    instrumented()
    with ThrottlingServer() as server:
        hooks = otel_ratelimit.RateLimitInstrumentor()._hooks
        assert hooks is not None
        runtime = hooks.runtime
        assert runtime is not None
        with runtime.store._lock:
            child = os.fork()
            if child == 0:
                try:
                    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
                        chat(client)
                    os._exit(0)
                finally:
                    os._exit(1)
        end = time.monotonic() + 20
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done or time.monotonic() > end:
                break
            time.sleep(0.02)
        if not done:
            os.kill(child, 9)
            os.waitpid(child, 0)
        assert done
        assert os.waitstatus_to_exitcode(status) == 0


def test_pacing_off_leaves_each_call_to_itself(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """No queue: the call's own delay is all that holds it."""
    probe = instrumented(pacing=False)
    server.script([throttle_reply(0.05), throttle_reply(0.05)])
    assert caller(server, chat).choices
    assert probe.names() == {"rate_limited": 1, "throttle": 2, "wait": 2, "retry": 2}
    assert Policy().pacing


def test_observe_mode_shows_the_queue_that_it_does_not_have(instrumented: Instrumented) -> None:
    """Nobody is held, so some fail; those that would have had to wait say for how long, and the gauges know the limit."""
    probe = instrumented(mode="observe")
    failed = []

    async def one(client: openai.AsyncOpenAI) -> None:
        try:
            await send(client.with_options(max_retries=0))
        except openai.RateLimitError:
            failed.append(1)

    async def main(server: ThrottlingServer) -> None:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="test") as client:
            await send(client)  # now the limit is known
            async with anyio.create_task_group() as tasks:
                for _ in range(40):
                    tasks.start_soon(one, client)

    slow = Limit("tokens", 600 * TOKENS, used=590 * TOKENS)  # ten fit, ten a second after that
    with ThrottlingServer([slow], latency=0.02) as server:
        anyio.run(main, server)
    agree(probe, server)
    assert failed
    assert probe.total("otel_ratelimit.wait.duration") == 0
    planned = [(span.attributes or {}).get("otel_ratelimit.wait.planned") for span in probe.spans("rate_limited")]
    assert max(seconds for seconds in planned if isinstance(seconds, float)) > 0.1
    assert probe.total("otel_ratelimit.tokens.limit") == 600 * TOKENS
