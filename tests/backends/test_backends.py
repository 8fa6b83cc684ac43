"""Other people's observability of the same calls, instrumented before and after ours: Logfire, Langfuse, Sentry, Datadog.

Each in a process of its own, since they take over globals; each is skipped where it is not installed (``uvx nox -s backends``).
What is held: the call is answered after one wait, ours are four spans in one trace, and theirs is one call.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, logging, os, sys
import openai, otel_ratelimit
from otel_ratelimit.testing import ThrottlingServer, throttle_reply
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
processor = SimpleSpanProcessor(exporter)
Client, theirs, logged = openai.OpenAI, [], []

class Kept(logging.Handler):
    def emit(self, record):
        logged.append(record.getMessage())

logging.getLogger("otel_ratelimit").addHandler(Kept(logging.WARNING))

def own_provider():
    provider = TracerProvider()
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)

#BACKEND#

provide()
for step in sys.argv[1]:
    theirs_on() if step == "b" else otel_ratelimit.instrument()
with ThrottlingServer(script=[throttle_reply(delay=0.2)]) as server:
    client = Client(base_url=server.base_url, api_key="test")
    with trace.get_tracer("program").start_as_current_span("program"):
        answer = call(client) if "call" in globals() else client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    counts = server.counts
finish() if "finish" in globals() else None
spans = exporter.get_finished_spans()
names = {span.context.span_id: span.name for span in spans}
print(json.dumps({
    "text": answer.choices[0].message.content,
    "counts": [counts.requests, counts.throttled, counts.succeeded],
    "spans": {span.name.split(" ")[0]: names.get(span.parent.span_id) if span.parent else None
              for span in spans if span.instrumentation_scope.name == "otel_ratelimit"},
    "ours": sum(span.instrumentation_scope.name == "otel_ratelimit" for span in spans),
    "theirs": theirs or [span.name for span in spans
                         if span.instrumentation_scope.name not in ("otel_ratelimit", "program")],
    "logged": logged,
}), flush=True)
os._exit(0)  # nothing here is to be sent anywhere
"""

LOGFIRE = """
import logfire
def provide():
    logfire.configure(send_to_logfire=False, console=False, additional_span_processors=[processor])
theirs_on = logfire.instrument_openai
"""

LANGFUSE = """
os.environ.update(LANGFUSE_PUBLIC_KEY="pk-lf-1", LANGFUSE_SECRET_KEY="sk-lf-1", LANGFUSE_HOST="http://127.0.0.1:9")
provide = own_provider
def theirs_on():
    import langfuse.openai
    global Client
    Client = langfuse.openai.OpenAI
"""

SENTRY = """
import sentry_sdk
from sentry_sdk.integrations.openai import OpenAIIntegration
provide = own_provider
class Transport(sentry_sdk.transport.Transport):
    def capture_envelope(self, envelope):
        for item in envelope.items:
            document = item.payload.json or {}
            operations = [span["op"] for span in document.get("spans", ())]
            operations += [span["attributes"]["sentry.op"]["value"] for span in document.get("items", ()) if "attributes" in span]
            theirs.extend(name for name in operations if name.startswith("gen_ai"))
def theirs_on():
    sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", traces_sample_rate=1.0, transport=Transport,
                    integrations=[OpenAIIntegration()])
def call(client):
    with sentry_sdk.start_transaction(name="program"):
        return client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
def finish():
    sentry_sdk.flush()
"""

DATADOG = """
os.environ.update(DD_INSTRUMENTATION_TELEMETRY_ENABLED="false", DD_REMOTE_CONFIGURATION_ENABLED="false")
provide = own_provider
def theirs_on():
    from ddtrace import patch
    from ddtrace.trace import TraceFilter, tracer
    class Keep(TraceFilter):
        def process_trace(self, spans):
            theirs.extend(span.name for span in spans)
            return None
    patch(openai=True)
    tracer.configure(trace_processors=[Keep()])
"""


@dataclass(frozen=True)
class Backend:
    """One of them.

    Attributes:
        code: defines ``provide``, which sets the tracer provider, and ``theirs_on``.
        theirs: what it records of the call, by the order of instrumenting: first it (``b``), then ours (``o``), or the other way.
        parent: what our call's span is in, by the same.
    """

    package: str
    code: str
    theirs: dict[str, list[str]]
    parent: dict[str, str]

    def __str__(self) -> str:
        return self.package


def same(what: Any) -> dict[str, Any]:
    return {"bo": what, "ob": what}


CHAT = "Chat Completion with {request_data[model]!r}"
BACKENDS = [
    Backend("logfire", LOGFIRE, {"bo": [CHAT, CHAT], "ob": [CHAT]}, {"bo": "program", "ob": CHAT}),
    Backend("langfuse", LANGFUSE, same(["OpenAI-generation"]), same("program")),
    Backend("sentry_sdk", SENTRY, same(["gen_ai.chat"]), same("program")),
    Backend("ddtrace", DATADOG, same(["openai.request"]), same("program")),
]


@pytest.mark.parametrize("order", ["bo", "ob"], ids=["theirs-first", "ours-first"])
@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_beside(backend: Backend, order: str) -> None:
    """One throttle, one wait, one retry, all in the trace of the program; and what they record is one call."""
    if importlib.util.find_spec(backend.package) is None:
        pytest.skip(f"{backend.package} is not installed: uvx nox -s backends")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OPENAI_"))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.replace("#BACKEND#", backend.code), order],
        env={**clean, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["text"] == "Hello from the throttling server."
    assert found["counts"] == [2, 1, 1]
    call = "rate_limited chat gpt-4o"
    assert found["spans"] == {"rate_limited": backend.parent[order], "throttle": call, "wait": call, "retry": call}
    assert found["ours"] == 4
    assert found["theirs"] == backend.theirs[order]
    twice = len(backend.theirs[order]) > 1
    assert any("instrument otel_ratelimit before it" in line for line in found["logged"]) == twice
