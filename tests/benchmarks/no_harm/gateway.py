"""A world's server: deployments with limits of their own behind one address, and all that goes wrong there.

Times are handed in; whatever happens between two requests (answers that finish, other tenants, a limit that changes) is
caught up with at the next one, in the order of its time.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from tests.benchmarks.no_harm import wording
from tests.benchmarks.no_harm.limits import Bucket, FixedWindow, limit_of
from tests.benchmarks.no_harm.wording import Measure
from tests.benchmarks.no_harm.worlds import DAY, Call, World

REFUSAL_TIME = 0.02
"""Seconds that a refusal takes."""


class Answer(NamedTuple):
    """What is sent back, ``after`` so many seconds."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]
    after: float


class Seen(NamedTuple):
    """One request, for the trace."""

    at: float
    call: int
    deployment: int
    status: int
    why: str
    delay: float


class Deployment:
    """One backend and its limits."""

    def __init__(self, world: World, share: float, phase: float) -> None:
        tokens, requests = world.whole
        self.busy = 0
        self.measures: list[Measure] = []
        for unit, amount in (("tokens", tokens), ("requests", requests)):
            if world.unit not in (unit, "both"):
                continue
            whole = float(max(1, round(amount * share)))
            shown = limit_of(world.kind, whole, world.window, phase)
            enforced = shown
            if world.by_second:
                enforced = limit_of(world.kind, max(1.0, whole / world.window), 1.0, phase % 1.0)
            self.measures.append(Measure(unit, enforced, shown))

    def refuses(self, now: float, call: Call) -> Measure | None:
        """The limit that the call has to wait for, the longest if there are several."""
        full = [measure for measure in self.measures if not measure.enforced.fits(now, measure.cost(call))]
        return max(full, key=lambda measure: measure.enforced.delay(now, measure.cost(call)), default=None)

    def charge(self, now: float, tokens: float, requests: float) -> None:
        for measure in self.measures:
            amount = tokens if measure.unit == "tokens" else requests
            if amount:
                measure.enforced.charge(now, amount)
                if measure.shown is not measure.enforced:
                    measure.shown.charge(now, amount)

    def resize(self, now: float, factor: float) -> None:
        for measure in self.measures:
            for limit in {id(measure.enforced): measure.enforced, id(measure.shown): measure.shown}.values():
                limit.resize(now, factor)


class Gateway:
    """All of it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: list[Seen] = []
        self._rng = random.Random(f"gateway {world.seed}")
        self._turn = itertools.count()
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._admitted: Counter[int] = Counter()
        self._cold = world.cold
        phase = self._rng.uniform(0.0, world.window)
        self.deployments = [Deployment(world, share, phase) for share in world.deployments]
        self._day = self._new_day()
        if world.change is not None:
            at, factor = world.change
            for one in self.deployments:
                self._at(at, partial(one.resize, factor=factor))
        if world.day_reset is not None:
            self._at(world.day_reset, self._reset_day)
        if world.others:
            # What others send, at the rate at which it would use up that share of the limit.
            self._gap = world.needs / world.calls / sum(world.deployments) / world.others
            self._at(self._rng.expovariate(1 / self._gap), self._other)

    def receive(self, now: float, call: Call) -> Answer:
        """Answer one request."""
        self._catch_up(now)
        world = self.world
        if self._cold:
            self._cold -= 1
            return self._bare_refusal(now, call, "cold", {"retry-after": "1"})
        if world.concurrency is not None and sum(one.busy for one in self.deployments) >= world.concurrency:
            # Who tells everyone the same number tells it here too.
            fixed = world.retry_after in ("1", "60") and world.seed % 2
            headers = {"retry-after": world.retry_after} if fixed else {}
            body = wording.too_many_at_once(world)
            return self._refuse(now, call, -1, "concurrency", math.nan, headers, body)
        index = self._route()
        order = [index, *(i for i in range(len(self.deployments)) if i != index and world.failover)]
        for index in order:
            if self.deployments[index].refuses(now, call) is None:
                break
        else:
            return self._over_the_limit(now, call, order[0])
        if self._day is not None and not self._day.enforced.fits(now, 1.0):
            delay = self._day.enforced.delay(now, 1.0)
            headers = {**self._limit_headers(now, index), **wording.retry_after(world, delay)}
            body = wording.refusal_body(world, self._day, call, now, delay)
            return self._refuse(now, call, index, "day", delay, headers, body)
        return self._serve(now, call, index)

    def _serve(self, now: float, call: Call, index: int) -> Answer:
        world = self.world
        deployment = self.deployments[index]
        # By the call's own number, so that two clients have the same luck with it.
        self._admitted[call.number] += 1
        luck = random.Random(f"{world.seed} {call.number} {self._admitted[call.number]}")
        after = world.latency * math.exp(world.spread * luck.gauss(0.0, 1.0))
        fails = luck.random() < world.errors
        if fails:
            after = min(after, 1.0) * luck.random()
        if self._day is not None:
            # Failures are not counted and no answer comes too late: how many calls a day lets through is no luck.
            after = min(after, 0.9 * (world.timeout or math.inf))
            self._day.enforced.charge(now, 0.0 if fails else 1.0)
        late = call.output if world.charged_at_end and not fails else 0
        deployment.charge(now, call.charge - late, 1.0)
        deployment.busy += 1

        def finished(at: float) -> None:
            deployment.busy -= 1
            deployment.charge(at, late, 0.0)

        self._at(now + after, finished)
        self.seen.append(Seen(now, call.number, index, 500 if fails else 200, "", after))
        headers = self._limit_headers(now, index, refused=False)
        if fails:
            return Answer(500, headers, wording.error_body(), after)
        return Answer(200, headers, wording.served_body(world, call), after)

    def _over_the_limit(self, now: float, call: Call, index: int) -> Answer:
        world = self.world
        deployment = self.deployments[index]
        measure = deployment.refuses(now, call)
        assert measure is not None
        never = math.isinf(measure.enforced.delay(now, measure.cost(call)))
        if world.charged and not never:
            self._charge_refused(now, call, deployment)
            measure = deployment.refuses(now, call) or measure  # another limit may be the one to wait for now
        delay = measure.enforced.delay(now, measure.cost(call))
        headers = {**self._limit_headers(now, index), **wording.retry_after(world, delay)}
        body = wording.refusal_body(world, measure, call, now, delay)
        return self._refuse(now, call, index, "never" if never else measure.unit, delay, headers, body)

    def _charge_refused(self, now: float, call: Call, deployment: Deployment) -> None:
        """A request is a request; and a counter that is raised first and looked at then counts the tokens as well."""
        for measure in deployment.measures:
            if measure.unit == "requests" or isinstance(measure.enforced, FixedWindow):
                amount = measure.cost(call)
                if isinstance(measure.enforced, Bucket):
                    left = measure.enforced.capacity - measure.enforced.used(now)
                    amount = min(amount, max(left, 0.0))  # no debts for what was not served
                measure.enforced.charge(now, amount)
                if measure.shown is not measure.enforced:
                    measure.shown.charge(now, amount)

    def _bare_refusal(self, now: float, call: Call, why: str, headers: dict[str, str]) -> Answer:
        return self._refuse(now, call, -1, why, math.nan, headers, wording.bare_body())

    def _refuse(
        self, now: float, call: Call, index: int, why: str, delay: float, headers: dict[str, str], body: dict[str, Any]
    ) -> Answer:
        self.seen.append(Seen(now, call.number, index, self.world.status, why, delay))
        return Answer(self.world.status, headers, body, REFUSAL_TIME)

    def _limit_headers(self, now: float, index: int, *, refused: bool = True) -> dict[str, str]:
        if refused and self.world.silent_refusals:
            return {}
        # The day's requests are shown where the minute's have no limit of their own (Groq).
        day = [] if self._day is None else [self._day]
        return wording.limit_headers(self.world, [*self.deployments[index].measures, *day], now)

    def _route(self) -> int:
        count = len(self.deployments)
        if self.world.routing == "random":
            return self._rng.randrange(count)
        if self.world.routing == "in turn":
            return next(self._turn) % count
        return min(range(count), key=lambda index: self.deployments[index].busy)

    # --- what happens between two requests ------------------------------------------------------------------------

    def _at(self, when: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    def _catch_up(self, now: float) -> None:
        while self._events and self._events[0][0] <= now:
            at, _, event = heapq.heappop(self._events)
            event(at)

    def _other(self, now: float) -> None:
        """Another tenant sends a usual call, and makes no fuss if it is refused."""
        call = Call(-1, 0, None, 0, self.world.tokens, 0.0, "")
        deployment = self.deployments[self._route()]
        if deployment.refuses(now, call) is None:
            deployment.charge(now, call.charge, 1.0)
        self._at(now + self._rng.expovariate(1 / self._gap), self._other)

    def _new_day(self) -> Measure | None:
        world = self.world
        if world.day is None:
            return None
        amount = max(1.0, round(world.day * world.calls))
        if world.day_kind == "bucket":
            limit = limit_of("bucket", amount, DAY)
        else:
            limit = limit_of("fixed", amount, DAY, self._rng.uniform(8_000.0, DAY))
        return Measure("requests", limit, limit)

    def _reset_day(self, _now: float) -> None:
        world = self.world
        limit = limit_of("bucket", 10.0 * world.calls, DAY)
        self._day = Measure("requests", limit, limit)
