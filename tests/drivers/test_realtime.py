"""WebSockets: nothing is retried, and what they say of the limits is learned. Against a real WebSocket server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import openai
import pytest

import otel_ratelimit
from tests.telemetry_probe import Probe

sockets = pytest.importorskip("websockets.sync.server", reason="openai[realtime] is not installed")

Instrumented = Callable[..., Probe]

UPDATE = {
    "type": "rate_limits.updated",
    "event_id": "event_1",
    "rate_limits": [
        {"name": "requests", "limit": 1000, "remaining": 999, "reset_seconds": 0.06},
        {"name": "tokens", "limit": 50_000, "remaining": 49_000, "reset_seconds": 1.2},
    ],
}
FAILED = {"type": "error", "event_id": "event_2", "error": {"type": "rate_limit_error", "message": "slow"}}


@pytest.fixture
def port() -> Iterator[int]:
    """A server that answers whatever comes with an update and an error."""

    def talk(connection: Any) -> None:
        for _ in connection:
            connection.send(json.dumps(UPDATE))
            connection.send(json.dumps(FAILED))

    with sockets.serve(talk, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


def options_for(port: int) -> dict[str, Any]:
    """Of a client. Older SDKs make every WebSocket address a wss one, unless it is given by itself."""
    address = f"127.0.0.1:{port}/v1"
    return {"base_url": f"http://{address}", "websocket_base_url": f"ws://{address}", "api_key": "test"}


@pytest.mark.feature("realtime: rate_limits.updated feeds the buckets and the gauges")
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("way", ["with", "enter"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rate_limits_updated_feeds_the_gauges(
    port: int, instrumented: Instrumented, asynchronous: bool, way: str
) -> None:
    """However the connection is opened; the events come as the SDK made them, and no span comes of it."""
    probe = instrumented()
    options = options_for(port)

    def connect(client: Any) -> Any:
        realtime = client.realtime if hasattr(client, "realtime") else client.beta.realtime
        return realtime.connect(model="gpt-realtime")

    if asynchronous:

        async def main() -> list[str]:
            async with openai.AsyncOpenAI(**options) as client:
                connection = await connect(client).enter() if way == "enter" else None
                if connection is None:
                    async with connect(client) as connection:
                        await connection.send({"type": "response.create"})
                        return [(await connection.recv()).type, (await connection.recv()).type]
                await connection.send({"type": "response.create"})
                seen = [(await connection.recv()).type, (await connection.recv()).type]
                await connection.close()
                return seen

        seen = anyio.run(main)
    else:
        with openai.OpenAI(**options) as client:
            if way == "enter":
                connection = connect(client).enter()
                connection.send({"type": "response.create"})
                seen = [connection.recv().type, connection.recv().type]
                connection.close()
            else:
                with connect(client) as connection:
                    connection.send({"type": "response.create"})
                    seen = [connection.recv().type, connection.recv().type]
    assert seen == ["rate_limits.updated", "error"]
    (limit,) = probe.points("otel_ratelimit.tokens.limit")
    assert limit.value == 50_000
    assert limit.attributes["gen_ai.request.model"] == "gpt-realtime"
    assert limit.attributes["gen_ai.operation.name"] == "realtime"
    (remaining,) = probe.points("otel_ratelimit.tokens.remaining")
    assert 49_000 <= remaining.value <= 50_000
    assert probe.spans() == []


def test_a_passive_hook_learns_nothing(port: int, instrumented: Instrumented) -> None:
    """After ``uninstrument`` the SDK alone has the connection."""
    probe = instrumented()
    otel_ratelimit.uninstrument()
    with openai.OpenAI(**options_for(port)) as client:
        realtime: Any = client.realtime if hasattr(client, "realtime") else client.beta.realtime
        with realtime.connect(model="gpt-realtime") as connection:
            connection.send({"type": "response.create"})
            assert connection.recv().type == "rate_limits.updated"
    assert probe.points("otel_ratelimit.tokens.limit") == []
