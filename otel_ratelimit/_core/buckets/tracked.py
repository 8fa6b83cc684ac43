"""One bucket, and how the server speaks of it.

Owns what the words about one limit tell of the bucket's kind, window and depth, beside the estimate of its level. Knows no other
limit; which bucket a word is about is ``identify``'s.

*Fixed windows.* A bucket that is refilled all the time is full later, the more is taken of it. A window that starts anew at its
end is full again at the same time, whatever is taken. So a later reading that shows no more left, and the same end, is about a
window.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from otel_ratelimit._core.amounts import NOTHING, Amounts
from otel_ratelimit._core.buckets.estimate import Bucket
from otel_ratelimit._core.buckets.infer import (
    CANONICAL_WINDOWS,
    DEFAULT_WINDOW,
    FINE_GRAIN,
    SAME_WINDOW,
    both_whole,
    differ,
    shallow_of,
    slope_of,
    window_of,
)

APART: Final = 0.1
"""Share of the limit by which what is left must differ between two readings that contradict a window which was measured before.
Readings of about the same level can agree by chance."""

SAME: Final = 0.001
"""Share by which two sizes of one limit may differ in print ("1.5M")."""

SPLIT: Final = 0.1
"""Share of a limit by which a header must exceed what refill can have brought, to be about another bucket."""

LEAST_APART: Final = 0.2
"""Seconds that two readings must be apart, and twice the grain of their times, to tell a window from a bucket: what was taken in
between moves the time at which a bucket is full by as much at least."""

MOST_ENDS: Final = 4
"""Readings that only a window explains, that are held against others."""

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
        refused: of these, what refused calls had taken.
    """

    amounts: Amounts
    sent_at: float
    sequence: int
    taken: Amounts
    latest: int
    taken_now: Amounts
    refused: Amounts = NOTHING


class _End(NamedTuple):
    """What a reading said of the time at which the limit is full again: that time, when the request left, units left, seconds
    until then.
    """

    at: float
    sent_at: float
    remaining: float
    reset: float


class Refusal(NamedTuple):
    """What a refusal's message said: units that were left, when the request was sent, the latest request that had left when the
    refusal came, all that had been taken of the unit by then, and when the limit is full again, by its headers.
    """

    level: float
    sent_at: float
    latest: int
    taken: float
    full_at: float


class Tracked:
    """One bucket and how the server speaks of it.

    Attributes:
        bucket: the estimate.
        index: which of a call's amounts it counts.
        by_header: whether a header speaks of it.
        named: whether the server has named the window. One that was only measured may turn out to be another.
        ambiguous: whether the window may well be another one, by what was read so far.
        exhausted: whether the last reading, on a refusal, showed too little left for the call.
        fixed: whether it is a window that starts anew at its end, as far as is known.
        grain: seconds to which this header's times are printed.
        refusal: the last refusal whose message spoke of it, while the headers of later answers are still compared to it.
        spoken_of: the turn in which the server last spoke of it.
        several: whether it is one of several behind one address, of which a call meets any: it holds no call back.
        doubt: units that it lacked, as was thought, for probes that were served in a row.
    """

    __slots__ = (
        "_end", "_ends", "_last", "_measured", "ambiguous", "bucket", "by_header", "doubt", "exhausted",
        "grain", "index", "named", "refusal", "several", "spoken_of",
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
        self.spoken_of = 0
        self.refusal: Refusal | None = None
        self._last: tuple[float, float] | None = None
        """What the last header that the bucket did not explain said: units left, seconds until full."""
        self._end: _End | None = None
        """When the limit is full again, by a reading of some time ago."""
        self._ends = 0
        """Readings that only a window explains, less those that none explains."""
        self._measured = (0.0, 0.0)
        """A window that is no usual one, as one reading had it, and what was left then: believed once a second one agrees."""

    def full_at(self, reset: float | None, sent_at: float) -> float:
        """When the limit is full again, by the reset time that came with a request sent at ``sent_at``; inf where none did."""
        if reset is None or reset <= 0.0:
            return math.inf
        return sent_at + reset + min(self.grain, ROUNDED * reset)

    @property
    def fixed(self) -> bool:
        return self.bucket.fixed

    def _watch_end(self, remaining: float, reset: float, sent_at: float) -> None:
        """Whether it is a window that starts anew: the end stays where it is, whatever is taken."""
        bucket, end = self.bucket, self._end
        if bucket.fixed and reset > (bucket.window or 0.0):
            bucket.fix(reset)  # the first reading may have come in the middle of one
        if end is not None and sent_at < end.at:
            if sent_at - end.sent_at < max(LEAST_APART, 2.0 * self.grain) or reset <= 0.0:
                return
            # (What is left is cut to whole units: the same number may hide a refill.)
            if abs(sent_at + reset - end.at) <= self.grain and remaining <= end.remaining - 1.0:
                self._ends = min(self._ends + 1, MOST_ENDS)
                if not bucket.fixed:
                    bucket.fix(max(end.reset, reset))
            elif remaining > end.remaining + SPLIT * bucket.limit:
                self._ends -= 1
                if self._ends < 0:
                    self._ends = 0
                    bucket.fixed = False
        self._end = _End(sent_at + reset, sent_at, remaining, reset)

    def is_size_of(self, limit: float) -> bool:
        """Whether ``limit`` is its size, as sizes are printed."""
        return abs(self.bucket.limit - limit) <= SAME * limit

    def limits_the_same_as(self, other: Tracked) -> bool:
        """Whether both limit the same unit of the same owner."""
        return (self.bucket.kind, self.bucket.scope) == (other.bucket.kind, other.bucket.scope)

    def contradicted_by(self, remaining: float, call: Call) -> bool:
        """Whether a header that shows ``remaining`` cannot be about the bucket that refused: more is left than its refill since
        then can have brought. Only a request that left after that refusal tells: an earlier one may have been served before
        it.
        """
        refusal = self.refusal
        if refusal is None or call.sequence <= refusal.latest:
            return False
        if call.sent_at >= refusal.full_at:
            self.refusal = None
            return False
        bucket = self.bucket
        since = 0.5 * (call.taken[self.index] - refusal.taken)  # half: these are estimates, and may be too high
        if since > 2.0 * SPLIT * bucket.limit:
            self.refusal = None
        most = refusal.level + max(call.sent_at - refusal.sent_at, 0.0) * bucket.rate - since
        return remaining > most + SPLIT * bucket.limit

    def measure(self, limit: float, remaining: float, reset: float, sent_at: float) -> None:
        """A header that shows ``reset`` seconds until full: its window, and how much of it can be saved up, where it does not fit
        what is believed of the bucket.
        """
        if reset % 1.0:
            self.grain = FINE_GRAIN
        self._watch_end(remaining, reset, sent_at)
        if self.bucket.fixed:
            return
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
