"""What was gathered from one response, before anything is judged.

Owns only the container. ``body`` and ``headers`` fill it, ``verdict`` and ``kinds`` read it, and it is dropped when
the verdict is there: it holds text of the response, which never leaves the parser.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from otel_ratelimit._core.throttle import LimitKind


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
        limits, used, requested: Numbers that fields name, in the unit of the limit.
        words: All texts, codes and names, split into words: filled when the gathering is done.
        has_delay: Whether a wait was asked for: filled when the gathering is done.
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
    limits: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)
    requested: list[float] = field(default_factory=list)
    words: str = ""
    has_delay: bool = False
    kind: LimitKind | None = None
