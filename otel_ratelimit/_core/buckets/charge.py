"""What a server charges for a call: its rule and its factor, learned from what it said it charged.

Owns :class:`ChargeModel`. Knows no limit, no queue and no clock.

OpenAI charges "the larger of the output limit and an estimate" of the input at admission, other servers their sum, or the input
alone. The rules differ by more than a factor only where calls differ, so the model keeps one ratio for each rule and believes the
one that scatters least.
"""

from __future__ import annotations

import math
from typing import Final

from otel_ratelimit._core.cost import MAX_COST, Cost

MEMORY: Final = 0.95
"""Weight that older samples keep when a new one comes: a memory of about twenty samples. A change of model mix or of prompt
language is followed within seconds, and the 15 % by which single calls vary average out to 3 %."""

ENOUGH_CALLS: Final = 10.0
"""Calls that the factor rests on, from which on single refused calls are left out of it: they are biased."""

LEAST_DEVIATION: Final = 0.1
"""Share by which charges deviate at least, however well a few samples happen to agree."""

BETTER: Final = 0.5
"""Another rule is believed once its scatter is less than this share of the present one's."""

EXACT: Final = 0.02
"""Largest deviation with which the usage that answers report counts as what was charged."""

TYPICAL_MEMORY: Final = 0.05
"""Share by which one call moves the usual number of tokens of a call: an EWMA of twenty calls."""

LEAST_COST: Final = 1e-3
"""Tokens. Less than this teaches nothing about a ratio."""


def _larger(cost: Cost) -> float:
    return max(cost.input, cost.output)


def _sum(cost: Cost) -> float:
    return cost.input + cost.output


def _input(cost: Cost) -> float:
    return cost.input


_RULES: Final = (_larger, _sum, _input)


class _Ratio:
    """A ratio learned as the quotient of two fading sums, so that totals come out right, and how far samples deviate."""

    __slots__ = ("calls", "charged", "expected", "samples", "scatter")

    def __init__(self) -> None:
        self.expected = 0.0
        self.charged = 0.0
        self.calls = 0.0
        self.samples = 0
        self.scatter = 1.0

    @property
    def value(self) -> float:
        return self.charged / self.expected if self.expected > 0 else 1.0

    def learn(self, expected: float, charged: float, *, biased: bool = False) -> None:
        """One call that was expected to take ``expected`` was charged ``charged``."""
        if not LEAST_COST <= expected <= MAX_COST or not 0 <= charged <= MAX_COST:
            return
        if self.samples:
            deviation = min(1.0, (charged / expected / max(self.value, 1e-9) - 1.0) ** 2)
            self.scatter += (deviation - self.scatter) / min(self.samples, 10)
        self.samples += 1
        if not biased:
            self.add(expected, charged, 1.0)

    def add(self, expected: float, charged: float, calls: float) -> None:
        """Several calls together; says nothing of how far single ones deviate."""
        if LEAST_COST <= expected <= MAX_COST and 0 <= charged <= MAX_COST:
            self.expected = self.expected * MEMORY + expected
            self.charged = self.charged * MEMORY + charged
            self.calls = self.calls * MEMORY + calls


class ChargeModel:
    """How this server charges tokens for a call, learned from what it said it charged."""

    __slots__ = ("_factor", "_ratios", "_rule", "_usage", "factor_of_larger", "typical")

    def __init__(self) -> None:
        self._rule = 0
        self._factor = 1.0
        self._ratios = tuple(_Ratio() for _ in _RULES)
        self._usage = _Ratio()
        self.typical = 0.0
        """Tokens that calls took of late; stands in for a call whose body says nothing."""
        self.factor_of_larger: float | None = 1.0
        """The charge is so many times the larger of input and output, where that is the rule; None where it is another one. The
        fast path reads it instead of a step into :meth:`tokens`."""

    def tokens(self, cost: Cost) -> float:
        """Tokens that the server is expected to charge for this call."""
        expected = _RULES[self._rule](cost) * self._factor
        return expected if expected > 0 else self.typical

    def learn_requested(self, cost: Cost, charged: float) -> None:
        """``Requested`` of a refused call. Calls that cost more than expected are refused more often, so once sums over
        all calls have been learned, this one only tells which rule it is.
        """
        self.learn(cost, charged, biased=self._ratios[self._rule].calls >= ENOUGH_CALLS)

    def learn(self, cost: Cost, charged: float, *, biased: bool = False) -> None:
        """One call's exact charge is known; ``biased``: it is not like the others, and tells of the scatter only."""
        for rule, ratio in zip(_RULES, self._ratios, strict=True):
            ratio.learn(rule(cost), charged, biased=biased)
        best = min(range(len(_RULES)), key=lambda index: self._ratios[index].scatter)
        present = self._ratios[self._rule]
        if present.samples >= 3 and self._ratios[best].scatter < BETTER * present.scatter:
            self._rule = best
        self._settle_factor()

    def learn_sum(self, expected: float, charged: float, calls: int) -> None:
        """``calls`` calls together were charged ``charged`` where :meth:`tokens` had said ``expected``."""
        for ratio in self._ratios:  # which rule it was cannot be told from a sum: all of them move alike
            ratio.add(expected / max(ratio.value, 1e-9), charged, calls)
        self._settle_factor()

    def see_usage(self, used: float) -> None:
        """A call reported ``used`` tokens."""
        self.typical += TYPICAL_MEMORY * (used - self.typical) if self.typical else min(used, MAX_COST)

    def learn_usage(self, used: float, charged: float) -> None:
        """One call that was charged ``charged`` reported ``used`` tokens in its answer."""
        self._usage.learn(used, charged)

    def charge_of_usage(self, used: float) -> float | None:
        """What a call that reported ``used`` tokens was charged at admission; None where usage does not tell."""
        return used * self._usage.value if self.usage_tells else None

    @property
    def usage_tells(self) -> bool:
        """Whether this server charges what it reports: seen twice, and within :data:`EXACT`."""
        return self._usage.samples >= 2 and self._usage.scatter <= EXACT**2

    @property
    def deviation(self) -> float:
        """Share by which a call's charge deviates from what was expected, in the end: usage may tell what it was."""
        if self.usage_tells:
            return 0.0
        return math.sqrt(max(self._ratios[self._rule].scatter, LEAST_DEVIATION**2))

    @property
    def bias(self) -> float:
        """Share by which the mean charge may differ from the expected one: the error of a mean over the calls learned from."""
        return self.deviation / math.sqrt(max(self._ratios[self._rule].calls, 1.0))

    def _settle_factor(self) -> None:
        self._factor = min(max(self._ratios[self._rule].value, 1e-3), 1e3)
        self.factor_of_larger = None if self._rule else self._factor
