"""One run of the whole chain for all tests that look at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.collector import chain
from tests.collector.programs import missing
from tests.collector.stack import Stack


@dataclass(frozen=True)
class Run:
    """The programs, still running, and what they counted."""

    stack: Stack
    result: chain.Result


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Skips where a program is missing."""
    problem = missing(*chain.PROGRAMS)
    if problem:
        pytest.skip(problem)
    with Stack(tmp_path_factory.mktemp("chain")) as stack:
        yield Run(stack, chain.run(stack))
