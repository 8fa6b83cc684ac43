"""What the Collector keeps: every throttled trace, whole, whenever its throttle comes; of the rest, here, nothing."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import otel_ratelimit
from otel_ratelimit.testing import Reply, ThrottlingServer, throttle_reply
from tests.collector.programs import missing
from tests.collector.stack import Collector
from tests.collector.traces import SinkTraces, Span

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing("collector") is not None, reason=missing("collector") or ""),
    pytest.mark.timeout(180),
]

SERVICE = "sampling-test"
DECISION_WAIT = 1
"""Seconds that an undecided trace is held here; as shipped it is a minute."""

WHOLE = Counter({"caller": 1, "rate_limited": 1, "throttle": 1, "wait": 1, "retry": 1})


@dataclass
class Pipeline:
    """A program with the plugin, whose every span is sent at once, a Collector, and what comes out of it."""

    collector: Collector
    sink: SinkTraces
    server: ThrottlingServer
    client: openai.OpenAI
    provider: TracerProvider

    def call(self, *script: Reply, name: str = "caller") -> None:
        """One call within a span of the caller's own."""
        self.server.script([*script, Reply.ok()])
        with self.provider.get_tracer("caller").start_as_current_span(name):
            self.client.embeddings.create(model="text-embedding-3-small", input="hi")

    def wait_for_refusals(self, number: int) -> None:
        """Return once the sampler has let so many traces go."""
        end = time.monotonic() + 30
        pattern = r'tail_sampling_global_count_traces_sampled\{[^}]*sampled="false"[^}]*\} (\d+)'
        while sum(map(int, re.findall(pattern, self.collector.telemetry()))) < number:
            assert time.monotonic() < end
            time.sleep(0.1)

    def arrived(self, spans: int) -> dict[str, list[Span]]:
        """The traces, once so many spans have come; what comes too much is given a moment to come."""
        end = time.monotonic() + 30
        while sum(map(len, self.sink.search(SERVICE))) < spans and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(1)
        return {trace[0].trace_id: trace for trace in self.sink.search(SERVICE)}


def words(spans: list[Span]) -> Counter[str]:
    return Counter(span.name.split(" ")[0] for span in spans)


@pytest.fixture
def pipeline(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pipeline]:
    configuration = getattr(request, "param", "collector.yaml")
    with SinkTraces() as sink:
        collector = Collector(
            tmp_path,
            sink.otlp_port,
            configuration,
            OTELCOL_SAMPLING_PERCENTAGE="0",
            OTELCOL_DECISION_WAIT=f"{DECISION_WAIT}s",
        )
        with collector.program, ThrottlingServer() as server:
            provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
            exporter = OTLPSpanExporter(endpoint=f"{collector.endpoint}/v1/traces")
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            otel_ratelimit.instrument(policy=otel_ratelimit.Policy(pacing=False), tracer_provider=provider)
            with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
                yield Pipeline(collector, sink, server, client, provider)
            provider.shutdown()


def test_every_throttled_trace_is_kept_whole_and_no_other(pipeline: Pipeline) -> None:
    """At 0 % for the rest. The spans come one by one, most of them after the decision; and all calls are in the span metrics."""
    for number in range(20):
        pipeline.call(*([throttle_reply(delay=0.02)] if number % 4 == 0 else []))
    traces = pipeline.arrived(5 * WHOLE.total())
    assert [words(spans) for spans in traces.values()] == [WHOLE] * 5
    # By the flag, although the status of a throttle span would do too.
    decided = re.findall(
        r'tail_sampling_count_traces_sampled\{[^}]*policy="(.*?)"[^}]*sampled="true"[^}]*\} (\d+)',
        pipeline.collector.telemetry(),
    )
    assert {policy: int(number) for policy, number in decided if number != "0"} == {"throttled": 5}
    pattern = rf'traces_span_metrics_calls_total{{[^}}]*job="{SERVICE}"[^}}]*span_name="caller"[^}}]*}} (\S+)'
    end = time.monotonic() + 20
    while time.monotonic() < end and re.findall(pattern, pipeline.collector.metrics()) != ["20.0"]:
        time.sleep(0.2)
    assert re.findall(pattern, pipeline.collector.metrics()) == ["20.0"]


def test_a_throttle_long_after_the_trace_was_let_go(pipeline: Pipeline) -> None:
    """A workflow's trace: undisturbed, let go by the sampler, then throttled. The throttle and what follows is kept."""
    tracer = pipeline.provider.get_tracer("caller")
    with tracer.start_as_current_span("caller: workflow"):
        with tracer.start_as_current_span("first step"):
            pass
        pipeline.wait_for_refusals(1)
        pipeline.server.script([throttle_reply(delay=0.02)])
        pipeline.client.embeddings.create(model="text-embedding-3-small", input="hi")
    ((_, spans),) = pipeline.arrived(WHOLE.total()).items()
    assert words(spans) == words([span for span in spans if span.name != "first step"])
    assert {span.name.split(" ")[0] for span in spans} >= {"caller:", "rate_limited", "throttle", "wait", "retry"}


def test_a_failed_call_and_a_long_wait_are_kept(pipeline: Pipeline) -> None:
    """Without a throttle: an error, and a wait of more than a second for the SDK's own reasons."""
    pipeline.server.script([Reply(status=400, json={"error": {"message": "no", "type": "invalid_request_error"}})])
    with (
        pytest.raises(openai.BadRequestError),
        pipeline.provider.get_tracer("caller").start_as_current_span("caller: failed"),
    ):
        pipeline.client.embeddings.create(model="text-embedding-3-small", input="hi")
    pipeline.call(Reply(status=500, headers={"retry-after": "1.2"}), name="caller: waited")
    names = {span.name for spans in pipeline.arrived(5).values() for span in spans}
    assert {"caller: failed", "caller: waited"} <= names


@pytest.mark.parametrize("pipeline", ["collector-laptop.yaml"], indirect=True)
def test_the_laptop_configuration_keeps_everything(pipeline: Pipeline) -> None:
    """And tells it on the console."""
    pipeline.call(throttle_reply(delay=0.02))
    pipeline.call()
    traces = pipeline.arrived(WHOLE.total() + 1)
    assert Counter(len(spans) for spans in traces.values()) == Counter({5: 1, 1: 1})
    assert "Traces" in pipeline.collector.program.log.read_text()
