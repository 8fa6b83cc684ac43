"""The SDK's own test-suite, plain and with the plugin active: ``uvx nox -s sdk_suite``

Takes the source distribution of the installed SDK from the package index (it is not in the wheel and never committed), runs
its tests twice, each time in a process of its own, and compares them one by one: no test that passes plain may fail
instrumented. Those that are listed below, with a reason, are left out of both, and so is ``tests/api_resources``, which needs
a mock server that is a Node program.

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

_LONGER = (
    "the SDK refuses to wait longer than 120 s for a Retry-After; here the call's own budget decides (600 s by default)"
)
_OURS = "a throttle waits by our own clock, not the SDK's patched sleep, as often as its budget allows, not max_retries times"

KNOWN: Final = {
    "tests/test_client.py::TestOpenAI::test_does_not_retry_retry_after_above_max": _LONGER,
    "tests/test_client.py::TestAsyncOpenAI::test_does_not_retry_retry_after_above_max": _LONGER,
    "tests/test_retry_after_overflow.py::test_retry_after_numeric_overflow": _OURS,
}
"""Tests that differ, and why; they are left out of both runs."""

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
    options = [
        "-q",
        "--tb=no",
        "-o",
        "addopts=",
        "-p",
        "no:cacheprovider",
        "--ignore=tests/api_resources",
        "--timeout=120",
    ]
    options += [f"--deselect={name}" for name in KNOWN]
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
        found[_node(source_name=case.get("classname") or "", name=case.get("name") or "")] = (
            "failed" if word == "failure" else word
        )
    return found


def _node(source_name: str, name: str) -> str:
    """pytest's name of a test, out of the dotted one of a JUnit report: modules are lower case here, classes are not."""
    *path, last = source_name.split(".")
    if last[:1].isupper():
        return f"{'/'.join(path)}.py::{last}::{name}"
    return f"{'/'.join([*path, last])}.py::{name}"


def lost(plain: dict[str, str], instrumented: dict[str, str]) -> list[str]:
    """Tests that pass plain and do not pass instrumented."""
    return sorted(name for name, word in plain.items() if word == "passed" and instrumented.get(name) != "passed")


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
        missed = lost(plain, instrumented)
        if missed:  # some of them are a race against ten seconds of a busy machine: alone, and again both ways
            plain.update(run(source, missed, instrumented=False))
            instrumented.update(run(source, missed, instrumented=True))
            missed = lost(plain, instrumented)
    for name in missed:
        print(f"{name}: passes plain, {instrumented.get(name, 'missing')} instrumented")
    print(
        json.dumps(
            {
                "sdk": version("openai"),
                "plain": dict(Counter(plain.values())),
                "instrumented": dict(Counter(instrumented.values())),
                "lost": len(missed),
                "known": len(KNOWN),
            }
        )
    )
    if "passed" not in plain.values():
        print("no test passed plain: nothing was compared", file=sys.stderr)
        return 1
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
