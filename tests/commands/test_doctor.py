"""``doctor``: what it finds is there, what it says is true, what it must not show it does not show."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SpanExporter

from otel_ratelimit import __version__
from otel_ratelimit._commands.doctor import (
    checkup,
    environment,
    exporter,
    hooks,
    program,
    pytest_settings,
    store,
    versions,
)
from otel_ratelimit._commands.doctor.check import Check, without_secret
from tests.commands.conftest import Command

AROUND = (
    "opentelemetry.instrumentation.genai.openai",
    "opentelemetry.instrumentation.openai",
    "openinference.instrumentation.openai",
)
HTTP = "opentelemetry.instrumentation.httpx"


@contextlib.contextmanager
def collector(refuses: str = "-") -> Iterator[tuple[str, Counter[str]]]:
    """Something that takes OTLP over HTTP, except what is posted to a path that begins with ``refuses``."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    received: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received[self.path] += 1
            if self.path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    received.update(span.name for scope in resource.scope_spans for span in scope.spans)
            self.send_response(404 if self.path.startswith(refuses) else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def found(output: str, area: str) -> list[dict[str, str]]:
    return [check for check in json.loads(output)["checks"] if check["area"] == area]


def test_a_healthy_environment(command: Command) -> None:
    """Status 0; versions, hooks and neighbours named; a GenAI instrumentation stands outside of ours, an HTTP one inside."""
    done = command("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"otel-ratelimit {__version__}" in done.stdout
    assert "the hooks are in place, and outermost" in done.stdout
    assert "nothing to complain of" in done.stdout
    assert done.stderr == ""
    (way,) = (line for line in done.stdout.splitlines() if "a call goes through: " in line)
    wrappers = [part.split(" (")[0] for part in way.partition("through: ")[2].split(" > ")]
    there = [
        name
        for name in (*AROUND, HTTP)
        if importlib.util.find_spec(name.partition(".")[0])
        and importlib.util.find_spec(name.rpartition(".")[0])
        and importlib.util.find_spec(name)
    ]
    met = [next((name for name in (*AROUND, HTTP) if wrapper.startswith(name)), wrapper) for wrapper in wrappers]
    ours = met.index("otel_ratelimit")
    assert sorted(met[:ours]) == sorted(name for name in AROUND if name in there)
    assert met[ours + 1 :] == [name for name in there if name == HTTP]


def test_a_test_span_goes_through_the_exporter(command: Command) -> None:
    """It arrives, under its name, and so does a batch without metrics."""
    with collector() as (endpoint, received):
        done = command("doctor", "--json", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_SERVICE_NAME="shop")
    assert done.returncode == 0, done.stdout
    assert received == {"/v1/traces": 1, "otel-ratelimit doctor": 1, "/v1/metrics": 1}
    assert [check["status"] for check in found(done.stdout, "export")] == ["ok", "ok"]


def test_an_endpoint_that_takes_only_traces(command: Command) -> None:
    """Jaeger, say: the traces are fine, the metrics are named as what is broken, and what to do."""
    with collector(refuses="/v1/metrics") as (endpoint, _):
        done = command("doctor", "--json", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert done.returncode == 1
    traces, metrics = found(done.stdout, "export")
    assert (traces["status"], metrics["status"]) == ("ok", "failure")
    assert "OTEL_METRICS_EXPORTER=none" in metrics["advice"]


def test_nobody_listens(command: Command) -> None:
    """Exporter and Redis: named with their addresses, without the passwords in them; soon, and with status 1."""
    pytest.importorskip("redis")
    done = command(
        "doctor",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://user:secret@127.0.0.1:9",
        OTEL_RATELIMIT_STORE="redis://:secret@127.0.0.1:9/0",
        OPENAI_API_KEY="sk-secret",
    )
    assert done.returncode == 1
    assert "nothing listens there" in done.stdout
    assert "http://***@127.0.0.1:9" in done.stdout
    assert "redis://***@127.0.0.1:9 does not answer" in done.stdout
    assert "secret" not in done.stdout + done.stderr


def test_a_redis_that_is_there() -> None:
    """A real one; our own part of the URL does not reach the client."""
    pytest.importorskip("redis")
    from tests.helpers import redis_server

    if redis_server.PROGRAM is None:
        pytest.skip(redis_server.MISSING)
    with redis_server.RedisServer() as server:
        (found,) = store.check({"OTEL_RATELIMIT_STORE": f"{server.url}?prefix=shop"})
    assert found.status == "ok", found
    assert "answers after" in found.text


def test_stores_that_are_not_asked() -> None:
    """This process's own memory."""
    assert [check.status for check in store.check({})] == ["ok"]


def findings(**variables: str) -> list[Check]:
    return list(environment.check(variables))


@pytest.mark.parametrize(
    ("variables", "status", "text", "advice"),
    [
        ({"OTEL_RATELIMIT_MAX_WIAT": "3"}, "failure", "no setting", "OTEL_RATELIMIT_MAX_WAIT"),
        ({"OTEL_RATELIMIT_BUFFER": "fast"}, "failure", "OTEL_RATELIMIT_BUFFER must be", "default"),
        ({"OTEL_RATELIMIT_MODE": "off"}, "warning", "nothing waits", ""),
        ({"OTEL_EXPORTER_OTLP_ENDPONT": "http://x"}, "warning", "not known", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "failure", "has no scheme", "http://"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/v1/traces"}, "failure", "the path is appended", "leave out"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318"}, "failure", "used as it is", "/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:port"}, "failure", "the port is no number", ""),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http"}, "failure", "is no protocol", "http/protobuf"),
        ({"OTEL_SDK_DISABLED": "TRUE"}, "warning", "no span", ""),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "warning", "no trace is kept", ""),
        ({"OTEL_TRACES_EXPORTER": "none"}, "note", "no traces", ""),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "warning", "the service has no name", "OTEL_SERVICE_NAME"),
        ({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "a,openai_ratelimit"}, "warning", "keeps opentelemetry-instrument", ""),
    ],
)  # fmt: skip
def test_mistakes_are_named(variables: dict[str, str], status: str, text: str, advice: str) -> None:
    """One row for each mistake: how bad, what it is, what helps."""
    (check,) = (check for check in findings(**variables) if text in check.text)
    assert check.status == status
    assert advice in check.advice


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_RATELIMIT_MAX_WAIT": "30", "OTEL_RATELIMIT_MODE": "observe"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/", "OTEL_SERVICE_NAME": "shop"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317/", "OTEL_SERVICE_NAME": "shop"},  # a port proves nothing
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://otel.example.com/prefix",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=shop",
        },
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_SERVICE_NAME": "shop",
        },
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces", "OTEL_SERVICE_NAME": "shop"},
        {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_METRIC_EXPORT_INTERVAL": "1000", "OTEL_PYTHON_LOG_LEVEL": "info"},
    ],
)
def test_what_is_right_is_not_complained_of(variables: dict[str, str]) -> None:
    """No false alarm."""
    assert [check for check in findings(**variables) if check.status in ("warning", "failure")] == []


def test_an_unsupported_version_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too old, absent, and half an upgrade of OpenTelemetry, each with the command that mends it."""
    real = versions._installed
    pretended = {"openai": "1.50.0", "wrapt": None, "opentelemetry-api": "1.30.0"}
    monkeypatch.setattr(versions, "_installed", lambda name: pretended.get(name, real(name)))
    failures = [check for check in versions.check() if check.status == "failure"]
    said = [(check.text, check.advice) for check in failures]
    assert any(text == "openai 1.50.0 is not supported" and "pip install 'openai" in advice for text, advice in said)
    assert any(text == "wrapt is not installed" for text, _ in said)
    assert any(text.startswith("opentelemetry-sdk ") and "but 1.30.0 is installed" in text for text, _ in said)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:pass@host:6379/0?ssl_password=x", "redis://***@host:6379"),
        ("rediss+sentinel://user:pass@a:1,b:2/service", "rediss+sentinel://***@a:1,b:2"),
        ("http://host:4318", "http://host:4318"),
        ("https://[::1]:4318/path", "https://[::1]:4318"),
        ("memory://", "memory://"),
        ("http://[::1", "(set)"),
        ("redis://user:pa/ss@host", "(set)"),
        ("redis://:pa#ss@host", "(set)"),
        ("redis://:pa?ss@host", "(set)"),
        ("user:pass@host:6379", "(set)"),
        ("redis://user%3Apass%40host", "(set)"),
        ("password://host", "(set)"),
        ("redis://user:pass@host:port", "(set)"),
        ("unix://user:pass@/socket", "(set)"),
        ("", "(set)"),
    ],
)
def test_urls_are_shown_without_their_secrets(url: str, shown: str) -> None:
    """Scheme, hosts and ports, or nothing of them."""
    assert without_secret(url) == shown


@pytest.mark.parametrize(
    ("source", "status", "said"),
    [
        ("import openai, otel_ratelimit\n", "failure", "nothing in {path} instruments"),
        ("from otel_ratelimit import Policy, use\n", "failure", "nothing in {path} instruments"),
        ("import openai\n", "warning", "nothing in {path} instruments"),
        ("import openai\nimport otel_ratelimit.auto\n", "warning", "app.py:2 imports otel_ratelimit.auto, and linters"),
        ("import otel_ratelimit.auto  # noqa: F401 - why\n", "ok", "app.py:1 imports otel_ratelimit.auto"),
        ("import otel_ratelimit.auto  # noqa\n", "ok", "app.py:1"),
        ("import otel_ratelimit.auto  # noqa: E402\n", "warning", "linters delete"),
        ("import otel_ratelimit.auto\nwith otel_ratelimit.priority('batch'): pass\n", "ok", "app.py:1"),
        ("import otel_ratelimit\n\notel_ratelimit.instrument()\n", "ok", "app.py:3 calls instrument()"),
        ("from otel_ratelimit import instrument as on\non()\n", "ok", "app.py:2"),
        ("from otel_ratelimit import RateLimitInstrumentor as R\nR().instrument()\n", "ok", "app.py:2"),
        ("from somewhere import instrument\nimport openai\ninstrument()\n", "warning", "nothing in"),
        ("print(1)\n", "note", "nothing in {path} imports openai"),
        ("print 1\n", "note", "cannot be read"),
    ],
)
def test_a_program_that_never_instruments(source: str, status: str, said: str, tmp_path: Path) -> None:
    """Read from its source: the import that a linter deletes or has deleted, and every form that installs the hooks."""
    app = tmp_path / "app.py"
    app.write_text(source)
    for path in (app, tmp_path):
        first, *_ = program.check(path)
        assert (first.status, said.format(path=path) in first.text) == (status, True), first


def test_a_folder_is_one_program(tmp_path: Path) -> None:
    """One module instruments for all; a virtual environment in it is somebody else's."""
    (tmp_path / "main.py").write_text("import otel_ratelimit.auto  # noqa: F401\n")
    (tmp_path / "calls.py").write_text("import openai, otel_ratelimit\n")
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "env" / "theirs.py").write_text("import otel_ratelimit.auto\n")
    assert [check.status for check in program.check(tmp_path)] == ["ok"]
    assert [check.status for check in program.check(tmp_path / "nosuch")] == ["failure"]


def test_the_doctor_is_shown_a_program(command: Command, tmp_path: Path) -> None:
    """First of all findings, and status 1 where it never instruments."""
    (tmp_path / "app.py").write_text("import openai, otel_ratelimit\n")
    done = command("doctor", "app.py")
    assert done.returncode == 1
    assert done.stdout.startswith("program\n  FAIL app.py:1 imports otel_ratelimit, but nothing in app.py instruments")


MARK = "zxq9"
"""In every secret below. No name of an exporter has a digit, so it can be told from one."""

HOLDERS = (
    "OTEL_RATELIMIT_STORE", "OTEL_RATELIMIT_MODE", "OTEL_RATELIMIT_MAX_WAIT", "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_TRACES_EXPORTER", "OPENAI_BASE_URL",
    "OPENAI_API_KEY",
)  # fmt: skip


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("scheme", ["http", "redis"])
@pytest.mark.parametrize(
    "rest",
    [
        f"user:{MARK}@127.0.0.1:1/0", f"user:{MARK}/ss@127.0.0.1:1", f":{MARK}#x@127.0.0.1:1", f"user:{MARK}?a@127.0.0.1:1",
        f"127.0.0.1:1/0?password={MARK}", f"{MARK}%40127.0.0.1:1", f"u:p@127.0.0.1:1/{MARK}", f"user:{MARK}@127.0.0.1:port",
        f"user:{MARK}@[::1", f"user:1/{MARK}@h", None,
    ],
)  # fmt: skip
def test_no_secret_from_urls_that_do_not_parse(
    holder: str, scheme: str, rest: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a URL with a password (or the password alone) was put by mistake, no finding quotes it."""
    value = MARK if rest is None else f"{scheme}://{rest}"
    for name in HOLDERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(holder, value)
    for area in (environment, store, exporter):
        for check in area.check(os.environ):
            assert MARK not in check.text + check.advice


def test_what_an_exporter_says_of_its_failure_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of exceptions quote URLs and headers; the type is enough, with the hint where a word is known."""

    class Broken(SpanExporter):
        def __init__(self) -> None:
            raise RuntimeError(f"cannot use https://user:{MARK}@host (401)")

    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "broken")
    monkeypatch.setattr("opentelemetry.sdk._configuration._import_exporters", lambda *_: ({"broken": Broken}, {}, {}))
    (check,) = exporter.check(os.environ)
    assert check.status == "failure"
    assert "OTEL_EXPORTER_OTLP_HEADERS" in check.advice
    assert MARK not in check.text + check.advice


def test_a_check_that_fails_tells_its_type_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the text, which may quote what it failed at."""

    def broken(_environment: object) -> list[Check]:
        raise ValueError(f"invalid literal: {MARK}")

    monkeypatch.setattr(environment, "check", broken)
    for area in (versions, hooks, exporter, store):
        monkeypatch.setattr(area, "check", lambda *_: [])
    (found,) = (check for check in checkup.checkup() if check.text.startswith("the check itself failed"))
    assert found.text == "the check itself failed: ValueError"


@pytest.mark.parametrize(
    ("files", "variables", "status"),
    [
        ({}, {}, None),
        ({"pyproject.toml": "[project]\nname = 'x'\n"}, {}, None),
        ({"pyproject.toml": "[tool.pytest.ini_options]\n"}, {}, "note"),
        ({"setup.cfg": "[tool:pytest]\n", "pyproject.toml": "[project]\n"}, {}, "note"),
        ({"pytest.ini": "[pytest]\notel_ratelimit_max_wait = 1\n"}, {}, "ok"),
        ({"tox.ini": "[pytest]\naddopts = --otel-ratelimit-max-wait=1\n"}, {}, "ok"),
        ({"pytest.ini": "[pytest]\n"}, {"OTEL_RATELIMIT_MAX_WAIT": "1"}, "ok"),
    ],
    ids=str,
)
def test_whether_pytest_settings_are_capped(
    tmp_path: Path, files: dict[str, str], variables: dict[str, str], status: str | None
) -> None:
    """By the project's own settings or the environment; a directory without pytest's settings has no such finding."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = list(pytest_settings.check(variables, tmp_path))
    assert [check.status for check in found] == ([] if status is None else [status])
    assert all(check.advice for check in found if check.status == "note")


@pytest.mark.parametrize("locked", [True, False])
def test_a_free_threaded_python_is_noted(locked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no global interpreter lock, and only there."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: locked, raising=False)
    assert any("global interpreter lock" in one.text for one in versions.check()) is not locked
