"""Whether the store answers, where the limits are shared beyond this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final

from otel_ratelimit._commands.doctor.check import Check, without_secret
from otel_ratelimit._core.store_url import parse_store

AREA: Final = "store"

TIMEOUT: Final = 2.0
"""Seconds to connect and to answer."""


def check(environment: Mapping[str, str]) -> Iterator[Check]:
    """``memory://`` has nothing to answer; Redis gets a PING."""
    url = environment.get("OTEL_RATELIMIT_STORE", "").strip()
    if not url or url.startswith("memory:"):
        yield Check(AREA, "ok", "memory://: each process keeps the limits for itself")
        return
    try:
        import redis  # noqa: PLC0415 - an extra

        from otel_ratelimit._stores import redis_client  # noqa: PLC0415 - the same
    except ModuleNotFoundError:
        yield Check(AREA, "failure", "the redis package is not installed", "pip install 'otel-ratelimit[redis]'")
        return
    shown = without_secret(url)
    try:
        address = parse_store(url)
        assert address is not None
        client = redis_client.connect(address, TIMEOUT)
        began = time.monotonic()
        client.ping()
        took = time.monotonic() - began
        client.close()
    except (redis.RedisError, ValueError, OSError) as error:
        yield Check(
            AREA,
            "failure",
            f"{shown} does not answer ({type(error).__name__})",
            "calls go on with limits of this process alone",
        )
        return
    yield Check(AREA, "ok", f"{shown} answers after {took * 1000:.1f} ms")
