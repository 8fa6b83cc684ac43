"""Where the Collector sends its traces: a real Jaeger or, where none has been built, a sink for OTLP. Both are asked the same."""

from __future__ import annotations

import json
from collections import defaultdict
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import urlencode

from tests.collector.programs import CONFIGURATION, Program, find, free_port, get_json


@dataclass(frozen=True)
class Span:
    """One span, as far as tests look at it. ``links`` are the ids of spans of whatever trace."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    service: str
    attributes: dict[str, Any] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    text: str = ""
    """All that was sent of it, to look for what must not be in it."""


class Traces(Protocol):
    """What tests ask."""

    otlp_port: int

    def __enter__(self) -> Traces: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def search(self, service: str, tags: dict[str, str] | None = None) -> list[list[Span]]:
        """The traces of a service that have a span with these tags."""


class SinkTraces:
    """A gRPC server that keeps every span."""

    def __init__(self) -> None:
        self.otlp_port = free_port()
        self.spans: list[Span] = []

    def __enter__(self) -> SinkTraces:
        import grpc
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

        sink = self

        class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, _context: Any) -> Any:
                sink.take(request)
                return trace_service_pb2.ExportTraceServiceResponse()

        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), self._server)  # type: ignore[no-untyped-call]
        self._server.add_insecure_port(f"127.0.0.1:{self.otlp_port}")
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(1).wait()

    def take(self, request: Any) -> None:
        """Keep what one request carries."""
        for resource in request.resource_spans:
            service = _attributes(resource.resource.attributes).get("service.name", "")
            for scope in resource.scope_spans:
                self.spans.extend(
                    Span(
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex() or None,
                        name=span.name,
                        service=service,
                        attributes=_attributes(span.attributes),
                        links=tuple(link.span_id.hex() for link in span.links),
                        text=f"{resource.resource} {span}",
                    )
                    for span in scope.spans
                )

    def search(self, service: str, tags: dict[str, str] | None = None) -> list[list[Span]]:
        by_trace: defaultdict[str, list[Span]] = defaultdict(list)
        for span in list(self.spans):
            if span.service == service:
                by_trace[span.trace_id].append(span)
        wanted = (tags or {}).items()

        def matches(span: Span) -> bool:
            return all(_as_tag(span.attributes.get(key)) == value for key, value in wanted)

        return [spans for spans in by_trace.values() if any(matches(span) for span in spans)]


def kept_ui() -> Path | None:
    """The UI that ``tools.sh jaeger --ui`` was told of; None for none."""
    jaeger = find("jaeger")
    ui = None if jaeger is None else Path(jaeger).with_name("ui")
    return ui if ui is not None and (ui / "index.html").exists() else None


class JaegerTraces:
    """A real Jaeger, with jaeger.yaml as shipped, asked by the API that its UI uses; with the UI where ``ui`` has its files."""

    def __init__(self, directory: Path, prometheus_url: str, ui: Path | None = None) -> None:
        self.otlp_port = free_port()
        self._query_port = free_port()
        health = free_port()
        self._program = Program(
            ["jaeger", "--config", str(CONFIGURATION / "jaeger" / "jaeger.yaml")],
            directory / "jaeger.log",
            f"http://127.0.0.1:{health}/status",
            {
                "JAEGER_LISTEN_HOST": "127.0.0.1",
                "JAEGER_OTLP_GRPC_PORT": str(self.otlp_port),
                "JAEGER_QUERY_PORT": str(self._query_port),
                "JAEGER_QUERY_GRPC_PORT": str(free_port()),
                "JAEGER_HEALTH_PORT": str(health),
                "PROMETHEUS_URL": prometheus_url,
                **({"JAEGER_UI": str(ui)} if (ui := ui or kept_ui()) is not None else {}),
            },
        )

    @property
    def url(self) -> str:
        """Where its UI and API are."""
        return f"http://127.0.0.1:{self._query_port}"

    def monitor_url(self, service: str) -> str:
        """Its monitor page, set to the spans of this project: all are of kind internal, and the page begins with server."""
        return f"{self.url}/monitor?service={service}&spanKind=internal&timeframe=3600000"

    def __enter__(self) -> JaegerTraces:
        self._program.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._program.stop()

    def search(self, service: str, tags: dict[str, str] | None = None) -> list[list[Span]]:
        parameters = {"service": service, "limit": 1500, "lookback": "1h"}
        if tags:
            parameters["tags"] = json.dumps(tags)
        answer = get_json(f"{self.url}/api/traces?{urlencode(parameters)}")
        return [[_from_jaeger(span, trace["processes"]) for span in trace["spans"]] for trace in answer["data"] or ()]


def _from_jaeger(span: dict[str, Any], processes: dict[str, Any]) -> Span:
    parents = [r for r in span["references"] if r["refType"] == "CHILD_OF"]
    return Span(
        trace_id=span["traceID"],
        span_id=span["spanID"],
        parent_id=parents[0]["spanID"] if parents else None,
        name=span["operationName"],
        service=processes[span["processID"]]["serviceName"],
        attributes={tag["key"]: tag["value"] for tag in span["tags"]},
        links=tuple(r["spanID"] for r in span["references"] if r["refType"] == "FOLLOWS_FROM"),
        text=f"{span} {processes[span['processID']]}",
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        found[pair.key] = getattr(pair.value, kind) if kind else None
    return found


def _as_tag(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
