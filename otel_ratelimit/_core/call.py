"""One logical call, from its first attempt to its end, as a generator.

``run`` yields commands (reserve a turn, sleep, send) and is sent what happened; it returns the verdict. All decisions
about retrying and waiting are here and read in the order in which they happen; the two drivers only carry them out.
Closing the generator at any point is how a call is cancelled.

The budget is time, not a count (a count that fits a short limit fails at a long one): what all waits of the call may
take together. A delay that does not fit is never cut down, because coming back early is throttled again and charged
once more; the call ends at once instead, while its caller still has time to do something else.

A turn in the queue is no instruction of the server's but our own estimate. So a call whose turn would come too late stays in the
queue for as long as the SDK alone would have gone on asking (``Budget.patience``) before it fails unsent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from otel_ratelimit._core.events import (
    BackOff,
    Command,
    Deliver,
    GiveUp,
    GiveUpReason,
    NotBefore,
    Outcome,
    Reserve,
    Send,
    Sleep,
    Verdict,
    WaitReason,
    Woken,
)
from otel_ratelimit._core.policy import Policy, delay_after
from otel_ratelimit._core.throttle import Throttle

_RESERVE_NOW = Reserve(None)
_SEND_FIRST = Send(None)
_SEND_AFTER_THROTTLE = Send("throttle")
_BACK_OFF = BackOff()
_DELIVER = Deliver()


def run(
    policy: Policy, timeout: float | None, max_retries: int, random: Callable[[], float]
) -> Generator[Command, Any, Verdict]:
    """Decide one call.

    Yields a command and is sent its event: ``Reserve`` -> ``Admitted | NotBefore``, ``Sleep`` and ``BackOff`` ->
    ``Woken``, ``Send`` -> ``Outcome``.

    Args:
        policy: the caller's settings.
        timeout: the call's own timeout in seconds, None where it has none.
        max_retries: how often the SDK alone would send again.
        random: draws from [0, 1).
    """
    budget = policy.budget(timeout, max_retries)
    patience = budget.patience
    waited = paused = 0.0
    throttles = 0
    reserve = _RESERVE_NOW
    send = _SEND_FIRST
    why: WaitReason = "admission"
    while True:
        answer = yield reserve
        while isinstance(answer, NotBefore):
            asked = answer.expected - answer.now
            left = budget.total - waited
            late = asked > left
            if late:
                left = min(left, patience)
            if left <= 0:
                reason: GiveUpReason = "queue_budget_exceeded" if why == "admission" else "budget_exceeded"
                return GiveUp(reason, asked, waited, budget.total, paused)
            woken: Woken = yield Sleep(min(answer.at, answer.now + left), why)
            waited += woken.seconds
            if late:
                patience -= woken.seconds
            answer = yield reserve

        outcome: Outcome = yield send
        if outcome.throttle is None:
            if outcome.failure is None:
                return _DELIVER
            if not outcome.sdk_retries:
                return GiveUp("retries_exhausted", None, waited, budget.total) if outcome.resent else _DELIVER
            woken = yield _BACK_OFF
            waited += woken.seconds
            reserve, send, why = _RESERVE_NOW, Send(outcome.failure), "admission"
            continue

        throttles += 1
        throttle = outcome.throttle
        hopeless = _why_hopeless(outcome, throttle)
        if hopeless is not None:
            return GiveUp(hopeless, throttle.delay, waited, budget.total)
        left = budget.total - waited
        delay = delay_after(throttle, policy, throttles=throttles, random=random(), left=left)
        # A reset time is no instruction where a ledger knows when the call fits: the queue's answer decides then.
        binding = throttle.source != "x-ratelimit-reset"
        if left <= 0 or (binding and delay.asked > min(left, budget.longest)):
            return GiveUp("budget_exceeded", delay.asked or None, waited, budget.total, paused)
        paused += delay.seconds - delay.asked
        reserve, send = Reserve(outcome.at + delay.seconds), _SEND_AFTER_THROTTLE
        why = "backoff" if throttle.delay is None else "throttled"


def observe() -> Generator[Command, Any, Verdict]:
    """Observe mode: one attempt, which the SDK's own loop repeats by its own rules; its end is the call's end."""
    outcome: Outcome = yield _SEND_FIRST
    if outcome.throttle is None:
        return _DELIVER
    return GiveUp("retries_exhausted" if outcome.allowed else "retries_disabled", outcome.throttle.delay, 0.0, 0.0)


def foreseen_delay(throttle: Throttle, policy: Policy, throttles: int, random: float) -> float:
    """Observe mode: seconds that :func:`run` would have waited after this throttle; 0 where no wait helps.

    Args:
        throttle, policy: as there.
        throttles: how often the call has been throttled by now.
        random: a number from [0, 1).
    """
    return delay_after(throttle, policy, throttles=throttles, random=random).seconds if throttle.retryable else 0.0


def _why_hopeless(outcome: Outcome, throttle: Throttle) -> GiveUpReason | None:
    """Why no wait, however long, leads to another attempt; None where one may."""
    if not throttle.retryable:
        too_large = throttle.limit is not None and (throttle.requested or 0) > throttle.limit
        return "request_too_large" if too_large else "quota"
    if not outcome.allowed:
        return "retries_disabled"
    if outcome.delivered:
        return "content_delivered"
    if outcome.refused:
        return "server_refused"
    if not outcome.replayable:
        return "body_not_replayable"
    return None
