"""Explanations as lines for a person."""

from __future__ import annotations

from collections.abc import Sequence

from otel_ratelimit._commands.explain.meaning import Explanation, seconds
from otel_ratelimit._commands.explain.own import Own
from otel_ratelimit._commands.explain.paste import Pasted
from otel_ratelimit._commands.output import Line, table

_MEANT = {
    400: "a request that the server cannot make sense of (or that is too long for the model)",
    401: "a missing, wrong or revoked API key",
    403: "a key that may not do this, or a country that is not served",
    404: "a model or an address that does not exist",
    500: "a fault of the server; the SDK retries it by itself",
    502: "a gateway that got no answer; the SDK retries it by itself",
    503: "a server that is not available; the SDK retries it by itself",
    504: "a gateway that waited too long; the SDK retries it by itself",
}


def of(found: Sequence[Explanation], other: Sequence[Pasted], told: Sequence[Own] = ()) -> list[Line]:
    """All that is to be said."""
    if not found and not told:
        return _no_throttle(other)
    lines: list[Line] = []
    for one in found:
        lines += [Line()] if lines else []
        lines += _one(one)
    for ours in told:
        lines += [Line()] if lines else []
        lines += _own(ours)
    return lines


def _own(ours: Own) -> list[Line]:
    """What we did, by our own notes and log lines."""
    times = f" ({ours.count} times)" if ours.count > 1 else ""
    if ours.reason is None:
        return [
            Line(
                f"otel_ratelimit held calls back{times}: {seconds(ours.seconds)} in all, the longest {seconds(ours.longest)}."
            )
        ]
    return [
        Line(f"otel_ratelimit gave up{times}: {ours.meaning}.", "heading"),
        *table([("waited before", seconds(ours.seconds))]),
        Line(ours.advice),
    ]


def _one(one: Explanation) -> list[Line]:
    status = f"{one.response.status}: " if one.response.status else ""
    times = f" ({one.count} times)" if one.count > 1 else ""
    retry_style = "good" if one.throttle.retryable else "bad"
    lines = [Line(f"{status}{one.summary}{times}", "heading")]
    lines += table(one.figures)
    lines += [
        Line(f"Retry?  {one.retry}", retry_style, 8),  # type: ignore[arg-type]
        Line(f"otel_ratelimit {one.plugin}.", "", 2),
        Line("To avoid it:"),
    ]
    return lines + [Line(f"  - {text}", "", 4) for text in one.avoid]


def _no_throttle(other: Sequence[Pasted]) -> list[Line]:
    statuses = [response.status for response in other if response.status is not None]
    if not statuses:
        return [
            Line("No throttle found in this text.", "warning"),
            Line(
                "Useful are the status line, the headers and the body: `curl -i …`, or the last line of the traceback."
            ),
        ]
    status = statuses[-1]
    meant = _MEANT.get(status, "no answer that waiting would change, as far as can be told")
    return [Line(f"{status} is not a throttle here: {meant}.", "warning"), Line("otel_ratelimit leaves it to the SDK.")]
