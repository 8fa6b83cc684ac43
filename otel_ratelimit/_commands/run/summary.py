"""The last word: how many calls, how many were throttled, what it cost, what a higher limit would have saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from otel_ratelimit._commands.output import Line, counted, table
from otel_ratelimit._commands.run.figures import Figures, ModelFigures, length, union
from otel_ratelimit._version import __version__

_GAVE_UP: Final = {
    "budget_exceeded": "the delay asked for did not fit the call's budget",
    "quota": "quota or billing",
    "request_too_large": "a request larger than the limit",
    "server_refused": "the server forbade to retry",
    "retries_disabled": "max_retries=0",
    "retries_exhausted": "max_retries used up",
    "body_not_replayable": "a body that can be read only once",
    "queue_budget_exceeded": "the turn would have come after the call's budget",
    "content_delivered": "a part of the stream had been delivered",
}


def of(figures: Figures, seconds: float, processes: int) -> list[Line]:
    """Lines for standard error. ``seconds`` is how long the program ran."""
    throttles = figures.total("throttles")
    where = f" in {processes} processes" if processes > 1 else ""
    head = f"otel-ratelimit: {counted(figures.calls, 'call')}{where}, {seconds:.1f} s"
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


def as_json(figures: Figures, seconds: float, processes: int, status: int) -> dict[str, Any]:
    """The same for programs. Seconds everywhere; ``status`` is the program's own exit status, negative for a signal.

    ``somebody_waited`` is how long at least one call waited; ``waited`` is the sum over all calls.
    """
    return {
        "otel_ratelimit": __version__,
        "exit_status": status,
        "seconds": round(seconds, 3),
        "processes": processes,
        **_totals([figures.models[name] for name in figures.models]),
        "models": {name: _totals([model]) for name, model in figures.models.items()},
    }


def _totals(models: Sequence[ModelFigures]) -> dict[str, Any]:
    def total(counter: str) -> dict[str, int]:
        sums: Counter[str] = Counter()
        for model in models:
            sums.update(getattr(model, counter))
        return dict(+sums)

    stretches = [stretch for model in models for of_reason in model.stretches.values() for stretch in of_reason]
    return {
        "calls": sum(model.calls for model in models),
        "throttles": total("throttles"),
        "retries": total("retries"),
        "give_ups": total("give_ups"),
        "waits": total("waits"),
        "waited": round(sum(sum(model.waited.values()) for model in models), 3),
        "somebody_waited": round(length(union(stretches)), 3),
    }


def _lost(name: str, model: ModelFigures, seconds: float) -> list[Line]:
    """How long calls of one model waited. What a higher limit saves can only be bounded: while calls wait for a limit, work
    goes through at the limit's own speed, so twice the limit takes half that time, if nothing else is the bottleneck.
    """
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
