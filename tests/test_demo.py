"""The demo is the main job: run as a user runs it, and its figures held against each other."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from otel_ratelimit import __version__

COMMAND = [sys.executable, "-m", "otel_ratelimit"]


def environment(**extra: str) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    return {**clean, "COLUMNS": "160", "PYTHONWARNINGS": "default", **extra}


def figures(output: str, row: str) -> list[str]:
    (line,) = (line for line in output.splitlines() if line.startswith(f"│ {row}"))
    return [cell.strip() for cell in line.strip("│").split("│")[1:]]


def test_the_demo_and_the_file_that_it_leaves(tmp_path: Path) -> None:
    """Every call with the plugin is answered, many without it are not; server, traces and metric agree; the file is OTLP."""
    file = tmp_path / "demo.json"
    done = subprocess.run(
        [*COMMAND, "demo", "--file", str(file)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    plain, helped = figures(done.stdout, "calls answered")
    assert helped == "75 of 75"
    assert int(plain.split(" ")[0]) < 50
    refused_alone, refused = (int(cell) for cell in figures(done.stdout, "throttled responses"))
    assert 2 * refused < refused_alone
    counts = re.search(r"the server counted (\d+), the traces show (\d+), the metric says\s+(\d+)", done.stdout)
    assert counts is not None
    assert len(set(counts.groups())) == 1
    assert int(counts[1]) == int(figures(done.stdout, "throttled responses")[1])
    assert "with otel_ratelimit:" in done.stdout  # plain lines, since this is no terminal
    assert "\x1b" not in done.stdout
    spans = json.loads(file.read_text())["resourceSpans"][0]["scopeSpans"][0]["spans"]
    names = Counter(span["name"].split(" ")[0] for span in spans)
    assert names["throttle"] == int(counts[1])
    identifiers = {span["spanId"] for span in spans}
    assert all(re.fullmatch(r"[0-9a-f]{16}", identifier) for identifier in identifiers)
    assert all(re.fullmatch(r"[0-9a-f]{32}", span["traceId"]) for span in spans)
    assert all(span["parentSpanId"] in identifiers for span in spans if not span["name"].startswith("rate_limited"))
    linked = [link for span in spans for link in span.get("links", [])]
    assert linked
    assert all(link["spanId"] in identifiers for link in linked)


@pytest.mark.slow  # the whole demo once more
def test_with_an_endpoint_it_exports_there(tmp_path: Path) -> None:
    """Traces and metrics arrive over OTLP; no file is left."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    received: Counter[str] = Counter()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                import gzip

                raw = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                for resource in ExportTraceServiceRequest.FromString(raw).resource_spans:
                    for scope in resource.scope_spans:
                        received.update(span.name.split(" ")[0] for span in scope.spans)
            else:
                received[self.path] += 1
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    try:
        file = tmp_path / "demo.json"
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        done = subprocess.run(
            [*COMMAND, "demo", "--file", str(file)],
            env=environment(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert not file.exists()
    assert received["/v1/metrics"] >= 1
    assert received["throttle"] == int(figures(done.stdout, "throttled responses")[1])


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    """In the middle of the run: one word, status 130, no traceback, soon."""
    process = subprocess.Popen(
        [*COMMAND, "demo", "--file", str(tmp_path / "demo.json")],
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("with otel_ratelimit:   2"):
                break
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "the same calls, the same limit" not in output  # it did not run to its end first
    assert process.returncode == 130
    assert "stopped" in errors
    assert "Traceback" not in errors


def test_a_bare_command_prints_its_help_and_a_wrong_one_what_there_is() -> None:
    """Status 0 and 2."""
    bare = subprocess.run(COMMAND, capture_output=True, text=True, timeout=60, check=False)
    assert (bare.returncode, bare.stdout.startswith("usage: otel-ratelimit")) == (0, True)
    wrong = subprocess.run([*COMMAND, "dance"], capture_output=True, text=True, timeout=60, check=False)
    assert wrong.returncode == 2
    assert "'dance' is no command; there are demo, run, explain, report, doctor" in wrong.stderr


def test_version() -> None:
    """For bug reports."""
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == __version__
