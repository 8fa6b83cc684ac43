"""langchain-openai: ``ChatOpenAI`` and ``OpenAIEmbeddings``, over Chat Completions and over Responses."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any

import openai
import pytest

from otel_ratelimit.testing import Reply, throttle_reply
from tests.frameworks.conftest import TEXT, Stage, TurnedAway

langchain = pytest.importorskip(
    "langchain_openai", reason="langchain-openai is not installed: uv sync --group frameworks"
)

APIS = ["chat", "responses"]


def model(stage: Stage, api: str, **options: Any) -> Any:
    return langchain.ChatOpenAI(
        model="gpt-4o", base_url=stage.url, api_key="test", use_responses_api=api == "responses", **options
    )


def invoke(stage: Stage, api: str, **options: Any) -> str:
    chat = model(stage, api, **options)
    with closing(chat.root_client):
        return str(chat.invoke("Say hello.").text)


def ainvoke(stage: Stage, api: str) -> str:
    async def main() -> str:
        chat = model(stage, api)
        async with chat.root_async_client:
            return str((await chat.ainvoke("Say hello.")).text)

    return asyncio.run(main())


def stream(stage: Stage, api: str) -> str:
    chat = model(stage, api)
    with closing(chat.root_client):
        return "".join(chunk.text for chunk in chat.stream("Say hello."))


def astream(stage: Stage, api: str) -> str:
    async def main() -> str:
        chat = model(stage, api)
        async with chat.root_async_client:
            return "".join([chunk.text async for chunk in chat.astream("Say hello.")])

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
    made = langchain.OpenAIEmbeddings(base_url=stage.url, api_key="test", check_embedding_ctx_length=False)

    async def embed() -> Any:
        async with made.async_client._client:
            return await made.aembed_documents(["a river"])

    def call() -> str:
        with closing(made.client._client):
            vectors = asyncio.run(embed()) if asynchronous else made.embed_documents(["a river"])
            return TEXT if len(vectors) == 1 else f"{len(vectors)} vectors"

    stage.throttled_once(call, throttle_reply(delay=0.05))


@pytest.mark.parametrize("max_retries", [None, 1, 6])
def test_its_max_retries_does_not_multiply_with_ours(stage: Stage, max_retries: int | None) -> None:
    """It is handed to the SDK, where it no longer counts throttles."""
    stage.throttled_often(lambda: invoke(stage, "chat", max_retries=max_retries), throttle_reply(delay=0.01))


def test_what_no_wait_helps_is_not_retried_by_it_either(stage: Stage) -> None:
    """One request, though LangChain was told six."""
    stage.refused(lambda: invoke(stage, "chat", max_retries=6), openai.RateLimitError, requests=1)


def test_with_retry_only_sees_what_no_wait_helps(stage: Stage) -> None:
    """LangChain's own loop goes around the call: it never meets a throttle that was waited for, and repeats one that was not."""
    chat = model(stage, "chat")
    with closing(chat.root_client):
        retrying = chat.with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
        stage.refused(lambda: retrying.invoke("Say hello."), openai.RateLimitError, requests=3)
        stage.probe.clear()
        before = stage.server.counts.requests
        stage.server.script([throttle_reply(delay=0.01)] * 4)
        assert retrying.invoke("Say hello.").text == TEXT
        assert stage.server.counts.requests == before + 5
        assert stage.probe.names()["rate_limited"] == 1


def test_max_retries_of_zero_forbids_waiting(stage: Stage) -> None:
    """As it says: the throttle comes up."""
    stage.server.script([throttle_reply(delay=0.01)])
    with pytest.raises(openai.RateLimitError):
        invoke(stage, "chat", max_retries=0)
    assert stage.server.counts.requests == 1
    assert stage.probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason="retries_disabled") == 1


def test_a_fallback_takes_over_where_our_queue_gives_up(stage: Stage, turned_away: TurnedAway) -> None:
    """``with_fallbacks(exceptions_to_handle=...)`` is written for the SDK's exception, and ours is one."""
    first = langchain.ChatOpenAI(model="gpt-4o", base_url=stage.url, api_key="test")
    second = langchain.ChatOpenAI(model="gpt-4o-mini", base_url=stage.url, api_key="test")
    with closing(first.root_client), closing(second.root_client):
        both = first.with_fallbacks([second], exceptions_to_handle=(openai.RateLimitError,))
        turned_away(lambda: both.invoke("Say hello.").text)
