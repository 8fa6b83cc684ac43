"""The arithmetic of ``run``: stretches of waiting, figures of several processes, the words of the summary."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ratelimit._commands.run import status, summary
from otel_ratelimit._commands.run.figures import MAX_STRETCHES, MERGE, Figures, insert, length, union

MODEL = {"gen_ai.request.model": "gpt-4o"}
times = st.floats(min_value=0, max_value=1000, allow_nan=False)


@given(st.lists(st.tuples(times, times).map(sorted), max_size=40))
def test_a_union_is_sorted_apart_and_covers_everything(stretches: list[list[float]]) -> None:
    """Compared with what a walk over all ends finds, gaps that count as none aside."""
    result = union(stretches)
    assert result == sorted(result)
    for before, after in itertools.pairwise(result):
        assert after[0] - before[1] > MERGE
    for start, end in stretches:
        assert any(low <= start and end <= high for low, high in result)
    assert length(result) <= sum(end - start for start, end in stretches) + MERGE * len(stretches) + 1e-9


def test_stretches_are_bounded() -> None:
    """A program that runs for weeks does not grow."""
    stretches: list[list[float]] = []
    for number in range(MAX_STRETCHES + 100):
        insert(stretches, float(number), number + 0.5)
    assert len(stretches) == MAX_STRETCHES
    assert stretches[-1] == [MAX_STRETCHES - 1.0, MAX_STRETCHES + 99.5]


def figures(waits: list[tuple[str, float, float]], throttles: int = 1) -> Figures:
    made = Figures()
    for reason, end, seconds in waits:
        made.add("wait_duration", seconds, {**MODEL, "otel_ratelimit.wait.reason": reason}, end)
        made.add("call_duration", seconds, MODEL, end)
    made.add("throttles", 0, {**MODEL, "otel_ratelimit.limit.kind": "requests"}, 0.0)  # the seed of a counter
    for _ in range(throttles):
        made.add("throttles", 1, {**MODEL, "otel_ratelimit.limit.kind": "tokens"}, 0.0)
    return made


def text(made: Figures, seconds: float = 20.0, processes: int = 1) -> str:
    return "\n".join(line.text for line in summary.of(made, seconds, processes))


def test_two_processes_are_one_when_they_wait_at_the_same_time() -> None:
    """Waited seconds add up, the time during which somebody waited does not; the tighter level counts."""
    total = Figures()
    for remaining in (500.0, 70.0):
        one = figures([("throttled", 12.0, 4.0)])
        one.level("gpt-4o", "tokens", 1000.0, remaining)
        total.merge(json.loads(json.dumps(one.as_json())))
    said = text(total, processes=2)
    assert "2 calls in 2 processes" in said
    assert "throttled   2  tokens 2" in said
    assert "its calls waited 8.0 s in all; somebody waited during 4.0 s of 20.0 s" in said
    assert "Twice the limit would have saved up to 2.0 s, five times the limit up to 3.2 s" in said
    assert "70 of 1,000 tokens left" in status.line(total, 3.0, 120, 0.0)


@pytest.mark.parametrize(
    ("waits", "retries", "throttles", "promised"),
    [
        ([("backoff", 10.0, 2.0)], {"throttle": 1}, 1, True),
        ([("backoff", 10.0, 2.0)], {"server_error": 1}, 0, False),
        ([("backoff", 10.0, 2.0)], {"server_error": 1, "throttle": 1}, 1, False),
        ([("admission", 10.0, 2.0)], {}, 0, True),
    ],
)
def test_a_higher_limit_is_promised_only_where_the_limit_was_in_the_way(
    waits: list[tuple[str, float, float]], retries: dict[str, int], throttles: int, promised: bool
) -> None:
    """The SDK's own sleep after a server error is no matter of limits."""
    made = figures(waits, throttles)
    for reason, count in retries.items():
        made.add("retries", count, {**MODEL, "otel_ratelimit.retry.reason": reason}, 0.0)
    assert ("would have saved" in text(made)) == promised


def test_nothing_happened() -> None:
    """One line, and counters that were only seeded are nothing."""
    made = figures([], throttles=0)
    made.add("call_duration", 0.5, MODEL, 1.0)
    assert text(made) == "otel-ratelimit: 1 call, 20.0 s; nothing was throttled, nobody waited."
