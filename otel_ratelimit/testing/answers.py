"""The ordinary answers of the endpoints: small, valid by the SDK's own types, and the same each time."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

TEXT: Final = "Hello from the throttling server."
CREATED: Final = 1_700_000_000
DIMENSIONS: Final = 8
FILES: Final = 5
DEFAULT_OUTPUT: Final = 16
"""Tokens that an answer is taken to need where the request sets no limit."""


def estimate_tokens(body: Mapping[str, Any]) -> int:
    """What a request is charged at admission: the larger of its output limit and an estimate of its input (four
    characters to a token), as OpenAI's documentation has it."""
    text = 0
    for name in ("messages", "input", "prompt", "instructions"):
        if body.get(name):
            text += len(json.dumps(body[name]))
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
    output = limit * (body.get("n") or 1) if isinstance(limit, int) else DEFAULT_OUTPUT
    return max(1, text // 4, output)


def usage(body: Mapping[str, Any]) -> dict[str, int]:
    """Tokens that an answer reports."""
    total = estimate_tokens(body)
    output = min(total, len(TEXT) // 4)
    return {"prompt_tokens": total - output, "completion_tokens": output, "total_tokens": total}


def _chosen_message(body: Mapping[str, Any]) -> dict[str, Any]:
    tools = body.get("tools")
    if tools and body.get("tool_choice") not in (None, "auto", "none"):
        call = {"id": "call_1", "type": "function", "function": {"name": tools[0]["function"]["name"], "arguments": "{}"}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    return {"role": "assistant", "content": json.dumps(_example(schema)) if schema else TEXT}


def _example(schema: Mapping[str, Any]) -> Any:
    """The smallest value that a simple JSON schema allows."""
    kind = schema.get("type")
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "object":
        return {name: _example(part) for name, part in schema.get("properties", {}).items()}
    return {"string": "", "integer": 0, "number": 0, "boolean": False, "array": []}.get(str(kind))


def chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """A chat completion."""
    message = _chosen_message(body)
    reason = "tool_calls" if "tool_calls" in message else "stop"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": CREATED,
        "model": body.get("model", "gpt-4o"),
        "choices": [{"index": index, "finish_reason": reason, "message": message} for index in range(body.get("n") or 1)],
        "usage": usage(body),
    }


def chat_stream(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same, in chunks."""
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": CREATED, "model": body.get("model", "gpt-4o")}
    message = _chosen_message(body)
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if "tool_calls" in message:
        deltas.append({"tool_calls": [{"index": 0, **message["tool_calls"][0]}]})
    else:
        deltas += [{"content": word} for word in message["content"].split(" ")]
    for delta in deltas:
        yield {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    reason = "tool_calls" if "tool_calls" in message else "stop"
    yield {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    if (body.get("stream_options") or {}).get("include_usage"):
        yield {**base, "choices": [], "usage": usage(body)}


def responses(body: Mapping[str, Any], status: str = "completed") -> dict[str, Any]:
    """An answer of the Responses API."""
    done = status == "completed"
    counted = usage(body)
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": CREATED,
        "model": body.get("model", "gpt-4o"),
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "top_p": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "output": [_output_item("completed")] if done else [],
        "usage": {
            "input_tokens": counted["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": counted["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": counted["total_tokens"],
        }
        if done
        else None,
    }


def _output_item(status: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}] if status == "completed" else []
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content}


def responses_stream(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same, as events."""
    begun = responses(body, "in_progress")
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": _output_item("in_progress")},
        {"type": "response.content_part.added", **place, "part": part},
    ]
    words = TEXT.split(" ")
    for index, word in enumerate(words):
        delta = word if index == len(words) - 1 else f"{word} "
        events.append({"type": "response.output_text.delta", **place, "delta": delta, "logprobs": []})
    events += [
        {"type": "response.output_text.done", **place, "text": TEXT, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": {**part, "text": TEXT}},
        {"type": "response.output_item.done", "output_index": 0, "item": _output_item("completed")},
        {"type": "response.completed", "response": responses(body)},
    ]
    for number, event in enumerate(events):
        yield {**event, "sequence_number": number}


def embeddings(body: Mapping[str, Any]) -> dict[str, Any]:
    """One short vector for each input, as numbers or as base64."""
    inputs = body.get("input")
    count = len(inputs) if isinstance(inputs, list) and inputs and not isinstance(inputs[0], int) else 1
    vector = [1.0 / DIMENSIONS] * DIMENSIONS
    packed = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *vector)).decode()
    value = packed if body.get("encoding_format") == "base64" else vector
    total = estimate_tokens(body)
    return {
        "object": "list",
        "model": body.get("model", "text-embedding-3-small"),
        "data": [{"object": "embedding", "index": index, "embedding": value} for index in range(count)],
        "usage": {"prompt_tokens": total, "total_tokens": total},
    }


def models() -> dict[str, Any]:
    """Two models."""
    names = ("gpt-4o", "gpt-4o-mini")
    return {"object": "list", "data": [model(name) for name in names]}


def model(name: str) -> dict[str, Any]:
    """One model."""
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "test"}


def file(identifier: str, size: int = 0, name: str = "data.jsonl", digest: str = "") -> dict[str, Any]:
    """One file; ``sha256`` is of the bytes that arrived, so that a replay can be compared byte for byte."""
    return {
        "id": identifier, "object": "file", "bytes": size, "created_at": CREATED, "filename": name,
        "purpose": "batch", "status": "processed", "sha256": digest,
    }  # fmt: skip


def files(after: str | None, limit: int) -> dict[str, Any]:
    """A page of files."""
    names = [f"file-{number}" for number in range(FILES)]
    start = names.index(after) + 1 if after in names else 0
    page = names[start : start + limit]
    return {
        "object": "list",
        "data": [file(name) for name in page],
        "has_more": start + limit < FILES,
        "first_id": page[0] if page else None,
        "last_id": page[-1] if page else None,
    }


def image(body: Mapping[str, Any]) -> dict[str, Any]:
    """One image, too small to look at."""
    return {"created": CREATED, "data": [{"b64_json": base64.b64encode(b"image").decode()}] * (body.get("n") or 1)}


def moderation(body: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing to object to."""
    return {
        "id": "modr-1",
        "model": body.get("model", "omni-moderation-latest"),
        "results": [{"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}],
    }


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
