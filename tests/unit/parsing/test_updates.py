"""``rate_limits.updated`` of a realtime session, as limits."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from otel_ratelimit._core.parsing.limits import LimitReading
from otel_ratelimit._core.parsing.updates import read_update


def update(*limits: Any) -> dict[str, Any]:
    return {"type": "rate_limits.updated", "rate_limits": list(limits)}


TOKENS = {"name": "tokens", "limit": 50_000, "remaining": 49_950, "reset_seconds": 0.06}
READING = LimitReading("tokens", "", None, 50_000, 49_950, 0.06)


def test_mappings_and_models_say_the_same() -> None:
    """As the SDK parses them, and as plain objects."""
    assert read_update(update(TOKENS)) == (READING,)
    model = SimpleNamespace(type="rate_limits.updated", rate_limits=[SimpleNamespace(**TOKENS)])
    assert read_update(model) == (READING,)


@pytest.mark.parametrize(
    "event",
    [
        None,
        {"type": "response.done", "rate_limits": [TOKENS]},
        {"type": "rate_limits.updated", "rate_limits": "many"},
        update(None, 3, {}),
        update({**TOKENS, "name": "hats"}),
        update({**TOKENS, "limit": -1}),
        update({**TOKENS, "limit": math.nan}),
        update({**TOKENS, "limit": True}),
        update({**TOKENS, "limit": "50000"}),
    ],
)
def test_what_says_nothing_is_no_limit(event: Any) -> None:
    """Other events, other names, values that nobody can mean."""
    assert read_update(event) == ()
