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
from typing import Final, NamedTuple

from otel_ratelimit._core.amounts import INDEX, Amounts
from otel_ratelimit._core.attempt import Reading
from otel_ratelimit._core.buckets.estimate import MAX_LIMIT, MIN_LIMIT, TUNED, Bucket, BucketTuning
from otel_ratelimit._core.buckets.infer import (
    CANONICAL_WINDOWS,
    DEFAULT_WINDOW,
    FINE_GRAIN,
    SAME_WINDOW,
    WINDOW_SECONDS,
    both_whole,
    differ,
    shallow_of,
    slope_of,
    window_of,
)
from otel_ratelimit._core.buckets.several import MESSAGE, Slot, Words

APART: Final = 0.1
"""Share of the limit by which what is left must differ between two readings that contradict a window which was measured before.
Readings of about the same level can agree by chance."""

MOST_BUCKETS: Final = 8
"""More than any server names at once; beyond it the one not spoken of for longest goes."""

SAME: Final = 0.001
"""Share by which two sizes of one limit may differ in print ("1.5M")."""

SPLIT: Final = 0.1
"""Share of a limit by which a header must exceed what refill can have brought, to be about another bucket."""

ROUNDED: Final = 0.1
"""Share of a reset time that its rounding may have cut off at most; so that a time of one second is not taken for two."""


class Call(NamedTuple):
    """The request that a response answers, as its server's words are dated by it.

    Attributes:
        amounts: what it takes.
        sent_at: when it left.
        sequence: its sequence number.
        taken: running totals of all permits up to it.
        latest: sequence number of the latest request that had left when the answer came.
        taken_now: running totals then.
    """

    amounts: Amounts
    sent_at: float
    sequence: int
    taken: Amounts
    latest: int
    taken_now: Amounts


class _Refusal(NamedTuple):
    """What a refusal's message said: units that were left, when the request was sent, the latest request that had left when the
    refusal came, and all that had been taken of the unit by then."""

    level: float
    sent_at: float
    latest: int
    taken: float


class Tracked:
    """One bucket and how the server speaks of it.

    Attributes:
        bucket: the estimate.
        index: which of a call's amounts it counts.
        by_header: whether a header speaks of it.
        named: whether the server has named the window. One that was only measured may turn out to be another.
        ambiguous: whether the window may well be another one, by what was read so far.
        exhausted: whether the last reading, on a refusal, showed too little left for the call.
        grain: seconds to which this header's times are printed.
        several: whether it is one of several behind one address, of which a call meets any: it holds no call back.
        doubt: units that it lacked, as was thought, for probes that were served in a row.
    """

    __slots__ = (
        "_last", "_measured", "_refusal", "_spoken_of", "ambiguous", "bucket", "by_header", "doubt", "exhausted", "grain",
        "index", "named", "several",
    )  # fmt: skip

    def __init__(self, bucket: Bucket, index: int, *, by_header: bool, named: bool) -> None:
        self.bucket = bucket
        self.index = index
        self.by_header = by_header
        self.named = named
        self.ambiguous = False
        self.exhausted = False
        self.grain = 1.0
        self.several = False
        self.doubt = 0.0
        self._spoken_of = 0
        self._refusal: _Refusal | None = None
        """The last refusal whose message spoke of it, while the headers of later answers are still compared to it."""
        self._last: tuple[float, float] | None = None
        """What the last header that the bucket did not explain said: units left, seconds until full."""
        self._measured = (0.0, 0.0)
        """A window that is no usual one, as one reading had it, and what was left then: believed once a second one agrees."""

    def full_at(self, reset: float | None, sent_at: float) -> float:
        """When the limit is full again, by the reset time that came with a request sent at ``sent_at``; inf where none did."""
        if reset is None or reset <= 0.0:
            return math.inf
        return sent_at + reset + min(self.grain, ROUNDED * reset)

    def is_size_of(self, limit: float) -> bool:
        """Whether ``limit`` is its size, as sizes are printed."""
        return abs(self.bucket.limit - limit) <= SAME * limit

    def limits_the_same_as(self, other: Tracked) -> bool:
        """Whether both limit the same unit of the same owner."""
        return (self.bucket.kind, self.bucket.scope) == (other.bucket.kind, other.bucket.scope)

    def contradicted_by(self, remaining: float, call: Call) -> bool:
        """Whether a header that shows ``remaining`` cannot be about the bucket that refused: more is left than its refill since
        then can have brought. Only a request that left after that refusal tells: an earlier one may have been served before
        it."""
        refusal = self._refusal
        if refusal is None or call.sequence <= refusal.latest:
            return False
        bucket = self.bucket
        since = 0.5 * (call.taken[self.index] - refusal.taken)  # half: these are estimates, and may be too high
        if since > 2.0 * SPLIT * bucket.limit:
            self._refusal = None
        most = refusal.level + max(call.sent_at - refusal.sent_at, 0.0) * bucket.rate - since
        return remaining > most + SPLIT * bucket.limit

    def measure(self, limit: float, remaining: float, reset: float) -> None:
        """A header that shows ``reset`` seconds until full: its window, and how much of it can be saved up, where it does not fit
        what is believed of the bucket."""
        if reset % 1.0:
            self.grain = FINE_GRAIN
        if self.bucket.explains(remaining, reset, self.grain):
            if self.ambiguous and self._last is not None:
                self.ambiguous = both_whole(self._last, (remaining, reset), limit, self.grain)
            return
        last, self._last = self._last, (remaining, reset)
        self.ambiguous = False
        if last is not None and self._reshaped(last, self._last, limit):
            return
        window = window_of(limit, remaining, reset)
        if window is not None:
            self._settle_window(window, limit, remaining)

    def _reshaped(self, last: tuple[float, float], reading: tuple[float, float], limit: float) -> bool:
        """Whether two readings tell window and depth beyond doubt."""
        shape = slope_of(last, reading, limit, self.grain)
        if shape is None and not (self.named and differ(self.bucket.window, DEFAULT_WINDOW)):
            shape = shallow_of(last, reading, limit, self.grain)
            # Two readings that are close to each other often fit a whole bucket of a short window as well. The slower one is
            # believed until readings that are further apart tell.
            self.ambiguous = shape is not None and both_whole(last, reading, limit, self.grain)
        if shape is None:
            return False
        self.bucket.reshape(*shape)
        return not self.ambiguous

    def _settle_window(self, window: float, limit: float, remaining: float) -> None:
        """One reading implies ``window``; a usual one is believed at once, another one once two readings agree."""
        before, left = self._measured
        agrees = abs(window - before) <= SAME_WINDOW * window
        if not agrees:
            self._measured = (window, remaining)
        if self.named:
            return
        if self.bucket.window not in CANONICAL_WINDOWS:
            if agrees or window in CANONICAL_WINDOWS:
                self.bucket.resize(limit, window)
        elif agrees and abs(remaining - left) > APART * limit:
            self.ambiguous = False
            self.bucket.reshape(window, window)


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

    def _hold(self) -> None:
        self.holding = [one for one in self.tracked if not one.several]

    def _compare(self, found: Tracked, slot: Slot, remaining: float, reset: float | None, call: Call) -> None:
        """A header's word against those before it."""
        bucket = found.bucket
        said = self._words.of(slot)
        said.see_size(bucket.limit, call.sequence)
        if bucket.window is not None and not found.ambiguous:
            said.see_level(
                remaining, limit=bucket.limit, rate=bucket.rate, sent_at=call.sent_at, sequence=call.sequence,
                latest=call.latest, full_at=found.full_at(reset, call.sent_at),
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
            found.measure(limit, remaining, reading.reset)
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
        found._refusal = None

    def _split(self, found: Tracked, slot: Slot, call: Call) -> Tracked:
        """The header is about another bucket than the one that refused."""
        found._refusal = None
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
        found._refusal = _Refusal(level, call.sent_at, call.latest, call.taken_now[index])
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
            if one.bucket.kind != kind or differ(one.bucket.window, window):
                continue
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
        found._spoken_of = self._turn

    def _add(self, found: Tracked) -> Tracked:
        if len(self.tracked) >= MOST_BUCKETS:
            oldest = min(self.tracked, key=lambda one: one._spoken_of)
            self.tracked = [one for one in self.tracked if one is not oldest]
            self.slots = {slot: one for slot, one in self.slots.items() if one is not oldest}
        self.tracked = [*self.tracked, found]
        found.several = any(other.several and other.limits_the_same_as(found) for other in self.tracked)
        self._hold()
        return found
