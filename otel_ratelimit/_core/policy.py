"""What a caller may set, and the arithmetic of one wait.

Owns the validated :class:`Policy` and the rule that turns a server's hint into a delay. Knows no clock and no random
generator: both are arguments. Environment variables are read elsewhere (``_settings``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, NamedTuple, get_args

from otel_ratelimit._core.store_url import FORMS, MEMORY, parse_store
from otel_ratelimit._core.throttle import Throttle

Mode = Literal["wait", "observe", "off"]
Priority = Literal["interactive", "normal", "batch"]
WhenRetriesDisabled = Literal["send", "pace", "wait"]

MODES: Final[tuple[str, ...]] = get_args(Mode)
PRIORITIES: Final[tuple[str, ...]] = get_args(Priority)
WHEN_RETRIES_DISABLED: Final[tuple[str, ...]] = get_args(WhenRetriesDisabled)

MOST_BUDGET: Final = 600.0
"""Seconds. The largest budget that is not asked for by name: the SDK's own default timeout."""

LONGEST_RETRY_AFTER: Final = 120.0
"""Seconds. The longest ``Retry-After`` that the SDK alone sits out: its ``MAX_RETRY_AFTER_DELAY``."""

FIRST_BACKOFF: Final = 0.5
"""Seconds. First ceiling of the exponential backoff; the SDK's own ``INITIAL_RETRY_DELAY``."""

LONGEST_SDK_BACKOFF: Final = 8.0
"""Seconds. The longest pause of the SDK's own backoff: its ``MAX_RETRY_DELAY``."""

ROUND_TRIP: Final = 0.5
"""Seconds that a request of the SDK's is taken to last that is refused; only counts for how long a call that fails takes."""

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
        max_wait: the most seconds that all waits of one call may take together. A delay that would overrun it is not cut
            down: the call fails at once. ``None`` (the default): as :meth:`budget` says, from 120 to 600 s.
            ``OTEL_RATELIMIT_MAX_WAIT``.
        buffer: seconds added to each delay that the server asked for. At least a millisecond of it is arithmetic (OpenAI
            truncates its delays to whole milliseconds); the rest covers the network and clocks at the boundary. Default
            0.025. ``OTEL_RATELIMIT_BUFFER``.
        max_backoff: ceiling in seconds of the exponential backoff that is used where the server names no delay.
            Default 60. ``OTEL_RATELIMIT_MAX_BACKOFF``.
        pacing: whether calls share what each learned of the limit and take turns (admission); ``False`` leaves each call
            to wait for itself. Default ``True``. ``OTEL_RATELIMIT_PACING``.
        priority: whose turn comes first among waiting calls: ``"interactive"``, ``"normal"`` (the default) or
            ``"batch"``. ``OTEL_RATELIMIT_PRIORITY``.
        when_retries_disabled: what is done with a call that has ``max_retries=0``. ``"send"`` (the default) sends it at once
            and hands a throttle to its caller, who has a plan of their own (a router, a fallback model); ``"pace"`` has it
            take its turn in the queue before it is sent; ``"wait"`` treats it as any other call, for frameworks that set 0 and
            loop themselves. ``OTEL_RATELIMIT_WHEN_RETRIES_DISABLED``.
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
    when_retries_disabled: WhenRetriesDisabled = "send"
    store: str = field(default=MEMORY, repr=False)

    def __post_init__(self) -> None:
        for setting in fields(self):
            check_setting(setting.name, getattr(self, setting.name))

    def budget(self, timeout: float | None, max_retries: int = 2) -> Budget:
        """For how long one call may wait.

        ``max_wait``, where it is set. Otherwise no less than the SDK alone could wait under the same settings: for one delay
        the call's own ``timeout`` or the longest ``Retry-After`` that the SDK sits out, whichever is longer; in all that, or as
        many of the longest ``Retry-After`` as it has retries; never more than 600 s.

        Args:
            timeout: the call's own timeout in seconds; None where it has none.
            max_retries: how often the SDK alone would send again.
        """
        if self.max_wait is not None:
            return Budget(self.max_wait, self.max_wait, 0.0)
        longest = min(max(MOST_BUDGET if timeout is None else timeout, LONGEST_RETRY_AFTER), MOST_BUDGET)
        total = min(max(longest, LONGEST_RETRY_AFTER * max_retries), MOST_BUDGET)
        return Budget(total, longest, _patience_of_the_sdk(max_retries))


class Budget(NamedTuple):
    """Seconds that one call may wait.

    Attributes:
        total: all of its waits together.
        longest: a single delay that the server asks for.
        patience: for how long a call whose turn would come too late stays in the queue nevertheless, because the limit may be
            freed meanwhile: as long as the SDK alone would have gone on asking. A call never fails sooner than without us.
    """

    total: float
    longest: float
    patience: float


def _patience_of_the_sdk(max_retries: int) -> float:
    """Seconds in which the SDK alone would have used up its retries, where no ``Retry-After`` says otherwise."""
    pauses = sum(min(FIRST_BACKOFF * 2.0**retry, LONGEST_SDK_BACKOFF) for retry in range(min(max_retries, 100)))
    return min(pauses + ROUND_TRIP * (1 + max_retries), MOST_BUDGET)


def check_setting(name: str, value: Any, *, label: str | None = None) -> None:
    """Raise ConfigurationError unless ``value`` is allowed for the setting ``name``.

    ``label`` is what the message calls it: the name of the environment variable, where it came from one. The value
    itself stays out of the message only where it could hold a secret (``store`` may carry a password).
    """
    from_variable = label is not None
    label = label or f"Policy.{name}"
    if name == "mode" and value not in MODES:
        raise ConfigurationError(f"{label} must be one of {', '.join(MODES)}; got {value!r}")
    if name == "priority" and value not in PRIORITIES:
        raise ConfigurationError(f"{label} must be one of {', '.join(PRIORITIES)}; got {value!r}")
    if name == "when_retries_disabled" and value not in WHEN_RETRIES_DISABLED:
        raise ConfigurationError(f"{label} must be one of {', '.join(WHEN_RETRIES_DISABLED)}; got {value!r}")
    if name == "pacing" and not isinstance(value, bool):
        raise ConfigurationError(f"{label} must be true or false; got {value!r}")
    if name == "store":
        try:
            parse_store(value)
        except ValueError as wrong:
            raise ConfigurationError(f"{label} must be one of {FORMS}; {wrong}") from None
    if name in ("buffer", "max_backoff") or (name == "max_wait" and value is not None):
        allowed = "a number of seconds, finite and not negative"
        if from_variable:  # where a unit may stand behind the number
            allowed += " (also 500ms, 5s, 2m, 1h)"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigurationError(f"{label} must be {allowed}; got {value!r}")
        if not math.isfinite(value) or value < 0:
            raise ConfigurationError(f"{label} must be {allowed}; got {value!r}")


class Delay(NamedTuple):
    """A wait after a throttle.

    Attributes:
        seconds: how long it is.
        asked: the part of it that the server asked for, with the buffer; coming back before that is pointless. 0 where it asked
            for nothing.
    """

    seconds: float
    asked: float


def delay_after(throttle: Throttle, policy: Policy, *, throttles: int, random: float, left: float = math.inf) -> Delay:
    """The wait after a throttle. Never less than the server asked for.

    Args:
        throttle: what the server said.
        policy: buffer and backoff ceiling.
        throttles: how often this call has been throttled by now, 1 for the first time.
        random: a number from [0, 1).
        left: seconds that the call may still wait. A pause of our own is cut down to it, so that the whole budget is used;
            what the server asked for never is.
    """
    doublings = min(throttles - 1, 30)  # beyond this the ceiling has long been reached; keeps the power finite
    if throttle.delay is None:
        ceiling = min(policy.max_backoff, FIRST_BACKOFF * 2.0**doublings)
        # Full jitter, see https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        return Delay(min(policy.buffer + random * ceiling, left), 0.0)
    asked = throttle.delay + policy.buffer
    floor = 0.0 if throttles == 1 else min(policy.max_backoff, FIRST_REPEAT_FLOOR * 2.0 ** (doublings - 1))
    jitter = random * min(HINT_JITTER_CAP, HINT_JITTER_RATIO * throttle.delay)
    return Delay(max(asked, min(max(asked, floor) + jitter, left)), asked)
