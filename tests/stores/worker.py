"""One process of a fleet, for tests and benchmarks: ``python -m tests.stores.worker '{"...": ...}'``.

Says "ready" once everything is imported, waits for the address of the server, makes its calls, and prints what came of them as JSON. Real SDK, real
plugin, told by its environment where the store is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

import otel_ratelimit
from otel_ratelimit import Policy, RateLimitInstrumentor

MESSAGES: Any = [{"role": "user", "content": "Say hello."}]


class Log(logging.Handler):
    """Keeps the warnings of ours."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Worker:
    """The calls of one process: ``calls`` of them, ``workers`` at a time, sync or async."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.done: list[float] = []
        self.failed: list[str] = []
        self.slowest = 0.0
        self.left = plan["calls"]
        self.lock = threading.Lock()

    def take(self) -> bool:
        with self.lock:
            self.left -= 1
            return self.left >= 0

    def finished(self, began: float, error: Exception | None) -> None:
        with self.lock:
            if error is None:
                self.done.append(time.time())
                self.slowest = max(self.slowest, time.time() - began)
            else:
                self.failed.append(type(error).__name__)

    def options(self) -> dict[str, Any]:
        return {"model": "gpt-4o", "messages": MESSAGES, "max_tokens": self.plan.get("tokens", 100)}

    def run(self, server: str) -> None:
        client_options = {"base_url": server, "api_key": self.plan.get("key", "test-key")}
        if self.plan["flavour"] == "async":
            asyncio.run(self._run_async(client_options))
            return
        with openai.OpenAI(**client_options) as client, ThreadPoolExecutor(self.plan["workers"]) as pool:
            for future in [pool.submit(self._work, client) for _ in range(self.plan["workers"])]:
                future.result()

    def _work(self, client: openai.OpenAI) -> None:
        while self.take():
            began = time.time()
            try:
                client.chat.completions.create(**self.options())
            except Exception as error:
                self.finished(began, error)
            else:
                self.finished(began, None)

    async def _run_async(self, client_options: dict[str, Any]) -> None:
        async with openai.AsyncOpenAI(**client_options) as client:
            await asyncio.gather(*(self._work_async(client) for _ in range(self.plan["workers"])))

    async def _work_async(self, client: openai.AsyncOpenAI) -> None:
        while self.take():
            began = time.time()
            try:
                await client.chat.completions.create(**self.options())
            except Exception as error:
                self.finished(began, error)
            else:
                self.finished(began, None)


def main() -> None:
    plan = json.loads(sys.argv[1])
    log = Log()
    logging.getLogger("otel_ratelimit").addHandler(log)
    otel_ratelimit.instrument()
    # Half of the SDK is imported by the first call only: that one goes elsewhere, and is none of ours.
    with otel_ratelimit.use(Policy(mode="off")):
        Worker({**plan, "calls": 1, "workers": 1}).run(plan["warm_up"])
    print("ready", flush=True)
    server = sys.stdin.readline().strip()
    worker = Worker(plan)
    began = time.time()
    worker.run(server)
    print(
        json.dumps(
            {
                "began": began,
                "done": worker.done,
                "failed": worker.failed,
                "slowest": worker.slowest,
                "log": log.lines,
                "processor": time.process_time(),
                "store": type(RateLimitInstrumentor()._hooks.runtime.store).__name__,  # type: ignore[union-attr]
            }
        ),
        flush=True,
    )
    otel_ratelimit.uninstrument()


if __name__ == "__main__":
    main()
