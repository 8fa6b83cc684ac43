"""SECURITY.md says only what a test holds: each promise names its test, and the test is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text("utf-8")
SECTION = PAGE.partition("## What is promised, and which test holds it")[2].partition("\n## ")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in SECTION.splitlines() if line.startswith("| ")]
PROMISES = [row for row in ROWS if row[0] != "promise"]


def test_there_are_promises() -> None:
    """The table was found, and all of its rows are whole."""
    assert len(PROMISES) > 20
    assert {len(row) for row in ROWS} == {4}


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row[0][:40])
def test_a_promise_has_its_test(row: list[str]) -> None:
    """One file of tests at least, and it has tests."""
    files = re.findall(r"`(tests/[\w/]+\.py)`", row[1])
    assert files
    for file in files:
        assert re.search(r"^(async )?def test_", (ROOT / file).read_text("utf-8"), re.MULTILINE)


def test_what_tries_to_break_it_is_named() -> None:
    """Every file of attacks is behind a promise."""
    named = set(re.findall(r"`(tests/trust/\w+\.py)`", SECTION))
    attacks = {str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "trust").glob("test_hostile_*.py")}
    assert attacks <= named
