"""What an undisturbed call costs: ``uv run --group test python -m tests.benchmarks.overhead``

The real SDK over an in-process transport, plain and instrumented calls in turns in one process, so that a noisy machine is
noisy to both. Prints what ours takes longer in microseconds a call, and the ratio; the ratio is the figure to compare.
Further parts:

``--inside``        what passes in our code in the middle of real calls
``--instructions``  counted by callgrind, where valgrind is installed: no noise, but not every instruction takes as long
``--bytecodes``     of each of our functions in one such call: the same on every machine, and tells two commits apart
``--memory``        bytes of ours for each call in flight, and what 100,000 calls leave behind
``--imports``       processor time of ``import otel_ratelimit.auto`` beyond openai's and OpenTelemetry's own
``--profile``       where our part of a call goes
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import os
import pstats
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import openai
from openai._base_client import AsyncAPIClient, SyncAPIClient
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_ratelimit
from otel_ratelimit import Policy
from otel_ratelimit._core.limiters import combined
from otel_ratelimit._drivers.hooks import Hooks
from otel_ratelimit.testing import answers

try:
    import httpx2 as httpx
except ImportError:  # openai before 3.0
    import httpx  # type: ignore[no-redef,import-not-found,unused-ignore]

HEADERS = {
    "date": "Tue, 24 Nov 2026 12:00:00 GMT",
    "content-type": "application/json",
    "access-control-expose-headers": "X-Request-ID",
    "openai-organization": "org-benchmark",
    "openai-processing-ms": "400",
    "openai-version": "2020-10-01",
    "x-ratelimit-limit-requests": "30000",
    "x-ratelimit-limit-tokens": "150000000",
    "x-ratelimit-remaining-requests": "29999",
    "x-ratelimit-remaining-tokens": "149999000",
    "x-ratelimit-reset-requests": "2ms",
    "x-ratelimit-reset-tokens": "0s",
    "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
    "x-request-id": "req_1",
    "cf-cache-status": "DYNAMIC",
    "server": "cloudflare",
    "cf-ray": "8f0-AMS",
    "alt-svc": 'h3=":443"; ma=86400',
}
"""As OpenAI sends them, of an account of the highest tier."""
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello. " * 50}], "max_tokens": 100}
ANSWER = answers.chat(BODY)


OWN_METHODS = {
    flavour: {name: owner.__dict__[name] for name in ("request", "_process_response")}
    for flavour, owner in (("sync", SyncAPIClient), ("asyncio", AsyncAPIClient))
}
"""The SDK's, from before they are patched."""


def client(of: type[openai.OpenAI] = openai.OpenAI) -> openai.OpenAI:
    """A client whose server is a function."""
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=ANSWER, headers=HEADERS))
    return of(base_url="http://127.0.0.1/v1", api_key="test", http_client=httpx.Client(transport=transport))


def asynchronous_client(
    gate: asyncio.Event | None = None, of: type[openai.AsyncOpenAI] = openai.AsyncOpenAI
) -> openai.AsyncOpenAI:
    """The same; ``gate`` holds its answers back."""

    async def answer(_request: Any) -> Any:
        if gate is not None:
            await gate.wait()
        return httpx.Response(200, json=ANSWER, headers=HEADERS)

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return of(base_url="http://127.0.0.1/v1", api_key="test", http_client=http)


class _Nowhere:
    """Takes metrics and keeps none."""

    def __init__(self) -> None:
        self._preferred_temporality = None
        self._preferred_aggregation = None

    def export(self, *_: object, **__: object) -> MetricExportResult:
        return MetricExportResult.SUCCESS

    def force_flush(self, *_: object, **__: object) -> bool:
        return True

    def shutdown(self, *_: object, **__: object) -> None:
        pass


@contextmanager
def variants() -> Iterator[dict[str, dict[str, Any]]]:
    """What ``instrument`` is given."""
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    meters = MeterProvider([PeriodicExportingMetricReader(_Nowhere(), export_interval_millis=5000)])  # type: ignore[arg-type]
    providers = {"tracer_provider": tracers, "meter_provider": meters}
    yield {
        "no OpenTelemetry SDK": {"policy": Policy()},
        "no OpenTelemetry SDK, pacing off": {"policy": Policy(pacing=False)},
        "metrics and traces on": {"policy": Policy(), **providers},
        "metrics and traces on, pacing off": {"policy": Policy(pacing=False), **providers},
        "mode off": {"policy": Policy(mode="off")},
    }
    tracers.shutdown()
    meters.shutdown()


def times(sets: int, pairs: int, flavour: str) -> None:
    """Print what each variant adds to a call.

    A child process for each variant holds both sides: a client of ours, and one of a class that has the SDK's own methods back.
    They call in turns, and the differences of neighbours are what counts: whatever the machine does to one, it does to the other.
    Between processes it would not: where one happens to have its memory makes it some 5 % quicker or slower than its twin for
    as long as it lives, which is more than what is to be measured. So several are asked, and the median of them is told.
    """
    with variants() as chosen:
        names = list(chosen)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(sets):
        environment = {**os.environ, "PYTHONHASHSEED": str(number)}
        for name in names:
            command = [sys.executable, "-m", "tests.benchmarks.overhead", "--flavour", flavour, "--pairs", str(pairs)]
            child = subprocess.run(
                [*command, "--pairs-of", name], check=True, stdout=subprocess.PIPE, text=True, env=environment
            )
            plain, added = map(float, child.stdout.split())
            found[name].append((plain, added))
    print(f"{flavour}: added to a call; the median of {sets} processes of {pairs:,} pairs each (lowest, highest)")
    for name, of_name in found.items():
        middle = statistics.median(added for _, added in of_name)
        shares = sorted(added / plain for plain, added in of_name)
        whole = statistics.median(plain for plain, _ in of_name)
        print(f"  {name:<34} {middle:+6.1f} us of {whole:5.0f}  {statistics.median(shares):+.2%}"
              f"  ({shares[0]:+.2%}, {shares[-1]:+.2%})")  # fmt: skip


def pairs_of(name: str, pairs: int, flavour: str) -> None:
    """The child of ``times``: prints the microseconds of a plain call, and what ours takes longer."""
    asynchronous = flavour == "asyncio"
    base: Any = openai.AsyncOpenAI if asynchronous else openai.OpenAI
    make: Any = asynchronous_client if asynchronous else client
    with variants() as chosen:
        otel_ratelimit.instrument(**chosen[name])
        plain: Any = type("Plain", (base,), OWN_METHODS[flavour])
        sides = [make(of=of).chat.completions.create for of in (plain, base)]
        took: list[list[int]] = [[], []]
        clock = time.perf_counter_ns

        async def call_in_turns(number: int) -> None:
            for turn in range(number):
                for side in (0, 1) if turn % 2 else (1, 0):
                    create = sides[side]
                    began = clock()
                    if asynchronous:
                        await create(**BODY)
                    else:
                        create(**BODY)
                    took[side].append(clock() - began)

        asyncio.run(call_in_turns(300))
        gc.collect()
        gc.freeze()
        took[:] = [[], []]
        asyncio.run(call_in_turns(pairs))
        otel_ratelimit.uninstrument()
    differences = sorted(ours - theirs for theirs, ours in zip(*took, strict=True))
    cut = pairs // 50  # those at either end were interrupted by others
    print(statistics.median(took[0]) / 1000, statistics.fmean(differences[cut:-cut]) / 1000)


def under_callgrind(name: str, calls: int) -> None:
    """The child of ``measure_instructions``: counts only while it makes its calls."""
    create: Any = client().chat.completions.create
    with variants() as chosen:
        if name in chosen:
            otel_ratelimit.instrument(**chosen[name])
        combined.LOOK_AGAIN *= 50.0  # type: ignore[misc]  # by as much time goes by more slowly here
        for _ in range(60):
            create(**BODY)
        gc.collect()
        gc.disable()  # its turns would count for whoever happens to be there
        switch = ["callgrind_control", "-i"]
        subprocess.run([*switch, "on"], check=True, stdout=subprocess.DEVNULL)
        for _ in range(calls):
            create(**BODY)
        subprocess.run([*switch, "off"], check=True, stdout=subprocess.DEVNULL)


def measure_instructions(calls: int) -> None:
    """Instructions a call, over ``calls`` and twice as many, so that what is not a call cancels out."""
    if shutil.which("valgrind") is None:
        print("instructions: valgrind is not installed")
        return
    plain = 0.0
    for name in ("openai alone", "no OpenTelemetry SDK", "mode off"):  # the others have threads, which count as well
        totals = []
        for number in (calls, 2 * calls):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "out"
                command = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
                child = [sys.executable, "-m", "tests.benchmarks.overhead", "--child", name, "--calls", str(number)]
                environment = {**os.environ, "PYTHONHASHSEED": "0"}
                subprocess.run([*command, *child], check=True, stderr=subprocess.DEVNULL, env=environment)
                totals.append(
                    int(next(line for line in out.read_text().splitlines() if line.startswith("totals:"))[8:])
                )
        each = (totals[1] - totals[0]) / calls
        plain = plain or each
        print(f"  {name:<34} {each:12,.0f} instructions a call  {each - plain:+10,.0f}  x {each / plain:.4f}")


def measure_inside(calls: int) -> None:
    """Time between the SDK and the SDK: what passes in our code in the middle of real calls, in one process, with its clock read
    at each border. Leaves out what wrapt itself takes to call us (1 us for each of two hooks)."""
    for name in ("no OpenTelemetry SDK", "metrics and traces on"):
        command = [sys.executable, "-m", "tests.benchmarks.overhead", "--calls", str(calls), "--inside-of", name]
        subprocess.run(command, check=True)


def inside(name: str, calls: int) -> None:
    """The child of ``measure_inside``."""
    clock = time.perf_counter_ns
    ours: list[int] = []
    whole: list[int] = []

    def timed(hook: Any, note: Any) -> Any:
        def run(self: Hooks, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            began = clock()
            theirs = 0

            def sdk(*arguments: Any, **keywords: Any) -> Any:
                nonlocal theirs
                start = clock()
                result = wrapped(*arguments, **keywords)
                theirs = clock() - start
                return result

            result = hook(self, sdk, instance, args, kwargs)
            note(clock() - began, theirs)
            return result

        return run

    def note_call(took: int, theirs: int) -> None:
        ours[-1] += took - theirs
        whole.append(took)

    Hooks._process_response = timed(  # type: ignore[method-assign]
        Hooks._process_response, lambda took, theirs: ours.append(took - theirs)
    )
    Hooks._request = timed(Hooks._request, note_call)  # type: ignore[method-assign]
    with variants() as chosen:
        otel_ratelimit.instrument(**chosen[name])
        create: Any = client().chat.completions.create
        for _ in range(300):
            create(**BODY)
        ours.clear()
        whole.clear()
        for _ in range(calls):
            create(**BODY)
        otel_ratelimit.uninstrument()
    mean = statistics.fmean(sorted(ours)[: -calls // 100]) / 1000  # without the one in a hundred that was interrupted
    all_of_it = statistics.fmean(sorted(whole)[: -calls // 100]) / 1000
    print(f"  {name:<34} {mean:6.1f} us of {all_of_it:7.1f}  {mean / (all_of_it - mean):.2%}")


def measure_memory(calls: int) -> None:
    """Bytes that were allocated in our modules: for each of a thousand calls in flight, and after many."""
    otel_ratelimit.instrument(policy=Policy())
    ours = tracemalloc.Filter(True, str(Path(otel_ratelimit.__file__).parent / "*"))

    def held() -> int:
        gc.collect()
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([ours]).traces)

    async def in_flight(number: int) -> int:
        gate = asyncio.Event()
        create: Any = asynchronous_client(gate).chat.completions.create
        gate.set()
        for _ in range(50):
            await create(**BODY)
        gate.clear()
        before = held()
        tasks = [asyncio.create_task(create(**BODY)) for _ in range(number)]
        await asyncio.sleep(2.0)
        now = held() - before
        gate.set()
        await asyncio.gather(*tasks)
        return now

    tracemalloc.start()
    print(f"  in flight: {asyncio.run(in_flight(1000)) / 1000:,.0f} bytes a call")
    create: Any = client().chat.completions.create
    for _ in range(500):
        create(**BODY)
    before = held()
    for _ in range(calls):
        create(**BODY)
    print(f"  after {calls:,} calls: {held() - before:+,} bytes")
    tracemalloc.stop()
    otel_ratelimit.uninstrument()


_IMPORT = """
import time, anyio, openai, sniffio
import opentelemetry.instrumentation.instrumentor, opentelemetry.metrics, opentelemetry.trace
began = time.process_time()
import otel_ratelimit.auto
ours = time.process_time() - began
print(ours * 1000)
"""


def measure_imports(rounds: int) -> None:
    """In fresh interpreters, with byte code as an installed package has it."""
    compiled = [sys.executable, "-m", "compileall", "-q", str(Path(otel_ratelimit.__file__).parent)]
    subprocess.run(compiled, check=True)
    found = [
        float(subprocess.run([sys.executable, "-c", _IMPORT], check=True, capture_output=True, text=True).stdout)
        for _ in range(rounds)
    ]
    openai_alone = (
        "import time\nbegan = time.process_time()\nimport openai\nprint((time.process_time() - began) * 1000)"
    )
    theirs = float(
        subprocess.run([sys.executable, "-c", openai_alone], check=True, capture_output=True, text=True).stdout
    )
    print(f"  import otel_ratelimit.auto: {min(found):.1f} ms (least), {statistics.median(found):.1f} ms (median);"
          f" import openai: {theirs:.0f} ms")  # fmt: skip


def profile(calls: int) -> None:
    """Our functions, by their own time."""
    create: Any = client().chat.completions.create
    with variants() as chosen:
        otel_ratelimit.instrument(**chosen["no OpenTelemetry SDK"])
        for _ in range(50):
            create(**BODY)
        profiler = cProfile.Profile()
        profiler.enable()
        for _ in range(calls):
            create(**BODY)
        profiler.disable()
        otel_ratelimit.uninstrument()
    pstats.Stats(profiler).sort_stats("tottime").print_stats("otel_ratelimit/")


def measure_bytecodes() -> None:
    """Interpreted instructions of ours in one call of the usual kind, by function."""
    create: Any = client().chat.completions.create
    package = str(Path(otel_ratelimit.__file__).parent)
    counts: Counter[str] = Counter()

    def entered(frame: FrameType, _event: str, _argument: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(package):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        where = f"{file[len(package) + 1 :]}  {frame.f_code.co_name}"

        def step(_frame: FrameType, event: str, _argument: object) -> Any:
            counts[where] += event == "opcode"
            return step

        return step

    with variants() as chosen:
        otel_ratelimit.instrument(**chosen["no OpenTelemetry SDK"])
        combined.LOOK_AGAIN *= 50.0  # type: ignore[misc]  # being traced, a call takes longer
        for _ in range(60):
            create(**BODY)
        sys.settrace(entered)
        try:
            create(**BODY)
        finally:
            sys.settrace(None)
            otel_ratelimit.uninstrument()
    print(f"  {sum(counts.values())} bytecodes in {len(counts)} functions")
    for where, count in counts.most_common():
        print(f"  {count:6d}  {where}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sets", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--calls", type=int, default=50)
    for part in ("inside", "instructions", "bytecodes", "memory", "imports", "profile"):
        parser.add_argument(f"--{part}", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--inside-of", help=argparse.SUPPRESS)
    parser.add_argument("--pairs-of", help=argparse.SUPPRESS)
    parser.add_argument("--flavour", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pairs_of:
        pairs_of(options.pairs_of, options.pairs, options.flavour)
    elif options.inside_of:
        inside(options.inside_of, options.calls)
    elif options.inside:
        measure_inside(3000)
    elif options.child:
        under_callgrind(options.child, options.calls)
    elif options.instructions:
        measure_instructions(options.calls)
    elif options.bytecodes:
        measure_bytecodes()
    elif options.memory:
        measure_memory(100_000)
    elif options.imports:
        measure_imports(10)
    elif options.profile:
        profile(options.calls)
    else:
        for flavour in ("sync", "asyncio"):
            times(options.sets, options.pairs, flavour)


if __name__ == "__main__":
    main()
