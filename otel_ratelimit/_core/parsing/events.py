"""Events inside a stream that was answered with 200: which part of them is an error.

Owns the envelopes: `response.failed`, `error`, a chat chunk with an `error`, realtime's `status_details`, Anthropic's
`error` event, a bare error object as the SDK hands it on. A success is recognised without a walk, since this runs on
the first event of every stream.
"""

from __future__ import annotations

from collections.abc import Mapping

from otel_ratelimit._core.parsing.decoding import decode
from otel_ratelimit._core.parsing.fields import read_field_name

_FAILURES = frozenset({"error", "response.failed", "response.error", "response.incomplete", "response.done"})
_CONTENT_KEYS = ("choices", "output", "delta", "data", "candidates", "content", "embeddings", "object")
"""A mapping with one of these and without an error is a success, whatever words it contains."""


def plain_event(event: object) -> object:
    """The event as decoded JSON: SDK models by their own dump, text by decoding; None if it cannot be an error."""
    if isinstance(event, (str, bytes, bytearray)):
        return _decode_text(event)
    if isinstance(event, (Mapping, list)):
        return event
    if _is_success(event):
        return None
    for name in ("to_dict", "model_dump"):
        dump = getattr(event, name, None)
        if callable(dump):
            return dump()
    return None


def fields_of(model: object) -> Mapping[str, object]:
    """A model's own attributes, and what the SDK keeps of unknown ones; {} where it has none.

    Taken from its dict, since asking a model of pydantic for an attribute that it has not costs microseconds.
    """
    own = getattr(model, "__dict__", None)
    extra = getattr(model, "__pydantic_extra__", None)
    if not isinstance(own, Mapping):
        return {}
    return {**extra, **own} if extra and isinstance(extra, Mapping) else own


def _is_success(event: object) -> bool:
    """Whether a model is no error, by a few of its attributes: most events and answers end here, without a dump."""
    fields = fields_of(event)
    kind = fields.get("type")
    if isinstance(kind, str) and "." in kind:
        return kind not in _FAILURES
    if fields.get("error") or fields.get("errors") or fields.get("last_error"):
        return False
    choices = fields.get("choices")
    if isinstance(choices, list):
        return not choices or not fields_of(choices[0]).get("error")
    kind = fields.get("object")
    return isinstance(kind, str) and kind != "error"


def _decode_text(event: str | bytes | bytearray) -> object:
    """JSON, or server-sent events with JSON in their data lines."""
    decoded = decode(event)
    return None if isinstance(decoded, str) else decoded


def error_of(event: object) -> object:
    """The part of a decoded event, or of a 200 body, that is an error; None if it is none."""
    if isinstance(event, list):
        return next((found for item in event[:4] if (found := error_of(item)) is not None), None)
    if not isinstance(event, Mapping):
        return None
    for holder in (event, event.get("response"), event.get("data"), event.get("Response")):
        if isinstance(holder, Mapping) and (found := _error_in(holder)):
            return {**_relayed(event), "error": found}
    if "error" in (event.get("type"), event.get("object")):  # the latter: Mistral, vLLM
        return event
    if any(event.get(key) is not None for key in _CONTENT_KEYS):
        return None
    if event.get("base_resp"):
        return _minimax(event["base_resp"])
    said = any(isinstance(event.get(key), str) for key in ("message", "msg", "error_msg"))
    coded = any(isinstance(event.get(key), (str, int)) for key in ("code", "error_code", "type", "status"))
    return event if said and coded else None


def _error_in(holder: Mapping[str, object]) -> object:
    """`error` and its relatives, realtime's `status_details.error`, a run's `last_error`; None or empty for none."""
    details = holder.get("status_details")
    nested = details.get("error") if isinstance(details, Mapping) else None
    named = holder.get("error") or holder.get("errors") or holder.get("Error")  # the last: Tencent's
    return named or nested or holder.get("last_error") or _error_of_choice(holder.get("choices"))


def _error_of_choice(choices: object) -> object:
    """The error of the first choice (OpenRouter: a 200 whose only choice failed upstream)."""
    first = choices[0] if isinstance(choices, (list, tuple)) and choices else None
    return first.get("error") if isinstance(first, Mapping) else None


def _relayed(event: Mapping[str, object]) -> dict[str, object]:
    """What stands beside the error and belongs to it: Codex sends status and headers so."""
    return {
        key: value
        for key, value in event.items()
        if key in ("headers", "status_code", "status", "code") or (isinstance(key, str) and read_field_name(key))
    }


def _minimax(answer: object) -> object:
    """MiniMax reports errors in `base_resp` of a 200; status_code 0 is success."""
    return answer if isinstance(answer, Mapping) and answer.get("status_code") not in (0, None) else None
