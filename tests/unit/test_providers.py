"""``gen_ai.provider.name`` by host."""

from __future__ import annotations

import pytest

from otel_ratelimit._drivers.providers import provider_of


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("127.0.0.1", "openai"),
        ("", "openai"),
        ("openrouter.ai", "openai"),
        ("shop.openai.azure.com", "azure.ai.openai"),
        ("shop.cognitiveservices.azure.com", "azure.ai.openai"),
        ("shop.services.ai.azure.com", "azure.ai.inference"),
        ("api.groq.com", "groq"),
        ("api.x.ai", "x_ai"),
        ("x.ai", "x_ai"),
        ("max.ai", "openai"),
        ("notgroq.com", "openai"),
        ("groq.com.example.org", "openai"),
        ("api.deepseek.com", "deepseek"),
        ("api.mistral.ai", "mistral_ai"),
        ("generativelanguage.googleapis.com", "gcp.gemini"),
        ("us-central1-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("api.anthropic.com", "anthropic"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"),
    ],
)
def test_by_host(host: str, provider: str) -> None:
    """One row each; those that only look alike are none."""
    assert provider_of(host, azure_client=False) == provider


def test_azures_client_with_an_address_of_its_own() -> None:
    """A gateway before Azure."""
    assert provider_of("gateway.example.com", azure_client=True) == "azure.ai.openai"
