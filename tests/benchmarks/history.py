"""``python -m tests.benchmarks.history [--suite] [--note TEXT]``: today's figures as one line of ``benchmarks/history.jsonl``.

Makespan over the bound and throttles a call of the simulation's scenarios, at seeds of their own; what the plugin adds to an
undisturbed call, in pairs; Python calls of ours for an undisturbed call, and for one that is refused and sent again; with
``--suite`` the seconds of the tests. Each line names its commit and its machine: only lines of one machine are compared.
``--draw`` makes ``docs/images/history.svg`` of the file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import openai
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

import otel_ratelimit
from tests.benchmarks import overhead
from tests.benchmarks.overhead import ANSWER, BODY, HEADERS
from tests.benchmarks.simulation.scenarios import SCENARIOS, median, play
from tests.helpers.work import python_calls

httpx: Any = overhead.httpx  # type: ignore[attr-defined]

ROOT = Path(__file__).parents[2]
PACKAGE = str(Path(otel_ratelimit.__file__).parent)
FILE = ROOT / "benchmarks" / "history.jsonl"
PICTURE = ROOT / "docs" / "images" / "history.svg"
SEEDS = (90_001, 90_018, 90_035)
"""Not used while tuning, and never to be: the history would be of what it was tuned for."""

REFUSAL = {
    "error": {
        "message": "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 150000000, Used 149999990,"
        " Requested 200. Please try again in 2ms.",
        "type": "tokens", "param": None, "code": "rate_limit_exceeded",
    }
}  # fmt: skip

EMPTY = {"retry-after-ms": "2", "x-ratelimit-remaining-tokens": "10", "x-ratelimit-reset-tokens": "59.999s"}


def calls_of_ours() -> dict[str, int]:
    """Of an undisturbed call, and of one that is refused once; after some, so that what is made once is made."""
    refuse = [False]

    def answer(_request: Any) -> Any:
        if refuse[0]:
            refuse[0] = False
            return httpx.Response(429, headers={**HEADERS, **EMPTY}, json=REFUSAL)
        return httpx.Response(200, json=ANSWER, headers=HEADERS)

    otel_ratelimit.instrument(tracer_provider=TracerProvider(), meter_provider=MeterProvider())
    http = httpx.Client(transport=httpx.MockTransport(answer))
    client = openai.OpenAI(base_url="http://127.0.0.1/v1", api_key="test", http_client=http)

    def call() -> None:
        client.chat.completions.create(**BODY)  # type: ignore[call-overload]

    found = {}
    for name, refused in (("undisturbed", False), ("refused and sent again", True)):
        counts = []
        for _ in range(8):
            refuse[0] = refused
            counts.append(python_calls(call, below=PACKAGE))
        found[name] = min(counts[3:])
    otel_ratelimit.uninstrument()
    return found


def simulated() -> dict[str, list[float]]:
    """Makespan over the bound and throttles a call (those before the first answer aside), medians over the seeds."""
    found = {}
    for scenario in SCENARIOS:
        runs = [play(scenario, seed) for seed in SEEDS]
        ratio = median([run.makespan / bound for run, bound, _ in runs])
        throttled = median([(run.throttled - run.cold) / scenario.calls for run, _, _ in runs])
        found[scenario.name] = [round(ratio, 4), round(throttled, 4)]
    return found


def added() -> dict[str, float]:
    """Microseconds that are added to an undisturbed synchronous call, and their share of it; the median of three processes."""
    with overhead.variants() as chosen:
        name = next(iter(chosen))
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.overhead",
        "--flavour",
        "sync",
        "--pairs",
        "3000",
        "--pairs-of",
        name,
    ]
    pairs = []
    for number in range(3):
        environment = {**os.environ, "PYTHONHASHSEED": str(number)}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=ROOT)
        pairs.append(tuple(map(float, done.stdout.split())))
    return {
        "microseconds": round(statistics.median(more for _, more in pairs), 1),
        "share": round(statistics.median(more / plain for plain, more in pairs), 4),
    }


def suite_seconds() -> float:
    """Of the tests, as README has them run."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return round(time.monotonic() - began, 1)


def machine() -> str:
    """What figures of time depend on."""
    names = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    processor = names[0].partition(":")[2].strip() if names else platform.processor()
    return f"{os.cpu_count()} x {processor or platform.machine()}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def commit() -> str:
    """The commit that is measured; with a plus where something is changed since."""
    short = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, check=True, capture_output=True, text=True)
    return short.stdout.strip() + ("+" if changed.stdout.strip() else "")


def draw() -> None:
    """One panel each, over the lines of the file in their order."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "otel_ratelimit"  # the same picture from the same figures
    from matplotlib import pyplot

    lines = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    labels = [line["commit"] for line in lines]
    panels: list[tuple[str, list[float | None]]] = [
        (
            "makespan over the bound, mean",
            [statistics.fmean(one[0] for one in line["simulation"].values()) for line in lines],
        ),
        ("throttles a call, mean", [statistics.fmean(one[1] for one in line["simulation"].values()) for line in lines]),
        ("Python calls, undisturbed", [line["python_calls"]["undisturbed"] for line in lines]),
        ("Python calls, refused and sent again", [line["python_calls"]["refused and sent again"] for line in lines]),
        ("added to a call, percent", [100 * line["added"]["share"] for line in lines]),
        ("the tests, seconds", [line["suite_seconds"] for line in lines]),
    ]
    figure, axes = pyplot.subplots(2, 3, figsize=(11, 5))
    for (title, values), place in zip(panels, axes.flat, strict=True):
        known = [(index, value) for index, value in enumerate(values) if value is not None]
        place.plot([index for index, _ in known], [value for _, value in known], marker="o")
        place.set_title(title, fontsize=9)
        place.set_xticks(range(len(labels)), labels, rotation=60, fontsize=6)
        place.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})


def main() -> None:
    """Measure and append, or draw."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.history")
    parser.add_argument("--suite", action="store_true", help="also the seconds of the tests")
    parser.add_argument("--note", default="", help="what was changed")
    parser.add_argument("--draw", action="store_true", help="only draw what is there")
    options = parser.parse_args()
    if not options.draw:
        line = {
            "date": datetime.now(timezone.utc).date().isoformat(),
            "commit": commit(),
            "machine": machine(),
            "python": platform.python_version(),
            "openai": metadata.version("openai"),
            "note": options.note,
            "simulation": simulated(),
            "python_calls": calls_of_ours(),
            "added": added(),
            "suite_seconds": suite_seconds() if options.suite else None,
        }
        FILE.parent.mkdir(exist_ok=True)
        with FILE.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line, indent=1))
    draw()


if __name__ == "__main__":
    main()
