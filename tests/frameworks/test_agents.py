"""The OpenAI Agents SDK: ``Runner``, with either of its models. It is asynchronous inside; ``run_sync`` too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

from otel_ratelimit.testing import Reply, throttle_reply
from tests.frameworks.conftest import Stage

agents = pytest.importorskip("agents", reason="openai-agents is not installed: uv sync --group frameworks")

APIS = ["chat", "responses"]


def on_a_loop(main: Callable[[openai.AsyncOpenAI], Awaitable[str]], stage: Stage) -> str:
    """With a client that is closed on the loop that it was used on."""

    async def closing() -> str:
        async with openai.AsyncOpenAI(base_url=stage.url, api_key="test") as client:
            return await main(client)

    return asyncio.run(closing())


def agent(client: openai.AsyncOpenAI, api: str, **options: Any) -> Any:
    made = agents.OpenAIResponsesModel if api == "responses" else agents.OpenAIChatCompletionsModel
    model = made(model="gpt-4o", openai_client=client)
    return agents.Agent(name="Greeter", instructions="Be brief.", model=model, **options)


def run_sync(stage: Stage, api: str) -> str:
    loop = asyncio.new_event_loop()  # run_sync takes the thread's own, and leaves it open
    asyncio.set_event_loop(loop)
    client = openai.AsyncOpenAI(base_url=stage.url, api_key="test")
    try:
        return str(agents.Runner.run_sync(agent(client, api), "Say hello.").final_output)
    finally:
        loop.run_until_complete(client.close())
        asyncio.set_event_loop(None)
        loop.close()


def run(stage: Stage, api: str, **options: Any) -> str:
    async def main(client: openai.AsyncOpenAI) -> str:
        return str((await agents.Runner.run(agent(client, api, **options), "Say hello.")).final_output)

    return on_a_loop(main, stage)


def run_streamed(stage: Stage, api: str) -> str:
    """The text in its pieces, and the same as a whole."""

    async def main(client: openai.AsyncOpenAI) -> str:
        result = agents.Runner.run_streamed(agent(client, api), "Say hello.")
        pieces = [
            event.data.delta
            async for event in result.stream_events()
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        ]
        assert result.final_output == "".join(pieces)
        return "".join(pieces)

    return on_a_loop(main, stage)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("call", [run_sync, run, run_streamed])
def test_a_throttled_run(stage: Stage, api: Any, call: Any) -> None:
    """Its own traces are not OpenTelemetry's: ours are in the program's span."""
    stage.throttled_once(lambda: call(stage, api), throttle_reply(delay=0.05))


@pytest.mark.parametrize("api", APIS)
def test_a_throttle_inside_a_stream(stage: Stage, api: Any) -> None:
    """A run that streams sees one clean stream."""
    stage.throttled_once(lambda: run_streamed(stage, api), Reply.stream_throttle(delay=0.05, api=api))


def test_many_throttles_are_one_call(stage: Stage) -> None:
    """It retries nothing of itself: the client's count is all, and that no longer counts throttles."""
    stage.throttled_often(lambda: run(stage, "responses"), throttle_reply(delay=0.01))


@pytest.mark.parametrize("policy", ["never", "provider_suggested", "retry_after", "network_error"])
def test_its_own_retries_do_not_multiply_with_ours(stage: Stage, policy: str) -> None:
    """``ModelSettings(retry=...)`` goes around the call: what we have waited for never gets there."""
    retry = pytest.importorskip("agents.retry")
    settings = retry.ModelRetrySettings(max_retries=3, policy=getattr(retry.retry_policies, policy)())
    options = {"model_settings": agents.ModelSettings(retry=settings)}
    stage.throttled_often(lambda: run(stage, "responses", **options), throttle_reply(delay=0.01))


def test_what_no_wait_helps_comes_up_at_once(stage: Stage) -> None:
    """One request."""
    stage.refused(lambda: run(stage, "responses"), openai.RateLimitError, requests=1)
