"""One body of tests for both stores: whoever uses a place cannot tell where the buckets live."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.events import Admitted, NotBefore
from otel_ratelimit._core.parsing.limits import LimitReading
from otel_ratelimit._core.policy import Priority
from otel_ratelimit._core.throttle import Throttle
from otel_ratelimit._stores.memory import Account, MemoryStore, Place
from otel_ratelimit._stores.redis import RedisStore
from tests.helpers.redis_server import RedisServer

COST = Cost(100.0, 0.0)
RATE = 1000.0
"""Tokens a second: ten calls."""


def open_redis_store(url: str, **keywords: Any) -> RedisStore:
    """One process of a fleet, as the composition root makes it."""
    settings: dict[str, Any] = {
        "clock": time.monotonic, "settings": "alike", "encode": lambda cause: str(cause or ""), "decode": str, **keywords,
    }  # fmt: skip
    return RedisStore(url, random=random.Random(1).random, **settings)


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[MemoryStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    server: RedisServer = request.getfixturevalue("shared_redis")
    store = open_redis_store(server.url)
    yield store
    store.close()


@pytest.fixture
def account() -> Account:
    return Account(secrets.token_hex(8), b"payer", "gpt-4o")


def wait(place: Place, priority: Priority = "normal", not_before: float | None = None) -> float:
    """Wait for the turn as the synchronous driver does; returns the seconds that it took."""
    began = time.monotonic()
    while True:
        answer = place.reserve(COST, priority, not_before, time.monotonic())
        if isinstance(answer, Admitted):
            place.sent(time.monotonic())
            return time.monotonic() - began
        event = threading.Event()
        if place.arm(event.set):
            event.wait(max(min(answer.at - time.monotonic(), 10.0), 0.0))
        place.disarm()


def tell(place: Place, remaining: float) -> None:
    """The call was answered; so much is left of the minute's tokens."""
    reading = LimitReading("tokens", "", "minute", 60 * RATE, remaining, None)
    place.settle(time.monotonic(), readings=[reading], succeeded=True)
    place.leave(time.monotonic())


def know(store: MemoryStore, account: Account, remaining: float) -> None:
    """Make the first call, whose answer names the limit."""
    first = store.place(store.line(account, "gpt-4o"))
    wait(first)
    tell(first, remaining)


def test_a_lone_call_passes_at_once(store: MemoryStore, account: Account) -> None:
    """Also the first one, of which nothing is known; and without a thread's help."""
    place = store.place(store.line(account, "gpt-4o"))
    assert isinstance(place.reserve(COST, "normal", None, time.monotonic()), Admitted)
    tell(place, 50_000.0)


def test_what_does_not_fit_waits_for_the_refill(store: MemoryStore, account: Account) -> None:
    """Two fit, eight wait for ten a second. None goes before its time."""
    began = time.monotonic()
    know(store, account, 200.0)
    places = [store.place(store.line(account, "gpt-4o")) for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(wait, places))
    assert time.monotonic() - began >= 0.7


def test_in_order_of_arrival(store: MemoryStore, account: Account) -> None:
    """Whoever asked first goes first."""
    know(store, account, -50.0)
    order = []

    def one(number: int) -> None:
        wait(store.place(store.line(account, "gpt-4o")))
        order.append(number)

    threads = []
    for number in range(5):
        threads.append(threading.Thread(target=one, args=(number,)))
        threads[-1].start()
        time.sleep(0.02)
    for thread in threads:
        thread.join(30)
    assert order == sorted(order)


def test_interactive_calls_first(store: MemoryStore, account: Account) -> None:
    """One that comes last, behind five of a batch, is among the first two."""
    know(store, account, -50.0)
    order = []

    def one(priority: Priority) -> None:
        wait(store.place(store.line(account, "gpt-4o")), priority)
        order.append(priority)

    threads = [threading.Thread(target=one, args=(level,)) for level in ["batch"] * 5 + ["interactive"]]
    for thread in threads:
        thread.start()
        time.sleep(0.01)
    for thread in threads:
        thread.join(30)
    assert "interactive" in order[:2]


def test_a_place_that_is_left_is_free_for_the_next(store: MemoryStore, account: Account) -> None:
    """A waiting call is cancelled: the one behind it does not wait for it."""
    know(store, account, -20.0)
    first, second = store.place(store.line(account, "gpt-4o")), store.place(store.line(account, "gpt-4o"))
    assert isinstance(first.reserve(COST, "normal", None, time.monotonic()), NotBefore)
    assert isinstance(second.reserve(COST, "normal", None, time.monotonic()), NotBefore)
    first.leave(time.monotonic())
    assert wait(second) < 5.0
    second.leave(time.monotonic())


def test_a_throttled_call_comes_back_no_earlier_than_it_was_told(store: MemoryStore, account: Account) -> None:
    """And its refusal is learned from."""
    know(store, account, 500.0)
    place = store.place(store.line(account, "gpt-4o"))
    wait(place)
    now = time.monotonic()
    refusal = Throttle(0.3, "body-message", "tokens", "minute", 60 * RATE, 60 * RATE - 10, 100)
    place.settle(now, throttle=refusal, succeeded=False)
    assert wait(place, not_before=now + 0.3) >= 0.29
    tell(place, 100.0)


def test_unpaced_calls_wait_for_nobody(store: MemoryStore, account: Account) -> None:
    """``pacing=False``: the buckets only watch."""
    know(store, account, -5000.0)
    place = store.place(store.line(account, "gpt-4o"), paced=False)
    assert isinstance(place.reserve(COST, "normal", None, time.monotonic()), Admitted)
    place.leave(time.monotonic())


def test_levels_are_told_to_the_gauges(store: MemoryStore, account: Account) -> None:
    """By label and kind."""
    know(store, account, 30_000.0)
    ((label, kind, window, limit, remaining, reset),) = store.levels()
    assert (label, kind, window, limit) == ("gpt-4o", "tokens", "minute", 60 * RATE)
    assert 29_000.0 <= remaining <= 60 * RATE
    assert reset == pytest.approx((60 * RATE - remaining) / RATE)


def test_many_threads(store: MemoryStore, account: Account) -> None:
    """Sixteen threads, four calls each, all through, and few that the server has to refuse."""
    know(store, account, 3000.0)
    began = time.monotonic()
    served, refused = 0, 0
    counting = threading.Lock()

    def take() -> float:
        """What the server has left after one more call; below nothing: it refuses it."""
        nonlocal served, refused
        with counting:
            left = 3000.0 + RATE * (time.monotonic() - began) - 100.0 * (served + 1)
            served += left >= 0
            refused += left < 0
            return left

    def work(_: int) -> None:
        for _ in range(4):
            place = store.place(store.line(account, "gpt-4o"))
            wait(place)
            while (left := take()) < 0:
                now, used, delay = time.monotonic(), 60 * RATE - 100.0 - left, -left / RATE
                refusal = Throttle(delay, "body-message", "tokens", "minute", 60 * RATE, used, 100)
                place.settle(now, throttle=refusal, succeeded=False)
                wait(place, not_before=now + delay)
            tell(place, left)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert served == 64
    assert refused <= 16  # a caller each, at most


@pytest.mark.parametrize("count", [2, 5])
def test_accounts_are_apart(store: MemoryStore, count: int) -> None:
    """What one has used up is not missed by another."""
    accounts = [Account(secrets.token_hex(8), b"payer", "gpt-4o") for _ in range(count)]
    know(store, accounts[0], -50_000.0)
    for account in accounts[1:]:
        assert wait(store.place(store.line(account, "gpt-4o"))) < 1.0


def test_a_delay_of_a_day_does_not_hold_a_process_that_starts_later(
    shared_redis: RedisServer, account: Account
) -> None:
    """One process is told to come back in 86,400 s. Another that begins afterwards is kept away for ten seconds at most, asks, is
    served, and goes on at once; nothing of the day is left in Redis."""
    first = open_redis_store(shared_redis.url)
    refused = first.place(first.line(account, None))
    wait(refused)
    refused.settle(
        time.monotonic(), throttle=Throttle(delay=86_400.0, source="retry-after"), succeeded=False, cause="the refusal"
    )
    refused.leave(time.monotonic())
    time.sleep(0.2)  # the fleet has heard of it
    later = open_redis_store(shared_redis.url)
    began = time.monotonic()
    for _ in range(3):
        place = later.place(later.line(account, None))
        wait(place)
        place.settle(time.monotonic(), succeeded=True)
        place.leave(time.monotonic())
    assert time.monotonic() - began < 40.0  # ten, and whatever else the machine does
    later.close()
    first.close()
