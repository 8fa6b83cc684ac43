"""The SDK's own test-suite, plain and with the plugin active: ``uvx nox -s sdk_suite``

Takes the source distribution of the installed SDK from the package index (it is not in the wheel and never committed), runs
its tests twice, each time in a process of its own, and compares them one by one: no test that passes plain may fail
instrumented, but for those that are listed below with a reason. ``tests/api_resources`` is left out: it needs a mock server
that is a Node program.

Prints one JSON line at the end, which ``tests.support`` puts into ``docs/reference/support.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

KNOWN: Final[dict[str, str]] = {}
"""Tests that may differ, by their name without parameters, and why."""

PLUGIN: Final = Path(__file__).parent / "plugin"


def download(directory: Path) -> Path:
    """Unpack the installed SDK's source distribution; its folder."""
    requirement = f"openai=={version('openai')}"
    command = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "openai", "--dest", str(directory)]
    subprocess.run([sys.executable, *command, requirement], check=True)
    (archive,) = directory.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    (source,) = (path for path in directory.iterdir() if path.is_dir())
    return source


def run(source: Path, paths: Sequence[str], *, instrumented: bool) -> dict[str, str]:
    """Outcome of every test: passed, failed, error or skipped."""
    report = source.parent / f"{'instrumented' if instrumented else 'plain'}.xml"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "OTEL_"))}
    options = ["-q", "--tb=no", "-o", "addopts=", "-p", "no:cacheprovider", "--ignore=tests/api_resources"]
    if instrumented:
        environment["PYTHONPATH"] = str(PLUGIN)
        options += ["-p", "otel_ratelimit_active"]
    print(f"== {'instrumented' if instrumented else 'plain'}", flush=True)
    command = [sys.executable, "-m", "pytest", *options, f"--junitxml={report}", *paths]
    subprocess.run(command, cwd=source, env=environment, check=False)
    return outcomes(report)


def outcomes(report: Path) -> dict[str, str]:
    """What a JUnit report says of each test."""
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        words = {child.tag for child in case}
        word = next((word for word in ("error", "failure", "skipped") if word in words), "passed")
        found[f"{case.get('classname')}::{case.get('name')}"] = "failed" if word == "failure" else word
    return found


def main() -> int:
    """Run, compare, print; 1 where something got lost."""
    parser = argparse.ArgumentParser(description="The SDK's own tests, plain and instrumented.")
    parser.add_argument("paths", nargs="*", default=["tests"], help="of the SDK's tests; all by default")
    parser.add_argument("--source", type=Path, help="an unpacked source distribution, instead of the package index")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        source = options.source or download(Path(directory))
        plain = run(source, options.paths, instrumented=False)
        instrumented = run(source, options.paths, instrumented=True)
    passed = {name for name, outcome in plain.items() if outcome == "passed"}
    lost = sorted(name for name in passed if instrumented.get(name) != "passed")
    unexplained = [name for name in lost if name.partition("[")[0] not in KNOWN]
    for name in lost:
        print(f"{name}: {instrumented.get(name, 'missing')}: {KNOWN.get(name.partition('[')[0], 'not explained')}")
    print(
        json.dumps(
            {
                "sdk": version("openai"),
                "plain": dict(Counter(plain.values())),
                "instrumented": dict(Counter(instrumented.values())),
                "lost": len(lost),
            }
        )
    )
    if not passed:
        print("no test passed plain: nothing was compared", file=sys.stderr)
    return 1 if unexplained or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
