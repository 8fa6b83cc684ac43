"""langchain-openai: ``ChatOpenAI`` and ``OpenAIEmbeddings``, over Chat Completions and over Responses."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from otel_ratelimit.testing import Reply, throttle_reply
from tests.frameworks.conftest import TEXT, Stage

langchain = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed: uv sync --group frameworks")

APIS = ["chat", "responses"]


def model(stage: Stage, api: str, **options: Any) -> Any:
    return langchain.ChatOpenAI(
        model="gpt-4o", base_url=stage.url, api_key="test", use_responses_api=api == "responses", **options
    )


def invoke(stage: Stage, api: str, **options: Any) -> str:
    return str(model(stage, api, **options).invoke("Say hello.").text)


def ainvoke(stage: Stage, api: str) -> str:
    async def main() -> str:
        chat = model(stage, api)
        try:
            return str((await chat.ainvoke("Say hello.")).text)
        finally:
            await chat.root_async_client.close()

    return asyncio.run(main())


def stream(stage: Stage, api: str) -> str:
    return "".join(chunk.text for chunk in model(stage, api).stream("Say hello."))


def astream(stage: Stage, api: str) -> str:
    async def main() -> str:
        chat = model(stage, api)
        try:
            return "".join([chunk.text async for chunk in chat.astream("Say hello.")])
        finally:
            await chat.root_async_client.close()

    return asyncio.run(main())


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("call", [invoke, ainvoke, stream, astream])
def test_a_throttled_call(stage: Stage, api: Any, call: Any) -> None:
    """It has no OpenTelemetry spans of its own: ours are in the program's."""
    stage.throttled_once(lambda: call(stage, api), throttle_reply(delay=0.05))


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("call", [stream, astream])
def test_a_throttle_inside_a_stream(stage: Stage, api: Any, call: Any) -> None:
    """LangChain's chunks are those of one clean stream."""
    stage.throttled_once(lambda: call(stage, api), Reply.stream_throttle(delay=0.05, api=api))


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_embeddings(stage: Stage, asynchronous: bool) -> None:
    """The other thing that LangChain programs do a lot of."""
    embeddings = langchain.OpenAIEmbeddings(base_url=stage.url, api_key="test", check_embedding_ctx_length=False)

    def call() -> str:
        texts = ["a river"]
        vectors = asyncio.run(embeddings.aembed_documents(texts)) if asynchronous else embeddings.embed_documents(texts)
        return TEXT if len(vectors[0]) > 1 else "no vector"

    stage.throttled_once(call, throttle_reply(delay=0.05))


@pytest.mark.parametrize("max_retries", [None, 1, 6])
def test_its_max_retries_does_not_multiply_with_ours(stage: Stage, max_retries: int | None) -> None:
    """It is handed to the SDK, where it no longer counts throttles."""
    stage.throttled_often(lambda: invoke(stage, "chat", max_retries=max_retries), throttle_reply(delay=0.01))


def test_what_no_wait_helps_is_not_retried_by_it_either(stage: Stage) -> None:
    """One request, though LangChain was told six."""
    stage.refused(lambda: invoke(stage, "chat", max_retries=6), openai.RateLimitError, requests=1)


def test_max_retries_of_zero_forbids_waiting(stage: Stage) -> None:
    """As it says: the throttle comes up."""
    stage.server.script([throttle_reply(delay=0.01)])
    with pytest.raises(openai.RateLimitError):
        invoke(stage, "chat", max_retries=0)
    assert stage.server.counts.requests == 1
    assert stage.probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason="retries_disabled") == 1
