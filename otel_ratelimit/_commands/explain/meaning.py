"""A response -> what it means for the reader. The reading itself is the library's own parser; here are only words.

No guess is dressed up as a fact: what the response does not say is said to be missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from otel_ratelimit import _settings
from otel_ratelimit._commands.explain.paste import Pasted
from otel_ratelimit._core.buckets.infer import WINDOW_SECONDS
from otel_ratelimit._core.parsing import parse_stream_event, parse_throttle
from otel_ratelimit._core.parsing.limits import LimitReading, read_all
from otel_ratelimit._core.policy import Policy, delay_after
from otel_ratelimit._core.throttle import Throttle

_NOUNS: Final = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "images": "images",
    "concurrency": "requests at the same time",
}


@dataclass(frozen=True)
class Explanation:
    """One kind of throttle in the text: the response that says most of it, and how many there were."""

    throttle: Throttle
    response: Pasted
    count: int
    summary: str
    retry: str
    plugin: str
    avoid: tuple[str, ...]
    figures: tuple[tuple[str, str], ...]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "status": self.response.status,
            "count": self.count,
            **asdict(self.throttle),
            "summary": self.summary,
            "retry": self.retry,
            "plugin": self.plugin,
            "avoid": list(self.avoid),
        }


def explain(responses: Iterable[Pasted]) -> tuple[list[Explanation], list[Pasted]]:
    """The throttles, most often seen kind first, and the responses that are none."""
    groups: dict[tuple[object, ...], list[tuple[Throttle, Pasted]]] = {}
    other = []
    for response in responses:
        throttle = throttle_of(response)
        if throttle is None:
            other.append(response)
        else:
            groups.setdefault((throttle.kind, throttle.window_seconds, throttle.retryable), []).append(
                (throttle, response)
            )
    if len(groups) > 1:
        # A bare line ("429 Too Many Requests") beside a full one is most often the same response, logged twice.
        groups.pop(("unknown", None, True), None)
    policy = _settings.lenient_policy_from_environment()
    found = [_explained(members, policy) for members in groups.values()]
    return sorted(found, key=lambda one: -one.count), other


def throttle_of(response: Pasted) -> Throttle | None:
    """What the library makes of it. Without a status it is a throttle only if its words say so."""
    if response.status is not None:
        return parse_throttle(response.status, response.headers, response.body)
    body = response.body if isinstance(response.body, dict) else {"error": {"message": response.body}}
    if parse_stream_event(body) is None and not any("retry-after" in name for name in response.headers):
        return None
    return parse_throttle(429, response.headers, response.body)


def _explained(members: list[tuple[Throttle, Pasted]], policy: Policy) -> Explanation:
    throttle, response = max(members, key=lambda one: _detail(one[0]))  # of equals the first
    return Explanation(
        throttle=throttle,
        response=response,
        count=len(members),
        summary=_summary(throttle, response),
        retry=_retry(throttle),
        plugin=_plugin(throttle, policy),
        avoid=tuple(_avoid(throttle, response)),
        figures=tuple(_figures(throttle, response)),
    )


def _detail(throttle: Throttle) -> int:
    return sum(value is not None for value in (throttle.delay, throttle.limit, throttle.used, throttle.requested))


def _summary(throttle: Throttle, response: Pasted) -> str:
    """Which limit, in one sentence."""
    if throttle.kind == "quota":
        if throttle.retryable:
            return "A usage allowance is spent; it comes back by itself."
        return "The quota is used up or billing is off: this is about money, not about speed."
    if throttle.limit == 0:
        return f"The limit for {_NOUNS.get(throttle.kind, 'this')} is 0: this model is not open to this account."
    if not throttle.retryable:
        return f"This one request is larger than the limit itself{_of(throttle)}."
    if throttle.kind == "overload":
        if _says(response, "slow_down"):
            return "Traffic grew too fast. The limits themselves are not reached."
        return "The server itself is overloaded. None of your limits is reached."
    if throttle.kind == "unknown":
        return "The server asked to slow down, and did not say which limit was reached."
    if throttle.kind == "concurrency":
        return "Too many requests at the same time."
    return f"The limit of {_NOUNS[throttle.kind]}{_per(throttle)} was reached."


def _of(throttle: Throttle) -> str:
    return f" of {_NOUNS[throttle.kind]}{_per(throttle)}" if throttle.kind in _NOUNS else ""


def _per(throttle: Throttle) -> str:
    if throttle.window is None or throttle.window_seconds is None:
        return ""
    units = throttle.window_seconds / WINDOW_SECONDS[throttle.window]
    return f" per {throttle.window}" if units == 1 else f" per {units:g} {throttle.window}s"


def _retry(throttle: Throttle) -> str:
    if not throttle.retryable:
        if throttle.kind == "quota":
            return "No. Waiting does not help, whatever the response says about retrying."
        return "No. The same request will be refused again, however long you wait."
    if throttle.delay is None:
        return "Yes, but the server named no delay: back off exponentially, with jitter."
    if throttle.delay == 0:
        return "Yes, at once: the server said 0 s."
    return f"Yes, after {seconds(throttle.delay)}{_SOURCES.get(throttle.source or '', '')}."


_SOURCES: Final = {
    "retry-after-ms": " (header retry-after-ms)",
    "retry-after": " (header retry-after)",
    "retry-after-date": " (the date in header retry-after)",
    "x-ratelimit-reset": " (the limit's reset time: the server named nothing better)",
    "ratelimit": " (header RateLimit)",
    "body-message": " (the sentence in the error)",
    "body-field": " (a field of the error)",
}


def _plugin(throttle: Throttle, policy: Policy) -> str:
    """What this library does with such a response, under the settings of the environment."""
    if policy.mode != "wait":
        return f"does nothing about it: OTEL_RATELIMIT_MODE is {policy.mode}"
    if not throttle.retryable:
        return "raises the SDK's own error at once"
    if throttle.delay is None:
        return f"backs off: up to 0.5 s first, twice that each further time, never over {seconds(policy.max_backoff)}"
    delay = delay_after(throttle, policy, throttles=1, random=0.0).seconds
    budget = policy.budget(None).longest
    if delay > budget and throttle.source == "x-ratelimit-reset":
        return (
            "sends again when its own estimate of the limit says that the call fits, since a reset time is no instruction;"
            f" where that is later than the budget of {seconds(budget)}, it raises the SDK's own error at once"
        )
    if delay > budget:
        return (
            f"raises the SDK's own error at once: {seconds(delay)} is more than the budget of {seconds(budget)}."
            " Set OTEL_RATELIMIT_MAX_WAIT to more to wait it out"
        )
    return (
        f"waits {seconds(delay)} (a buffer of {policy.buffer:g} s included), lets others wait with it, and sends again"
    )


def _avoid(throttle: Throttle, response: Pasted) -> list[str]:
    """What would keep it from happening again, most useful first."""
    kind = throttle.kind
    if kind == "quota":
        if throttle.retryable:
            return ["Wait for the allowance to come back, or move to a plan with a larger one."]
        return [
            "Add credit, or raise the monthly budget of the organisation or project, in the provider's billing settings.",
            "Check that the API key belongs to the organisation and project that pays.",
        ]
    if throttle.limit == 0:
        return ["Ask for access to the model, or use another one."]
    if not throttle.retryable:
        return ["Send less at a time: a shorter prompt, or a lower output limit (max_tokens and its relatives)."]
    if kind == "overload":
        if _says(response, "slow_down"):
            return ["Grow traffic slowly: start with few calls at a time and add more over minutes."]
        return ["Nothing on your side is wrong. Retry later, or name a fallback model."]
    if kind == "requests":
        return [
            *(
                ["This is a limit for the whole day: spread the work over days, or get a higher limit."]
                if throttle.window == "day"
                else []
            ),
            "Put more into each request: embeddings and moderations take lists, and prompts can be joined.",
            "Refused requests count too, so do not retry early, and turn off retry layers that are stacked.",
            "Work that can wait belongs in the Batch API, which has limits of its own.",
        ]
    if kind == "concurrency":
        return ["Send fewer requests at the same time (a semaphore, or a smaller pool of workers)."]
    if kind == "unknown":
        return ["Look at the headers of a successful response (x-ratelimit-*): they tell the limits and what is left."]
    share = _share(throttle)
    return [
        *(
            [f"This one request takes {share:.0%} of the whole limit: make it smaller."]
            if share and share >= 0.1
            else []
        ),
        "Lower the output limit (max_tokens and its relatives): it is charged when the request arrives, used or not.",
        "Send fewer calls at a time, or let them take turns as otel_ratelimit does.",
        "Get a higher limit, or spread the work; work that can wait belongs in the Batch API.",
    ]


def _share(throttle: Throttle) -> float | None:
    return throttle.requested / throttle.limit if throttle.requested and throttle.limit else None


def _figures(throttle: Throttle, response: Pasted) -> list[tuple[str, str]]:
    """The numbers, label and value."""
    rows = []
    noun = _NOUNS.get(throttle.kind, "")
    if throttle.limit is not None:
        rows.append(("limit", f"{amount(throttle.limit)} {noun}{_per(throttle)}".rstrip()))
    if throttle.used is not None:
        rows.append(("used", amount(throttle.used)))
    if throttle.requested is not None:
        rows.append(("requested", amount(throttle.requested)))
    if throttle.limit and throttle.used is not None and throttle.requested is not None and throttle.window_seconds:
        short = throttle.used + throttle.requested - throttle.limit
        if short > 0 and throttle.retryable:
            refill = throttle.limit / throttle.window_seconds
            rows.append(("short by", f"{amount(short)}, which refills in {seconds(short / refill)}"))
    rows += [("header says", _told(limit)) for limit in read_all(response.headers, None) if limit.limit or limit.reset]
    return rows


def _told(limit: LimitReading) -> str:
    noun = _NOUNS.get(limit.kind, limit.kind)
    window = f" per {limit.window_name}" if limit.window_name else ""
    told = f"{noun}{window}" if limit.limit is None else f"{amount(limit.limit)} {noun}{window}"
    if limit.remaining is not None:
        told += f", {amount(limit.remaining)} left"
    return told + (f", full again in {seconds(limit.reset)}" if limit.reset else "")


def _says(response: Pasted, word: str) -> bool:
    body = response.body
    return word in (body if isinstance(body, str) else json.dumps(body, default=str)).lower()


def amount(value: float) -> str:
    """A number with thousands apart."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def seconds(value: float) -> str:
    """A duration as people say it; two units at most."""
    if value < 60:
        return f"{value:.3f}".rstrip("0").rstrip(".") + " s"
    if value < 3600:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, rest = divmod(round(value / 60), 60)
    return f"{hours} h" + (f" {rest} min" if rest else "")
