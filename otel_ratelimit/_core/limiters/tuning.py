"""The numbers of all limiters in one place, to be replaced one by one: a rule left out is a parameter of the simulation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from otel_ratelimit._core.buckets.estimate import BucketTuning
from otel_ratelimit._core.limiters.cold_start import ColdStartTuning
from otel_ratelimit._core.limiters.concurrency import ConcurrencyTuning
from otel_ratelimit._core.limiters.confidence import ConfidenceTuning
from otel_ratelimit._core.limiters.growth import GrowthTuning
from otel_ratelimit._core.limiters.odd_one_out import OddOneOutTuning
from otel_ratelimit._core.limiters.probes import ProbeTuning
from otel_ratelimit._core.limiters.rate import RateTuning
from otel_ratelimit._core.limiters.several import SeveralTuning


@dataclass(frozen=True, slots=True)
class Tuning:
    """The numbers of all limiters."""

    buckets: BucketTuning = field(default_factory=BucketTuning)
    cold_start: ColdStartTuning = field(default_factory=ColdStartTuning)
    rate: RateTuning = field(default_factory=RateTuning)
    concurrency: ConcurrencyTuning = field(default_factory=ConcurrencyTuning)
    several: SeveralTuning = field(default_factory=SeveralTuning)
    growth: GrowthTuning = field(default_factory=GrowthTuning)
    confidence: ConfidenceTuning = field(default_factory=ConfidenceTuning)
    odd_one_out: OddOneOutTuning = field(default_factory=OddOneOutTuning)
    probes: ProbeTuning = field(default_factory=ProbeTuning)


TUNED: Final = Tuning()
