"""One call's trace as bars of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from opentelemetry.sdk.trace import ReadableSpan

BAR = 48
"""Characters that the whole call takes."""


def most_telling(spans: Sequence[ReadableSpan]) -> ReadableSpan | None:
    """The throttled call that shows most: it recovered, and met the most throttles, then the longest waits."""

    def weight(span: ReadableSpan) -> tuple[bool, float, float]:
        attributes = span.attributes or {}
        count = attributes.get("otel_ratelimit.throttle.count", 0)
        waited = attributes.get("otel_ratelimit.wait.total", 0)
        recovered = attributes.get("otel_ratelimit.outcome") == "recovered"
        return (
            recovered,
            float(count if isinstance(count, (int, float)) else 0),
            float(waited if isinstance(waited, (int, float)) else 0),
        )

    calls = [span for span in spans if span.name.startswith("rate_limited")]
    return max(calls, key=weight, default=None)


def draw(call: ReadableSpan, spans: Iterable[ReadableSpan]) -> list[str]:
    """Lines of text: the call, then its throttles, waits and retries in order, each a bar at its time."""
    context = call.get_span_context()
    own = context.span_id if context else None
    children = [span for span in spans if span.parent is not None and span.parent.span_id == own]
    children.sort(key=lambda span: (span.start_time or 0, span.end_time or 0))
    begin, end = _times(call)
    lines = []
    for span in (call, *children):
        start, stop = _times(span)
        left = round((start - begin) / (end - begin or 1) * BAR)
        length = max(1, round((stop - start) / (end - begin or 1) * BAR))
        left = min(left, BAR - 1)
        bar = (" " * left + _GLYPHS.get(span.name.split(" ")[0], "━") * min(length, BAR - left)).ljust(BAR)
        name = span.name if span is call else f"  {span.name}"
        lines.append(f"{name:<28} {bar} {stop - start:7.3f} s  {_remark(span)}".rstrip())
    return lines


_GLYPHS = {"rate_limited": "━", "throttle": "✖", "wait": "░", "retry": "█"}


def _times(span: ReadableSpan) -> tuple[float, float]:
    return (span.start_time or 0) / 1e9, (span.end_time or 0) / 1e9


def _remark(span: ReadableSpan) -> str:
    attributes = span.attributes or {}
    word = span.name.split(" ")[0]
    if word == "rate_limited":
        return f"{attributes.get('otel_ratelimit.outcome')}"
    if word == "throttle":
        delay = attributes.get("otel_ratelimit.hint.delay")
        asked = (
            "no delay named"
            if delay is None
            else f"asked for {delay} s ({attributes.get('otel_ratelimit.hint.source')})"
        )
        return f"{attributes.get('http.response.status_code')}, {attributes.get('otel_ratelimit.limit.kind')}, {asked}"
    if word == "wait":
        server, queue = (attributes.get(f"otel_ratelimit.wait.{part}", 0) for part in ("hint", "queued"))
        return f"{attributes.get('otel_ratelimit.wait.reason')}: server {server:.3f} s, queue {queue:.3f} s"
    return f"resend {attributes.get('http.request.resend_count')}"
