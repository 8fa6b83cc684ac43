"""What a release is held to before it is built."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

CHECK = runpy.run_path(str(Path(__file__).parents[2] / ".github/release_check.py"))["check"]
CHANGELOG = "# Changelog\n\n## Unreleased\n\n## 1.2.3 - 2026-11-27\n\n### Added\n"


@pytest.mark.parametrize(
    ("tag", "version", "wrong"),
    [
        ("v1.2.3", "1.2.3", []),
        ("v1.2.4", "1.2.3", ["the tag is v1.2.4, the package's version 1.2.3"]),
        ("1.2.3", "1.2.3", ["the tag is 1.2.3, the package's version 1.2.3"]),
        ("v1.2.4", "1.2.4", ["CHANGELOG.md has no section '## 1.2.4 - YYYY-MM-DD'"]),
    ],
)
def test_tag_version_and_changelog(tag: str, version: str, wrong: list[str]) -> None:
    """All three say the same, or the release says which does not."""
    assert CHECK(tag, f'"""Version."""\n\n__version__ = "{version}"\n', CHANGELOG) == wrong
