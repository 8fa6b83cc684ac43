"""Which bucket a word of the server is about.

Owns the list of the buckets of one account. A response names its limits badly: a header says "tokens" and may mean the day, a
message says "tokens per min" and means another limit than the header beside it, limits change size in mid-flight. Knows no queue.

A header keeps to its bucket as long as what it says fits one. A message is matched by what it limits, its size and its window.
Where header and message turn out to speak of two buckets (the header shows more than the refill since a refusal can have
brought), the message's bucket goes on by itself and the header gets a new one; a call then has to fit both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from otel_ratelimit._core.amounts import INDEX
from otel_ratelimit._core.attempt import Reading
from otel_ratelimit._core.buckets.estimate import MAX_LIMIT, MIN_LIMIT, TUNED, Bucket, BucketTuning
from otel_ratelimit._core.buckets.infer import (
    CANONICAL_WINDOWS,
    WINDOW_SECONDS,
    differ,
    window_of,
)
from otel_ratelimit._core.buckets.several import MESSAGE, Slot, Words
from otel_ratelimit._core.buckets.tracked import SPLIT, Call, Refusal, Tracked

MOST_BUCKETS: Final = 8
"""More than any server names at once; beyond it the one not spoken of for longest goes."""


class Buckets:
    """All buckets of one account.

    Attributes:
        tracked: every bucket.
        holding: those that hold calls back; read by each call near a limit.
        slots: those that a header speaks of.
    """

    __slots__ = ("_tuning", "_turn", "_words", "holding", "slots", "tracked")

    def __init__(self, tuning: BucketTuning = TUNED) -> None:
        self.tracked: list[Tracked] = []
        self.holding: list[Tracked] = []
        self.slots: dict[Slot, Tracked] = {}
        self._turn = 0
        self._tuning = tuning
        self._words = Words()

    @property
    def certain(self) -> list[Tracked]:
        """Those whose window is no guess."""
        return [one for one in self.holding if one.bucket.window is not None and not one.ambiguous]

    # --- several behind one address -----------------------------------------------------------------------------------

    def doubt(self, tracked: Tracked) -> None:
        """It is one of several, and so is each that limits the same."""
        for other in self.tracked:
            other.several = other.several or other.limits_the_same_as(tracked)
        self._hold()

    def trust(self) -> None:
        """Each is the only one of its name again, as far as is known."""
        self._words.forget()
        for one in self.tracked:
            one.several = False
            one.doubt = 0.0
        self._hold()

    def sizes_of_all(self, tracked: Tracked) -> list[float]:
        """The sizes of those that limit the same, where they differ; otherwise none."""
        return self._words.sizes(tracked.bucket.kind, tracked.bucket.scope)

    @property
    def several(self) -> bool:
        """Whether some are of several behind one address."""
        return len(self.holding) < len(self.tracked)

    def _hold(self) -> None:
        self.holding = [one for one in self.tracked if not one.several]

    def _compare(self, found: Tracked, slot: Slot, remaining: float, reset: float | None, call: Call) -> None:
        """A header's word against those before it."""
        bucket = found.bucket
        said = self._words.of(slot)
        said.see_size(bucket.limit, call.sequence)
        if bucket.window is not None and not found.ambiguous:
            said.see_level(
                remaining, bucket=bucket, sent_at=call.sent_at, sequence=call.sequence, taken=call.taken[found.index] -
                call.refused[found.index], latest=call.latest, full_at=found.full_at(reset, call.sent_at),
            )  # fmt: skip
        if said.several and not found.several:
            self.doubt(found)

    # --- a header -----------------------------------------------------------------------------------------------------

    def of_reading(self, reading: Reading, call: Call) -> Tracked | None:
        """The bucket that a header is about, its size and window brought up to date; None if the header says nothing."""
        limit, remaining = reading.limit, reading.remaining
        index = INDEX.get(reading.kind)
        if index is None or limit is None or remaining is None:
            return None
        if not MIN_LIMIT <= limit <= MAX_LIMIT or not -MAX_LIMIT <= remaining <= MAX_LIMIT:
            return None
        slot = (reading.kind, reading.scope, reading.window_name)
        found = self.slots.get(slot)
        if found is None or found.bucket.limit != limit:
            found = self._of_slot(slot, index, limit, remaining, reading.reset)
        if reading.reset is not None:
            found.measure(limit, remaining, reading.reset, call.sent_at)
        self._compare(found, slot, remaining, reading.reset, call)
        if not found.several and found.contradicted_by(remaining, call):
            found = self._split(found, slot, call)
        self._mention(found)
        return found

    def _of_slot(self, slot: Slot, index: int, limit: float, remaining: float, reset: float | None) -> Tracked:
        """A header that is new, or whose limit has another size than before."""
        kind, scope, name = slot
        window = window_of(limit, remaining, reset) if name is None else WINDOW_SECONDS[name]
        if window not in CANONICAL_WINDOWS:
            window = None
        found = self.slots.get(slot)
        if found is not None and (window is None or found.bucket.window in (None, window)):
            self._change(found, limit, window)
            return found
        for other in self.tracked:
            bucket = other.bucket
            if bucket.kind != kind or bucket.scope != scope or differ(bucket.window, window):
                continue
            if other.is_size_of(limit) or (other.by_header and window is not None):
                if bucket.limit != limit or bucket.window is None:
                    bucket.resize(limit, window)
                other.by_header = True
                other.named = other.named or name is not None
                self.slots[slot] = other
                return other
        bucket = Bucket(kind, scope, limit, window, self._tuning)
        found = self.slots[slot] = self._add(Tracked(bucket, index, by_header=True, named=name is not None))
        return found

    def _change(self, found: Tracked, limit: float, window: float | None) -> None:
        """The limit of a header was changed, and with it that of the buckets that only messages speak of."""
        bucket = found.bucket
        before = bucket.limit
        for other in self.tracked:
            twin = other.bucket
            by_message = twin.kind == bucket.kind and twin.window == bucket.window and not other.by_header
            if other is found or (by_message and other.is_size_of(before)):
                twin.resize(limit, window)
        found.refusal = None

    def _split(self, found: Tracked, slot: Slot, call: Call) -> Tracked:
        """The header is about another bucket than the one that refused."""
        found.refusal = None
        found.by_header = False
        bucket = found.bucket
        bucket.enforce_per_second(2.0 * call.amounts[found.index])
        apart = Bucket(bucket.kind, bucket.scope, bucket.limit, bucket.window, self._tuning)
        own = self.slots[slot] = self._add(Tracked(apart, found.index, by_header=True, named=found.named))
        return own

    # --- a message ----------------------------------------------------------------------------------------------------

    def of_message(
        self,
        kind: str,
        limit: float,
        window: float | None,
        *,
        level: float,
        reported: Mapping[Tracked, float],
        call: Call,
    ) -> Tracked | None:
        """The bucket that the numbers in a refusal's message are about, made if need be; None if they are no limit.

        Args:
            kind, limit, window: as the message names them; the window in seconds.
            level: units that were left, by the message.
            reported: the buckets that the same response's headers were about, and what they said was left.
            call: the refused one.
        """
        index = INDEX.get(kind)
        if index is None or not MIN_LIMIT <= limit <= MAX_LIMIT:
            return None
        found, apart = self._spoken_of(kind, limit, window, level=level, reported=reported)
        if found is None:
            bucket = Bucket(kind, "", limit, window, self._tuning)
            found = self._add(Tracked(bucket, index, by_header=False, named=window is not None))
            if apart:
                bucket.enforce_per_second(2.0 * call.amounts[index])
        else:
            news = window is not None and not found.named
            found.named = found.named or news
            if news or not found.is_size_of(limit):
                found.bucket.resize(limit, window)
        self._mention(found)
        said = self._words.of((kind, "", MESSAGE))
        said.see_size(limit, call.sequence)
        if said.several and not found.several:
            self.doubt(found)
        found.refusal = Refusal(level, call.sent_at, call.latest, call.taken_now[index], found.bucket.full_at)
        return found

    def _spoken_of(
        self, kind: str, limit: float, window: float | None, *, level: float, reported: Mapping[Tracked, float]
    ) -> tuple[Tracked | None, bool]:
        """The bucket that such a message is about, one that no header speaks of before others; None if there is none yet.

        Beside it whether the same response's headers showed another bucket of that size: then they are two.
        """
        found: Tracked | None = None
        apart = False
        for one in self.tracked:
            if one.bucket.kind != kind:
                continue
            if differ(one.bucket.window, window) and (one.named or not one.is_size_of(limit)):
                continue  # a window that was only measured gives way to one that is named
            if not one.is_size_of(limit):
                if one.by_header or window is None:
                    continue
            elif reported.get(one, -math.inf) > level + SPLIT * limit:
                apart = True
                continue
            if found is None or found.by_header:
                found = one
        return found, apart

    # --- the list -----------------------------------------------------------------------------------------------------

    def _mention(self, found: Tracked) -> None:
        self._turn += 1
        found.spoken_of = self._turn

    def _add(self, found: Tracked) -> Tracked:
        if len(self.tracked) >= MOST_BUCKETS:
            oldest = min(self.tracked, key=lambda one: one.spoken_of)
            self.tracked = [one for one in self.tracked if one is not oldest]
            self.slots = {slot: one for slot, one in self.slots.items() if one is not oldest}
        self.tracked = [*self.tracked, found]
        found.several = any(other.several and other.limits_the_same_as(found) for other in self.tracked)
        self._hold()
        return found
