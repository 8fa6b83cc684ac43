"""Starts the processes of a fleet, lets them begin together, and gathers what they report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otel_ratelimit.testing import Limit, ThrottlingServer

ROOT = Path(__file__).parents[2]


@dataclass
class Result:
    """What came of a fleet's run."""

    reports: list[dict[str, Any] | None]
    """By process; None for one that was killed."""
    throttled: int
    late_throttled: int
    served: int
    began: float
    log: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        return sum(len(report["done"]) for report in self.reports if report)

    @property
    def failed(self) -> list[str]:
        return [name for report in self.reports if report for name in report["failed"]]

    @property
    def makespan(self) -> float:
        return max(at for report in self.reports if report for at in report["done"]) - self.began

    @property
    def slowest(self) -> float:
        return max(report["slowest"] for report in self.reports if report)

    def least_share(self) -> float:
        """Of the processes that lived: the fewest calls done when the first one was through, over the mean."""
        ends = [max(report["done"]) for report in self.reports if report]
        until = min(ends)
        counts = [sum(at <= until for at in report["done"]) for report in self.reports if report]
        return min(counts) / (sum(counts) / len(counts))


def run_fleet(
    *,
    store: str,
    limits: list[Limit],
    processes: int = 8,
    calls: int = 30,
    workers: int = 4,
    latency: float = 0.1,
    tokens: int = 100,
    environment: dict[str, str] | None = None,
    meanwhile: Callable[[list[subprocess.Popen[str]]], object] | None = None,
    timeout: float = 240.0,
) -> Result:
    """Run a fleet, half of it sync and half of it async, against one throttling server.

    Args:
        store: where they share, as a URL.
        calls: of each process.
        workers: of each process; calls at a time.
        meanwhile: called with the processes once they have begun.
        timeout: seconds for all of it.
    """
    deadline = time.monotonic() + timeout
    server: ThrottlingServer | None = None
    with ThrottlingServer() as warm_up:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.stores.worker", json.dumps({
                    "warm_up": warm_up.base_url,
                    "flavour": "sync" if number % 2 else "async",
                    "calls": calls,
                    "workers": workers,
                    "tokens": tokens,
                })],
                cwd=ROOT,
                env={**os.environ, "OTEL_RATELIMIT_STORE": store, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(processes)
        ]  # fmt: skip
        try:
            for process in started:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            server = ThrottlingServer(limits, latency=latency)  # its buckets fill from now on
            server.start()
            began = time.time()
            for process in started:
                assert process.stdin is not None
                process.stdin.write(server.base_url + "\n")
                process.stdin.flush()
            if meanwhile is not None:
                meanwhile(started)
            reports = []
            for process in started:
                output, _ = process.communicate(timeout=max(deadline - time.monotonic(), 1.0))
                reports.append(json.loads(output) if process.returncode == 0 else None)
        finally:
            for process in started:
                if process.poll() is None:
                    process.kill()
                process.wait(10)
            if server is not None:
                server.stop()
        requests = server.requests
        first = requests[0].time
        late = sum(request.status == 429 for request in requests if request.time > first + 1.0)
        counts = server.counts
        log = [line for report in reports if report for line in report["log"]]
        return Result(reports, counts.throttled, late, counts.succeeded, began, log)
