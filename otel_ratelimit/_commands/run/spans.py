"""The spans of one process as lines of OTLP JSON, whatever the program does with them itself.

Where it has set OpenTelemetry up, its own spans are noted when they end (those that it samples away are not there); where it
has not, a provider of ours, which nobody else sees, makes them.
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from otel_ratelimit._commands.otlp_json import spans_as_json
from otel_ratelimit._commands.run.folder import Folder
from otel_ratelimit._telemetry import names
from otel_ratelimit._telemetry.instruments import Instruments


class SpanFile(SpanExporter):
    """Collects the spans of the library, and appends them to a file in ``folder`` when told to."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "otel-ratelimit run"}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(SimpleSpanProcessor(self))
        self.reset()

    def reset(self) -> None:
        """A forked process begins with nothing."""
        self._lock = threading.Lock()
        self._ended: list[ReadableSpan] = []
        self._levels: dict[tuple[str, str], float] = {}

    def listen(self, instruments: Instruments) -> None:
        """Stand between the library and its tracer."""
        tracer = _Tracer(instruments.tracer, self._provider.get_tracer(names.SCOPE), self)
        setattr(instruments, "tracer", tracer)  # noqa: B010 - final for everybody else

    def export(self, spans: Any) -> SpanExportResult:
        """Spans of our own provider."""
        with self._lock:
            self._ended += spans
        return SpanExportResult.SUCCESS

    def write(self, levels: list[Any]) -> None:
        """Append what has ended since, and what is left of the limits."""
        with self._lock:
            ended, self._ended = self._ended, []
        documents = [spans_as_json(ended)] if ended else []
        points = [point for level in levels for point in self._points(*level)]
        if points:
            documents.append(
                {"resourceMetrics": [{"scopeMetrics": [{"scope": {"name": names.SCOPE}, "metrics": points}]}]}
            )
        if documents:
            self._folder.append(f"{os.getpid()}.jsonl", "".join(json.dumps(document) + "\n" for document in documents))

    def _points(self, subject: Any, kind: str, limit: float, remaining: float) -> list[dict[str, Any]]:
        model = str(subject.base.get(names.MODEL, ""))
        if self._levels.get((model, kind)) == round(remaining):
            return []
        self._levels[model, kind] = round(remaining)
        attributes = [{"key": names.MODEL, "value": {"stringValue": model}}]
        now = str(time.time_ns())
        return [
            {
                "name": name,
                "gauge": {"dataPoints": [{"timeUnixNano": now, "asDouble": value, "attributes": attributes}]},
            }
            for name, value in (
                (f"otel_ratelimit.{kind}.limit", limit),
                (f"otel_ratelimit.{kind}.remaining", remaining),
            )
        ]


class _Tracer:
    """The library's tracer, watched."""

    def __init__(self, tracer: Any, own: Any, file: SpanFile) -> None:
        self._tracer = tracer
        self._own = own
        self._file = file

    def start_span(self, *args: Any, **kwargs: Any) -> Any:
        span = self._tracer.start_span(*args, **kwargs)
        context, parent = span.get_span_context(), trace.get_current_span(kwargs.get("context")).get_span_context()
        # Without a provider the API makes no span: it returns an invalid one, or the parent's context once more.
        if not span.is_recording() and (not context.is_valid or context.span_id == parent.span_id):
            return self._own.start_span(*args, **kwargs)
        if span.is_recording() and isinstance(span, ReadableSpan):
            _note_end(span, self._file)
        return span


def _note_end(span: Any, file: SpanFile) -> None:
    end = span.end

    def ended(end_time: int | None = None) -> None:
        end(end_time)
        file.export([span])

    span.end = ended
