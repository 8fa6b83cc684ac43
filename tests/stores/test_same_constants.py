"""What the ledgers of a fleet reckon with in Redis is what those of a process reckon with."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from otel_ratelimit._core import admission, fleet, gates, ledger, probe, queue

SCRIPT = (resources.files("otel_ratelimit._stores") / "ledger.lua").read_text(encoding="utf-8")


def constants() -> dict[str, list[float]]:
    """Each ``local NAME, NAME = number, number`` at the script's beginning."""
    found = {}
    for names, values in re.findall(r"^local ([A-Z_, ]+) = ([^\n]*?)\s*(?:--.*)?$", SCRIPT, re.MULTILINE):
        for name, value in zip(names.split(", "), [values] if "{" in values else values.split(", "), strict=True):
            numbers = [number.split("/") for number in value.strip("{}").split(", ")]
            found[name] = [float(parts[0]) / float(parts[1] if parts[1:] else 1) for parts in numbers]
    return found


@pytest.mark.parametrize(
    ("name", "of_a_process"),
    [
        ("COLD_CALLS", gates.COLD_CALLS),
        ("COLD_DOUBLING", gates.COLD_DOUBLING),
        ("MARGIN_MEMORY", ledger.MARGIN_MEMORY),
        ("MARGIN_CAP", ledger.MARGIN_CAP),
        ("MOST_MARGIN", ledger.MOST_MARGIN),
        ("DRAIN_TIME", ledger.DRAIN_TIME),
        ("DRAIN_HOLD", ledger.DRAIN_HOLD),
        ("MOST_DRAIN", ledger.MOST_DRAIN),
        ("PROBE_CALLS", ledger.EXACT_PROBE_CALLS),
        ("PATIENCE", probe.LONGEST_INTERVAL),
        ("HEARTBEAT", fleet.HEARTBEAT),
        ("CLOCK_SLACK", admission.CLOCK_SLACK),
    ],
)
def test_a_constant_is_the_same(name: str, of_a_process: float) -> None:
    """Redis cannot import it."""
    assert constants()[name] == [of_a_process]


def test_priorities_weigh_the_same() -> None:
    """In the order in which a report names them."""
    assert constants()["WEIGHTS"] == list(queue.WEIGHTS.values())
