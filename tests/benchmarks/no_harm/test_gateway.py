"""A world's server: routing, refusals in every dialect, and all that happens between two requests."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from otel_ratelimit import parse_throttle
from tests.benchmarks.no_harm.gateway import Answer, Gateway
from tests.benchmarks.no_harm.worlds import Call, World, draw

QUIET = replace(
    draw(1),
    threads=False, callers=4, calls=100, max_retries=2, timeout=None, tokens=100, tail="light", pause=0.0, models=1,
    kind="bucket", window=60.0, by_second=False, unit="tokens", needs=600.0, deployments=(1.0,), routing="in turn",
    failover=False, concurrency=None, charged=False, charged_at_end=False, status=429, headers="full", silent_refusals=False,
    whole_seconds=False, retry_after="ms", message="numbers", usage=True, latency=2.0, spread=0.1, errors=0.0, too_large=0,
    day=None, day_kind="midnight", day_reset=None, others=0.0, change=None, cold=0,
)  # fmt: skip
"""A bucket of 1,000 tokens a minute, and nothing else."""


def world(**traits: Any) -> World:
    return replace(QUIET, **traits)


def call(number: int = 0, charge: int = 100, output: int = 30) -> Call:
    return Call(number, charge - output, None, output, charge, 0.0, "gpt-4o")


def statuses(gateway: Gateway, count: int, now: float = 0.0, **keywords: int) -> list[int]:
    return [gateway.receive(now, call(number, **keywords)).status for number in range(count)]


def parsed(answer: Answer) -> Any:
    return parse_throttle(answer.status, answer.headers, answer.body)


def test_ten_fit_and_the_eleventh_is_refused() -> None:
    """1,000 tokens, 100 each; six seconds later there is room for one more."""
    gateway = Gateway(world())
    assert statuses(gateway, 12) == [200] * 10 + [429] * 2
    assert statuses(gateway, 2, now=6.0) == [200, 429]


@pytest.mark.parametrize("kind", ["bucket", "fixed", "sliding"])
@pytest.mark.parametrize("by_second", [False, True])
@pytest.mark.parametrize("unit", ["tokens", "requests", "both"])
@pytest.mark.parametrize("charged", [False, True])
@pytest.mark.parametrize(
    ("retry_after", "message", "source"),
    [("ms", "nothing", "retry-after-ms"), ("rounded up", "nothing", "retry-after"), ("none", "numbers", "body-message"),
     ("none", "delay", "body-message"), ("rounded up", "delay", "retry-after")],
)  # fmt: skip
def test_the_delay_that_is_told_is_true(
    kind: str, by_second: bool, unit: str, charged: bool, retry_after: str, message: str, source: str
) -> None:
    """As it is read from what was sent: that much later the same call is served, and not much earlier."""
    drawn = world(kind=kind, by_second=by_second, unit=unit, charged=charged, window=10.0, needs=100.0, headers="none",
                  retry_after=retry_after, message=message, tokens=100)  # fmt: skip

    def refused() -> tuple[Gateway, float, Answer]:
        gateway = Gateway(drawn)
        for number in range(1000):
            now = 0.05 * number
            answer = gateway.receive(now, call(number))
            if answer.status == 429:
                return gateway, now, answer
        raise AssertionError("nothing was refused")

    gateway, now, answer = refused()
    throttle = parsed(answer)
    assert throttle.source == source
    delay = throttle.delay
    true = gateway.seen[-1].delay
    coarse = 1.0 if retry_after == "rounded up" else 0.001
    assert -0.0011 <= delay - true <= coarse  # cut to milliseconds, or rounded up
    if not charged:
        assert gateway.receive(now + true - 0.002, call(1000)).status == 429
    gateway, now, _ = refused()
    assert gateway.receive(now + max(true, delay), call(1000)).status == 200


@pytest.mark.parametrize(("retry_after", "told"), [("1", 1.0), ("60", 60.0), ("none", None)])
def test_delays_that_are_the_same_for_everyone(retry_after: str, told: float | None) -> None:
    """Always 1, always 60, or nothing."""
    gateway = Gateway(world(retry_after=retry_after, message="nothing", headers="none"))
    statuses(gateway, 10)
    answer = gateway.receive(0.0, call(10))
    assert answer.headers.get("retry-after") == (None if told is None else f"{told:.0f}")
    assert parsed(answer).delay == told


@pytest.mark.parametrize(
    ("headers", "names"),
    [("full", ["limit", "remaining", "reset"]), ("remaining", ["remaining"]), ("reset", ["reset"]), ("none", [])],
)
def test_headers(headers: str, names: list[str]) -> None:
    """All of them, one alone, none; on answers and on refusals."""
    gateway = Gateway(world(headers=headers, retry_after="none"))
    for answer in [gateway.receive(0.0, call(number)) for number in range(11)]:
        assert sorted(answer.headers) == [f"x-ratelimit-{name}-tokens" for name in names]
    if headers == "full":
        assert answer.headers == {
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "1m0s",
        }


def test_refusals_without_headers() -> None:
    """Only answers carry them."""
    gateway = Gateway(world(silent_refusals=True, retry_after="none"))
    answers = [gateway.receive(0.0, call(number)) for number in range(11)]
    assert answers[0].headers
    assert not answers[10].headers


def test_what_can_never_fit() -> None:
    """Azure's 86,400 seconds; it costs nothing, and smaller calls are served."""
    gateway = Gateway(world(charged=True, kind="fixed", retry_after="rounded up"))
    answer = gateway.receive(0.0, call(0, charge=1001))
    assert answer.status == 429
    assert answer.headers["retry-after"] == "86400"
    assert "too large" in answer.body["error"]["message"]
    assert math.isinf(gateway.seen[-1].delay)
    assert statuses(gateway, 10) == [200] * 10


def test_refused_requests_that_count() -> None:
    """A request is a request; a counter that is raised first counts the refused tokens as well."""
    free = Gateway(world(kind="sliding", unit="requests"))
    charged = Gateway(world(kind="sliding", unit="requests", charged=True))
    for gateway in (free, charged):
        statuses(gateway, 10)
        statuses(gateway, 5, now=30.0)
    assert statuses(free, 10, now=60.0) == [200] * 10
    assert statuses(charged, 6, now=60.0) == [200] * 5 + [429]


def test_in_turn_by_load_and_the_others_tried() -> None:
    """In turn: every second call. By load: where the fewest are. With failover only what all refuse is refused."""
    turns = Gateway(world(deployments=(1.0, 0.5)))
    statuses(turns, 4)
    assert [seen.deployment for seen in turns.seen] == [0, 1, 0, 1]
    loads = Gateway(world(deployments=(1.0, 1.0), routing="by load"))
    loads.receive(0.0, call(0))
    loads.deployments[0].busy += 5
    statuses(loads, 3)
    assert {seen.deployment for seen in loads.seen[1:]} == {1}
    single = Gateway(world(deployments=(1.0, 0.5)))
    failing_over = Gateway(world(deployments=(1.0, 0.5), failover=True))
    assert statuses(single, 15).count(200) == 8 + 5
    assert statuses(failing_over, 16).count(200) == 15


def test_too_many_at_once() -> None:
    """The fourth of three is refused without a time, until an answer is finished."""
    gateway = Gateway(world(concurrency=3))
    answers = [gateway.receive(0.0, call(number)) for number in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert "retry-after" not in answers[3].headers
    assert parsed(answers[3]).delay is None
    first = min(answer.after for answer in answers[:3])
    assert statuses(gateway, 2, now=first + 1e-6) == [200, 429]


def test_a_day_that_ends_early() -> None:
    """30 calls a day; hours are told; a reset at 100 s lets all through."""
    gateway = Gateway(world(day=0.3, day_reset=100.0, unit="requests", needs=10.0, retry_after="rounded up"))
    assert statuses(gateway, 40).count(200) == 30
    answer = gateway.receive(1.0, call(50))
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) > 3600
    assert "per day" in answer.body["error"]["message"]
    assert gateway.receive(100.5, call(50)).status == 200


def test_the_first_of_a_burst() -> None:
    """Two are refused with a second's delay, whatever the limit."""
    gateway = Gateway(world(cold=2))
    assert statuses(gateway, 4) == [429, 429, 200, 200]


def test_others_and_a_limit_that_changes() -> None:
    """Another tenant takes its share of the refill; a limit that is halved refuses more."""
    alone, shared = Gateway(world()), Gateway(world(others=0.6))
    served = [[statuses(gateway, 10, now=60.0 * n).count(200) for n in range(20)] for gateway in (alone, shared)]
    assert served[0] == [10] * 20
    assert 80 < sum(served[1]) < 140  # in the long run 6 of each 10 are taken
    halved = Gateway(world(change=(10.0, 0.5)))
    assert statuses(halved, 10, now=60.0).count(200) == 5


def test_charged_at_the_end() -> None:
    """The output counts when the answer is finished, not before."""
    gateway = Gateway(world(charged_at_end=True, kind="fixed"))
    assert statuses(gateway, 15, output=50).count(200) == 15
    limit = gateway.deployments[0].measures[0].enforced
    assert limit.used(0.0) == 750.0
    assert gateway.receive(0.0, call(20, charge=900, output=0)).status == 429
    gateway.receive(59.0, call(20, charge=900, output=0))
    assert gateway.deployments[0].busy <= 1


def test_luck_is_the_calls_own() -> None:
    """Latency and failures depend on the call and on how often it was let through, not on when it comes."""
    drawn = world(errors=0.3, latency=5.0, spread=0.7, needs=1.0)
    forward, backward = Gateway(drawn), Gateway(drawn)
    first = {number: forward.receive(0.0, call(number)) for number in range(30)}
    second = {number: backward.receive(number * 0.1, call(number)) for number in reversed(range(30))}
    assert {number: (a.status, a.after) for number, a in first.items()} == {
        number: (a.status, a.after) for number, a in second.items()
    }
    assert {answer.status for answer in first.values()} == {200, 500}


def test_a_throttle_by_503() -> None:
    """Where it says a delay it is read as a throttle."""
    gateway = Gateway(world(status=503, message="delay", retry_after="none", headers="none"))
    statuses(gateway, 10)
    assert parsed(gateway.receive(0.0, call(10))).delay == pytest.approx(6.0, abs=0.01)
