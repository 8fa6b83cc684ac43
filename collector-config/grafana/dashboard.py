"""Builds otel-ratelimit.json, the Grafana dashboard, beside this file.

Run it after a change: ``uv run --group collector python collector-config/grafana/dashboard.py``. The queries use what the program
emits, none of the recording rules, so that the dashboard works with any Prometheus that has the metrics. A test holds the JSON
against this file and runs every query against a real Prometheus.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)

FILE = Path(__file__).with_name("otel-ratelimit.json")
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${datasource}")

SERIES = 'job=~"$job", gen_ai_request_model=~"$model"'
"""What the variables at the top of the page leave of every metric."""


@dataclass(frozen=True)
class Query:
    """One line, or a family of lines, of a panel. ``exemplars`` puts the points on it that open a trace."""

    expression: str
    legend: str
    exemplars: bool = False


@dataclass(frozen=True)
class Graph:
    """A panel over time. ``unit`` is Grafana's."""

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = units.Short
    maximum: float | None = None


def quantile(share: float, metric: str, by: str = "") -> str:
    """The value below which a share of a histogram's points lie."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{SERIES}}}[$__rate_interval])))"


def rate(metric: str, by: str, extra: str = "") -> str:
    """A counter's increase for each second, summed by labels."""
    return f"sum by ({by}) (rate({metric}{{{SERIES}{extra}}}[$__rate_interval]))"


def left_of(limit: str) -> tuple[Query, ...]:
    """What is left of a limit, and the limit."""
    return (
        Query(
            f"min by (job, gen_ai_request_model) (otel_ratelimit_{limit}_remaining{{{SERIES}}})",
            "{{gen_ai_request_model}} left ({{job}})",
        ),
        Query(
            f"max by (job, gen_ai_request_model) (otel_ratelimit_{limit}_limit{{{SERIES}}})",
            "{{gen_ai_request_model}} limit ({{job}})",
        ),
    )


@dataclass(frozen=True)
class Figure:
    """A number at the top. It turns to ``colour`` at ``alarm``."""

    title: str
    description: str
    expression: str
    unit: str
    colour: str
    alarm: float


FIGURES = (
    Figure(
        "Throttled",
        "Throttled responses in the time shown. The same number as the server's own, and as the throttle spans in Jaeger.",
        f"sum(increase(otel_ratelimit_throttles_total{{{SERIES}}}[$__range]))",
        units.Short,
        "orange",
        1,
    ),
    Figure(
        "Throttled of all requests",
        "Above 5 % somebody else uses the same limit, or pacing is off.",
        f"sum(increase(otel_ratelimit_throttles_total{{{SERIES}}}[$__range]))"
        f" / sum(increase(otel_ratelimit_attempt_duration_seconds_count{{{SERIES}}}[$__range]))",
        units.PercentUnit,
        "orange",
        0.05,
    ),
    Figure(
        "Waiting now",
        "Calls that wait for a limit at this moment.",
        f"sum(otel_ratelimit_request_waiting{{{SERIES}}})",
        units.Short,
        "orange",
        100,
    ),
    Figure(
        "Gave up",
        "Calls that ended in an error because waiting was pointless, forbidden or too long.",
        f"sum(increase(otel_ratelimit_give_ups_total{{{SERIES}}}[$__range]))",
        units.Short,
        "red",
        1,
    ),
)

ROWS: tuple[tuple[str, tuple[Graph, ...]], ...] = (
    (
        "Throttling",
        (
            Graph(
                "Throttled responses, by model and kind of limit",
                "The points are throttled responses; each opens its trace.",
                (
                    Query(
                        rate("otel_ratelimit_throttles_total", "gen_ai_request_model, otel_ratelimit_limit_kind"),
                        "{{gen_ai_request_model}} {{otel_ratelimit_limit_kind}}",
                        exemplars=True,
                    ),
                ),
                units.CountsPerSecond,
            ),
            Graph(
                "Requests sent, by status",
                "Every request, also those that were sent again. No status: the connection failed.",
                (
                    Query(
                        rate("otel_ratelimit_attempt_duration_seconds_count", "http_response_status_code"),
                        "{{http_response_status_code}}",
                    ),
                ),
                units.RequestsPerSecond,
            ),
        ),
    ),
    (
        "Waiting",
        (
            Graph(
                "How long one wait takes",
                "Percentiles of all waits. A point opens its trace; short waits for a turn may have been sampled away.",
                tuple(
                    Query(quantile(share, "otel_ratelimit_wait_duration_seconds"), name, exemplars=share == 0.95)
                    for share, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
                ),
                units.Seconds,
            ),
            Graph(
                "Calls that wait now, by model",
                "As the processes say at their last export.",
                (
                    Query(
                        f"sum by (gen_ai_request_model) (otel_ratelimit_request_waiting{{{SERIES}}})",
                        "{{gen_ai_request_model}}",
                    ),
                ),
            ),
            Graph(
                "Time lost to waiting, by reason",
                "Seconds of waiting in each second: as many calls wait at a time. throttled: the server said so; admission:"
                " for their turn; backoff: nobody said how long.",
                (
                    Query(
                        rate("otel_ratelimit_wait_duration_seconds_sum", "otel_ratelimit_wait_reason"),
                        "{{otel_ratelimit_wait_reason}}",
                    ),
                ),
            ),
            Graph(
                "Share of the calls' time that is waiting, by model",
                "Half means that demand is twice what the limit gives.",
                (
                    Query(
                        rate("otel_ratelimit_wait_duration_seconds_sum", "gen_ai_request_model")
                        + " / "
                        + rate("otel_ratelimit_call_duration_seconds_sum", "gen_ai_request_model"),
                        "{{gen_ai_request_model}}",
                    ),
                ),
                units.PercentUnit,
                maximum=1,
            ),
        ),
    ),
    (
        "Headroom",
        (
            Graph(
                "Tokens left, and their limit",
                "As the process that has least sees it. Where several limits hold (minute and day), the tightest.",
                left_of("tokens"),
            ),
            Graph("Requests left, and their limit", "The same for requests.", left_of("requests")),
        ),
    ),
    (
        "Outcome",
        (
            Graph(
                "Sent again, by reason",
                "",
                (
                    Query(
                        rate("otel_ratelimit_retries_total", "otel_ratelimit_retry_reason"),
                        "{{otel_ratelimit_retry_reason}}",
                    ),
                ),
                units.CountsPerSecond,
            ),
            Graph(
                "Gave up, by reason",
                "Users see these as errors.",
                (
                    Query(
                        rate("otel_ratelimit_give_ups_total", "otel_ratelimit_give_up_reason"),
                        "{{otel_ratelimit_give_up_reason}}",
                        exemplars=True,
                    ),
                ),
                units.CountsPerSecond,
            ),
            Graph(
                "Whole calls, waits included: 95 %, by model",
                "What a user waits for an answer.",
                (
                    Query(
                        quantile(0.95, "otel_ratelimit_call_duration_seconds", "gen_ai_request_model"),
                        "{{gen_ai_request_model}}",
                    ),
                ),
                units.Seconds,
            ),
            Graph(
                "Single requests: 95 %, by model",
                "What of it is the server's.",
                (
                    Query(
                        quantile(0.95, "otel_ratelimit_attempt_duration_seconds", "gen_ai_request_model"),
                        "{{gen_ai_request_model}}",
                    ),
                ),
                units.Seconds,
            ),
        ),
    ),
)


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


def graph(panel: Graph) -> timeseries.Panel:
    """A panel over time, two in a row."""
    built = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(PROMETHEUS)
        .unit(panel.unit)
        .min(0)
        .fill_opacity(10)
        .span(12)
        .height(8)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if panel.maximum is not None:
        built.max(panel.maximum)
    for letter, query in zip("ABCD", panel.queries, strict=False):
        built.with_target(target(query, letter))
    return built


def figure(panel: Figure) -> stat.Panel:
    """A number, four in a row."""
    steps = [Threshold(value=None, color="green"), Threshold(value=panel.alarm, color=panel.colour)]
    return (
        stat.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(PROMETHEUS)
        .unit(panel.unit)
        .no_value("0")
        .span(6)
        .height(4)
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(target(Query(panel.expression, ""), "A").instant())
    )


def choice(name: str, label: str, title: str) -> dashboard.QueryVariable:
    """A variable over the values of a label; all of them at first."""
    return (
        dashboard.QueryVariable(name)
        .label(title)
        .datasource(PROMETHEUS)
        .query(f"label_values(otel_ratelimit_attempt_duration_seconds_count, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")  # also the calls without a model
    )


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
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(choice("job", "job", "Service"))
        .with_variable(choice("model", "gen_ai_request_model", "Model"))
    )
    for number in FIGURES:
        page.with_panel(figure(number))
    for title, graphs in ROWS:
        page.with_row(dashboard.Row(title))
        for panel in graphs:
            page.with_panel(graph(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(page.build()) + "\n"


if __name__ == "__main__":
    FILE.write_text(build())
