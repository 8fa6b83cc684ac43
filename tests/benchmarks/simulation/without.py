"""Rules of the limiters, each taken out by the number that it goes by: what is left tells what the rule is worth.

A rule is a field, or two, of one limiter's frozen tuning, so that nothing of the code is touched.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

from otel_ratelimit._core.limiters.combined import CombinedLimiter
from otel_ratelimit._core.limiters.tuning import TUNED, Tuning

NUMBERS: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "margin": {"buckets": {"margin_cap": 0.0, "margin_of_capacity": 0.0}},
    "margin-of-capacity": {"buckets": {"margin_of_capacity": math.inf}},
    "boundary": {"buckets": {"boundary": 0.0}},
    "drain": {"buckets": {"most_drain": 0.0}},
    "silent-probes": {"buckets": {"probe_calls": math.inf, "exact_probe_calls": math.inf}},
    "overfull": {"buckets": {"overfull": math.inf}},
    "cold-start": {"cold_start": {"calls": 1_000_000}},
    "confidence": {"confidence": {"surprises": math.inf}},
    "believed-headers": {"confidence": {"believed": 0.0}},
    "rate-first-cut": {"rate": {"first_cut": 1.0}},
    "rate-cut-calls": {"rate": {"cut_calls": math.inf}},
    "rate-recovery": {"rate": {"recovery_calls": math.inf}},
    "rate-growth": {"rate": {"probe_growth": 0.0}},
    "rate-patience": {"rate": {"patience": math.inf}},
    "rate-slow-start": {"rate": {"threshold_cut": 1.0, "slow_start": 0.0}},
    "concurrency-growth": {"concurrency": {"growth_calls": math.inf, "most_growth_calls": math.inf}},
    "several-tolerance": {"several": {"tolerated": 0.0, "unequal": 0.0}},
    "early-probes": {"probes": {"calls": math.inf, "seconds": math.inf}},
    "odd-one-out": {"odd_one_out": {"often": 1_000_000}},
    "probes": {
        "probes": {
            "guessed": math.inf,
            "counted": math.inf,
            "longest": math.inf,
            "calls": math.inf,
            "seconds": math.inf,
        }
    },
}
"""By the rule's name: the limiter's part of the tuning, and what its fields become."""


def tuning_without(rule: str) -> Tuning:
    """The numbers of all limiters, with this rule taken out.

    Raises:
        KeyError: there is no such rule; ``NUMBERS`` has those that there are.
    """
    parts: dict[str, Any] = {part: replace(getattr(TUNED, part), **fields) for part, fields in NUMBERS[rule].items()}
    return replace(TUNED, **parts)


def leave_out(rule: str) -> None:
    """Take the rule out of every limiter that this process, or one forked from it, makes from now on: for worlds that are run
    through the whole plugin, which makes its limiters itself.

    Raises:
        KeyError: as :func:`tuning_without`.
    """
    CombinedLimiter.__init__.__defaults__ = (tuning_without(rule),)
