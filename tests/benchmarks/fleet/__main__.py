"""``python -m tests.benchmarks.fleet simulate|real|deployments``: what a fleet costs and how fair it is. Needs a redis-server.

``simulate`` (group ``benchmarks``) is 1 to 1,000 processes on a virtual clock, sharing 10,000,000 tokens a minute through a real
Redis, beside the same processes that share nothing; it draws ``docs/images/fleet.png``. ``real`` is eight processes, half sync
and half async, with the real SDK against the throttling server: undisturbed, with a worker killed, and with Redis killed.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from otel_ratelimit._stores.redis_client import Script
from otel_ratelimit.testing import Limit
from tests.benchmarks.fleet import deployments
from tests.benchmarks.fleet.simulation import Fleet
from tests.benchmarks.simulation.scenarios import Scenario, bound_of, jobs_of, server_of
from tests.benchmarks.simulation.server import Limits
from tests.helpers.redis_server import RedisServer
from tests.stores.fleet import Result, run_fleet

PLOT = Path(__file__).parents[3] / "docs" / "images" / "fleet.png"
SIZES = (1, 3, 10, 32, 100, 320, 1000)
CALLS = 20_000
AT_A_TIME = 2_000
SCENARIO = Scenario("10M TPM", limits=Limits(tpm=1e7, rpm=1e6), calls=CALLS, concurrency=AT_A_TIME)
COLUMNS = ("processes", "makespan/bound", "throttled", "least", "exchanges", "per second", "redis us")


def simulate(sizes: list[int], *, plot: bool) -> None:
    """Print the table, draw the plot."""
    print(("{:>15}" * len(COLUMNS)).format(*COLUMNS))
    shared, alone = [], []
    with RedisServer() as server:
        script = Script(f"unix://{server.socket}", timeout=20.0)
        for size in sizes:
            shared.append(_simulated(size, script, server))
            alone.append(_simulated(size, None, server))
        script.close()
    if plot:
        _draw(shared, alone)


def _simulated(size: int, script: Script | None, server: RedisServer) -> dict[str, float]:
    jobs = jobs_of(SCENARIO, random.Random(1))
    fleet = Fleet(
        server_of(SCENARIO, 1), [jobs[number::size] for number in range(size)], AT_A_TIME // size, script=script
    )  # fmt: skip
    with server.client() as client:
        client.config_resetstat()
        fleet.play()
        spent = client.info("commandstats").get("cmdstat_evalsha", {"usec_per_call": 0.0})["usec_per_call"]
    found = fleet.summary()
    row = {
        "processes": size,
        "makespan/bound": found["makespan"] / bound_of(SCENARIO, jobs, None),
        "throttled": found["throttled"],
        "least": found["least"],
        "exchanges": found["exchanges"],
        "per second": found["exchanges"] * CALLS / found["makespan"],
        "redis us": spent,
    }
    assert found["done"] == 1.0
    print(
        f"{size:>15d}"
        + "".join(f"{row[name]:>15.4g}" for name in COLUMNS[1:])
        + ("" if script else "  (nothing shared)")
    )
    return row


def _draw(shared: list[dict[str, float]], alone: list[dict[str, float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes = [row["processes"] for row in shared]
    figure, axes = pyplot.subplots(1, 4, figsize=(14, 3.4), layout="constrained")
    panels: list[tuple[str, str, Callable[[dict[str, float]], float], float | None]] = [
        ("throttled per call", "throttled", lambda row: row["throttled"], 0.02),
        ("time over the bound", "makespan/bound", lambda row: row["makespan/bound"], 1.03),
        ("least share of a process\n(1: as much as the mean)", "least", lambda row: row["least"], 0.8),
        ("exchanges with Redis per call", "exchanges", lambda row: row["exchanges"], None),
    ]
    for axis, (title, name, _, target) in zip(axes, panels, strict=True):
        axis.plot(sizes, [row[name] for row in shared], "o-", label="shared through Redis")
        if name != "exchanges":
            axis.plot(sizes, [row[name] for row in alone], "s--", color="0.6", label="nothing shared")
        if target is not None:
            axis.axhline(target, color="tab:red", linewidth=0.8, linestyle=":", label="target")
        axis.set_xscale("log")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("processes")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(PLOT, dpi=110)
    print(f"wrote {PLOT}")


RATE = 2_000
ROOM = 100


def real(repeat: int) -> None:
    """Print one line a run."""
    bound = (8 * 50 - ROOM) * 100 / RATE + 0.1
    runs: list[tuple[str, Callable[[RedisServer], Callable[[list[int]], object] | None]]] = [
        ("undisturbed", lambda _server: None),
        ("a worker killed", lambda _server: _later(3.0, _kill)),
        ("Redis killed, back after 3 s", lambda server: _later(4.0, lambda _ids: _restart(server))),
    ]
    for name, meanwhile in runs:
        for _ in range(repeat):
            with RedisServer() as server:
                result = run_fleet(
                    store=server.url,
                    limits=[Limit("tokens", 60 * RATE, used=60 * RATE - 100 * ROOM)],
                    calls=50,
                    meanwhile=meanwhile(server),
                )
                with server.client() as client:
                    exchanges: Any = client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})
            _print(name, result, bound, exchanges["calls"])


def _print(name: str, result: Result, bound: float, exchanges: int) -> None:
    lived = sum(report is not None for report in result.reports)
    print(
        f"{name:30} lived {lived} done {result.done} failed {len(result.failed)} makespan {result.makespan:.2f}"
        f" /bound {result.makespan / bound:.3f} throttled {result.throttled / max(result.served, 1):.4f}"
        f" least {result.least_share():.2f} exchanges {exchanges} warnings {len(result.log)}",
        flush=True,
    )


def _later(seconds: float, what: Callable[[list[int]], object]) -> Callable[[list[int]], object]:
    return lambda ids: threading.Timer(seconds, what, [ids]).start()


def _kill(ids: list[int]) -> None:
    import os
    import signal

    os.kill(ids[0], signal.SIGKILL)


def _restart(server: RedisServer) -> None:
    server.kill()
    time.sleep(3.0)
    server.start()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet")
    parser.add_argument("what", choices=["simulate", "real", "deployments"])
    parser.add_argument("--sizes", type=int, nargs="+", default=None)
    parser.add_argument(
        "--first", type=int, default=911, help="the first seed of deployments, which runs --repeat of them"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-plot", action="store_true")
    arguments = parser.parse_args()
    if arguments.what == "simulate":
        simulate(arguments.sizes or list(SIZES), plot=not arguments.no_plot)
    elif arguments.what == "deployments":
        deployments.measure(arguments.sizes or (1, 8), range(arguments.first, arguments.first + arguments.repeat))
    else:
        real(arguments.repeat)


if __name__ == "__main__":
    main()
