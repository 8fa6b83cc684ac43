"""The variant in which programs send their metrics to Prometheus 3 themselves: the real one, with the shipped configuration.

Skipped where Prometheus 3 has not been built (``bash collector-config/tools.sh prometheus3``); Debian's is 2.42.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.collector import chain, queries
from tests.collector.counted import Counted
from tests.collector.programs import CONFIGURATION, Program, free_port, get_json, missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Prometheus:
    """Asked as the stack's is."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = get_json(f"{self.url}/api/v1/query?{urlencode({'query': expression})}")
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def total(self, expression: str) -> float:
        return sum(float(series["value"][1]) for series in self.query(expression))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, Counted]]:
    """The user's program, its metrics sent there and its traces nowhere."""
    problem = missing("prometheus3")
    if problem:
        pytest.skip(problem)
    directory: Path = tmp_path_factory.mktemp("prometheus3")
    port = free_port()
    configuration = yaml.safe_load((CONFIGURATION / "prometheus" / "prometheus-otlp.yaml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(CONFIGURATION / "prometheus" / "rules" / "*.yaml")]
    for job in configuration["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]  # itself: there is no Collector here
    file = directory / "prometheus.yaml"
    file.write_text(yaml.safe_dump(configuration))
    url = f"http://127.0.0.1:{port}"
    command = [
        "prometheus3",
        f"--config.file={file}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-otlp-receiver",
        "--enable-feature=exemplar-storage",
    ]
    with Program(command, directory / "log", f"{url}/-/ready"):
        counted = chain.end_of(
            chain.start_traffic(
                "http://127.0.0.1:9",
                OTEL_TRACES_EXPORTER="none",
                OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{url}/api/v1/otlp/v1/metrics",
                OTEL_METRIC_EXPORT_INTERVAL="1000",
            )
        )
        yield Prometheus(url), counted


def test_it_counts_what_the_server_counted(run: tuple[Prometheus, Counted]) -> None:
    """Under the names and labels that rules and dashboard ask for."""
    prometheus, counted = run
    series = f'{{job="{chain.SERVICE}"}}'
    chain.wait_until(lambda: prometheus.total(f"otel_ratelimit_throttles_total{series}") == counted.throttled)
    assert prometheus.total(f"otel_ratelimit_throttles_total{series}") == counted.throttled
    assert prometheus.total(f"otel_ratelimit_retries_total{series}") == counted.resent
    assert prometheus.total(f"otel_ratelimit_attempt_duration_seconds_count{series}") == counted.requests
    assert {len(one["metric"]["instance"]) for one in prometheus.query(f"otel_ratelimit_throttles_total{series}")} == {
        36
    }
    missing_there = [
        name
        for name in queries.metrics_asked_for()
        if name.startswith("otel_ratelimit_") and "store_errors" not in name and not prometheus.query(f"{name}{series}")
    ]
    assert not missing_there


def test_the_rules_record_there_too(run: tuple[Prometheus, Counted]) -> None:
    """Prometheus 3 reads them, and its windows without their first sample say the same."""
    prometheus, _ = run
    recorded = [
        rule["record"] for rule in queries.recording_rules() if not rule["record"].startswith("otel_ratelimit:")
    ]
    chain.wait_until(lambda: not [one for one in recorded if not prometheus.query(f"{one}{{}}")])
    lacking = {one for one in recorded if not prometheus.query(f"{one}{{}}")}
    assert not lacking
