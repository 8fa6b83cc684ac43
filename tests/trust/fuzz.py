"""Coverage-guided fuzzing of what reads a server's words: ``uv run --with atheris python -m tests.trust.fuzz -max_total_time=60``

Where Atheris installs (Linux, a Python that it has wheels for). Whatever bytes come: nothing is raised, every delay is finite and
not negative, and every reading is a size that somebody can mean. The options are libFuzzer's.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

with atheris.instrument_imports(include=["otel_ratelimit"]):
    from otel_ratelimit import parse_stream_event, parse_throttle
    from otel_ratelimit._core.parsing.limits import read_limits

STATUSES = (200, 400, 402, 408, 409, 413, 429, 429, 429, 500, 503, 529)
NAMES = (
    "retry-after", "retry-after-ms", "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
    "x-ratelimit-limit-requests", "x-ratelimit-reset-requests", "ratelimit", "ratelimit-policy", "x-should-retry", "date",
    "anthropic-ratelimit-tokens-reset", "x-error-message",
)  # fmt: skip


def one(data: bytes) -> None:
    """One response, made of these bytes."""
    source = atheris.FuzzedDataProvider(data)
    status = source.PickValueInList(list(STATUSES))
    headers = {}
    for _ in range(source.ConsumeIntInRange(0, 4)):
        headers[source.PickValueInList(list(NAMES))] = source.ConsumeUnicodeNoSurrogates(40)
    text = source.ConsumeBool()
    body: Any = source.ConsumeBytes(source.remaining_bytes())
    if text:
        body = body.decode("utf-8", "replace")
    throttle = parse_throttle(status, headers, body, now=1_800_000_000.0)
    if throttle is not None and throttle.delay is not None:
        assert math.isfinite(throttle.delay)
        assert throttle.delay >= 0
    for reading in read_limits(headers, now=1_800_000_000.0):
        assert reading.limit is not None
        assert 0 < reading.limit < 1e16
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return
    parse_stream_event(event)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
