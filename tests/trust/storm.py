"""Interrupts at random moments of random calls, and what is left afterwards: ``python -m tests.trust.storm --interrupts 10000``.

Real signals in the main thread (KeyboardInterrupt), asynchronous exceptions in other threads, cancellations of tasks. The
server is a function, so that most of the time passes in the plugin and the SDK; it refuses a part, and is nearly empty, so
that calls wait for their turn as well.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import itertools
import os
import random
import signal
import threading
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any

import openai

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit._drivers.scope import current
from tests.drivers.conftest import chat
from tests.trust.in_process import Answer, Scripted, asynchronous_client, client, ok, throttle

POLICY = Policy(buffer=0.0, max_backoff=0.002, max_wait=0.5)
NEARLY_EMPTY = {
    "content-type": "application/json",
    "x-ratelimit-limit-requests": "100000",
    "x-ratelimit-remaining-requests": "30",
    "x-ratelimit-reset-requests": "59.9s",
}


class Interrupt(Exception):
    """Thrown into other threads. An ``Exception``, as many libraries throw: what the SDK and we catch must not keep it."""


class Refusing(Scripted):
    """Every third request is refused, the others are answered by a server that is nearly empty."""

    def __init__(self) -> None:
        super().__init__(ok())
        self._numbers = itertools.count()

    def answer(self) -> Any:
        answer: Answer = throttle(0.002) if next(self._numbers) % 3 == 0 else ok(NEARLY_EMPTY)
        return answer()


@dataclass
class Left:
    """What is left of all calls."""

    in_flight: int
    queued: int
    waiting: int
    locked: bool
    session: bool

    @property
    def nothing(self) -> bool:
        return self == Left(0, 0, 0, False, False)


def left() -> Left:
    """Look, from another thread, after what was dropped has been collected."""
    gc.collect()
    hooks = otel_ratelimit.RateLimitInstrumentor()._hooks
    assert hooks is not None
    assert hooks.runtime is not None
    store: Any = hooks.runtime.store
    free: list[bool] = []

    def try_lock() -> None:
        free.append(store._lock.acquire(timeout=5.0))
        if free[0]:
            store._lock.release()

    thread = threading.Thread(target=try_lock)
    thread.start()
    thread.join()
    if free[0]:
        with store._lock:
            store._take_dropped()
    lines = [line.admission for line in store._lines.values()]
    return Left(
        sum(admission.in_flight for admission in lines),
        sum(admission.waiting for admission in lines),
        len(store._waiting),
        not free[0],
        current.get() is not None,
    )


def by_signals(interrupts: int, seed: int) -> int:
    """KeyboardInterrupt in the main thread, at random moments of synchronous calls. Returns how many calls were interrupted."""
    draw = random.Random(seed)
    armed = threading.Event()
    over = threading.Event()
    hits = 0

    def handler(_number: int, _frame: FrameType | None) -> None:
        nonlocal hits
        if armed.is_set():
            armed.clear()
            hits += 1
            raise KeyboardInterrupt

    def send() -> None:
        while not over.is_set():
            if armed.wait(0.1):
                time.sleep(draw.random() ** 2 * 0.004)
                os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with client(Refusing(), api_key="signals", max_retries=2) as one:
            chat(one)  # imports, which no interrupt must break: that would be Python's to mend
            while hits < interrupts:
                try:
                    armed.set()
                    chat(one)
                    armed.clear()
                except KeyboardInterrupt:
                    continue
                except openai.RateLimitError:
                    armed.clear()
    finally:
        armed.clear()
        over.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    return hits


def by_exceptions(interrupts: int, seed: int, threads: int = 4) -> int:
    """An exception thrown into threads that wait for each other's turns. Returns how many calls were interrupted."""
    draw = random.Random(seed)
    hits = itertools.count()
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                chat(one)
            except Interrupt:
                next(hits)
            except openai.OpenAIError:  # a refusal; or what the SDK made of the interrupt
                continue

    def shielded() -> None:
        while not over.is_set():
            try:
                work()
            except Interrupt:
                next(hits)

    with client(Refusing(), api_key="exceptions", max_retries=2) as one:
        chat(one)
        workers = [threading.Thread(target=shielded) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for _ in range(interrupts):
            time.sleep(draw.random() ** 2 * 0.004)
            ident = draw.choice(workers).ident
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident or 0), ctypes.py_object(Interrupt))
        over.set()
        for worker in workers:
            worker.join()
    return next(hits)


def by_cancellation(interrupts: int, seed: int) -> int:
    """Tasks that are cancelled at random steps. Returns how many were."""
    draw = random.Random(seed)

    async def main() -> int:
        cancelled = 0
        async with asynchronous_client(Refusing(), api_key="tasks", max_retries=2) as one:
            while cancelled < interrupts:
                tasks = [asyncio.ensure_future(chat(one)) for _ in range(8)]
                for _ in range(draw.randrange(12)):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
                cancelled += sum(isinstance(end, asyncio.CancelledError) for end in ends)
        return cancelled

    return asyncio.run(main())


STORMS = {"signals": by_signals, "exceptions": by_exceptions, "cancellations": by_cancellation}


def main() -> None:
    """Run and print; the exit code is 1 if anything is left."""
    parser = argparse.ArgumentParser(prog="python -m tests.trust.storm")
    parser.add_argument("--interrupts", type=int, default=10_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    otel_ratelimit.instrument(policy=POLICY)
    for name, storm in STORMS.items():
        began = time.monotonic()
        hits = storm(options.interrupts, options.seed)
        found = left()
        print(f"{name}: {hits} interrupted in {time.monotonic() - began:.0f} s; left: {found}")
        if not found.nothing:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
