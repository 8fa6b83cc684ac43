"""DSPy, instructor, LlamaIndex, smolagents, CrewAI, AutoGen and LiteLLM: one call of each, throttled once.

Each in a process of its own: they set up loggers, telemetry and patches of their own at import, and no two of them agree on the
versions of what they need. Each is skipped where it is not installed (``uvx nox -s more_frameworks``).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, json, os, sys
import openai, otel_ratelimit
from otel_ratelimit.testing import ThrottlingServer, throttle_reply

waits, throttles = [], []
otel_ratelimit.instrument(on_wait=waits.append, on_throttle=throttles.append)
with ThrottlingServer() as server:
    os.environ.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_BASE=server.base_url, OPENAI_API_KEY="test")
    url = server.base_url
#FRAMEWORK#
    server.script([throttle_reply(delay=0.2)] * int(sys.argv[1]))
    answer = call()
    counts = server.counts
print(json.dumps({
    "answer": answer,
    "counts": [counts.requests, counts.throttled, counts.succeeded],
    "waits": [wait.reason for wait in waits if not wait.again],
    "throttles": [throttle.throttles for throttle in throttles],
}), flush=True)
os._exit(0)  # their threads may want to send something somewhere
"""


@dataclass(frozen=True)
class Framework:
    """One of them.

    Attributes:
        code: defines ``call``, which returns the text of the answer.
        environment: what has to be set for it.
    """

    package: str
    label: str
    code: str
    environment: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.label


WAIT = {"OTEL_RATELIMIT_WHEN_RETRIES_DISABLED": "wait"}

FRAMEWORKS = [
    Framework(
        "dspy",
        "dspy",
        """
import dspy
lm = dspy.LM("openai/gpt-4o", api_base=url, api_key="test", cache=False, num_retries=0)
call = lambda: str(lm("hi")[0])
""",
        WAIT,
    ),
    Framework(
        "instructor",
        "instructor",
        """
import instructor, pydantic
class City(pydantic.BaseModel):
    name: str
client = instructor.from_openai(openai.OpenAI())
call = lambda: type(client.chat.completions.create(
    model="gpt-4o", response_model=City, messages=[{"role": "user", "content": "hi"}])).__name__
""",
    ),
    Framework(
        "llama_index",
        "llama-index",
        """
from llama_index.llms.openai import OpenAI
llm = OpenAI(model="gpt-4o", api_base=url, api_key="test")
call = lambda: llm.complete("hi").text
""",
    ),
    Framework(
        "smolagents",
        "smolagents",
        """
from smolagents import OpenAIModel
model = OpenAIModel(model_id="gpt-4o", api_base=url, api_key="test")
call = lambda: model.generate([{"role": "user", "content": [{"type": "text", "text": "hi"}]}]).content
""",
    ),
    Framework(
        "crewai",
        "crewai",
        """
from crewai import LLM
llm = LLM(model="gpt-4o", base_url=url, api_key="test")
call = lambda: llm.call("hi")
""",
        {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false", "OTEL_SDK_DISABLED": "true"},
    ),
    Framework(
        "autogen_ext",
        "autogen",
        """
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
client = OpenAIChatCompletionClient(model="gpt-4o", base_url=url, api_key="test")
call = lambda: asyncio.run(client.create([UserMessage(content="hi", source="user")])).content
""",
    ),
    Framework(
        "litellm",
        "litellm",
        """
import litellm
call = lambda: litellm.completion(model="openai/gpt-4o", api_base=url, api_key="test",
    messages=[{"role": "user", "content": "hi"}]).choices[0].message.content
""",
    ),
    Framework(
        "litellm",
        "litellm-router",
        """
import litellm
router = litellm.Router(num_retries=0, model_list=[
    {"model_name": "gpt-4o", "litellm_params": {"model": "openai/gpt-4o", "api_base": url, "api_key": "test"}}])
call = lambda: router.completion(model="gpt-4o",
    messages=[{"role": "user", "content": "hi"}]).choices[0].message.content
""",
        WAIT,
    ),
]


@pytest.mark.parametrize("throttles", [1, 4])
@pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)
def test_a_call_is_waited_for(framework: Framework, throttles: int) -> None:
    """Throttled once, or more often than anybody's own retries reach: answered, one request for each refusal and one more; the
    framework sees nothing of it."""
    if importlib.util.find_spec(framework.package) is None:
        pytest.skip(f"{framework.package} is not installed: uvx nox -s more_frameworks")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OPENAI_"))}
    indented = "".join(f"    {line}\n" for line in framework.code.strip().splitlines())
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.replace("#FRAMEWORK#\n", indented), str(throttles)],
        env={**clean, "PYTHONPATH": str(ROOT), "LITELLM_LOCAL_MODEL_COST_MAP": "True", **framework.environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["answer"] in ("Hello from the throttling server.", "City")
    assert found["counts"] == [throttles + 1, throttles, 1]
    assert found["throttles"] == list(range(1, throttles + 1))
    assert found["waits"] == ["throttled"] * throttles
