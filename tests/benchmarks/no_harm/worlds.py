"""What a world is, and how one is drawn from its seed.

Every trait was met in the wild or is how a widely used gateway works; a seed always draws the same world. Numbers are drawn
so that the limit is felt mostly (what it needs for all calls: 5 to 400 s), and every call that is not meant to be too large
fits it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields
from typing import Any

DAY = 86_400.0
MODELS = ("gpt-4o", "gpt-4o-mini")


@dataclass(frozen=True)
class Call:
    """One call of the program."""

    number: int
    prompt: int
    """Tokens that its text looks like, at four characters each."""
    max_tokens: int | None
    output: int
    """Tokens of the answer."""
    charge: int
    """Tokens that the server charges in all."""
    pause: float
    """Seconds that its caller lets pass before it."""
    model: str


@dataclass(frozen=True)
class World:
    """A server, what it tells, and a program. Times in seconds; amounts are those of one deployment."""

    seed: int
    # --- the program
    threads: bool
    callers: int
    calls: int
    max_retries: int
    timeout: float | None
    """None: the SDK's own default, ten minutes."""
    tokens: int
    """Of a usual call."""
    tail: str
    pause: float
    models: int
    """All on one limit."""
    # --- the limit
    kind: str
    window: float
    by_second: bool
    unit: str
    needs: float
    """What the limit needs for all calls, by its rate alone."""
    deployments: tuple[float, ...]
    """Each one's share of the limit."""
    routing: str
    failover: bool
    concurrency: int | None
    charged: bool
    """Refused requests count too."""
    charged_at_end: bool
    """The output is charged when the answer is finished."""
    # --- what it tells
    status: int
    headers: str
    silent_refusals: bool
    """The headers of limits are on answers only."""
    whole_seconds: bool
    """Resets are whole seconds, rounded up, instead of durations."""
    retry_after: str
    message: str
    usage: bool
    # --- what else happens
    latency: float
    spread: float
    errors: float
    too_large: int
    """Calls that can never fit."""
    day: float | None
    """The share of the calls that the day's limit lets through."""
    day_kind: str
    day_reset: float | None
    """When the day's limit is given anew, early."""
    others: float
    """The share of the limit that others try to take."""
    change: tuple[float, float] | None
    """When, and by what factor, the limit changes."""
    cold: int
    """So many requests are refused at first, whatever the limit."""

    def traits(self) -> dict[str, Any]:
        """What was drawn, by name, without what is off."""
        off: tuple[object, ...] = (None, False, 0, 0.0)
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "seed" and (field.name == "max_retries" or getattr(self, field.name) not in off)
        }

    def __str__(self) -> str:
        traits = self.traits()
        if self.day is None:
            del traits["day_kind"]
        if self.models == 1:
            del traits["models"]
        if len(self.deployments) == 1:
            for name in ("deployments", "routing", "failover"):
                traits.pop(name, None)
        return " ".join(f"{name}={_short(value)}" for name, value in traits.items())

    @property
    def whole(self) -> tuple[int, int]:
        """Tokens and requests that a deployment of share 1 allows in its window."""
        usual = self.calls / self.needs * self.window
        requests = max(usual, 1.0 * (self.window if self.by_second else 1.0))
        tokens = max(usual, 2.5 * (self.window if self.by_second else 1.0)) * self.tokens
        return _round(tokens), max(1, round(requests))

    @property
    def largest(self) -> float:
        """Tokens that fit the smallest deployment's limit, as it is enforced."""
        return self.whole[0] * min(self.deployments) / (self.window if self.by_second else 1.0)


def _round(amount: float) -> int:
    """To two digits, as limits are."""
    digits = max(0, math.floor(math.log10(amount)) - 1)
    return int(math.ceil(amount / 10**digits) * 10**digits)


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return "/".join(_short(part) for part in value)
    return f"{value:.3g}" if isinstance(value, float) else "yes" if value is True else str(value)


def _between(rng: random.Random, low: float, high: float) -> float:
    """Evenly on a logarithmic scale."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def draw(seed: int) -> World:
    """The world of this seed; always the same."""
    rng = random.Random(f"no harm {seed}")
    more = random.Random(f"no harm {seed}, continued")
    callers = rng.choice((4, 8, 16, 32, 64))
    calls = max(60, callers * 2, round(_between(rng, 60, 250)))
    window = rng.choice((1.0, 5.0, 10.0, 60.0, 60.0))
    by_second = window > 1 and rng.random() < 0.25
    count = rng.choice((1, 1, 1, 2, 3, 4))
    shares = [1.0] * count if rng.random() < 0.5 else [rng.choice((0.5, 1.0, 2.0)) for _ in range(count)]
    unit = rng.choice(("tokens", "tokens", "requests", "both"))
    timeout = rng.choice((None, None, 5.0, 30.0))
    latency = _between(rng, 0.3, min(40.0, timeout / 2 if timeout else 40.0))
    retry_after = rng.choice(("ms", "rounded up", "1", "60", "none", "none"))
    day = rng.uniform(0.3, 0.8) if rng.random() < 0.2 else None
    day_reset = _between(rng, 20, 300) if day and rng.random() < 0.7 else None
    pause = rng.choice((0.0, 0.0, 0.0, _between(rng, 0.5, 10)))
    if day_reset is not None:
        pause = day_reset * rng.uniform(1.5, 3.0) * callers / calls  # there are calls left when it is given anew
    # Mostly less than the program would use: its own time is that of its calls, if nothing held them back.
    needs = calls * (latency + pause) / callers * _between(rng, 0.7, 8)
    if rng.random() < 0.8:
        needs = max(needs, 1.3 * window)
    # Below a few calls in each second (or window) of each deployment there is no limit, only a closed door.
    least = 2.5 * count if window == 1.0 or by_second else 2.5 * count / window
    needs = min(max(needs, 5.0), 400.0, calls / least)
    headers = rng.choice(("full", "full", "remaining", "none", "none"))
    if headers == "remaining" and more.random() < 0.25:
        headers = "reset"
    return World(
        seed=seed,
        threads=rng.random() < 0.25,
        callers=callers,
        calls=calls,
        max_retries=rng.choice((0, 2, 2, 5)),
        timeout=timeout,
        tokens=rng.choice((300, 1500, 4000)),
        tail=rng.choice(("light", "light", "heavy")),
        pause=pause,
        models=2 if more.random() < 0.15 else 1,
        kind=rng.choice(("bucket", "fixed", "sliding")),
        window=window,
        by_second=by_second,
        unit=unit,
        # Each deployment has its share of the whole, so that together they allow what is drawn.
        needs=needs * sum(shares),
        deployments=tuple(shares),
        routing=rng.choice(("random", "in turn", "by load")),
        failover=count > 1 and rng.random() < 0.25,
        concurrency=rng.choice((None, None, None, 3, 10)),
        charged=rng.random() < 0.3,
        charged_at_end=rng.random() < 0.1,
        status=rng.choice((429, 429, 429, 503)),
        headers=headers,
        silent_refusals=more.random() < 0.25,
        whole_seconds=more.random() < 0.25,
        retry_after=retry_after,
        message=rng.choice(("numbers", "delay", "nothing", "nothing")),
        usage=rng.random() < 0.8,
        latency=latency,
        spread=rng.choice((0.1, 0.4, 0.7)),
        errors=rng.choice((0.0, 0.0, 0.02, 0.1)),
        too_large=rng.choice((0, 0, 0, 1, 5)) if unit != "requests" else 0,
        day=day,
        day_kind=rng.choice(("midnight", "bucket")),
        day_reset=day_reset,
        others=rng.choice((0.0, 0.0, 0.0, 0.0, 0.3, 0.6)),
        change=(_between(rng, 5, 120), rng.choice((0.5, 2.0, 4.0))) if rng.random() < 0.1 else None,
        cold=rng.choice((2, 3)) if rng.random() < 0.1 else 0,
    )


def calls_of(world: World) -> list[Call]:
    """The program's calls, in order."""
    rng = random.Random(f"calls {world.seed}")
    large = set(rng.sample(range(world.calls), world.too_large))
    ceiling = max(world.whole[0] * share for share in world.deployments)
    if world.by_second:
        ceiling /= world.window
    calls = []
    for number in range(world.calls):
        size = rng.uniform(0.8, 1.2) if world.tail == "light" else math.exp(rng.gauss(-0.5, 1.0))
        noise = rng.uniform(0.85, 1.15)
        total = max(20.0, size * world.tokens)
        if world.unit != "requests":
            total = min(total, 0.95 * world.largest)
        if number in large:
            total = ceiling * rng.uniform(1.2, 3.0)
        limited = rng.random() < 0.5
        output = max(1, round(0.3 * total))
        prompt = total - output
        calls.append(
            Call(
                number,
                prompt=max(1, round(prompt / noise)),
                max_tokens=output if limited else None,
                output=output,
                charge=round(total),
                pause=rng.expovariate(1 / world.pause) if world.pause else 0.0,
                model=MODELS[number % world.models],
            )
        )
    return calls
