"""``import otel_ratelimit.auto`` and the entry point, each in a process of its own, since they touch globals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_ratelimit.testing import ThrottlingServer, throttle_reply

CALL = """
import openai, os
client = openai.OpenAI(base_url=os.environ["TEST_BASE_URL"], api_key="test")
print(client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}]).object)
"""

PROVIDERS = """
from opentelemetry import trace, metrics
print("traces", type(trace.get_tracer_provider()).__name__, "metrics", type(metrics.get_meter_provider()).__name__)
"""


@pytest.fixture
def server() -> Iterator[ThrottlingServer]:
    with ThrottlingServer(script=[throttle_reply(delay=0.1)]) as server:
        yield server


def run(server: ThrottlingServer, code: str, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter with a clean environment and the server's address."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        [*(command or (sys.executable,)), "-c", code],
        env={**clean, "TEST_BASE_URL": server.base_url, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "chat.completion" in done.stdout or "call" not in code
    return done


def test_nothing_asked_for_nothing_set_up(server: ThrottlingServer) -> None:
    """The call is retried; the program's OpenTelemetry stays as unset as it was."""
    done = run(server, "import otel_ratelimit.auto" + CALL + PROVIDERS)
    assert "traces ProxyTracerProvider metrics _ProxyMeterProvider" in done.stdout
    assert server.counts.throttled == 1
    assert server.counts.succeeded == 1


def test_only_traces_asked_for(server: ThrottlingServer) -> None:
    """One variable sets up one signal; the spans of the very first call are exported."""
    done = run(server, "import otel_ratelimit.auto" + CALL + PROVIDERS, OTEL_TRACES_EXPORTER="console")
    assert "traces TracerProvider metrics _ProxyMeterProvider" in done.stdout
    for name in ("rate_limited chat gpt-4o", "throttle gpt-4o", "wait gpt-4o", "retry gpt-4o"):
        assert f'"name": "{name}"' in done.stdout


def test_only_metrics_asked_for(server: ThrottlingServer) -> None:
    """The other way round."""
    done = run(server, "import otel_ratelimit.auto" + CALL + PROVIDERS, OTEL_METRICS_EXPORTER="console")
    assert "traces ProxyTracerProvider metrics MeterProvider" in done.stdout
    assert "otel_ratelimit.throttles" in done.stdout


def test_nothing_is_set_up_before_the_first_call(server: ThrottlingServer) -> None:
    """The import alone leaves the globals alone, so that a program can still set its own."""
    done = run(server, "import otel_ratelimit.auto" + PROVIDERS + CALL, OTEL_TRACES_EXPORTER="console")
    assert "traces ProxyTracerProvider" in done.stdout


def test_the_programs_own_provider_wins(server: ThrottlingServer) -> None:
    """Set after the import and before the first call, it gets the spans, and nothing else is set up beside it."""
    code = """
import otel_ratelimit.auto
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
mine = TracerProvider()
mine.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(mine)
"""
    after = "print('mine', trace.get_tracer_provider() is mine, len(exporter.get_finished_spans()))"
    done = run(server, code + CALL + after, OTEL_TRACES_EXPORTER="console")
    assert "mine True 4" in done.stdout
    assert '"name"' not in done.stdout  # the console exporter of the environment was not set up


EARLY = """
import otel_ratelimit.auto
from opentelemetry import trace
tracer = trace.get_tracer("app")
job = tracer.start_as_current_span("job")
job.__enter__()
"""
LATE = """
job.__exit__(None, None, None)
"""


def spans_of(output: str) -> dict[str, dict[str, object]]:
    """What the console exporter has printed, by name."""
    decoder, found, at = json.JSONDecoder(), {}, output.find("{\n")
    while at >= 0:
        span, end = decoder.raw_decode(output, at)
        found[span["name"]] = span
        at = output.find("{\n", end)
    return found


def test_a_span_that_was_opened_before_the_first_call(server: ThrottlingServer) -> None:
    """It is exported, and the call's span is in it: one trace. The provider that it went to is the global one then."""
    done = run(server, EARLY + CALL + LATE + PROVIDERS, OTEL_TRACES_EXPORTER="console")
    spans = spans_of(done.stdout)
    assert spans["rate_limited chat gpt-4o"]["parent_id"] == spans["job"]["context"]["span_id"]  # type: ignore[index]
    assert "traces TracerProvider" in done.stdout


def test_early_spans_take_over_nobodys_set_up(server: ThrottlingServer) -> None:
    """A provider that the program sets after such a span has all that follow, and is not refused."""
    code = """
tracer.start_span("early").end()
from opentelemetry.sdk.trace import TracerProvider
mine = TracerProvider()
trace.set_tracer_provider(mine)
assert trace.get_tracer_provider() is mine
job.__exit__(None, None, None)
late = tracer.start_span("late")
assert late.is_recording() and late.resource is mine.resource
late.end()
"""
    done = run(server, EARLY + code + CALL, OTEL_TRACES_EXPORTER="console")
    assert set(spans_of(done.stdout)) == {"early", "job"}
    assert "not allowed" not in done.stderr


def test_no_early_spans_where_nobody_asks(server: ThrottlingServer) -> None:
    """Without a variable, with one that says no, after ``uninstrument``, and where the exporter is missing."""
    ask = "print('recording', trace.get_current_span().is_recording())\n"
    for environment in ({}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "console"},
                        {"OTEL_TRACES_EXPORTER": "console", "OTEL_RATELIMIT_MODE": "off"},
                        {"OTEL_TRACES_EXPORTER": "carrier_pigeon"}):  # fmt: skip
        assert "recording False" in run(server, EARLY + ask, **environment).stdout, environment
    gone = EARLY.replace(
        "from opentelemetry import trace", "otel_ratelimit.uninstrument()\nfrom opentelemetry import trace"
    )
    assert "recording False" in run(server, gone + ask, OTEL_TRACES_EXPORTER="console").stdout


def test_the_sdk_disabled(server: ThrottlingServer) -> None:
    """``OTEL_SDK_DISABLED=true`` is the last word on telemetry, and none on waiting."""
    done = run(
        server,
        "import otel_ratelimit.auto" + CALL + PROVIDERS,
        OTEL_SDK_DISABLED="true",
        OTEL_TRACES_EXPORTER="console",
        OTEL_METRICS_EXPORTER="console",
    )
    assert "traces ProxyTracerProvider metrics _ProxyMeterProvider" in done.stdout
    assert server.counts.succeeded == 1


def test_an_exporter_that_is_not_installed_is_named(server: ThrottlingServer) -> None:
    """The log says what is missing; the call goes on."""
    done = run(server, "import otel_ratelimit.auto" + CALL, OTEL_TRACES_EXPORTER="carrier_pigeon")
    assert "the traces exporter carrier_pigeon is not installed" in done.stderr
    assert server.counts.succeeded == 1


def test_a_configuration_file_without_its_package_is_named(server: ThrottlingServer, tmp_path: Path) -> None:
    """``OTEL_CONFIG_FILE`` needs a package of its own; silence would look like a lost trace."""
    file = tmp_path / "otel.yaml"
    file.write_text("file_format: '1.0'\n")
    done = run(server, "import otel_ratelimit.auto" + CALL, OTEL_CONFIG_FILE=str(file))
    assert "opentelemetry-configuration" in done.stderr
    assert server.counts.succeeded == 1


def test_a_bad_setting_is_named_and_the_call_is_unharmed(server: ThrottlingServer) -> None:
    """Bad settings: an error in the log, the default in their place, the call as ever."""
    done = run(server, "import otel_ratelimit.auto" + CALL, OTEL_RATELIMIT_MAX_WAIT="soon", OTEL_RATELIMIT_MODE="?")
    assert "OTEL_RATELIMIT_MAX_WAIT must be a number of seconds" in done.stderr
    assert "OTEL_RATELIMIT_MODE must be one of wait, observe, off" in done.stderr
    assert server.counts.succeeded == 1


def test_mode_off_does_nothing_at_all(server: ThrottlingServer) -> None:
    """The SDK's own retry, no span."""
    done = run(server, "import otel_ratelimit.auto" + CALL, OTEL_RATELIMIT_MODE="off", OTEL_TRACES_EXPORTER="console")
    assert '"name"' not in done.stdout
    assert server.counts.succeeded == 1


def test_under_opentelemetry_instrument(server: ThrottlingServer, tmp_path: Path) -> None:
    """The entry point alone, with no import in the program; the import on top of it changes nothing."""
    program = tmp_path / "program.py"
    program.write_text(CALL + "\nimport otel_ratelimit.auto\n")
    instrument = Path(sys.executable).with_name("opentelemetry-instrument")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        [str(instrument), sys.executable, str(program)],
        env={
            **clean,
            "TEST_BASE_URL": server.base_url,
            "OTEL_TRACES_EXPORTER": "console",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"name": "rate_limited chat gpt-4o"' in done.stdout
    assert "already instrumented" not in done.stderr
    assert (server.counts.throttled, server.counts.succeeded) == (1, 1)


@pytest.mark.parametrize(
    ("block", "silent"),
    [
        ("otel_ratelimit.use(otel_ratelimit.Policy())", False),
        ("otel_ratelimit.priority('batch')", False),
        ("otel_ratelimit.priority('batch')", True),
    ],
)
def test_a_block_without_hooks_is_one_warning(server: ThrottlingServer, block: str, silent: bool) -> None:
    """Where a linter took the import away, what is left of the package says so, once."""
    first = "import otel_ratelimit.auto" if silent else "import otel_ratelimit"
    code = f"{first}\nfor _ in range(3):\n    with {block}:\n        pass\n{CALL}"
    done = run(server, code)
    assert done.stderr.count("openai is not instrumented in this process") == (0 if silent else 1)


def test_a_mistyped_variable_is_heard(server: ThrottlingServer) -> None:
    """By a program that has set up no logging at all; once."""
    done = run(server, "import otel_ratelimit.auto" + CALL, OTEL_RATELIMT_MODE="observe")
    assert done.stderr.count("did you mean OTEL_RATELIMIT_MODE?") == 1
