"""What a final exception says about us. Figures only: nothing of the request, nothing of the server's text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from otel_ratelimit._core.events import GiveUp, GiveUpReason

WORTH_SAYING: Final = 1.0
"""Seconds of our own pauses up to which a note does not mention them: jitter is part of any wait."""


def note(verdict: GiveUp, sends: int) -> str:
    """One sentence: how often it was tried, how long it waited, why it stopped and, where that helps, what to set."""
    asked = "" if verdict.asked is None or verdict.asked < 0.001 else f", next wait {verdict.asked:.3f} s"
    because = _BECAUSE[verdict.reason]
    if verdict.reason == "budget_exceeded" and verdict.paused > WORTH_SAYING:
        because = (
            f"the server refused again and again; {verdict.paused:.3f} s were pauses of our own, which grow with each refusal,"
            " beyond what it asked for; see Policy.max_wait"
        )
    return (
        f"otel_ratelimit: gave up after {sends} attempt{'' if sends == 1 else 's'} and {verdict.waited:.3f} s of waiting"
        f" (budget {verdict.budget:g} s{asked}): {because}"
    )


_BECAUSE: Final[Mapping[GiveUpReason, str]] = {
    "budget_exceeded": "the delay that the server asked for does not fit the budget; see Policy.max_wait and the call's timeout",
    "quota": "the quota is used up or billing is off; waiting does not help",
    "request_too_large": "the request is larger than the limit itself; waiting does not help",
    "server_refused": "the server said x-should-retry: false",
    "retries_disabled": "max_retries=0",
    "retries_exhausted": "the SDK's max_retries are used up",
    "body_not_replayable": "the request's body cannot be read a second time",
    "content_delivered": "a part of the stream had been delivered; sending again would repeat it",
    "queue_budget_exceeded": "the turn in the local queue would come too late; see Policy.max_wait and the call's timeout",
}
