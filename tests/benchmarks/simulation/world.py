"""Virtual time: callers, a network, a server; discrete events. Runs minutes of traffic in a fraction of a second."""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from otel_ratelimit._core.attempt import Attempt
from otel_ratelimit._core.cost import Cost
from otel_ratelimit._core.policy import Policy, delay_after
from otel_ratelimit._core.queueing.admission import Admission
from otel_ratelimit._core.queueing.ticket import Ticket
from tests.benchmarks.simulation.server import Answer, Server

BUDGET = 600.0


@dataclass
class Job:
    """One call of the program: what it really costs, and what its body lets one guess."""

    number: int
    charge: float
    cost: Cost
    priority: str = "normal"
    began: float = 0.0
    sent: float = 0.0
    waited: float = 0.0
    throttles: int = 0
    queued: bool = False
    done: float | None = None
    failed: str | None = None


@dataclass
class Run:
    """What came out."""

    jobs: list[Job]
    makespan: float
    throttled: int
    cold: int
    throttle_times: list[float] = field(default_factory=list)

    @property
    def done(self) -> int:
        return sum(job.done is not None for job in self.jobs)

    @property
    def spread(self) -> float:
        """Slowest over median of the calls that queued; their whole duration, by the caller's clock."""
        times = [job.done - job.began for job in self.jobs if job.done is not None and job.queued]
        return max(times) / statistics.median(times) if times else 1.0


class World:
    """The event loop. Subclasses are the rules by which a client behaves."""

    def __init__(
        self,
        server: Server,
        jobs: list[Job],
        concurrency: int,
        rng: random.Random,
        *,
        network: tuple[float, float] = (0.002, 0.002),
    ) -> None:
        self.server = server
        self.jobs = jobs
        self.concurrency = concurrency
        self.rng = rng
        self.network = network
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._counter = itertools.count()
        self._next_job = 0
        self._first_answer: float | None = None

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._counter), what))

    def run(self) -> Run:
        for _ in range(self.concurrency):
            self.at(0.0, self._take)
        while self._events:
            self.now, _, what = heapq.heappop(self._events)
            what()
        first = self._first_answer if self._first_answer is not None else 0.0
        makespan = max((job.done for job in self.jobs if job.done is not None), default=0.0)
        times = self.server.throttle_times
        return Run(self.jobs, makespan, self.server.throttled, sum(at <= first for at in times), times)

    def _take(self) -> None:
        if self._next_job < len(self.jobs):
            job = self.jobs[self._next_job]
            self._next_job += 1
            job.began = self.now
            self.begin(job)

    def finish(self, job: Job, failed: str | None = None) -> None:
        if failed is None:
            job.done = self.now
        job.failed = failed
        self._take()

    def send(self, job: Job, then: Callable[[Job, Answer], None]) -> None:
        def arrive() -> None:
            answer = self.server.receive(self.now, job.charge)
            if answer.status == 200:
                self.server.busy += 1

            def answered() -> None:
                if answer.status == 200:
                    self.server.busy -= 1
                if self._first_answer is None:
                    self._first_answer = self.now
                then(job, answer)

            self.at(self.now + answer.after, answered)

        job.sent = self.now
        self.at(self.now + self.network[0] + self.rng.random() * self.network[1], arrive)

    def begin(self, job: Job) -> None:
        raise NotImplementedError


class Ours(World):
    """The admission core, used as a driver uses it.

    Attributes:
        budget: seconds that a call may take, by the queue's or the server's word.
    """

    budget = BUDGET

    def __init__(
        self, *args: Any, admission: Admission | None = None, policy: Policy | None = None, **keywords: Any
    ) -> None:
        super().__init__(*args, **keywords)
        self.admission = admission if admission is not None else Admission()
        self.policy = policy if policy is not None else Policy()
        self._asleep: dict[Ticket, tuple[Job, float]] = {}
        self.wakes = 0

    def begin(self, job: Job) -> None:
        ticket = self.admission.enter(self.now, job.cost, job.priority)  # type: ignore[arg-type]
        self._continue(job, ticket, ticket.admitted)
        self._wake()

    def _continue(self, job: Job, ticket: Ticket, admitted: bool = False) -> None:
        until = None if admitted else self.admission.check(ticket, self.now)
        if until is None:
            self.send(job, lambda job, answer: self._answered(job, ticket, answer))
            return
        job.queued = True
        if self.admission.turn(ticket, self.now) - job.began > self.budget:
            self.admission.leave(ticket, self.now)
            self.finish(job, "queue_budget_exceeded")
            return
        self._asleep[ticket] = (job, until)
        if until < 1e15:
            self.at(until, lambda: self._timer(ticket, until))

    def _timer(self, ticket: Ticket, until: float) -> None:
        entry = self._asleep.get(ticket)
        if entry is not None and entry[1] == until:
            del self._asleep[ticket]
            self._continue(entry[0], ticket)
            self._wake()

    def _wake(self) -> None:
        wakes = self.admission.take_wakes()
        while wakes:
            for ticket in wakes:
                entry = self._asleep.pop(ticket, None)
                if entry is not None:
                    self.wakes += 1
                    job = entry[0]
                    self._continue(job, ticket)
            wakes = self.admission.take_wakes()

    def _answered(self, job: Job, ticket: Ticket, answer: Answer) -> None:
        served = answer.status == 200
        attempt = Attempt(self.now, served, readings=answer.readings, throttle=answer.throttle, used_tokens=answer.used)
        self.admission.settle(ticket, attempt)
        if answer.status == 200:
            self.admission.leave(ticket, self.now)
            self.finish(job)
        elif answer.throttle is not None:
            job.throttles += 1
            delay = delay_after(answer.throttle, self.policy, throttles=job.throttles, random=self.rng.random()).seconds
            if not answer.throttle.retryable or self.now + delay - job.began > self.budget:
                self.admission.leave(ticket, self.now)
                self.finish(job, "hopeless")
            else:
                job.queued = True
                self.admission.requeue(ticket, self.now, self.now + delay)
                self._continue(job, ticket)
        else:
            backoff = 0.5 * (1 - 0.25 * self.rng.random())

            def again() -> None:
                self.admission.requeue(ticket, self.now, self.now)
                self._continue(job, ticket)
                self._wake()

            self.at(self.now + backoff, again)
        self._wake()


class Sdk(World):
    """The plain SDK: ``retries`` retries, 0.5 s doubling to 8 s, and the server's delay where it is under a minute."""

    def __init__(self, *args: Any, retries: int = 2, obey: bool = True, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.retries = retries
        self.obey = obey

    def begin(self, job: Job) -> None:
        self.send(job, lambda job, answer: self._answered(job, answer, 0))

    def _answered(self, job: Job, answer: Answer, taken: int) -> None:
        if answer.status == 200:
            self.finish(job)
            return
        if taken >= self.retries:
            self.finish(job, "retries")
            return
        throttle = answer.throttle
        # The SDK reads retry-after headers only; our dialects put the delay in the message unless it is a header.
        if throttle is not None and throttle.delay is not None and throttle.source == "retry-after-ms" and self.obey:
            delay = throttle.delay
        else:
            delay = min(0.5 * 2.0**taken, 8.0) * (1 - 0.25 * self.rng.random())
        job.queued = True
        self.at(self.now + delay, lambda: self.send(job, lambda job, answer: self._answered(job, answer, taken + 1)))


class Parsed(World):
    """The delay in the message, obeyed call by call, with a buffer; five tries, as the Codex CLI did."""

    def __init__(self, *args: Any, tries: int = 10_000, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.tries = tries

    def begin(self, job: Job) -> None:
        self.send(job, lambda job, answer: self._answered(job, answer, 1))

    def _answered(self, job: Job, answer: Answer, tries: int) -> None:
        if answer.status == 200:
            self.finish(job)
            return
        if tries >= self.tries or self.now - job.began > BUDGET:
            self.finish(job, "tries")
            return
        throttle = answer.throttle
        job.queued = True
        if throttle is not None and throttle.delay is not None and throttle.source != "x-ratelimit-reset":
            delay = throttle.delay + 0.05
        else:
            delay = min(0.2 * 2.0**tries, 30.0) * (0.9 + 0.2 * self.rng.random())
        self.at(self.now + delay, lambda: self.send(job, lambda job, answer: self._answered(job, answer, tries + 1)))


class Oracle(World):
    """Perfect knowledge: sends, first come first served, at the very moment at which the call fits. What no client can beat."""

    def __init__(self, *args: Any, network: tuple[float, float] = (0.0, 0.0), **keywords: Any) -> None:
        super().__init__(*args, network=(0.0, 0.0), **keywords)

    def send(self, job: Job, then: Callable[[Job, Answer], None]) -> None:
        answer = self.server.receive(self.now, job.charge)
        self.at(self.now + answer.after, lambda: then(job, answer))

    def begin(self, job: Job) -> None:
        self._waiting = getattr(self, "_waiting", [])
        self._waiting.append(job)
        self._pump()
        job.queued = job.queued or job in self._waiting

    def _pump(self) -> None:
        while self._waiting:
            job = self._waiting[0]
            server = self.server
            for bucket, need, load in ((server.tokens, job.charge, server.load), (server.requests, 1.0, None)):
                bucket.advance(self.now, load)
                if bucket.level < need:
                    share = load.shares[int(self.now / load.period)] if load is not None else 0.0
                    wait = (need - bucket.level) / (bucket.rate * (1 - share)) + 1e-6
                    job.queued = True
                    if load is not None:
                        wait = min(wait, max(load.period - self.now % load.period, 1e-3))
                    if server._changes:
                        wait = min(wait, 0.05)
                    if getattr(self, "_alarm", -1.0) <= self.now:
                        self._alarm = self.now + wait
                        self.at(self._alarm, self._pump)
                    return
            self._waiting.pop(0)
            self.send(job, self._answered)

    def _answered(self, job: Job, answer: Answer) -> None:
        if answer.status == 200:
            self.finish(job)
        elif answer.status == 500:
            self.at(self.now + 0.45, lambda: self.begin(job))
        else:
            self.begin(job)
        self._pump()
