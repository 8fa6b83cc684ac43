"""The last word: how many calls, how many were throttled, what it cost, what a higher limit would have saved."""

from __future__ import annotations

from collections import Counter
from typing import Final

from otel_ratelimit._commands.output import Line, table
from otel_ratelimit._commands.run.figures import Figures, ModelFigures, length, union

_GAVE_UP: Final = {
    "budget_exceeded": "the delay asked for did not fit the call's budget",
    "quota": "quota or billing",
    "request_too_large": "a request larger than the limit",
    "server_refused": "the server forbade to retry",
    "retries_disabled": "max_retries=0",
    "retries_exhausted": "max_retries used up",
    "body_not_replayable": "a body that can be read only once",
    "queue_budget_exceeded": "the turn would have come after the call's budget",
}


def of(figures: Figures, seconds: float, processes: int) -> list[Line]:
    """Lines for standard error. ``seconds`` is how long the program ran."""
    throttles = figures.total("throttles")
    where = f" in {processes} processes" if processes > 1 else ""
    head = f"otel-ratelimit: {figures.calls} call{'' if figures.calls == 1 else 's'}{where}, {seconds:.1f} s"
    if not (throttles or figures.total("waits") or figures.total("give_ups")):
        return [Line(f"{head}; nothing was throttled, nobody waited.", "good")]
    gave_up = figures.total("give_ups")
    rows = [
        ("throttled", str(throttles.total()), _parts(throttles)),
        ("sent again", str(figures.total("retries").total()), _parts(figures.total("retries"))),
        ("gave up", str(gave_up.total()), "; ".join(f"{_GAVE_UP.get(key, key)}: {n}" for key, n in gave_up.items())),
        ("waits", str(figures.total("waits").total()), _parts(figures.total("waits"))),
    ]
    lines = [Line(head, "heading"), *table(rows, right=(1,))]
    for name, model in figures.models.items():
        if model.waited:
            lines += _lost(name, model, seconds)
    return lines


def _lost(name: str, model: ModelFigures, seconds: float) -> list[Line]:
    """How long calls of one model waited. What a higher limit saves can only be bounded: while calls wait for a limit, work
    goes through at the limit's own speed, so twice the limit takes half that time, if nothing else is the bottleneck."""
    total = sum(model.waited.values())
    waited = length(union(stretch for stretches in model.stretches.values() for stretch in stretches))
    lines = [
        Line(
            f"  {name}: its calls waited {total:.1f} s in all; somebody waited during {waited:.1f} s of {seconds:.1f} s.",
            hang=4,
        )
    ]
    limited = [model.stretches.get(reason, []) for reason in ("throttled", "admission")]
    if model.throttles and not any(model.retries[reason] for reason in ("server_error", "timeout", "connection")):
        limited.append(model.stretches.get("backoff", []))
    bound = length(union(stretch for stretches in limited for stretch in stretches))
    if bound >= 0.1:
        lines.append(
            Line(
                f"  Twice the limit would have saved up to {bound / 2:.1f} s, five times the limit up to {bound * 0.8:.1f} s.",
                hang=4,
            )
        )
    return lines


def _parts(counter: Counter[str]) -> str:
    return ", ".join(f"{key} {count}" for key, count in counter.most_common())
