"""Whatever becomes of Redis, calls go on, with one warning and every failure counted; and it comes back by itself."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_ratelimit._core.fleet.limiter import FleetLimiter
from otel_ratelimit._stores.memory import Account
from otel_ratelimit._stores.redis import RedisStore
from tests.helpers import redis_server
from tests.helpers.eventually import eventually
from tests.helpers.redis_server import RedisServer, free_port
from tests.stores.test_both_stores import know, open_redis_store, tell, wait

SLOW = 2.0
"""Seconds. Far beyond the 50 ms that a call may wait for Redis, and far below any wait for a limit here: machines are shared."""


class Counted(Counter[str]):
    """What the telemetry would count."""

    def __call__(self, kind: str, times: int) -> None:
        self[kind] += times

    def total_of(self, *kinds: str) -> int:
        return sum(self[kind] for kind in kinds)


@pytest.fixture
def opened() -> Iterator[Callable[..., tuple[RedisStore, Counted]]]:
    stores: list[RedisStore] = []
    counts: list[Counted] = []

    def opened(url: str, **keywords: Any) -> tuple[RedisStore, Counted]:
        store = open_redis_store(url, **keywords)
        stores.append(store)
        counted = Counted()
        counts.append(counted)
        store.count_failures(counted)
        return store, counted

    yield opened
    for store in stores:
        store.close()
    assert not any(counted["internal"] for counted in counts)


Opened = Callable[..., tuple[RedisStore, Counted]]


@pytest.fixture
def account() -> Account:
    return Account(secrets.token_hex(8), b"payer", "gpt-4o")


def one_call(store: RedisStore, account: Account, remaining: float = 50_000.0) -> float:
    """Make a call; returns the seconds that it waited."""
    place = store.place(store.line(account, "gpt-4o"))
    seconds = wait(place)
    tell(place, remaining)
    return seconds


def shares(store: RedisStore) -> bool:
    """Whether the fleet has answered it."""
    limits = [line.admission.limits for line in store._lines.values()]
    return any(isinstance(one, FleetLimiter) and one.lease is not None for one in limits)


def members(server: RedisServer) -> int:
    """How many processes are in the fleet, over all accounts."""
    with server.client() as client:
        return sum(client.zcard(key) for key in client.scan_iter("*:processes"))


def test_redis_is_down_at_the_start(opened: Opened, account: Account, caplog: pytest.LogCaptureFixture) -> None:
    """Fifty calls at once: all through by the memory's rule, one warning, every failure counted; no address in the log."""
    port = free_port()
    store, counted = opened(f"redis://:very-secret@127.0.0.1:{port}/0")
    with caplog.at_level(logging.INFO, logger="otel_ratelimit"):
        threads = [threading.Thread(target=one_call, args=(store, account)) for _ in range(50)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert time.monotonic() - began < SLOW + 3.0
        eventually(lambda: counted["connection"] >= 2)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "connection" in warnings[0]
    assert "secret" not in caplog.text
    assert str(port) not in caplog.text
    assert "very-secret" not in repr(vars(store)) + repr(vars(store._script)) + repr(vars(store._courier))


def test_redis_is_lost_and_comes_back_empty(
    own_redis: RedisServer, opened: Opened, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed between two calls, and started again: no call fails or stands still, and the fleet forms anew by itself."""
    store, counted = opened(own_redis.url)
    caplog.set_level(logging.INFO, logger="otel_ratelimit")
    know(store, account, 50_000.0)
    eventually(lambda: members(own_redis) == 1)
    own_redis.kill()
    for _ in range(20):
        assert one_call(store, account) < SLOW
        time.sleep(0.01)
    eventually(lambda: counted["connection"] >= 1)
    own_redis.start()
    eventually(lambda: members(own_redis) == 1)
    assert one_call(store, account) < SLOW
    eventually(lambda: "shared through Redis again" in caplog.text)
    assert sum(record.levelno == logging.WARNING for record in caplog.records) == 1


def test_redis_stands_still(own_redis: RedisServer, opened: Opened, account: Account) -> None:
    """It takes connections and answers nothing, as in a failover or under a slow command: the same."""
    store, counted = opened(own_redis.url)
    know(store, account, 1000.0)
    eventually(lambda: members(own_redis) == 1)
    own_redis.freeze()
    try:
        for number in range(5):
            assert one_call(store, account, 900.0 - 100.0 * number) < SLOW
        eventually(lambda: counted["timeout"] >= 1)
    finally:
        own_redis.thaw()
    began = counted.total_of("timeout", "connection")
    eventually(lambda: not store._courier._down)
    assert counted.total_of("timeout", "connection") >= began


class SlowRoad:
    """Passes bytes on to a port, each portion ``seconds`` later, until closed."""

    def __init__(self, port: int, seconds: float) -> None:
        self.target = port
        self.seconds = seconds
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                self.sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self.seconds)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for one in (self.listener, *self.sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def test_redis_is_slow(shared_redis: RedisServer, opened: Opened, account: Account) -> None:
    """A tenth of a second each way: no call waits for that, the process goes on alone. Quick again, it shares again."""
    road = SlowRoad(shared_redis.port, 0.1)
    try:
        store, counted = opened(f"redis://127.0.0.1:{road.port}")
        for _ in range(10):
            assert one_call(store, account) < SLOW
        eventually(lambda: counted["timeout"] >= 2)
        road.seconds = 0.0
        eventually(lambda: shares(store))
    finally:
        road.close()


def test_redis_is_full(own_redis: RedisServer, opened: Opened, account: Account) -> None:
    """It refuses every write."""
    store, counted = opened(own_redis.url)
    with own_redis.client() as client:
        client.config_set("maxmemory", "1")
    for _ in range(5):
        assert one_call(store, account) < SLOW
    eventually(lambda: counted["response"] >= 1)
    with own_redis.client() as client:
        client.config_set("maxmemory", "0")
    eventually(lambda: members(own_redis) == 1)


def test_redis_was_emptied(own_redis: RedisServer, opened: Opened, account: Account) -> None:
    """State and scripts are gone, the connection holds: no failure at all."""
    store, counted = opened(own_redis.url)
    know(store, account, 50_000.0)
    eventually(lambda: members(own_redis) == 1)
    with own_redis.client() as client:
        client.flushall()
        client.script_flush()
    for _ in range(5):
        assert one_call(store, account) < SLOW
    eventually(lambda: members(own_redis) == 1)
    assert counted["response"] == 0


def test_a_wrong_password(opened: Opened, account: Account, caplog: pytest.LogCaptureFixture) -> None:
    """Counted as what it is; the password stays out of the log. With the right one it works."""
    if redis_server.PROGRAM is None:
        pytest.skip(redis_server.MISSING)
    with RedisServer("--requirepass", "very-secret") as server:
        wrong, counted = opened(f"redis://:not-{'very-secret'}@127.0.0.1:{server.port}/0")
        assert one_call(wrong, account) < SLOW
        eventually(lambda: counted["response"] >= 1)
        right, fine = opened(f"redis://:very-secret@127.0.0.1:{server.port}/0")
        one_call(right, account)
        eventually(lambda: shares(right))
        assert fine["response"] == 0
    assert "very-secret" not in caplog.text


def test_two_settings_are_reported_once(
    shared_redis: RedisServer, opened: Opened, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """By the process that comes to a fleet of others; both are named."""
    first, _ = opened(shared_redis.url, settings="buffer=1")
    one_call(first, account)
    eventually(lambda: shares(first))
    second, _ = opened(shared_redis.url, settings="buffer=2")
    with caplog.at_level(logging.WARNING, logger="otel_ratelimit"):
        for _ in range(3):
            one_call(second, account)
        eventually(lambda: "other settings" in caplog.text)
    (record,) = [record for record in caplog.records if "other settings" in record.getMessage()]
    assert "here: buffer=2; there: buffer=1" in record.getMessage()


def test_a_process_that_ends_says_goodbye(shared_redis: RedisServer, opened: Opened, account: Account) -> None:
    """Its place is free at once, not after seconds; and its thread is gone."""
    before = members(shared_redis)
    store, _ = opened(shared_redis.url)
    one_call(store, account)
    eventually(lambda: members(shared_redis) == before + 1)
    store.close()
    assert members(shared_redis) == before
    thread = store._courier._thread
    assert thread is not None
    thread.join(5)
    assert not thread.is_alive()
    assert one_call(store, account) < SLOW  # what is still under way goes on


FORKED = """
import os, sys, time
from tests.stores.test_both_stores import open_redis_store, know, wait, tell
from otel_ratelimit._stores.memory import Account

store = open_redis_store(sys.argv[1])
account = Account(sys.argv[2], b"payer", "gpt-4o")

def call():
    place = store.place(store.line(account, "gpt-4o"))
    wait(place)
    tell(place, 1000.0)

def connections():
    return store._script._client.connection_pool

def join():
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if any(line.admission.limits.lease is not None for line in store._lines.values()):
            return
        time.sleep(0.01)

call()
join()
parent = (store._courier._process, connections())
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            call()
            call()
            join()
            apart = store._courier._process != parent[0] and connections() is not parent[1]
            status = 0 if apart and not store._courier._down else 2
        finally:
            os._exit(status)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
for _ in range(3):
    call()
    time.sleep(0.05)
print(codes, store._courier._down, connections() is parent[1])
store.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_no_connection_is_shared_over_a_fork(shared_redis: RedisServer, account: Account) -> None:
    """Each child has a name and a connection of its own; the parent's goes on unharmed."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED, shared_redis.url, account.server],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout == "[0, 0, 0] False True\n", done.stderr
