"""The server otherwise than on a thread: as an ASGI application, in the foreground, and without its extra."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import anyio
import openai
import pytest

import otel_ratelimit.testing
from otel_ratelimit.testing import Fault, Limit, Reply, ThrottlingApp, ThrottlingServer, throttle_reply
from otel_ratelimit.testing.answers import TEXT
from tests.testing.conftest import Caller, chat, httpx

COMMAND = [sys.executable, "-m", "otel_ratelimit.testing"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_as_an_asgi_application_without_sockets(backend: str) -> None:
    """Script, latency, faults, limits and counts are the application's own; it runs on asyncio and on trio."""
    app = ThrottlingApp(
        [Limit("requests", 1)],
        script=[throttle_reply(0.5), Reply.ok(before=0.01), Fault.reset(), Fault.truncate()],
        latency=0.01,
        clock=lambda: 0.0,
    )

    async def main() -> list[str]:
        seen = []
        http_client = openai.DefaultAsyncHttpxClient(transport=httpx.ASGITransport(app))
        async with openai.AsyncOpenAI(
            base_url="http://test/v1", api_key="test", max_retries=0, http_client=http_client
        ) as client:
            for _ in range(6):
                try:
                    seen.append((await chat(client)).choices[0].message.content)
                except openai.RateLimitError:
                    seen.append("throttled")
                except (openai.APIConnectionError, ConnectionResetError):
                    seen.append("broken")  # without a socket there is no transport that would translate it
        return seen

    assert anyio.run(main, backend=backend) == ["throttled", TEXT, "broken", "broken", TEXT, "throttled"]
    assert app.counts.statuses == {429: 2, 200: 2, 0: 2}
    assert app.counts.peak_concurrency == 1


def test_the_applications_lifespan() -> None:
    """Under a server that asks for it: startup and shutdown are acknowledged."""
    app = ThrottlingApp()
    sent: list[str] = []
    asked = iter(["lifespan.startup", "lifespan.shutdown"])

    async def main() -> None:
        async def receive() -> dict[str, str]:
            return {"type": next(asked)}

        async def send(message: object) -> None:
            assert isinstance(message, dict)
            sent.append(message["type"])

        await app({"type": "lifespan"}, receive, send)

    anyio.run(main)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_in_the_foreground() -> None:
    """``python -m otel_ratelimit.testing``: says where it listens, answers, and Ctrl-C ends it with its counts."""
    with subprocess.Popen(
        [*COMMAND, "--port", "0", "--latency", "0", "--requests-per-minute", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            (base_url,) = re.findall(r"^OPENAI_BASE_URL=(http://127\.0\.0\.1:\d+/v1) ", line)
            with openai.OpenAI(base_url=base_url, api_key="test", max_retries=0) as client:
                assert chat(client).choices[0].message.content == TEXT
                chat(client)
                with pytest.raises(openai.RateLimitError):
                    chat(client)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert "3 requests: 2 succeeded, 1 throttled; at most 1 at once" in out
    assert (err, process.returncode) == ("", 0)


def test_in_the_foreground_on_a_port_that_is_taken() -> None:
    """One line and a status, no traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"cannot listen on port {port}: ")
    assert "Traceback" not in done.stderr


def test_in_the_foreground_with_a_limit_that_cannot_be() -> None:
    """A usage error that names it."""
    done = subprocess.run(
        [*COMMAND, "--tokens-per-minute", "-5"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert "Limit.amount must be more than 0" in done.stderr


BLOCKED = """
import sys
sys.modules[{module!r}] = None
import otel_ratelimit.testing.pytest_plugin  # every pytest run does that
try:
    from otel_ratelimit.testing import ThrottlingServer
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "python_multipart"])
def test_without_the_extra(module: str) -> None:
    """The plugin, which every pytest run imports, does not mind; whoever wants the server is told what to install."""
    code = BLOCKED.format(module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith(f"otel_ratelimit.testing needs {module}")
    assert done.stdout.endswith(": pip install 'otel-ratelimit[testing]'\n")


def test_the_public_names() -> None:
    """Sorted as the linter has it, all there, loaded at their first use; anything else is no attribute."""
    names = otel_ratelimit.testing.__all__
    for name in names:
        assert getattr(otel_ratelimit.testing, name) is not None
    assert set(names) <= set(dir(otel_ratelimit.testing))
    with pytest.raises(AttributeError, match="has no attribute 'Throttler'"):
        _ = otel_ratelimit.testing.Throttler


def test_two_servers_side_by_side() -> None:
    """Each with its own port, limits and counts."""
    with ThrottlingServer([Limit("requests", 1, used=1)]) as first, ThrottlingServer() as second:
        assert first.port != second.port
        with pytest.raises(openai.RateLimitError):
            Caller("sync")(first, chat)
        assert Caller("sync")(second, chat).choices
        assert (first.counts.requests, second.counts.requests) == (1, 1)
