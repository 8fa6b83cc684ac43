"""How a world's server says it: headers and bodies of answers and refusals, in the dialect that the world drew."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from otel_ratelimit.testing import answers, wording
from tests.benchmarks.no_harm.limits import Limit
from tests.benchmarks.no_harm.worlds import DAY, Call, World

WINDOWS = {1.0: "sec", 60.0: "min", DAY: "day"}
NEVER = 86_400
"""Seconds that Azure tells a request which can never fit."""


class Measure(NamedTuple):
    """One limit of one deployment."""

    unit: str
    """``"tokens"`` or ``"requests"``."""
    enforced: Limit
    shown: Limit
    """The same, or the whole of which a second's share is enforced."""

    def cost(self, call: Call) -> float:
        return float(call.charge) if self.unit == "tokens" else 1.0


def limit_headers(world: World, measures: list[Measure], now: float) -> dict[str, str]:
    """``x-ratelimit-*``; of two limits on one unit the first is shown."""
    headers: dict[str, str] = {}
    for measure in reversed(measures):
        shown = measure.shown
        reset = max(0.0, shown.reset(now))
        if world.headers in ("full", "remaining"):
            headers[f"x-ratelimit-remaining-{measure.unit}"] = str(max(0, math.floor(shown.capacity - shown.used(now))))
        if world.headers == "full":
            headers[f"x-ratelimit-limit-{measure.unit}"] = f"{shown.capacity:.0f}"
        if world.headers in ("full", "reset"):
            text = str(math.ceil(reset)) if world.whole_seconds else wording.duration(reset)
            headers[f"x-ratelimit-reset-{measure.unit}"] = text
    return headers


def retry_after(world: World, delay: float) -> dict[str, str]:
    """What a refusal says in ``retry-after``; an infinite ``delay`` can never be served."""
    if world.retry_after == "none":
        return {}
    if world.retry_after in ("1", "60"):
        return {"retry-after": world.retry_after}
    if math.isinf(delay):
        return {"retry-after": str(NEVER)}
    seconds = {"retry-after": str(max(1, math.ceil(delay)))}
    return {**seconds, "retry-after-ms": str(math.floor(delay * 1000))} if world.retry_after == "ms" else seconds


def refusal_body(world: World, measure: Measure, call: Call, now: float, delay: float) -> dict[str, Any]:
    """The body of a refusal by ``measure``, which lets the same call through in ``delay`` seconds."""
    unit = measure.unit
    if world.message == "nothing":
        return wording.error_body("Service Unavailable" if world.status == 503 else "Too Many Requests")
    if world.message == "delay":
        if math.isinf(delay):
            wait = f"Please retry after {NEVER} seconds."
        elif world.retry_after == "rounded up":
            wait = f"Please retry after {max(1, math.ceil(delay))} seconds."
        else:
            wait = f"Please try again in {wording.duration(delay)}."
        what = "The service is overloaded." if world.status == 503 else "Rate limit is exceeded."
        return wording.error_body(f"{what} {wait}", code=str(world.status))
    limit = measure.shown.capacity
    per = f"{unit} per {WINDOWS.get(measure.shown.window, f'{measure.shown.window:g} seconds')}"
    requested = measure.cost(call)
    where = f"for {call.model} in organization org-test on {per}"
    if math.isinf(delay):
        message = f"Request too large {where}: Limit {measure.enforced.capacity:.0f}, Requested {requested:.0f}."
    else:
        # What is left is what is enforced, also where the limit is named as a longer window's.
        used = limit - (measure.enforced.capacity - measure.enforced.used(now))
        message = (
            f"Rate limit reached {where}: Limit {limit:.0f}, Used {math.ceil(used):.0f}, Requested {requested:.0f}."
            f" Please try again in {wording.duration(delay)}."
        )
    return wording.error_body(message, kind=unit, code="rate_limit_exceeded")


def bare_body() -> dict[str, Any]:
    """The body of a refusal that says nothing."""
    return wording.error_body("Too Many Requests")


def too_many_at_once(world: World) -> dict[str, Any]:
    """The body of a refusal for too many calls in flight: no time is known."""
    return wording.error_body(f"Too many concurrent requests, at most {world.concurrency}. Please slow down.")


def served_body(world: World, call: Call) -> dict[str, Any]:
    """The body of an answer."""
    body = answers.chat({"model": call.model})
    output = min(call.output, call.charge - 1)
    usage = {"prompt_tokens": call.charge - output, "completion_tokens": output, "total_tokens": call.charge}
    return {**body, "usage": usage if world.usage else None}


def error_body() -> dict[str, Any]:
    """The body of a 500."""
    return wording.error_body("The server had an error while processing your request.", kind="server_error")
