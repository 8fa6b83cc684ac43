"""The harness: what is drawn, threads on a virtual clock, processes, and what is called harm."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from tests.benchmarks.no_harm import judge, report
from tests.benchmarks.no_harm.judge import Trial
from tests.benchmarks.no_harm.play import Record, Run
from tests.benchmarks.no_harm.processes import DiedError, forked
from tests.benchmarks.no_harm.threads import DRIVER, Scheduler
from tests.benchmarks.no_harm.worlds import World, calls_of, draw

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")

# --- what is drawn ------------------------------------------------------------------------------------------------

DRAWN = [draw(seed) for seed in range(400)]
EVERYTHING = {
    "threads": {True, False}, "callers": {4, 8, 16, 32, 64}, "max_retries": {0, 2, 5}, "timeout": {None, 5.0, 30.0},
    "tail": {"light", "heavy"}, "models": {1, 2}, "kind": {"bucket", "fixed", "sliding"}, "window": {1.0, 5.0, 10.0, 60.0},
    "by_second": {True, False}, "unit": {"tokens", "requests", "both"}, "routing": {"random", "in turn", "by load"},
    "failover": {True, False}, "concurrency": {None, 3, 10}, "charged": {True, False}, "charged_at_end": {True, False},
    "status": {429, 503}, "headers": {"full", "remaining", "reset", "none"}, "silent_refusals": {True, False},
    "whole_seconds": {True, False}, "retry_after": {"ms", "rounded up", "1", "60", "none"},
    "message": {"numbers", "delay", "nothing"}, "usage": {True, False}, "errors": {0.0, 0.02, 0.1}, "too_large": {0, 1, 5},
    "day_kind": {"midnight", "bucket"}, "others": {0.0, 0.3, 0.6}, "cold": {0, 2, 3},
}  # fmt: skip


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_value_is_drawn(name: str) -> None:
    """The whole space is covered."""
    assert {getattr(world, name) for world in DRAWN} == EVERYTHING[name]


def test_ranges() -> None:
    """Calls, latencies, deployments, days."""
    assert all(60 <= world.calls <= 250 and 0.3 <= world.latency <= 40 for world in DRAWN)
    assert {len(world.deployments) for world in DRAWN} == {1, 2, 3, 4}
    assert {(world.day is None, world.day_reset is None) for world in DRAWN} == {
        (True, True),
        (False, True),
        (False, False),
    }
    assert any(world.change for world in DRAWN)
    assert {field.name for field in fields(World)} - set(EVERYTHING) == {
        "seed", "calls", "tokens", "pause", "needs", "deployments", "latency", "spread", "day", "day_reset", "change",
    }  # fmt: skip


def test_what_fits() -> None:
    """All calls but those that are meant to be too large fit every deployment, alone."""
    for world in DRAWN:
        if world.unit == "requests":
            continue
        charges = [call.charge for call in calls_of(world)]
        whole = max(world.deployments) * world.whole[0] / (world.window if world.by_second else 1.0)
        assert sum(charge > whole for charge in charges) == world.too_large
        assert sum(charge > world.largest for charge in charges) == world.too_large


def test_a_seed_always_draws_the_same() -> None:
    """World and calls."""
    assert draw(7) == draw(7) != draw(8)
    assert calls_of(draw(7)) == calls_of(draw(7))


# --- threads on a virtual clock -----------------------------------------------------------------------------------


def test_threads_take_turns_by_their_times() -> None:
    """Sleeps end in the order of their times, and take none."""
    scheduler = Scheduler(100.0)
    told: list[tuple[str, float]] = []

    def sleeper(name: str, seconds: float) -> None:
        for _ in range(2):
            time.sleep(seconds)
            told.append((name, round(scheduler.now, 3)))

    real = time.sleep, DRIVER.Alarm
    began = time.monotonic()
    scheduler.run([lambda: sleeper("slow", 30.0), lambda: sleeper("fast", 20.0)])
    assert told == [("fast", 20.0), ("slow", 30.0), ("fast", 40.0), ("slow", 60.0)]
    assert time.monotonic() - began < 10.0
    assert (time.sleep, DRIVER.Alarm) == real


def test_an_alarm_wakes_whoever_sleeps_by_it() -> None:
    """Woken: at once, and once; not woken: when the time is over."""
    scheduler = Scheduler(100.0)
    told: list[float] = []
    alarms = []

    def sleeper() -> None:
        alarms.append(DRIVER.Alarm())
        for seconds in (50.0, 5.0):
            alarms[0].sleep(seconds)
            told.append(round(scheduler.now, 3))

    def waker() -> None:
        time.sleep(7.0)
        alarms[0].wake()

    scheduler.run([sleeper, waker])
    assert told == [7.0, 12.0]


def test_the_end_of_the_world() -> None:
    """Who still sleeps then is ended, and so is who waits for what never comes; a fault comes out."""
    scheduler = Scheduler(10.0)
    told: list[float] = []

    def late() -> None:
        time.sleep(20.0)
        told.append(scheduler.now)

    def in_vain() -> None:
        DRIVER.Alarm().sleep(1e6)
        told.append(scheduler.now)

    scheduler.run([late, in_vain])
    assert told == []

    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Scheduler(10.0).run([broken, late])


def test_a_look_at_the_clock_takes_time() -> None:
    """As on a real one: a loop that waits for a moment to pass ends."""
    scheduler = Scheduler(10.0)
    assert scheduler.time() < scheduler.time()


# --- processes ----------------------------------------------------------------------------------------------------


def _fails() -> None:
    raise ValueError("no")


def test_each_task_in_a_process_of_its_own() -> None:
    """What one changes no other sees; one that fails or dies is told apart; results may be large."""
    seen: list[int] = []

    def task(number: int) -> tuple[int, str]:
        seen.append(number)
        return len(seen), "x" * 1_000_000

    results = dict(forked([lambda: task(1), lambda: task(2), _fails, lambda: task(4)], jobs=2))
    assert [results[index][0] for index in (0, 1, 3)] == [1, 1, 1]
    assert isinstance(results[2], DiedError)
    assert "ValueError" in str(results[2])
    assert seen == []


# --- what is harm -------------------------------------------------------------------------------------------------


def run(
    *ends: float | None, client: str = "plugin", held: float = 0.0, error: str = "RateLimitError", ours: bool = True
) -> Run:
    """A run of calls that begin at 0; None: not answered."""
    records = []
    for number, end in enumerate(ends):
        record = Record(number, 0.0, ended=0.1 if end is None else end, error=error if end is None else None, ours=ours)
        record.served = record.duration - held
        records.append(record)
    return Run(client, records)


def harms(plugin: Run, alone: Run, retrying: Run, *, max_retries: int = 2, too_large: int = 0) -> set[str]:
    world = replace(draw(1), calls=len(plugin.records), too_large=too_large, max_retries=max_retries)
    return set(Trial(world, plugin, [alone], retrying).harms())


def test_no_harm() -> None:
    """The same, or within what is allowed."""
    assert harms(run(1, 10), run(1, 10), run(1, 10)) == set()
    assert harms(run(1, 12.9), run(1, 10), run(1, 10)) == set()
    assert harms(run(1, None), run(1, None), run(1, 10)) == set()


def test_each_harm() -> None:
    """One call fewer; later than a tenth and two seconds; later than the one that retries; held; a foreign exception; stuck."""
    assert harms(run(1, None), run(1, 10), run(1, 10)) == {judge.FEWER}
    assert harms(run(1, 13.1), run(1, 10), run(1, 12)) == {judge.LATER}
    assert harms(run(1, 13.6), run(1, None), run(1, 10)) == {judge.SLOWER}
    assert harms(run(1, 3, 3, held=0.6), run(1, 3, 3), run(1, 3, 3), max_retries=0) == {judge.HELD}
    assert harms(run(1, 3, 3), run(1, 2.4, 2.4), run(1, 3, 3), max_retries=0) == {judge.HELD}
    assert harms(run(1, 3, 3, held=0.6), run(1, 3, 3), run(1, 3, 3)) == set()
    foreign = run(1, None, error="AdmissionTimeoutError", ours=False)
    assert harms(foreign, run(1, None), run(1, 10)) == {judge.FOREIGN}
    assert harms(Run("plugin", died="signal 9"), run(1, None), run(1, 10)) == {judge.STUCK}


def test_the_mean_of_several_lucks() -> None:
    """Two of three answered it all, one not: the mean counts, without an allowance."""
    world = replace(draw(1), calls=2, too_large=0, max_retries=2)
    lucks = [run(1, 10), run(1, None), run(1, None)]
    assert set(Trial(world, run(1, None), lucks, run(1, 10)).harms()) == {judge.FEWER}
    assert set(Trial(world, run(1, 10), lucks, run(1, 10)).harms()) == set()


def test_calls_that_can_never_fit_need_no_answer() -> None:
    """All answered means all that can be."""
    assert harms(run(1, 20, None), run(1, 10, None), run(1, 10, None), too_large=1) == {judge.LATER, judge.SLOWER}


def test_what_is_printed() -> None:
    """The seed, what was drawn, the results and the harm; figures and tables."""
    world = replace(draw(1), calls=2, too_large=0, max_retries=2)
    trial = Trial(world, run(1, None), [run(1, 10, client="alone")], run(1, 10, client="retrying"))
    text = report.described(trial)
    assert "world 1: fewer answered (1 instead of 2.0)" in text
    assert str(world) in text
    assert "alone     answered   2/2" in text
    assert "RateLimitError" in report.detailed(trial, trace=True)
    assert report.figures(trial)["world"] == asdict(world)
    assert report.total([trial]) == "1 of 1 worlds harmed: fewer answered 1"


def test_the_tables() -> None:
    """A column for each code that was run, over the worlds that all have run."""
    now = {1: [judge.FEWER, judge.FOREIGN], 2: [], 3: [judge.FEWER]}
    assert report.read_harms(report.write_harms(now)) == now
    text = report.summary({"before": {**now, 4: [judge.HELD]}, "after": {**now, 1: []}})
    assert "| harm | before | after |" in text
    assert "| fewer answered | 2 | 1 |" in text
    assert "| held with max_retries=0 | 0 | 0 |" in text
    assert Counter(line.count("|") for line in text.splitlines() if line).keys() == {4, 5}
    assert sum(int(line.split("|")[2]) for line in text.splitlines() if "| program: " in line) == 3


def test_the_documentations_table() -> None:
    """Its figures of the code before are those that were kept."""
    before = report.read_harms((Path(__file__).parent / "before.json").read_text())
    assert list(before) == list(range(1, 201))
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "no-worse-than-without.md").read_text()
    for line in report.summary({"before": before}).splitlines():
        assert line.rstrip("|-").rstrip() in page
