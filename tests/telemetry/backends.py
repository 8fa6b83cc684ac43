"""What backends for LLMs take for a model call, as far as they say so in public. Each rule has its source; none of their code.

A call is what they count, price and evaluate: a generation or an embedding. Agents, tools and plain spans are none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Attributes = Mapping[str, Any]

CALLS = frozenset({"chat", "completion", "text_completion", "generate", "generate_content", "embedding", "embeddings"})
"""``gen_ai.operation.name`` of what is sent to a model."""


def openinference(attributes: Attributes) -> bool:
    """OpenInference's own kind, which Phoenix, Arize AX and all others here read.
    (https://arize-ai.github.io/openinference/spec/semantic_conventions.html, "Span Kinds")"""
    return attributes.get("openinference.span.kind") in ("LLM", "EMBEDDING")


def phoenix(attributes: Attributes) -> bool:
    """Phoenix gives a span without a kind one by its operation. (seen with a real one: tests/collector/test_phoenix.py)"""
    if "openinference.span.kind" in attributes:
        return openinference(attributes)
    return attributes.get("gen_ai.operation.name") in CALLS


def langfuse(attributes: Attributes) -> bool:
    """Kind, then operation, then: whatever names a model is a generation.
    (langfuse/langfuse, packages/shared/src/server/otel/ObservationTypeMapper.ts)"""
    if attributes.get("langfuse.observation.type") in ("generation", "embedding") or openinference(attributes):
        return True
    if "openinference.span.kind" in attributes:
        return False
    operation = attributes.get("gen_ai.operation.name")
    if operation in ("invoke_agent", "create_agent", "execute_tool"):
        return False
    models = (
        "langfuse.observation.model.name",
        "gen_ai.request.model",
        "gen_ai.response.model",
        "llm.model_name",
        "model",
    )
    return operation in CALLS or any(attributes.get(name) for name in models)


def langsmith(attributes: Attributes) -> bool:
    """The run type, by its own kind, OpenInference's, the operation, or Traceloop's request type.
    (https://docs.langchain.com/langsmith/trace-with-opentelemetry, "Supported OpenTelemetry attribute and event mapping")"""
    if str(attributes.get("langsmith.span.kind", "")).lower() in ("llm", "embedding"):
        return True
    if openinference(attributes) or attributes.get("gen_ai.operation.name") in CALLS:
        return True
    return attributes.get("llm.request.type") in ("chat", "completion", "embedding")


def datadog(attributes: Attributes) -> bool:
    """Spans of the GenAI conventions from 1.37 on, or of OpenInference; one without an operation but with a model is one too.
    (https://docs.datadoghq.com/llm_observability/instrumentation/otel_instrumentation)"""
    if attributes.get("gen_ai.operation.name") in ("invoke_agent", "create_agent", "execute_tool"):
        return False
    return openinference(attributes) or bool(
        {"gen_ai.operation.name", "gen_ai.request.model", "gen_ai.provider.name"} & attributes.keys()
    )


def sentry(attributes: Attributes) -> bool:
    """A span's op comes from the operation, and ``gen_ai.*`` ops are the AI views' model calls.
    (https://docs.sentry.io/platforms/python/tracing/instrumentation/custom-instrumentation/ai-agents-module/)"""
    return attributes.get("gen_ai.operation.name") in CALLS


def logfire(attributes: Attributes) -> bool:
    """The panel of a model call is shown, and its tokens summed, where a model is named.
    (https://logfire.pydantic.dev/docs/guides/web-ui/llm-panels/)"""
    return bool({"gen_ai.request.model", "gen_ai.response.model"} & attributes.keys())


RULES: tuple[Callable[[Attributes], bool], ...] = (
    openinference, phoenix, langfuse, langsmith, datadog, sentry, logfire,
)  # fmt: skip
