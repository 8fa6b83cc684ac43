"""Makes ``docs/reference/support.md`` from what test runs proved: ``uvx nox -s support``, which ends in

    python -m tests.support RECORDS

``RECORDS`` is a folder with one ``<version>.json`` for each SDK that the driver tests ran with (``SUPPORT_RECORD``), and
``suite.json``, the last line of ``python -m tests.sdk_suite``, if that ran.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from packaging.version import Version

PAGE: Final = Path(__file__).parent.parent / "docs" / "reference" / "support.md"

INTRODUCTION: Final = """\
# What is supported

Made from test runs by `uvx nox -s support`, not by hand: each row is tests in `tests/drivers`, run over sockets with the real
SDK of the version in the column's head, on Python {python}. `yes`: with the synchronous client, and with the asynchronous one
under asyncio and trio; `sync` or `async`: with that one only; `-`: this SDK does not have it.

"""

SUITE: Final = """
## The SDK's own tests

`uvx nox -s sdk_suite` takes the SDK's source distribution and runs its own tests plain and with the plugin active, all but
`tests/api_resources`, which needs a mock server. What fails plain misses something on the machine (Node, say).

| openai {sdk} | passed | failed | skipped |
|---|---:|---:|---:|
| plain | {plain} |
| instrumented | {instrumented} |

Tests that pass plain and do not pass instrumented: {lost}. The few that differ on purpose (how long a throttle
may wait, by whose clock) are left out of both runs; `tests/sdk_suite` lists them with the reason.
"""

VERSIONS: Final = """
## Versions

`uvx nox` runs the whole test-suite over openai 1.99, the last 1.x, 2.0, the last 2.x, 3.0 and the newest, each on Python 3.10
to 3.15 as far as they are installed; `-s oldest` with the oldest wrapt and OpenTelemetry too, `-s newest` with the newest of
everything. CI runs these two. An SDK in which a seam is missing that the hooks need gives one warning in the log, and stays
uninstrumented.

The row on realtime was made with the newest SDK only.

`client.responses` of openai 1.99.0 cannot be imported, without us too; 1.99.1 mended it.
"""


def cell(outcomes: Mapping[str, list[str]]) -> str:
    """What the runs of one feature with one SDK proved; a failure may not be published."""
    if any("failed" in found for found in outcomes.values()):
        raise SystemExit(f"a test failed: {outcomes}")
    proved = {flavour for flavour, found in outcomes.items() if "passed" in found}
    sync, asynchronous = "sync" in proved, bool(proved & {"asyncio", "trio"})
    return "yes" if sync and asynchronous else "sync" if sync else "async" if asynchronous else "-"


def table(records: list[dict[str, Any]]) -> str:
    """Features down, versions across."""
    features = dict.fromkeys(feature for record in reversed(records) for feature in record["features"])
    head = " | ".join(record["openai"] for record in records)
    lines = [f"| feature | {head} |", f"|---|{':---:|' * len(records)}"]
    for feature in features:
        cells = " | ".join(cell(record["features"].get(feature, {})) for record in records)
        lines.append(f"| {feature} | {cells} |")
    return "\n".join(lines) + "\n"


def counts(outcomes: Mapping[str, int]) -> str:
    failed = outcomes.get("failed", 0) + outcomes.get("error", 0)
    return f"{outcomes.get('passed', 0)} | {failed} | {outcomes.get('skipped', 0)}"


def page(directory: Path) -> str:
    """The whole page."""
    records = [json.loads(path.read_text()) for path in directory.glob("[0-9]*.json")]
    records.sort(key=lambda record: Version(record["openai"]))
    text = INTRODUCTION.format(python=" and ".join(sorted({record["python"] for record in records}))) + table(records)
    suite = directory / "suite.json"
    if suite.exists():
        found = json.loads(suite.read_text())
        text += SUITE.format(
            sdk=found["sdk"],
            plain=counts(found["plain"]),
            instrumented=counts(found["instrumented"]),
            lost=found["lost"],
        )
    return text + VERSIONS


if __name__ == "__main__":
    PAGE.write_text(page(Path(sys.argv[1])))
