"""The dashboard's answers beside the server's own count: each panel that counts something, by the numbers that it would show."""

from __future__ import annotations

from tests.collector import queries
from tests.collector.counted import Counted
from tests.collector.stack import Stack

SHARES = (
    "Throttled of all requests",
    "Share of the calls' time that is waiting, by model",
    "Headroom, by window",
    "Collectors that answer",
)


def numbers(stack: Stack, title: str, label: str = "", *, span: int, interval: int | None = None) -> dict[str, float]:
    """What a panel's queries answer, by the value of a label; all in one where none is named."""
    found: dict[str, float] = {}
    for query in queries.panels()[title]:
        for series in stack.query(queries.filled_in(query, span, interval or span)):
            key = series["metric"].get(label, "")
            found[key] = found.get(key, 0.0) + float(series["value"][1])
    return found


def differences(stack: Stack, counted: Counted, *, span: int) -> list[str]:
    """What a panel says otherwise than the server; nothing where they agree. ``span``: seconds that hold the whole run."""

    def total(title: str, label: str = "") -> dict[str, float]:
        """Of a panel that shows a rate: how many there were in all."""
        rates = numbers(stack, title, label, span=span)
        return {key: round(rate * span, 3) for key, rate in rates.items() if round(rate * span, 3)}

    waits = stack.total("otel_ratelimit_wait_duration_seconds_count")
    waited = stack.total("otel_ratelimit_wait_duration_seconds_sum")
    expected: list[tuple[str, object, object]] = [
        ("Throttled", numbers(stack, "Throttled", span=span), {"": counted.throttled}),
        (
            "Throttled of all requests",
            {key: round(value, 6) for key, value in numbers(stack, "Throttled of all requests", span=span).items()},
            {"": round(counted.throttled / counted.requests, 6)},
        ),
        ("Waiting now", numbers(stack, "Waiting now", span=span), {"": 0}),
        ("Gave up", numbers(stack, "Gave up", span=span), {"": counted.failed}),
        (
            "Throttled, by model",
            total("Throttled, by model and kind of limit", "gen_ai_request_model"),
            {model: float(count) for model, count in counted.throttled_by_model.items()},
        ),
        (
            "Requests, throttled",
            total("Requests, by status", "http_response_status_code").get("429"),
            counted.throttled,
        ),
        ("Requests", sum(total("Requests, by status").values()), counted.requests),
        ("Sent again", sum(total("Sent again, by reason").values()), counted.resent),
        ("Gave up, by reason", sum(total("Gave up, by reason").values()), counted.failed),
        ("Waits", numbers(stack, "How long waits take", "le", span=span).get("+Inf"), waits),
        (
            "Time lost, by model",
            round(sum(total("Time lost to waiting, by service and model").values()), 2),
            round(waited, 2),
        ),
        (
            "Time lost, by part",
            round(sum(total("Time lost to waiting, by what it was spent on").values()), 2),
            round(waited, 2),
        ),
    ]
    found = [f"{what}: the panel says {said}, the server {own}" for what, said, own in expected if said != own]
    for title in SHARES:
        for query in queries.panels()[title]:
            values = [float(series["value"][1]) for series in stack.query(queries.filled_in(query, span, span))]
            if not values or min(values) < 0 or max(values) > 1:
                found.append(f"{title}: {values}")
    return found
