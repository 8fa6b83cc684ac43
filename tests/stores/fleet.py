"""Starts the processes of a fleet, lets them begin together, and gathers what they report."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
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
        return float(max(at for report in self.reports if report for at in report["done"])) - self.began

    @property
    def slowest(self) -> float:
        return float(max(report["slowest"] for report in self.reports if report))

    def least_share(self) -> float:
        """Of the processes that lived: the fewest calls done when the first one was through, over the mean."""
        ends = [max(report["done"]) for report in self.reports if report]
        until = min(ends)
        counts: list[int] = [sum(at <= until for at in report["done"]) for report in self.reports if report]
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
    meanwhile: Callable[[list[int]], object] | None = None,
    timeout: float = 240.0,
) -> Result:
    """Run a fleet, half of it sync and half of it async, against one throttling server.

    Args:
        store: where they share, as a URL.
        calls: of each process.
        workers: of each process; calls at a time.
        meanwhile: called with the processes' ids once they have begun.
        timeout: seconds for all of it.
    """
    deadline = time.monotonic() + timeout
    with tempfile.TemporaryDirectory() as directory, ThrottlingServer() as warm_up:
        plans = [
            {
                "flavour": "sync" if number % 2 else "async",
                "calls": calls,
                "workers": workers,
                "tokens": tokens,
                "output": f"{directory}/{number}",
            }
            for number in range(processes)
        ]
        parent = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.worker", warm_up.base_url],
            cwd=ROOT,
            env={**os.environ, "OTEL_RATELIMIT_STORE": store, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children: list[int] = []
        assert parent.stdin is not None
        assert parent.stdout is not None
        try:
            assert parent.stdout.readline() == "ready\n"
            with ThrottlingServer(limits, latency=latency) as server:  # its buckets fill from now on
                began = time.time()
                parent.stdin.write(json.dumps({"server": server.base_url, "plans": plans}) + "\n")
                parent.stdin.flush()
                children = json.loads(parent.stdout.readline())
                if meanwhile is not None:
                    meanwhile(children)
                parent.wait(max(deadline - time.monotonic(), 1.0))
                children = []
        finally:
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            if parent.poll() is None:
                parent.kill()
            parent.wait(10)
            parent.stdin.close()
            parent.stdout.close()
        outputs = [Path(str(plan["output"])) for plan in plans]
        reports = [json.loads(path.read_text()) if path.exists() else None for path in outputs]
    requests = server.requests
    late = sum(request.status == 429 for request in requests if request.time > requests[0].time + 1.0)
    log = [line for report in reports if report for line in report["log"]]
    return Result(reports, server.counts.throttled, late, server.counts.succeeded, began, log)
