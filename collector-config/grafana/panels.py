"""What the dashboard asks Prometheus, and how each answer is titled. Knows nothing of Grafana's library; dashboard.py draws it.

Counts are exact, from a series' birth on: ``increase()`` extrapolates, and sees nothing in a series that appears with all that it
will ever hold, as that of a program that exports every 60 s and ends before the second time. Intervals are those of the
programs' exports (timeInterval of the data source), so that no point of a graph falls between two of them.
"""

from __future__ import annotations

from dataclasses import dataclass

SERIES = 'job=~"$job", instance=~"$instance", server_address=~"$server", gen_ai_request_model=~"$model"'
"""What the variables at the top of the page leave of every metric."""

SHORT, SECONDS, SHARE, EACH_SECOND, REQUESTS = "short", "s", "percentunit", "cps", "reqps"
"""Grafana's units."""

THROTTLES = "otel_ratelimit_throttles_total"
ATTEMPTS = "otel_ratelimit_attempt_duration_seconds_count"
GIVE_UPS = "otel_ratelimit_give_ups_total"
WAITED = "otel_ratelimit_wait_time_seconds_total"
FAILURES = ', otel_ratelimit_give_up_reason!="retries_disabled"'
"""Callers that set max_retries=0 chose so."""


@dataclass(frozen=True)
class Query:
    """One line, or a family of lines, of a panel. ``exemplars`` puts the points on it that open a trace."""

    expression: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel. ``kind``: ``graph``, ``figure`` (a number, which turns to ``colour`` at ``alarm``), ``heatmap`` or ``table``."""

    kind: str
    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = SHORT
    maximum: float | None = None
    colour: str = "orange"
    alarm: float = 1


def counted(metric: str, window: str, by: str = "", extra: str = "") -> str:
    """How much a counter grew in a window, births included: what it says now less what it said before; all of it where it was
    not there within the hour before; and as ``increase()`` has it where its process began again under the same name."""
    series = f"{metric}{{{SERIES}{extra}}}"
    return (
        f"sum by ({by}) ("
        f"(last_over_time({series}[{window}]) - last_over_time({series}[1h] offset {window}) >= 0)"
        f" or (increase({series}[{window}]) and resets({series}[{window}]) > 0)"
        f" or (last_over_time({series}[{window}]) unless last_over_time({series}[1h] offset {window}))"
        ")"
    )


def whole(metric: str, extra: str = "") -> str:
    """In the time that is shown."""
    return counted(metric, "$__range", "", extra)


def each_second(metric: str, by: str, extra: str = "") -> str:
    """Over time."""
    return f"{counted(metric, '$__rate_interval', by, extra)} / ($__rate_interval_ms / 1000)"


def share(part: str, of: str, by: str) -> str:
    """A ratio over time, 0 to 1. A wait is counted when it ends, its call later: cut at 1."""
    return f"clamp_max({counted(part, '$__rate_interval', by)} / ({counted(of, '$__rate_interval', by)} > 0), 1)"


def quantile(of: float, metric: str, by: str = "") -> str:
    """The value below which a share of a histogram's points lie."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({of}, {counted(f'{metric}_bucket', '$__rate_interval', labels)})"


def by_window(field: str, how: str, limit: str) -> str:
    """A gauge of a limit, by model and window; the ``how`` over processes (min, max)."""
    return f"{how} by (gen_ai_request_model, otel_ratelimit_limit_window) (otel_ratelimit_{limit}_{field}{{{SERIES}}})"


def headroom(limit: str) -> Query:
    """What is left of a limit, as a share of it, as the process that has least sees it."""
    each = f"otel_ratelimit_{limit}_remaining{{{SERIES}}} / otel_ratelimit_{limit}_limit{{{SERIES}}}"
    return Query(
        f"min by (gen_ai_request_model, otel_ratelimit_limit_window) ({each})",
        f"{{{{gen_ai_request_model}}}} {limit} a {{{{otel_ratelimit_limit_window}}}}",
    )


def left_of(limit: str) -> tuple[Query, ...]:
    """What is left of a limit, and the limit."""
    name = "{{gen_ai_request_model}} a {{otel_ratelimit_limit_window}}"
    return (
        Query(by_window("remaining", "min", limit), f"{name}: left"),
        Query(by_window("limit", "max", limit), f"{name}: limit"),
    )


TOP: tuple[Panel, ...] = (
    Panel(
        "figure",
        "Throttled",
        "Throttled responses in the time shown. The same number as the server's own, and as the throttle spans in Jaeger.",
        (Query(f"{whole(THROTTLES)} or vector(0)"),),
    ),
    Panel(
        "figure",
        "Throttled of all requests",
        "Above 5 % somebody else uses the same limit, or pacing is off.",
        (Query(f"{whole(THROTTLES)} / ({whole(ATTEMPTS)} > 0)"),),
        SHARE,
        alarm=0.05,
    ),
    Panel(
        "figure",
        "Waiting now",
        "Calls that wait for a limit, as the processes said at their last export.",
        (Query(f"sum(otel_ratelimit_request_waiting{{{SERIES}}}) or vector(0)"),),
        alarm=100,
    ),
    Panel(
        "figure",
        "Gave up",
        "Calls that ended in an error because waiting was pointless, forbidden or too long; without those of callers that set"
        " max_retries=0.",
        (Query(f"{whole(GIVE_UPS, FAILURES)} or vector(0)"),),
        colour="red",
    ),
    Panel(
        "table",
        "Alerts that fire",
        "Each name leads to its runbook (variable Runbooks). Needs the rules of prometheus/rules.",
        (
            Query(
                "sum by (alertname, severity, job, server_address, gen_ai_request_model)"
                ' (ALERTS{alertstate="firing", alertname=~"OpenAI.+|OtelRatelimit.+"})'
            ),
        ),
    ),
)

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Throttling",
        (
            Panel(
                "graph",
                "Throttled, by model and kind of limit",
                "Each point opens the trace of a throttled call.",
                (
                    Query(
                        each_second(THROTTLES, "gen_ai_request_model, otel_ratelimit_limit_kind"),
                        "{{gen_ai_request_model}} {{otel_ratelimit_limit_kind}}",
                        exemplars=True,
                    ),
                ),
                EACH_SECOND,
            ),
            Panel(
                "graph",
                "Requests, by status",
                "Those that were sent again included.",
                (Query(each_second(ATTEMPTS, "http_response_status_code"), "{{http_response_status_code}}"),),
                REQUESTS,
            ),
        ),
    ),
    (
        "Waiting",
        (
            Panel(
                "heatmap",
                "How long waits take",
                "All waits, by how long they took.",
                (Query(counted("otel_ratelimit_wait_duration_seconds_bucket", "$__rate_interval", "le"), "{{le}}"),),
                SECONDS,
            ),
            Panel(
                "graph",
                "How long one wait takes",
                "Percentiles of all waits. A point opens its trace; short waits for a turn may have been sampled away.",
                tuple(
                    Query(quantile(of, "otel_ratelimit_wait_duration_seconds"), name, exemplars=of == 0.95)
                    for of, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
                ),
                SECONDS,
            ),
            Panel(
                "graph",
                "Time lost to waiting, by service and model",
                "Seconds of waiting in each second: as many calls wait at a time.",
                (Query(each_second(WAITED, "job, gen_ai_request_model"), "{{job}} {{gen_ai_request_model}}"),),
            ),
            Panel(
                "graph",
                "Time lost to waiting, by what it was spent on",
                "hint: what the server asked for; buffer: what is added to that; queued: for the call's turn; backoff: where the"
                " server named no delay.",
                (Query(each_second(WAITED, "otel_ratelimit_wait_part"), "{{otel_ratelimit_wait_part}}"),),
            ),
            Panel(
                "graph",
                "Share of the calls' time that is waiting, by model",
                "Half means that demand is twice what the limit gives.",
                (
                    Query(
                        share(WAITED, "otel_ratelimit_call_duration_seconds_sum", "gen_ai_request_model"),
                        "{{gen_ai_request_model}}",
                    ),
                ),
                SHARE,
                maximum=1,
            ),
            Panel(
                "graph",
                "Calls that wait now, by model",
                "As the processes said at their last export.",
                (
                    Query(
                        f"sum by (gen_ai_request_model) (otel_ratelimit_request_waiting{{{SERIES}}})",
                        "{{gen_ai_request_model}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Headroom",
        (
            Panel(
                "graph",
                "Headroom, by window",
                "What is left of each limit, as the process that has least sees it.",
                (headroom("tokens"), headroom("requests")),
                SHARE,
                maximum=1,
            ),
            Panel(
                "graph",
                "Until the limit is full again",
                "If nothing more is taken: of a minute's at most a minute, of a day's up to a day.",
                tuple(
                    Query(
                        by_window("reset_seconds", "max", limit),
                        f"{{{{gen_ai_request_model}}}} {limit} a {{{{otel_ratelimit_limit_window}}}}",
                    )
                    for limit in ("tokens", "requests")
                ),
                SECONDS,
            ),
            Panel("graph", "Tokens left, and their limit", "As the process that has least sees it.", left_of("tokens")),
            Panel("graph", "Requests left, and their limit", "The same for requests.", left_of("requests")),
        ),
    ),
    (
        "Outcome",
        (
            Panel(
                "graph",
                "Sent again, by reason",
                "What made it necessary.",
                (
                    Query(
                        each_second("otel_ratelimit_retries_total", "otel_ratelimit_retry_reason"),
                        "{{otel_ratelimit_retry_reason}}",
                    ),
                ),
                EACH_SECOND,
            ),
            Panel(
                "graph",
                "Gave up, by reason",
                "Users see these as errors; of retries_disabled they asked for them.",
                (
                    Query(
                        each_second(GIVE_UPS, "otel_ratelimit_give_up_reason"),
                        "{{otel_ratelimit_give_up_reason}}",
                        exemplars=True,
                    ),
                ),
                EACH_SECOND,
            ),
            Panel(
                "graph",
                "Whole calls, waits included: 95 %, by model",
                "What a user waits for an answer.",
                (
                    Query(
                        quantile(0.95, "otel_ratelimit_call_duration_seconds", "gen_ai_request_model"),
                        "{{gen_ai_request_model}}",
                    ),
                ),
                SECONDS,
            ),
            Panel(
                "graph",
                "Single requests: 95 %, by model",
                "What of it is the server's.",
                (
                    Query(
                        quantile(0.95, "otel_ratelimit_attempt_duration_seconds", "gen_ai_request_model"),
                        "{{gen_ai_request_model}}",
                    ),
                ),
                SECONDS,
            ),
        ),
    ),
    (
        "What carries it",
        (
            Panel(
                "graph",
                "Store errors",
                "Exchanges with Redis that failed, by what went wrong; calls go on with what their process knows."
                " Only with a store in Redis.",
                (
                    Query(
                        "sum by (job, error_type) (rate(otel_ratelimit_store_errors_total"
                        '{job=~"$job", instance=~"$instance"}[$__rate_interval]))',
                        "{{job}} {{error_type}}",
                    ),
                ),
                EACH_SECOND,
            ),
            Panel(
                "graph",
                "Collector: taken, lost, and waiting to be sent",
                "Lost is anything that was refused or could not be handed on. Of every Collector that Prometheus scrapes.",
                (
                    Query(
                        "sum by (instance) (rate(otelcol_receiver_accepted_spans[$__rate_interval]))"
                        " + sum by (instance) (rate(otelcol_receiver_accepted_metric_points[$__rate_interval]))",
                        "{{instance}}: taken a second",
                    ),
                    Query(
                        "sum by (instance) (rate(otelcol_receiver_refused_spans[$__rate_interval]))"
                        " + sum by (instance) (rate(otelcol_receiver_refused_metric_points[$__rate_interval]))",
                        "{{instance}}: refused a second",
                    ),
                    Query(
                        "sum by (instance) (rate(otelcol_exporter_send_failed_spans[$__rate_interval]))",
                        "{{instance}}: not handed on a second",
                    ),
                    Query("sum by (instance) (otelcol_exporter_queue_size)", "{{instance}}: in the queue"),
                ),
            ),
            Panel(
                "figure",
                "Collectors that answer",
                "Of the targets that Prometheus scrapes for the programs' metrics; below all of them, something is blind.",
                (Query('sum(up{job="otel-ratelimit"}) / count(up{job="otel-ratelimit"})'),),
                SHARE,
                colour="green",
                alarm=1,
            ),
        ),
    ),
)

CHOICES: tuple[tuple[str, str, str], ...] = (
    ("job", "job", "Service"),
    ("instance", "instance", "Process"),
    ("server", "server_address", "Server"),
    ("model", "gen_ai_request_model", "Model"),
)
"""Variables: name, label, title. Each offers what those before it leave."""
