"""Nothing that is private leaves: marked secrets are planted wherever a program or a server could put one, and searched for
in everything that comes out."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
from typing import Any

import openai
import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_ratelimit
from otel_ratelimit import Policy, parse_throttle
from otel_ratelimit._drivers.session import Session
from otel_ratelimit._stores.memory import MemoryStore
from tests.telemetry_probe import Probe, notes
from tests.trust.in_process import Scripted, client, fail, ok, reply

MARK = "zxq"
KEY = f"sk-{MARK}key"
ORGANISATION = f"org-{MARK}organisation"
PROJECT = f"proj_{MARK}project"
PROMPT = f"{MARK}prompt"
MESSAGES: list[Any] = [{"role": "user", "content": PROMPT}]

PRIVATE_HEADERS = {
    "content-type": "application/json",
    "openai-organization": ORGANISATION,
    "openai-project": PROJECT,
    "x-request-id": f"req_{MARK}request",
    "set-cookie": f"session={MARK}cookie",
    "x-error-message": f"{MARK}header",
    "retry-after-ms": "1",
}


def answer(status: int, code: str = "rate_limit_exceeded") -> Any:
    """An error that quotes all it can."""
    text = (
        f"Rate limit reached for gpt-4o in organization {ORGANISATION} project {PROJECT} key {KEY} on tokens per min (TPM): "
        f"Limit 100, Used 90, Requested 20. Please try again in 1ms. You said: {PROMPT}"
    )
    body = {"error": {"message": text, "type": "tokens", "param": f"{MARK}param", "code": code}}
    return reply(status, json.dumps(body).encode(), PRIVATE_HEADERS)


def nonsense(status: int) -> Any:
    """An error that cannot be read."""
    return reply(status, f"<html>{PROMPT} {KEY}".encode() * 50, PRIVATE_HEADERS)


SCRIPTS: dict[str, list[Any]] = {
    "throttled, then well": [answer(429), ok(PRIVATE_HEADERS)],
    "overloaded, then well": [answer(503), ok(PRIVATE_HEADERS)],
    "failed, then well": [fail(500), nonsense(502), ok(PRIVATE_HEADERS)],
    "quota": [answer(429, "insufficient_quota")],
    "not ours": [answer(400)],
    "unreadable": [nonsense(429), nonsense(429), ok(PRIVATE_HEADERS)],
    "an address of the key": [answer(401)],
}


@pytest.mark.usefixtures("contained_faults")
@pytest.mark.parametrize("script", list(SCRIPTS.values()), ids=list(SCRIPTS))
@pytest.mark.parametrize("mode", ["wait", "observe"])
def test_nothing_private_comes_out(
    mode: Any, script: list[Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans, points, exemplars, log records, notes on exceptions, and the ``repr`` of every object of ours."""
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.001)
    probe = Probe()
    reader = InMemoryMetricReader()
    from opentelemetry.sdk.metrics import MeterProvider

    meters = MeterProvider([reader])
    otel_ratelimit.instrument(
        policy=Policy(mode=mode, max_wait=0.05), tracer_provider=probe.tracer_provider, meter_provider=meters
    )
    emitted: list[str] = []
    alive: list[Session] = []
    original = Session.__init__

    def watched(self: Session, *arguments: Any) -> None:
        original(self, *arguments)
        alive.append(self)

    monkeypatch.setattr(Session, "__init__", watched)
    with caplog.at_level(logging.DEBUG, logger="otel_ratelimit"), client(
        Scripted(*script), api_key=KEY, organization=ORGANISATION, project=PROJECT
    ) as one, contextlib.redirect_stderr(io.StringIO()) as printed:  # fmt: skip
        for options in ({}, {"max_retries": 0}, {"timeout": 0.0001}):
            try:
                one.with_options(**options).chat.completions.create(model="gpt-4o", messages=MESSAGES, user=MARK)
            except openai.OpenAIError as error:
                emitted += notes(error)
    data = reader.get_metrics_data()
    emitted.append(data.to_json() if data else "")
    emitted += [span.to_json() for span in probe.spans()]
    emitted += [record.getMessage() + repr(record.args) for record in caplog.records if record.name == "otel_ratelimit"]
    emitted.append(printed.getvalue())
    emitted += [repr(found) for found in gc.get_objects() if str(type(found).__module__).startswith("otel_ratelimit.")]
    hooks = otel_ratelimit.RateLimitInstrumentor()._hooks
    assert hooks is not None
    assert hooks.runtime is not None
    store = hooks.runtime.store
    assert isinstance(store, MemoryStore)
    emitted += [repr(key) for key in store._lines]
    emitted += [repr(value) for value in hooks.runtime._seen.values()]
    assert alive
    assert len(emitted) > 10
    assert [text for text in emitted if MARK in text] == []
    probe.shutdown()
    meters.shutdown()


def test_a_throttle_keeps_no_text() -> None:
    """What the public parser returns can be logged."""
    body = {"error": {"message": f"Rate limit reached for {PROMPT}: try again in 5s", "code": f"{MARK}"}}
    throttle = parse_throttle(429, {"x-request-id": MARK}, body)
    assert throttle is not None
    assert throttle.delay == 5
    assert MARK not in repr(throttle)


@pytest.mark.usefixtures("contained_faults")
def test_a_fault_of_ours_is_told_without_its_text(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    """By its place and type."""
    from otel_ratelimit._drivers import openai_sdk

    def broken(*_arguments: object) -> Any:
        raise ValueError(PROMPT)

    monkeypatch.setattr(openai_sdk, "read_failure", broken)
    otel_ratelimit.instrument(policy=Policy())
    with (
        caplog.at_level(logging.DEBUG, logger="otel_ratelimit"),
        client(Scripted(fail(400)), api_key=KEY) as one,
        pytest.raises(openai.BadRequestError),
    ):
        one.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    records = [record for record in caplog.records if record.name == "otel_ratelimit"]
    assert records
    assert not any(MARK in record.getMessage() or record.exc_info for record in records)


def test_settings_do_not_repeat_a_password(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of a store may hold one; an error about it names the setting alone."""
    address = f"postgres://user:{MARK}@host"
    with pytest.raises(otel_ratelimit.ConfigurationError) as raised:
        Policy(store=address)
    assert MARK not in str(raised.value)
    monkeypatch.setenv("OTEL_RATELIMIT_STORE", address)
    otel_ratelimit.instrument()
    assert MARK not in caplog.text
