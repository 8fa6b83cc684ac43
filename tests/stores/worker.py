"""The processes of a fleet, for tests and benchmarks: ``python -m tests.stores.worker WARM_UP_ADDRESS``.

Imports everything, instruments, says "ready", and waits for a line with the server's address and a plan for each process. Then it
forks them all, as a server that loads the program before it forks its workers does; each makes its calls and writes what came of
them as JSON. Real SDK, real plugin, told by its environment where the store is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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
        self.left: int = plan["calls"]
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


def report(worker: Worker, log: Log, began: float) -> dict[str, Any]:
    """What came of it, for JSON."""
    return {
        "began": began,
        "done": worker.done,
        "failed": worker.failed,
        "slowest": worker.slowest,
        "log": log.lines,
        "processor": time.process_time(),
        "store": type(RateLimitInstrumentor()._hooks.runtime.store).__name__,  # type: ignore[union-attr]
    }


def child(server: str, plan: dict[str, Any], log: Log) -> None:
    """One process of the fleet."""
    worker = Worker(plan)
    began = time.time()
    worker.run(server)
    Path(plan["output"]).write_text(json.dumps(report(worker, log, began)))
    otel_ratelimit.uninstrument()


def main() -> None:
    log = Log()
    logging.getLogger("otel_ratelimit").addHandler(log)
    otel_ratelimit.instrument()
    # Half of the SDK is imported by the first call only: those go elsewhere, and are none of ours.
    with otel_ratelimit.use(Policy(mode="off")):
        for flavour in ("sync", "async"):
            Worker({"flavour": flavour, "calls": 1, "workers": 1}).run(sys.argv[1])
    print("ready", flush=True)
    order = json.loads(sys.stdin.readline())
    processes = []
    for plan in order["plans"]:
        process = os.fork()
        if process == 0:
            status = 1
            try:
                child(order["server"], plan, log)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        processes.append(process)
    print(json.dumps(processes), flush=True)
    for process in processes:
        os.waitpid(process, 0)


if __name__ == "__main__":
    main()
