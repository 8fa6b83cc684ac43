"""The whole chain, run once: calls -> Collector -> Jaeger and Prometheus -> Alertmanager -> webhook.

``bash collector-config/chain.sh`` gets what is missing and runs this. It prints what each stage counted beside the
server's own count, and exits with 0 if they agree.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.collector.counted import Counted
from tests.collector.programs import missing
from tests.collector.stack import Stack
from tests.collector.traces import JaegerTraces

SERVICE = "chain-test"
PROGRAMS = ("collector", "prometheus", "prometheus-alertmanager")
EXPECTED_ALERTS = {"OpenAIQuotaExhausted", "OpenAIRateLimitGiveUps", "OpenAIThrottleRatioHigh"}
"""Those that the traffic must raise: the second by answers that are scripted, as is the first; the third by real limits."""

PATIENCE = 60.0
"""Seconds until everything has arrived everywhere; it takes about three."""

SHIPPED_PATIENCE = 150.0
"""The same with the shipped intervals: an export a minute, a scrape and an evaluation every fifteen seconds."""

EXPORTED = 75.0
"""Seconds in which, with the shipped intervals, what has happened is exported and scraped."""


@dataclass(frozen=True)
class Row:
    """What one stage counted; None where it does not count that."""

    stage: str
    throttled: int | None = None
    resent: int | None = None
    requests: int | None = None
    waits: int | None = None


@dataclass(frozen=True)
class Result:
    """What became of one run."""

    counted: Counted
    rows: list[Row]
    alerts: set[str]
    notified: list[str]

    @property
    def counts_agree(self) -> bool:
        """Whether every stage counted what the server counted."""
        columns = ("throttled", "resent", "requests", "waits")
        numbers = [{getattr(row, column) for row in self.rows} - {None} for column in columns]
        return all(len(column) == 1 for column in numbers)

    @property
    def agrees(self) -> bool:
        """The same, and whether every alert came."""
        arrived = {line.split()[2] for line in self.notified}
        return self.counts_agree and self.alerts >= EXPECTED_ALERTS and arrived >= EXPECTED_ALERTS


def start_traffic(endpoint: str, **settings: str) -> subprocess.Popen[str]:
    """The user's program, against the Collector."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SERVICE_NAME": SERVICE, **settings}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.collector.traffic"],
        env=environment,
        cwd=Path(__file__).parent.parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(traffic: subprocess.Popen[str]) -> Counted:
    """Wait for the program; returns the server's count."""
    try:
        out, err = traffic.communicate(timeout=240)
    finally:
        traffic.kill()
    if traffic.returncode != 0:
        raise RuntimeError(f"the calls went otherwise than they should:\n{out}{err}")
    return Counted(**json.loads(out.splitlines()[-1]))


def wait_until(met: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Return once it is met, or when patience ends: the numbers will tell."""
    end = time.monotonic() + patience
    while not met() and time.monotonic() < end:
        time.sleep(0.2)


def look(stack: Stack, counted: Counted, before: Mapping[str, float] = MappingProxyType({})) -> Result:
    """Read every stage. ``before``: what the Collector's span metrics said before it was restarted, which forgets them."""
    spans = [span for trace in stack.traces.search(SERVICE) for span in trace]
    of_spans = {word: sum(span.name.split(" ")[0] == word for span in spans) for word in ("throttle", "retry", "wait")}
    exported = stack.collector.metrics()
    in_collector = {word: int(_sum_of(exported, word) + before.get(word, 0)) for word in ("throttle", "retry", "wait")}
    rows = [
        Row("server, its own count", counted.throttled, counted.resent, counted.requests),
        Row(
            "Collector, span metrics",
            in_collector["throttle"],
            in_collector["retry"],
            waits=in_collector["wait"],
        ),
        Row(
            "Jaeger" if stack.jaeger else "sink in Jaeger's place",
            of_spans["throttle"],
            of_spans["retry"],
            waits=of_spans["wait"],
        ),
        Row(
            "Prometheus",
            *(
                int(stack.total(f'{metric}{{job="{SERVICE}"}}'))
                for metric in (
                    "otel_ratelimit_throttles_total",
                    "otel_ratelimit_retries_total",
                    "otel_ratelimit_attempt_duration_seconds_count",
                    "otel_ratelimit_wait_duration_seconds_count",
                )
            ),
        ),
    ]
    return Result(counted, rows, stack.firing(), stack.notified())


def run(stack: Stack) -> Result:
    """Send the calls through, and look when all has arrived."""
    counted = end_of(start_traffic(stack.collector.endpoint, OTEL_METRIC_EXPORT_INTERVAL="1000"))
    wait_until(lambda: look(stack, counted).agrees)
    return look(stack, counted)


def run_with_restart(stack: Stack, directory: Path) -> Result:
    """The same with the shipped intervals, in both of the stack and of the program's exports; and in the middle, when nothing is
    under way, the Collector is restarted, while the program goes on. No alert is waited for."""
    half = directory / "half"
    traffic = start_traffic(stack.collector.endpoint, TRAFFIC_HALF=str(half))
    try:
        wait_until(lambda: half.exists() or traffic.poll() is not None, SHIPPED_PATIENCE)
        time.sleep(EXPORTED)
        exported = stack.collector.metrics()
        before = {word: _sum_of(exported, word) for word in ("throttle", "retry", "wait")}
        stack.collector.program.stop()
        stack.collector.program.__enter__()
        half.unlink(missing_ok=True)
    except BaseException:
        traffic.kill()
        raise
    counted = end_of(traffic)
    wait_until(lambda: look(stack, counted, before).counts_agree, SHIPPED_PATIENCE)
    return look(stack, counted, before)


def table(result: Result) -> str:
    """For people."""
    lines = [f"{'stage':<28}{'throttled':>10}{'sent again':>12}{'requests':>10}{'waits':>8}"]
    for row in result.rows:
        cells = (
            "-" if number is None else str(number) for number in (row.throttled, row.resent, row.requests, row.waits)
        )
        lines.append("{:<28}{:>10}{:>12}{:>10}{:>8}".format(row.stage, *cells))
    lines += ["", f"Alertmanager has {len(result.alerts)} alerts: {', '.join(sorted(result.alerts))}"]
    lines += [f"the webhook got {len(result.notified)} notifications:", *(f"  {line}" for line in result.notified)]
    return "\n".join(lines)


def _sum_of(exposition: str, word: str) -> float:
    pattern = rf'^traces_span_metrics_calls_total{{[^}}]*span_name="{word} [^}}]*}} (\S+)'
    return sum(float(number) for number in re.findall(pattern, exposition, re.MULTILINE))


def take_picture(stack: Stack, file: Path) -> None:
    """Prometheus' alerts page, as it is now."""
    subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,860",
            "--virtual-time-budget=8000", f"--screenshot={file}", f"{stack.prometheus_url}/classic/alerts",
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )  # fmt: skip


def stay(stack: Stack) -> None:
    """Until Ctrl-C."""
    print(f"\nPrometheus: {stack.prometheus_url}/alerts\nAlertmanager: {stack.alertmanager_url}")
    if isinstance(stack.traces, JaegerTraces):
        print(f"Jaeger: {stack.traces.url}\n  its monitor page: {stack.traces.monitor_url(SERVICE)}")
    print("Ctrl-C ends it", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def main() -> int:
    """Run it in a directory that is kept only where something went wrong."""
    parser = argparse.ArgumentParser(prog="bash collector-config/chain.sh", description="Runs the whole chain once.")
    parser.add_argument("--picture", type=Path, help="save a picture of Prometheus' alerts page (needs chromium)")
    parser.add_argument(
        "--shipped",
        action="store_true",
        help="the shipped intervals (some four minutes), with a restart of the Collector in the middle",
    )
    parser.add_argument("--ui", type=Path, help="a directory with Jaeger's UI, for Jaeger to serve")
    parser.add_argument(
        "--stay", action="store_true", help="leave everything running until Ctrl-C, and say where it is"
    )
    parser.add_argument("--directory", type=Path, help="a new directory for data and logs (default: a temporary one)")
    options = parser.parse_args()
    problem = missing(*PROGRAMS)
    if problem:
        print(problem, file=sys.stderr)
        return 3
    directory: Path = options.directory or Path(tempfile.mkdtemp(prefix="otel-ratelimit-chain-"))
    directory.mkdir(exist_ok=not options.directory)
    with Stack(directory, shipped=options.shipped, ui=options.ui) as stack:
        if not stack.jaeger:
            print("Jaeger has not been built (bash collector-config/tools.sh jaeger); a sink takes its place\n")
        result = run_with_restart(stack, directory) if options.shipped else run(stack)
        if options.picture:
            take_picture(stack, options.picture)
        print(table(result))
        if options.stay:
            stay(stack)
    if not (result.counts_agree if options.shipped else result.agrees):
        print(f"\nthe stages disagree, or an alert is missing; logs: {directory}", file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    print("\nevery stage agrees with the server")
    return 0


if __name__ == "__main__":
    sys.exit(main())
