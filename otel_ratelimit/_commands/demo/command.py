"""The demo's course and its screen: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import otel_ratelimit
from otel_ratelimit._commands.demo import timeline, traffic
from otel_ratelimit._commands.demo.recorder import Recorder, write_traces
from otel_ratelimit.testing import ThrottlingServer

REFRESH = 0.2
"""Seconds between two looks at the counters."""

PLAIN_LINES = 2.0
"""Seconds between two lines where the output is no terminal."""


def demo(file: Path) -> int:
    """Run it. Returns the exit status: 0 if every call with the plugin was answered."""
    console = Console()
    console.print(
        f"{traffic.CALLS} calls of {traffic.TOKENS_PER_CALL} tokens, {traffic.CONCURRENCY} at a time, against a limit of"
        f" {traffic.TOKENS_PER_MINUTE:,} tokens per minute of which {traffic.TOKENS_IN_USE:,} are in use."
    )
    plain = _run(console, "openai alone", lambda _server: {})
    recorder = Recorder()
    otel_ratelimit.instrument(tracer_provider=recorder.tracer_provider, meter_provider=recorder.meter_provider)
    try:
        helped = _run(console, "with otel_ratelimit", lambda _server: recorder.metrics())
    finally:
        otel_ratelimit.uninstrument()
        spans = recorder.spans()
        counted = recorder.metrics()
        recorder.close()
    console.print(_comparison(plain, helped))
    if not plain.failed:
        console.print(
            "openai alone failed none: something else than the limit holds this machine up, and the comparison says nothing",
            soft_wrap=True,
        )
    throttle_spans = sum(span.name.startswith("throttle") for span in spans)
    console.print(
        f"throttled responses: the server counted {helped.throttled}, the traces show {throttle_spans},"
        f" the metric says {counted.get('otel_ratelimit.throttles', 0):.0f}",
        soft_wrap=True,
    )
    call = timeline.most_telling(spans)
    if call is not None:
        console.print("\none throttled call:")
        for line in timeline.draw(call, spans):
            console.print(Text(line), soft_wrap=True)
    failures = recorder.failures()
    for line in failures:
        console.print(f"\n{line}", soft_wrap=True)
    if recorder.exports and not failures:
        console.print("\ntraces and metrics went to OTEL_EXPORTER_OTLP_ENDPOINT")
    elif not recorder.exports:
        write_traces(spans, file)
        console.print(f"\ntraces: {file} (Jaeger: Search, Upload, JSON File)", soft_wrap=True)
    return 0 if helped.failed == 0 else 1


def _run(console: Console, title: str, metrics: Callable[[ThrottlingServer], dict[str, float]]) -> traffic.Result:
    """One run under the eyes of the user."""
    result = traffic.Result(traffic.CALLS)
    with traffic.start_server() as server:

        async def main() -> None:
            work = asyncio.create_task(traffic.run(server, result))
            try:
                await _watch(console, title, result, lambda: metrics(server), work)
            finally:
                work.cancel()  # Ctrl-C: the calls end before the server does
                await asyncio.gather(work, return_exceptions=True)
            work.result()

        asyncio.run(main())
    return result


async def _watch(
    console: Console,
    title: str,
    result: traffic.Result,
    metrics: Callable[[], dict[str, float]],
    work: asyncio.Task[None],
) -> None:
    began = time.monotonic()
    if not console.is_terminal:
        next_line = began
        while not work.done():
            if time.monotonic() >= next_line:
                console.print(_line(title, result, metrics(), time.monotonic() - began), soft_wrap=True)
                next_line += PLAIN_LINES
            await asyncio.wait([work], timeout=REFRESH)
        console.print(_line(title, result, metrics(), time.monotonic() - began), soft_wrap=True)
        return
    with Live(console=console, refresh_per_second=10) as live:
        while not work.done():
            live.update(_panel(title, result, metrics(), time.monotonic() - began))
            await asyncio.wait([work], timeout=REFRESH)
        live.update(_panel(title, result, metrics(), time.monotonic() - began))


def _line(title: str, result: traffic.Result, metrics: dict[str, float], seconds: float) -> str:
    waiting = metrics.get("otel_ratelimit.request.waiting")
    left = metrics.get("otel_ratelimit.tokens.remaining")
    return (
        f"{title}: {seconds:5.1f} s, {result.done} done, {result.failed} failed, {result.throttled} throttled"
        + (f", {waiting:.0f} waiting" if waiting is not None else "")
        + (f", {left:,.0f} tokens left" if left is not None else "")
    )


def _panel(title: str, result: traffic.Result, metrics: dict[str, float], seconds: float) -> Group:
    bar = ProgressBar(total=result.calls, completed=result.done + result.failed, width=60)
    return Group(Text(_line(title, result, metrics, seconds), style="bold"), bar)


def _comparison(plain: traffic.Result, helped: traffic.Result) -> Table:
    table = Table(title="the same calls, the same limit")
    table.add_column("")
    table.add_column("openai alone", justify="right")
    table.add_column("with otel_ratelimit", justify="right")
    for label, *cells in zip(_LABELS, _cells(plain), _cells(helped), strict=True):
        table.add_row(label, *cells)
    return table


_LABELS = ("calls answered", "calls failed", "throttled responses", "slowest call", "all over after")


def _cells(run: traffic.Result) -> tuple[str, ...]:
    return (
        f"{run.done} of {run.calls}",
        str(run.failed),
        str(run.throttled),
        f"{run.slowest:.1f} s",
        f"{run.seconds:.1f} s",
    )
