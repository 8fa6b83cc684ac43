"""An OTLP JSON file -> the calls in it. Knows the format, nothing of pages.

One JSON object, or one a line as the Collector's file exporter writes them, traces and metrics mixed. Everything that is not
of the scope ``otel_ratelimit`` is skipped. (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding)
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from otel_ratelimit._telemetry import names

Kind = Literal["throttle", "wait", "retry"]

_KINDS: Final[Mapping[str, Kind]] = {
    names.SPAN_THROTTLE: "throttle",
    names.SPAN_WAIT: "wait",
    names.SPAN_RETRY: "retry",
}
LATEST: Final = 1 << 64
"""Nanoseconds since the epoch. OTLP's times are ``fixed64``; that ends in the year 2554."""

MOST_TEXT: Final = 200
"""Characters of a name or a value that the page can show; ours are shorter."""

_REMAINING: Final = {names.TOKENS_REMAINING: "tokens", names.REQUESTS_REMAINING: "requests"}


class NotOTLPError(ValueError):
    """The file holds something else. The message says what and where."""


@dataclass(frozen=True)
class Part:
    """A throttle, a wait or a retry. Times are seconds since the epoch."""

    kind: Kind
    start: float
    end: float
    attributes: Mapping[str, Any]


@dataclass
class Call:
    """One disturbed call and its parts, in order."""

    name: str
    model: str
    start: float
    end: float
    attributes: Mapping[str, Any]
    trace_id: str
    parts: list[Part] = field(default_factory=list)

    @property
    def throttles(self) -> int:
        """How often it was throttled."""
        return sum(part.kind == "throttle" for part in self.parts)

    @property
    def waited(self) -> float:
        """Seconds."""
        return sum(part.end - part.start for part in self.parts if part.kind == "wait")

    def spent(self, on: str) -> float:
        """Seconds of its waits that were spent on one thing: the name of one of their attributes."""
        return sum(float(part.attributes.get(on) or 0.0) for part in self.parts if part.kind == "wait")

    @property
    def outcome(self) -> str:
        """``recovered``, ``gave_up``, ``not_retryable`` or ``cancelled``."""
        return str(self.attributes.get(names.OUTCOME, ""))


@dataclass
class Recording:
    """What a file holds.

    Attributes:
        spans: spans of whatever scope.
        calls: by their start.
        remaining: (seconds since the epoch, what is left), by (model, ``tokens`` or ``requests``).
    """

    spans: int = 0
    calls: list[Call] = field(default_factory=list)
    remaining: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=dict)


def read(path: Path) -> Recording:
    """Read the file.

    Raises:
        OSError: it cannot be read.
        NotOTLPError: it is no OTLP JSON.
    """
    return gather(_documents(path.read_text("utf-8", "replace")))


def _documents(text: str) -> Iterator[Mapping[str, Any]]:
    if not text.strip():
        raise NotOTLPError("it is empty")
    try:
        yield _checked(_loaded(text, 1), 1)
        return
    except json.JSONDecodeError:
        pass
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    for number, line in lines:
        try:
            document = _loaded(line, number)
        except json.JSONDecodeError as error:
            if number == lines[-1][0] and number > 1:
                return  # the Collector was writing it
            raise NotOTLPError(f"line {number} is no JSON ({error.msg}, character {error.pos})") from None
        yield _checked(document, number)


def _loaded(text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise NotOTLPError(f"line {line} is nested too deeply") from None
    except ValueError:
        raise NotOTLPError(f"line {line} has a number of thousands of digits") from None


def _checked(document: Any, line: int) -> Mapping[str, Any]:
    if not isinstance(document, dict) or not {"resourceSpans", "resourceMetrics", "resourceLogs"} & document.keys():
        raise NotOTLPError(f"line {line} has neither resourceSpans nor resourceMetrics")
    return document


def gather(documents: Iterable[Mapping[str, Any]]) -> Recording:
    """Sort spans into calls.

    Raises:
        NotOTLPError: a field is of another type than OTLP has it.
    """
    recording = Recording()
    calls: dict[tuple[str, str], Call] = {}
    parts: list[tuple[tuple[str, str], Part]] = []
    try:
        for document in documents:
            for span in _spans(document, recording):
                _sort(span, calls, parts)
            _remaining(document, recording)
    except NotOTLPError:
        raise
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"[:MOST_TEXT]
        raise NotOTLPError(f"a field is missing or of the wrong type ({said})") from None
    for parent, part in parts:
        if parent in calls:  # else the call had not ended when the file was written
            calls[parent].parts.append(part)
    for call in calls.values():
        call.parts.sort(key=lambda part: (part.start, part.end))
    recording.calls = sorted(calls.values(), key=lambda call: (call.start, call.end))
    _levels_of_throttles(recording)
    return recording


def _spans(document: Mapping[str, Any], recording: Recording) -> Iterator[Mapping[str, Any]]:
    for resource in document.get("resourceSpans", ()):
        for scope in resource.get("scopeSpans", ()):
            spans = scope.get("spans", ())
            recording.spans += len(spans)
            if scope.get("scope", {}).get("name") == names.SCOPE:
                yield from spans


def _sort(
    span: Mapping[str, Any], calls: dict[tuple[str, str], Call], parts: list[tuple[tuple[str, str], Part]]
) -> None:
    attributes = _attributes(span.get("attributes", ()))
    start = _seconds(span["startTimeUnixNano"])
    end = max(start, _seconds(span["endTimeUnixNano"]))
    name = str(span["name"])[:MOST_TEXT]
    word = name.partition(" ")[0]
    trace = str(span["traceId"])
    if word == names.SPAN_CALL:
        model = str(attributes.get(names.MODEL_HERE) or attributes.get(names.MODEL, ""))
        calls[trace, str(span["spanId"])] = Call(name, model, start, end, attributes, trace)
    elif word in _KINDS:
        parts.append(((trace, str(span.get("parentSpanId"))), Part(_KINDS[word], start, end, attributes)))


def _remaining(document: Mapping[str, Any], recording: Recording) -> None:
    for resource in document.get("resourceMetrics", ()):
        for scope in resource.get("scopeMetrics", ()):
            for metric in scope.get("metrics", ()):
                kind = _REMAINING.get(metric.get("name"))
                for point in metric["gauge"]["dataPoints"] if kind else ():
                    model = str(_attributes(point.get("attributes", ())).get(names.MODEL, ""))
                    value = float(point["asDouble"] if "asDouble" in point else point["asInt"])
                    assert kind is not None
                    if math.isfinite(value):
                        points = recording.remaining.setdefault((model, kind), [])
                        points.append((_seconds(point["timeUnixNano"]), max(0.0, value)))


def _levels_of_throttles(recording: Recording) -> None:
    """Where the file has no metrics, each throttle that named its limit still tells what was left at that moment."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for call in recording.calls:
        for part in call.parts:
            limit, used = part.attributes.get(names.LIMIT_VALUE), part.attributes.get(names.LIMIT_USED)
            kind = str(part.attributes.get(names.LIMIT_KIND))
            if part.kind == "throttle" and isinstance(limit, (int, float)) and isinstance(used, (int, float)):
                left = float(limit) - float(used)
                if math.isfinite(left):
                    found.setdefault((call.model, kind), []).append((part.end, max(0.0, left)))
    for key, points in found.items():
        recording.remaining.setdefault(key, points)
    for points in recording.remaining.values():
        points.sort()


def _attributes(pairs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {str(pair["key"]): _value(pair.get("value", {})) for pair in pairs}


def _value(value: Mapping[str, Any]) -> Any:
    if "intValue" in value:
        number = int(value["intValue"])
        if not -LATEST < number < LATEST:  # int64; half of that
            raise ValueError("a number is beyond what OTLP can hold")
        return number
    if "doubleValue" in value:
        return float(value["doubleValue"])
    found = value.get("stringValue", value.get("boolValue"))
    return found[:MOST_TEXT] if isinstance(found, str) else found


def _seconds(nanoseconds: Any) -> float:
    found = int(nanoseconds)
    if not 0 <= found < LATEST:
        raise ValueError("a time is beyond what OTLP can hold")
    return found / 1e9
