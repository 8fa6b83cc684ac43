"""A real Phoenix, fed by OTLP: it counts one LLM span for each call, however often that was throttled.

Skipped where Phoenix is not installed (``bash collector-config/tools.sh phoenix``).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit.testing import Reply, ThrottlingServer, throttle_reply
from tests.collector.programs import Program, free_port, get_json, missing
from tests.telemetry.backends import phoenix as rule
from tests.telemetry.test_neighbours import GENAI, OPENINFERENCE, Instrumentation, needs
from tests.telemetry_probe import Probe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:Support for class-based:DeprecationWarning"),
]
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
PATIENCE = 60.0


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. It keeps what it gets in a directory of the test, and reports nothing to its makers."""
    problem = missing("phoenix")
    if problem:
        pytest.skip(problem)
    directory: Path = tmp_path_factory.mktemp("phoenix")
    port = free_port()
    environment = {
        "PHOENIX_WORKING_DIR": str(directory),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "HOME": str(directory),
    }
    url = f"http://127.0.0.1:{port}"
    with Program(["phoenix", "serve"], directory / "log", f"{url}/healthz", environment):
        yield url


def seen(url: str, probe: Probe) -> list[dict[str, Any]]:
    """What Phoenix has of the spans that the probe has, once it has them all."""
    sent = {f"{span.context.span_id:016x}" for span in probe.spans() if span.context}
    end = time.monotonic() + PATIENCE
    while True:
        answer = get_json(f"{url}/v1/projects/default/spans?limit=1000")
        found = [span for span in answer["data"] if span["context"]["span_id"] in sent]
        if len(found) == len(sent) or time.monotonic() > end:
            return found
        time.sleep(0.2)


@pytest.mark.parametrize("neighbour", [None, GENAI, OPENINFERENCE], ids=str)
def test_llm_spans_are_calls(phoenix: str, neighbour: Instrumentation | None) -> None:
    """Three disturbed calls and one that is not: as many LLM spans as without us, and one for each disturbed call where nothing
    else shows calls. Our own rule for Phoenix, which other tests go by, says the same."""
    if neighbour is not None:
        needs(neighbour)
    probe = Probe()
    probe.tracer_provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{phoenix}/v1/traces")))
    providers: dict[str, Any] = {"tracer_provider": probe.tracer_provider, "meter_provider": probe.meter_provider}
    refused = throttle_reply(0.001)
    try:
        if neighbour is not None:
            neighbour.on(**providers)
        otel_ratelimit.instrument(policy=Policy(buffer=0, pacing=False), **providers)
        with (
            ThrottlingServer() as server,
            openai.OpenAI(base_url=server.base_url, api_key="test") as client,
        ):
            server.script([refused, refused, Reply.ok(), refused, Reply.ok(), Reply.ok()])
            for _ in range(3):
                client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
            server.script([Reply.stream_throttle(delay=0.001, api="chat")])
            assert list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    finally:
        otel_ratelimit.uninstrument()
        if neighbour is not None:
            neighbour.off()
        if "request" in openai.OpenAI.__dict__:
            del openai.OpenAI.request  # what OpenInference leaves behind
    found = seen(phoenix, probe)
    kinds = Counter(span["span_kind"] for span in found)
    disturbed, calls = 3, 4
    assert len(probe.spans("throttle")) == 4
    assert kinds["LLM"] == (disturbed if neighbour is None else calls), [(s["name"], s["span_kind"]) for s in found]
    assert kinds["LLM"] == sum(rule(dict(span.attributes or {})) for span in probe.spans())
    assert {span["span_kind"] for span in found if span["name"].startswith(("throttle", "wait", "retry"))} == {
        "UNKNOWN"
    }
    probe.shutdown()
