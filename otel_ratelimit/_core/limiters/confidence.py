"""Whether the tracked buckets are believed alone, and whether headers that show room are.

A bucket is a model. Where a server does something that no model of ours has, it may show room for call after call that the server
then refuses. So refusals of calls that the buckets had let go are counted, by generation (what was in flight together says one
thing once). Once there have been too many, the rate that is found by trial, which needs no model, holds beside them until they
have been right for as long.

Likewise headers that show room after a refusal that no bucket explains: some gateways refuse the first calls of a burst and are
idle afterwards, so the trial rate ends. Where it was needed after all, the headers are believed so much more seldom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ConfidenceTuning:
    """The numbers of belief.

    Attributes:
        surprises: generations of requests in a row, let go and refused, that are put down to chance: others' bursts, a limit
            that changed. Without the rule, mixtures take 1.305 of the bound instead of 1.115 (``simulation --wild``).
        right_calls: calls served that make up for one of them.
        believed: times that headers may end a trial rate. A burst that is refused at its beginning makes one of it; headers of
            another limit than the one that refuses are found out after the second.
        believed_calls: calls served that restore one of those times.
    """

    surprises: float = 4.0
    right_calls: float = 8.0
    believed: float = 2.0
    believed_calls: float = 200.0


TUNED: Final = ConfidenceTuning()


class Confidence:
    """Counts surprises."""

    __slots__ = ("_believed", "_generation", "_surprises", "_tuning")

    def __init__(self, tuning: ConfidenceTuning = TUNED) -> None:
        self._tuning = tuning
        self._surprises = 0.0
        self._believed = 0.0
        self._generation = -1

    @property
    def shaken(self) -> bool:
        """Whether there were surprises that have not been made up for."""
        return self._surprises > 0.0

    def believes_headers(self) -> bool:
        """Whether headers that show room may end a trial rate; if so, it counts as done."""
        tuning = self._tuning
        if self._surprises > tuning.surprises or self._believed + 1.0 > tuning.believed:
            return False
        self._believed += 1.0
        return True

    def surprised(self, sequence: int, latest: int) -> bool:
        """Request ``sequence`` was refused though it had room, when ``latest`` was the last one sent. True: do not rely on it."""
        if sequence > self._generation:
            self._surprises += 1.0
            self._generation = latest
        return self._surprises > self._tuning.surprises

    def served(self) -> None:
        """Any request was served."""
        self._believed = max(self._believed - 1.0 / self._tuning.believed_calls, 0.0)

    def right(self, sequence: int) -> bool:
        """Request ``sequence`` was served as expected; True if the buckets are believed again by that."""
        if sequence <= self._generation:
            return False
        doubted = self._surprises > self._tuning.surprises
        self._surprises = max(self._surprises - 1.0 / self._tuning.right_calls, 0.0)
        return doubted and self._surprises <= self._tuning.surprises
