"""What an undisturbed call costs: ``uv run --group test python -m tests.benchmarks.overhead``

The real SDK over an in-process transport, plain and instrumented in turns in one run, so that a noisy machine is noisy to
both. Prints microseconds a call and the ratio; the ratio is the figure to compare.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import openai
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit.testing import answers

try:
    import httpx2 as httpx
except ImportError:  # openai before 3.0
    import httpx  # type: ignore[no-redef,import-not-found,unused-ignore]

HEADERS = {
    "content-type": "application/json",
    "x-request-id": "req_1",
    "openai-processing-ms": "400",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "1999000",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "30ms",
}
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello. " * 50}], "max_tokens": 100}
ANSWER = answers.chat(BODY)


def client() -> openai.OpenAI:
    """A client whose server is a function."""
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=ANSWER, headers=HEADERS))
    return openai.OpenAI(base_url="http://127.0.0.1/v1", api_key="test", http_client=httpx.Client(transport=transport))


def microseconds(call: Callable[[], object], calls: int) -> float:
    """Mean time of a call."""
    gc.collect()
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    create: Any = client().chat.completions.create
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    meters = MeterProvider([InMemoryMetricReader()])
    variants: dict[str, dict[str, Any] | None] = {
        "openai alone": None,
        "no OpenTelemetry SDK": {"policy": Policy()},
        "no OpenTelemetry SDK, pacing off": {"policy": Policy(pacing=False)},
        "metrics and traces on": {"policy": Policy(), "tracer_provider": tracers, "meter_provider": meters},
        "mode off": {"policy": Policy(mode="off")},
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(options.rounds):
        for name, arguments in variants.items():
            if arguments is not None:
                otel_ratelimit.instrument(**arguments)
            microseconds(lambda: create(**BODY), 5)
            times[name].append(microseconds(lambda: create(**BODY), options.calls))
            if arguments is not None:
                otel_ratelimit.uninstrument()
    plain = times["openai alone"]
    for name, measured in times.items():
        ratio = statistics.median(mine / theirs for mine, theirs in zip(measured, plain, strict=True))
        added = statistics.median(measured) - statistics.median(plain)
        print(f"{name:<34} {statistics.median(measured):8.1f} us  {added:+7.1f} us  x {ratio:.3f}")
    tracers.shutdown()
    meters.shutdown()


if __name__ == "__main__":
    main()
