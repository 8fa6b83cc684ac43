"""Whether tests of the project in this directory could wait for minutes: one that mocks a 429 for ever does, without a cap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from otel_ratelimit._commands.doctor.check import Check

AREA: Final = "tests"

_SECTIONS: Final = {
    "pytest.ini": "[pytest]",
    "pyproject.toml": "[tool.pytest",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}
"""Where pytest looks for its settings, and the section that they are in."""

_CAPS: Final = ("otel_ratelimit_max_wait", "--otel-ratelimit-max-wait")
_MOST: Final = 1 << 20
"""Characters of such a file that are read."""


def check(environment: Mapping[str, str], directory: Path) -> Iterator[Check]:
    """One finding where pytest is set up here; none elsewhere."""
    for name, section in _SECTIONS.items():
        text = _read(directory / name)
        if section not in text:
            continue
        if any(cap in text for cap in _CAPS) or environment.get("OTEL_RATELIMIT_MAX_WAIT"):
            yield Check(AREA, "ok", "waits are capped in test runs")
        else:
            yield Check(
                AREA,
                "note",
                f"{name} does not cap waits: a test that mocks a 429 for ever waits for minutes",
                'set otel_ratelimit_max_wait = "0.5" among pytest\'s settings, or run pytest --otel-ratelimit-max-wait=0.5',
            )
        return


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            return ""
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MOST)
    except OSError:
        return ""
