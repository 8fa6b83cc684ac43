"""Nesting: under a GenAI span, over HTTP client spans, with the neighbours' own instrumentations installed."""

from __future__ import annotations

from typing import Any

import openai
import pytest

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit.testing import ThrottlingServer, throttle_reply
from tests.telemetry_probe import Probe, parent_id, span_id

genai = pytest.importorskip("opentelemetry.instrumentation.genai.openai")
httpx_instrumentation = pytest.importorskip("opentelemetry.instrumentation.httpx")

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]


def http_instrumentor() -> Any:
    """httpx2 is what openai 3.x uses; older SDKs use httpx."""
    newer = int(openai.__version__.split(".")[0]) >= 3
    if newer and not hasattr(httpx_instrumentation, "HTTPX2ClientInstrumentor"):
        pytest.skip("this opentelemetry-instrumentation-httpx does not know httpx2")
    return (
        httpx_instrumentation.HTTPX2ClientInstrumentor() if newer else httpx_instrumentation.HTTPXClientInstrumentor()
    )


@pytest.mark.parametrize("ours_first", [True, False])
def test_spans_nest_under_genai_and_over_http(ours_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """chat (GenAI) > rate_limited > retry > POST (HTTP); the first POST, sent before anything was amiss, under chat."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    probe = Probe()
    providers: dict[str, Any] = {"tracer_provider": probe.tracer_provider, "meter_provider": probe.meter_provider}
    chat = genai.OpenAIInstrumentor()
    http = http_instrumentor()
    if ours_first:
        otel_ratelimit.instrument(policy=Policy(), **providers)
    chat.instrument(**providers)
    http.instrument(**providers)
    if not ours_first:
        otel_ratelimit.instrument(policy=Policy(), **providers)
    try:
        with (
            ThrottlingServer(script=[throttle_reply(0.05)]) as server,
            openai.OpenAI(base_url=server.base_url, api_key="test") as client,
        ):
            assert client.chat.completions.create(model="gpt-4o", messages=MESSAGES).choices
    finally:
        chat.uninstrument()
        http.uninstrument()
    names = probe.names()
    assert names == {"chat": 1, "rate_limited": 1, "throttle": 1, "wait": 1, "retry": 1, "POST": 2}
    genai_span, call, retry = probe.only("chat"), probe.only("rate_limited"), probe.only("retry")
    first, second = probe.spans("POST")
    assert parent_id(genai_span) is None
    assert parent_id(call) == span_id(genai_span)
    assert parent_id(retry) == span_id(call)
    assert parent_id(first) == span_id(genai_span)
    assert parent_id(second) == span_id(retry)
    assert len({context.trace_id for span in probe.spans() if (context := span.get_span_context())}) == 1
    probe.shutdown()
