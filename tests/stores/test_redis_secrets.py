"""What a Redis gets to see of a call: nothing that is private, in no key, no value and no command."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit.testing import Limit, ThrottlingServer, throttle_reply
from tests.helpers.redis_server import RedisServer
from tests.telemetry_probe import Probe

MARK = "zxq"


@pytest.fixture
def probe() -> Iterator[Probe]:
    probe = Probe()
    yield probe
    otel_ratelimit.uninstrument()
    probe.shutdown()


def test_nothing_private_goes_to_redis(own_redis: RedisServer, probe: Probe) -> None:
    """Throttled calls of a marked key, organisation, project, model, prompt and server path; every command is listened to."""
    seen: list[str] = []
    listening = threading.Event()
    ended = threading.Event()

    def listen() -> None:
        with socket.create_connection(("127.0.0.1", own_redis.port), 0.2) as monitor:
            monitor.sendall(b"MONITOR\r\n")
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    seen.append(monitor.recv(1 << 20).decode("latin-1"))
                    listening.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert listening.wait(10.0)
    otel_ratelimit.instrument(
        policy=Policy(store=own_redis.url), tracer_provider=probe.tracer_provider, meter_provider=probe.meter_provider
    )
    messages: list[Any] = [{"role": "user", "content": f"{MARK} prompt"}]
    with (
        ThrottlingServer([Limit("tokens", 60_000, used=59_800)], script=[throttle_reply(0.05)], latency=0.01) as server,
        openai.OpenAI(
            base_url=f"{server.base_url}/", api_key=f"sk-{MARK}", organization=f"org-{MARK}", project=f"proj-{MARK}"
        ) as client,
    ):

        def ask(_number: int) -> None:
            client.chat.completions.create(model=f"{MARK}-model", messages=messages, max_tokens=100, user=MARK)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(ask, range(12)))
        assert server.counts.throttled
    kept = []
    with own_redis.client() as redis:
        for key in redis.scan_iter():
            kept += [key, redis.execute_command("DUMP", key, NEVER_DECODE=True).decode("latin-1")]
    ended.set()
    listener.join(10.0)
    assert kept
    assert any("EVALSHA" in command for command in seen)
    assert [text for text in (*seen, *kept) if MARK in text] == []
