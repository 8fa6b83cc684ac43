"""The one label that the program chooses: on every span and point of the key's calls, and on no other's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

import otel_ratelimit
from otel_ratelimit import ConfigurationError, Policy
from otel_ratelimit._drivers import aliases
from otel_ratelimit.testing import Limit, ThrottlingServer, throttle_reply
from tests.telemetry_probe import Probe

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    yield
    aliases._names.clear()


def test_it_is_on_all_of_the_keys_telemetry_and_on_no_others() -> None:
    """Copies of the client and another one with the same key have it too; another key has none, or its own."""
    probe = Probe()
    otel_ratelimit.instrument(
        policy=Policy(), tracer_provider=probe.tracer_provider, meter_provider=probe.meter_provider
    )
    with (
        ThrottlingServer([Limit("tokens", 200_000), Limit("requests", 500)]) as server,
        openai.OpenAI(base_url=server.base_url, api_key="sk-one") as one,
        openai.OpenAI(base_url=server.base_url, api_key="sk-two") as two,
    ):
        otel_ratelimit.alias(one, "first try")
        otel_ratelimit.alias(one, "batch project")
        for client in (one.with_options(timeout=30), two):
            server.script([throttle_reply(0.05)])
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        found = {
            name: {point.attributes.get("otel_ratelimit.alias") for point in probe.points(f"otel_ratelimit.{name}")}
            for name in ("throttles", "retries", "call.duration", "wait.time", "tokens.remaining", "requests.reset")
        }
    assert found == {name: {"batch project", None} for name in found}
    spans = [(span.attributes or {}).get("otel_ratelimit.alias") for span in probe.spans()]
    assert spans.count("batch project") == spans.count(None) == len(spans) / 2
    assert "sk-" not in str([span.to_json() for span in probe.spans()])
    probe.shutdown()


@pytest.mark.parametrize(
    "name", ["", "x" * 41, "sk-proj-123", "org-abc", "new\nline", 'a"b', " leading", None, "gsk_1"], ids=repr
)
def test_what_is_no_name(name: Any) -> None:
    """Refused, and the message does not repeat it."""
    with (
        openai.OpenAI(base_url="http://127.0.0.1:9", api_key="test") as client,
        pytest.raises(ConfigurationError) as raised,
    ):
        otel_ratelimit.alias(client, name)
    assert not name or name not in str(raised.value)


def test_there_are_not_endlessly_many() -> None:
    """The hundred and first is refused; those that are there may change."""
    clients = [openai.OpenAI(base_url="http://127.0.0.1:9", api_key=f"key {number}") for number in range(101)]
    for client in clients[:100]:
        otel_ratelimit.alias(client, "one of many")
    with pytest.raises(ConfigurationError, match="100"):
        otel_ratelimit.alias(clients[100], "one too many")
    otel_ratelimit.alias(clients[0], "changed")
    assert aliases.alias_of(clients[0]) == "changed"
    for client in clients:
        client.close()
