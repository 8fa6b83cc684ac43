"""The how-to page runs as it is written: its snippets in order, in one process, and the tests in it as tests."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from otel_ratelimit.testing import Counts, Limit
from tests.testing.conftest import httpx

PAGE = (Path(__file__).parents[2] / "docs/how-to/test-your-program.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_snippet_of_the_page(tmp_path: Path) -> None:
    """In order, as one module: what it does at import must succeed, and the tests that it defines must pass."""
    assert len(SNIPPETS) == 8
    code = "\n".join(SNIPPETS).replace("httpx2", httpx.__name__)  # as its comment says, the name depends on the SDK
    module = tmp_path / "test_page.py"
    module.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "-s", str(module)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    for line in ("RateLimitError", "InternalServerError", "APIConnectionError", "Please try again in 1."):
        assert line in done.stdout


def test_the_commands_of_the_page_are_known() -> None:
    """Every option on it is one that the command takes."""
    done = subprocess.run(
        [sys.executable, "-m", "otel_ratelimit.testing", "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    (command,) = re.findall(r"^python -m otel_ratelimit.testing (.*)$", PAGE, re.MULTILINE)
    for option in re.findall(r"--[a-z-]+", command):
        assert option in done.stdout


@pytest.mark.parametrize("name", [field.name for field in (*fields(Counts), *fields(Limit))])
def test_every_field_is_on_the_page(name: str) -> None:
    """Of the limits and of the counts."""
    assert f"`{name}`" in PAGE
