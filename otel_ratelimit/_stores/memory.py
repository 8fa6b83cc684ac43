"""The state of this process: what the server last said of its limits, for the gauges, and whose turn it is.

Admission is the simple case so far: each call waits for itself. ``Place`` is the seam at which a shared ledger and its
queue take over; ``_core.call`` asks it before each attempt already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from opentelemetry.trace import SpanContext

from otel_ratelimit._core.events import Admitted, NotBefore
from otel_ratelimit._core.hints.limits import read_limits
from otel_ratelimit._telemetry.instruments import LimitGauge, SubjectAttributes

_ADMITTED: Final = Admitted()
_MAX_SUBJECTS: Final = 1000


class MemoryStore:
    """One per installation. Safe to use from any thread: every change is a single assignment into a dictionary."""

    def __init__(self) -> None:
        self._gauges: dict[tuple[SubjectAttributes, Literal["tokens", "requests"]], LimitGauge] = {}

    def place(self, subject: SubjectAttributes) -> Place:
        """A place for one call."""
        return Place(self, subject)

    def read(self, subject: SubjectAttributes, headers: Mapping[str, str]) -> None:
        """Note what a response's headers say of the limits."""
        for reading in read_limits(headers):
            if reading.kind in ("tokens", "requests") and not reading.scope:
                kind: Literal["tokens", "requests"] = "tokens" if reading.kind == "tokens" else "requests"
                if len(self._gauges) >= _MAX_SUBJECTS:
                    self._gauges.clear()
                self._gauges[subject, kind] = LimitGauge(subject.base, kind, reading.limit, reading.remaining)

    def limits(self) -> Iterable[LimitGauge]:
        """What the gauges show."""
        return list(self._gauges.values())


class Place:
    """One call's place in the queue."""

    __slots__ = ("_store", "_subject", "cause")

    def __init__(self, store: MemoryStore, subject: SubjectAttributes) -> None:
        self._store = store
        self._subject = subject
        self.cause: SpanContext | None = None
        """The throttle that closed the gate for this call, also when that was another call's."""

    def reserve(self, not_before: float | None, now: float) -> Admitted | NotBefore:
        """Whether the call may be sent now."""
        if not_before is None or now >= not_before:
            return _ADMITTED
        return NotBefore(now, not_before, not_before)

    def read(self, headers: Mapping[str, str]) -> None:
        """Learn from the headers of an answer."""
        self._store.read(self._subject, headers)

    def leave(self) -> None:
        """Give the place back. Harmless when there is none."""
