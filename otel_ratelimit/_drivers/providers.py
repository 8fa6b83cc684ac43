"""``gen_ai.provider.name`` of a host: many services speak OpenAI's API, and the client does not say which one it calls.

The values are those that the GenAI conventions list (https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/,
"gen_ai.provider.name"). What is not among them is ``openai``, as the conventions have it for a service that behaves like it.
"""

from __future__ import annotations

from typing import Final

OPENAI: Final = "openai"
AZURE: Final = "azure.ai.openai"

_BY_END: Final = (
    (".openai.azure.com", AZURE),
    (".services.ai.azure.com", "azure.ai.inference"),
    (".inference.ai.azure.com", "azure.ai.inference"),
    (".azure.com", AZURE),
    ("groq.com", "groq"),
    ("x.ai", "x_ai"),
    ("deepseek.com", "deepseek"),
    ("mistral.ai", "mistral_ai"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("anthropic.com", "anthropic"),
    ("perplexity.ai", "perplexity"),
    ("cohere.ai", "cohere"),
    ("cohere.com", "cohere"),
)
"""How hosts end, the more exact first."""


def provider_of(host: str, azure_client: bool) -> str:
    """The provider behind a host, in lower case; ``azure_client``: the SDK's own client for Azure is used."""
    for end, provider in _BY_END:
        if host.endswith(end) and (len(host) == len(end) or end[0] == "." or host[-len(end) - 1] in ".-"):
            return provider
    if host.startswith("bedrock") and host.endswith(".amazonaws.com"):
        return "aws.bedrock"
    return AZURE if azure_client else OPENAI
