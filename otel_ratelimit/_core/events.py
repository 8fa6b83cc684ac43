"""What passes between the core and a driver: commands down, events up, a verdict at the end.

Nobody changes one after it was made. (They are not frozen, because making ten such classes would take 5 ms of every program's
start.) Times are seconds on the driver's monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from otel_ratelimit._core.throttle import Throttle

WaitReason = Literal["throttled", "admission", "backoff"]
FailureReason = Literal["server_error", "timeout", "connection"]
RetryReason = Literal["throttle", "server_error", "timeout", "connection"]
GiveUpReason = Literal[
    "budget_exceeded",
    "quota",
    "request_too_large",
    "server_refused",
    "retries_disabled",
    "retries_exhausted",
    "body_not_replayable",
    "queue_budget_exceeded",
    "content_delivered",
]
CallOutcome = Literal["recovered", "gave_up", "not_retryable", "cancelled"]


# --- commands: what the driver is asked to do ---------------------------------------------------------------------


@dataclass(slots=True)
class Reserve:
    """Ask for this call's turn.

    Attributes:
        not_before: the earliest moment that makes sense, None for now.
        as_probe: go although there seems to be no room, to have the server's own word; one call does so at a time.
    """

    not_before: float | None
    as_probe: bool = False


@dataclass(slots=True)
class Sleep:
    """Wait until ``until``, or until woken earlier because the turn came sooner."""

    until: float
    reason: WaitReason


@dataclass(slots=True)
class Send:
    """Send the request once. ``reason`` says why it is sent again, None for the first time."""

    reason: RetryReason | None


@dataclass(slots=True)
class BackOff:
    """Sleep as the SDK itself would before it retries a failure that is no throttle."""


Command = Reserve | Sleep | Send | BackOff


# --- events: what happened ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Admitted:
    """The turn has come."""


@dataclass(slots=True)
class NotBefore:
    """Not yet, it is ``now``: asking again before ``at`` is pointless; the turn is likely to come at ``expected``.

    ``closed_until``: until when the server told the call to stay away that it refused last; None where it has refused none, or a
    larger one. ``fresh``: whether that was since this call came.
    """

    now: float
    at: float
    expected: float
    closed_until: float | None = None
    fresh: bool = False


@dataclass(slots=True)
class Woken:
    """A wait ended; it took ``seconds``."""

    seconds: float


@dataclass(slots=True)
class Outcome:
    """How one attempt ended.

    Attributes:
        at: when the verdict was in.
        throttle: what the server said, if it was a throttle; None for success and for other failures.
        failure: the kind of a failure that is no throttle but may pass; None for success and for lasting failures.
        sdk_retries: whether the SDK's own rules would retry this failure now.
        resent: whether the request was sent more than once by now.
        allowed: False where the caller set ``max_retries=0`` and the policy leaves such calls alone.
        refused: the server said ``x-should-retry: false``.
        replayable: whether the body can be sent again.
        delivered: whether a part of the answer, a stream's first content, has reached the caller already.
    """

    at: float
    throttle: Throttle | None = None
    failure: FailureReason | None = None
    sdk_retries: bool = False
    resent: bool = False
    allowed: bool = True
    refused: bool = False
    replayable: bool = True
    delivered: bool = False


Event = Admitted | NotBefore | Woken | Outcome


# --- verdicts: how the call ends ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Deliver:
    """Hand the last attempt's result, or its exception, to the caller as it is."""


@dataclass(slots=True)
class GiveUp:
    """Raise the SDK's own exception of the last attempt; where nothing was sent yet, say that the queue was ours.

    Attributes:
        reason: why no further attempt is made.
        asked: seconds that the last delay would have taken, None where none was computed.
        waited: seconds that the call has waited in all.
        budget: seconds that it was allowed to wait.
        paused: seconds of the waits after throttles that the server had not asked for: our own pauses.
    """

    reason: GiveUpReason
    asked: float | None
    waited: float
    budget: float
    paused: float = 0.0


Verdict = Deliver | GiveUp
