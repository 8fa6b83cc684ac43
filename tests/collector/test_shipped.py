"""The chain once more, at the intervals that are shipped: exports every 60 s, scrapes every 15 s, a Collector that restarts.

Four minutes, so only where it is asked for: ``pytest -m soak``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.collector import chain, dashboard
from tests.collector.programs import missing
from tests.collector.stack import Stack


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_every_stage_and_every_panel_count_what_the_server_counted(tmp_path: Path) -> None:
    """The table, with a restart in the middle; the dashboard's numbers; and no more alerts than there is reason for."""
    problem = missing(*chain.PROGRAMS)
    if problem:
        pytest.skip(problem)
    with Stack(tmp_path, shipped=True) as stack:
        result = chain.run_with_restart(stack, tmp_path)
        print(chain.table(result))
        assert result.counts_agree
        assert result.counted.throttled > 20
        assert dashboard.differences(stack, result.counted, span=600) == []
