"""The pytest fixture, in test runs of its own, where the installed package's entry point provides it."""

from __future__ import annotations

from importlib.metadata import entry_points

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


def test_nothing_is_imported_until_it_is_used(pytester: pytest.Pytester) -> None:
    """In the test run of somebody who only has the package installed: not the package, nor what it needs."""
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
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:logfire", timeout=60)
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
