"""The shipped configurations, run: Collector, Jaeger, Prometheus, Alertmanager and a webhook, on free loopback ports.

What differs from the shipped files is here and nowhere else: addresses; and, unless the shipped intervals are asked for,
intervals of a second instead of fifteen, and in the copy of the rules how long an alert must hold (``for``), since hardly a test
waits five minutes. Expressions and thresholds stay.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.collector.programs import CONFIGURATION, Program, find, free_port, get, get_json
from tests.collector.traces import JaegerTraces, SinkTraces, Traces


class Collector:
    """One of the Collector's configurations as a process."""

    def __init__(self, directory: Path, jaeger_port: int, name: str = "collector.yaml", **environment: str) -> None:
        self.http_port, self.metrics_port, self.telemetry_port = free_port(), free_port(), free_port()
        health = free_port()
        laptop = "laptop" in name
        self.program = Program(
            ["collector", "--config", str(CONFIGURATION / name)],
            directory / f"{name}.log",
            # The small one has no health check.
            f"http://127.0.0.1:{self.telemetry_port}/metrics" if laptop else f"http://127.0.0.1:{health}/",
            {
                "OTELCOL_HOST": "127.0.0.1",
                "OTELCOL_OTLP_GRPC_PORT": str(free_port()),
                "OTELCOL_OTLP_HTTP_PORT": str(self.http_port),
                "OTELCOL_PROMETHEUS_PORT": str(self.metrics_port),
                "OTELCOL_TELEMETRY_PORT": str(self.telemetry_port),
                "OTELCOL_HEALTH_PORT": str(health),
                "OTELCOL_SPAN_METRICS_INTERVAL": "1s",
                "OTELCOL_DECISION_WAIT": "2s",
                "OTELCOL_SAMPLING_PERCENTAGE": "100",
                "JAEGER_OTLP_ENDPOINT": f"127.0.0.1:{jaeger_port}",
                **environment,
            },
        )

    @property
    def binary(self) -> Path:
        """The program itself."""
        return Path(find("collector") or "")

    @property
    def endpoint(self) -> str:
        """For ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        return f"http://127.0.0.1:{self.http_port}"

    def metrics(self, accept: str = "application/openmetrics-text;version=1.0.0") -> str:
        """What Prometheus scrapes."""
        return get(f"http://127.0.0.1:{self.metrics_port}/metrics", accept)

    def telemetry(self) -> str:
        """The Collector's metrics of itself."""
        return get(f"http://127.0.0.1:{self.telemetry_port}/metrics", "text/plain")


class Stack:
    """All of it. A context manager. Where Jaeger has not been built, a sink for OTLP takes its place (``jaeger`` is False)."""

    def __init__(self, directory: Path, *, shipped: bool = False, ui: Path | None = None) -> None:
        """``shipped``: with the shipped intervals; ``ui``: a directory with Jaeger's UI."""
        self._directory = directory
        self._shipped = shipped
        self._ui = ui
        self._exit = contextlib.ExitStack()
        self._prometheus_port, self._alertmanager_port = free_port(), free_port()
        self._webhook_log = directory / "webhook.log"
        self.jaeger = find("jaeger") is not None
        self.traces: Traces

    @property
    def prometheus_url(self) -> str:
        """Where Prometheus is."""
        return f"http://127.0.0.1:{self._prometheus_port}"

    @property
    def alertmanager_url(self) -> str:
        """Where Alertmanager is."""
        return f"http://127.0.0.1:{self._alertmanager_port}"

    def __enter__(self) -> Stack:
        try:
            traces: Traces = (
                JaegerTraces(self._directory, self.prometheus_url, self._ui) if self.jaeger else SinkTraces()
            )
            self.traces = self._exit.enter_context(traces)
            slow = {"OTELCOL_SPAN_METRICS_INTERVAL": "15s", "OTELCOL_DECISION_WAIT": "60s"} if self._shipped else {}
            self.collector = Collector(self._directory, self.traces.otlp_port, **slow)
            self._exit.enter_context(self.collector.program)
            self._exit.enter_context(self._alertmanager(self._webhook()))
            self._exit.enter_context(self._prometheus())
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    # --- what it shows ----------------------------------------------------------------------------------------------------

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query at Prometheus: labels and values."""
        answer = get_json(f"{self.prometheus_url}/api/v1/query?{urlencode({'query': expression})}")
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def total(self, expression: str) -> float:
        """The sum of an instant query's values; 0 where it has none."""
        return sum(float(series["value"][1]) for series in self.query(expression))

    def exemplars(self, selector: str) -> list[dict[str, Any]]:
        """The exemplars that Prometheus keeps of some series."""
        now = time.time()
        parameters = urlencode({"query": selector, "start": now - 600, "end": now + 60})
        answer = get_json(f"{self.prometheus_url}/api/v1/query_exemplars?{parameters}")
        return [exemplar for series in answer["data"] for exemplar in series["exemplars"]]

    def firing(self) -> set[str]:
        """Names of the alerts that Alertmanager has."""
        return {alert["labels"]["alertname"] for alert in get_json(f"{self.alertmanager_url}/api/v2/alerts")}

    def notified(self) -> list[str]:
        """What reached the webhook, a line each: receiver, status, alert, whom it is about."""
        lines = self._webhook_log.read_text().splitlines(keepends=True)[1:]
        return [line.rstrip("\n") for line in lines if line.endswith("\n")]  # the last may be half written yet

    # --- how it starts ----------------------------------------------------------------------------------------------------

    def _webhook(self) -> int:
        port = free_port()
        log = self._webhook_log
        command = [sys.executable, str(CONFIGURATION / "webhook.py"), "--host", "127.0.0.1", "--port", str(port)]
        webhook = Program(command, log, f"http://127.0.0.1:{port}/")
        self._exit.enter_context(webhook)
        return port

    def _alertmanager(self, webhook_port: int) -> Program:
        text = (CONFIGURATION / "alertmanager" / "alertmanager.yaml").read_text()
        configuration = yaml.safe_load(text.replace("host.docker.internal:9099", f"127.0.0.1:{webhook_port}"))
        if not self._shipped:
            for route in (configuration["route"], *configuration["route"]["routes"]):
                route["group_wait"] = "1s"
            configuration["route"]["group_interval"] = "1s"
        file = self._directory / "alertmanager.yaml"
        file.write_text(yaml.safe_dump(configuration))
        return Program(
            [
                "prometheus-alertmanager",
                f"--config.file={file}",
                f"--storage.path={self._directory / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{self._alertmanager_port}",
                "--cluster.listen-address=",
            ],
            self._directory / "alertmanager.log",
            f"{self.alertmanager_url}/-/ready",
        )

    def _prometheus(self) -> Program:
        text = (CONFIGURATION / "prometheus" / "prometheus.yaml").read_text()
        for name, port in (
            ("collector:8889", self.collector.metrics_port),
            ("collector:8888", self.collector.telemetry_port),
            ("alertmanager:9093", self._alertmanager_port),
        ):
            assert name in text
            text = text.replace(name, f"127.0.0.1:{port}")
        configuration = yaml.safe_load(text)
        if not self._shipped:
            configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        rules = self._directory / "rules"
        rules.mkdir()
        for source in (CONFIGURATION / "prometheus" / "rules").glob("*.yaml"):
            document = yaml.safe_load(source.read_text())
            for group in document["groups"]:
                for rule in group["rules"]:
                    if "for" in rule and not self._shipped:
                        rule["for"] = "1s"
            (rules / source.name).write_text(yaml.safe_dump(document))
        file = self._directory / "prometheus.yaml"
        file.write_text(yaml.safe_dump(configuration))
        return Program(
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={self._directory / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{self._prometheus_port}",
                "--enable-feature=exemplar-storage",
            ],
            self._directory / "prometheus.log",
            f"{self.prometheus_url}/-/ready",
        )
