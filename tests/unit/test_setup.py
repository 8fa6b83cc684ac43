"""Which protocol OTLP is spoken by, as the environment and what is installed say."""

from __future__ import annotations

import pytest
from opentelemetry.sdk import _configuration as sdk

from otel_ratelimit import _setup

GRPC = "opentelemetry.exporter.otlp.proto.grpc"
HTTP = "opentelemetry.exporter.otlp.proto.http"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@pytest.mark.parametrize(
    ("installed", "environment", "traces", "metrics"),
    [
        ({HTTP}, {ENDPOINT: "http://c:4317"}, "http", "http"),
        ({GRPC}, {ENDPOINT: "http://c:4318"}, "grpc", "grpc"),
        ({GRPC, HTTP}, {ENDPOINT: "http://c:4318"}, "http", "http"),
        ({GRPC, HTTP}, {ENDPOINT: "http://c:4318/"}, "http", "http"),
        ({GRPC, HTTP}, {ENDPOINT: "http://c:4318/prefix"}, "http", "http"),
        ({GRPC, HTTP}, {ENDPOINT: "http://c:4317"}, "grpc", "grpc"),
        ({GRPC, HTTP}, {ENDPOINT: "http://c:43180"}, "grpc", "grpc"),
        ({GRPC, HTTP}, {ENDPOINT: "http://c4318"}, "grpc", "grpc"),
        ({GRPC, HTTP}, {ENDPOINT: "http://c:4317", TRACES: "https://c/v1/traces"}, "http", "grpc"),
        ({GRPC, HTTP}, {ENDPOINT: "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc", "grpc"),
        (
            {GRPC, HTTP},
            {ENDPOINT: "http://c:4317", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf"},
            "grpc",
            "http",
        ),
        ({GRPC, HTTP}, {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp"}, "grpc", "grpc"),
    ],
)
def test_the_protocol_of_an_endpoint(
    installed: set[str], environment: dict[str, str], traces: str, metrics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said holds; else what alone is installed; of two the one whose endpoint it is; else the SDK's choice."""
    monkeypatch.setattr(_setup, "installed", installed.__contains__)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _setup.exporter_names(sdk, "traces") == [f"otlp_proto_{traces}"]
    assert _setup.exporter_names(sdk, "metrics") == [f"otlp_proto_{metrics}"]
