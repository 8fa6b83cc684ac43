"""OTEL_RATELIMIT_*: read, checked, and named in every complaint."""

from __future__ import annotations

import logging

import pytest

from otel_ratelimit import ConfigurationError, Policy, policy_from_environment
from otel_ratelimit._settings import VARIABLES, lenient_policy_from_environment


def test_silence_gives_the_defaults() -> None:
    """An empty value counts as unset, as OpenTelemetry's specification has it."""
    assert policy_from_environment({}) == Policy()
    assert policy_from_environment(dict.fromkeys(VARIABLES, " ")) == Policy()


def test_every_variable_reaches_its_setting() -> None:
    """One of each, none at its default."""
    policy = policy_from_environment(
        {
            "OTEL_RATELIMIT_MODE": "Observe",
            "OTEL_RATELIMIT_MAX_WAIT": "12.5",
            "OTEL_RATELIMIT_BUFFER": "0.1",
            "OTEL_RATELIMIT_MAX_BACKOFF": "30",
            "OTEL_RATELIMIT_PACING": "off",
            "OTEL_RATELIMIT_PRIORITY": "batch",
            "OTEL_RATELIMIT_STORE": "memory://",
        }
    )
    assert policy == Policy(
        mode="observe", max_wait=12.5, buffer=0.1, max_backoff=30.0, pacing=False, priority="batch", store="memory://"
    )


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("OTEL_RATELIMIT_MODE", "loud", "wait, observe, off"),
        ("OTEL_RATELIMIT_MAX_WAIT", "ten", "a number of seconds"),
        ("OTEL_RATELIMIT_MAX_WAIT", "inf", "finite"),
        ("OTEL_RATELIMIT_PACING", "maybe", "true or false"),
        ("OTEL_RATELIMIT_STORE", "http://user:secret@host", "memory://"),
    ],
)
def test_a_bad_value_names_its_variable(variable: str, value: str, allowed: str) -> None:
    """What to change, and to what; no password in it."""
    with pytest.raises(ConfigurationError, match=allowed) as error:
        policy_from_environment({variable: value})
    assert variable in str(error.value)
    assert "secret" not in str(error.value)


def test_the_one_import_goes_on_with_the_default(caplog: pytest.LogCaptureFixture) -> None:
    """A typing error in one variable costs that variable only, and is an error in the log."""
    with caplog.at_level(logging.ERROR, logger="otel_ratelimit"):
        policy = lenient_policy_from_environment({"OTEL_RATELIMIT_MODE": "loud", "OTEL_RATELIMIT_BUFFER": "0.2"})
    assert policy == Policy(buffer=0.2)
    assert [record.getMessage() for record in caplog.records] == [
        "OTEL_RATELIMIT_MODE must be one of wait, observe, off; got 'loud'; the default is used"
    ]
