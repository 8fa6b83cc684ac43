"""What a fleet believes of a bucket in Redis is what a process believes of it: the same events through both."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_ratelimit._core.buckets.estimate import TUNED, Bucket
from otel_ratelimit._stores.memory import Account
from otel_ratelimit._stores.redis_client import Script
from tests.stores.test_allocation_script import Fleet

LIMIT, WINDOW = 6000.0, 60.0
TYPICAL = 100.0
"""Tokens of each call: silence is told in typical calls."""

NAME = "tokens///"


@dataclass(frozen=True)
class Event:
    """Something that happens after ``pause`` milliseconds.

    Attributes:
        calls: that many are sent.
        told: share of the limit that the server says was left; None: no word.
        age: milliseconds ago that the request left whose answer says so.
        error: share of the limit by which the prediction was wrong; None: it was not judged.
        silent: answers that say nothing of the limit.
        asks: calls that ask then whether they may go, and go if so.
    """

    pause: int
    calls: int
    told: float | None
    age: int
    error: float | None
    silent: int
    asks: int


events = st.builds(
    Event,
    pause=st.integers(1, 20_000),
    calls=st.integers(0, 12),
    told=st.none() | st.floats(-0.2, 1.0),
    age=st.integers(0, 10_000),
    error=st.none() | st.floats(-0.3, 0.1),
    silent=st.integers(0, 60),
    asks=st.integers(0, 8),
)


class Both:
    """One process, and a fleet that consists of it."""

    def __init__(self, script: Script) -> None:
        self.fleet = Fleet(script, script.keys_of(Account(secrets.token_hex(8), b"same", None)))
        self.began = self.fleet.now
        self.bucket = Bucket("tokens", "", LIMIT, WINDOW, replace(TUNED, boundary=0.0))
        self.now = 0
        """Milliseconds: also the sequence number of what leaves then."""
        self.used = 0.0
        self.sent: list[tuple[int, float]] = [(0, 0.0)]
        """When calls left, and the total with them."""
        self.answers = self.silent = 0
        self.levels = self._tell(Event(0, 0, 0.5, 0, None, 0, 0))
        self.fleet.wait("a", 0.1, need=TYPICAL)  # what one call takes, the fleet knows by what it granted

    def happen(self, event: Event) -> None:
        """To both."""
        self.now += event.pause
        if event.calls:
            self.used += TYPICAL * event.calls
            self.sent.append((self.now, self.used))
        self.levels = self._tell(event)

    def ask(self, calls: int) -> tuple[int, int, int]:
        """So many ask whether they may go. How many the fleet lets go; how many the process would, with a hair more or less."""
        answer = self.fleet.say("a", lanes=[[], [[0.1, 1.0, TYPICAL, 0.0, 0.0]] * calls, []], **self._totals())
        granted = calls if answer["calm"] else int(answer["lease"][0])  # calm: all of them, and a slice ahead
        least, most = (self._let_go(calls, slack) for slack in (-0.01, 0.01))
        if granted:
            self.used += TYPICAL * granted
            self.sent.append((self.now, self.used))
        return granted, least, most

    def _let_go(self, calls: int, slack: float) -> int:
        now, used, gone = self.now / 1000.0, self.used, 0
        while gone < calls and self.bucket.ready(now, used, TYPICAL - slack, self.now) <= now:
            used += TYPICAL
            gone += 1
        return gone

    def _totals(self) -> dict[str, Any]:
        used = [self.used / TYPICAL, self.used, 0.0, 0.0]
        return {"used": used, "answers": self.answers, "silent": self.silent, "typical": [1.0, TYPICAL, 0.0, 0.0]}

    def _tell(self, event: Event) -> list[float]:
        bucket, now = self.bucket, self.now / 1000.0
        sent = max(self.now - event.age, 0)
        total_then = max(total for at, total in self.sent if at <= sent)
        self.fleet.now = self.began + now
        self.silent += event.silent
        self.answers += event.silent + 1
        said = {}
        for _ in range(event.silent):
            bucket.pass_over(TYPICAL, 0.0, 0.0)
        if event.error is not None:
            bucket.judge(event.error * LIMIT)
        if event.told is not None:
            bucket.anchor(
                event.told * LIMIT, sent_at=sent / 1000.0, taken=total_then, sequence=sent, now=now, taken_now=self.used
            )
            said[NAME] = {
                "unit": 1, "limit": LIMIT, "window": WINDOW, "capacity": LIMIT, "told": event.told * LIMIT,
                "age": (self.now - sent) / 1000.0, "since": self.used - total_then,
                "error": (event.error or 0.0) * LIMIT, "judged": int(event.error is not None),
            }  # fmt: skip
        levels: list[float] = self.fleet.say("a", said=said, **self._totals())["levels"][NAME]
        return levels


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(events, max_size=12))
def test_the_same_events_make_the_same_estimate_and_let_the_same_calls_go(script: Script, history: list[Event]) -> None:
    """Level, net rate and what must be left over, after each of them; and how many calls go then."""
    both = Both(script)
    for event in history:
        if event.told is None and event.error is not None:
            continue  # a prediction is judged by a word of the server
        both.happen(event)
        bucket = both.bucket
        level = bucket.level(both.now / 1000.0, both.used, both.now)
        unit, in_redis, net, floor, capacity = both.levels
        assert (unit, capacity) == (1, bucket.capacity)
        assert in_redis == pytest.approx(level, abs=0.01)
        assert net == pytest.approx(bucket.rate - bucket.drain, abs=0.001)
        assert floor == pytest.approx(bucket.margin - bucket.dared(), abs=0.01)
        if event.asks:
            granted, least, most = both.ask(event.asks)
            assert least <= granted <= most
