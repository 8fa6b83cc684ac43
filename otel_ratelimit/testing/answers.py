"""The ordinary answers of the endpoints: small, valid by the SDK's own types, and the same each time."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

TEXT: Final = "Hello from the throttling server."
CREATED: Final = 1_700_000_000
DIMENSIONS: Final = 8
MAX_CHOICES: Final = 128
"""As at OpenAI."""
CHARACTERS_PER_TOKEN: Final = 4
CATEGORIES: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
DEFAULT_OUTPUT: Final = 16
"""Tokens that an answer is taken to need where the request sets no limit."""


def estimate_tokens(body: Mapping[str, Any]) -> int:
    """What a request is charged at admission: the larger of its output limit and an estimate of its input (four
    characters to a token), as OpenAI's documentation has it.
    """
    text = 0
    for name in ("messages", "input", "prompt", "instructions"):
        if body.get(name):
            text += len(json.dumps(body[name], ensure_ascii=False))
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
    output = limit * choices(body) if isinstance(limit, int) else DEFAULT_OUTPUT
    return max(1, text // CHARACTERS_PER_TOKEN, output)


def choices(body: Mapping[str, Any]) -> int:
    """How many answers a request asks for."""
    count = body.get("n")
    return count if isinstance(count, int) and 0 < count <= MAX_CHOICES else 1


def usage(body: Mapping[str, Any]) -> dict[str, int]:
    """Tokens that an answer reports."""
    total = estimate_tokens(body)
    output = min(total, len(TEXT) // CHARACTERS_PER_TOKEN)
    return {"prompt_tokens": total - output, "completion_tokens": output, "total_tokens": total}


def _chosen_message(body: Mapping[str, Any]) -> dict[str, Any]:
    tools = body.get("tools")
    choice = body.get("tool_choice")
    if tools and choice not in (None, "auto", "none"):
        named = choice["function"]["name"] if isinstance(choice, dict) else None
        function = next((tool["function"] for tool in tools if tool["function"]["name"] == named), tools[0]["function"])
        arguments = json.dumps(example(function.get("parameters") or {"type": "object"}))
        call = {"id": "call_1", "type": "function", "function": {"name": function["name"], "arguments": arguments}}
        return {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    return {"role": "assistant", "content": json.dumps(example(schema)) if schema else TEXT, "refusal": None}


def example(schema: Mapping[str, Any]) -> Any:
    """The smallest value that a JSON schema of the usual kind allows: no patterns, no least lengths."""
    return _example(schema, schema.get("$defs", {}))


def _example(schema: Mapping[str, Any], defined: Mapping[str, Any]) -> Any:
    if "$ref" in schema:
        return _example(defined[schema["$ref"].rpartition("/")[2]], defined)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    either = schema.get("anyOf", [])
    if "null" in kinds or {"type": "null"} in either:
        return None  # which also ends a schema that contains itself
    if either:
        return _example(either[0], defined)
    if "object" in kinds:
        return {name: _example(part, defined) for name, part in schema.get("properties", {}).items()}
    return {"string": "", "integer": 0, "number": 0, "boolean": False, "array": []}.get(kinds[0] if kinds else "")


def chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """A chat completion."""
    message = _chosen_message(body)
    reason = "tool_calls" if "tool_calls" in message else "stop"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": CREATED,
        "model": body.get("model", "gpt-4o"),
        "choices": [
            {"index": index, "finish_reason": reason, "logprobs": None, "message": message}
            for index in range(choices(body))
        ],
        "usage": usage(body),
    }


def completion(body: Mapping[str, Any]) -> dict[str, Any]:
    """A completion of the old kind."""
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": CREATED,
        "model": body.get("model", "gpt-3.5-turbo-instruct"),
        "choices": [
            {"index": index, "finish_reason": "stop", "logprobs": None, "text": TEXT} for index in range(choices(body))
        ],
        "usage": usage(body),
    }


def chat_stream(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same, in chunks."""
    base = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": body.get("model", "gpt-4o"),
    }
    message = _chosen_message(body)
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if "tool_calls" in message:
        deltas.append({"tool_calls": [{"index": 0, **message["tool_calls"][0]}]})
    else:
        deltas += [{"content": part} for part in _pieces(message["content"])]
    for delta in deltas:
        for index in range(choices(body)):
            yield {**base, "choices": [{"index": index, "delta": delta, "finish_reason": None}]}
    reason = "tool_calls" if "tool_calls" in message else "stop"
    for index in range(choices(body)):
        yield {**base, "choices": [{"index": index, "delta": {}, "finish_reason": reason}]}
    if (body.get("stream_options") or {}).get("include_usage"):
        yield {**base, "choices": [], "usage": usage(body)}


def _pieces(text: str) -> list[str]:
    """A text in the pieces that a stream sends; joined, they are the text again."""
    words = text.split(" ")
    return [f"{word} " for word in words[:-1]] + words[-1:]


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
        "output": [_output_item(text_of(body))] if done else [],
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


def text_of(body: Mapping[str, Any]) -> str:
    """The text of a response: where a JSON schema is asked for, a value of it."""
    schema = ((body.get("text") or {}).get("format") or {}).get("schema")
    return json.dumps(example(schema)) if schema else TEXT


def _output_item(text: str | None) -> dict[str, Any]:
    """The message of a response; without a text, as it is when it is begun."""
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    status = "in_progress" if text is None else "completed"
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content}


def responses_stream(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same, as events."""
    begun = responses(body, "in_progress")
    text = text_of(body)
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": _output_item(None)},
        {"type": "response.content_part.added", **place, "part": part},
        *({"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in _pieces(text)),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": {**part, "text": text}},
        {"type": "response.output_item.done", "output_index": 0, "item": _output_item(text)},
        {"type": "response.completed", "response": responses(body)},
    ]
    for number, event in enumerate(events):
        yield {**event, "sequence_number": number}


def embeddings(body: Mapping[str, Any]) -> dict[str, Any]:
    """One short vector for each input, as numbers or as base64."""
    inputs = body.get("input")
    count = len(inputs) if isinstance(inputs, list) and inputs and not isinstance(inputs[0], int) else 1
    size = int(body.get("dimensions") or DIMENSIONS)
    vector = [1.0 / size] * size
    packed = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
    value = packed if body.get("encoding_format") == "base64" else vector
    total = estimate_tokens(body)
    return {
        "object": "list",
        "model": body.get("model", "text-embedding-3-small"),
        "data": [{"object": "embedding", "index": index, "embedding": value} for index in range(count)],
        "usage": {"prompt_tokens": total, "total_tokens": total},
    }


def image(body: Mapping[str, Any]) -> dict[str, Any]:
    """One image, or as many as asked for, too small to look at."""
    return {"created": CREATED, "data": [{"b64_json": base64.b64encode(b"image").decode()}] * choices(body)}


def moderation(body: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing to object to: one result for each text, one for an input of several parts."""
    inputs = body.get("input")
    count = len(inputs) if isinstance(inputs, list) and inputs and isinstance(inputs[0], str) else 1
    result = {
        "flagged": False,
        "categories": dict.fromkeys(CATEGORIES, False),
        "category_scores": dict.fromkeys(CATEGORIES, 0.0),
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }
    return {"id": "modr-1", "model": body.get("model", "omni-moderation-latest"), "results": [result] * count}
