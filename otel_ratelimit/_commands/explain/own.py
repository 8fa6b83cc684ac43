"""What otel_ratelimit itself wrote into a pasted text: its notes on exceptions, its log lines, its queue's error.

Owns their patterns, and takes them out of the text, so that our words about a refusal are not read as a second one. The
sentences are made in ``_drivers.notes``, ``_drivers.openai_sdk`` and ``_telemetry.trace``; a test runs those against this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from otel_ratelimit._core.events import GiveUpReason

_NUMBER: Final = r"(\d{1,12}(?:\.\d{1,9})?(?:e\+\d{1,3})?)"
_REST: Final = r'[^\n"\\]{0,300}'
_NOTE: Final = re.compile(
    rf"otel_ratelimit: gave up after \d{{1,9}} attempts? and {_NUMBER} s of waiting"
    rf"(?: \([a-z0-9 .,]{{1,200}}\))? \(budget {_NUMBER} s(?:, next wait {_NUMBER} s)?\): ({_REST})"
)
_QUEUE: Final = re.compile(
    r"nothing was sent: the turn of this call in otel_ratelimit's own queue would come"
    rf" (?:in {_NUMBER} s|at a time that is not known), beyond its budget of {_NUMBER} s \({_NUMBER} s waited\){_REST}"
)
_WAIT: Final = re.compile(rf"\b(?:waits|would wait) {_NUMBER} s \((?:throttled|admission|backoff)\)")
_GAVE_UP: Final = re.compile(rf"\bgave up after \d{{1,9}} throttles? and {_NUMBER} s of waiting \(([a-z_]{{1,40}})\)")
_LOGGER: Final = re.compile(r"\botel_ratelimit(?:\.\w{1,40}){0,4}")
"""The name of our loggers, which would else read as a rate limit."""

KNOWN: Final[dict[GiveUpReason, tuple[str, str]]] = {
    "budget_exceeded": (
        "the delay that the server asked for does not fit the budget",
        "Set OTEL_RATELIMIT_MAX_WAIT to more to wait it out.",
    ),
    "quota": (
        "the quota is used up or billing is off",
        "No wait helps. Look at the provider's billing settings, and at which organisation the key belongs to.",
    ),
    "request_too_large": (
        "the request is larger than the limit itself",
        "Send less at a time: a shorter prompt, a lower output limit.",
    ),
    "server_refused": ("the server said x-should-retry: false", "The server does not want this request again."),
    "retries_disabled": (
        "max_retries=0",
        "The caller switched retrying off. With max_retries above 0 the call would have waited.",
    ),
    "retries_exhausted": (
        "the SDK's max_retries are used up",
        "This was another failure than a throttle: the SDK's own retries.",
    ),
    "body_not_replayable": (
        "the request's body cannot be read a second time",
        "Pass bytes, or a file that can be rewound.",
    ),
    "content_delivered": (
        "a part of the stream had been delivered",
        "Sending again would have repeated it: ask for the rest in a call of its own.",
    ),
    "queue_budget_exceeded": (
        "the turn in the local queue would come too late",
        "Nothing was sent. Send fewer calls at a time, or raise OTEL_RATELIMIT_MAX_WAIT.",
    ),
}
"""Each reason, as the notes begin to say it, and what helps."""


@dataclass(frozen=True)
class Own:
    """What we did, as often as the text has it.

    Attributes:
        event: "gave_up" or "waited".
        reason: the code of the reason, or the words of a note that is not known; None for a wait.
        count: how often.
        seconds: waited in all.
        longest: the longest wait; 0 for a give-up.
    """

    event: Literal["gave_up", "waited"]
    reason: str | None
    count: int
    seconds: float
    longest: float = 0.0

    @property
    def meaning(self) -> str:
        """The reason in words."""
        return self._known[0]

    @property
    def advice(self) -> str:
        """What helps."""
        return self._known[1]

    @property
    def _known(self) -> tuple[str, str]:
        return next(
            (told for code, told in KNOWN.items() if code == self.reason),
            (self.reason or "", "See docs/troubleshooting.md."),
        )

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        told = {"otel_ratelimit": self.event, "count": self.count, "seconds": round(self.seconds, 3)}
        return {**told, "reason": self.reason} if self.reason else told


def take_out(text: str) -> tuple[str, list[Own]]:
    """The text without our own sentences, and what they say: give-ups by reason, most frequent first, then the waits."""
    notes: _Counts = {}
    records: _Counts = {}
    waits: list[float] = []

    def gave_up(counts: _Counts, reason: str, seconds: str) -> str:
        count, total = counts.get(reason, (0, 0.0))
        counts[reason] = count + 1, total + float(seconds)
        return " "

    def waited(found: re.Match[str]) -> str:
        waits.append(float(found[1]))
        return " "

    text = _NOTE.sub(lambda found: gave_up(notes, _code(found[4]), found[1]), text)
    text = _QUEUE.sub(lambda found: gave_up(notes, "queue_budget_exceeded", found[3]), text)
    text = _GAVE_UP.sub(lambda found: gave_up(records, found[2], found[1]), text)
    text = _LOGGER.sub(" ", _WAIT.sub(waited, text))
    # One give-up leaves a note on the exception and a record in the log; where both are there, it is told once.
    told = [
        Own("gave_up", reason, *max(notes.get(reason, _NONE), records.get(reason, _NONE)))
        for reason in {**notes, **records}
    ]
    told.sort(key=lambda one: -one.count)
    if waits:
        told.append(Own("waited", None, len(waits), sum(waits), max(waits)))
    return text, told


_Counts = dict[str, tuple[int, float]]
"""How often each reason was there, and the seconds waited in all."""
_NONE: Final = (0, 0.0)


def _code(because: str) -> str:
    """The code of the reason that a note gives in words; the words, where none is known."""
    words = because.partition(";")[0].strip()
    return next((code for code, (said, _) in KNOWN.items() if words.startswith(said)), words)
