"""``python .github/release_check.py v1.2.3``: whether the tag, the package's version and the changelog say the same."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def check(tag: str, version_file: str, changelog: str) -> list[str]:
    """What stands in a release's way; nothing where it may go."""
    found = re.search(r'^__version__ = "([^"]+)"$', version_file, re.MULTILINE)
    version = found[1] if found else ""
    wrong = []
    if tag != f"v{version}":
        wrong.append(f"the tag is {tag}, the package's version {version}")
    if not re.search(rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        wrong.append(f"CHANGELOG.md has no section '## {version} - YYYY-MM-DD'")
    return wrong


def main() -> int:
    """Exit status: 0 where nothing stands in its way."""
    wrong = check(
        sys.argv[1],
        (ROOT / "otel_ratelimit/_version.py").read_text(encoding="utf-8"),
        (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    )
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
