"""LiteLLM: its router goes to another deployment where one is out of capacity."""

from __future__ import annotations

import os
from typing import Any

import pytest

import otel_ratelimit
from otel_ratelimit.testing import throttle_reply
from tests.frameworks.conftest import Stage, TurnedAway

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its import asks for prices over the network
litellm: Any = pytest.importorskip("litellm", reason="litellm is not installed: uv sync --group frameworks")

MESSAGES = [{"role": "user", "content": "Say hello."}]


def deployment(stage: Stage, model: str) -> dict[str, Any]:
    parameters = {"model": f"openai/{model}", "api_base": stage.url, "api_key": "test", "max_retries": 2}
    return {"model_name": model, "litellm_params": parameters}


@pytest.mark.filterwarnings("default")  # LiteLLM's own
def test_the_router_takes_over_where_our_queue_gives_up(stage: Stage, turned_away: TurnedAway) -> None:
    """It sorts exceptions of the SDK by their class, and falls back on its own ``RateLimitError``. (The router sets
    ``max_retries=0``, and such calls would be sent at once.)"""
    router = litellm.Router(
        model_list=[deployment(stage, "gpt-4o"), deployment(stage, "gpt-4o-mini")],
        fallbacks=[{"gpt-4o": ["gpt-4o-mini"]}],
        num_retries=0,
    )
    assert router.completion(model="gpt-4o-mini", messages=MESSAGES).choices  # its first call takes seconds
    with otel_ratelimit.use(otel_ratelimit.Policy(max_wait=10, when_retries_disabled="wait")):
        turned_away(lambda: router.completion(model="gpt-4o", messages=MESSAGES).choices[0].message.content)


@pytest.mark.filterwarnings("default")
def test_it_is_its_own_rate_limit_error(stage: Stage, turned_away: TurnedAway) -> None:
    """Without a router; its text is that of the body, so the server's."""
    with turned_away.asked(), pytest.raises(litellm.RateLimitError, match="Rate limit reached for gpt-4o"):
        litellm.completion(model="openai/gpt-4o", api_base=stage.url, api_key="test", messages=MESSAGES, max_retries=2)
    assert stage.server.counts.requests == 2


@pytest.mark.filterwarnings("default")
def test_a_throttled_completion(stage: Stage) -> None:
    """One call of LiteLLM's, two requests."""
    stage.server.script([throttle_reply(delay=0.05)])
    answer = litellm.completion(
        model="openai/gpt-4o", api_base=stage.url, api_key="test", messages=MESSAGES, max_retries=2
    )
    assert answer.choices
    assert stage.server.counts.requests == 2
