"""Spans -> OTLP's JSON (needs the extra ``otlp``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan


def spans_as_json(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """One OTLP JSON object, which Jaeger's UI loads ("Upload", "JSON File").

    OTLP's JSON differs from protobuf's own in one point: ids are hexadecimal, not base64
    (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).
    """
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415 - the extra
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # noqa: PLC0415

    message = encode_spans(spans)
    document: dict[str, Any] = MessageToDict(message, use_integers_for_enums=True)
    for resource, encoded_resource in zip(message.resource_spans, document["resourceSpans"], strict=True):
        for scope, encoded_scope in zip(resource.scope_spans, encoded_resource["scopeSpans"], strict=True):
            for span, encoded in zip(scope.spans, encoded_scope["spans"], strict=True):
                _hexadecimal_ids(span, encoded)
                for link, encoded_link in zip(span.links, encoded.get("links", ()), strict=True):
                    _hexadecimal_ids(link, encoded_link)
    return document


def _hexadecimal_ids(message: Any, encoded: dict[str, Any]) -> None:
    for field, name in (("trace_id", "traceId"), ("span_id", "spanId"), ("parent_span_id", "parentSpanId")):
        if name in encoded:
            encoded[name] = getattr(message, field).hex()
