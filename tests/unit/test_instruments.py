"""Durations of undisturbed calls are kept for a moment and recorded together; no reader ever misses one."""

from __future__ import annotations

import threading

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    InMemoryMetricReader,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)

from otel_ratelimit._core.buckets.infer import unit_of
from otel_ratelimit._telemetry.instruments import KEPT, Instruments, Subject, SubjectAttributes, tightest
from tests.telemetry_probe import Probe

SUBJECT = SubjectAttributes(Subject("chat", "gpt-4o", "openai", "127.0.0.1", 80))


class Counted(Instruments):
    """Counts what reaches the recording of whole calls."""

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe.tracer_provider, probe.meter_provider, lambda: ())
        self.recorded = 0
        record = self.call_duration.record

        def count(*arguments: object) -> None:
            self.recorded += 1
            record(*arguments)  # type: ignore[arg-type]

        self.call_duration.record = count  # type: ignore[assignment,method-assign]


@pytest.fixture
def instruments(probe: Probe) -> Counted:
    return Counted(probe)


@pytest.fixture
def probe() -> Probe:
    return Probe()


def test_they_are_recorded_together(instruments: Counted) -> None:
    """At the last of a batch, all of it."""
    for _ in range(KEPT - 1):
        instruments.undisturbed(SUBJECT, 200, 0.5)
    assert instruments.recorded == 0
    instruments.undisturbed(SUBJECT, 200, 0.5)
    assert instruments.recorded == KEPT


def test_a_collection_misses_none(instruments: Counted, probe: Probe) -> None:
    """Each of them begins with what is kept: every reader sees what had ended by then."""
    for number in range(1, KEPT // 2):
        instruments.undisturbed(SUBJECT, 200, 0.5)
        assert probe.total("otel_ratelimit.call.duration") == number
        assert probe.total("otel_ratelimit.attempt.duration", http_response_status_code=200) == number


def test_a_second_reader_sees_them_too(probe: Probe) -> None:
    """Whoever collects first."""
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    meters = MeterProvider(readers)
    instruments = Instruments(None, meters, lambda: ())
    for _ in range(3):
        instruments.undisturbed(SUBJECT, 200, 0.5)
    for reader in readers:
        data = reader.get_metrics_data()
        assert data is not None
        (points,) = [
            metric.data.data_points
            for scope in data.resource_metrics[0].scope_metrics
            for metric in scope.metrics
            if metric.name == "otel_ratelimit.call.duration"
        ]
        assert [point.count for point in points] == [3]  # type: ignore[union-attr]
    meters.shutdown()


def test_what_is_kept_at_the_end_is_exported() -> None:
    """A reader that exports does so once more when its provider is shut down."""
    exported: list[str] = []

    class Exporter(ConsoleMetricExporter):
        def export(self, metrics_data: MetricsData, *_: object, **__: object) -> MetricExportResult:
            exported.append(metrics_data.to_json())
            return MetricExportResult.SUCCESS

    meters = MeterProvider([PeriodicExportingMetricReader(Exporter(), export_interval_millis=60_000)])
    Instruments(None, meters, lambda: ()).undisturbed(SUBJECT, 200, 0.5)
    meters.shutdown()
    assert "otel_ratelimit.call.duration" in exported[-1]


def test_an_exemplar_belongs_to_the_call_and_not_to_who_recorded_it(instruments: Counted, probe: Probe) -> None:
    """The context is the one in which the call ended."""
    tracer = probe.tracer_provider.get_tracer("test")
    with tracer.start_as_current_span("caller") as span:
        instruments.undisturbed(SUBJECT, 200, 0.5)
    (point,) = probe.points("otel_ratelimit.call.duration")
    assert [exemplar.span_id for exemplar in point.exemplars] == [span.get_span_context().span_id]
    assert trace.get_current_span(context.get_current()) is trace.INVALID_SPAN


def test_threads_record_each_once(instruments: Counted, probe: Probe) -> None:
    """Several may find the batch full at the same time."""
    each, threads = 500, 8

    def work() -> None:
        for _ in range(each):
            instruments.undisturbed(SUBJECT, 200, 0.5)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert probe.total("otel_ratelimit.call.duration") == each * threads


def gauge(probe: Probe, name: str) -> dict[tuple[str, str], float]:
    """What a gauge says, by model and window."""
    return {
        (point.attributes["gen_ai.request.model"], point.attributes["otel_ratelimit.limit.window"]): point.value
        for point in probe.points(name)
    }


def test_gauges_by_window(probe: Probe) -> None:
    """A minute and a day are two points; of two accounts under one name the one that has the smaller share left, whole."""
    levels = [
        (SUBJECT, "tokens", "minute", 1000.0, 900.0, 6.0),
        (SUBJECT, "tokens", "minute", 500.0, 400.0, 12.0),  # another key: less of it is left, as a share too
        (SUBJECT, "tokens", "day", 10_000.0, 2500.0, 64_800.0),
        (SUBJECT, "requests", "day", 50.0, 50.0, 0.0),
    ]
    Instruments(None, probe.meter_provider, lambda: levels)
    model = SUBJECT.base["gen_ai.request.model"]
    assert gauge(probe, "otel_ratelimit.tokens.limit") == {(model, "minute"): 500.0, (model, "day"): 10_000.0}
    assert gauge(probe, "otel_ratelimit.tokens.remaining") == {(model, "minute"): 400.0, (model, "day"): 2500.0}
    assert gauge(probe, "otel_ratelimit.tokens.reset") == {(model, "minute"): 12.0, (model, "day"): 64_800.0}
    assert gauge(probe, "otel_ratelimit.requests.remaining") == {(model, "day"): 50.0}
    assert [level[1:] for level in tightest(levels)] == [("tokens", 10_000.0, 2500.0), ("requests", 50.0, 50.0)]


@pytest.mark.parametrize(
    ("seconds", "name"),
    [(None, "unknown"), (0.5, "second"), (1.0, "second"), (10.0, "second"), (58.0, "minute"), (60.0, "minute"),
     (3599.0, "hour"), (86_400.0, "day"), (7 * 86_400.0, "day"), (2_592_000.0, "month")],
)  # fmt: skip
def test_windows_have_few_names(seconds: float | None, name: str) -> None:
    """However they were measured: each makes a series."""
    assert unit_of(seconds) == name
