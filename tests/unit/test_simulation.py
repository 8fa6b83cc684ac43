"""The admission core against a simulated server, on virtual time: the figures that it is held to, and mixtures nobody tuned for.

The table over several seeds, with the other clients beside it, is ``python -m tests.benchmarks.simulation``.
"""

from __future__ import annotations

from dataclasses import fields

import pytest

from otel_ratelimit._core.limiters.combined import CombinedLimiter
from otel_ratelimit._core.limiters.tuning import TUNED
from otel_ratelimit._core.queueing.admission import Admission
from tests.benchmarks.simulation.__main__ import NOTHING_BETTER
from tests.benchmarks.simulation.scenarios import OTHERS, SCENARIOS, Scenario, play
from tests.benchmarks.simulation.wild import wild
from tests.benchmarks.simulation.without import NUMBERS, tuning_without
from tests.benchmarks.simulation.world import Oracle, Ours, Sdk

SEED = 4711
UNLIMITED = SCENARIOS[-1]


@pytest.mark.parametrize("scenario", SCENARIOS[:-1], ids=lambda scenario: scenario.name)
def test_the_limits_whole_speed_and_hardly_a_refusal(scenario: Scenario) -> None:
    """All calls done, in the time that the limit itself takes, with few throttles but those of the cold start."""
    run, bound, _ = play(scenario, SEED)
    ideal, *_ = play(scenario, SEED, Oracle)
    assert run.done == scenario.calls
    # the end of a run is the slowest of the last few answers, which perfect knowledge cannot help either
    assert run.makespan <= scenario.most[0] * bound or run.makespan <= NOTHING_BETTER * ideal.makespan
    assert run.throttled - run.cold <= scenario.most[1] * scenario.calls + 2
    assert run.spread <= max(scenario.most[2], ideal.spread + 0.1)


def test_far_below_the_limit_nothing_is_slower() -> None:
    """Only the cold start, for a twentieth of a second."""
    run, *_ = play(UNLIMITED, SEED)
    plain, *_ = play(UNLIMITED, SEED, Sdk)
    assert run.done == UNLIMITED.calls
    assert run.throttled == 0
    assert run.makespan <= 1.005 * plain.makespan


@pytest.mark.parametrize("scenario", OTHERS, ids=lambda scenario: scenario.name)
def test_other_servers_and_traffic(scenario: Scenario) -> None:
    """Every call is done and the limit is used."""
    run, bound, _ = play(scenario, SEED)
    assert run.done == scenario.calls
    assert run.makespan <= 1.2 * bound
    assert run.throttled - run.cold <= 0.1 * scenario.calls


@pytest.mark.parametrize("number", range(40))
def test_mixtures_that_nobody_tuned_for(number: int) -> None:
    """Whatever the server says or leaves out, every call gets through, no storm lasts, and nothing takes for ever."""
    scenario = wild(number)
    run, bound, _ = play(scenario, SEED)
    assert run.done == scenario.calls
    assert run.makespan <= 4.0 * bound
    assert run.throttled - run.cold <= 1.5 * scenario.calls


@pytest.mark.parametrize("rule", NUMBERS)
def test_a_rule_that_is_taken_out_changes_its_own_numbers_only(rule: str) -> None:
    """So that ``simulation --without`` measures that rule."""
    changed = {
        (part.name, number.name)
        for part in fields(TUNED)
        for number in fields(getattr(TUNED, part.name))
        if getattr(getattr(tuning_without(rule), part.name), number.name)
        != getattr(getattr(TUNED, part.name), number.name)
    }
    assert changed == {(part, name) for part, names in NUMBERS[rule].items() for name in names}


def test_without_its_margin_others_traffic_is_met_by_refusals() -> None:
    """A rule that is taken out is out: the margin is what the traffic of others is planned around with."""
    scenario = next(one for one in SCENARIOS if "used by others" in one.name)
    whole, *_ = play(scenario, SEED)
    limiter = CombinedLimiter(tuning_without("margin"))
    without, *_ = play(scenario, SEED, Ours, admission=Admission(limiter))
    assert without.throttled > whole.throttled
