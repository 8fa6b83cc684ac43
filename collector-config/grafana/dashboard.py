"""Builds otel-ratelimit.json, the Grafana dashboard, beside this file, of what panels.py asks for.

Run it after a change: ``uv run --group collector python collector-config/grafana/dashboard.py``. The queries use what the program
emits, none of the recording rules, so that the dashboard works with any Prometheus that has the metrics. A test holds the JSON
against this file; others run every query against a real Prometheus and hold the answers against the server's own count.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from panels import ATTEMPTS, CHOICES, ROWS, TOP, Panel, Query

FILE = Path(__file__).with_name("otel-ratelimit.json")
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHTS = {"graph": 8, "heatmap": 8, "figure": 4, "table": 6}
WIDTHS = {"graph": 12, "heatmap": 12, "figure": 6, "table": 24}
THROTTLED = "%7B%22otel_ratelimit.throttled%22%3A%22true%22%7D"
"""Jaeger's search for ``otel_ratelimit.throttled=true``."""


def target(query: Query, letter: str) -> prometheus.Dataquery:
    """A query as Grafana has it."""
    return (
        prometheus.Dataquery()
        .datasource(PROMETHEUS)
        .expr(query.expression)
        .legend_format(query.legend)
        .exemplar(query.exemplars)
        .ref_id(letter)
    )


def graph() -> Any:
    """Lines over time."""
    return (
        timeseries.Panel()
        .min(0)
        .fill_opacity(10)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )


def figure(panel: Panel) -> Any:
    """A number."""
    below, above = ("red", panel.colour) if panel.colour == "green" else ("green", panel.colour)
    steps = [Threshold(value=None, color=below), Threshold(value=panel.alarm, color=above)]
    return (
        stat.Panel()
        .no_value("0")
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    )


def alerts() -> Any:
    """A row for each; the name is a link."""
    link = {
        "title": "Runbook",
        "url": "${runbooks}/${__value.raw}.md",
        "targetBlank": True,
    }
    return (
        table.Panel()
        .no_value("none")
        .override_by_name("alertname", [DynamicConfigValue(id_val="links", value=[link])])
        .override_by_regexp("Time|Value.*", [DynamicConfigValue(id_val="custom.hidden", value=True)])
    )


def drawn(panel: Panel, number: int) -> Any:
    """A panel with its queries, its number and its size."""
    built: Any = {"graph": graph, "heatmap": heatmap.Panel, "figure": lambda: figure(panel), "table": alerts}[
        panel.kind
    ]()
    built.id(number).title(panel.title).description(panel.description).datasource(PROMETHEUS).unit(panel.unit)
    built.span(WIDTHS[panel.kind]).height(HEIGHTS[panel.kind])
    if panel.maximum is not None:
        built.max(panel.maximum)
    for letter, query in zip("ABCD", panel.queries, strict=False):
        made = target(query, letter)
        if panel.kind in ("figure", "table"):
            made.instant()
        if panel.kind != "graph":
            made.format(
                {"heatmap": PromQueryFormat.HEATMAP, "table": PromQueryFormat.TABLE}.get(
                    panel.kind, PromQueryFormat.TIME_SERIES
                )
            )
        built.with_target(made)
    return built


def choice(name: str, label: str, title: str, before: list[str]) -> dashboard.QueryVariable:
    """A variable over the values of a label that the variables before it leave; all of them at first."""
    selector = f"{{{', '.join(before)}}}" if before else ""
    return (
        dashboard.QueryVariable(name)
        .label(title)
        .datasource(PROMETHEUS)
        .query(f"label_values({ATTEMPTS}{selector}, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")  # also the calls without a model
    )


def address(name: str, title: str, default: str) -> dashboard.TextBoxVariable:
    """Where something else is."""
    return dashboard.TextBoxVariable(name).label(title).default_value(default)


def link(title: str, url: str) -> dashboard.DashboardLink:
    """At the top right."""
    return dashboard.DashboardLink(title).type(DashboardLinkType.LINK).url(url).target_blank(True).icon("external link")


def build() -> str:
    """The dashboard as JSON."""
    page = (
        dashboard.Dashboard("OpenAI rate limits (otel_ratelimit)")
        .uid("otel-ratelimit")
        .tags(["openai", "otel_ratelimit"])
        .readonly()
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(link("Throttled calls in Jaeger", f"${{jaeger}}/search?tags={THROTTLED}"))
        .link(link("Runbooks", "${runbooks}"))
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    before: list[str] = []
    for name, label, title in CHOICES:
        page.with_variable(choice(name, label, title, before))
        before.append(f'{label}=~"${name}"')
    page.with_variable(address("jaeger", "Jaeger", "http://localhost:16686"))
    page.with_variable(address("runbooks", "Runbooks", "https://wiki.example.com/runbooks"))
    numbers = itertools.count(1)
    for panel in TOP:
        page.with_panel(drawn(panel, next(numbers)))
    for title, panels in ROWS:
        page.with_row(dashboard.Row(title).id(next(numbers)))
        for panel in panels:
            page.with_panel(drawn(panel, next(numbers)))
    return JSONEncoder(sort_keys=True, indent=2).encode(page.build()) + "\n"


if __name__ == "__main__":
    FILE.write_text(build())
