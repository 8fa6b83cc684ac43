"""What a body is taken to cost, and how the charge model learns what it did."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ratelimit._core.cost import MAX_COST, Cost, estimate

CHAT = "/chat/completions"


@pytest.mark.parametrize(
    ("path", "body", "cost"),
    [
        (CHAT, {"model": "m", "messages": [{"role": "user", "content": "x" * 400}]}, Cost(104, 0)),
        (CHAT, {"messages": [{"role": "user", "content": "x" * 400}], "max_tokens": 50}, Cost(104, 50)),
        (
            CHAT,
            {"messages": [{"role": "user", "content": "x" * 400}], "max_completion_tokens": 50, "n": 3},
            Cost(104, 150),
        ),
        ("/responses", {"input": "x" * 400, "instructions": "y" * 40, "max_output_tokens": 7}, Cost(110, 7)),
        ("/embeddings", {"input": ["x" * 40, "y" * 40]}, Cost(20, 0)),
        ("/embeddings", {"input": [1, 2, 3, 4]}, Cost(4, 0)),
        ("/embeddings", {"input": [[1, 2, 3], [4, 5]]}, Cost(5, 0)),
        ("/completions", {"prompt": "x" * 40, "n": 2, "max_tokens": 5}, Cost(10, 10)),
        ("/images/generations", {"prompt": "x" * 40, "n": 4}, Cost(10, 0)),
        ("/audio/speech", {"input": "x" * 40, "voice": "alloy"}, Cost(10, 0)),
        (CHAT, None, Cost()),
        (CHAT, {}, Cost()),
        (CHAT, {"messages": "nonsense", "max_tokens": "many"}, Cost(2, 0)),
        (CHAT, {"messages": [], "max_tokens": 10**400}, Cost(0, MAX_COST)),
        (CHAT, {"messages": [], "max_tokens": True}, Cost(0, 0)),
    ],
)
def test_bodies(path: str, body: dict[str, Any] | None, cost: Cost) -> None:
    """Four characters a token, four tokens a message, the output limit for each choice."""
    assert estimate(path, body) == cost


def test_an_image_costs_by_its_detail_and_not_by_its_bytes() -> None:
    """A picture as a data URL is not a prompt of a million characters."""

    def chat(part: dict[str, Any]) -> float:
        return estimate(CHAT, {"messages": [{"role": "user", "content": [part]}]}).input

    url = "data:image/png;base64," + "A" * 1_000_000
    low = chat({"type": "image_url", "image_url": {"url": url, "detail": "low"}})
    high = chat({"type": "image_url", "image_url": {"url": url}})
    assert 85 <= low < 110
    assert 765 <= high < 800
    assert 85 <= chat({"type": "input_image", "image_url": url, "detail": "low"}) < 110


def test_tools_count() -> None:
    """Their schemas are text to the model."""
    body = {"messages": [], "tools": [{"type": "function", "function": {"name": "f", "description": "d" * 400}}]}
    assert 100 < estimate(CHAT, body).input < 130


def test_a_body_that_contains_itself_ends() -> None:
    """It is the caller's mistake, and not ours to hang on."""
    body: dict[str, Any] = {"messages": []}
    body["messages"].append(body)
    assert estimate(CHAT, body).input < 1_000


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.dictionaries(st.integers(), inner),
    max_leaves=20,
)
fields = st.sampled_from(
    ["messages", "input", "prompt", "tools", "max_tokens", "n", "content", "role", "type", "image_url"]
)


@given(st.text(), st.dictionaries(fields, anything) | anything)
def test_no_body_breaks_it(path: str, body: Any) -> None:
    """Whatever a program hands to the SDK: a finite cost, no exception."""
    cost = estimate(path, body)
    assert 0 <= cost.input <= MAX_COST
    assert 0 <= cost.output <= MAX_COST
