"""What rules and dashboard ask Prometheus for, read from the shipped files."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from tests.collector.programs import CONFIGURATION

RULES = CONFIGURATION / "prometheus" / "rules"
DASHBOARD = CONFIGURATION / "grafana" / "otel-ratelimit.json"

_WORDS = frozenset(
    re.findall(
        r"\w+",
        "sum min max avg count group by on ignoring without offset unless and or bool rate increase absent"
        " predict_linear histogram_quantile last_over_time min_over_time max_over_time sum_over_time count_over_time"
        " clamp_max clamp_min resets group group_left vector scalar label_replace count",
    )
)
"""Of PromQL."""


def rules() -> list[dict[str, Any]]:
    """All rules of all groups."""
    return [
        rule
        for file in sorted(RULES.glob("*.yaml"))
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]


def recording_rules() -> list[dict[str, Any]]:
    """Those that record."""
    return [rule for rule in rules() if "record" in rule]


def alerts() -> list[dict[str, Any]]:
    """Those that alert."""
    return [rule for rule in rules() if "alert" in rule]


def of_panel(panel: dict[str, Any]) -> list[str]:
    """The queries of a panel of the dashboard."""
    return [target["expr"] for target in panel.get("targets", ())]


def filled_in(query: str, span: int = 300, interval: int = 60) -> str:
    """A query as Grafana sends it, everything chosen: ``span`` is what is shown, ``interval`` its rate interval, in seconds."""
    for variable, value in (
        ("$__rate_interval_ms", str(interval * 1000)), ("$__rate_interval", f"{interval}s"), ("$__range", f"{span}s"),
        ("$job", ".*"), ("$instance", ".*"), ("$server", ".*"), ("$model", ".*"),
    ):  # fmt: skip
        query = query.replace(variable, value)
    return query


def panels() -> dict[str, list[str]]:
    """The dashboard's queries, by the title of their panel."""
    return {panel["title"]: of_panel(panel) for panel in json.loads(DASHBOARD.read_text())["panels"] if of_panel(panel)}


def expressions() -> list[str]:
    """Every expression there is."""
    dashboard = json.loads(DASHBOARD.read_text())
    found = [rule["expr"] for rule in rules()]
    found += [filled_in(query) for panel in dashboard["panels"] for query in of_panel(panel)]
    return found + [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]


def metrics_in(expression: str) -> set[str]:
    """Names of metrics in a PromQL expression: what is left without selectors, groupings and ranges."""
    if expression.startswith("label_values("):
        expression = expression.removeprefix("label_values(").rpartition(", ")[0]
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|ignoring|without)\s*\([^)]*\)|offset \w+", " ", expression)
    return set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", bare)) - _WORDS


def labels_in(expression: str) -> set[str]:
    """Names of labels in a PromQL expression: in its selectors and groupings."""
    if expression.startswith("label_values("):
        return {expression.removesuffix(")").split(", ")[-1]}
    found = {
        name
        for group in re.findall(r"\{([^}]*)\}", expression)
        for name in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", group)
    }
    for group in re.findall(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)", expression):
        found.update(name.strip() for name in group.split(",") if name.strip())
    return found


def metrics_asked_for() -> set[str]:
    """Of all expressions, less what the recording rules make."""
    recorded = {rule["record"] for rule in recording_rules()}
    return {name for expression in expressions() for name in metrics_in(expression)} - recorded - {"ALERTS"}


def families(exposition: str) -> set[str]:
    """Names of all series on a page that Prometheus scrapes."""
    return {
        re.split(r"[{ ]", line, maxsplit=1)[0] for line in exposition.splitlines() if line and not line.startswith("#")
    }
