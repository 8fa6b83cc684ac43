"""What was gathered from one response, before anything is judged.

Owns only the container. ``body`` and ``headers`` fill it, ``verdict`` and ``kinds`` read it, and it is dropped when
the verdict is there: it holds text of the response, which never leaves the parser.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from otel_ratelimit._core.throttle import LimitKind


@dataclass(frozen=True, slots=True)
class Amounts:
    """Numbers in the unit of the limit; None where not said."""

    limit: float | None = None
    used: float | None = None
    requested: float | None = None

    @property
    def exceeded(self) -> bool:
        """Whether these are the numbers of a limit that is reached."""
        return bool(self.limit) and self.used is not None and self.limit is not None and self.used >= self.limit


@dataclass(slots=True)
class Evidence:
    """One response, taken apart.

    Attributes:
        texts: Sentences, in the order in which they stood.
        codes: Values of `code` and its relatives, as words joined by "_", in lower case.
        types: The same of `type`, `status` and `reason`, which are coarser.
        names: Names and ids of quotas and limits, which tell kind and window.
        statuses: HTTP statuses that the body names.
        durations: Waits in fields, in seconds.
        resets_in: Seconds until the instants that fields name, where they lie ahead.
        header_maps: Headers of another response that the body relays.
        amounts: Numbers that fields name, those of one object together.
        words: All texts and names, split into words, without addresses: filled when the gathering is done.
        links: The words of all addresses: filled when the gathering is done.
        has_delay: Whether a wait was asked for: filled when the gathering is done.
        exhausted: Whether a header tells of a limit with nothing left and when it is reset: filled then, too.
        kind: What the words say ran out, None if they do not.
    """

    texts: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    resets_in: list[float] = field(default_factory=list)
    header_maps: list[dict[str, str]] = field(default_factory=list)
    amounts: list[Amounts] = field(default_factory=list)
    words: str = ""
    links: str = ""
    has_delay: bool = False
    exhausted: bool = False
    kind: LimitKind | None = None

    @property
    def returns(self) -> bool:
        """Whether the time of the return is named, outright or as the reset of what is used up."""
        return self.has_delay or self.exhausted
