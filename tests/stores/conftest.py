"""A Redis for the whole session, and what talks to it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from otel_ratelimit._stores.memory import Account
from otel_ratelimit._stores.redis_client import Script
from tests.helpers import redis_server
from tests.helpers.redis_server import RedisServer


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    if redis_server.PROGRAM is None:
        pytest.skip(redis_server.MISSING)
    with RedisServer() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """One that a test may kill."""
    if redis_server.PROGRAM is None:
        pytest.skip(redis_server.MISSING)
    with RedisServer() as server:
        yield server


@pytest.fixture
def script(shared_redis: RedisServer) -> Iterator[Script]:
    script = Script(shared_redis.url, timeout=20.0)
    yield script
    script.close()


@pytest.fixture
def keys(script: Script) -> list[str]:
    """Of an account that no other test has."""
    return script.keys_of(Account(secrets.token_hex(8), b"payer", "gpt-4o"))
