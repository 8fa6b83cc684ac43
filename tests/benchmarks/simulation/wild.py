"""Mixtures that nobody tuned for: limit, dialect, traffic and network drawn at random from a number.

They are there to find what breaks, not to be optimised: a rule that gains a thousandth in the named scenarios and loses a
factor in one of these is a bad rule.
"""

from __future__ import annotations

import math
import random

from tests.benchmarks.simulation.scenarios import Scenario
from tests.benchmarks.simulation.server import Dialect, Limits

MEAN_TOKENS = {"usual": 1500.0, "wide": 2300.0, "sum": 3600.0}


def wild(number: int) -> Scenario:
    """The scenario of this number; always the same."""
    rng = random.Random(number)
    tpm = math.exp(rng.uniform(math.log(2e4), math.log(3e6))) if rng.random() < 0.8 else 1e8
    rpm = float(rng.choice((60, 300, 500, 3000, 10_000, 10_000, 10_000, 1_000_000)))
    burst = float(rng.choice((60, 60, 60, 60, 1, 10)))
    mix = rng.choice(("usual", "usual", "wide", "sum"))
    # The largest call has to fit the bucket, or nobody could ever serve it.
    largest = {"usual": 3_000.0, "wide": 35_000.0, "sum": 9_000.0}
    if tpm < largest["wide"] and mix == "wide":
        mix = "usual"
    if min(tpm / 60.0 * burst / largest[mix], rpm / 60.0 * burst) < 1.0:
        burst = 60.0
    dialect = Dialect(
        headers=rng.choice(("minute", "minute", "minute", "none", "none", "day", "bucket")),
        message=rng.choice(("numbers", "numbers", "numbers", "delay", "none")),
        reset_grain=rng.choice((0.001, 0.001, 1.0)),
        usage=rng.random() < 0.8,
    )
    rate = min(tpm / 60.0 / MEAN_TOKENS[mix], rpm / 60.0)
    return Scenario(
        f"wild {number}: {tpm:,.0f} TPM, {rpm:,.0f} RPM over {burst:g} s, {dialect.headers}/{dialect.message}, {mix}",
        limits=Limits(tpm, rpm, burst),
        dialect=dialect,
        calls=int(min(1500, max(80, rate * (60.0 + rng.uniform(30.0, 120.0))))),
        concurrency=rng.choice((4, 16, 32, 64, 64, 128, 300)),
        mix=mix,
        load=(0.3, 0.7, 20.0) if burst == 60.0 and rng.random() < 0.25 else None,
        errors=rng.choice((0.0, 0.0, 0.0, 0.03)),
        median=rng.choice((0.3, 1.5, 1.5, 5.0, 10.0)),
        network=rng.choice(((0.002, 0.002), (0.002, 0.002), (0.02, 0.1), (0.08, 0.02))),
        most=(1.25, 0.5, 9.0),
    )
