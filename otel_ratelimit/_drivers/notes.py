"""What a final exception says about us. Figures only: nothing of the request, nothing of the server's text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from otel_ratelimit._core.events import GiveUp, GiveUpReason
from otel_ratelimit._core.waits import WaitParts

if TYPE_CHECKING:
    from otel_ratelimit._core.limiters.permits import Level
    from otel_ratelimit._core.throttle import Throttle

WORTH_SAYING: Final = 1.0
"""Seconds of our own pauses up to which a note does not mention them: jitter is part of any wait."""


def note(verdict: GiveUp, sends: int, parts: WaitParts | None = None) -> str:
    """One sentence: how often it was tried, how long it waited and for what, why it stopped and, where that helps, what to
    set. ``parts`` are those of all its waits, where they are known.
    """
    asked = "" if verdict.asked is None or verdict.asked < 0.001 else f", next wait {verdict.asked:.3f} s"
    because = _BECAUSE[verdict.reason]
    if verdict.reason == "budget_exceeded" and verdict.paused > WORTH_SAYING:
        because = (
            f"the server refused again and again; {verdict.paused:.3f} s were pauses of our own, which grow with each refusal,"
            " beyond what it asked for; see Policy.max_wait"
        )
    return (
        f"otel_ratelimit: gave up after {sends} attempt{'' if sends == 1 else 's'} and {verdict.waited:.3f} s of waiting"
        f"{_spent(parts)} (budget {verdict.budget:g} s{asked}): {because}"
    )


def observed_note(throttle: Throttle | None, sends: int, *, allowed: bool, foreseen: float, budget: float) -> str:
    """Observe mode: that nothing was done, and what mode "wait" would have done after the last throttle.

    Args:
        throttle: the last one; None where the call ended otherwise.
        sends: requests of the call.
        allowed: False where the caller set ``max_retries=0``.
        foreseen: seconds that would have been waited after it.
        budget: seconds that a single delay may take.
    """
    times = f"{sends} attempt{'' if sends == 1 else 's'}"
    if throttle is None:
        would = "have left it to the SDK as well"
    elif not throttle.retryable:
        would = "have failed at once: waiting does not help"
    elif not allowed:
        would = "have raised it as well, because of max_retries=0"
    elif foreseen > budget:
        would = f"have given up at once: {foreseen:.3f} s do not fit the budget of {budget:g} s"
    else:
        would = f"have waited {foreseen:.3f} s and sent it again"
    return f'otel_ratelimit (observe mode): the SDK gave up after {times}, and nothing was changed; mode "wait" would {would}'


def _spent(parts: WaitParts | None) -> str:
    """What the waiting was spent on; nothing where there was none worth a millisecond."""
    told = [f"{what} {seconds:.3f} s" for seconds, what in zip(parts or (), _FOR, strict=False) if seconds >= 0.0005]
    return f" ({', '.join(told)})" if told else ""


_FOR: Final = ("asked for by the server", "buffer", "in the queue", "backoff")
"""In the order of ``WaitParts``."""


def queue_message(verdict: GiveUp, limit: str) -> str:
    """The text of an ``AdmissionTimeoutError``; ``limit``: what set the limit, by the functions below."""
    return (
        f"nothing was sent: the turn of this call in otel_ratelimit's own queue {_turn(verdict)}, beyond its budget of"
        f" {verdict.budget:g} s ({verdict.waited:.3f} s waited). What set the limit: {limit}. Raise Policy.max_wait"
        " (OTEL_RATELIMIT_MAX_WAIT), or send fewer calls at a time."
    )


def queue_note(verdict: GiveUp, limit: str) -> str:
    """The same facts as a note, in the words of :func:`note`."""
    return (
        f"otel_ratelimit: gave up before anything was sent, after {verdict.waited:.3f} s of waiting (budget"
        f" {verdict.budget:g} s): the turn in the local queue {_turn(verdict)}. What set the limit: {limit}"
    )


def _turn(verdict: GiveUp) -> str:
    if verdict.asked is None or not math.isfinite(verdict.asked):
        return "would come at a time that is not known"
    return f"would come in {max(verdict.asked, 0.001):.3f} s"


def limit_words(*known: str | None) -> str:
    """What set the limit that a call waited for, of the phrases below; None for what is not known."""
    return "; ".join(filter(None, known)) or "no answer of the server yet; calls that came before go first"


def refusal_words(throttle: Throttle, age: float) -> str:
    """A refusal under that limit, ``age`` seconds ago."""
    told = "" if throttle.delay is None else f", which asked for {throttle.delay:g} s"
    size = "" if throttle.limit is None else f" {throttle.limit:g}"
    window = "" if throttle.window is None else f" a {throttle.window}"
    which = "" if throttle.kind == "unknown" else f" (limit:{size} {throttle.kind}{window})"
    return f"the server's last refusal, {max(age, 0.0):.1f} s ago{told}{which}"


def gauge_words(gauges: Iterable[Level]) -> str | None:
    """The limit that has least left, by what the server said of it; None where it named none."""
    known = [gauge for gauge in gauges if gauge.limit > 0]
    if not known:
        return None
    tightest = min(known, key=lambda gauge: gauge.remaining / gauge.limit)
    return f"by the server's figures {tightest.remaining:.0f} of {tightest.limit:g} {tightest.kind} are left by now"


_BECAUSE: Final[Mapping[GiveUpReason, str]] = {
    "budget_exceeded": "the delay that the server asked for does not fit the budget; see Policy.max_wait",
    "quota": "the quota is used up or billing is off; waiting does not help",
    "request_too_large": "the request is larger than the limit itself; waiting does not help",
    "server_refused": "the server said x-should-retry: false",
    "retries_disabled": "max_retries=0",
    "retries_exhausted": "the SDK's max_retries are used up",
    "body_not_replayable": "the request's body cannot be read a second time",
    "content_delivered": "a part of the stream had been delivered; sending again would repeat it",
    "queue_budget_exceeded": "the turn in the local queue would come too late; see Policy.max_wait",
}
