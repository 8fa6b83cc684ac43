"""The shipped rules: tested by promtool, named as the program names things, each alert with a page to go to."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_ratelimit._telemetry import names
from otel_ratelimit._telemetry.instruments import Instruments
from tests.collector import queries
from tests.collector.programs import CONFIGURATION, missing

PROMETHEUS = CONFIGURATION / "prometheus"
RUNBOOKS = CONFIGURATION / "runbooks"
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]

needs_promtool = pytest.mark.skipif(missing("promtool") is not None, reason=missing("promtool") or "")


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rule_tests() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((PROMETHEUS / "tests" / "alerts.yaml").read_text())
    return document


@needs_promtool
def test_prometheus_takes_the_configuration() -> None:
    """Configuration and rules, in the places that it names."""
    promtool("check", "config", str(PROMETHEUS / "prometheus.yaml"))


@needs_promtool
@pytest.mark.timeout(300)
def test_each_alert_is_silent_first_and_then_exactly_that_alert(tmp_path: Path) -> None:
    """The shipped rule tests; and at every time that they look at, no alert fires that they do not name."""
    document = rule_tests()
    document["rule_files"] = [str(file) for file in sorted((PROMETHEUS / "rules").glob("*.yaml"))]
    everything = sorted({alert["alert"] for alert in queries.alerts()})
    for test in document["tests"]:
        named: dict[str, set[str]] = {}
        for check in test.get("alert_rule_test", ()):
            named.setdefault(check["eval_time"], set()).add(check["alertname"])
        for time, alerts in named.items():
            others = [name for name in everything if name not in alerts]
            test["alert_rule_test"] += [{"eval_time": time, "alertname": name, "exp_alerts": []} for name in others]
    file = tmp_path / "alerts.yaml"
    file.write_text(yaml.safe_dump(document))
    promtool("test", "rules", str(file))


@needs_promtool
@pytest.mark.parametrize("guard", ["for: 5m", ">= 20", ">= 10", ">= 3"])
def test_the_rule_tests_can_fail(guard: str, tmp_path: Path) -> None:
    """Without one of its guards a rule must fail its tests; else the tests prove nothing."""
    text = (PROMETHEUS / "rules" / "alerts.yaml").read_text()
    assert guard in text
    affected = {alert["alert"] for alert in queries.alerts() if guard in yaml.safe_dump(alert, width=1000)}
    document = rule_tests()
    document["tests"] = [
        test
        for test in document["tests"]
        if affected & {check["alertname"] for check in test.get("alert_rule_test", ())}
    ]
    document["rule_files"] = [str(PROMETHEUS / "rules" / "recording.yaml"), str(tmp_path / "rules.yaml")]
    file = tmp_path / "alerts.yaml"
    file.write_text(yaml.safe_dump(document))
    (tmp_path / "rules.yaml").write_text(text.replace(guard, "for: 0s" if guard.startswith("for") else ">= 0"))
    with pytest.raises(AssertionError):
        promtool("test", "rules", str(file))


@needs_promtool
@pytest.mark.slow  # promtool runs all rule tests for each
@pytest.mark.parametrize(
    ("rule", "instead"),
    [
        # What was there an hour ago is not looked for: the gap that a restarted Collector leaves is taken for a birth.
        (re.compile(r"last_over_time\((\w+)\[1h\] offset 5m\)"), r"\1 offset 5m"),
        # Births count at any time.
        (re.compile(r"group\(up.*?== 1\) == 1\)", re.DOTALL), "vector(1)"),
        # Births do not count.
        (re.compile(r"and on \(\) otel_ratelimit:births"), "and on () otel_ratelimit:nothing"),
    ],
    ids=["gaps", "starts", "births"],
)
def test_the_rule_tests_know_births_from_gaps(rule: re.Pattern[str], instead: str, tmp_path: Path) -> None:
    """Each part of how births are counted is needed by a test."""
    text, count = rule.subn(instead, (PROMETHEUS / "rules" / "recording.yaml").read_text())
    assert count
    (tmp_path / "recording.yaml").write_text(text)
    document = rule_tests()
    document["rule_files"] = [str(tmp_path / "recording.yaml"), str(PROMETHEUS / "rules" / "alerts.yaml")]
    file = tmp_path / "alerts.yaml"
    file.write_text(yaml.safe_dump(document))
    with pytest.raises(AssertionError):
        promtool("test", "rules", str(file))


def test_every_alert_is_tested() -> None:
    """Once silent, once firing."""
    checks = [check for test in rule_tests()["tests"] for check in test.get("alert_rule_test", ())]
    for name in {alert["alert"] for alert in queries.alerts()}:
        assert {bool(check["exp_alerts"]) for check in checks if check["alertname"] == name} == {True, False}, name


@pytest.mark.parametrize("alert", queries.alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_tells_what_to_do(alert: dict[str, Any]) -> None:
    """Severity, summary, description, and a page that exists and has what one looks for at night."""
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    page = CONFIGURATION.parent / alert["annotations"]["runbook_url"]
    assert page == RUNBOOKS / f"{alert['alert']}.md"
    text = page.read_text()
    assert text.startswith(f"# {alert['alert']}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS


def test_the_how_to_page_lists_every_alert_with_its_severity() -> None:
    """In the order of the rules."""
    page = (CONFIGURATION.parent / "docs" / "how-to" / "alert.md").read_text()
    listed = re.findall(r"^\| \[(\w+)\]\(\.\./\.\./(\S+)\) \|.*\| ([\w, ]+) \|$", page, re.MULTILINE)
    expected: dict[str, list[str]] = {}
    for alert in queries.alerts():
        expected.setdefault(alert["alert"], []).append(alert["labels"]["severity"])
    assert [(name, severity) for name, _, severity in listed] == [(name, ", ".join(s)) for name, s in expected.items()]
    assert all((CONFIGURATION.parent / path).exists() for _, path, _ in listed)


@pytest.mark.parametrize(
    "page",
    [
        CONFIGURATION / "README.md",
        *sorted(RUNBOOKS.glob("*.md")),
        *sorted((CONFIGURATION.parent / "docs/how-to").glob("*.md")),
    ],
    ids=lambda page: page.name,
)
def test_links_lead_somewhere(page: Path) -> None:
    """Those within the repository."""
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert link.startswith("http") or (page.parent / link).exists(), link


def test_runbooks_ask_only_for_what_is_emitted() -> None:
    """At night nobody wants to correct a query."""
    recorded = {rule["record"] for rule in queries.recording_rules()}
    own_labels = {value.replace(".", "_") for value in vars(names).values() if isinstance(value, str)}
    for page in RUNBOOKS.glob("*.md"):
        words = set(re.findall(r"(?<![\w./:])(?:\w+:)?otel_ratelimit_\w+(?::\w+)?", page.read_text()))
        assert words - recorded - emitted() - own_labels == set(), page.name


def test_the_page_on_give_ups_knows_every_reason_that_it_is_about() -> None:
    """A new reason needs a line there, or a place among those that the alert leaves out."""
    from typing import get_args

    from otel_ratelimit._core import events

    (rule,) = (
        rule for rule in queries.recording_rules() if rule["record"] == "model:otel_ratelimit_give_ups:increase5m"
    )
    left_out = set(re.findall(r'reason!~"([^"]*)"', rule["expr"])[0].split("|"))
    page = (RUNBOOKS / "OpenAIRateLimitGiveUps.md").read_text()
    assert not [reason for reason in set(get_args(events.GiveUpReason)) - left_out if f"`{reason}`" not in page]


def test_no_page_without_an_alert() -> None:
    """None is left over."""
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {alert["alert"] for alert in queries.alerts()}


def emitted() -> set[str]:
    """Every series that the program makes, as the Prometheus exporter renders it, worked out from real instruments."""
    from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter

    provider = MeterProvider()
    instruments = Instruments(None, provider, lambda: ())
    found = {names.TOKENS_LIMIT, names.TOKENS_REMAINING, names.REQUESTS_LIMIT, names.REQUESTS_REMAINING}
    found |= {f"{names.TOKENS_RESET}.seconds", f"{names.REQUESTS_RESET}.seconds"}
    for attribute in vars(instruments):
        instrument = getattr(instruments, attribute)
        if isinstance(instrument, Counter):
            found.add(f"{instrument.name}.{'seconds.' if instrument.unit == 's' else ''}total")
        elif isinstance(instrument, Histogram):
            assert instrument.unit == "s"
            found.update(f"{instrument.name}.seconds.{part}" for part in ("bucket", "sum", "count"))
        elif isinstance(instrument, UpDownCounter):
            found.add(instrument.name)
    provider.shutdown()
    return {name.replace(".", "_") for name in found}


def test_rules_and_dashboard_ask_only_for_what_is_emitted() -> None:
    """A query over a name that nobody emits is an empty graph and an alert that never fires."""
    foreign = {name for name in queries.metrics_asked_for() if name.startswith("otelcol_") or name == "up"}
    assert queries.metrics_asked_for() - foreign <= emitted()
    attributes = {
        value.replace(".", "_") for key, value in vars(names).items() if key.isupper() and isinstance(value, str)
    }
    labels = {label for expression in queries.expressions() for label in queries.labels_in(expression)}
    assert labels <= attributes | {"job", "instance", "le", "alertname", "alertstate", "severity"}


def test_what_the_code_knows_is_not_asked_for_under_a_wrong_value() -> None:
    """Label values that rules compare with are values that the program has."""
    from typing import get_args

    from otel_ratelimit._core import events

    reasons = set(get_args(events.GiveUpReason))
    for expression in queries.expressions():
        for values in re.findall(r'otel_ratelimit_give_up_reason(?:=~|!~|=|!=)"([^"]*)"', expression):
            assert set(values.split("|")) <= reasons
