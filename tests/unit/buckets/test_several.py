"""Whether what a server says under one name can come from a single bucket."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ratelimit._core.buckets.estimate import Bucket
from otel_ratelimit._core.buckets.several import ENOUGH, MESSAGE, Contradictions, Words

LIMIT = 60_000.0
"""Tokens a minute: 1,000 a second."""


def level(
    said: Contradictions, remaining: float, *, at: float, sequence: int, taken: float = 0.0, latest: int | None = None,
    full_at: float = math.inf,
) -> None:  # fmt: skip
    """An answer to request ``sequence``, which came when ``latest`` had left."""
    said.see_level(
        remaining, bucket=Bucket("tokens", "", LIMIT, 60.0), sent_at=at, sequence=sequence, taken=taken,
        latest=sequence if latest is None else latest, full_at=full_at,
    )  # fmt: skip


def test_sizes_that_return_are_several() -> None:
    """200,000, 100,000, 200,000, 100,000: no limit is changed like that."""
    said = Contradictions()
    for sequence, size in enumerate((200_000.0, 100_000.0, 200_000.0, 100_000.0)):
        assert not said.several
        said.see_size(size, sequence)
    assert said.several
    assert said.sizes == [200_000.0, 100_000.0]


def test_a_limit_that_is_changed_is_one() -> None:
    """Halved, then four times as large; and answers that were on their way at the change say the size before."""
    said = Contradictions()
    for sequence, size in (
        (1, 200_000.0),
        (5, 100_000.0),
        (3, 200_000.0),
        (4, 200_000.0),
        (6, 100_000.0),
        (9, 400_000.0),
    ):
        said.see_size(size, sequence)
    assert not said.several


def test_more_than_the_refill_can_have_brought_is_of_another_one() -> None:
    """10,000 left, and 40,000 a second later: counted until it cannot be chance."""
    said = Contradictions()
    for number in range(int(ENOUGH) + 1):  # one more: what fits between them makes up for a part of one
        assert not said.several
        level(said, 10_000.0, at=10.0 * number, sequence=2 * number + 1)
        level(said, 40_000.0, at=10.0 * number + 1.0, sequence=2 * number + 2)
    assert said.several


def test_what_our_calls_took_counts() -> None:
    """The level stays as it is, while a hundred seconds' refill came in and twice as much was taken: half of that is sure."""
    said = Contradictions()
    for number in range(5):
        level(said, 30_000.0, at=100.0 * number, sequence=number + 1, taken=300_000.0 * number)
    assert said.several


def test_an_answer_to_a_request_that_had_left_before_says_nothing() -> None:
    """It may have been served before the one that shows less."""
    said = Contradictions()
    for number in range(10):
        level(said, 10_000.0, at=10.0 * number, sequence=10 * number + 1, latest=10 * number + 9)
        level(said, 40_000.0, at=10.0 * number + 0.1, sequence=10 * number + 5)
    assert not said.several


@pytest.mark.parametrize("full_at", [59.0, math.inf])
def test_a_limit_that_starts_anew_is_one(full_at: float) -> None:
    """By the time that the server gave, or because it is nearly full then."""
    said = Contradictions()
    for number in range(10):
        start = 60.0 * number
        level(said, 1_000.0, at=start, sequence=2 * number + 1, full_at=start + full_at)
        level(said, 59_000.0, at=start + 59.5, sequence=2 * number + 2, taken=0.0, full_at=start + 60.0 + full_at)
    assert not said.several


@given(st.integers(0, 10_000), st.floats(0.1, 3.0))
def test_no_bucket_contradicts_itself(seed: int, load: float) -> None:
    """Whatever the load, others' use, and how far charges are from what was expected."""
    luck = random.Random(seed)
    said = Contradictions()
    now, left, taken = 0.0, LIMIT, 0.0
    for sequence in range(1, 300):
        step = luck.expovariate(1.0)
        now += step
        left = min(left + step * 1_000.0, LIMIT)
        left -= min(left, luck.choice((0.0, 0.0, 500.0)))  # others
        charge = load * 1_000.0 * luck.uniform(0.7, 1.3)
        if charge <= left:
            left -= charge
            taken += charge * luck.uniform(0.8, 1.25)
            level(said, math.floor(left), at=now, sequence=sequence, taken=taken)
    assert not said.several


def test_three_at_random_are_found_out() -> None:
    """Of a third of the limit each, all of it used."""
    luck = random.Random(3)
    said = Contradictions()
    left, now, taken = [LIMIT / 3] * 3, 0.0, 0.0
    for sequence in range(1, 400):
        now += 1.5
        left = [min(one + 1.5 * 1_000.0 / 3, LIMIT / 3) for one in left]
        met = luck.randrange(3)
        if left[met] >= 1_500.0:
            left[met] -= 1_500.0
            taken += 1_500.0
            said.see_level(
                left[met], bucket=Bucket("tokens", "", LIMIT / 3, 60.0), sent_at=now, sequence=sequence, taken=taken,
                latest=sequence, full_at=math.inf,
            )  # fmt: skip
    assert said.several


def test_the_sizes_of_one_kind_are_those_of_all_its_names() -> None:
    """Of one size there is no sum."""
    words = Words()
    words.of(("tokens", "", None)).see_size(20_000.0, 1)
    assert words.sizes("tokens", "") == []
    words.of(("tokens", "", MESSAGE)).see_size(60_000.0, 2)
    words.of(("requests", "", None)).see_size(10.0, 2)
    assert words.sizes("tokens", "") == [20_000.0, 60_000.0]
    words.forget()
    assert words.sizes("tokens", "") == []


def test_what_is_kept_is_bounded() -> None:
    """A server that makes up names."""
    words = Words()
    for number in range(1_000):
        words.of(("tokens", str(number), None))
    assert len(words._of) <= 16
