"""What a fleet reckons with in Redis is what a process reckons with."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from otel_ratelimit._core.fleet import member, messages
from otel_ratelimit._core.limiters.tuning import TUNED
from otel_ratelimit._core.queueing import admission, queue

SCRIPT = (resources.files("otel_ratelimit._stores") / "allocation.lua").read_text(encoding="utf-8")


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
        ("COLD_CALLS", TUNED.cold_start.calls),
        ("COLD_DOUBLING", TUNED.cold_start.doubling),
        ("MARGIN_MEMORY", TUNED.buckets.margin_memory),
        ("SILENT_MEMORY", TUNED.buckets.silent_memory),
        ("MARGIN_CAP", TUNED.buckets.margin_cap),
        ("MARGIN_OF_CAPACITY", TUNED.buckets.margin_of_capacity),
        ("DRAIN_TIME", TUNED.buckets.drain_time),
        ("DRAIN_HOLD", TUNED.buckets.drain_hold),
        ("MOST_DRAIN", TUNED.buckets.most_drain),
        ("PROBE_CALLS", TUNED.buckets.exact_probe_calls),
        ("PATIENCE", TUNED.probes.longest),
        ("HEARTBEAT", member.HEARTBEAT),
        ("LEAST", member.LEAST),
        ("BEHIND", member.BEHIND),
        ("MOST_CALLS", member.MOST_REPORTED),
        ("MOST_BUCKETS", messages.MOST_BUCKETS),
        ("VERSION", messages.VERSION),
        ("CLOCK_SLACK", admission.CLOCK_SLACK),
    ],
)
def test_a_constant_is_the_same(name: str, of_a_process: float) -> None:
    """Redis cannot import it."""
    assert constants()[name] == [of_a_process]


def test_priorities_weigh_the_same() -> None:
    """In the order in which a report names them."""
    assert constants()["WEIGHTS"] == list(queue.WEIGHTS.values())
