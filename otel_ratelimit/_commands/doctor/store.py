"""Whether the store answers, where the limits are shared beyond this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from otel_ratelimit._commands.doctor.check import Check, without_secret

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
    except ModuleNotFoundError:
        yield Check(AREA, "failure", "the redis package is not installed", "pip install 'otel-ratelimit[redis]'")
        return
    shown = without_secret(url)
    parts = urlsplit(url)
    if "+" in parts.scheme:
        yield Check(AREA, "note", f"{shown} is not asked: only a single server is")
        return
    # The prefix of the keys is ours, and no business of the client.
    query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name != "prefix"])
    try:
        client = redis.Redis.from_url(
            urlunsplit(parts._replace(query=query)), socket_connect_timeout=TIMEOUT, socket_timeout=TIMEOUT
        )
        with client:
            began = time.monotonic()
            client.ping()
            took = time.monotonic() - began
            version = client.info("server").get("redis_version", "of unknown version")
    except (redis.RedisError, ValueError, OSError) as error:
        yield Check(
            AREA,
            "failure",
            f"{shown} does not answer ({type(error).__name__})",
            "calls go on with limits of this process alone",
        )
        return
    yield Check(AREA, "ok", f"{shown} answers after {took * 1000:.1f} ms (server {version})")
