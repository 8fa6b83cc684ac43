"""Whether what a server says under one name can come from a single bucket.

Several deployments behind one address have limits of their own. Headers and messages are those of the deployment that answered,
and jump from answer to answer; what a client may use is the sum. Owns the count of such contradictions for one name. Knows no
limiter and no queue.

*Sizes.* The size of the limit returns to one that it had before: a limit that is changed has no reason to.

*Levels.* What is left of a single bucket is what was left before, plus the refill, minus what our calls took (others' use, and
what ran over while it was full, make it less). A request that left after an answer came, and shows more than that, met another
one; unless the limit started anew in between.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from otel_ratelimit._core.buckets.estimate import Bucket

JUMP: Final = 0.05
"""Share of the limit by which what is left must exceed what it can be."""

FULL: Final = 0.9
"""Share of the limit from which on a rise may be a window that started anew."""

ENOUGH: Final = 3.0
"""Contradictions after which it is several buckets: windows that start anew without a word make one for each window."""

CONSISTENT: Final = 20.0
"""Comparisons without a contradiction that make up for one."""

MOST_SIZES: Final = 8
MOST_NAMES: Final = 16
"""More than any server says; bounds what is kept."""

Slot = tuple[str, str, str | None]
"""Kind, scope and name of the window: what tells one header from another."""

MESSAGE: Final = "message"
"""Stands for the name of the window, where the word is a message's."""


class _Word(NamedTuple):
    """The least that an answer said of late: units left, less the refill up to then, plus half of what our calls took up to then
    (half: charges are estimates); the latest request that had left when it came; when the limit is full again.
    """

    least: float
    latest: int
    full_at: float


class Contradictions:
    """What is said under one name, compared.

    Attributes:
        sizes: the sizes of the limit that were seen.
        several: whether no single bucket explains it.
    """

    __slots__ = ("_jumps", "_last", "_returns", "_sequence", "_size", "several", "sizes")

    def __init__(self) -> None:
        self.several = False
        self.sizes: list[float] = []
        self._size = 0.0
        self._sequence = -1
        self._returns = 0
        self._jumps = 0.0
        self._last: _Word | None = None

    def see_size(self, limit: float, sequence: int) -> None:
        """The answer to request ``sequence`` named the limit. One that left before those seen may be older than a change."""
        if limit == self._size or sequence <= self._sequence:
            return
        self._sequence = sequence
        if limit in self.sizes:
            self._returns += 1
            self.several = self.several or self._returns > 1
        elif len(self.sizes) < MOST_SIZES:
            self.sizes.append(limit)
        self._size = limit
        self._last = None

    def see_level(
        self,
        remaining: float,
        *,
        bucket: Bucket,
        sent_at: float,
        sequence: int,
        taken: float,
        latest: int,
        full_at: float,
    ) -> None:
        """``remaining`` units were left when request ``sequence`` had been dealt with, which left at ``sent_at``.

        Args:
            remaining, sent_at, sequence: see above.
            bucket: it; its window must be known.
            taken: the running total with that request's permit.
            latest: the latest request that had left when the answer came.
            full_at: when the limit is full again, by the server's word; inf where it gave none.
        """
        last = self._last
        if last is not None and sequence <= last.latest:
            return
        word = _Word(remaining - bucket.rate * sent_at + 0.5 * taken, latest, full_at)
        if last is None or sent_at >= last.full_at or remaining > FULL * bucket.limit:
            self._last = word
        elif word.least > last.least + JUMP * bucket.limit:
            self._last = word
            self._jumps += 1.0
            self.several = self.several or self._jumps >= ENOUGH
        else:
            self._last = word if word.least < last.least else last._replace(latest=latest, full_at=full_at)
            self._jumps = max(self._jumps - 1.0 / CONSISTENT, 0.0)


class Words:
    """What was said under each name."""

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: dict[Slot, Contradictions] = {}

    def of(self, slot: Slot) -> Contradictions:
        """What was said under this name."""
        found = self._of.get(slot)
        if found is None:
            if len(self._of) >= MOST_NAMES:
                self._of.clear()
            found = self._of[slot] = Contradictions()
        return found

    def sizes(self, kind: str, scope: str) -> list[float]:
        """The sizes of the several buckets that limit the same; empty where they are of one size, as far as is known."""
        sizes = {
            size for (one, whose, _), said in self._of.items() if (one, whose) == (kind, scope) for size in said.sizes
        }
        return sorted(sizes) if len(sizes) > 1 else []

    def forget(self) -> None:
        """Nothing was said."""
        self._of.clear()
