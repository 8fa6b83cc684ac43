"""Everything that goes through the client, throttled once: recovered, and counted once."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import openai
import pydantic
import pytest
from packaging.version import Version

from otel_ratelimit.testing import Reply, ThrottlingServer, throttle_reply
from tests.drivers.conftest import MESSAGES, Caller, chat, needs_responses
from tests.telemetry_probe import Probe

Instrumented = Callable[..., Probe]

# Under trio the SDK's own streams leave generators to the garbage collector; without us too. Some calls it has deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

DATA = b'{"line": 1}\n' * 20
SHA256 = hashlib.sha256(DATA).hexdigest()
SDK = Version(openai.__version__)
POLL: dict[str, Any] = {"poll_interval_ms": 10}


class Answer(pydantic.BaseModel):
    """What the model is asked for."""

    answer: str


TOOLS: list[Any] = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]

CALLS: dict[str, tuple[str, Callable[[Any], Any], Callable[[Any], bool]]] = {
    # feature: (operation in telemetry, the call, whether its answer is right)
    "chat": ("chat", chat, lambda answer: bool(answer.choices[0].message.content)),
    "chat with tools": (
        "chat",
        lambda client: chat(client, tools=TOOLS, tool_choice="required"),
        lambda answer: answer.choices[0].message.tool_calls[0].function.name == "f",
    ),
    "chat parsed into a model": (
        "chat",
        lambda client: client.chat.completions.parse(model="gpt-4o", messages=MESSAGES, response_format=Answer),
        lambda answer: answer.choices[0].message.parsed == Answer(answer=""),
    ),
    "completions": (
        "text_completion",
        lambda client: client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Say hello."),
        lambda answer: bool(answer.choices),
    ),
    "responses": (
        "chat",
        lambda client: client.responses.create(model="gpt-4o", input="Say hello."),
        lambda answer: bool(answer.output_text),
    ),
    "responses parsed into a model": (
        "chat",
        lambda client: client.responses.parse(model="gpt-4o", input="Say hello.", text_format=Answer),
        lambda answer: answer.output_parsed == Answer(answer=""),
    ),
    "embeddings": (
        "embeddings",
        lambda client: client.embeddings.create(model="text-embedding-3-small", input=["one", "two"]),
        lambda answer: len(answer.data) == 2,
    ),
    "moderations": (
        "moderations",
        lambda client: client.moderations.create(input="Say hello."),
        lambda answer: not answer.results[0].flagged,
    ),
    "images: generate": (
        "images.generations",
        lambda client: client.images.generate(model="gpt-image-1", prompt="A hat"),
        lambda answer: bool(answer.data[0].b64_json),
    ),
    "images: edit": (
        "images.edits",
        lambda client: client.images.edit(model="gpt-image-1", image=io.BytesIO(DATA), prompt="A hat"),
        lambda answer: answer.data[0].b64_json == SHA256,
    ),
    "audio: speech": (
        "audio.speech",
        lambda client: client.audio.speech.create(model="tts-1", voice="alloy", input="Hello"),
        lambda answer: answer.content == b"Hello",
    ),
    "audio: transcription": (
        "audio.transcriptions",
        lambda client: client.audio.transcriptions.create(model="whisper-1", file=("a.wav", DATA)),
        lambda answer: answer.text == SHA256,
    ),
    "audio: translation": (
        "audio.translations",
        lambda client: client.audio.translations.create(model="whisper-1", file=("a.wav", DATA)),
        lambda answer: answer.text == SHA256,
    ),
    "files: create": (
        "files",
        lambda client: client.files.create(file=("a.jsonl", DATA), purpose="batch"),
        lambda answer: answer.to_dict()["sha256"] == SHA256,
    ),
    "files: content": (
        "files.content",
        lambda client: client.files.content("file-0"),
        lambda answer: answer.content == b'{"line": 1}\n',
    ),
    "uploads: create": (
        "uploads",
        lambda client: client.uploads.create(bytes=9, filename="a.jsonl", mime_type="text/jsonl", purpose="batch"),
        lambda answer: answer.status == "pending",
    ),
    "batches": (
        "batches",
        lambda client: client.batches.create(
            completion_window="24h", endpoint="/v1/chat/completions", input_file_id="file-0"
        ),
        lambda answer: answer.status == "validating",
    ),
    "fine-tuning": (
        "fine_tuning.jobs",
        lambda client: client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file="file-0"),
        lambda answer: answer.status == "queued",
    ),
    "vector stores": (
        "vector_stores",
        lambda client: client.vector_stores.create(name="store"),
        lambda answer: answer.status == "completed",
    ),
    "models": ("models", lambda client: client.models.retrieve("gpt-4o"), lambda answer: answer.id == "gpt-4o"),
    "client.post": (
        "chat",
        lambda client: client.post("/chat/completions", cast_to=object, body={"model": "gpt-4o", "messages": MESSAGES}),
        lambda answer: answer["object"] == "chat.completion",
    ),
    "client.get": ("models", lambda client: client.get("/models", cast_to=object), lambda answer: bool(answer["data"])),
    "with_options": (
        "chat",
        lambda client: chat(client.with_options(timeout=30.0, max_retries=5)),
        lambda answer: bool(answer.choices),
    ),
    "with_raw_response": (
        "chat",
        lambda client: client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES),
        lambda answer: answer.retries_taken == 1 and bool(answer.parse().choices),
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[pytest.mark.feature(name), *([needs_responses] if name.startswith("responses") else [])]
        )
        for name in CALLS
    ],
)
def test_a_call_of_every_kind(caller: Caller, server: ThrottlingServer, instrumented: Instrumented, name: str) -> None:
    """One throttle, one wait, one retry, and the answer parsed as ever."""
    probe = instrumented()
    operation, call, right = CALLS[name]
    server.script([throttle_reply(delay=0.01)])
    assert right(caller(server, call))
    assert server.counts.requests == 2
    assert probe.recoveries() == {"rate_limited": 1, "throttle": 1, "retry": 1}
    attributes = probe.only("rate_limited").attributes
    assert attributes is not None
    assert attributes["gen_ai.operation.name"] == operation


SERIES: dict[str, tuple[Callable[[Any], Any], int]] = {
    # feature: (a helper that makes several requests, how many without a throttle)
    "polling: vector store files": (
        lambda client: client.vector_stores.files.create_and_poll(file_id="file-1", vector_store_id="vs_1", **POLL),
        2,
    ),
    "polling: vector store file batches": (
        lambda client: client.vector_stores.file_batches.create_and_poll(
            vector_store_id="vs_1", file_ids=["file-1"], **POLL
        ),
        2,
    ),
    "polling: upload and poll": (
        lambda client: client.vector_stores.files.upload_and_poll(
            vector_store_id="vs_1", file=("a.jsonl", DATA), **POLL
        ),
        3,
    ),
    "polling: files.wait_for_processing": (lambda client: client.files.wait_for_processing("file-0"), 1),
    "uploads: in parts": (
        lambda client: client.uploads.upload_file_chunked(
            file=DATA, filename="a.jsonl", bytes=len(DATA), mime_type="text/jsonl", purpose="batch", part_size=100
        ),
        2 + -(-len(DATA) // 100),
    ),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.feature(name)) for name in SERIES])
def test_a_helper_that_makes_several_requests(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented, name: str
) -> None:
    """The last request of the series is throttled, waits, and the helper never knows."""
    probe = instrumented()
    helper, requests = SERIES[name]
    server.script([*[Reply()] * (requests - 1), throttle_reply(delay=0.01)])
    assert caller(server, helper).id
    assert server.counts.requests == requests + 1
    assert probe.recoveries() == {"rate_limited": 1, "throttle": 1, "retry": 1}


@pytest.mark.feature("pagination")
def test_pages_in_a_loop(caller: Caller, server: ThrottlingServer, instrumented: Instrumented) -> None:
    """The automatic iterator over three pages, each of which is a call of its own that may be throttled."""
    probe = instrumented(pacing=False)
    throttle = throttle_reply(delay=0.01)
    server.script([throttle, Reply(), throttle, throttle])

    def action(client: Any) -> Any:
        if not caller.asynchronous:
            return [file.id for file in client.files.list(limit=2)]

        async def main() -> list[str]:
            return [file.id async for file in client.files.list(limit=2)]

        return main()

    assert len(set(caller(server, action))) == 5
    assert probe.recoveries() == {"rate_limited": 2, "throttle": 3, "retry": 3}


@pytest.mark.feature("module-level client")
def test_the_module_level_client(
    server: ThrottlingServer, instrumented: Instrumented, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``openai.chat…`` with ``openai.api_key`` and ``openai.base_url``."""
    probe = instrumented()
    monkeypatch.setattr(openai, "api_key", "test")
    monkeypatch.setattr(openai, "base_url", f"{server.base_url}/")
    openai._reset_client()
    server.script([throttle_reply(delay=0.01)])
    try:
        assert openai.chat.completions.create(model="gpt-4o", messages=MESSAGES).choices
        assert probe.names()["retry"] == 1
        assert openai._client is not None
        openai._client.close()
    finally:
        openai._reset_client()


@pytest.mark.feature("Azure: AD tokens refreshed for each attempt")
def test_azure_asks_for_a_token_for_each_attempt(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """One that expired during the wait is no trouble; the limit it counts against stays the same."""
    probe = instrumented()
    server.script([throttle_reply(delay=0.01), throttle_reply(delay=0.01)])
    tokens = iter("abcdef")

    async def provide() -> str:
        return next(tokens)

    options: dict[str, Any] = {
        "azure_endpoint": server.base_url.removesuffix("/v1"),
        "azure_ad_token_provider": provide if caller.asynchronous else lambda: next(tokens),
        "api_version": "2024-10-21",
    }
    if caller.asynchronous:

        async def main() -> Any:
            async with openai.AsyncAzureOpenAI(**options) as client:
                return await chat(client)

        answer = anyio.run(main, backend=caller.flavour)
    else:
        with openai.AzureOpenAI(**options) as client:
            answer = chat(client)
    assert answer.choices
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["Bearer a", "Bearer b", "Bearer c"]
    assert {request.path for request in server.requests} == {"/openai/deployments/gpt-4o/chat/completions"}
    assert probe.recoveries() == {"rate_limited": 1, "throttle": 2, "retry": 2}


@pytest.mark.feature("Azure: streams")
def test_an_azure_stream_begins_with_a_report_on_the_prompt(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """Its first chunk has no choices; a throttle behind it is still before any content."""
    instrumented()
    report = {
        "id": "", "object": "chat.completion.chunk", "created": 0, "model": "", "choices": [],
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}],
    }  # fmt: skip
    error = {"message": "Please retry after 1 second.", "code": "429", "type": None, "param": None}
    error["message"] = "Rate limit is exceeded. Try again in 0.02 seconds."
    server.script([Reply(events=(report, {"error": error}))])

    def action(client: Any) -> Any:
        if not caller.asynchronous:
            return [chunk.choices[0].delta.content for chunk in chat(client, stream=True) if chunk.choices]

        async def main() -> Any:
            return [chunk.choices[0].delta.content async for chunk in await chat(client, stream=True) if chunk.choices]

        return main()

    assert "".join(part or "" for part in caller(server, action))
    assert server.counts.requests == 2


def providers() -> Iterator[Any]:
    """Clients of the SDK's own providers, where this SDK has them, and the header that each attempt must bear anew."""
    if Version("3.20") > SDK:
        return
    yield (
        "bedrock",
        lambda url, token: __import__("openai.providers", fromlist=["bedrock"]).bedrock(
            region="us-east-1", base_url=url, token_provider=token
        ),
    )
    yield (
        "vertex",
        lambda url, token: __import__("openai.providers", fromlist=["vertex"]).vertex(
            project="p", location="us-east5", base_url=url, token_provider=token
        ),
    )


@pytest.mark.parametrize(
    ("name", "make"),
    [pytest.param(*one, id=one[0], marks=pytest.mark.feature(f"provider: {one[0]}")) for one in providers()],
)
def test_a_provider_signs_each_attempt(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented, name: str, make: Any
) -> None:
    """The SDK's Bedrock and Vertex providers: a fresh token for each attempt, the wait as ever."""
    probe = instrumented()
    server.script([throttle_reply(delay=0.01), throttle_reply(delay=0.01)])
    tokens = iter("abcdef")
    provider = make(server.base_url, lambda: next(tokens))
    try:
        client: Any = (openai.AsyncOpenAI if caller.asynchronous else openai.OpenAI)(provider=provider)
    except (TypeError, ValueError, openai.OpenAIError) as error:
        pytest.skip(f"this SDK's {name} provider does not take a loopback server: {error}")

    def call() -> Any:
        return client.responses.create(model="gpt-4o", input="Say hello.", store=False)

    if caller.asynchronous:

        async def main() -> Any:
            async with client:
                return await call()

        answer = anyio.run(main, backend=caller.flavour)
    else:
        with client:
            answer = call()
    assert answer.output_text
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer a", "Bearer b", "Bearer c"]
    assert probe.recoveries() == {"rate_limited": 1, "throttle": 2, "retry": 2}


def transports() -> Iterator[Any]:
    """Ways to bring one's own HTTP client, as far as this SDK and this environment have them."""
    yield "the SDK's default", openai.DefaultHttpxClient, openai.DefaultAsyncHttpxClient
    for module in ("httpx", "httpx2"):
        try:
            library = __import__(module)
        except ImportError:
            continue
        if module == "httpx" or Version("3") <= SDK:
            yield module, library.Client, library.AsyncClient
    try:
        __import__("aiohttp")
        yield "aiohttp", None, openai.DefaultAioHttpClient
    except (ImportError, AttributeError):
        return


@needs_responses
@pytest.mark.parametrize(
    ("name", "sync_client", "async_client"),
    [pytest.param(*one, id=one[0], marks=pytest.mark.feature(f"HTTP client: {one[0]}")) for one in transports()],
)
def test_an_http_client_of_the_callers_own(
    caller: Caller,
    server: ThrottlingServer,
    instrumented: Instrumented,
    name: str,
    sync_client: Any,
    async_client: Any,
) -> None:
    """Whatever sends: a 429, a stream that is refused inside of a 200, and a lost connection are told apart and recovered."""
    if name == "aiohttp" and caller.flavour != "asyncio":
        pytest.skip("aiohttp is asyncio's")
    probe = instrumented()
    server.script([throttle_reply(delay=0.01), Reply.stream_throttle(delay=0.01)])

    def action(client: Any) -> Any:
        if not caller.asynchronous:
            return [event.type for event in client.responses.create(model="m", input="x", stream=True)]

        async def main() -> Any:
            return [event.type async for event in await client.responses.create(model="m", input="x", stream=True)]

        return main()

    if caller.asynchronous:

        async def main() -> Any:
            async with async_client() as http_client:
                client = openai.AsyncOpenAI(base_url=server.base_url, api_key="test", http_client=http_client)
                return await action(client)

        events = anyio.run(main, backend=caller.flavour)
    else:
        with sync_client() as http_client:
            events = action(openai.OpenAI(base_url=server.base_url, api_key="test", http_client=http_client))
    assert events[0] == "response.created"
    assert events[-1] == "response.completed"
    assert probe.recoveries() == {"rate_limited": 2, "throttle": 2, "retry": 2}


@pytest.mark.feature("extra headers, query, body and an idempotency key")
def test_what_the_caller_adds_is_sent_each_time(
    caller: Caller, server: ThrottlingServer, instrumented: Instrumented
) -> None:
    """The same on the second attempt as on the first."""
    instrumented()
    server.script([throttle_reply(delay=0.01)])
    extras: dict[str, Any] = {
        "extra_headers": {"x-mine": "1", "idempotency-key": "mine"},
        "extra_query": {"q": "1"},
        "extra_body": {"field": "1"},
    }
    caller(server, lambda client: chat(client, **extras))
    first, second = server.requests
    assert first.headers["x-mine"] == second.headers["x-mine"] == "1"
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == "mine"
    assert first.body == second.body
    assert json.loads(first.body or b"")["field"] == "1"
