"""The names of rate-limit headers: which limit, and what of it, one header tells.

Owns the grammar of names such as `x-ratelimit-remaining-tokens-minute`, `anthropic-ratelimit-input-tokens-limit` or
`x-codex-primary-used-percent`. Values are read by ``limits``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from otel_ratelimit._core.throttle import LimitKind, LimitWindow

Role = Literal["limit", "remaining", "reset", "used-percent", "status", "policy"]

_MAX_NAME_CHARS = 96
"""Characters. The longest name seen has 47."""

_ROLES: dict[str, Role] = {
    "limit": "limit",
    "remaining": "remaining",
    "reset": "reset",
    "resets": "reset",
    "timeremaining": "reset",  # GitHub Models: seconds
    "next": "reset",  # the moment of the next request
    "nextallowed": "reset",
    "nextavailable": "reset",
    "nextrequest": "reset",
    "expires": "reset",
    "expiry": "reset",
    "refresh": "reset",
    "renew": "reset",
    "wait": "reset",
    "policy": "policy",  # sizes with their windows
    "status": "status",  # Anthropic's unified limits: allowed, rejected
}
_WINDOWS: dict[str, LimitWindow] = {
    "second": "second",
    "minute": "minute",
    "min": "minute",
    "1m": "minute",
    "hour": "hour",
    "hourly": "hour",
    "1h": "hour",
    "5h": "hour",
    "day": "day",
    "daily": "day",
    "1d": "day",
    "month": "month",
    "monthly": "month",
}
_NOUNS: dict[str, LimitKind] = {
    "tokens": "tokens",
    "token": "tokens",
    "requests": "requests",
    "request": "requests",
    "req": "requests",
    "images": "images",
    "image": "images",
    "concurrent": "concurrency",
    "concurrency": "concurrency",
    "unified": "quota",
}
_TOKEN_SIDES: dict[str, LimitKind] = {
    "input": "input_tokens",
    "prompt": "input_tokens",
    "output": "output_tokens",
    "generated": "output_tokens",
    "completion": "output_tokens",
}
# Words that make a header tell something other than a limit: a price, a policy, a name, an instruction.
_WHEN = frozenset({"after", "at", "in", "time", "date", "available", "allowed"})
_OTHER = frozenset({"type", "exceeded", "resource", "cost", "query", "over", "retry", "overage", "claim"})
_UNITS = {
    "ms": 1e-3, "millis": 1e-3, "milliseconds": 1e-3, "seconds": 1.0, "minutes": 60.0, "hours": 3600.0,
}  # fmt: skip
"""Seconds. Plural words only: `-minute` names a window."""


@dataclass(frozen=True, slots=True)
class HeaderName:
    """What one header name means. ``key`` is equal for all headers of one limit; ``unit`` is seconds per 1."""

    role: Role
    key: tuple[str, ...]
    kind: LimitKind
    window: LimitWindow | None
    scope: str
    unit: float = 1.0


@lru_cache(maxsize=1024)
def read_name(name: str) -> HeaderName | None:
    """The meaning of a lower-case header name; None if it tells of no limit. Cached: servers repeat themselves."""
    if len(name) > _MAX_NAME_CHARS:
        return None
    if name.startswith("x-codex-"):
        return _codex(name)
    vendor, marker, rest = _usual(name).partition("ratelimit-")
    if not marker or vendor == "":  # without a prefix they are the IETF fields, see ``ietf``
        return None
    words = rest.split("-")
    if words[-1].endswith("ms") and words[-1][:-2] in _ROLES:  # "nextallowedms"
        words[-1:] = [words[-1][:-2], "ms"]
    roles = [word for word in words if word in _ROLES]
    if not roles or not _OTHER.isdisjoint(words) or ("policy" in words and len(roles) > 1):
        return None
    own = [word for word in words if word not in roles and word not in _UNITS and word not in _WHEN]
    return HeaderName(_ROLES[roles[0]], (vendor, *own), _kind(own), _window(own), _scope(own), unit_of("-".join(words)))


def _usual(name: str) -> str:
    """The spellings of some vendors in the usual form."""
    name = name.replace("_", "-").replace("rate-limit", "ratelimit")
    if name.startswith("x-tokenlimit-"):  # Together
        return f"{name.replace('tokenlimit', 'ratelimit')}-tokens"
    if "ratelimitbysize-" in name:  # Mistral: the size is in tokens
        return f"x-{name.replace('ratelimitbysize', 'ratelimit')}-tokens"
    return name


def unit_of(name: str) -> float:
    """Seconds per 1 of a plain number under this name, 1 if the name does not say."""
    return next((_UNITS[word] for word in name.split("-") if word in _UNITS), 1.0)


def _kind(words: list[str]) -> LimitKind:
    """A bare `x-ratelimit-limit` counts requests (OpenRouter, Together, GitHub)."""
    nouns = [_NOUNS[word] for word in words if word in _NOUNS]
    kind: LimitKind = nouns[0] if nouns else "unknown" if [w for w in words if w not in _WINDOWS] else "requests"
    if kind == "tokens":
        return next((_TOKEN_SIDES[word] for word in words if word in _TOKEN_SIDES), kind)
    return kind


def _window(words: list[str]) -> LimitWindow | None:
    return next((_WINDOWS[word] for word in words if word in _WINDOWS), None)


def _scope(words: list[str]) -> str:
    """Whose bucket: "project" (OpenAI since June 2026), "usage_based" (a second token bucket there), else ""."""
    if "project" in words:
        return "project"
    return "usage_based" if words[-2:] == ["usage", "based"] else ""


def _codex(name: str) -> HeaderName | None:
    """`x-codex-{primary,secondary}-{used-percent,reset-after-seconds,reset-at}`, also with a limit's name inside."""
    for ending, role in (("-used-percent", "used-percent"), ("-reset-after-seconds", "reset"), ("-reset-at", "reset")):
        if name.endswith(ending):
            return HeaderName(role, (name[: -len(ending)],), "quota", None, "")  # type: ignore[arg-type]
    return None
