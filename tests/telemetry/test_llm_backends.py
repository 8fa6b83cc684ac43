"""Backends for LLMs count calls, not what became of them: a call that was throttled twice is one call, as it is without us."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit.testing import Reply, ThrottlingServer, throttle_reply
from tests.telemetry.backends import RULES, Attributes
from tests.telemetry.test_neighbours import GENAI, OPENINFERENCE, TRACELOOP, Instrumentation, Scene, needs, server
from tests.telemetry_probe import Probe, parent_id, span_id

__all__ = ["server"]  # a fixture

pytestmark = pytest.mark.filterwarnings("ignore:Support for class-based:DeprecationWarning")

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
OURS = ("rate_limited", "throttle", "wait", "retry")
FOREIGN = ("gen_ai.", "llm.", "openinference.", "traceloop.", "langfuse.", "langsmith.", "ai.", "model")
"""How attributes begin by which any of them knows a call."""


@pytest.fixture
def scene(server: ThrottlingServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("TRACELOOP_TRACE_CONTENT", "false")
    scene = Scene(server)
    yield scene
    scene.clear_away()
    scene.client.close()
    scene.probe.shutdown()


def attributes_of(span: ReadableSpan) -> Attributes:
    return dict(span.attributes or {})


def counted(spans: list[ReadableSpan]) -> Counter[str]:
    """How many calls each backend sees."""
    return Counter(rule.__name__ for span in spans for rule in RULES if rule(attributes_of(span)))


def send(scene: Scene) -> int:
    """Chat throttled twice, chat undisturbed, an embedding throttled, one from an asynchronous client, one that gives up. Returns
    how many."""
    client = scene.client
    refused = throttle_reply(0.001)
    scene.server.script([refused, refused, Reply.ok(), Reply.ok(), refused, Reply.ok(), refused, Reply.ok()])
    for _ in range(2):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    client.embeddings.create(model="text-embedding-3-small", input="hi")

    async def one() -> None:
        async with openai.AsyncOpenAI(base_url=scene.server.base_url, api_key="test") as asynchronous:
            await asynchronous.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    asyncio.run(one())
    scene.server.script([throttle_reply(7200)])
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    return 5


@pytest.mark.parametrize("neighbour", [GENAI, TRACELOOP, OPENINFERENCE], ids=str)
def test_each_backend_counts_what_it_counts_without_us(scene: Scene, neighbour: Instrumentation) -> None:
    """Beside each instrumentation of the calls: nothing of ours is one more, and none of ours carries what makes a call."""
    needs(neighbour)
    scene.switch((neighbour, True))
    calls = send_alone(scene)
    alone = counted(scene.probe.spans())
    assert max(alone.values()) == calls
    otel_ratelimit.instrument(
        policy=Policy(buffer=0, pacing=False),
        tracer_provider=scene.probe.tracer_provider,
        meter_provider=scene.probe.meter_provider,
    )
    scene.probe.clear()
    assert send(scene) == calls
    spans = scene.probe.spans()
    ours = [span for span in spans if span.name.split(" ")[0] in OURS]
    assert Counter(span.name.split(" ")[0] for span in ours)["rate_limited"] == 4
    assert not [name for span in ours for name in attributes_of(span) if name.startswith(FOREIGN)]
    assert {attributes_of(span)["otel_ratelimit.model"] for span in ours} == {"gpt-4o", "text-embedding-3-small"}
    assert counted(spans) == alone
    otel_ratelimit.uninstrument()


def send_alone(scene: Scene) -> int:
    """The same number of calls of the same kinds, without us and without a throttle."""
    scene.server.script([])
    for _ in range(4):
        scene.client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    scene.client.embeddings.create(model="text-embedding-3-small", input="hi")
    return 5


def test_where_nothing_else_stands_for_the_call(scene: Scene) -> None:
    """Without another instrumentation ``rate_limited`` is the one span of a disturbed call that a backend counts, once."""
    otel_ratelimit.instrument(
        policy=Policy(buffer=0, pacing=False),
        tracer_provider=scene.probe.tracer_provider,
        meter_provider=scene.probe.meter_provider,
    )
    send(scene)
    with scene.probe.tracer_provider.get_tracer("caller").start_as_current_span("a plain span"):
        scene.server.script([throttle_reply(0.001)])
        scene.client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    spans = scene.probe.spans()
    by_backend = counted(spans)
    assert by_backend == {rule.__name__: 5 for rule in RULES if rule.__name__ != "openinference"}
    assert not [
        name
        for span in spans
        if span.name.split(" ")[0] in OURS[1:]
        for name in attributes_of(span)
        if name.startswith(FOREIGN)
    ]
    otel_ratelimit.uninstrument()


def test_a_call_with_two_spans_of_ours_is_one_call(server: ThrottlingServer) -> None:
    """It waits for its turn, is answered, and turns out to be refused inside of its stream: the first span has ended by then."""
    probe = Probe()
    otel_ratelimit.instrument(
        policy=Policy(buffer=0), tracer_provider=probe.tracer_provider, meter_provider=probe.meter_provider
    )
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        server.script([throttle_reply(0.3)])
        with pytest.raises(openai.RateLimitError):
            client.with_options(max_retries=0).chat.completions.create(model="gpt-4o", messages=MESSAGES)
        probe.clear()
        server.script([Reply.stream_throttle(delay=0.001, api="chat")])
        assert list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    assert len(probe.spans("rate_limited")) == 2
    assert set(counted(probe.spans()).values()) == {1}
    otel_ratelimit.uninstrument()
    probe.shutdown()


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "chat"},
        {"gen_ai.system": "openai"},
        {"openinference.span.kind": "LLM"},
        {"llm.request.type": "chat"},
    ],
    ids=lambda attributes: next(iter(attributes)),
)
def test_a_span_of_the_callers_own_that_is_about_a_model(
    server: ThrottlingServer,
    attributes: dict[str, str],
) -> None:
    """A framework's span, say: it stands for the call, sync or in a stream that is refused when ``create`` has returned."""
    probe = Probe()
    otel_ratelimit.instrument(
        policy=Policy(buffer=0, pacing=False),
        tracer_provider=probe.tracer_provider,
        meter_provider=probe.meter_provider,
    )
    tracer = probe.tracer_provider.get_tracer("framework")
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        with tracer.start_as_current_span("model call", kind=SpanKind.CLIENT, attributes=attributes):
            server.script([throttle_reply(0.001)])
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
            server.script([Reply.stream_throttle(delay=0.001, api="chat")])
            stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
        assert list(stream)
    (parent,) = (span for span in probe.spans() if span.name == "model call")
    calls = probe.spans("rate_limited")
    assert [parent_id(call) for call in calls] == [span_id(parent)] * 2
    assert not [name for call in calls for name in attributes_of(call) if name.startswith("gen_ai.")]
    otel_ratelimit.uninstrument()
    probe.shutdown()
