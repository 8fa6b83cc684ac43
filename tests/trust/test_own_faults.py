"""Every internal component is made to raise: the user's call ends as with the SDK alone.

Two sweeps: every function that the guard covers, found by its mark, so that a new one is covered by itself; and what
stands below the guards, by name.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

import otel_ratelimit
from otel_ratelimit import Policy, _guard
from otel_ratelimit.testing import Reply, ThrottlingServer, throttle_reply
from tests.drivers.conftest import Caller, chat
from tests.telemetry_probe import Probe

Instrumented = Callable[..., Probe]

pytestmark = pytest.mark.usefixtures("contained_faults")


def guarded_functions() -> Iterator[tuple[str, Any, str]]:
    """Every function that ``_guard.contained`` made: a name for it, its owner, its attribute."""
    for package in ("_drivers", "_telemetry", "_stores"):
        root = importlib.import_module(f"otel_ratelimit.{package}")
        for found in pkgutil.iter_modules(root.__path__, f"{root.__name__}."):
            if "redis" in found.name:
                continue
            module = importlib.import_module(found.name)
            for name, value in list(vars(module).items()):
                if getattr(value, "__module__", None) != module.__name__:
                    continue
                if hasattr(value, "place") and hasattr(value, "fallback"):
                    yield f"{found.name.rpartition('.')[2]}.{name}", module, name
                elif isinstance(value, type):
                    for attribute, function in list(vars(value).items()):
                        if hasattr(function, "place") and hasattr(function, "fallback"):
                            yield f"{name}.{attribute}", value, attribute


GUARDED = list(guarded_functions())

BELOW = (
    "_drivers.runtime.Runtime.known",
    "_drivers.runtime.Runtime.first_call",
    "_drivers.openai_sdk.read_failure",
    "_drivers.session.estimate",
    "_drivers.openai_sdk.timeout_of",
    "_drivers.openai_sdk.used_tokens",
    "_drivers.openai_sdk.subject_of",
    "_drivers.openai_sdk.resend_options",
    "_drivers.openai_sdk.parse_throttle",
    "_drivers.session.Replay",
    "_drivers.session.bound_reading",
    "_drivers.session.note",
    "_core.call.run",
    "_core.queueing.admission.Admission.enter",
    "_core.queueing.admission.Admission.join_fast",
    "_core.queueing.admission.Admission.settle",
    "_core.queueing.admission.Admission.settle_fast",
    "_core.queueing.admission.Admission.requeue",
    "_core.queueing.admission.Admission.check",
    "_core.queueing.admission.Admission.leave",
    "_stores.memory.Place.reserve",
    "_stores.memory.Place.open",
    "_stores.memory.Place.sent",
    "_stores.memory.Place.settle",
    "_stores.memory.Place.settle_fast",
    "_stores.memory.Place.leave",
    "_stores.memory.Place.arm",
    "_stores.memory.Place.disarm",
    "_stores.memory.MemoryStore.line",
    "_telemetry.trace.CallTrace.__init__",
    "_telemetry.trace.CallTrace.throttled",
    "_telemetry.trace.CallTrace.wait_began",
    "_telemetry.trace.CallTrace.wait_ended",
    "_telemetry.trace.CallTrace.retry_began",
    "_telemetry.trace.CallTrace.retry_ended",
    "_telemetry.trace.CallTrace.finish",
    "_telemetry.instruments.Instruments.record_kept",
    "_telemetry.instruments.Instruments.seed",
    "_telemetry.instruments.Instruments.undisturbed",
    "_telemetry.instruments.SubjectAttributes.attempt",
    "_telemetry.instruments.SubjectAttributes.call",
)


def broken(*_arguments: object, **_keywords: object) -> Any:
    raise ZeroDivisionError("the prompt was: secret")


def resolve(path: str) -> tuple[Any, str]:
    """Owner and attribute of a dotted name below otel_ratelimit."""
    parts = path.split(".")
    owner: Any = importlib.import_module("otel_ratelimit." + ".".join(parts[:2]))
    for part in parts[2:-1]:
        owner = getattr(owner, part)
    return owner, parts[-1]


def calls_that_must_end_well(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """Undisturbed, throttled once, failed once, throttled for ever, refused for good: as with the SDK alone."""
    with ThrottlingServer() as server, caplog.at_level(logging.ERROR, logger="otel_ratelimit"):
        assert caller(server, chat).choices
        server.script([throttle_reply(0.01)])
        assert caller(server, chat).choices
        server.script([Reply(status=500)])
        assert caller(server, chat, api_key="second").choices  # the first now waits for its turn
        server.script([throttle_reply(0.01)])
        with pytest.raises(openai.RateLimitError):
            caller(server, chat, max_retries=0)
        server.script([throttle_reply(300.0)] * 40)  # longer than the SDK alone, and so we, would sit out
        with pytest.raises(openai.RateLimitError):
            caller(server, chat, api_key="third", max_retries=1, timeout=5.0)
        assert server.counts.requests <= 10
        server.script([])
        assert caller(server, chat, api_key="another").choices  # this one has learned to wait
    assert "secret" not in caplog.text


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    from openai import _base_client

    monkeypatch.setattr(_base_client, "INITIAL_RETRY_DELAY", 0.02)


@pytest.mark.parametrize(("owner", "name"), [one[1:] for one in GUARDED], ids=[one[0] for one in GUARDED])
def test_a_guarded_function_raises(
    owner: Any, name: str, caller: Caller, instrumented: Instrumented, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Its fallback answers, and the call goes on."""
    guarded = vars(owner)[name]
    monkeypatch.setattr(owner, name, _guard.contained(guarded.place, guarded.fallback)(broken))
    instrumented()
    calls_that_must_end_well(caller, caplog)


@pytest.mark.parametrize("path", BELOW)
def test_a_component_raises(
    path: str, caller: Caller, instrumented: Instrumented, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The nearest guard above it answers."""
    monkeypatch.setattr(*resolve(path), broken)
    instrumented()
    calls_that_must_end_well(caller, caplog)


class _Raising(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise OSError("processor")

    def on_end(self, span: Any) -> None:
        raise OSError("processor")


class _RaisingMeters(MeterProvider):
    """Whose instruments are made, and then raise at every measurement."""

    def get_meter(self, *arguments: Any, **keywords: Any) -> Any:
        meter = super().get_meter(*arguments, **keywords)
        for kind in ("counter", "up_down_counter", "histogram"):
            create = getattr(meter, f"create_{kind}")

            def made(*args: Any, create: Any = create, **kwargs: Any) -> Any:
                instrument = create(*args, **kwargs)
                instrument.add = instrument.record = broken
                return instrument

            setattr(meter, f"create_{kind}", made)
        return meter


def test_a_span_processor_that_raises(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """At the start and at the end of every span; the counters, which are not broken, still tell the truth."""
    provider = TracerProvider()
    provider.add_span_processor(_Raising())
    probe = Probe()
    otel_ratelimit.instrument(policy=Policy(), tracer_provider=provider, meter_provider=probe.meter_provider)
    calls_that_must_end_well(caller, caplog)
    assert probe.total("otel_ratelimit.throttles") == 3
    assert probe.total("otel_ratelimit.request.waiting") == 0
    assert probe.total("otel_ratelimit.call.duration") == 6
    probe.shutdown()


def test_a_meter_that_raises(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """At every measurement; the spans, which are not broken, are all there."""
    probe = Probe()
    meters = _RaisingMeters([InMemoryMetricReader()])
    otel_ratelimit.instrument(policy=Policy(), tracer_provider=probe.tracer_provider, meter_provider=meters)
    calls_that_must_end_well(caller, caplog)
    names = probe.names()
    assert (names["throttle"], names["retry"]) == (3, 2)
    assert names["rate_limited"] >= 4
    probe.shutdown()
    meters.shutdown()


def test_providers_that_are_shut_down(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """Before the first call: nothing is recorded, and nothing else changes."""
    probe = Probe()
    otel_ratelimit.instrument(
        policy=Policy(), tracer_provider=probe.tracer_provider, meter_provider=probe.meter_provider
    )
    probe.shutdown()
    calls_that_must_end_well(caller, caplog)
