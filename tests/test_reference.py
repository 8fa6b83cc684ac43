"""The reference pages name exactly what the code has."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

from otel_ratelimit import Policy
from otel_ratelimit._core import events
from otel_ratelimit._settings import VARIABLES
from otel_ratelimit._telemetry import names

DOCS = Path(__file__).parent.parent / "docs" / "reference"


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the tables below a heading."""
    text = (DOCS / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| `")
    ]


def literal(cell: str) -> str:
    return cell.strip("`| ")


def test_every_attribute_and_span_is_documented_and_no_other() -> None:
    """Both tables of the spans section."""
    text = {literal(row[0]) for row in rows("telemetry.md", "Spans")}
    spans = {name.split(" ")[0] for name in text if "{" in name}
    attributes = {name for name in text if "{" not in name}
    values = {key: value for key, value in vars(names).items() if isinstance(value, str) and key.isupper()}
    assert spans == {value for key, value in values.items() if key.startswith("SPAN_")}
    metric_names = {literal(row[0]) for row in rows("telemetry.md", "Metrics")}
    dotted = {value for value in values.values() if "." in value and "://" not in value}
    assert attributes == dotted - metric_names
    assert metric_names == {value for value in dotted if value in metric_names}


def test_every_metric_is_documented_with_its_unit() -> None:
    """Held against the instruments that a real meter makes."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from otel_ratelimit._telemetry.instruments import Instruments

    provider = MeterProvider([InMemoryMetricReader()])
    instruments = Instruments(None, provider, lambda: ())
    made = {
        value.name: value.unit
        for value in (getattr(instruments, name) for name in vars(instruments))
        if hasattr(value, "unit")
    }
    documented = {literal(row[0]): row[1].split("`")[1] for row in rows("telemetry.md", "Metrics")}
    gauges = {name for name in documented if name.endswith((".limit", ".remaining", ".reset"))}
    assert made == {name: unit for name, unit in documented.items() if name not in gauges}
    assert gauges == {
        names.TOKENS_LIMIT, names.TOKENS_REMAINING, names.TOKENS_RESET,
        names.REQUESTS_LIMIT, names.REQUESTS_REMAINING, names.REQUESTS_RESET,
    }  # fmt: skip
    provider.shutdown()


def test_bounds_are_documented() -> None:
    """The one line that names them."""
    (line,) = re.findall(r"Histogram bounds: (.*) seconds", (DOCS / "telemetry.md").read_text())
    assert [float(part) for part in line.split(",")] == list(names.DURATION_BOUNDS)


def test_every_reason_for_giving_up_is_documented() -> None:
    """And no other."""
    documented = {literal(row[0]) for row in rows("telemetry.md", "Reasons for giving up")}
    assert documented == set(get_args(events.GiveUpReason))


def test_every_setting_is_documented_with_its_variable_and_default() -> None:
    """Name, variable and default, one row each."""
    table = (DOCS / "settings.md").read_text()
    documented = {}
    for line in table.splitlines():
        if line.startswith("| `") and not line.startswith("| `Policy`"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            documented[literal(cells[0])] = (literal(cells[1]), literal(cells[2]))
    variables = {setting: variable for variable, (setting, _) in VARIABLES.items()}
    for field in fields(Policy):
        variable, default = documented.pop(field.name)
        assert variable == variables[field.name]
        shown: object = field.default
        shown = {"None": "none", "True": "true", "False": "false"}.get(str(shown), shown)
        assert default == (f"{shown:g}" if isinstance(shown, float) else str(shown))
    assert documented == {}
