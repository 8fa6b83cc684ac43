"""Other instrumentations of the same calls, in every order of instrumenting and uninstrumenting.

They sit in three places: on the resources' methods (``Completions.create``: OpenTelemetry's GenAI instrumentation and
Traceloop's), on ``OpenAI.request``, which is inherited from where ours is (OpenInference), and on the HTTP client's transport.
They have faults of their own (``unwrap`` takes off the outermost wrapper, whosever it is; Traceloop's takes off none), so what
is held is: the neighbours do with us what they do without us, and our spans are below theirs.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import openai
import pytest
import wrapt
from openai._base_client import AsyncAPIClient, SyncAPIClient
from openai.resources.chat.completions import AsyncCompletions, Completions

from otel_ratelimit import Policy
from otel_ratelimit._drivers import openai_sdk
from otel_ratelimit._drivers.chains import links, unbound
from otel_ratelimit.testing import Reply, ThrottlingServer, throttle_reply
from tests.drivers.conftest import has_responses
from tests.telemetry_probe import Probe, parent_id, span_id

# In Traceloop's own modules.
pytestmark = pytest.mark.filterwarnings("ignore:Support for class-based:DeprecationWarning")

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
TEXT = "Hello from the throttling server."
OURS = {"rate_limited": 1, "throttle": 1, "retry": 1}
"""Without the wait: on a busy machine it is over before it has begun."""

NEWER = int(openai.__version__.split(".")[0]) >= 3
"""openai 3.x sends by httpx2, older ones by httpx."""

HTTP_CLIENT = import_module("httpx2" if NEWER else "httpx")
ORIGINALS = {SyncAPIClient: SyncAPIClient.__dict__["request"], AsyncAPIClient: AsyncAPIClient.__dict__["request"]}


@dataclass(frozen=True)
class Instrumentation:
    """One that can be switched on and off; ``span`` is the first word of what it calls a chat call's span."""

    label: str
    module: str
    name: str
    span: str

    def __str__(self) -> str:
        return self.label

    def on(self, **options: Any) -> None:
        getattr(import_module(self.module), self.name)().instrument(**options)

    def off(self) -> None:
        getattr(import_module(self.module), self.name)().uninstrument()


GENAI = Instrumentation("genai", "opentelemetry.instrumentation.genai.openai", "OpenAIInstrumentor", "chat")
TRACELOOP = Instrumentation("traceloop", "opentelemetry.instrumentation.openai", "OpenAIInstrumentor", "openai.chat")
OPENINFERENCE = Instrumentation(
    "openinference", "openinference.instrumentation.openai", "OpenAIInstrumentor", "ChatCompletion"
)
HTTP = Instrumentation(
    "http", "opentelemetry.instrumentation.httpx", f"HTTPX{'2' if NEWER else ''}ClientInstrumentor", "POST"
)
WE = Instrumentation("ours", "otel_ratelimit", "RateLimitInstrumentor", "rate_limited")
AROUND = {GENAI.span, TRACELOOP.span, OPENINFERENCE.span}

Step = tuple[Instrumentation, bool]
Order = tuple[Step, ...]


def words(order: Order) -> str:
    """An order of switching on and off, to read."""
    return " ".join(("+" if on else "-") + one.label for one, on in order)


def orders(*instrumentations: Instrumentation) -> list[Order]:
    """Every order in which each is switched on and, some time later, off."""

    def further(done: Order) -> Iterator[Order]:
        if len(done) == 2 * len(instrumentations):
            yield done
        for one in instrumentations:
            switched = sum(step[0] is one for step in done)
            if switched < 2:
                yield from further((*done, (one, not switched)))

    return list(further(()))


def needs(*instrumentations: Instrumentation) -> None:
    """Skip where one of them is not installed, or not for this SDK or its HTTP client."""
    if not has_responses():
        pytest.skip("the neighbours import client.responses, which that of openai 1.99.0 cannot be")
    for one in instrumentations:
        if one is WE:
            continue
        made = getattr(pytest.importorskip(one.module), one.name, None)
        conflict = "it has no such instrumentor" if made is None else made()._check_dependency_conflicts()
        if conflict is not None:
            pytest.skip(f"this {one.module} is not for this SDK: {conflict}")


class Scene:
    """A throttling server, a client, and what is switched on."""

    def __init__(self, server: ThrottlingServer) -> None:
        self.server = server
        self.probe = Probe()
        self.active: list[Instrumentation] = []
        self.client = openai.OpenAI(base_url=server.base_url, api_key="test")

    def switch(self, step: Step) -> None:
        one, on = step
        if not on:
            one.off()
            self.active.remove(one)
            return
        options: dict[str, Any] = {"policy": Policy(buffer=0, pacing=False)} if one is WE else {}
        one.on(tracer_provider=self.probe.tracer_provider, meter_provider=self.probe.meter_provider, **options)
        self.active.append(one)

    def call(self, send: Callable[[], Any] | None = None, throttle: Reply | None = None) -> Counter[str]:
        """A call that is throttled once, and answered at the second request, whoever sends that. How many spans of each kind."""
        self.probe.clear()
        self.server.script([throttle or throttle_reply(0.001, retry_after=True)])
        requests, throttled = self.server.counts.requests, self.server.counts.throttled
        assert (send or self.chat)()
        assert self.server.counts.requests == requests + 2
        assert self.server.counts.throttled == throttled + 1
        return Counter(self.probe.recoveries())

    def chat(self) -> Any:
        return self.client.chat.completions.create(model="gpt-4o", messages=MESSAGES).choices

    def chat_async(self) -> Any:
        async def main() -> Any:
            async with openai.AsyncOpenAI(base_url=self.server.base_url, api_key="test") as client:
                return await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

        return asyncio.run(main()).choices

    def check_nesting(self) -> None:
        """GenAI spans, the call, the resend, the request: each in the one before. The first request was sent before anything was
        amiss, and is beside the call."""
        above = None
        for span in [span for span in self.probe.spans() if span.name.split(" ")[0] in AROUND]:
            assert parent_id(span) == above
            above = span_id(span)
        around_resend = above
        if WE in self.active:
            call, throttle, retry = (self.probe.only(word) for word in OURS)
            assert parent_id(call) == above
            assert parent_id(retry) == parent_id(throttle) == span_id(call)
            around_resend = span_id(retry)
        if HTTP in self.active:
            assert [parent_id(span) for span in self.probe.spans(HTTP.span)] == [above, around_resend]

    def clear_away(self) -> None:
        """Switch everything off, and take away what the neighbours leave behind."""
        for one in reversed(self.active):
            one.off()
        self.active.clear()
        # ``unwrap`` puts a method into the class that was read off it, so that what is left may be bound to no instance.
        for client in (openai.OpenAI, openai.AsyncOpenAI):
            if "request" in client.__dict__:
                del client.request  # inherited, as it was
        for module in [module for name, module in sys.modules.items() if name.startswith("openai.resources")]:
            for owner in [value for value in vars(module).values() if isinstance(value, type)]:
                for name, value in list(vars(owner).items()):
                    rest = unbound(value)
                    while isinstance(rest, wrapt.FunctionWrapper) and _is_a_neighbours(rest):
                        rest = unbound(rest.__wrapped__)
                    if rest is not value:
                        setattr(owner, name, rest)


def _is_a_neighbours(wrapper: Any) -> bool:
    return str(getattr(wrapper._self_wrapper, "__module__", "")).startswith("opentelemetry.instrumentation")


def depths() -> dict[str, int]:
    """How many wrappers there are on each method that a neighbour wraps."""
    methods = {
        "create": Completions.__dict__["create"],
        "async create": AsyncCompletions.__dict__["create"],
        "send": HTTP_CLIENT.HTTPTransport.__dict__["handle_request"],
        "async send": HTTP_CLIENT.AsyncHTTPTransport.__dict__["handle_async_request"],
    }
    return {
        name: sum(isinstance(link, wrapt.FunctionWrapper) for link in links(method)) for name, method in methods.items()
    }


@pytest.fixture(scope="module")
def server() -> Iterator[ThrottlingServer]:
    with ThrottlingServer() as server:
        yield server


@pytest.fixture
def scene(server: ThrottlingServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    monkeypatch.setenv("TRACELOOP_TRACE_CONTENT", "false")
    scene = Scene(server)
    yield scene
    scene.clear_away()
    scene.client.close()
    scene.probe.shutdown()


def run(scene: Scene, order: Order, alone: dict[str, Counter[str]], send: Callable[[], Any] | None = None) -> None:
    """Switch on and off, with a call after each step, and hold its spans against those of the neighbours ``alone``."""
    done: Order = ()
    for step in order:
        done = (*done, step)
        scene.switch(step)
        spans = scene.call(send)
        if step == (OPENINFERENCE, False) and WE in scene.active and "rate_limited" not in spans:
            spans = scene.call(send)  # see test_openinference_takes_us_out_for_one_call
        expected = alone[words(tuple(step for step in done if step[0] is not WE))]
        assert spans == expected + Counter(OURS if WE in scene.active else {}), words(done)
        scene.check_nesting()


def run_alone(scene: Scene, order: Order, send: Callable[[], Any] | None = None) -> dict[str, Counter[str]]:
    """The spans after each step of an order, in which we do not occur."""
    found = {"": scene.call(send)}
    for end, step in enumerate(order, 1):
        scene.switch(step)
        found[words(order[:end])] = spans = scene.call(send)
        assert not step[1] or spans[step[0].span] >= 1, f"{step[0]} does not instrument this SDK"
    return found


GROUPS = [
    (GENAI,),
    (TRACELOOP,),
    (OPENINFERENCE,),
    (HTTP,),
    (GENAI, TRACELOOP),
    (OPENINFERENCE, HTTP),
]


@pytest.mark.parametrize("neighbours", GROUPS, ids=lambda group: "-".join(map(str, group)))
def test_every_order(scene: Scene, neighbours: tuple[Instrumentation, ...]) -> None:
    """After each step of each order the neighbours' spans are those that they make without us, ours are complete, and all are
    nested; at the end the SDK is as without us."""
    needs(*neighbours)
    alone, left = {}, {}
    for order in orders(*neighbours):
        alone.update(run_alone(scene, order))
        left[words(order)] = depths()
        scene.clear_away()
    seams = [owner.__dict__[name] for owner, name in openai_sdk.SEAMS]
    for order in orders(WE, *neighbours):
        run(scene, order, alone)
        assert [owner.__dict__[name] for owner, name in openai_sdk.SEAMS] == seams
        assert depths() == left[words(tuple(step for step in order if step[0] is not WE))]
        assert inspect.unwrap(openai.OpenAI.request) is ORIGINALS[SyncAPIClient]
        scene.clear_away()
    assert set(depths().values()) == {0}


@pytest.mark.parametrize("neighbour", [GENAI, OPENINFERENCE], ids=str)
def test_every_order_of_an_asynchronous_program(scene: Scene, neighbour: Instrumentation) -> None:
    """The same for ``AsyncOpenAI``."""
    needs(neighbour)
    alone = run_alone(scene, ((neighbour, True), (neighbour, False)), scene.chat_async)
    scene.clear_away()
    for order in orders(WE, neighbour):
        run(scene, order, alone, scene.chat_async)
        assert inspect.unwrap(openai.AsyncOpenAI.request) is ORIGINALS[AsyncAPIClient]
        scene.clear_away()


def test_what_openinference_leaves_behind_does_no_harm(scene: Scene) -> None:
    """It leaves an ``OpenAI.request`` behind: the method that it found, be it ours. Each order, and then each again upon that."""
    needs(OPENINFERENCE)
    alone = run_alone(scene, ((OPENINFERENCE, True), (OPENINFERENCE, False)))
    for first in orders(WE, OPENINFERENCE):
        for second in orders(WE, OPENINFERENCE):
            scene.clear_away()
            run(scene, first, alone)
            run(scene, second, alone)


def test_openinference_takes_us_out_for_one_call(scene: Scene) -> None:
    """Instrumented before us and uninstrumented after, it puts back what it found, without us. The next call is the SDK's own,
    and shows that we were passed by; from the one after it on we are back."""
    needs(OPENINFERENCE)
    for step in ((OPENINFERENCE, True), (WE, True), (OPENINFERENCE, False)):
        scene.switch(step)
    assert scene.call() == Counter()
    assert scene.call() == scene.call() == Counter(OURS)
    scene.switch((WE, False))
    assert openai.OpenAI.request is ORIGINALS[SyncAPIClient]


def test_the_order_after_which_one_of_our_wrappers_stays(scene: Scene) -> None:
    """OpenInference found our wrapper, and puts it back when we are gone: it passes through, and works again when we are back."""
    needs(OPENINFERENCE)
    for step in ((WE, True), (OPENINFERENCE, True), (WE, False), (OPENINFERENCE, False)):
        scene.switch(step)
    assert openai.OpenAI.request is not ORIGINALS[SyncAPIClient]
    assert scene.call() == Counter()
    scene.switch((WE, True))
    assert scene.call() == Counter(OURS)
    scene.switch((WE, False))
    assert openai.OpenAI.request is ORIGINALS[SyncAPIClient]


@pytest.mark.parametrize("we_first", [True, False], ids=["ours first", "ours last"])
@pytest.mark.parametrize("neighbour", [GENAI, TRACELOOP, OPENINFERENCE], ids=str)
def test_a_throttle_inside_a_stream(scene: Scene, neighbour: Instrumentation, we_first: bool) -> None:
    """It comes after ``create`` has returned: the neighbour's span is one, and around ours all the same."""
    needs(neighbour)
    for step in ((WE, True), (neighbour, True))[:: 1 if we_first else -1]:
        scene.switch(step)

    def stream() -> Any:
        chunks = list(scene.client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT

    assert scene.call(stream, Reply.stream_throttle(delay=0.001, api="chat")) == Counter({neighbour.span: 1, **OURS})
    scene.check_nesting()
