"""The telemetry contract: whole spans and points, nesting under and over others, seeds, exemplars, log records, secrets."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import openai
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, StatusCode

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit.testing import Limit, Reply, ThrottlingServer, throttle_reply
from tests.telemetry_probe import Probe, notes, parent_id, span_id

PARTS = ("hint", "buffer", "queued", "backoff")
MESSAGES: list[Any] = [{"role": "user", "content": "the marked prompt"}]
FULL = (
    "Rate limit reached for gpt-4o in organization org-marked on tokens per min (TPM): Limit 30000, Used 29937,"
    " Requested 385. Please try again in 644ms."
)


@pytest.fixture
def server() -> Iterator[ThrottlingServer]:
    with ThrottlingServer() as server:
        yield server


@pytest.fixture
def probe() -> Iterator[Probe]:
    probe = Probe()
    otel_ratelimit.instrument(
        policy=Policy(), tracer_provider=probe.tracer_provider, meter_provider=probe.meter_provider
    )
    yield probe
    probe.shutdown()


@pytest.fixture
def client(server: ThrottlingServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="sk-marked", organization="org-marked") as client:
        yield client


def call(client: openai.OpenAI) -> Any:
    return client.chat.completions.create(model="gpt-4o", messages=MESSAGES)


def full_throttle() -> Reply:
    error = {"message": FULL, "type": "tokens", "param": None, "code": "rate_limit_exceeded"}
    return Reply(status=429, json={"error": error})


def test_every_attribute_of_every_span(server: ThrottlingServer, probe: Probe, client: openai.OpenAI) -> None:
    """The four spans of one throttled call, whole: names, kinds, statuses, attributes, parents, links."""
    server.script([full_throttle()])
    call(client)
    common = {
        "otel_ratelimit.model": "gpt-4o",
        "server.address": "127.0.0.1",
        "server.port": server.port,
    }
    root, throttle, wait, retry = (probe.only(word) for word in ("rate_limited", "throttle", "wait", "retry"))
    assert [span.name for span in (root, throttle, wait, retry)] == [
        "rate_limited chat gpt-4o",
        "throttle gpt-4o",
        "wait gpt-4o",
        "retry gpt-4o",
    ]
    assert {span.kind for span in probe.spans()} == {SpanKind.INTERNAL}
    assert {span.instrumentation_scope.name for span in probe.spans() if span.instrumentation_scope} == {
        "otel_ratelimit"
    }
    assert {span.instrumentation_scope.schema_url for span in probe.spans() if span.instrumentation_scope} == {
        "https://opentelemetry.io/schemas/1.37.0"
    }
    assert {point.attributes["gen_ai.provider.name"] for point in probe.points("otel_ratelimit.throttles")} == {
        "openai"
    }
    attributes = dict(root.attributes or {})
    waited = attributes.pop("otel_ratelimit.wait.total")
    assert isinstance(waited, float)
    assert 0.644 < waited < 0.8
    assert attributes == {
        **common,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "otel_ratelimit.throttled": True,
        "otel_ratelimit.throttle.count": 1,
        "otel_ratelimit.outcome": "recovered",
    }
    assert dict(throttle.attributes or {}) == {
        **common,
        "otel_ratelimit.throttled": True,
        "http.response.status_code": 429,
        "error.type": "429",
        "otel_ratelimit.limit.kind": "tokens",
        "otel_ratelimit.limit.window": "minute",
        "otel_ratelimit.limit.value": 30000,
        "otel_ratelimit.limit.used": 29937,
        "otel_ratelimit.limit.requested": 385,
        "otel_ratelimit.hint.delay": 0.644,
        "otel_ratelimit.hint.source": "body-message",
    }
    attributes = dict(wait.attributes or {})
    planned = attributes.pop("otel_ratelimit.wait.planned")
    assert isinstance(planned, float)
    assert planned > 0.64
    parts = {part: attributes.pop(f"otel_ratelimit.wait.{part}") for part in ("hint", "buffer", "queued", "backoff")}
    assert all(isinstance(seconds, float) for seconds in parts.values())
    assert sum(parts.values()) == pytest.approx(waited)  # type: ignore[arg-type]
    assert 0 < parts["hint"] <= 0.644  # type: ignore[operator]  # what had passed before it began is no part of it
    assert 0 < parts["buffer"] <= 0.025 + 0.05 * 0.644  # type: ignore[operator]
    assert parts["backoff"] == 0
    assert attributes == {**common, "otel_ratelimit.wait.reason": "throttled"}
    assert dict(retry.attributes or {}) == {
        **common,
        "http.request.resend_count": 1,
        "otel_ratelimit.retry.reason": "throttle",
        "http.response.status_code": 200,
    }
    statuses = [span.status.status_code for span in (root, throttle, wait, retry)]
    assert statuses == [StatusCode.UNSET, StatusCode.ERROR, StatusCode.UNSET, StatusCode.UNSET]
    assert {parent_id(span) for span in (throttle, wait, retry)} == {span_id(root)}
    assert [link.context.span_id for link in wait.links] == [span_id(throttle)]
    starts = [span.start_time or 0 for span in (root, throttle, wait, retry)]
    assert starts == sorted(starts)
    assert (root.end_time or 0) >= (retry.end_time or 0)


def test_a_call_that_gives_up(server: ThrottlingServer, probe: Probe, client: openai.OpenAI) -> None:
    """Status ERROR, the reason, and a give-up counted with it."""
    server.script([Reply(status=429, json={"error": {"message": "no", "code": "insufficient_quota"}})])
    with pytest.raises(openai.RateLimitError):
        call(client)
    root = probe.only("rate_limited")
    assert root.status.status_code == StatusCode.ERROR
    assert root.attributes is not None
    assert root.attributes["otel_ratelimit.outcome"] == "not_retryable"
    assert root.attributes["otel_ratelimit.give_up.reason"] == "quota"
    assert root.attributes["error.type"] == "429"
    assert probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason="quota") == 1
    assert probe.total("otel_ratelimit.call.duration", otel_ratelimit_outcome="not_retryable") == 1


def test_counters_are_born_at_zero(server: ThrottlingServer, probe: Probe, client: openai.OpenAI) -> None:
    """After one undisturbed call the series of the first throttle exist, at 0; then the very same one is at 1."""
    call(client)
    before = {
        tuple(sorted(point.attributes.items())): point.value for point in probe.points("otel_ratelimit.throttles")
    }
    assert set(before.values()) == {0}
    server.script([full_throttle()])
    call(client)
    after = {tuple(sorted(point.attributes.items())): point.value for point in probe.points("otel_ratelimit.throttles")}
    assert after.keys() == before.keys()
    assert sum(after.values()) == 1
    for metric in ("otel_ratelimit.retries", "otel_ratelimit.give_ups"):
        assert {point.value for point in probe.points(metric)} <= {0, 1}


def test_numbers_agree_with_the_servers_own(server: ThrottlingServer, probe: Probe, client: openai.OpenAI) -> None:
    """Spans, points and the server's count, over a mixture of everything."""
    server.script(
        [throttle_reply(0.01), Reply.ok(), throttle_reply(0.01), throttle_reply(0.01), Reply(status=500), Reply.ok()]
    )
    for _ in range(3):
        call(client)
    throttled = server.counts.throttled
    assert throttled == 3
    names = probe.names()
    assert names["throttle"] == throttled == probe.total("otel_ratelimit.throttles")
    assert names["retry"] == server.counts.requests - 3 == probe.total("otel_ratelimit.retries")
    assert names["wait"] == probe.total("otel_ratelimit.wait.duration")
    assert probe.total("otel_ratelimit.attempt.duration") == server.counts.requests
    assert probe.total("otel_ratelimit.call.duration") == 3
    assert probe.total("otel_ratelimit.request.waiting") == 0


def test_the_servers_time_and_the_queues_are_apart(probe: Probe) -> None:
    """Sixteen threads at a limit that lets four through at once: the parts add up to the waits, in spans and in the counter; of
    what the server asked no more is counted than it asked; and what the queue took is there too."""
    with (
        ThrottlingServer([Limit("requests", 600, used=596)]) as server,
        openai.OpenAI(base_url=server.base_url, api_key="test") as client,
        ThreadPoolExecutor(16) as threads,
    ):
        list(threads.map(lambda _: call(client), range(16)))
    waits = [dict(span.attributes or {}) for span in probe.spans("wait")]
    sums = {part: sum(wait[f"otel_ratelimit.wait.{part}"] for wait in waits) for part in PARTS}  # type: ignore[misc]
    for part, seconds in sums.items():
        assert probe.total("otel_ratelimit.wait.time", otel_ratelimit_wait_part=part) == pytest.approx(seconds)
    waited = sum(point.sum for point in probe.points("otel_ratelimit.wait.duration"))
    assert sum(sums.values()) == pytest.approx(waited)
    asked = sum((span.attributes or {}).get("otel_ratelimit.hint.delay", 0.0) for span in probe.spans("throttle"))  # type: ignore[misc]
    assert sums["hint"] <= asked
    assert sums["queued"] > 0.1
    assert len(waits) == probe.total("otel_ratelimit.wait.duration")


def test_the_sdks_own_sleep_is_a_backoff(server: ThrottlingServer, probe: Probe, client: openai.OpenAI) -> None:
    """After a server error; and in observe mode, where it sleeps as long as a throttle's Retry-After asks."""
    server.script([Reply(status=500)])
    call(client)
    (wait,) = probe.spans("wait")
    parts = [(wait.attributes or {})[f"otel_ratelimit.wait.{part}"] for part in PARTS]
    assert parts[:3] == [0, 0, 0]
    assert parts[3] > 0  # type: ignore[operator]
    probe.clear()
    server.script([throttle_reply(0.5, retry_after=True)])
    with otel_ratelimit.use(Policy(mode="observe")):
        call(client)
    (wait,) = probe.spans("wait")
    asked, buffer, queued, _ = ((wait.attributes or {})[f"otel_ratelimit.wait.{part}"] for part in PARTS)
    assert 0 < asked <= 0.5  # type: ignore[operator]
    assert buffer == queued == 0


def test_a_note_tells_what_the_waiting_was_spent_on(
    server: ThrottlingServer, probe: Probe, client: openai.OpenAI
) -> None:
    """The call waits once, and gives up at the next refusal."""
    server.script([throttle_reply(0.5), throttle_reply(7200)])
    with pytest.raises(openai.RateLimitError) as raised:
        call(client)
    (note,) = notes(raised.value)
    assert re.search(r"s of waiting \(asked for by the server 0\.\d+ s, buffer 0\.0\d+ s", note), note


def test_the_gauges_say_what_the_server_said(probe: Probe) -> None:
    """Limits and what remains of them, from the headers of a success."""
    with (
        ThrottlingServer([Limit("tokens", 200_000), Limit("requests", 500)]) as server,
        openai.OpenAI(base_url=server.base_url, api_key="test") as client,
    ):
        call(client)
        values = {
            name: [point.value for point in probe.points(f"otel_ratelimit.{name}")]
            for name in ("tokens.limit", "tokens.remaining", "requests.limit", "requests.remaining")
        }
    assert values["tokens.limit"] == [200_000]
    assert values["requests.limit"] == [500]
    assert 199_000 < values["tokens.remaining"][0] <= 200_000
    assert 498 <= values["requests.remaining"][0] <= 500


def test_exemplars_lead_from_a_point_to_its_trace(server: ThrottlingServer) -> None:
    """The throttle's point carries the throttle span, the call's duration the call's span."""
    probe = Probe()
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    otel_ratelimit.instrument(policy=Policy(), tracer_provider=probe.tracer_provider, meter_provider=meters)
    server.script([full_throttle()])
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        call(client)
    data = reader.get_metrics_data()
    assert data is not None
    exemplars = {
        metric.name: [exemplar.span_id for point in metric.data.data_points for exemplar in point.exemplars]
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }
    assert exemplars["otel_ratelimit.throttles"] == [span_id(probe.only("throttle"))]
    assert exemplars["otel_ratelimit.wait.duration"] == [span_id(probe.only("wait"))]
    assert exemplars["otel_ratelimit.retries"] == [span_id(probe.only("retry"))]
    assert exemplars["otel_ratelimit.call.duration"] == [span_id(probe.only("rate_limited"))]
    probe.shutdown()
    meters.shutdown()


def test_one_log_line_for_a_wait_and_one_for_a_give_up(
    server: ThrottlingServer, probe: Probe, client: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    """With figures: INFO for a wait, and for a refusal that a program without retries expects; WARNING for all other give-ups."""
    server.script([throttle_reply(0.05)])
    with caplog.at_level(logging.INFO, logger="otel_ratelimit"):
        call(client)
        server.script([throttle_reply(0.05)])
        with pytest.raises(openai.RateLimitError):
            client.with_options(max_retries=0).chat.completions.create(model="evil\nname", messages=MESSAGES)
        server.script([throttle_reply(5.0)])
        with otel_ratelimit.use(otel_ratelimit.Policy(max_wait=0.1)), pytest.raises(openai.RateLimitError):
            call(client)
    wait, give_up, late = (record for record in caplog.records if record.name == "otel_ratelimit")
    assert (wait.levelname, give_up.levelname, late.levelname) == ("INFO", "INFO", "WARNING")
    assert wait.getMessage().startswith("chat gpt-4o waits 0.0")
    assert give_up.getMessage() == "chat evil?name gave up after 1 throttle and 0.000 s of waiting (retries_disabled)"


def test_a_call_without_a_model_is_logged_by_its_operation_alone(
    server: ThrottlingServer, probe: Probe, client: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    """And not as one of a model that is called None."""
    server.script([throttle_reply(0.05)])
    with caplog.at_level(logging.INFO, logger="otel_ratelimit"), suppress(openai.APIStatusError):
        client.files.list()
    (wait,) = (record for record in caplog.records if record.name == "otel_ratelimit")
    assert wait.getMessage().startswith("files waits 0.0")


def test_no_secret_leaves(
    server: ThrottlingServer, probe: Probe, client: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    """A marked key, organisation and prompt, the server's text and its request id: searched for in all that is emitted."""
    server.script([full_throttle(), Reply(status=500), full_throttle()])
    with caplog.at_level(logging.DEBUG, logger="otel_ratelimit"):
        call(client)
        server.script([Reply(status=429, json={"error": {"message": FULL, "code": "billing_hard_limit_reached"}})])
        with pytest.raises(openai.RateLimitError) as raised:
            call(client)
    emitted = [span.to_json() for span in probe.spans()]
    emitted += [str(point) for name in ("throttles", "retries", "give_ups", "call.duration", "attempt.duration")
                for point in probe.points(f"otel_ratelimit.{name}")]  # fmt: skip
    emitted += [record.getMessage() for record in caplog.records if record.name == "otel_ratelimit"]
    emitted += notes(raised.value)
    runtime = otel_ratelimit.RateLimitInstrumentor()._hooks.runtime  # type: ignore[union-attr]
    emitted += [repr(vars(runtime)), repr(vars(runtime.store)), repr(list(runtime._seen.values()))]  # type: ignore[union-attr]
    for secret in ("marked", "org-", "req_", "Rate limit reached", "try again"):
        assert not [text for text in emitted if secret in text]


class _Raising(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise OSError("exporter")

    def on_end(self, span: ReadableSpan) -> None:
        raise OSError("exporter")


def test_an_exporter_that_raises_is_no_trouble(
    server: ThrottlingServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A span processor that raises at every span: the throttled call waits and succeeds."""
    monkeypatch.setattr(otel_ratelimit._guard, "raise_faults", False)
    otel_ratelimit._guard._reported.clear()
    provider = TracerProvider()
    provider.add_span_processor(_Raising())
    otel_ratelimit.instrument(policy=Policy(), tracer_provider=provider)
    server.script([throttle_reply(0.02)])
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        assert call(client).choices
    assert "internal fault" in caplog.text


@pytest.mark.parametrize(
    "body", [b"\xff\xfe" * 5000, b"[" * 100_000, b'{"error":' * 20_000, b"Please try again in 1e999s"]
)
def test_a_hostile_body_is_no_trouble(
    server: ThrottlingServer, probe: Probe, client: openai.OpenAI, body: bytes
) -> None:
    """Throttled with nonsense: a backoff, and then the answer."""
    headers = {"retry-after": "-1", "x-ratelimit-reset-tokens": "9" * 4000, "x-ratelimit-limit-tokens": "1e400"}
    server.script([Reply(status=429, body=body, headers=headers)])
    assert call(client).choices
    assert probe.recoveries() == {"rate_limited": 1, "throttle": 1, "retry": 1}
