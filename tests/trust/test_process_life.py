"""The process around a wait: forked, interrupted, ended; and what hangs beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit.testing import ThrottlingServer, throttle_reply
from tests.drivers.conftest import Caller, chat
from tests.telemetry_probe import Probe

Instrumented = Callable[..., Probe]

PROGRAM = """
import sys, threading, time
import otel_ratelimit.auto
import openai

def call():
    client = openai.OpenAI(base_url=sys.argv[1], api_key="test")
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])

async def call_async():
    client = openai.AsyncOpenAI(base_url=sys.argv[1], api_key="test")
    await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
"""


def run(ending: str, server: ThrottlingServer, *, interrupt: bool = False) -> tuple[int, str, float]:
    """A program that ends while a call waits half a minute: its exit code, what it wrote, and how long that took."""
    server.script([throttle_reply(30.0)])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + ending, server.base_url], stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        deadline = time.monotonic() + 60
        while not server.counts.throttled and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)  # it waits now
        began = time.monotonic()
        if interrupt:
            program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=25)
        return program.returncode, errors, time.monotonic() - began
    finally:
        if program.poll() is None:
            program.kill()
            program.wait()


def test_the_interpreter_exits_while_a_thread_waits(server: ThrottlingServer) -> None:
    """A daemon thread in its wait holds nothing up and says nothing."""
    ending = "threading.Thread(target=call, daemon=True).start()\ntime.sleep(8)\n"
    code, errors, _ = run(ending, server)
    assert code == 0
    assert "Traceback" not in errors
    assert "internal fault" not in errors


def test_the_loop_is_stopped_while_a_task_waits(server: ThrottlingServer) -> None:
    """``asyncio.run`` cancels what is left, and the program ends."""
    ending = """
import asyncio
async def main():
    task = asyncio.create_task(call_async())
    await asyncio.sleep(8)
asyncio.run(main())
"""
    code, errors, _ = run(ending, server)
    assert code == 0
    assert "internal fault" not in errors


@pytest.mark.parametrize("ending", ["call()\n", "import asyncio\nasyncio.run(call_async())\n"], ids=["sync", "asyncio"])
def test_ctrl_c(ending: str, server: ThrottlingServer) -> None:
    """KeyboardInterrupt ends the program out of a wait, with the traceback that everybody knows."""
    code, errors, took = run(ending, server, interrupt=True)
    assert code != 0
    assert took < 20
    assert "KeyboardInterrupt" in errors
    assert "internal fault" not in errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_fork_during_a_wait(instrumented: Instrumented) -> None:
    """The child calls with a queue of its own; the parent's wait ends as it would have."""
    probe = instrumented()
    with ThrottlingServer() as server:
        server.script([throttle_reply(1.5)])
        answers: list[Any] = []

        def call() -> None:
            with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
                answers.append(chat(client))

        thread = threading.Thread(target=call)
        thread.start()
        while not server.counts.throttled:
            time.sleep(0.01)
        time.sleep(0.1)
        child = os.fork()
        if child == 0:
            try:
                with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
                    chat(client)
                os._exit(0)
            finally:
                os._exit(1)
        end = time.monotonic() + 30
        done = status = 0
        while not done and time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.02)
        if not done:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert done
        assert os.waitstatus_to_exitcode(status) == 0
        thread.join(30)
        assert answers
        assert probe.names()["throttle"] == 1


class _Hanging(SpanExporter):
    """Takes a span and does not come back."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.asked = threading.Event()

    def export(self, spans: Any) -> SpanExportResult:
        self.asked.set()
        self.let_go.wait(60)
        return SpanExportResult.SUCCESS


class _Failing(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        raise OSError("collector")


@pytest.mark.parametrize("kind", ["hangs", "raises"])
def test_an_exporter_that(kind: str, caller: Caller, server: ThrottlingServer) -> None:
    """Behind a batch processor: throttled calls wait and succeed as ever."""
    exporter = _Hanging() if kind == "hangs" else _Failing()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=20))
    otel_ratelimit.instrument(policy=Policy(), tracer_provider=provider)
    for _ in range(3):
        server.script([throttle_reply(0.02)])
        assert caller(server, chat).choices
    if isinstance(exporter, _Hanging):
        assert exporter.asked.wait(10)
        exporter.let_go.set()
    provider.shutdown()
