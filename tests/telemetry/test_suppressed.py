"""Spans of ours where other instrumentation is suppressed, as Logfire does it around each call."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import SpanProcessor

import otel_ratelimit
from otel_ratelimit.testing import ThrottlingServer, throttle_reply
from tests.drivers.conftest import Caller, chat
from tests.telemetry_probe import Probe

KEYS = ("suppress_instrumentation", context._SUPPRESS_INSTRUMENTATION_KEY)


class Obedient(SpanProcessor):
    """Notes what a processor that honours the keys would have passed on."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if not any(context.get_value(key) for key in KEYS):
            self.began.append(span.name)

    def on_end(self, span: Any) -> None:
        if not any(context.get_value(key) for key in KEYS):
            self.ended.append(span.name)


@pytest.mark.parametrize("flavour", ["sync", "asyncio"])
def test_ours_are_made_all_the_same(flavour: str) -> None:
    """Each span starts and ends while the keys are off; while the request is sent they are on, as whoever set them wants it."""
    probe, obedient, caller = Probe(), Obedient(), Caller(flavour)
    probe.tracer_provider.add_span_processor(obedient)
    while_sent: list[bool] = []

    def seen(_request: Any) -> None:
        while_sent.append(any(context.get_value(key) for key in KEYS))

    async def seen_by_async(request: Any) -> None:
        seen(request)

    def call(client: Any) -> Any:
        client._client.event_hooks = {"request": [seen_by_async if caller.asynchronous else seen], "response": []}
        return chat(client)

    otel_ratelimit.instrument(tracer_provider=probe.tracer_provider)
    with ThrottlingServer(script=[throttle_reply(delay=0.2)]) as server, suppress_instrumentation():
        caller(server, call)
        assert all(context.get_value(key) for key in KEYS[1:])
    names = ["rate_limited chat gpt-4o", "throttle gpt-4o", "wait gpt-4o", "retry gpt-4o"]
    assert sorted(obedient.began) == sorted(obedient.ended) == sorted(names)
    assert while_sent == [True, True]
