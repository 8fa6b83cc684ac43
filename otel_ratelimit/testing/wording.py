"""How the server says it: OpenAI's headers and messages, and other dialects of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from otel_ratelimit.testing.buckets import TOLERANCE, Limit, Refusal, State

_UNITS: Final = {"tokens": "tokens", "project_tokens": "tokens", "requests": "requests"}
_WINDOWS: Final = {1.0: "sec", 60.0: "min", 3600.0: "hour", 86400.0: "day"}
_HELP: Final = "Visit https://platform.openai.com/account/rate-limits to learn more."


@dataclass(frozen=True)
class Dialect:
    """What the server tells.

    Args:
        headers: ``x-ratelimit-*`` on every answer.
        retry_after: ``retry-after`` (whole seconds, rounded up) and ``retry-after-ms`` on refusals.
        message: ``"openai"`` (limit, used, requested, delay), ``"no-delay"`` (the same without the delay), ``"azure"``
            ("Please retry after 9 seconds."), or ``"bare"`` (nothing).
    """

    headers: bool = True
    retry_after: bool = True
    message: Literal["openai", "no-delay", "azure", "bare"] = "openai"


OPENAI: Final = Dialect()
MESSAGE_ONLY: Final = Dialect(headers=False, retry_after=False)
HEADERS_ONLY: Final = Dialect(retry_after=False, message="bare")
BARE: Final = Dialect(headers=False, retry_after=False, message="bare")
AZURE: Final = Dialect(message="azure")


def duration(seconds: float) -> str:
    """A duration in seconds as OpenAI prints it, which is as Go does, truncated to milliseconds: ``0s``, ``564ms``,
    ``1.25s``, ``1m9.696s``, ``14h29m11.04s``.
    """
    milliseconds = math.floor(seconds * 1000 + TOLERANCE)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    whole, rest = divmod(milliseconds, 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{whole}.{rest:03d}".rstrip("0").rstrip(".") + "s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def limit_headers(states: Iterable[State]) -> dict[str, str]:
    """``x-ratelimit-{limit,remaining,reset}-{requests,tokens,project-tokens}``. Of several windows of one kind, the
    longest is shown: OpenAI was seen to describe the day.
    """
    headers: dict[str, str] = {}
    for state in sorted(states, key=lambda state: state.limit.window):
        name = state.limit.kind.replace("_", "-")
        headers[f"x-ratelimit-limit-{name}"] = f"{state.limit.amount:.0f}"
        headers[f"x-ratelimit-remaining-{name}"] = str(state.remaining)
        headers[f"x-ratelimit-reset-{name}"] = duration(state.reset)
    return headers


def retry_after_headers(delay: float) -> dict[str, str]:
    """``delay`` (seconds) as whole seconds, rounded up, and as the finer milliseconds."""
    return {"retry-after": str(math.ceil(delay)), "retry-after-ms": str(math.floor(delay * 1000 + TOLERANCE))}


def _window(limit: Limit) -> tuple[str, str]:
    """The words for a limit's window, and its shorthand: ``tokens per min``, `` (TPM)``. OpenAI has no words for an odd
    window; it is named in seconds then, since a wrong one would contradict the numbers.
    """
    unit = _UNITS[limit.kind]
    window = _WINDOWS.get(limit.window)
    if window is None:
        return f"{unit} per {limit.window:g} seconds", ""
    return f"{unit} per {window}", f" ({unit[0]}p{window[0]})".upper()


def refusal_message(refusal: Refusal, model: str, dialect: Dialect) -> str:
    """The sentence of a 429."""
    per, short = _window(refusal.limit)
    amount = refusal.limit.amount
    if dialect.message == "bare":
        return "Too Many Requests"
    if dialect.message == "azure":
        what = "call" if refusal.limit.kind == "requests" else "token"
        seconds = max(1, math.ceil(refusal.delay))
        return (
            f"Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded "
            f"{what} rate limit of your current OpenAI S0 pricing tier. "
            f"Please retry after {seconds} second{'' if seconds == 1 else 's'}."
        )
    if refusal.too_large:
        return (
            f"Request too large for {model} in organization org-test on {per}{short}: "
            f"Limit {amount * refusal.limit.share:.0f}, Requested {refusal.requested}. "
            f"The input or output tokens must be reduced in order to run successfully. {_HELP}"
        )
    wait = f" Please try again in {duration(refusal.delay)}." if dialect.message == "openai" else ""
    return (
        f"Rate limit reached for {model} in organization org-test on {per}{short}: "
        f"Limit {amount:.0f}, Used {refusal.used}, Requested {refusal.requested}.{wait} {_HELP}"
    )


def error_body(message: str, *, kind: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI wraps it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def refusal_body(refusal: Refusal, model: str, dialect: Dialect) -> dict[str, Any]:
    """The body of a 429."""
    if dialect.message == "azure":
        return {"error": {"code": "429", "message": refusal_message(refusal, model, dialect)}}
    if dialect.message == "bare":
        return error_body(refusal_message(refusal, model, dialect))
    return error_body(
        refusal_message(refusal, model, dialect), kind=_UNITS[refusal.limit.kind], code="rate_limit_exceeded"
    )
