"""``demo`` and ``run`` say in one line when telemetry could not be exported, and why; and quote nothing."""

from __future__ import annotations

import logging
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_ratelimit._commands.exports import ExportFailures, reason_of
from tests.commands.conftest import Command
from tests.commands.test_doctor import collector

ONE_CALL = """
import openai
openai.OpenAI().chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
"""
TRACES = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Nobody listens there, and nobody else can."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Failed to export span batch code: 404, reason: <html>secret</html>", "HTTP 404"),
        ("Failed to export batch code: 401, reason: key sk-secret", "HTTP 401"),
        ("Failed to export traces to c:4317, error code: StatusCode.UNAVAILABLE, error details: x", "gRPC UNAVAILABLE"),
        ("HTTPConnectionPool(host='c', port=4318): [Errno 111] Connection refused", "connection refused: nothing listens there"),
        ("SSLError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate')",
         "the certificate is not trusted: OTEL_EXPORTER_OTLP_CERTIFICATE"),
        ("Failed to export metrics batch due to timeout, max retries or shutdown.", ""),
        ("sk-secret", ""),
    ],
)  # fmt: skip
def test_reasons(text: str, reason: str) -> None:
    """Records of several versions of the exporters, over HTTP and gRPC."""
    assert reason_of(text) == reason


def test_records_pass(caplog: pytest.LogCaptureFixture) -> None:
    """The program's handlers get what they would get; what an attempt failed by is told where the last word does not say it."""
    failures = ExportFailures().watch()
    logger = logging.getLogger(TRACES)
    logger.warning("Transient error %s encountered while exporting span batch, retrying in %.2fs.", "refused", 1.0)
    assert failures.found == {}
    logger.error("Failed to export span batch due to timeout, max retries or shutdown.")
    failures.stop()
    logger.error("Failed to export span batch code: 503, reason: x")
    assert failures.found == {"traces": "connection refused: nothing listens there"}
    assert len(caplog.records) == 3


def test_where_the_time_ran_out_the_attempts_before_tell_why() -> None:
    """On a busy machine the last attempt has no time left, and fails by that. The next export has reasons of its own."""
    failures = ExportFailures().watch()
    logger = logging.getLogger(TRACES)
    logger.warning("Transient error %s encountered while exporting span batch, retrying in %.2fs.", "refused", 1.0)
    logger.error("Failed to export span batch code: None, reason: Attempted to set connect timeout to 0.0")
    assert failures.found == {"traces": "connection refused: nothing listens there"}
    logger.error("Failed to export span batch code: None, reason: read timed out")
    assert failures.found == {"traces": "no answer in time"}
    failures.stop()


def test_run_says_what_was_not_taken(command: Command, tmp_path: Path) -> None:
    """An endpoint that answers 404 to metrics and takes traces; the program's own output and status are its own."""
    (tmp_path / "app.py").write_text(ONE_CALL)
    with collector(refuses="/v1/metrics") as (endpoint, received):
        done = command(
            "run",
            "--local",
            "--",
            sys.executable,
            "app.py",
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_BSP_SCHEDULE_DELAY="100",
        )
    assert done.returncode == 0
    assert received["/v1/metrics"] > 0
    (line,) = (line for line in done.stderr.splitlines() if "could not be exported" in line)
    assert line.strip() == "metrics could not be exported (HTTP 404); otel-ratelimit doctor looks closer"


def test_run_says_nothing_where_all_went_well(command: Command, tmp_path: Path) -> None:
    """No line."""
    (tmp_path / "app.py").write_text(ONE_CALL)
    with collector() as (endpoint, _):
        done = command("run", "--local", "--", sys.executable, "app.py", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert done.returncode == 0
    assert "exported" not in done.stderr


def test_demo_says_what_was_not_taken(
    closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody listens: a line for each signal, and not that it all arrived."""
    pytest.importorskip("rich")
    from otel_ratelimit._commands.demo import traffic
    from otel_ratelimit._commands.demo.command import demo

    monkeypatch.setattr(traffic, "CALLS", 4)
    monkeypatch.setattr(traffic, "TOKENS_IN_USE", traffic.TOKENS_PER_MINUTE)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    assert demo(tmp_path / "file.json") == 0
    out: Any = capsys.readouterr().out
    assert (
        len(re.findall(r"(?:traces|metrics) could not be exported \(connection refused: nothing listens there\)", out))
        == 2
    )
    assert "went to" not in out
