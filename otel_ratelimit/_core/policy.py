"""What a caller may set, and the arithmetic of one wait.

Owns the validated :class:`Policy` and the rule that turns a server's hint into a delay. Knows no clock and no random
generator: both are arguments. Environment variables are read elsewhere (``_settings``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, get_args

from otel_ratelimit._core.throttle import Throttle

Mode = Literal["wait", "observe", "off"]
Priority = Literal["interactive", "normal", "batch"]

MODES: Final[tuple[str, ...]] = get_args(Mode)
PRIORITIES: Final[tuple[str, ...]] = get_args(Priority)

MEMORY: Final = "memory://"
"""The store that is none: each process for itself."""

DEFAULT_BUDGET: Final = 600.0
"""Seconds. The budget where neither the policy nor the call sets one: the SDK's own default timeout."""

FIRST_BACKOFF: Final = 0.5
"""Seconds. First ceiling of the exponential backoff; the SDK's own ``INITIAL_RETRY_DELAY``."""

HINT_JITTER_RATIO: Final = 0.05
HINT_JITTER_CAP: Final = 1.0
"""Seconds. Callers that were told the same instant spread over a twentieth of their wait, but never over more than this."""

FIRST_REPEAT_FLOOR: Final = 0.1
"""Seconds. Least wait of a call that was throttled twice; doubles each further time. Tiny hints that keep coming mean
that others take what this call was promised, and asking again at once is charged as one more request."""


class ConfigurationError(ValueError):
    """A setting has a value that is not allowed. The message names the setting, the value's type and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How throttled calls wait. Immutable; every value is checked when the policy is made.

    Args:
        mode: ``"wait"`` (the default) waits and retries; ``"observe"`` changes no behaviour and only emits telemetry;
            ``"off"`` does nothing at all. Environment: ``OTEL_RATELIMIT_MODE``.
        max_wait: the most seconds that all waits of one call may take together; ``None`` (the default) means the call's
            own ``timeout``. The lesser of the two holds. Where neither is set it is 600 s, the SDK's default timeout. A
            delay that would overrun it is not cut down: the call fails at once. ``OTEL_RATELIMIT_MAX_WAIT``.
        buffer: seconds added to each delay that the server asked for. At least a millisecond of it is arithmetic (OpenAI
            truncates its delays to whole milliseconds); the rest covers the network and clocks at the boundary. Default
            0.025. ``OTEL_RATELIMIT_BUFFER``.
        max_backoff: ceiling in seconds of the exponential backoff that is used where the server names no delay.
            Default 60. ``OTEL_RATELIMIT_MAX_BACKOFF``.
        pacing: whether calls share what each learned of the limit and take turns (admission); ``False`` leaves each call
            to wait for itself. Default ``True``. ``OTEL_RATELIMIT_PACING``.
        priority: whose turn comes first among waiting calls: ``"interactive"``, ``"normal"`` (the default) or
            ``"batch"``. ``OTEL_RATELIMIT_PRIORITY``.
        store: where the shared state lives: ``"memory://"`` (this process, the default), or the URL of a Redis or Valkey
            that all processes of a fleet share, ``"redis://host:6379"`` say (extra ``otel-ratelimit[redis]``). Read when the
            hooks are installed; in ``use`` it has no effect. Never shown, because it may hold a password.
            ``OTEL_RATELIMIT_STORE``.

    Raises:
        ConfigurationError: a value is of the wrong type or out of range.
    """

    mode: Mode = "wait"
    max_wait: float | None = None
    buffer: float = 0.025
    max_backoff: float = 60.0
    pacing: bool = True
    priority: Priority = "normal"
    store: str = field(default=MEMORY, repr=False)

    def __post_init__(self) -> None:
        for setting in fields(self):
            check_setting(setting.name, getattr(self, setting.name))

    def budget(self, timeout: float | None) -> float:
        """Seconds that the waits of one call may total.

        Args:
            timeout: the call's own timeout in seconds; None where it has none.
        """
        limits = [value for value in (self.max_wait, timeout) if value is not None]
        return min(limits) if limits else DEFAULT_BUDGET


def check_setting(name: str, value: Any, *, label: str | None = None) -> None:
    """Raise ConfigurationError unless ``value`` is allowed for the setting ``name``.

    ``label`` is what the message calls it: the name of the environment variable, where it came from one. The value
    itself stays out of the message only where it could hold a secret (``store`` may carry a password).
    """
    label = label or f"Policy.{name}"
    if name == "mode" and value not in MODES:
        raise ConfigurationError(f"{label} must be one of {', '.join(MODES)}; got {value!r}")
    if name == "priority" and value not in PRIORITIES:
        raise ConfigurationError(f"{label} must be one of {', '.join(PRIORITIES)}; got {value!r}")
    if name == "pacing" and not isinstance(value, bool):
        raise ConfigurationError(f"{label} must be true or false; got {value!r}")
    if name == "store" and value != MEMORY:
        from otel_ratelimit._core.store_url import FORMS, parse_store  # noqa: PLC0415 - only where there is one to read

        try:
            parse_store(value)
        except ValueError as wrong:
            raise ConfigurationError(f"{label} must be one of {FORMS}; {wrong}") from None
    if name in ("buffer", "max_backoff") or (name == "max_wait" and value is not None):
        allowed = "a number of seconds, finite and not negative"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigurationError(f"{label} must be {allowed}; got {value!r}")
        if not math.isfinite(value) or value < 0:
            raise ConfigurationError(f"{label} must be {allowed}; got {value!r}")


def delay_after(throttle: Throttle, policy: Policy, *, throttles: int, random: float) -> float:
    """Seconds to wait after a throttle. Never less than the server asked for.

    Args:
        throttle: what the server said.
        policy: buffer and backoff ceiling.
        throttles: how often this call has been throttled by now, 1 for the first time.
        random: a number from [0, 1).
    """
    doublings = min(throttles - 1, 30)  # beyond this the ceiling has long been reached; keeps the power finite
    if throttle.delay is None:
        ceiling = min(policy.max_backoff, FIRST_BACKOFF * 2.0**doublings)
        # Full jitter, see https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        return policy.buffer + random * ceiling
    floor = 0.0 if throttles == 1 else min(policy.max_backoff, FIRST_REPEAT_FLOOR * 2.0 ** (doublings - 1))
    jitter = random * min(HINT_JITTER_CAP, HINT_JITTER_RATIO * throttle.delay)
    return max(throttle.delay + policy.buffer, floor) + jitter
