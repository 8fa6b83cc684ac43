"""Limits in an event of a WebSocket: realtime's ``rate_limits.updated``, which stands for the headers that a socket has not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from otel_ratelimit._core.parsing.limits import LimitReading

TYPE: Final = "rate_limits.updated"
MAX_LIMITS: Final = 16
"""Limits read of one event; OpenAI sends two."""


def read_update(event: object) -> tuple[LimitReading, ...]:
    """The limits of a ``rate_limits.updated``, an SDK model or a mapping; () for any other event. Never raises.

    Read by way of the header of the same meaning (``limit``, ``remaining``, ``reset_seconds`` of each ``name``), so that what
    is believable is decided in one place.
    """
    if _read(event, "type") != TYPE:
        return ()
    from otel_ratelimit._core.parsing.limits import read_limits  # noqa: PLC0415 - see the package

    limits = _read(event, "rate_limits")
    if not isinstance(limits, (list, tuple)):
        return ()
    headers = {}
    for limit in limits[:MAX_LIMITS]:
        name = _read(limit, "name")
        if name not in ("requests", "tokens"):
            continue
        for field, unit in (("limit", ""), ("remaining", ""), ("reset_seconds", "s")):
            value = _read(limit, field)
            if type(value) in (int, float):
                headers[f"x-ratelimit-{field.partition('_')[0]}-{name}"] = f"{value}{unit}"
    return read_limits(headers)


def _read(holder: object, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
