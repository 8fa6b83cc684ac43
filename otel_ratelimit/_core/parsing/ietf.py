"""The IETF's `RateLimit` header fields, in every draft that servers implement.

Sources: draft-ietf-httpapi-ratelimit-headers, version 03 to 07 (`RateLimit-Limit`, `-Remaining`, `-Reset`, or
`RateLimit: limit=100, remaining=0, reset=5`) and 08 to 10 (`RateLimit: "default";r=0;t=30` with
`RateLimit-Policy: "default";q=100;w=60`). Knows no clock: times are handed on as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from otel_ratelimit._core.parsing.durations import number
from otel_ratelimit._core.throttle import LimitKind, LimitWindow

_MAX_ITEMS = 16
"""Items of one list that are read; a server has a handful of policies."""

_PARAMETER = re.compile(r'([a-z]{1,12})\s{0,2}=\s{0,2}("[^"]{0,64}"|[\w.:+-]{1,40})')
_ITEM_NAME = re.compile(r'\s*(?:"([^"]{0,64})"|([\w.:/*-]{1,64}))\s*(?:;|$)')
_ALIASES = {"limit": "l", "remaining": "r", "reset": "t", "quota": "q", "window": "w"}
_UNITS: dict[str, LimitKind] = {"requests": "requests", "concurrent-requests": "concurrency", "tokens": "tokens"}
_WINDOWS: dict[float, LimitWindow] = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}
_SHORTEST_MONTH, _LONGEST_MONTH = 28 * 86_400, 31 * 86_400
"""Seconds."""


@dataclass(frozen=True, slots=True)
class RateLimitField:
    """One limit. ``remaining`` and ``reset`` are text as sent, which ``limits`` reads like any other header's."""

    name: str
    quota: float | None
    remaining: str
    reset: str
    window: LimitWindow | None
    kind: LimitKind


def read_ratelimit_fields(headers: Mapping[str, str]) -> list[RateLimitField]:
    """The limits that the fields name; [] without any. ``headers`` has lower-case names."""
    policies = _items(headers.get("ratelimit-policy", "")) if "ratelimit-policy" in headers else {}
    current = _items(headers["ratelimit"]) if "ratelimit" in headers else {}
    triple = {role: headers[name] for name, role in _TRIPLE.items() if name in headers}
    if triple:
        current.setdefault("", {}).update(triple)
    return [_field(name, own, _policy_of(name, own, policies)) for name, own in current.items()]


def _policy_of(name: str, own: Mapping[str, str], policies: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """The policy of that name; nameless ones are told apart by their quota; a lone one is meant anyhow."""
    quota = own.get("l", "").partition(",")[0].strip()
    if name in policies:
        return policies[name]
    same = [policy for policy in policies.values() if policy.get("q") == quota]
    lone = list(policies.values()) if len(policies) == 1 else []
    return next(iter(same + lone), {})


_TRIPLE = {
    "ratelimit-limit": "l", "ratelimit-remaining": "r", "ratelimit-reset": "t",
    "rate-limit-limit": "l", "rate-limit-remaining": "r", "rate-limit-reset": "t",
}  # fmt: skip
NAMES = frozenset({"ratelimit", "ratelimit-policy", *_TRIPLE})
"""The names of the fields, and how they are misspelt."""


def _field(name: str, own: Mapping[str, str], policy: Mapping[str, str]) -> RateLimitField:
    quota_text = own.get("l") or own.get("q") or policy.get("q") or ""
    quota = number(quota_text) or number(quota_text.partition(",")[0].partition(";")[0])
    window = window_name(number(own.get("w") or policy.get("w") or "")) or policy_windows(quota_text).get(quota or 0.0)
    unit = (own.get("qu") or policy.get("qu") or "requests").strip('"')
    return RateLimitField(
        name=name,
        quota=quota or None,
        remaining=own.get("r", ""),
        reset=own.get("t", ""),
        window=window,
        kind=_UNITS.get(unit, "unknown"),
    )


def _items(value: str) -> dict[str, dict[str, str]]:
    """A structured-field list (RFC 9651) as {name: parameters}; the parameters of nameless items are put together."""
    items: dict[str, dict[str, str]] = {}
    for part in value.lower().split(",")[:_MAX_ITEMS]:
        named = _ITEM_NAME.match(part)
        name = (named[1] or named[2] or "") if named else ""
        parameters = {_ALIASES.get(key, key): text for key, text in _PARAMETER.findall(part)}
        if number(name) is not None:  # "100;w=60": the quota stands where later drafts have the name
            parameters["q"], name = name, f"#{name}"
        if parameters:
            items.setdefault(name, {}).update(parameters)
    return items


def policy_windows(value: str) -> dict[float, LimitWindow | None]:
    """The window of each size in the value of a limit or a policy: "10, 10;w=60, 1000;w=3600", "1000;w=60;u=request"."""
    if ";" not in value:
        return {}
    windows: dict[float, LimitWindow | None] = {}
    for item in _items(value).values():
        size = number(item.get("q", ""))
        if size is not None and "w" in item:
            windows[size] = window_name(number(item["w"]))
    return windows


def window_name(seconds: float | None) -> LimitWindow | None:
    """The name of a window of that many seconds, None if it has none."""
    if seconds is None:
        return None
    if _SHORTEST_MONTH <= seconds <= _LONGEST_MONTH:
        return "month"
    return _WINDOWS.get(seconds)
