"""What a call will cost, before it is sent: an estimate from its request body.

Owns :class:`Cost` and :func:`estimate`. Knows no tokeniser (megabytes of tables for a figure that admission only needs to some
15 %), no limit and no server. The estimate need not be right; it must be *proportional* to what the server charges: the charge
model (``buckets.charge``) learns the factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, NamedTuple

CHARACTERS_PER_TOKEN: Final = 4.0
"""Characters of English text per token, OpenAI's rule of thumb. Other languages and code: the charge model learns."""

TOKENS_PER_MESSAGE: Final = 4.0
"""Framing that a chat message adds (role and separators), as OpenAI's cookbook counts."""

MESSAGE_CHARACTERS: Final = TOKENS_PER_MESSAGE * CHARACTERS_PER_TOKEN

LOW_DETAIL_IMAGE_TOKENS: Final = 85.0
HIGH_DETAIL_IMAGE_TOKENS: Final = 765.0
"""Tokens of an image in ``detail: low``, and of one of 1024 x 1024 in ``high`` (85 + 4 tiles of 170)."""

AUDIO_TOKENS_PER_CHARACTER: Final = 10.0 / (16_000 * 2 * 4 / 3)
"""Ten tokens a second of input audio, over base64 of 16-bit PCM at 16 kHz; a compressed form is learned."""

FILE_TOKENS: Final = 1000.0
"""An attached file that is only named by id: its size is not in the request, so one page or two."""

MAX_DEPTH: Final = 12
"""Levels of nesting that are read; deeper text counts as nothing. Keeps a body that contains itself from recursing."""

MAX_COST: Final = 1e7
"""Tokens. No call is taken to cost more, whatever its body says: ten million is the longest context there is (Llama 4 Scout)."""

_OUTPUT_LIMITS: Final = frozenset(("max_completion_tokens", "max_tokens", "max_output_tokens"))
# Where the text stands, over chat/completions, completions, responses, embeddings, images, audio and moderations.
_TEXT_FIELDS: Final = frozenset(
    ("messages", "input", "prompt", "instructions", "tools", "functions", "response_format", "text")
)


class Cost(NamedTuple):
    """What one call is expected to take, before its server's charge model is known.

    Attributes:
        input: tokens of the prompt, tools and images, estimated.
        output: the output limit in tokens, over all ``n`` choices; 0 where the body names none.
        requests: calls of the request limit that it takes; a retry is one again.
    """

    input: float = 0.0
    output: float = 0.0
    requests: float = 1.0


NOTHING_KNOWN: Final = Cost()
_cost_of: Final = partial(tuple.__new__, Cost)  # its own constructor is a Python function: slow


def estimate(path: str, body: object) -> Cost:
    """Estimate the cost of a request from its body, in time linear in the prompt. Never raises.

    Args:
        path: the request's path; images and audio are charged by the request, not by their text.
        body: the decoded JSON body in OpenAI's wire format; what is no mapping tells nothing.
    """
    if type(body) is not dict and not isinstance(body, Mapping):
        return NOTHING_KNOWN
    try:
        characters = 0.0
        limit = 0.0
        for field, value in body.items():
            if field in _TEXT_FIELDS:
                characters += _characters(value, MAX_DEPTH)
            elif field in _OUTPUT_LIMITS and type(value) is int and value > 0:
                limit = float(value) if value < MAX_COST else MAX_COST
        choices = body.get("n")
        if choices is not None and type(choices) is int and choices > 1 and "images/" not in path:
            limit = min(limit * min(choices, 128), MAX_COST)  # 128: the most that the API takes
        return _cost_of((characters / CHARACTERS_PER_TOKEN if characters < MAX_COST else MAX_COST, limit, 1.0))
    except Exception:  # a body of the caller's own making must never fail the call
        return NOTHING_KNOWN


def _characters(part: Any, depth: int) -> float:
    """Characters that a part of a body stands for. Token arrays count as the text they stand for."""
    kind = type(part)
    if kind is str:
        return len(part)
    if kind is list or kind is tuple:
        if not part or depth <= 0:
            return 0.0
        if type(part[0]) is int:  # one prompt, already tokenised
            return len(part) * CHARACTERS_PER_TOKEN
        total = 0.0
        for item in part:
            form = type(item)
            if form is str:
                total += len(item)
            elif form is dict and len(item) == 2 and type(item.get("content")) is str and "role" in item:
                total += len(item["content"]) + MESSAGE_CHARACTERS  # by far the usual message
            elif form is dict and depth > 0:
                total += _characters_of_mapping(item, depth - 1)
            else:
                total += _characters(item, depth - 1)
        return total
    if isinstance(part, Mapping) and depth > 0:
        return _characters_of_mapping(part, depth)
    return 0.0


def _characters_of_mapping(part: Mapping[str, Any], depth: int) -> float:
    form = part.get("type")
    if form in ("image_url", "input_image"):
        image = part.get("image_url")
        detail = part.get("detail") or (image.get("detail") if isinstance(image, Mapping) else None)
        tokens = LOW_DETAIL_IMAGE_TOKENS if detail == "low" else HIGH_DETAIL_IMAGE_TOKENS
        return tokens * CHARACTERS_PER_TOKEN
    if form == "input_audio":
        audio = part.get("input_audio")
        data = audio.get("data") if isinstance(audio, Mapping) else None
        return len(data) * AUDIO_TOKENS_PER_CHARACTER * CHARACTERS_PER_TOKEN if type(data) is str else 0.0
    if form in ("file", "input_file"):
        return FILE_TOKENS * CHARACTERS_PER_TOKEN
    total = MESSAGE_CHARACTERS if "role" in part else 0.0
    for key, value in part.items():  # a tool's schema: its keys are text to the model as well
        total += len(key) if type(key) is str else 0
        total += len(value) if type(value) is str else _characters(value, depth - 1)
    return total
