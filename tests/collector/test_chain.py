"""Calls -> Collector -> Jaeger and Prometheus -> Alertmanager -> webhook, all of them real, the configurations as shipped.

One run, in ``conftest.py``, and many looks at it. Skipped where Go or Debian's packages are missing.
"""

from __future__ import annotations

import re
import time
from urllib.parse import urlencode

import pytest

from tests.collector import chain, dashboard, queries
from tests.collector.conftest import Run
from tests.collector.counted import MODELS, SECRET
from tests.collector.programs import get_json
from tests.collector.traces import JaegerTraces, Span

# The first of them starts five programs and sends two hundred calls.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SERIES = f'job="{chain.SERVICE}"'


def test_every_stage_counts_what_the_server_counted(run: Run) -> None:
    """Throttles, resends and requests, from the server's count to Jaeger and Prometheus; and there were some."""
    print(chain.table(run.result))
    assert run.result.agrees
    assert run.result.counted.throttled > 20
    assert run.result.counted.failed == 4  # the calls that had to give up


def test_every_model_has_its_own_count(run: Run) -> None:
    """Not only the sum: no label is mixed up."""
    found = {
        series["metric"]["gen_ai_request_model"]: int(series["value"][1])
        for series in run.stack.query(f"sum by (gen_ai_request_model) (otel_ratelimit_throttles_total{{{SERIES}}}) > 0")
    }
    assert found == run.result.counted.throttled_by_model


def test_alerts_reach_the_webhook_by_their_routes(run: Run) -> None:
    """Real throttling, a real alert, a real notification; pages to the pager, the rest to the tickets, info to nobody."""
    notified = {(line.split()[0], line.split()[1], line.split()[2]) for line in run.result.notified}
    assert ("tickets", "firing", "OpenAIThrottleRatioHigh") in notified
    assert ("pager", "firing", "OpenAIQuotaExhausted") in notified
    assert ("pager", "firing", "OpenAIRateLimitGiveUps") in notified
    assert "OpenAIHeadroomLow" not in {name for _, _, name in notified}


def test_exemplars_open_their_trace(run: Run) -> None:
    """Each exemplar of a throttle, in Prometheus, is the very throttle span that the trace store has."""
    throttles = {
        (span.trace_id, span.span_id)
        for trace in run.stack.traces.search(chain.SERVICE)
        for span in trace
        if span.name.startswith("throttle ")
    }
    exemplars = run.stack.exemplars(f"otel_ratelimit_throttles_total{{{SERIES}}}")
    assert exemplars
    assert {(one["labels"]["trace_id"], one["labels"]["span_id"]) for one in exemplars} <= throttles
    assert run.stack.exemplars(f"otel_ratelimit_wait_duration_seconds_bucket{{{SERIES}}}")
    assert run.stack.exemplars(f'traces_span_metrics_calls_total{{{SERIES}, span_name=~"throttle .*"}}')


def test_job_and_instance_are_the_services_own(run: Run) -> None:
    """honor_labels: service.name is the job, service.instance.id the instance; the scope is there, for rules to sum away."""
    series = run.stack.query(f"otel_ratelimit_throttles_total{{{SERIES}}}")
    assert series
    for one in series:
        assert not [name for name in one["metric"] if name.startswith("exported_")]
        assert one["metric"]["otel_scope_name"] == "otel_ratelimit"
        assert one["metric"]["otel_scope_version"]
        assert re.fullmatch(r"[0-9a-f-]{36}", one["metric"]["instance"])


def test_the_throttled_call_is_one_tree(run: Run) -> None:
    """Searched for as a user would; the caller's span, the call, its throttle, wait and retry, tags and links."""
    traces = run.stack.traces.search(chain.SERVICE, {"otel_ratelimit.throttled": "true"})
    (trace,) = (trace for trace in traces if "throttled caller" in {span.name for span in trace})
    by_name: dict[str, list[Span]] = {}
    for span in trace:
        by_name.setdefault(span.name.split(" ")[0], []).append(span)
    (caller,), (call,), (throttle,), (retry,) = (
        by_name[name] for name in ("throttled", "rate_limited", "throttle", "retry")
    )
    waits = by_name["wait"]
    assert caller.parent_id is None
    assert call.parent_id == caller.span_id
    assert {span.parent_id for span in (throttle, retry, *waits)} == {call.span_id}
    assert throttle.attributes["otel_ratelimit.throttled"] in (True, "true")
    assert int(throttle.attributes["http.response.status_code"]) == 429
    assert float(throttle.attributes["otel_ratelimit.hint.delay"]) == pytest.approx(0.05)
    assert int(retry.attributes["http.request.resend_count"]) == 1
    assert call.attributes["otel_ratelimit.outcome"] == "recovered"
    assert throttle.span_id in {link for wait in waits for link in wait.links}


def test_only_throttled_traces_are_found_by_the_tag(run: Run) -> None:
    """The search that the documentation names finds them all, and no other."""
    everything = run.stack.traces.search(chain.SERVICE)
    with_throttle = {trace[0].trace_id for trace in everything if any(s.name.startswith("throttle ") for s in trace)}
    found = {
        trace[0].trace_id for trace in run.stack.traces.search(chain.SERVICE, {"otel_ratelimit.throttled": "true"})
    }
    assert found == with_throttle
    assert len(found) < len(everything)


def test_no_credential_comes_out(run: Run) -> None:
    """In attributes, lists, events and the text of an exception: masked in the traces; in no metric."""
    spans = [span for trace in run.stack.traces.search(chain.SERVICE) for span in trace]
    callers = [span for span in spans if span.name.endswith("caller")]
    assert len(callers) == 3
    assert not [span for span in spans if SECRET in span.text or "not even the shape" in span.text]
    assert all("****" in span.text for span in callers)
    assert SECRET not in run.stack.collector.metrics()


def test_jaegers_monitor_page_has_the_span_metrics(run: Run) -> None:
    """Calls and latencies by operation, which Jaeger asks Prometheus for: namespace and unit are the same on both sides."""
    if not isinstance(run.stack.traces, JaegerTraces):
        pytest.skip("needs Jaeger (bash collector-config/tools.sh jaeger)")
    for what in ("calls", "latencies"):
        parameters = {
            "service": chain.SERVICE,
            "groupByOperation": "true",
            "quantile": "0.95",
            "endTs": int(time.time() * 1000),
            "lookback": 600_000,
            "step": 5000,
            "ratePer": 60_000,
            "spanKind": "internal",
        }
        answer = get_json(f"{run.stack.traces.url}/api/metrics/{what}?{urlencode(parameters)}")
        operations = {label["value"] for metric in answer["metrics"] for label in metric["labels"]}
        assert "throttle gpt-4o-mini" in operations


def test_every_query_of_the_dashboard_returns_data(run: Run) -> None:
    """With Grafana's variables as it fills them in. The unit tests hold the names, this the labels and the sense."""
    only_sometimes = ("Store errors", "Alerts that fire")  # with a Redis; while one fires
    empty = [
        f"{title}: {query}"
        for title, asked in queries.panels().items()
        for query in asked
        if title not in only_sometimes and "send_failed" not in query and not run.stack.query(queries.filled_in(query))
    ]
    assert not empty
    for variable in ("job", "gen_ai_request_model"):
        answer = get_json(f"{run.stack.prometheus_url}/api/v1/label/{variable}/values")
        assert {"job": {chain.SERVICE}, "gen_ai_request_model": set(MODELS)}[variable] <= set(answer["data"])


def test_the_dashboard_says_what_the_server_says(run: Run) -> None:
    """Every panel that counts, held against the server's own count; every share within 0 and 1."""
    assert dashboard.differences(run.stack, run.result.counted, span=600) == []


def test_every_recording_rule_records_with_the_labels_that_alerts_name(run: Run) -> None:
    """A rule over a label that does not exist would sum all models into one, and say so nowhere."""
    for rule in queries.recording_rules():
        if rule["record"].startswith("otel_ratelimit:"):
            continue  # about the rules themselves, and of no program
        series = run.stack.query(f'{rule["record"]}{{job="{chain.SERVICE}"}}')
        assert series, rule["record"]
        level = rule["record"].split(":")[0]
        wanted = {"job", "server_address", *(["gen_ai_request_model"] if level.startswith("model") else [])}
        wanted |= {"otel_ratelimit_limit_window"} if level.endswith("window") else set()
        for one in series:
            assert wanted <= set(one["metric"]), rule["record"]
            assert not {name for name in one["metric"] if name.startswith(("otel_scope", "instance"))}


def test_every_metric_in_rules_and_dashboard_is_scraped(run: Run) -> None:
    """From the Collector's own page, not from our idea of it. What only a fault brings forth is looked for in the program."""
    scraped = queries.families(run.stack.collector.metrics()) | queries.families(run.stack.collector.telemetry())
    asked_for = queries.metrics_asked_for() - {"up"}
    only_after_a_fault = {name for name in asked_for if re.match("otelcol_exporter_(send|enqueue)_failed", name)}
    assert (
        asked_for - only_after_a_fault - {"otel_ratelimit_store_errors_total"} <= scraped
    )  # the latter only with a Redis
    program = (run.stack.collector.binary).read_bytes()
    assert not [name for name in only_after_a_fault if name.encode() not in program]


def test_a_scraper_that_could_take_dots_gets_the_same_names(run: Run) -> None:
    """Prometheus 3 asks for UTF-8 names; the rules have underscores."""
    accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.1"
    names = queries.families(run.stack.collector.metrics(accept))
    assert "otel_ratelimit_throttles_total" in names
    assert not [name for name in names if "." in name]


def test_no_program_complains(run: Run) -> None:
    """A deprecated key would be a warning in the Collector's log."""
    log = run.stack.collector.program.log.read_text()
    assert not [line for line in log.splitlines() if re.search(r"\b(warn|error)\b|deprecat", line)]
