"""The ledgers of one server account, and which of them a word of the server is about.

Owns the list of ledgers. A response names its limits badly: a header says "tokens" and may mean the day, a message
says "tokens per min" and means another limit than the header beside it, limits change size in mid-flight. Knows no
queue.

A header keeps to its ledger as long as what it says fits one; a message is matched by what it limits, its size and its
window. Where header and message turn out to speak of two buckets (the header shows more than the refill since a
refusal can have brought), the message's ledger goes on by itself and the header gets a new one; a call then has to
fit both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from otel_ratelimit._core.ledger import MAX_LIMIT, MIN_LIMIT, Ledger
from otel_ratelimit._core.windows import (
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

APART: Final = 0.1
"""Share of the limit by which what is left must differ between two readings that contradict a window which was measured before.
Readings of about the same fill can agree by chance."""

UNITS: Final = {"requests": 0, "tokens": 1, "input_tokens": 2, "output_tokens": 3, "images": 0}
"""Which of a call's needs (see ``queue.Needs``) a kind of limit counts."""


MOST_LEDGERS: Final = 8
"""More than any server names at once; beyond it the one not spoken of for longest goes."""

SAME: Final = 0.001
"""Share by which two sizes of one limit may differ in print ("1.5M")."""

SPLIT: Final = 0.1
"""Share of a limit by which a header must exceed what refill can have brought, to be about another bucket."""


FIRST_MARGIN: Final = 0.8
"""Share of a call's tokens that a ledger which only messages speak of starts its margin with: it hears of its errors by
refusals alone."""


ROUNDED: Final = 0.1
"""Share of a reset time that its rounding may have cut off at most; so that a time of one second is not taken for two."""


class Reading(Protocol):
    """What a response's headers say of one limit (``hints.limits.LimitReading``)."""

    @property
    def kind(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def window_name(self) -> str | None: ...
    @property
    def limit(self) -> float | None: ...
    @property
    def remaining(self) -> float | None: ...
    @property
    def reset(self) -> float | None: ...


class Refused(NamedTuple):
    """What a refusal's message said: units that were left, when the request was sent, the latest request that had left when the
    refusal came, and all that had been reserved of the unit by then."""

    level: float
    sent_at: float
    last_sent: int
    spent: float


class Entry:
    """One ledger and how the server speaks of it."""

    __slots__ = (
        "ambiguous", "by_header", "grain", "heard", "last", "ledger", "measured", "named", "refused", "short", "unit",
    )  # fmt: skip

    def __init__(self, ledger: Ledger, unit: int, *, by_header: bool, named: bool) -> None:
        self.ledger = ledger
        self.unit = unit
        self.by_header = by_header
        self.named = named
        """Whether the server has named the window. One that was only measured may turn out to be another."""
        self.ambiguous = False
        """Whether the window may well be another one, by what was read so far."""
        self.refused: Refused | None = None
        """The last refusal whose message spoke of it, while the headers of later answers are still compared to it."""
        self.short = False
        """Whether the last reading, on a refusal, showed too little left for the call."""
        self.heard = 0
        self.grain = 1.0
        """Seconds to which this header's times are printed."""
        self.last: tuple[float, float] | None = None
        """What the last header that the ledger did not explain said: units left, seconds until full."""
        self.measured = (0.0, 0.0)
        """A window that is no usual one, as one reading had it, and what was left then: believed once a second one agrees."""

    def full_at(self, reset: float | None, sent_at: float) -> float:
        """When the limit is full again, by the reset time that came with a request sent at ``sent_at``; inf where none did."""
        if reset is None or reset <= 0.0:
            return math.inf
        return sent_at + reset + min(self.grain, ROUNDED * reset)


class Book:
    """All ledgers of one account. ``entries`` is read by the admission on every call."""

    __slots__ = ("_turn", "entries", "slots")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.slots: dict[tuple[str, str, str | None], Entry] = {}
        self._turn = 0

    @property
    def sure(self) -> list[Entry]:
        """Those whose window is no guess."""
        return [entry for entry in self.entries if entry.ledger.window is not None and not entry.ambiguous]

    def for_reading(
        self, reading: Reading, *, need: Sequence[float], spent: Sequence[float], sent_at: float, sent: int
    ) -> Entry | None:
        """The entry that a header is about, its size and window brought up to date; None if the header says nothing."""
        limit, remaining = reading.limit, reading.remaining
        unit = UNITS.get(reading.kind)
        if unit is None or limit is None or remaining is None:
            return None
        if not MIN_LIMIT <= limit <= MAX_LIMIT or not -MAX_LIMIT <= remaining <= MAX_LIMIT:
            return None
        slot = (reading.kind, reading.scope, reading.window_name)
        entry = self.slots.get(slot)
        if entry is None or entry.ledger.limit != limit:
            entry = self._for_slot(slot, unit, limit, remaining, reading.reset)
        if reading.reset is not None:
            if reading.reset % 1.0:
                entry.grain = FINE_GRAIN
            if not entry.ledger.explains(remaining, reading.reset, entry.grain):
                self._measure(entry, limit, remaining, reading.reset)
            elif entry.ambiguous and entry.last is not None:
                entry.ambiguous = both_whole(entry.last, (remaining, reading.reset), limit, entry.grain)
        # What was under way when the refusal came may have been served before it: only a later request can tell.
        if entry.refused is not None and sent > entry.refused.last_sent:
            ledger = entry.ledger
            since = 0.5 * (spent[unit] - entry.refused.spent)  # of our estimates, half may be too much
            most = entry.refused.level + max(sent_at - entry.refused.sent_at, 0.0) * ledger.rate - since
            if since > 2.0 * SPLIT * limit:
                entry.refused = None
            if remaining > most + SPLIT * limit:
                entry.refused = None
                entry.by_header = False
                ledger.enforce_per_second(2.0 * need[entry.unit])
                apart = Ledger(reading.kind, reading.scope, limit, ledger.window)
                entry = self.slots[slot] = self._add(Entry(apart, unit, by_header=True, named=entry.named))
        self._turn += 1
        entry.heard = self._turn
        return entry

    def for_message(
        self,
        kind: str,
        limit: float,
        window: float | None,
        *,
        level: float,
        need: float,
        told: Mapping[Entry, float],
        sent_at: float,
        last_sent: int,
        spent: Sequence[float],
    ) -> Entry | None:
        """The entry that the numbers in a refusal's message are about, made if need be.

        Args:
            kind, limit, window: as the message names them; the window in seconds.
            level: units that were left, by the message.
            need: units that the refused call takes.
            told: the entries that the same response's headers were about, and what they said was left.
            sent_at: when the refused request was sent.
            last_sent, spent: the latest request that has left by now, and all that was reserved.
        """
        unit = UNITS.get(kind)
        if unit is None or not MIN_LIMIT <= limit <= MAX_LIMIT:
            return None
        found, apart = self._spoken_of(kind, limit, window, level=level, told=told)
        if found is None:
            found = self._add(Entry(Ledger(kind, "", limit, window), unit, by_header=False, named=window is not None))
            if unit:
                found.ledger.margin = FIRST_MARGIN * need
            if apart:
                found.ledger.enforce_per_second(2.0 * need)
        else:
            news = window is not None and not found.named
            found.named = found.named or news
            if news or abs(found.ledger.limit - limit) > SAME * limit:
                found.ledger.resize(limit, window)
        self._turn += 1
        found.heard = self._turn
        found.refused = Refused(level, sent_at, last_sent, spent[unit])
        return found

    def _spoken_of(
        self, kind: str, limit: float, window: float | None, *, level: float, told: Mapping[Entry, float]
    ) -> tuple[Entry | None, bool]:
        """The entry that such a message is about, one that no header speaks of before others; None if there is none yet.

        Beside it whether the same response's headers showed another bucket of that size: then they are two.
        """
        found: Entry | None = None
        apart = False
        for entry in self.entries:
            ledger = entry.ledger
            if ledger.kind != kind or differ(ledger.window, window):
                continue
            if abs(ledger.limit - limit) > SAME * limit:
                if entry.by_header or window is None:
                    continue
            elif told.get(entry, -math.inf) > level + SPLIT * limit:
                apart = True
                continue
            if found is None or found.by_header:
                found = entry
        return found, apart

    def _for_slot(
        self, slot: tuple[str, str, str | None], unit: int, limit: float, remaining: float, reset: float | None
    ) -> Entry:
        """A header that is new, or whose limit has another size than before."""
        kind, scope, name = slot
        named = name is not None
        window = window_of(limit, remaining, reset) if name is None else WINDOW_SECONDS[name]
        if window is not None and window not in CANONICAL_WINDOWS:
            window = None
        entry = self.slots.get(slot)
        if entry is not None and (window is None or entry.ledger.window in (None, window)):
            self._change(entry, limit, window)
            return entry
        for other in self.entries:
            ledger = other.ledger
            if ledger.kind != kind or ledger.scope != scope or differ(ledger.window, window):
                continue
            if abs(ledger.limit - limit) <= SAME * limit or (other.by_header and window is not None):
                if ledger.limit != limit or ledger.window is None:
                    ledger.resize(limit, window)
                other.by_header = True
                other.named = other.named or named
                self.slots[slot] = other
                return other
        ledger = Ledger(kind, scope, limit, window)
        entry = self.slots[slot] = self._add(Entry(ledger, unit, by_header=True, named=named))
        return entry

    def _change(self, entry: Entry, limit: float, window: float | None) -> None:
        """The limit of a header was changed, and with it that of the ledgers that only messages speak of."""
        ledger = entry.ledger
        before = ledger.limit
        for other in self.entries:
            twin = other.ledger
            spoken_of = twin.kind == ledger.kind and twin.window == ledger.window and not other.by_header
            if other is entry or (spoken_of and abs(twin.limit - before) <= SAME * before):
                twin.resize(limit, window)
        entry.refused = None

    def _measure(self, entry: Entry, limit: float, remaining: float, reset: float) -> None:
        """A header that does not fit what was believed of the bucket: its window, or how much of it can be saved up."""
        ledger = entry.ledger
        last, entry.last = entry.last, (remaining, reset)
        entry.ambiguous = False
        if last is not None:
            shape = slope_of(last, entry.last, limit, entry.grain)
            if shape is None and not (entry.named and differ(ledger.window, DEFAULT_WINDOW)):
                shape = shallow_of(last, entry.last, limit, entry.grain)
                # Readings that are close to each other often fit a whole bucket of a short window as well. The slower of the
                # two is believed until readings that are further apart tell.
                entry.ambiguous = shape is not None and both_whole(last, entry.last, limit, entry.grain)
            if shape is not None:
                ledger.reshape(*shape)
                if not entry.ambiguous:
                    return
        window = window_of(limit, remaining, reset)
        if window is None:
            return
        before, left = entry.measured
        agrees = abs(window - before) <= SAME_WINDOW * window
        if not agrees:
            entry.measured = (window, remaining)
        if entry.named:
            return
        if ledger.window not in CANONICAL_WINDOWS:
            if agrees or window in CANONICAL_WINDOWS:
                ledger.resize(limit, window)
        elif agrees and abs(remaining - left) > APART * limit:
            entry.ambiguous = False
            ledger.reshape(window, window)

    def _add(self, entry: Entry) -> Entry:
        if len(self.entries) >= MOST_LEDGERS:
            oldest = min(self.entries, key=lambda entry: entry.heard)
            self.entries = [entry for entry in self.entries if entry is not oldest]
            self.slots = {slot: entry for slot, entry in self.slots.items() if entry is not oldest}
        self.entries = [*self.entries, entry]
        return entry
