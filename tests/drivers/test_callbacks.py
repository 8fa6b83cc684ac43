"""``on_wait`` and ``on_throttle``: one for each span, with the right figures, and harmless whatever they do."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

import otel_ratelimit
from otel_ratelimit import Policy, ThrottleEvent, WaitEvent
from otel_ratelimit._core.words import duration
from otel_ratelimit._telemetry import callbacks
from otel_ratelimit.testing import Limit, Reply, ThrottlingServer, throttle_reply
from tests.drivers.conftest import MESSAGES, Caller, chat
from tests.telemetry_probe import Probe


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.waits: list[WaitEvent] = []
        self.throttles: list[ThrottleEvent] = []

    def install(self, probe: Probe, **policy: Any) -> None:
        otel_ratelimit.instrument(
            policy=Policy(**policy),
            tracer_provider=probe.tracer_provider,
            meter_provider=probe.meter_provider,
            on_wait=self.waits.append,
            on_throttle=self.throttles.append,
        )


def test_one_for_each_throttle_and_wait(caller: Caller, probe: Probe) -> None:
    """Two throttles and two waits of one call, in figures and in words; an undisturbed call before it tells nothing."""
    told = Told()
    told.install(probe)
    script = [Reply(), throttle_reply(delay=0.2), throttle_reply(delay=0.3)]
    with ThrottlingServer(script=script) as server:

        def both(client: Any) -> Any:
            if not caller.asynchronous:
                return [chat(client), list(told.waits), chat(client)]

            async def asynchronously() -> Any:
                return [await chat(client), list(told.waits), await chat(client)]

            return asynchronously()

        assert caller(server, both)[1] == []
    assert [event.throttles for event in told.throttles] == [1, 2]
    assert [str(event) for event in told.throttles] == ["gpt-4o: 429, tokens per minute"] * 2
    assert [(wait.reason, wait.kind, wait.model, wait.operation) for wait in told.waits if not wait.again] == [
        ("throttled", "tokens", "gpt-4o", "chat")
    ] * 2
    first, second = (wait for wait in told.waits if not wait.again)
    assert first.throttle == told.throttles[0].throttle
    assert first.server == "127.0.0.1"
    assert 0.1 <= (first.seconds or 0) <= 0.5
    assert (second.seconds or 0) > 0.2
    assert str(first) == f"waiting {duration(first.seconds or 0)} for gpt-4o's tokens"
    assert len(probe.spans("wait")) == 2
    assert len(probe.spans("throttle")) == len(told.throttles)


def test_a_turn_that_has_not_come(caller: Caller, probe: Probe) -> None:
    """A wait for admission names the limit of which the least is left."""
    told = Told()
    told.install(probe)
    with ThrottlingServer([Limit("tokens", 6000), Limit("requests", 10_000)]) as server:

        def one_after_another(client: Any) -> Any:
            if not caller.asynchronous:
                return [chat(client, max_tokens=tokens) for tokens in (5900, 200, 200)]

            async def asynchronously() -> Any:
                return [await chat(client, max_tokens=tokens) for tokens in (5900, 200, 200)]

            return asynchronously()

        caller(server, one_after_another)
    admissions = [wait for wait in told.waits if wait.reason == "admission"]
    assert admissions
    assert {(wait.kind, wait.throttle) for wait in admissions} == {("tokens", None)}
    assert sum(not wait.again for wait in told.waits) == len(probe.spans("wait"))


def test_a_turn_that_moves_is_told_again(probe: Probe) -> None:
    """Calls that are refused together are told the same seconds; who comes last learns that its turn is later.

    First tellings are one for each span.
    """
    told = Told()
    told.install(probe)
    with (
        ThrottlingServer([Limit("tokens", 6000)], latency=0.2) as server,
        openai.OpenAI(base_url=server.base_url, api_key="test") as client,
        ThreadPoolExecutor(26) as pool,
    ):
        assert len(list(pool.map(lambda _: chat(client, max_tokens=280), range(26)))) == 26
    again = [wait for wait in told.waits if wait.again]
    assert again
    assert len(told.waits) - len(again) == len(probe.spans("wait"))
    # 21 of them fit; each further one takes 2.8 s, and is at least one place behind where it is told anew.
    assert max(wait.seconds or 0 for wait in again) > 2.5


def test_the_sdks_own_retries_are_waits_too(caller: Caller, probe: Probe) -> None:
    """How long only the SDK knows, and no throttle is the reason."""
    told = Told()
    told.install(probe)
    with ThrottlingServer(script=[Reply(status=500)]) as server:
        caller(server, chat)
    (wait,) = told.waits
    assert (wait.seconds, wait.reason, wait.kind, wait.throttle) == (None, "backoff", None, None)
    assert str(wait) == "waiting to try gpt-4o again"
    assert told.throttles == []


def test_a_block_goes_before_the_program(caller: Caller, probe: Probe) -> None:
    """What the block sets is told instead; what it leaves out, and what comes after it, is the program's."""
    told, inner = Told(), Told()
    told.install(probe)
    with ThrottlingServer(script=[throttle_reply(delay=0.3), Reply(), throttle_reply(delay=0.3)]) as server:
        with otel_ratelimit.use(on_wait=inner.waits.append) as policy:
            assert policy == Policy()
            with otel_ratelimit.use(Policy(buffer=0.03)):  # keeps the callback of the block around it
                caller(server, chat)
        caller(server, chat)
        caller(server, chat)
    assert (sum(not wait.again for wait in inner.waits), len(inner.throttles)) == (1, 0)
    obeyed = [
        wait for wait in told.waits if wait.reason == "throttled" and not wait.again
    ]  # the third call may have to wait for its turn
    assert (len(obeyed), len(told.throttles)) == (1, 2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # trio, as in test_streams
def test_a_stream_belongs_to_the_block_that_made_it(caller: Caller, probe: Probe) -> None:
    """A throttle inside the stream, read after the block was left: told there, as the policy is the block's."""
    told, inner = Told(), Told()
    told.install(probe)
    with ThrottlingServer(script=[Reply.stream_throttle(delay=0.3)]) as server:

        def read_later(client: Any) -> Any:
            if not caller.asynchronous:
                with otel_ratelimit.use(on_wait=inner.waits.append, on_throttle=inner.throttles.append):
                    stream = chat(client, stream=True)
                return list(stream)

            async def asynchronously() -> Any:
                with otel_ratelimit.use(on_wait=inner.waits.append, on_throttle=inner.throttles.append):
                    stream = await chat(client, stream=True)
                return [event async for event in stream]

            return asynchronously()

        assert caller(server, read_later)
    assert (sum(not wait.again for wait in inner.waits), len(inner.throttles)) == (1, 1)
    assert inner.throttles[0].status == 200
    assert (told.waits, told.throttles) == ([], [])


@pytest.mark.parametrize("where", ["on_wait", "on_throttle"])
def test_what_a_callback_raises_stays_there(
    caller: Caller, probe: Probe, caplog: pytest.LogCaptureFixture, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call is answered; the log has it once, by type, without its text."""
    monkeypatch.setattr(callbacks, "_reported", set())

    def fails(_event: object) -> None:
        raise LookupError("secret")

    keywords: dict[str, Any] = {where: fails}
    otel_ratelimit.instrument(policy=Policy(), tracer_provider=probe.tracer_provider, **keywords)
    with caplog.at_level(logging.ERROR), ThrottlingServer(script=[throttle_reply(delay=0.05)] * 2) as server:
        caller(server, chat)
    assert [record.getMessage() for record in caplog.records] == [
        f"{where} raised LookupError; the call goes on. This is logged once."
    ]
    assert "secret" not in caplog.text
    assert (server.counts.throttled, server.counts.succeeded) == (2, 1)


def test_an_interrupt_in_a_callback_passes(probe: Probe) -> None:
    """Ctrl-C while a callback runs is the program's; nothing stays reserved."""

    def interrupted(_event: object) -> None:
        raise KeyboardInterrupt

    otel_ratelimit.instrument(policy=Policy(), tracer_provider=probe.tracer_provider, on_wait=interrupted)
    with ThrottlingServer(script=[throttle_reply(delay=0.05)]) as server:
        with pytest.raises(KeyboardInterrupt):
            Caller("sync")(server, chat)
        with otel_ratelimit.use(on_wait=lambda _wait: None):
            Caller("sync")(server, chat)
    cancelled = probe.spans("rate_limited")[0].attributes or {}
    assert cancelled["otel_ratelimit.outcome"] == "cancelled"
    assert server.counts.succeeded == 1


def test_observe_mode_tells_of_throttles(probe: Probe) -> None:
    """The SDK's own retries: its waits are told as such, without a length; no wait that would have been."""
    told = Told()
    told.install(probe, mode="observe")
    with ThrottlingServer(script=[throttle_reply(delay=0.1)]) as server:
        Caller("sync")(server, chat)
    assert [event.throttles for event in told.throttles] == [1]
    assert [(wait.reason, wait.seconds, wait.kind) for wait in told.waits] == [("backoff", None, "tokens")]


def test_a_callback_may_call_openai_itself(probe: Probe) -> None:
    """A message to a chat room that a model words, say: a call of its own, in the same thread."""
    told: list[Any] = []
    with ThrottlingServer(script=[throttle_reply(delay=0.1)]) as server:

        def ask(_event: ThrottleEvent) -> None:
            told.append(Caller("sync")(server, chat))

        otel_ratelimit.instrument(policy=Policy(), tracer_provider=probe.tracer_provider, on_throttle=ask)
        Caller("sync")(server, chat)
    assert len(told) == 1
    assert server.counts.succeeded == 2


@pytest.mark.parametrize("callback", [1, "log"])
def test_a_callback_is_a_function(callback: Any) -> None:
    """A mistake is heard where it is made."""
    with pytest.raises(TypeError, match="on_wait must be a function"):
        otel_ratelimit.instrument(on_wait=callback)
    with pytest.raises(TypeError, match="on_throttle must be a function"), otel_ratelimit.use(on_throttle=callback):
        pass
    assert not otel_ratelimit.RateLimitInstrumentor().is_instrumented_by_opentelemetry


def test_a_coroutine_function_is_refused() -> None:
    """Nothing would await it."""

    async def later(_event: object) -> None: ...

    class Object:
        async def __call__(self, _event: object) -> None: ...

    for callback in (later, Object()):
        with pytest.raises(TypeError, match="never be awaited"):
            otel_ratelimit.instrument(on_wait=callback)


def test_threads_tell_in_their_own(probe: Probe) -> None:
    """In the thread of the call, so that a thread's own state is at hand."""
    threads: list[str] = []
    with ThrottlingServer(script=[throttle_reply(delay=0.05)]) as server:
        otel_ratelimit.instrument(
            policy=Policy(),
            tracer_provider=probe.tracer_provider,
            on_throttle=lambda _event: threads.append(threading.current_thread().name),
        )
        thread = threading.Thread(target=lambda: Caller("sync")(server, chat), name="caller")
        thread.start()
        thread.join()
    assert threads == ["caller"]


def test_no_prompt_and_no_key(probe: Probe) -> None:
    """Nothing of the request but its model is in what a callback gets."""
    told = Told()
    told.install(probe)
    with ThrottlingServer(script=[throttle_reply(delay=0.05)]) as server:
        Caller("sync")(server, chat, api_key="sk-secret", organization="org-secret")
    text = repr(told.waits) + repr(told.throttles)
    assert text.count("gpt-4o") >= 2
    for secret in ("sk-secret", "org-secret", MESSAGES[0]["content"], "Rate limit reached"):
        assert secret not in text
