"""Cancelled at every await of a throttled call, one after the other: nothing is left behind, wherever it was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio
import openai
import pytest

import otel_ratelimit
from otel_ratelimit._drivers.scope import current
from tests.drivers.conftest import chat
from tests.telemetry_probe import Probe
from tests.trust.in_process import Scripted, asynchronous_client, fail, ok, throttle

Instrumented = Callable[..., Probe]

SCRIPT = (throttle(0.001), fail(500), throttle(0.001), ok())


class Steps:
    """Awaits something and calls ``at_step`` before each time that it is suspended."""

    def __init__(self, awaitable: Awaitable[Any], at_step: Callable[[int], None]) -> None:
        self._inner = awaitable.__await__()
        self._at_step = at_step
        self.count = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        send: Callable[[Any], Any] = self._inner.send
        value: Any = None
        while True:
            try:
                suspended = send(value)
            except StopIteration as stop:
                return stop.value
            self._at_step(self.count)
            self.count += 1
            try:
                value = yield suspended
                send = self._inner.send
            except BaseException as error:  # what the event loop throws in goes where it belongs
                value = error
                send = self._inner.throw


def nothing_left(probe: Probe) -> None:
    """No place held, nobody counted as waiting, no session current, no span open."""
    hooks = otel_ratelimit.RateLimitInstrumentor()._hooks
    assert hooks is not None
    assert hooks.runtime is not None
    for line in hooks.runtime.store._lines.values():  # type: ignore[attr-defined,unused-ignore]
        assert (line.admission.waiting, line.admission.in_flight) == (0, 0)
    assert not hooks.runtime.store._waiting  # type: ignore[attr-defined,unused-ignore]
    assert current.get() is None
    assert probe.total("otel_ratelimit.request.waiting") == 0
    names = probe.names()
    assert names["wait"] == probe.total("otel_ratelimit.wait.duration")
    assert names["retry"] == probe.total("otel_ratelimit.retries")


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    from openai import _base_client

    monkeypatch.setattr(_base_client, "INITIAL_RETRY_DELAY", 0.001)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_at_every_await(backend: str, instrumented: Instrumented) -> None:
    """Through two throttles, a failure and a success, by a cancel scope that closes at step 0, 1, 2, ..."""
    probe = instrumented(max_backoff=0.001, buffer=0.001)

    async def one(cancel_at: int | None) -> tuple[int, bool]:
        # A key for each: what one call learned of its limits is not to hold the next one back.
        async with asynchronous_client(Scripted(*SCRIPT), api_key=f"test {cancel_at}") as client:
            with anyio.CancelScope() as scope:

                def at_step(step: int) -> None:
                    if step == cancel_at:
                        scope.cancel()

                steps = Steps(chat(client), at_step)
                assert (await steps).choices
            return steps.count, scope.cancelled_caught

    async def main() -> None:
        count, _ = await one(None)
        assert count >= 8  # awaits of a throttled call, ours and the SDK's
        cancelled = 0
        for step in range(count):
            _, caught = await one(step)
            cancelled += caught
            nothing_left(probe)
        assert cancelled >= count - 1  # at the last await it may already be over
        assert (await one(None))[1] is False

    anyio.run(main, backend=backend)
    outcomes = [(span.attributes or {})["otel_ratelimit.outcome"] for span in probe.spans("rate_limited")]
    assert set(outcomes) == {"recovered", "cancelled"}


def test_an_interrupt_at_every_step_of_a_synchronous_wait(instrumented: Instrumented, monkeypatch: Any) -> None:
    """KeyboardInterrupt out of the sleep, out of the transport, out of the SDK's own sleep: it passes, nothing is left."""
    from openai import _base_client

    from otel_ratelimit._drivers import sync
    from tests.trust.in_process import client as synchronous_client

    probe = instrumented(max_backoff=0.001)

    def interrupt(*_arguments: object, **_keywords: object) -> Any:
        raise KeyboardInterrupt

    class Interrupted:
        sleep = staticmethod(interrupt)

    for owner, name, replacement in (
        (sync, "_wait", interrupt),
        (Scripted, "answer", interrupt),
        (_base_client, "time", Interrupted),
    ):
        with monkeypatch.context() as patch, synchronous_client(Scripted(*SCRIPT)) as client:
            patch.setattr(owner, name, replacement)
            with pytest.raises(KeyboardInterrupt):
                chat(client)
        nothing_left(probe)
    assert {(span.attributes or {})["otel_ratelimit.outcome"] for span in probe.spans("rate_limited")} == {"cancelled"}


@pytest.mark.parametrize("flavour", ["sync", "asyncio"])
def test_a_call_that_gives_up_leaves_the_queue(flavour: str, instrumented: Instrumented) -> None:
    """Its turn would come too late, or the server says that no wait helps: those behind it do not wait for it."""
    probe = instrumented(max_wait=0.05)
    options = {"api_key": "test"}
    if flavour == "sync":
        from tests.trust.in_process import client as synchronous_client

        with synchronous_client(Scripted(*[throttle(30.0)] * 4), **options) as one:
            for _ in range(4):
                with pytest.raises(openai.RateLimitError):
                    chat(one)
        nothing_left(probe)
        return

    async def call(one: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.RateLimitError):
            await chat(one)

    async def main() -> None:
        async with asynchronous_client(Scripted(*[throttle(30.0)] * 5), **options) as one:
            await call(one)
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(call, one)
        nothing_left(probe)

    anyio.run(main)
    assert probe.total("otel_ratelimit.give_ups", otel_ratelimit_give_up_reason="queue_budget_exceeded") >= 1
