"""``python -m tests.benchmarks.busy --runs 10 --beside 4 [-- PYTEST ARGUMENTS]``: the tests on a machine that does other work.

Runs them again and again with so many processes beside them that never rest, and tells what failed and how long each run took.
A verdict that hangs on the machine's speed shows here: no failure in ten runs is the aim.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST = 3600.0
"""Seconds of one run, and of a process beside it."""

RESTLESS = f"import time\nend = time.monotonic() + {LONGEST}\nwhile time.monotonic() < end: pass\n"


@contextlib.contextmanager
def beside(count: int) -> Iterator[None]:
    """So many processes that never rest; ended by their ids."""
    processes = [subprocess.Popen([sys.executable, "-c", RESTLESS]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> int:
    """Exit status: 0 where nothing failed in any run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--beside", type=int, default=4, help="processes that never rest")
    parser.add_argument("arguments", nargs="*", help="for pytest")
    options = parser.parse_args()
    failed: Counter[str] = Counter()
    ended_badly = 0
    for run in range(1, options.runs + 1):
        began = time.monotonic()
        with beside(options.beside):
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", *options.arguments],
                cwd=ROOT, capture_output=True, text=True, timeout=LONGEST, check=False,
            )  # fmt: skip
        names = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
        failed.update(names)
        ended_badly += done.returncode != 0
        last = done.stdout.strip().rpartition("\n")[2].strip("= ")
        print(f"run {run}: {time.monotonic() - began:.0f} s, status {done.returncode}: {last}", flush=True)
        for line in (*names, *re.findall(r"^E   .*", done.stdout, re.MULTILINE)[:20]):
            print(f"  {line}", flush=True)
    for name, count in failed.most_common():
        print(f"{count} of {options.runs}: {name}")
    return 1 if ended_badly else 0


if __name__ == "__main__":
    sys.exit(main())
