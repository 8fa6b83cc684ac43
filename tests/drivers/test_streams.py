"""Throttles inside of a stream that was answered with 200, over sockets with the real SDK."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio
import openai
import pydantic
import pytest

import otel_ratelimit
from otel_ratelimit import _guard
from otel_ratelimit._drivers import prelude, streams
from otel_ratelimit.testing import Reply, ThrottlingServer, throttle_reply
from tests.drivers.conftest import MESSAGES, Caller, needs_responses
from tests.helpers.eventually import eventually_beside
from tests.telemetry_probe import Probe, notes, parent_id, span_id

Instrumented = Callable[..., Probe]

# Under trio the SDK's own streams leave generators to the garbage collector; without us too.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

APIS = ["chat", pytest.param("responses", marks=needs_responses)]
RECOVERED = {"rate_limited": 1, "throttle": 1, "retry": 1}


def create(client: Any, api: str, **options: Any) -> Any:
    """Opens a stream (or its awaitable)."""
    if api == "chat":
        return client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True, **options)
    return client.responses.create(model="gpt-4o", input="Say hello.", stream=True, **options)


def collect(caller: Caller, opens: Callable[[Any], Any], look: Callable[[Any], Any] = lambda _: None) -> Any:
    """An action for ``caller``: opens a stream, reads all of it, and returns its events and what ``look`` sees of it."""

    def action(client: Any) -> Any:
        if not caller.asynchronous:
            stream = opens(client)
            return list(stream), look(stream)

        async def main() -> Any:
            stream = await opens(client)
            return [event async for event in stream], look(stream)

        return main()

    return action


def words(events: list[Any]) -> list[str]:
    """The kind of each event; of a chat chunk its content."""
    return [getattr(event, "type", None) or event.choices[0].delta.content for event in events]


def idle(client: Any) -> bool:
    """Whether no connection of the client is in use."""
    connections = client._client._transport._pool.connections
    return all(connection.is_idle() or connection.is_closed() for connection in connections)


@pytest.fixture
def clean(caller: Caller) -> Callable[[ThrottlingServer, str], list[str]]:
    """What an undisturbed stream looks like to the caller."""
    return lambda server, api: words(caller(server, collect(caller, lambda client: create(client, api)))[0])


@pytest.mark.feature("streams: a throttle before any content is waited for")
@pytest.mark.parametrize("api", APIS)
def test_a_stream_whose_first_word_is_a_throttle_is_sent_again(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented, clean: Any, api: Any
) -> None:
    """The caller sees one clean stream, of the class that the SDK promises, with the headers of the answer that counts; one
    throttle, one wait, one retry, in one span."""
    probe = instrumented()
    expected = clean(server, api)
    before = server.counts.throttled
    server.script([Reply.stream_throttle(delay=0.3, api=api)])
    began = time.monotonic()
    kind = openai.AsyncStream if caller.asynchronous else openai.Stream

    def look(stream: Any) -> Any:
        return isinstance(stream, kind), stream.response.status_code, stream.response.is_closed

    events, seen = caller(server, collect(caller, lambda client: create(client, api), look))
    assert words(events) == expected
    assert seen == (True, 200, True)
    assert time.monotonic() - began >= 0.3
    assert server.counts.throttled == before + 1
    assert server.counts.requests == 3
    assert probe.recoveries() == RECOVERED
    call = probe.only("rate_limited")
    assert call.attributes is not None
    assert call.attributes["otel_ratelimit.outcome"] == "recovered"
    assert probe.total("otel_ratelimit.wait.duration", otel_ratelimit_wait_reason="throttled") == 1
    throttle = probe.only("throttle")
    assert throttle.attributes is not None
    assert throttle.attributes["http.response.status_code"] == 200
    assert throttle.attributes["error.type"] == "rate_limit_exceeded"
    assert throttle.attributes["otel_ratelimit.hint.delay"] == 0.3
    assert parent_id(throttle) == span_id(call)
    assert probe.total("otel_ratelimit.throttles", http_response_status_code=200) == 1
    assert probe.total("otel_ratelimit.retries") == 1
    assert [request.headers["x-stainless-retry-count"] for request in server.requests] == ["0", "0", "1"]


@pytest.mark.parametrize("api", APIS)
def test_it_takes_as_many_attempts_as_the_budget_allows(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented, clean: Any, api: Any
) -> None:
    """Throttled before the head, in the stream, in the stream again, before the head again: one generator, one budget."""
    probe = instrumented()
    expected = clean(server, api)
    refusal = Reply.stream_throttle(delay=0.02, api=api)
    server.script([throttle_reply(delay=0.02), refusal, refusal, throttle_reply(delay=0.02)])
    events, _ = caller(server, collect(caller, lambda client: create(client, api)))
    assert words(events) == expected
    # The call had recovered, as it seemed, when the first head came; the throttles in the stream are a span of their own.
    assert probe.recoveries() == {"rate_limited": 2, "throttle": 4, "retry": 4}
    assert [request.headers["x-stainless-retry-count"] for request in server.requests] == ["0", "0", "1", "2", "3", "4"]
    assert probe.total("otel_ratelimit.call.duration", otel_ratelimit_outcome="recovered") == 2


@pytest.mark.feature("streams: a throttle after content is counted and goes up")
@pytest.mark.parametrize("api", APIS)
def test_once_content_was_delivered_the_failure_goes_up(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented, api: Any
) -> None:
    """As it would have without us: an exception in chat, an event in the Responses API. Counted and traced, not repeated."""
    probe = instrumented()
    server.script([Reply.stream_throttle(delay=0.02, api=api, after_content=True)])
    action = collect(caller, lambda client: create(client, api))
    if api == "chat":
        with pytest.raises(openai.APIError) as raised:
            caller(server, action)
        assert raised.value.code == "rate_limit_exceeded"
        (note,) = notes(raised.value)
        assert "would repeat it" in note
    else:
        events, _ = caller(server, action)
        assert words(events)[-2:] == ["response.output_text.delta", "response.failed"]
        assert events[-1].response.error.code == "rate_limit_exceeded"
    assert server.counts.requests == 1
    assert probe.names() == {"rate_limited": 1, "throttle": 1}
    assert probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason="content_delivered") == 1


@pytest.mark.feature("streams: budget and max_retries")
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("settings", "options"), [({"max_wait": 1.0}, {}), ({}, {"max_retries": 0})])
def test_what_cannot_be_waited_for_is_handed_on_as_it_came(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented, api: Any, settings: Any, options: Any
) -> None:
    """Beyond the budget, or with retries switched off: all bookkeeping events, then the failure."""
    probe = instrumented(**settings)
    server.script([Reply.stream_throttle(delay=30.0, api=api)])
    action = collect(caller, lambda client: create(client.with_options(**options), api))
    if api == "chat":
        with pytest.raises(openai.APIError) as raised:
            caller(server, action)
        assert raised.value.code == "rate_limit_exceeded"
        assert notes(raised.value)
    else:
        events, _ = caller(server, action)
        assert words(events) == ["response.created", "response.in_progress", "response.failed"]
    assert server.counts.requests == 1
    assert probe.names() == {"rate_limited": 1, "throttle": 1}
    assert probe.total("otel_ratelimit.give_ups") == 1


@pytest.mark.feature("streams: observe mode")
@pytest.mark.parametrize("api", APIS)
def test_observe_mode_only_counts(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented, api: Any
) -> None:
    """Nothing held back, nothing repeated."""
    probe = instrumented(mode="observe")
    server.script([Reply.stream_throttle(delay=0.02, api=api)])
    action = collect(caller, lambda client: create(client, api))
    if api == "chat":
        with pytest.raises(openai.APIError):
            caller(server, action)
    else:
        assert words(caller(server, action)[0])[-1] == "response.failed"
    assert server.counts.requests == 1
    assert probe.names() == {"rate_limited": 1, "throttle": 1}
    assert probe.total("otel_ratelimit.throttles") == 1


@needs_responses
def test_a_final_429_of_the_next_attempt_is_raised(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """The stream is refused, and then the call is, for a time that is too long: the last word is the SDK's own exception."""
    probe = instrumented()
    server.script([Reply.stream_throttle(delay=0.02), throttle_reply(delay=3600.0)])
    with pytest.raises(openai.RateLimitError) as raised:
        caller(server, collect(caller, lambda client: create(client, "responses")))
    assert notes(raised.value)
    assert probe.recoveries() == {"rate_limited": 1, "throttle": 2, "retry": 1}
    assert probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason="budget_exceeded") == 1


def test_another_failure_in_the_stream_is_none_of_ours(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """A server error as first word: raised as ever, nothing counted."""
    probe = instrumented()
    error = {"message": "The server had an error.", "type": "server_error", "code": None, "param": None}
    server.script([Reply(events=({"error": error},))])
    with pytest.raises(openai.APIError, match="The server had an error"):
        caller(server, collect(caller, lambda client: create(client, "chat")))
    assert server.counts.requests == 1
    assert probe.spans() == []


class Answer(pydantic.BaseModel):
    """What the model is asked for."""

    answer: str


@pytest.mark.feature("streams: the .stream() helpers, parsed, with tools")
@pytest.mark.parametrize("api", APIS)
def test_the_stream_helpers(caller: Caller, server: ThrottlingServer, instrumented: Instrumented, api: Any) -> None:
    """``with client….stream(...)``, parsed into a model, with a tool beside it: they keep the first response, to close it."""
    probe = instrumented()
    tool = openai.pydantic_function_tool(Answer) if api == "chat" else None

    def manager(client: Any) -> Any:
        if api == "chat":
            return client.chat.completions.stream(
                model="gpt-4o", messages=MESSAGES, response_format=Answer, tools=[tool], tool_choice="none"
            )
        return client.responses.stream(model="gpt-4o", input="Say hello.", text_format=Answer)

    def final(stream: Any) -> Any:
        return stream.get_final_completion() if api == "chat" else stream.get_final_response()

    def action(client: Any) -> Any:
        if not caller.asynchronous:
            with manager(client) as stream:
                seen = [event.type for event in stream]
                answer = final(stream)
            return seen, answer, idle(client)

        async def main() -> Any:
            async with manager(client) as stream:
                seen = [event.type async for event in stream]
                answer = await final(stream)
            return seen, answer, idle(client)

        return main()

    expected, _, _ = caller(server, action)
    server.script([Reply.stream_throttle(delay=0.02, api=api)])
    seen, answer, clean = caller(server, action)
    assert seen == expected
    parsed = answer.choices[0].message.parsed if api == "chat" else answer.output_parsed
    if api == "responses":
        assert parsed == Answer(answer="")
    assert clean
    assert probe.recoveries() == RECOVERED


@pytest.mark.feature("streams: left early, by close, with or a helper")
@needs_responses
@pytest.mark.parametrize("way", ["close", "with", "helper"])
def test_a_stream_that_is_left_early_frees_its_connection(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented, way: str
) -> None:
    """Also one that was sent again: whoever kept the refused response closes the one in its place."""
    instrumented()
    server.script([Reply.stream_throttle(delay=0.02, api="responses")])

    def action(client: Any) -> Any:
        if not caller.asynchronous:
            if way == "close":
                stream = create(client, "responses")
                assert next(stream).type == "response.created"
                stream.close()
            else:
                opened = create(client, "responses") if way == "with" else client.responses.stream(model="m", input="x")
                with opened as stream:
                    assert next(iter(stream)).type == "response.created"
            return idle(client)

        async def main() -> bool:
            if way == "close":
                stream = await create(client, "responses")
                assert (await anext(stream)).type == "response.created"
                await stream.close()
            else:
                opened = (
                    await create(client, "responses")
                    if way == "with"
                    else client.responses.stream(model="m", input="x")
                )
                async with opened as stream:
                    assert (await anext(stream)).type == "response.created"
            return idle(client)

        return main()

    assert caller(server, action)
    assert server.counts.requests == 2


@pytest.mark.feature("streams: with_raw_response and parse()")
@pytest.mark.parametrize("api", APIS)
def test_a_raw_response_that_is_parsed_later(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented, clean: Any, api: Any
) -> None:
    """``with_raw_response`` and ``parse()``, as frameworks do that want the headers: the raw response has the new ones."""
    probe = instrumented()
    expected = clean(server, api)
    server.script([Reply.stream_throttle(delay=0.05, api=api)])

    def opens(client: Any) -> Any:
        raw = client.chat.completions.with_raw_response if api == "chat" else client.responses.with_raw_response
        arguments: dict[str, Any] = {"messages": MESSAGES} if api == "chat" else {"input": "Say hello."}
        if not caller.asynchronous:
            return raw.create(model="gpt-4o", stream=True, **arguments).parse()

        async def main() -> Any:
            return (await raw.create(model="gpt-4o", stream=True, **arguments)).parse()

        return main()

    events, _ = caller(server, collect(caller, opens))
    assert words(events) == expected
    assert probe.recoveries() == RECOVERED


@pytest.mark.feature("streams: with_streaming_response passes untouched")
@needs_responses
def test_raw_bytes_pass_untouched(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """Whoever reads bytes sees what the server sent, a throttle in it too."""
    probe = instrumented()
    server.script([Reply.stream_throttle(delay=0.05)])

    def action(client: Any) -> Any:
        opened = client.responses.with_streaming_response.create(model="gpt-4o", input="Say hello.", stream=True)
        if not caller.asynchronous:
            with opened as response:
                return b"".join(response.iter_bytes())

        async def main() -> bytes:
            async with opened as response:
                return b"".join([part async for part in response.iter_bytes()])

        return main()

    body = caller(server, action)
    assert b"response.created" in body
    assert b"rate_limit_exceeded" in body
    assert server.counts.requests == 1
    assert probe.spans() == []


@pytest.mark.feature("streams: background responses are not held back")
@needs_responses
def test_a_background_response_names_its_id_at_once(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """Its caller needs the id in order to come back: nothing is held, and so nothing repeated."""
    probe = instrumented()
    server.script([Reply.stream_throttle(delay=0.02)])
    events, _ = caller(server, collect(caller, lambda client: create(client, "responses", background=True)))
    assert words(events) == ["response.created", "response.in_progress", "response.failed"]
    assert server.counts.requests == 1
    assert probe.total("otel_ratelimit.throttles") == 1


@needs_responses
def test_the_first_content_is_handed_on_at_once(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """The server pauses between its events: what is behind the first content is not waited for."""
    instrumented()
    *first, failed = Reply.stream_throttle(delay=1.0, after_content=True).events or ()
    delta = first[-1]
    server.script([Reply(events=(*first, delta, delta, delta), pause=0.3)])

    def action(client: Any) -> Any:
        times: dict[str, float] = {}
        if not caller.asynchronous:
            for event in create(client, "responses"):
                times.setdefault(event.type, time.monotonic())
        else:

            async def main() -> Any:
                async for event in await create(client, "responses"):
                    times.setdefault(event.type, time.monotonic())
                return times, time.monotonic()

            return main()
        return times, time.monotonic()

    assert failed["type"] == "response.failed"
    times, end = caller(server, action)
    assert end - times["response.output_text.delta"] >= 0.8  # three more pauses of 0.3 s came after it
    assert times["response.output_text.delta"] - times["response.created"] < 0.3  # held back, and handed on with it


@pytest.mark.feature("streams: cancelled while waiting")
@needs_responses
def test_cancelling_while_the_stream_waits(server: ThrottlingServer, instrumented: Instrumented) -> None:
    """The wait ends at once, the trace is closed, nobody is left in the queue."""
    probe = instrumented()
    server.script([Reply.stream_throttle(delay=30.0)])

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="test") as client:
            stream = await create(client, "responses")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anext, stream)
                await eventually_beside(lambda: probe.spans("throttle"))
                await anyio.sleep(0.3)
                tasks.cancel_scope.cancel()
            assert idle(client)

    began = time.monotonic()
    anyio.run(main)
    assert time.monotonic() - began < 10
    assert probe.names() == {"rate_limited": 1, "throttle": 1, "wait": 1}
    call = probe.only("rate_limited")
    assert call.attributes is not None
    assert call.attributes["otel_ratelimit.outcome"] == "cancelled"
    assert probe.total("otel_ratelimit.request.waiting") == 0
    assert server.counts.requests == 1


@needs_responses
def test_a_stream_read_in_another_thread_belongs_to_its_call(
    server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """The span that was current when the stream was asked for is the parent, whoever reads it."""
    import threading

    probe = instrumented()
    server.script([Reply.stream_throttle(delay=0.02)])
    tracer = probe.tracer_provider.get_tracer("test")
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        with tracer.start_as_current_span("caller") as span:
            stream = create(client, "responses")
        events: list[Any] = []
        thread = threading.Thread(target=lambda: events.extend(stream))
        thread.start()
        thread.join()
    assert words(events)[-1] == "response.completed"
    assert parent_id(probe.only("rate_limited")) == span.get_span_context().span_id


def test_what_the_stream_said_holds_for_other_calls(server: ThrottlingServer, instrumented: Instrumented) -> None:
    """The limit is one for all: a call that comes while the stream waits does not run into it."""
    import threading

    probe = instrumented()
    message = (
        "Rate limit reached for gpt-4o in organization org-test on tokens per min (TPM): Limit 60000, Used 60000,"
        " Requested 1500. Please try again in 1.5s."
    )
    error = {"message": message, "type": "tokens", "code": "rate_limit_exceeded", "param": None}
    server.script([Reply(events=({"error": error},))])
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        stream = create(client, "chat", max_tokens=1500)
        thread = threading.Thread(target=lambda: list(stream))
        thread.start()
        while not probe.spans("throttle"):
            time.sleep(0.005)
        assert client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=1500).choices
        thread.join()
    assert {wait.attributes["otel_ratelimit.wait.reason"] for wait in probe.spans("wait") if wait.attributes} == {
        "throttled",
        "admission",
    }
    assert server.counts.throttled == 1


def test_an_undisturbed_stream_leaves_no_span_and_is_one_call(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """Two histogram points; its call ends with the answer's head, also where nobody reads it."""
    probe = instrumented()
    caller(server, collect(caller, lambda client: create(client, "chat")))
    assert probe.spans() == []
    assert probe.total("otel_ratelimit.call.duration") == 1
    assert probe.total("otel_ratelimit.attempt.duration", http_response_status_code=200) == 1


@pytest.mark.feature("streams: a stream class of one's own")
@needs_responses
def test_a_stream_class_of_the_callers_own(server: ThrottlingServer, instrumented: Instrumented) -> None:
    """``parse(to=...)`` with a subclass, whose events are plain objects."""
    instrumented()

    class Mine(openai.Stream[object]):
        pass

    server.script([Reply.stream_throttle(delay=0.02)])
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        raw = client.responses.with_raw_response.create(model="gpt-4o", input="Say hello.", stream=True)
        stream = raw.parse(to=Mine)
        assert isinstance(stream, Mine)
        events: list[Any] = list(stream)
        assert raw.http_response is stream.response
    assert events[0]["type"] == "response.created"
    assert events[-1]["type"] == "response.completed"
    assert server.counts.requests == 2


@needs_responses
def test_after_uninstrument_streams_are_the_sdks_again(server: ThrottlingServer, instrumented: Instrumented) -> None:
    """Also of a raw response that was opened before."""
    probe = instrumented()
    server.script([Reply.stream_throttle(delay=0.02)])
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        raw = client.responses.with_raw_response.create(model="gpt-4o", input="Say hello.", stream=True)
        otel_ratelimit.uninstrument()
        assert words(list(raw.parse()))[-1] == "response.failed"
    assert probe.spans() == []


@pytest.mark.parametrize(
    ("owner", "component"),
    [
        (streams.StreamSession, "_attach"),
        (streams.StreamSession, "received"),
        (streams.StreamSession, "refused"),
        (streams.StreamSession, "opened"),
        (streams.StreamSession, "abandoned"),
        (prelude.Opening, "_arrived"),
        (prelude.Opening, "_broke"),
        (prelude.Opening, "failed_late"),
    ],
)
@pytest.mark.parametrize("api", APIS)
def test_a_fault_of_ours_leaves_the_stream_as_it_is(
    owner: Any,
    component: str,
    caller: Caller,
    server: ThrottlingServer,
    instrumented: Instrumented,
    monkeypatch: pytest.MonkeyPatch,
    api: Any,
) -> None:
    """Each place where our code meets a stream is made to raise: an undisturbed stream is whole, a refused one recovers or
    shows what the SDK alone would have shown."""
    monkeypatch.setattr(_guard, "raise_faults", False)
    _guard._reported.clear()
    instrumented()
    action = collect(caller, lambda client: create(client, api))
    expected = words(caller(server, action)[0])

    def broken(*_arguments: object, **_keywords: object) -> Any:
        raise ZeroDivisionError("the prompt was: secret")

    guarded = getattr(owner, component)
    monkeypatch.setattr(owner, component, _guard.contained(guarded.place, guarded.fallback)(broken))
    assert words(caller(server, action)[0]) == expected
    server.script([Reply.stream_throttle(delay=0.02, api=api)])
    refused: str | None = None
    try:
        seen = words(caller(server, action)[0])
    except openai.APIError as error:
        refused = error.code
    assert refused == "rate_limit_exceeded" or seen in (
        expected,
        ["response.created", "response.in_progress", "response.failed"],
    )
