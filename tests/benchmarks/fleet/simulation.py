"""A fleet of 1 to 1,000 processes on a virtual clock, sharing one limit through a real Redis.

The processes' own rule is ``_core.fleet``, the shared one ``allocation.lua`` itself: it runs in a real Redis that is told the
virtual time, so nothing is modelled but the network and the server. Each process has some workers, each of which makes one call
after another.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from otel_ratelimit._core.fleet.member import Member
from otel_ratelimit._core.fleet.messages import Report
from otel_ratelimit._core.queueing.admission import Admission
from otel_ratelimit._stores.memory import Account
from otel_ratelimit._stores.redis_client import Script
from tests.benchmarks.simulation.server import Server
from tests.benchmarks.simulation.world import Job, Ours, World

ROUND_TRIP = 0.0006
"""Seconds of an exchange, both ways: a Redis in the same data centre."""


class Process(Ours):
    """One process of the fleet: an admission, its workers, and what exchanges for it. Lives in the clock of the fleet."""

    def __init__(self, fleet: Fleet, number: int, jobs: list[Job], workers: int, shared: bool) -> None:
        self.fleet = fleet
        self.number = number
        self.done_jobs: list[Job] = []
        self.asked = False
        self.dead = False
        rng = random.Random(1000 + number)
        self.member = Member(ask=lambda _member: self._ask()) if shared else None
        admission = Admission() if self.member is None else self.member.admission
        super().__init__(fleet.server, jobs, workers, rng, admission=admission, network=fleet.network)
        self.exchanges = 0
        self._timer_at = math.inf
        self._under_way = False

    # The clock is the fleet's.
    @property
    def now(self) -> float:
        return self.fleet.now

    @now.setter
    def now(self, value: float) -> None:
        pass

    def at(self, when: float, what: Callable[[], None]) -> None:
        self.fleet.at(when, lambda: None if self.dead else what())

    def start(self) -> None:
        for _ in range(self.concurrency):
            self.at(0.001 * self.rng.random(), self._take)

    def finish(self, job: Job, failed: str | None = None) -> None:
        self.done_jobs.append(job)
        super().finish(job, failed)

    # What the courier's thread does.
    def _ask(self) -> None:
        if not self.asked:
            self.asked = True
            self.at(self.now + 0.0001, self._exchange)

    def _exchange(self) -> None:
        member = self.member
        assert member is not None
        if self._under_way:
            return
        self.asked = False
        if not self.fleet.redis_up:
            member.fail(self.now)
            self._wake()
            self.at(self.now + 1.0, self._exchange)
            return
        self._under_way = True
        report = member.report(self.now)
        self.exchanges += 1
        answer: dict[str, Any] = {}

        def arrive() -> None:
            answer.update(self.fleet.exchange(f"{self.number:04d}", report))

        def back() -> None:
            self._under_way = False
            member.accept(answer, self.now)
            self._wake()
            self._schedule()
            if self.asked:
                self.at(self.now + 0.0001, self._exchange)

        self.at(self.now + 0.5 * ROUND_TRIP, arrive)
        self.at(self.now + ROUND_TRIP, back)

    def _schedule(self) -> None:
        member = self.member
        assert member is not None
        due = member.due
        if due < self._timer_at or self._timer_at <= self.now:
            self._timer_at = due
            self.at(due, self._due)

    def _due(self) -> None:
        self._timer_at = math.inf
        member = self.member
        assert member is not None
        if self.fleet.over:
            return
        if member.due <= self.now + 1e-9:
            self._exchange()
        else:
            self._schedule()


class Fleet(World):
    """All processes, one server, one Redis."""

    def __init__(
        self,
        server: Server,
        jobs: list[list[Job]],
        workers: int,
        *,
        script: Script | None,
        network: tuple[float, float] = (0.002, 0.002),
    ) -> None:
        """
        Args:
            jobs: by process.
            workers: calls at a time of each.
            script: None: nothing is shared.
        """
        super().__init__(server, [job for mine in jobs for job in mine], 0, random.Random(7), network=network)
        self.script = script
        self.keys = script.keys_of(Account(f"{time.time_ns()}", b"simulation", None)) if script is not None else []
        self.redis_up = True
        self.redis_seconds = 0.0
        self.redis_calls = 0
        self.processes = [Process(self, number, mine, workers, script is not None) for number, mine in enumerate(jobs)]
        self._epoch = 1_000_000.0

    @property
    def over(self) -> bool:
        return all(process.dead or len(process.done_jobs) == len(process.jobs) for process in self.processes)

    def exchange(self, process: str, report: Report) -> dict[str, Any]:
        assert self.script is not None
        began = time.perf_counter()
        answer = self.script.run(self.keys, process, report.wire(), now=self._epoch + self.now)
        self.redis_seconds += time.perf_counter() - began
        self.redis_calls += 1
        return answer

    def play(self) -> None:
        for process in self.processes:
            process.start()
        self.run()

    def summary(self) -> dict[str, float]:
        calls = len(self.jobs)
        lived = [process for process in self.processes if not process.dead]
        done = [job for job in self.jobs if job.done is not None]
        first = min((job.done or 0.0) for job in done)
        makespan = max(job.done or 0.0 for job in done)
        half = 0.5 * makespan
        by_process = Counter(
            process.number for process in lived for job in process.done_jobs if (job.done or math.inf) <= half
        )
        fair = sum(by_process.values()) / len(lived)
        return {
            "processes": len(self.processes),
            "done": len(done) / calls,
            "makespan": makespan,
            "throttled": sum(at > first for at in self.server.throttle_times) / calls,
            "cold": sum(at <= first for at in self.server.throttle_times),
            "least": min(by_process[process.number] for process in lived) / fair if fair else 0.0,
            "exchanges": sum(process.exchanges for process in self.processes) / calls,
            "script_us": 1e6 * self.redis_seconds / max(self.redis_calls, 1),
        }
