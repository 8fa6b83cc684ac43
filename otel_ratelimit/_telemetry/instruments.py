"""The tracer and the metric instruments for one pair of providers, and the attributes that calls share.

Attribute sets are built once for each (operation, model, server) and reused: an undisturbed call builds no dictionary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from opentelemetry import metrics, trace
from opentelemetry.context import Context, get_current
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import TracerProvider

from otel_ratelimit._core.waits import WaitParts
from otel_ratelimit._telemetry import names
from otel_ratelimit._telemetry.callbacks import NOTHING, Callbacks
from otel_ratelimit._version import __version__

Attributes = dict[str, str | bool | int | float]

# Counters that alerts use begin at 0 for the series that real throttles of OpenAI produce, so that the first throttle is
# an increase: Prometheus sees none in a series that is born at 1.
_SEEDED_THROTTLES: Final = tuple(
    (kind, source, 429)
    for kind in ("tokens", "requests")
    for source in ("body-message", "retry-after", "retry-after-ms")
)
_SEEDED_RETRIES: Final = ("throttle", "server_error", "timeout", "connection")
_SEEDED_GIVE_UPS: Final = ("budget_exceeded", "quota", "request_too_large", "retries_disabled", "queue_budget_exceeded")


KEPT: Final = 16
"""Undisturbed calls whose durations are recorded together. Between two calls the processor has forgotten the OpenTelemetry SDK's
code: a record alone was measured to take three times as long as one right after another (45 and 15 us). A reader misses
none, since every collection begins with them; sixteen hold up the one that records them by half a millisecond."""


class Subject(NamedTuple):
    """What a call is about, as telemetry names it: no prompt, no key, no organisation."""

    operation: str
    model: str | None
    provider: str
    address: str
    port: int | None
    alias: str | None = None
    """What the program calls the key or project (``otel_ratelimit.alias``); None for nothing."""

    def attributes(self) -> Attributes:
        """The attributes that every metric point of the call carries."""
        attributes: Attributes = {
            names.OPERATION: self.operation,
            names.PROVIDER: self.provider,
            names.SERVER_ADDRESS: self.address,
        }
        if self.model is not None:
            attributes[names.MODEL] = self.model
        if self.port is not None:
            attributes[names.SERVER_PORT] = self.port
        if self.alias is not None:
            attributes[names.ALIAS] = self.alias
        return attributes


class SubjectAttributes:
    """The attribute sets of one subject, built once."""

    __slots__ = ("_attempts", "_calls", "base", "part", "served", "span", "subject")

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.base: Final = subject.attributes()
        # Of the spans that no backend shall take for a model call; and of the one that stands for it where nothing else does.
        self.part: Final[Attributes] = {names.SERVER_ADDRESS: subject.address}
        if subject.port is not None:
            self.part[names.SERVER_PORT] = subject.port
        if subject.model is not None:
            self.part[names.MODEL_HERE] = subject.model
        if subject.alias is not None:
            self.part[names.ALIAS] = subject.alias
        self.span: Final[Attributes] = {**self.base, **self.part}
        self._attempts: dict[tuple[int | None, str | None], Attributes] = {}
        self._calls: dict[str | None, Attributes] = {}
        self.served: Final = self.attempt(200, None)

    def attempt(self, status: int | None, error_type: str | None) -> Attributes:
        key = (status, error_type)
        attributes = self._attempts.get(key)
        if attributes is None:
            attributes = dict(self.base)
            if status is not None:
                attributes[names.STATUS_CODE] = status
            if error_type is not None:
                attributes[names.ERROR_TYPE] = error_type
            self._attempts[key] = attributes
        return attributes

    def call(self, outcome: str | None) -> Attributes:
        attributes = self._calls.get(outcome)
        if attributes is None:
            attributes = dict(self.base) if outcome is None else {**self.base, names.OUTCOME: outcome}
            self._calls[outcome] = attributes
        return attributes


Level = tuple[SubjectAttributes, str, str, float, float, float]
"""Of a limit: whose it is, its kind, its window, its size, what remains of it, and seconds until it is full again."""


def tightest(levels: Iterable[Level]) -> list[tuple[SubjectAttributes, str, float, float]]:
    """For those who show one limit of each kind: whose it is, its kind, size and what remains, of the window with the least."""
    found: dict[tuple[int, str], tuple[SubjectAttributes, str, float, float]] = {}
    for subject, kind, _, limit, remaining, _ in levels:
        known = found.get((id(subject), kind))
        if known is None or remaining * known[2] < known[3] * limit:
            found[id(subject), kind] = (subject, kind, limit, remaining)
    return list(found.values())


class Instruments:
    """One tracer, one meter.

    Args:
        tracer_provider: None for the global one, also if it is set later (the API hands out proxies).
        meter_provider: the same.
        levels: read at each collection, for the gauges.
        callbacks: what the program wants to be told.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        levels: Callable[[], Iterable[Level]],
        callbacks: Callbacks = NOTHING,
    ) -> None:
        self.levels: Final = levels
        self.callbacks: Final = callbacks
        self.turns: Callable[[object, str | None, float | None], object] | None = (
            None  # how `otel-ratelimit run` sees turns
        )
        self.keep = KEPT
        self._kept: deque[tuple[SubjectAttributes, int | None, float, Context]] = deque()
        self.tracer: Final = trace.get_tracer(names.SCOPE, __version__, tracer_provider, names.SCHEMA_URL)
        meter = metrics.get_meter(names.SCOPE, __version__, meter_provider, names.SCHEMA_URL)
        self.throttles: Final = meter.create_counter(
            names.THROTTLES, names.UNIT_THROTTLE, "Responses by which the server asked to slow down."
        )
        self.retries: Final = meter.create_counter(
            names.RETRIES, names.UNIT_RETRY, "Requests that were sent again, by what made it necessary."
        )
        self.give_ups: Final = meter.create_counter(
            names.GIVE_UPS,
            names.UNIT_REQUEST,
            "Calls that ended in an error although waiting had been possible or asked for.",
        )
        self.wait_duration: Final = meter.create_histogram(
            names.WAIT_DURATION,
            names.UNIT_SECONDS,
            "Time that calls waited between attempts.",
            explicit_bucket_boundaries_advisory=names.DURATION_BOUNDS,
        )
        self.wait_time: Final = meter.create_counter(
            names.WAIT_TIME, names.UNIT_SECONDS, "Time that calls waited, by what it was spent on."
        )
        self.attempt_duration: Final = meter.create_histogram(
            names.ATTEMPT_DURATION,
            names.UNIT_SECONDS,
            "Time from sending one request to its verdict.",
            explicit_bucket_boundaries_advisory=names.DURATION_BOUNDS,
        )
        self.call_duration: Final = meter.create_histogram(
            names.CALL_DURATION,
            names.UNIT_SECONDS,
            "Time of a whole call, with all its attempts and waits.",
            explicit_bucket_boundaries_advisory=names.DURATION_BOUNDS,
        )
        self.waiting: Final = meter.create_up_down_counter(
            names.WAITING, names.UNIT_REQUEST, "Calls that are waiting now."
        )
        self.store_errors: Final = meter.create_counter(
            names.STORE_ERRORS, names.UNIT_ERROR, "Exchanges with the shared store that failed."
        )
        for name, unit, kind, place, what in (
            (names.TOKENS_LIMIT, names.UNIT_TOKEN, "tokens", _LIMIT, "Tokens that the limit allows in its window."),
            (names.TOKENS_REMAINING, names.UNIT_TOKEN, "tokens", _REMAINING, "Tokens left, as last known."),
            (
                names.TOKENS_RESET,
                names.UNIT_SECONDS,
                "tokens",
                _RESET,
                "Time until no token is in use, if none is taken.",
            ),
            (names.REQUESTS_LIMIT, names.UNIT_REQUEST, "requests", _LIMIT, "Requests the limit allows in its window."),
            (names.REQUESTS_REMAINING, names.UNIT_REQUEST, "requests", _REMAINING, "Requests left, as last known."),
            (
                names.REQUESTS_RESET,
                names.UNIT_SECONDS,
                "requests",
                _RESET,
                "Time until no request is in use, if none is sent.",
            ),
        ):
            observe = _observer(levels, kind, place)
            observers = [self._at_collection, observe] if name == names.TOKENS_LIMIT else [observe]
            meter.create_observable_gauge(name, observers, unit, what)

    def undisturbed(self, subject: SubjectAttributes, status: int | None, seconds: float) -> None:
        """A call of one attempt, that waited for nothing, has ended; it is recorded soon, with the present context."""
        kept = self._kept
        kept.append((subject, status, seconds, get_current()))
        if len(kept) >= self.keep:
            self.record_kept()

    def record_kept(self) -> None:
        """Record what is kept. May be called from several threads at a time."""
        kept = self._kept
        while kept:
            try:
                subject, status, seconds, context = kept.popleft()
            except IndexError:  # another thread was quicker
                return
            attributes = subject.served if status == 200 else subject.attempt(status, None)
            self.attempt_duration.record(seconds, attributes, context)
            self.call_duration.record(seconds, subject.base, context)

    def _at_collection(self, _options: CallbackOptions) -> Iterable[Observation]:
        self.record_kept()
        return ()

    def store_failed(self, kind: str, times: int) -> None:
        """So many exchanges with the store failed in this way; 0 times to start the series."""
        self.store_errors.add(times, {names.ERROR_TYPE: kind}, Context())

    def seed(self, subject: SubjectAttributes) -> None:
        """Start the counters of a subject at 0, in no context: an exemplar of nothing would take a real one's place."""
        nowhere = Context()
        for kind, source, status in _SEEDED_THROTTLES:
            self.throttles.add(0, throttle_attributes(subject, kind, source, status), nowhere)
        for reason in _SEEDED_RETRIES:
            self.retries.add(0, {**subject.base, names.RETRY_REASON: reason}, nowhere)
        for part in WaitParts._fields:
            self.wait_time.add(0, {**subject.base, names.WAIT_PART: part}, nowhere)
        for reason in _SEEDED_GIVE_UPS:
            self.give_ups.add(0, {**subject.base, names.GIVE_UP_REASON: reason}, nowhere)


def throttle_attributes(subject: SubjectAttributes, kind: str, source: str | None, status: int) -> Attributes:
    """Attributes of a point of ``otel_ratelimit.throttles``."""
    return {
        **subject.base,
        names.LIMIT_KIND: kind,
        names.HINT_SOURCE: source or names.NO_HINT,
        names.STATUS_CODE: status,
    }


_LIMIT: Final = 3
_REMAINING: Final = 4
_RESET: Final = 5
"""Places in a ``Level``."""


def _observer(
    levels: Callable[[], Iterable[Level]], kind: str, place: int
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        lowest: dict[tuple[int, str], Level] = {}
        for level in levels():
            subject, of_kind, window, limit, remaining, _ = level
            if of_kind != kind:
                continue
            # Two accounts under one name (two keys for one model): the one with less is the one that will be throttled.
            known = lowest.get((id(subject), window))
            if known is None or remaining * known[_LIMIT] < known[_REMAINING] * limit:
                lowest[id(subject), window] = level
        return [
            Observation(level[place], {**level[0].base, names.LIMIT_WINDOW: level[2]})  # type: ignore[arg-type]
            for level in lowest.values()
        ]

    return observe
