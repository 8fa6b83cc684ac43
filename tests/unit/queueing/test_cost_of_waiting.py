"""What a call that waits costs, whoever waits with it."""

from __future__ import annotations

from functools import partial

import pytest

from tests.benchmarks.waiting import put_back, queue_of, waits
from tests.helpers.work import python_calls


@pytest.mark.parametrize("work", [waits, put_back])
def test_it_does_not_grow_with_the_queue(work: object) -> None:
    """As many Python calls before five thousand others as before fifty."""
    assert callable(work)
    short, long = (python_calls(partial(work, queue_of(waiting, waiting // 10), 0.3)) for waiting in (50, 5_000))
    assert long <= short + 10
