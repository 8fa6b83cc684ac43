"""How many series a program makes: what the README says, and no more, whatever users and servers send."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import openai
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_ratelimit
from otel_ratelimit._telemetry import names
from otel_ratelimit.testing import Limit, Reply, ThrottlingServer, throttle_reply
from tests.collector.programs import CONFIGURATION


@dataclass
class Program:
    """A program with the plugin that keeps its own telemetry, and the server that it calls."""

    client: openai.OpenAI
    server: ThrottlingServer
    reader: InMemoryMetricReader
    spans: InMemorySpanExporter

    def call(self, model: str, *script: Reply) -> None:
        """One call, whatever becomes of it."""
        self.server.script(script)
        with contextlib.suppress(openai.OpenAIError):
            self.client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])

    def series(self) -> Counter[str]:
        """Series as Prometheus has them, by metric: a histogram has one for each bucket, and its sum and its count."""
        found: Counter[str] = Counter()
        data = self.reader.get_metrics_data()
        assert data is not None
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        is_histogram = isinstance(point, HistogramDataPoint)
                        found[metric.name] += len(point.bucket_counts) + 2 if is_histogram else 1  # type: ignore[union-attr]
        return found

    def values(self, attribute: str) -> set[object]:
        """All values of an attribute."""
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            (point.attributes or {}).get(attribute)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        }


@pytest.fixture
def program() -> Iterator[Program]:
    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    meter_provider, tracer_provider = MeterProvider([reader]), TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    otel_ratelimit.instrument(
        policy=otel_ratelimit.Policy(pacing=False), tracer_provider=tracer_provider, meter_provider=meter_provider
    )
    limits = [Limit("tokens", 1e9), Limit("requests", 1e9)]
    with (
        ThrottlingServer(limits) as server,
        openai.OpenAI(base_url=server.base_url, api_key="test") as client,
    ):
        yield Program(client, server, reader, spans)
    meter_provider.shutdown()
    tracer_provider.shutdown()


def table() -> dict[str, list[str]]:
    """The README's table: metric to its further cells."""
    text = (CONFIGURATION / "README.md").read_text().split("\n## Series, and what they cost\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    return {row[0].strip("`*"): row[1:] for row in rows[1:]}


def test_the_table_says_how_many_series_a_model_has(program: Program) -> None:
    """Undisturbed, and throttled once: counted in a real run, metric by metric."""
    documented = table()
    for column, script in ((0, []), (1, [throttle_reply(delay=0.01)])):
        program.call("gpt-4o", *script)
        counted = program.series()
        said = {name: int(cells[column]) for name, cells in documented.items()}
        assert said.pop("in all") == counted.total()
        assert {name: number for name, number in said.items() if number} == dict(counted)


def test_the_table_says_how_many_there_can_be() -> None:
    """The most that one model of one server can have, from what the code can say."""
    from typing import get_args

    from otel_ratelimit._core import events

    documented = table()
    histogram = len(names.DURATION_BOUNDS) + 3
    most = {name: cells[2] for name, cells in documented.items()}
    assert int(most[names.RETRIES]) == len(get_args(events.RetryReason))
    assert int(most[names.GIVE_UPS]) == len(get_args(events.GiveUpReason))
    assert int(most[names.WAIT_DURATION]) == len(get_args(events.WaitReason)) * histogram
    assert int(most[names.CALL_DURATION]) == (len(get_args(events.CallOutcome)) + 1) * histogram
    assert re.search(rf"first {names.MAX_MODELS} models", (CONFIGURATION / "README.md").read_text())


def test_a_thousand_models_become_two_hundred_and_other(program: Program) -> None:
    """Model names come from user input. The calls of the others are counted still, under one name."""
    for number in range(1000):
        program.call(f"ft:gpt-4o:user-{number}")
    models = program.values(names.MODEL)
    assert len(models) == names.MAX_MODELS + 1
    assert names.OTHER in models
    one = {name: int(cells[0]) for name, cells in table().items()}.pop("in all")
    assert program.series().total() <= (names.MAX_MODELS + 1) * one
    program.call("one-more", throttle_reply(delay=0.01))
    assert {span.name for span in program.spans.get_finished_spans()} == {
        f"rate_limited chat {names.OTHER}",
        *(f"{word} {names.OTHER}" for word in ("throttle", "wait", "retry")),
    }


def test_no_text_of_the_server_makes_a_series(program: Program) -> None:
    """Messages, types, codes and header values that are new each time: the same series as after the first two."""
    program.client = program.client.with_options(max_retries=0)  # a thousand answers, no waits

    def reply(number: int) -> Reply:
        error = {
            "message": f"Rate limit {number} reached for unicorns-{number} on horns per min. Try again in {number}ms.",
            "type": f"type-{number}",
            "code": f"code-{number}",
        }
        return Reply(
            status=(429, 400)[number % 2], json={"error": error}, headers={"x-ratelimit-of": f"horns-{number}"}
        )

    for number in (1000, 1001):
        program.call("gpt-4o", reply(number))
    once = program.series()
    for number in range(1002, 2000):
        program.call("gpt-4o", reply(number))
    assert program.series() == once
    assert program.server.counts.throttled == 500


def test_a_model_name_without_end_is_cut(program: Program) -> None:
    """A label of a megabyte is no label."""
    program.call("m" * 1_000_000)
    assert {len(str(model)) for model in program.values(names.MODEL)} == {names.MAX_MODEL_LENGTH}
