"""One logical call, from its first attempt to its end, as a generator.

``run`` yields commands (reserve a turn, sleep, send) and is sent what happened; it returns the verdict. All decisions
about retrying and waiting are here and read in the order in which they happen; the two drivers only carry them out.
Closing the generator at any point is how a call is cancelled.

The budget is time, not a count (a count that fits a short limit fails at a long one): what all waits of the call may
take together. A delay that does not fit is never cut down, because coming back early is throttled again and charged
once more; the call ends at once instead, while its caller still has time to do something else.

A turn in the queue is no instruction of the server's but our own estimate. So a call whose turn would come too late stays in the
queue for as long as the SDK alone would have gone on asking (``Budget.patience``); and it fails unsent only where the server has
told another one meanwhile to stay away for longer than this one may wait. Otherwise it goes as a probe.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Final

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
from otel_ratelimit._core.policy import FIRST_REPEAT_FLOOR, Budget, Policy, delay_after
from otel_ratelimit._core.throttle import Throttle

LEAST_WAIT: Final = 0.001
"""Seconds. A rest of the budget that is shorter is none: a clock may not tell its beginning from its end."""

RESERVE_NOW = Reserve(None)
_AS_PROBE = Reserve(None, as_probe=True)
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
    purse = _Purse(policy.budget(timeout, max_retries))
    throttles = 0
    reserve = RESERVE_NOW
    send = _SEND_FIRST
    why: WaitReason = "admission"
    planned = 0.0
    while True:
        before = purse.waited
        gave_up = yield from _turn(reserve, why, purse)
        if gave_up is not None:
            return gave_up
        # A delay that was over before the call could wait for it (a long body to read, a busy machine) is spent all the same:
        # else a server that refuses for ever would be asked for ever.
        purse.waited = max(purse.waited, before + planned)
        planned = 0.0
        outcome: Outcome = yield send
        if outcome.throttle is None:
            if outcome.failure is None:
                return _DELIVER
            if not outcome.sdk_retries:
                return purse.give_up("retries_exhausted", None) if outcome.resent else _DELIVER
            woken: Woken = yield _BACK_OFF
            purse.waited += woken.seconds
            reserve, send, why = RESERVE_NOW, Send(outcome.failure), "admission"
            continue

        throttles += 1
        throttle = outcome.throttle
        hopeless = _why_hopeless(outcome, throttle)
        if hopeless is not None:
            return purse.give_up(hopeless, throttle.delay)
        left = purse.left
        delay = delay_after(throttle, policy, throttles=throttles, random=random(), left=left)
        # A reset time is no instruction where a bucket knows when the call fits: the queue's answer decides then.
        binding = throttle.source != "x-ratelimit-reset"
        if left < LEAST_WAIT or (binding and delay.asked > min(left, purse.budget.longest)):
            return purse.give_up("budget_exceeded", delay.asked or None)
        planned = delay.seconds if binding else min(delay.seconds, FIRST_REPEAT_FLOOR)
        purse.paused += delay.seconds - delay.asked
        reserve, send = Reserve(outcome.at + delay.seconds), _SEND_AFTER_THROTTLE
        why = "backoff" if throttle.delay is None else "throttled"


def _turn(reserve: Reserve, why: WaitReason, purse: _Purse) -> Generator[Command, Any, GiveUp | None]:
    """Wait for the call's turn; returns None once it has come, or why it is waited for no longer."""
    answer = yield reserve
    while isinstance(answer, NotBefore):
        asked = answer.expected - answer.now
        told = 0.0 if reserve.not_before is None else max(reserve.not_before - answer.now, 0.0)
        closed = answer.closed_until is not None and answer.closed_until - answer.now > purse.left
        late = closed or asked > purse.left
        may_wait = min(purse.left, told + purse.patience) if late else purse.left
        # The server's own word that it is pointless: to be asked for anew at once, as the SDK alone would, not after a wait.
        ask = told < LEAST_WAIT if closed and not answer.fresh else may_wait < LEAST_WAIT and not closed
        if ask:
            answer = yield _AS_PROBE
            if not isinstance(answer, NotBefore):
                break
            may_wait = purse.left  # another probe is on its way: its answer counts
        if may_wait < LEAST_WAIT:
            return purse.give_up("queue_budget_exceeded" if why == "admission" else "budget_exceeded", asked)
        woken: Woken = yield Sleep(min(answer.at, answer.now + may_wait), why)
        purse.waited += woken.seconds
        if late:
            purse.patience = max(purse.patience - max(woken.seconds - told, 0.0), 0.0)
        answer = yield reserve
    return None


@dataclass(slots=True)
class _Purse:
    """What a call may wait, and what it has waited; seconds."""

    budget: Budget
    patience: float = field(init=False)
    waited: float = 0.0
    paused: float = 0.0

    def __post_init__(self) -> None:
        self.patience = self.budget.patience

    @property
    def left(self) -> float:
        return self.budget.total - self.waited

    def give_up(self, reason: GiveUpReason, asked: float | None) -> GiveUp:
        return GiveUp(reason, asked, self.waited, self.budget.total, self.paused)


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
        # Azure's 86400 s and a body that is too large name no number; a limit of 0 is a model that is not open.
        return "quota" if throttle.kind == "quota" or throttle.limit == 0 else "request_too_large"
    if not outcome.allowed:
        return "retries_disabled"
    if outcome.delivered:
        return "content_delivered"
    if outcome.refused:
        return "server_refused"
    if not outcome.replayable:
        return "body_not_replayable"
    return None
