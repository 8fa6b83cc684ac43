"""Which events of a stream are bookkeeping, and which are content: SDK models and plain mappings alike."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from otel_ratelimit._core.opening import is_bookkeeping


def chunk(*deltas: dict[str, Any], usage: Any = None, **choice: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": None, **choice} for delta in deltas]
    return {"object": "chat.completion.chunk", "choices": choices, "usage": usage}


def model(value: Any) -> Any:
    """The same as objects with attributes, as the SDK hands events on."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: model(item) for key, item in value.items()})
    return [model(item) for item in value] if isinstance(value, list) else value


BOOKKEEPING = [
    {"type": "response.created", "response": {"status": "in_progress"}},
    {"type": "response.queued"},
    {"type": "response.in_progress"},
    {"type": "keepalive"},
    chunk(),  # Azure: what its filter said of the prompt
    chunk({"role": "assistant"}),
    chunk({"role": "assistant", "content": "", "refusal": None}),
]
CONTENT = [
    {"type": "response.output_item.added"},
    {"type": "response.output_text.delta", "delta": "Hel"},
    {"type": "response.completed"},
    {"type": "error", "code": "server_error"},
    {"type": "a.new.event"},
    chunk({"content": "Hel"}),
    chunk({"role": "assistant", "content": "Hel"}),
    chunk({"tool_calls": [{"index": 0}]}),
    chunk({"refusal": "No."}),
    chunk({"reasoning_content": "Hm"}),
    chunk({"role": "assistant"}, {"content": "Hel"}),
    chunk({}, finish_reason="stop"),
    chunk(usage={"total_tokens": 3}),
    {"object": "text_completion", "choices": [{"index": 0, "text": "Hel"}]},
    {},
    {"choices": "what is this"},
]


@pytest.mark.parametrize("as_model", [False, True])
@pytest.mark.parametrize("event", BOOKKEEPING)
def test_what_is_certain_to_come_again_is_bookkeeping(event: Any, as_model: bool) -> None:
    """It may be held back, and dropped."""
    assert is_bookkeeping(model(event) if as_model else event)


@pytest.mark.parametrize("as_model", [False, True])
@pytest.mark.parametrize("event", CONTENT)
def test_everything_else_is_content(event: Any, as_model: bool) -> None:
    """Above all what is not known."""
    assert not is_bookkeeping(model(event) if as_model else event)


def test_what_a_model_keeps_as_extra_counts() -> None:
    """Fields that the SDK does not know, the reasoning of some servers, stand in ``model_extra``."""
    delta = SimpleNamespace(role="assistant", content="", model_extra={"reasoning": "Hm"})
    choice = SimpleNamespace(delta=delta, finish_reason=None)
    assert not is_bookkeeping(SimpleNamespace(choices=[choice]))


@pytest.mark.parametrize("event", [None, 3, "data", b"", [], object()])
def test_nothing_breaks_it(event: Any) -> None:
    """Whatever a caller's own stream class yields is content."""
    assert not is_bookkeeping(event)
