"""How the charge model learns what a server charges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ratelimit._core.buckets.charge import ChargeModel
from otel_ratelimit._core.cost import Cost


def test_the_larger_of_input_and_output_is_the_first_guess() -> None:
    """OpenAI's documentation."""
    assert ChargeModel().tokens(Cost(100, 30)) == 100
    assert ChargeModel().tokens(Cost(100, 300)) == 300


def test_the_factor_is_learned() -> None:
    """A server that charges half as much again."""
    model = ChargeModel()
    model.learn(Cost(1000, 0), 1500)
    assert model.tokens(Cost(100, 0)) == pytest.approx(150)


def test_a_server_that_charges_the_sum_is_found_out() -> None:
    """The reading whose ratio scatters least is believed: 2 x (input + output) here."""
    model = ChargeModel()
    for step in range(12):
        cost = Cost(100.0 * (1 + step % 4), 150.0 * (1 + step % 3))
        model.learn(cost, 2 * (cost.input + cost.output))
    assert model.tokens(Cost(1000, 10)) == pytest.approx(2020)


def test_refused_calls_are_not_fair_samples() -> None:
    """Those that cost more than expected are refused more often: once sums are known, they leave the factor alone."""
    model = ChargeModel()
    model.learn_requested(Cost(1000, 0), 1300)
    assert model.tokens(Cost(1000, 0)) == pytest.approx(1300)
    model.learn_sum(130_000, 100_000, 100)
    known = model.tokens(Cost(1000, 0))
    assert known == pytest.approx(1000, rel=0.01)
    model.learn_requested(Cost(1000, 0), 1300)
    assert model.tokens(Cost(1000, 0)) == known
    assert model.bias < model.deviation / 9
    assert model.deviation >= 0.1


def test_usage_tells_only_where_it_is_what_was_charged() -> None:
    """Two calls whose usage was their charge: then usage counts; with the output limit reserved it does not."""
    exact, other = ChargeModel(), ChargeModel()
    for used in (100.0, 170.0):
        exact.learn_usage(used, used)
        other.learn_usage(used, 1000.0)
    assert exact.charge_of_usage(50.0) == pytest.approx(50)
    assert other.charge_of_usage(50.0) is None


def test_a_call_that_says_nothing_costs_what_calls_do() -> None:
    """A body that cannot be read is no free call."""
    model = ChargeModel()
    model.see_usage(700.0)
    assert model.tokens(Cost()) == 700


@given(st.lists(st.tuples(st.floats(), st.floats(), st.floats())))
def test_nothing_breaks_the_model(samples: list[tuple[float, float, float]]) -> None:
    """NaN, infinity and nonsense leave a positive, finite factor."""
    model = ChargeModel()
    for first, second, third in samples:
        model.learn(Cost(first, second), third)
        model.learn_sum(first, second, 3)
        model.learn_usage(first, third)
        assert 0 < model.tokens(Cost(10, 0)) <= 1e4
