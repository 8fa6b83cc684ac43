"""The pytest fixture, in test runs of its own, where the installed package's entry point provides it."""

from __future__ import annotations

from importlib.metadata import entry_points

import openai
import pytest

pytest_plugins = ["pytester"]

TEST = """
import openai, pytest
from otel_ratelimit.testing import Limit, Reply

def call(server):
    with openai.OpenAI(base_url=server.base_url, api_key="test", max_retries=0) as client:
        return client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
"""


def run(pytester: pytest.Pytester, code: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(TEST + code)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-W", "error", "--strict-markers", *options)


def test_the_entry_point_names_the_plugin() -> None:
    """What makes it load by itself."""
    (entry,) = [entry for entry in entry_points(group="pytest11") if entry.name == "otel_ratelimit"]
    assert entry.value == "_otel_ratelimit_pytest"


def test_nothing_is_imported_until_it_is_used(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the test run of somebody who only has the package installed: not the package, nor what it needs."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # other packages' plugins import OpenTelemetry
    pytester.makepyfile(
        """
import sys

def test_before():
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert "_otel_ratelimit_pytest" in loaded
    assert not loaded & {"otel_ratelimit", "opentelemetry", "wrapt", "openai", "starlette", "uvicorn"}

def test_used(throttling_server):
    assert "otel_ratelimit" in sys.modules
"""
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "otel_ratelimit", timeout=60)
    result.assert_outcomes(passed=2)


def test_the_fixture_and_its_marker(pytester: pytest.Pytester) -> None:
    """Without a marker no limits; with one its arguments, by place or by name; the nearest one; a server for each test."""
    result = run(
        pytester,
        """
ports = set()

def test_plain(throttling_server):
    assert call(throttling_server).choices
    assert throttling_server.counts.requests == 1
    ports.add(throttling_server.base_url)

@pytest.mark.throttling_server(limits=[Limit("requests", 1)], script=[Reply(status=500)])
def test_by_name(throttling_server):
    with pytest.raises(openai.InternalServerError):
        call(throttling_server)
    assert call(throttling_server).choices
    with pytest.raises(openai.RateLimitError):
        call(throttling_server)

@pytest.mark.throttling_server([Limit("requests", 1, used=1)])
class TestByPlace:
    def test_of_the_class(self, throttling_server):
        with pytest.raises(openai.RateLimitError):
            call(throttling_server)

    @pytest.mark.throttling_server(limits=[])
    def test_of_the_test(self, throttling_server):
        assert call(throttling_server).choices
        assert throttling_server.counts.requests == 1
""",
    )
    result.assert_outcomes(passed=4)


def test_a_wrong_argument_is_an_error_of_the_test(pytester: pytest.Pytester) -> None:
    """It names the argument."""
    result = run(
        pytester,
        "@pytest.mark.throttling_server(limit=3)\ndef test_it(throttling_server):\n    call(throttling_server)\n",
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*unexpected keyword argument 'limit'*"])


def test_the_marker_is_documented(pytester: pytest.Pytester) -> None:
    """``pytest --markers`` and ``--fixtures`` tell of both."""
    result = run(pytester, "", "--markers", "--fixtures")
    result.stdout.fnmatch_lines(["*@pytest.mark.throttling_server(*arguments of ThrottlingServer*"])


def test_switched_off(pytester: pytest.Pytester) -> None:
    """``-p no:otel_ratelimit`` removes it like any plugin."""
    result = run(pytester, "def test_it(throttling_server):\n    pass\n", "-p", "no:otel_ratelimit")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'throttling_server' not found*"])


def test_without_the_extra_only_the_fixture_fails(pytester: pytest.Pytester) -> None:
    """Every other test of the run is left alone; the error says what to install."""
    pytester.makeconftest("import sys\nsys.modules['uvicorn'] = None\n")
    pytester.makepyfile("def test_with(throttling_server):\n    pass\n\ndef test_without():\n    pass\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=60)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*otel_ratelimit.testing needs uvicorn*: pip install 'otel-ratelimit[[]testing]'*"])


FOR_EVER = """
import time
import httpx2_or_httpx as httpx
import otel_ratelimit.auto

def refused(seconds, **options):
    \"\"\"A client whose transport answers 429 for ever, as mocks do.\"\"\"
    answer = lambda request: httpx.Response(429, headers={"retry-after-ms": "100"}, json={"error": {"message": "slow down"}})
    http_client = openai.DefaultHttpxClient(transport=httpx.MockTransport(answer))
    began = time.monotonic()
    with openai.OpenAI(api_key="test", http_client=http_client, **options) as client:
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    assert time.monotonic() - began < seconds
"""


def capped(pytester: pytest.Pytester, code: str, *options: str) -> pytest.RunResult:
    """In a process of its own: it instruments by ``auto``, as programs do."""
    name = type(openai.OpenAI(api_key="test").base_url).__module__.partition(".")[
        0
    ]  # httpx2, or httpx with openai before 3.0
    pytester.makepyfile(TEST + FOR_EVER.replace("httpx2_or_httpx", name) + code)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers", *options, timeout=100)


@pytest.mark.parametrize("way", ["option", "ini", "marker"])
def test_a_mock_that_refuses_for_ever(pytester: pytest.Pytester, way: str) -> None:
    """Ends after the seconds that the option, the ini file or a marker says; not after the budget of minutes."""
    options = ["--otel-ratelimit-max-wait=0.3"] if way == "option" else []
    if way == "ini":
        pytester.makeini("[pytest]\notel_ratelimit_max_wait = 0.3\n")
    mark = "@pytest.mark.otel_ratelimit_max_wait(0.3)" if way == "marker" else ""
    result = capped(pytester, f"{mark}\ndef test_it():\n    refused(20)\n", *options)
    result.assert_outcomes(passed=1)


def test_the_nearest_marker_holds_and_is_gone_after_its_test(pytester: pytest.Pytester) -> None:
    """What is instrumented before is capped too, and is what it was afterwards."""
    result = capped(
        pytester,
        """
import os
from otel_ratelimit import RateLimitInstrumentor

def cap():
    return RateLimitInstrumentor()._hooks.runtime.policy.max_wait, os.environ.get("OTEL_RATELIMIT_MAX_WAIT")

def test_before():
    assert cap() == (9.0, "9")

@pytest.mark.otel_ratelimit_max_wait(0.2)
def test_it():
    assert cap() == (0.2, "0.2")

def test_after():
    assert cap() == (9.0, "9")
""",
        "--otel-ratelimit-max-wait=9",
    )
    result.assert_outcomes(passed=3)


@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_a_cap_that_is_none(pytester: pytest.Pytester, value: str) -> None:
    """Said at the start, with the name of the setting."""
    result = run(pytester, "def test_it():\n    pass\n", f"--otel-ratelimit-max-wait={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("alone", [False, True])
def test_by_the_name_of_its_module(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, alone: bool) -> None:
    """``-p otel_ratelimit.testing.pytest_plugin``: beside the entry point, and where entry points are not loaded."""
    if alone:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        """
import os
import pytest

def test_of_the_run(throttling_server):
    assert os.environ["OTEL_RATELIMIT_MAX_WAIT"] == "9"

@pytest.mark.otel_ratelimit_max_wait(5)
def test_of_one():
    assert os.environ["OTEL_RATELIMIT_MAX_WAIT"] == "5"
"""
    )
    options = ("-p", "otel_ratelimit.testing.pytest_plugin", "--strict-markers", "--otel-ratelimit-max-wait=9")
    pytester.runpytest_subprocess("-p", "no:cacheprovider", *options, timeout=60).assert_outcomes(passed=2)
