"""Pydantic AI: an ``Agent`` with OpenAI's models, instrumented with its own OpenTelemetry spans."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from otel_ratelimit.testing import Reply, throttle_reply
from tests.frameworks.conftest import Stage, TurnedAway

pydantic_ai = pytest.importorskip("pydantic_ai", reason="pydantic-ai-slim is not installed: uv sync --group frameworks")
models = pytest.importorskip("pydantic_ai.models.openai", reason="pydantic-ai-slim is installed without openai")
instrumented = pytest.importorskip("pydantic_ai.models.instrumented")
providers = pytest.importorskip("pydantic_ai.providers.openai")

APIS = ["chat", "responses"]
SPANS = ("invoke_agent", "chat")


def agent(stage: Stage, client: openai.AsyncOpenAI, api: str, **options: Any) -> Any:
    made = models.OpenAIResponsesModel if api == "responses" else models.OpenAIChatModel
    agent = pydantic_ai.Agent(made("gpt-4o", provider=providers.OpenAIProvider(openai_client=client)), **options)
    agent.instrument = instrumented.InstrumentationSettings(
        tracer_provider=stage.probe.tracer_provider, meter_provider=stage.probe.meter_provider
    )
    return agent


def run_sync(stage: Stage, api: str) -> str:
    loop = asyncio.new_event_loop()  # run_sync takes the thread's own, and leaves it open
    asyncio.set_event_loop(loop)
    client = openai.AsyncOpenAI(base_url=stage.url, api_key="test")
    try:
        return str(agent(stage, client, api).run_sync("Say hello.").output)
    finally:
        loop.run_until_complete(client.close())
        asyncio.set_event_loop(None)
        loop.close()


def run(stage: Stage, api: str, **options: Any) -> str:
    async def main() -> str:
        async with openai.AsyncOpenAI(base_url=stage.url, api_key="test") as client:
            return str((await agent(stage, client, api, **options).run("Say hello.")).output)

    return asyncio.run(main())


def run_stream(stage: Stage, api: str) -> str:
    async def main() -> str:
        async with (
            openai.AsyncOpenAI(base_url=stage.url, api_key="test") as client,
            agent(stage, client, api).run_stream("Say hello.") as result,
        ):
            return "".join([text async for text in result.stream_text(delta=True)])

    return asyncio.run(main())


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("call", [run_sync, run, run_stream])
def test_a_throttled_run(stage: Stage, api: Any, call: Any) -> None:
    """Our span is in Pydantic AI's span of the model's call, which is in that of the run."""
    stage.throttled_once(lambda: call(stage, api), throttle_reply(delay=0.05), SPANS)


@pytest.mark.parametrize("api", APIS)
def test_a_throttle_inside_a_stream(stage: Stage, api: Any) -> None:
    """The same where the throttle comes in the stream."""
    stage.throttled_once(lambda: run_stream(stage, api), Reply.stream_throttle(delay=0.05, api=api), SPANS)


@pytest.mark.parametrize("retries", [1, 5])
def test_its_retries_do_not_multiply_with_ours(stage: Stage, retries: int) -> None:
    """They count answers that do not validate; a throttle that we waited for is none."""
    stage.throttled_often(lambda: run(stage, "chat", retries=retries), throttle_reply(delay=0.01))


def test_what_no_wait_helps_is_not_retried_by_it_either(stage: Stage) -> None:
    """One request, though it was told five."""
    stage.refused(lambda: run(stage, "chat", retries=5), pydantic_ai.exceptions.ModelHTTPError, requests=1)


def test_a_fallback_takes_over_where_our_queue_gives_up(stage: Stage, turned_away: TurnedAway) -> None:
    """``FallbackModel`` goes on after an error with a status of 400 or more."""
    fallback = pytest.importorskip("pydantic_ai.models.fallback")

    async def main() -> str:
        async with openai.AsyncOpenAI(base_url=stage.url, api_key="test") as client:
            provider = providers.OpenAIProvider(openai_client=client)
            both = [models.OpenAIChatModel(name, provider=provider) for name in ("gpt-4o", "gpt-4o-mini")]
            return str((await pydantic_ai.Agent(fallback.FallbackModel(*both)).run("Say hello.")).output)

    turned_away(lambda: asyncio.run(main()))
