"""What a program makes up without end, or its users, does not become labels or tables without end."""

from __future__ import annotations

from typing import Any

import openai
import pytest

import otel_ratelimit
from otel_ratelimit._drivers.operations import WORDS
from otel_ratelimit._telemetry import names
from tests.telemetry_probe import Probe

httpx: Any = getattr(openai._exceptions, "httpx2", None) or getattr(openai._exceptions, "httpx", None)


def test_operations_servers_and_what_is_kept_of_them_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths, hosts and their combinations that a program makes up: labels and tables end somewhere."""
    monkeypatch.setattr(names, "MAX_SUBJECTS", 150)
    words = sorted(WORDS)[:12]
    probe = Probe()
    otel_ratelimit.instrument(tracer_provider=probe.tracer_provider, meter_provider=probe.meter_provider)
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json={}))
    http_client = openai.DefaultHttpxClient(transport=transport)
    with openai.OpenAI(api_key="test", base_url="http://host-0.test/v1", http_client=http_client) as client:
        for one in words:
            for other in words:
                client.get(f"/{one}/{other}", cast_to=object)
        for number in range(130):
            client.with_options(base_url=f"http://host-{number}.test/v1").get("/models", cast_to=object)
    hooks = otel_ratelimit.RateLimitInstrumentor()._hooks
    assert hooks is not None
    runtime = hooks.runtime
    assert runtime is not None
    assert len(runtime._subjects) <= 151
    points = [point.attributes or {} for point in probe.points("otel_ratelimit.call.duration")]
    operations = {str(point["gen_ai.operation.name"]) for point in points}
    servers = {str(point["server.address"]) for point in points}
    assert names.OTHER in operations
    assert len(operations) <= names.MAX_OPERATIONS + 1
    assert names.OTHER in servers
    assert len(servers) <= names.MAX_SERVERS + 1
    probe.shutdown()
