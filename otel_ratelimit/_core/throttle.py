"""What a server said when it throttled us: the one fact that the parser hands to the rest of the program.

Owns the shape and the meaning of the fields. Knows nothing of how they are found (``hints``) or what is done about
them (``policy``). It keeps no text of the response: message, keys, organisation and request ids stay behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ThrottleSource = Literal[
    "retry-after-ms",
    "retry-after",
    "retry-after-date",
    "x-ratelimit-reset",
    "ratelimit",
    "body-message",
    "body-field",
]
LimitKind = Literal[
    "requests", "tokens", "input_tokens", "output_tokens", "images", "concurrency", "quota", "overload", "unknown"
]
LimitWindow = Literal["second", "minute", "hour", "day", "month"]


@dataclass(frozen=True, slots=True)
class Throttle:
    """A response by which the server refused work because of a limit, its load, or money.

    Numbers are ``int`` where they are whole and ``float`` otherwise; none is negative, NaN or infinite.

    Attributes:
        delay: Seconds to wait before the next attempt, counted from the moment the response was read, exactly as the
            server asked: no buffer, no jitter, no cap. 0 means that the server said 0; None that it named no
            usable time (nothing, words such as "shortly", a date in the past, a number that nobody can mean).
        source: Where ``delay`` was found; None exactly if ``delay`` is None. ``retry-after-ms``, ``retry-after`` and
            ``retry-after-date`` (its form with a date) are headers, as are ``x-ratelimit-reset`` (that family and its
            vendor-named relatives) and ``ratelimit`` (the IETF fields); ``body-field`` is a field of the error body,
            ``body-message`` a sentence in it.
        kind: What ran out. ``quota`` is money, credits or a usage allowance; ``overload`` is the server's own
            capacity; ``unknown`` where the response does not say.
        window: The period the limit is counted over, None where it is not said or has no name here (a week). Of a period that is
            no single unit ("per 10 seconds") the unit.
        limit: The size of the limit, in units of ``kind``, None if not said.
        used: How much of it was taken when the server answered, None if not said.
        requested: What this one request would have taken, None if not said.
        retryable: Whether the same request can succeed by waiting alone. False for quota and billing, for a request
            larger than the limit, and for a limit of 0, even if ``delay`` is set. True says nothing of how long.
        window_seconds: How long that period is, where the response says it: 10.0 for "per 10 seconds" (whose ``window`` is
            "second"). A month has 30 days.
    """

    delay: float | None = None
    source: ThrottleSource | None = None
    kind: LimitKind = "unknown"
    window: LimitWindow | None = None
    limit: float | None = None
    used: float | None = None
    requested: float | None = None
    retryable: bool = True
    window_seconds: float | None = None
