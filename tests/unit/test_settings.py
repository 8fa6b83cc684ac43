"""OTEL_RATELIMIT_*: read, checked, and named in every complaint."""

from __future__ import annotations

import logging

import pytest

from otel_ratelimit import ConfigurationError, Policy, policy_from_environment
from otel_ratelimit._commands.doctor.environment import known_variables
from otel_ratelimit._settings import VARIABLES, lenient_policy_from_environment, mistyped


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


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5.0), ("5s", 5.0), ("0.5 s", 0.5), ("500ms", 0.5), ("2m", 120.0), ("2min", 120.0), ("1.5h", 5400.0)],
)
def test_durations_as_people_write_them(text: str, seconds: float) -> None:
    """Seconds where no unit stands behind the number."""
    assert policy_from_environment({"OTEL_RATELIMIT_MAX_WAIT": text}).max_wait == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["5d", "s", "1.2.3s", "-5s", "5 s s", "ms5", "0x10s"])
def test_durations_that_nobody_could_mean(text: str) -> None:
    """Refused, naming the units."""
    with pytest.raises(ConfigurationError, match=r"OTEL_RATELIMIT_MAX_WAIT .*500ms"):
        policy_from_environment({"OTEL_RATELIMIT_MAX_WAIT": text})


def test_the_one_import_goes_on_with_the_default(caplog: pytest.LogCaptureFixture) -> None:
    """A typing error in one variable costs that variable only, and is an error in the log."""
    with caplog.at_level(logging.ERROR, logger="otel_ratelimit"):
        policy = lenient_policy_from_environment({"OTEL_RATELIMIT_PACING": "loud", "OTEL_RATELIMIT_BUFFER": "0.2"})
    assert policy == Policy(buffer=0.2)
    assert [record.getMessage() for record in caplog.records] == [
        "OTEL_RATELIMIT_PACING must be true or false; got 'loud'; the default is used"
    ]


def test_a_mode_that_cannot_be_read_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever sets it wanted something else than the default: calls are observed, and none waits."""
    with caplog.at_level(logging.ERROR, logger="otel_ratelimit"):
        policy = lenient_policy_from_environment({"OTEL_RATELIMIT_MODE": "obsrve", "OTEL_RATELIMIT_BUFFER": "0.2"})
    assert policy == Policy(mode="observe", buffer=0.2)
    assert [record.getMessage() for record in caplog.records] == [
        "OTEL_RATELIMIT_MODE must be one of wait, observe, off; got 'obsrve'; observe is used, and nothing waits"
    ]


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("OTEL_RATELIMIT_MAXWAIT", "OTEL_RATELIMIT_MAX_WAIT"),
        ("OTEL_RATELIMT_MODE", "OTEL_RATELIMIT_MODE"),
        ("OTEL_RATE_LIMIT_MODE", "OTEL_RATELIMIT_MODE"),
        ("OTEL_RATELIMITS_PACING", "OTEL_RATELIMIT_PACING"),
        ("OTEL_RATELIMIT_MAX_WAITS", "OTEL_RATELIMIT_MAX_WAIT"),
        ("OTEL_RATLIMIT_STORE", "OTEL_RATELIMIT_STORE"),
        ("otel_ratelimit_mode", "OTEL_RATELIMIT_MODE"),
    ],
)
def test_a_mistyped_variable_is_one_warning(variable: str, meant: str, caplog: pytest.LogCaptureFixture) -> None:
    """With the name that was meant, and without the value, which may be a password."""
    with caplog.at_level(logging.WARNING, logger="otel_ratelimit"):
        assert lenient_policy_from_environment({variable: "redis://:secret@host"}) == Policy()
    assert [record.getMessage() for record in caplog.records] == [
        f"{variable} is no setting of otel_ratelimit and has no effect; did you mean {meant}?"
    ]


def test_a_variable_that_resembles_none_is_told_what_there_is() -> None:
    """The prefix is right, the rest a guess."""
    assert dict(mistyped({"OTEL_RATELIMIT_ZZZ": "1"})) == {"OTEL_RATELIMIT_ZZZ": f"there are {', '.join(VARIABLES)}"}


def test_other_peoples_variables_are_left_alone() -> None:
    """OpenTelemetry's own, what ``run`` tells its children, and what only shares a word with us."""
    others = [
        *known_variables(),
        *VARIABLES,
        "OTEL_RATELIMIT_RUN_DIRECTORY",
        "RATE_LIMIT_MODE",
        "OTELCOL_LIMIT",
        "OTEL",
    ]
    assert list(mistyped(dict.fromkeys(others, "1"))) == []
