"""Calls that a signal handler, a finaliser or a logging handler makes in the middle of another one's, in the same thread.

Such a call passes through as if uninstrumented: it never waits for a lock that its own thread holds, and never meets half a
state.
"""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import openai
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_ratelimit
from otel_ratelimit._core.queueing.admission import Admission
from otel_ratelimit._stores.memory import MemoryStore
from tests.drivers.conftest import chat
from tests.trust import storm
from tests.trust.in_process import Scripted, client, ok, throttle

STEPS = ("join_fast", "join", "check", "settle_fast", "settle", "requeue", "leave", "take_wakes")
"""What is done under the store's lock."""


@pytest.fixture(autouse=True)
def _instrumented() -> Iterator[None]:
    otel_ratelimit.instrument(policy=storm.POLICY, meter_provider=MeterProvider([InMemoryMetricReader()]))
    yield
    otel_ratelimit.uninstrument()


def nested_once(function: Callable[..., Any], call: Callable[[], Any], answers: list[Any]) -> Callable[..., Any]:
    """``function``, which makes another call of its thread's own the first time that it runs."""

    def nested(*args: Any, **keywords: Any) -> Any:
        if not answers:
            answers.append(None)
            answers[0] = call()
        return function(*args, **keywords)

    return nested


@pytest.mark.parametrize("step", STEPS)
def test_a_call_in_the_middle_of_a_change_passes_through(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the beginning of each step under the lock: it is answered, the outer call goes on, nothing is left."""
    answers: list[Any] = []
    with client(Scripted(throttle(0.002), ok(storm.NEARLY_EMPTY)), api_key=f"step {step}") as one:
        inner = client(Scripted(ok()), api_key=f"step {step}")
        patched = nested_once(getattr(Admission, step), lambda: chat(inner), answers)
        monkeypatch.setattr(Admission, step, patched)
        for _ in range(3):
            assert chat(one).choices
        inner.close()
    if step != "leave":  # a call that ends well has nothing to give back
        assert answers[0].choices
    assert storm.left().nothing


def test_a_logging_handler_that_makes_a_call() -> None:
    """On our own log records: of waits, and of give-ups."""
    answers: list[Any] = []

    class Caller(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            answers.append(chat(inner))

    handler = Caller()
    logger = logging.getLogger("otel_ratelimit")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with client(Scripted(throttle(0.002), ok())) as one, client(Scripted(ok())) as inner:
            assert chat(one).choices
            with client(Scripted(throttle(60.0)), api_key="another") as hopeless, pytest.raises(openai.RateLimitError):
                chat(hopeless)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert len(answers) >= 2
    assert storm.left().nothing


def test_a_finaliser_that_makes_a_call_in_the_middle_of_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage may be collected at any allocation, under the lock too."""
    answers: list[Any] = []

    class Dying:
        def __del__(self) -> None:
            answers.append(chat(inner))

    def drop() -> None:
        dying = Dying()
        dying.itself = dying  # type: ignore[attr-defined]
        del dying
        gc.collect()

    with client(Scripted(ok())) as one, client(Scripted(ok())) as inner:
        patched = nested_once(Admission.join, drop, [])
        monkeypatch.setattr(Admission, "join", patched)
        assert chat(one).choices
    assert answers[0].choices
    assert storm.left().nothing


@pytest.mark.skipif(not hasattr(signal, "SIGVTALRM"), reason="no such timer on this platform")
def test_a_signal_handler_that_makes_calls_every_few_milliseconds() -> None:
    """Every 3.7 ms of this process's processor time; 300 calls of the handler's, none inside of another of them."""
    nested: list[Any] = []

    def handler(_number: int, _frame: FrameType | None) -> None:
        if handler_busy.acquire(blocking=False):
            try:
                nested.append(chat(inner))
            finally:
                handler_busy.release()

    handler_busy = threading.Lock()
    before = signal.signal(signal.SIGVTALRM, handler)
    outer = 0
    with client(Scripted(ok()), api_key="timer") as one, client(Scripted(ok()), api_key="timer") as inner:
        chat(one)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0037, 0.0037)
        end = time.monotonic() + 60
        try:
            while len(nested) < 300 and time.monotonic() < end:
                chat(one)
                outer += 1
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
            signal.signal(signal.SIGVTALRM, before)
    assert len(nested) >= 300
    assert outer > 0
    assert storm.left().nothing


def test_the_lock_knows_its_owner() -> None:
    """Another thread is not the one that was interrupted: it waits as ever."""
    store = MemoryStore()
    seen: list[bool] = []
    with store._lock:
        assert store.owned()
        thread = threading.Thread(target=lambda: seen.append(store.owned()))
        thread.start()
        thread.join()
    assert seen == [False]
    assert not store.owned()
